"""Kernels of tokamax with their implementations in XLA, which run on any machine."""

# pyright: reportMissingImports=false

import jax
import jax.numpy as jnp
import tokamax

from .target import Target, at, bf16, f32, integers, normal

XLA = {"implementation": "xla"}


def heads(dtype, seed: int = 1) -> tuple:
    return tuple(normal(seed + i, 1, 4, 2, 4, dtype=dtype) for i in range(3))


def attend(**more):
    return lambda q, k, v: tokamax.dot_product_attention(q, k, v, implementation="xla", **more)


def chunked(**more):
    return lambda q, k, v: tokamax.dot_product_attention(q, k, v, implementation="xla_chunked", **more)


def matrices(dtype) -> tuple:
    return normal(10, 5, 4, dtype=dtype), normal(11, 4, 2, 3, dtype=dtype)


def triangle(x, w, g, o, og, s, b, so, bo):
    mask = jnp.ones(x.shape[:2], bool)
    return tokamax.triangle_multiplication(x, mask, w, g, o, og, s, b, so, bo, "incoming", **XLA)


def triangle_args() -> tuple:
    c, h, d = 3, 2, 2
    return (
        normal(20, 3, 3, c),
        normal(21, c, 2, h),
        normal(22, c, 2, h),
        normal(23, h, d),
        normal(24, c, d),
        1 + normal(25, c, scale=0.2),
        normal(26, c),
        1 + normal(27, h, scale=0.2),
        normal(28, h),
    )


def loss(reduction: str):
    return lambda x, w, i: tokamax.linear_softmax_cross_entropy_loss(x, i, w, reduction=reduction, **XLA)


TARGETS = [
    Target("tokamax.dot_product_attention", attend(), at(float32=heads(f32), bfloat16=heads(bf16))),
    Target(
        "tokamax.dot_product_attention(causal)",
        attend(is_causal=True),
        at(float32=heads(f32, 4), bfloat16=heads(bf16, 4)),
    ),
    Target("tokamax.dot_product_attention(soft cap)", attend(logits_soft_cap=2.0), at(float32=heads(f32, 7))),
    Target("tokamax.dot_product_attention(window)", attend(local_window_size=(1, 1)), at(float32=heads(f32, 7))),
    Target("tokamax.dot_product_attention(chunked)", chunked(), at(float32=heads(f32), bfloat16=heads(bf16))),
    Target(
        "tokamax.gated_linear_unit",
        lambda x, w: tokamax.gated_linear_unit(x, w, activation=jax.nn.silu, **XLA),
        at(float32=matrices(f32), bfloat16=matrices(bf16)),
    ),
    Target(
        "tokamax.layer_norm",
        lambda x, s, b: tokamax.layer_norm(x, s, b, **XLA),
        at(
            float32=(normal(12, 3, 5), normal(13, 5), normal(14, 5)),
            bfloat16=(normal(12, 3, 5, dtype=bf16), normal(13, 5), normal(14, 5)),
        ),
    ),
    Target(
        "tokamax.layer_norm(rms)",
        lambda x, s: tokamax.layer_norm(x, s, None, subtract_mean=False, **XLA),
        at(float32=(normal(15, 3, 5), normal(16, 5))),
    ),
    Target(
        "tokamax.ragged_dot",
        lambda a, b, n: tokamax.ragged_dot(a, b, n, **XLA),
        at(
            float32=(normal(17, 5, 3), normal(18, 2, 3, 2), jnp.asarray([2, 3], jnp.int32)),
            empty_group=(normal(17, 5, 3), normal(18, 2, 3, 2), jnp.asarray([0, 5], jnp.int32)),
            bfloat16=(normal(17, 5, 3, dtype=bf16), normal(18, 2, 3, 2, dtype=bf16), jnp.asarray([2, 3], jnp.int32)),
        ),
    ),
    Target("tokamax.triangle_multiplication", triangle, at(float32=triangle_args())),
    *(
        Target(
            f"tokamax.linear_softmax_cross_entropy_loss({reduction})",
            loss(reduction),
            at(
                float32=(normal(30, 4, 3), normal(31, 3, 5), integers(32, 5, 4)),
                bfloat16=(normal(30, 4, 3, dtype=bf16), normal(31, 3, 5, dtype=bf16), integers(32, 5, 4)),
            ),
        )
        for reduction in ("sum", "mean")
    ),
]
