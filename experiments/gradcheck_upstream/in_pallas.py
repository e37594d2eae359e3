"""The kernels that ship with JAX in jax.experimental.pallas.ops, interpreted where they allow it."""

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu
from jax.experimental.pallas.ops.gpu import attention, layer_norm, rms_norm, softmax
from jax.experimental.pallas.ops.tpu import flash_attention, splash_attention
from jax.experimental.pallas.ops.tpu.megablox import ops as megablox

from .target import Target, at, bf16, f32, normal

BLOCKS = attention.BlockSizes(block_q=16, block_k=16, block_q_dkv=16, block_kv_dkv=16, block_q_dq=16, block_kv_dq=16)


def heads(seed: int, dtype=f32, n: int = 16) -> tuple:
    return tuple(normal(seed + i, 1, n, 1, 16, dtype=dtype) for i in range(3))


def mha(causal: bool):
    def fun(q, k, v):
        return attention.mha(q, k, v, None, causal=causal, block_sizes=BLOCKS, interpret=True)

    return fun


def reference(causal: bool):
    return lambda q, k, v: attention.mha_reference(q, k, v, None, causal=causal)


def rows(dtype) -> tuple:
    """Activations with two leading axes, a weight and a bias."""
    return normal(10, 2, 3, 16, dtype=dtype), 1 + normal(11, 16, scale=0.2), normal(12, 16)


def layer_norm_reference(x, w, b):
    m = jnp.mean(x, -1, keepdims=True)
    return (x - m) * jax.lax.rsqrt(jnp.mean((x - m) ** 2, -1, keepdims=True) + 1e-5) * w + b


def rms_norm_reference(x, w, b):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * w + b


# Those for TPUs have blocks of 128.
LONG = 128
SPLASH = splash_attention.BlockSizes(
    block_q=LONG, block_kv=LONG, block_kv_compute=LONG, block_q_dkv=LONG, block_kv_dkv=LONG, block_kv_dkv_compute=LONG,
    block_q_dq=LONG, block_kv_dq=LONG,
)  # fmt: skip


def splash(q, k, v):
    mask = splash_attention.MultiHeadMask([splash_attention.CausalMask((LONG, LONG))])
    return splash_attention.make_splash_mha_single_device(mask, block_sizes=SPLASH, interpret=True)(q, k, v)


def flash(q, k, v, bias):
    return flash_attention.flash_attention(q, k, v, bias, causal=True, sm_scale=0.3)


def causal_attention(q, k, v, bias=0.0, scale=1.0):
    logits = scale * (jnp.einsum("...qd,...kd->...qk", q, k) + bias)
    weights = jax.nn.softmax(jnp.where(jnp.tril(jnp.ones((LONG, LONG), bool)), logits, -jnp.inf), -1)
    return jnp.einsum("...qk,...kd->...qd", weights, v)


def grouped(a, b, sizes):
    return megablox.gmm(a, b, sizes, jnp.float32, (8, 8, 8), None, None, False, True)


def grouped_into(a, b, sizes, out):
    """The groups from the second on, into rows of `out`."""
    return megablox.gmm(a, b, sizes, jnp.float32, (8, 8, 8), jnp.int32(1), out, False, True)


def grouped_into_reference(a, b, sizes, out):
    group = jnp.repeat(jnp.arange(3), sizes, total_repeat_length=16)
    rows = jnp.einsum("mk,mkn->mn", a, b[jnp.maximum(group - 1, 0)])
    return jnp.where((group >= 1)[:, None], rows, out)


SIZES = jnp.asarray([8, 3, 5], jnp.int32)

TARGETS = [
    Target(
        "jax.experimental.pallas.ops.gpu.attention.mha",
        mha(False),
        at(float32=heads(1), bfloat16=heads(1, bf16), more_keys=(heads(7)[0], *heads(7, n=32)[1:])),
        check={"reference": reference(False)},
    ),
    Target(
        "jax.experimental.pallas.ops.gpu.attention.mha(causal)",
        mha(True),
        at(float32=heads(4)),
        check={"reference": reference(True)},
    ),
    Target(
        "jax.experimental.pallas.ops.gpu.layer_norm.layer_norm",
        lambda x, w, b: layer_norm.layer_norm(x, w, b, interpret=True),
        at(float32=rows(f32)),
        check={"reference": layer_norm_reference},
    ),
    Target(
        "jax.experimental.pallas.ops.gpu.rms_norm.rms_norm",
        lambda x, w, b: rms_norm.rms_norm(x, w, b, interpret=True),
        at(float32=rows(f32)),
        check={"reference": rms_norm_reference},
    ),
    Target(
        "jax.experimental.pallas.ops.gpu.softmax.softmax",
        lambda x: softmax.softmax(x, interpret=True),
        at(float32=normal(20, 3, 16)),
        check={"reference": jax.nn.softmax},
    ),
    Target(
        "jax.experimental.pallas.ops.tpu.splash_attention.make_splash_mha",
        splash,
        at(float32=tuple(normal(30 + i, 1, LONG, 16) for i in range(3))),
        check={"reference": causal_attention},
    ),
    Target(
        "jax.experimental.pallas.ops.tpu.flash_attention.flash_attention",
        flash,
        at(float32=tuple(normal(33 + i, 1, 1, LONG, LONG) for i in range(4))),
        check={"reference": lambda q, k, v, bias: causal_attention(q, k, v, bias, 0.3)},
        within=tpu.force_tpu_interpret_mode,
    ),
    Target(
        "jax.experimental.pallas.ops.tpu.megablox.gmm",
        grouped,
        at(float32=(normal(40, 16, 8), normal(41, 3, 8, 8), SIZES)),
        check={"reference": jax.lax.ragged_dot},
    ),
    Target(
        "jax.experimental.pallas.ops.tpu.megablox.gmm(existing_out)",
        grouped_into,
        at(float32=(normal(42, 16, 8), normal(43, 2, 8, 8), SIZES, normal(44, 16, 8))),
        check={"reference": grouped_into_reference},
    ),
]
