"""The kernels that ship with JAX in jax.experimental.pallas.ops, interpreted where they allow it."""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.gpu import attention, layer_norm, rms_norm, softmax

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
]
