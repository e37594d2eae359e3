"""Pairs whose primal JAX cannot look into: Pallas kernels (interpreted), host callbacks, and kernels as they are
written, block by block, with a border that does not fit.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from .case import Case, bf16, f16, f32, i32, integers, jvp, normal, pair, uniform
from .pairs_primitives import kernel

KERNELS = "kernels"
CALLBACKS = "callbacks"


def opaque(name, family, primal, formula, right, wrong, args, note, **more):
    """A pair of which `primal` is the kernel and `formula` the same in jax.numpy."""
    case = pair(name, family, primal, right, wrong, args, note, **more)
    return Case(**{**case.__dict__, "primal": formula})


def tanh_kernel(x):
    def body(x_ref, o_ref):
        o_ref[...] = jnp.tanh(x_ref[...])

    return kernel(body)(x)


def softmax_kernel(x):
    """One row for each step of the grid."""

    def body(x_ref, o_ref):
        v = x_ref[...]
        e = jnp.exp(v - jnp.max(v, -1, keepdims=True))
        o_ref[...] = e / jnp.sum(e, -1, keepdims=True)

    spec = pl.BlockSpec((1, x.shape[1]), lambda i: (i, i32(0)))
    out = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return pl.pallas_call(body, out_shape=out, grid=(x.shape[0],), in_specs=[spec], out_specs=spec, interpret=True)(x)


def softmax_rule(delta):
    def pull(g, x):
        p = softmax_kernel(x)
        return (p * (g - delta * jnp.sum(p * g, -1, keepdims=True)),)

    return pull


def matmul_kernel(a, b):
    def body(a_ref, b_ref, o_ref):
        o_ref[...] = jnp.dot(a_ref[...], b_ref[...], preferred_element_type=o_ref.dtype)

    return kernel(body, lambda a, b: (a.shape[0], b.shape[1]))(a, b)


def matmul_rule(right):
    return lambda g, a, b: (matmul_kernel(g, b.T), matmul_kernel(a.T, g) if right else matmul_kernel(g.T, a).T * 0.5)


def scale_kernel(x, s):
    """x (n, d) times s (d), the mean square divided out, in one kernel."""

    def body(x_ref, s_ref, o_ref):
        v = x_ref[...]
        o_ref[...] = v * jax.lax.rsqrt(jnp.mean(v * v, -1, keepdims=True) + 1e-5) * s_ref[...][None, :]

    return kernel(body)(x, s)


def scale_formula(x, s):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * s[None, :]


def scale_rule(rows):
    def pull(g, x, s):
        r = jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)
        d = g * s[None, :]
        ds = g * x * r
        return r * (d - x * r**2 * jnp.mean(d * x, -1, keepdims=True)), jnp.sum(ds[:rows], 0)

    return pull


def add_one_kernel(x, n):
    """A kernel that writes whole blocks of 4 only; what is left is copied outside of it."""

    def body(x_ref, o_ref):
        o_ref[...] = x_ref[...] ** 2

    whole = (x.shape[0] // n) * n
    return jnp.concatenate([kernel(body)(x[:whole]), x[whole:] ** 2])


def blocks_rule(tail):
    def pull(g, x):
        d = 2 * g * x
        return (d if tail else d.at[4 * (x.shape[0] // 4) :].set(0),)

    return pull


def segments_kernel(x, ids):
    """Sums by segment, an integer argument of the kernel."""

    def body(x_ref, i_ref, o_ref):
        hot = (i_ref[...][:, None] == jnp.arange(3, dtype=i32)[None, :]).astype(o_ref.dtype)
        o_ref[...] = jnp.sum(hot * x_ref[...][:, None], 0)

    return kernel(body, lambda x, ids: (3,))(x, ids)


def segments_formula(x, ids):
    return jax.ops.segment_sum(x, ids, num_segments=3)


def low_gelu(x):
    """bfloat16 in and out, float32 inside the kernel."""

    def body(x_ref, o_ref):
        v = x_ref[...].astype(f32)
        o_ref[...] = (v * jax.lax.logistic(1.702 * v)).astype(o_ref.dtype)

    return kernel(body)(x)


def low_gelu_formula(x):
    return x * jax.lax.logistic(1.702 * x)


def low_gelu_rule(chain):
    def pull(g, x):
        v = x.astype(f32)
        s = jax.lax.logistic(1.702 * v)
        return ((g.astype(f32) * (s + chain * v * s * (1 - s))).astype(x.dtype),)

    return pull


def cumulative_kernel(x):
    """A recurrence inside a kernel, by a loop over its reference."""

    def body(x_ref, o_ref):
        def step(i, h):
            h = 0.7 * h + x_ref[i]
            o_ref[i] = h
            return h

        jax.lax.fori_loop(0, x.shape[0], step, jnp.zeros((), x.dtype))

    return kernel(body)(x)


def cumulative_formula(x):
    return jax.lax.scan(lambda h, v: ((y := 0.7 * h + v), y), jnp.zeros_like(x[0]), x)[1]


def cumulative_rule(reverse):
    def pull(g, x):
        return (jnp.flip(cumulative_kernel(jnp.flip(g))) if reverse else cumulative_kernel(g),)

    return pull


# Callbacks.


def host(fun):
    """`fun` of NumPy arrays, elementwise, called on the host."""

    def run(*args):
        out = jax.ShapeDtypeStruct(args[0].shape, args[0].dtype)
        return jax.pure_callback(lambda *a: np.asarray(fun(*a), out.dtype), out, *args, vmap_method="expand_dims")

    return run


host_sine = host(np.sin)
host_cosine = host(np.cos)


def bessel_pair(order, factor):
    """JAX's documented pattern: a function of the host with a custom_jvp that calls the next one of its family."""
    primal = host(lambda x: np.sinc(x / np.pi))
    slope = host(lambda x: np.where(x == 0, 0, (x * np.cos(x) - np.sin(x)) / np.where(x == 0, 1, x) ** order))
    return jvp(primal, lambda p, t: factor * slope(p[0]) * t[0])


def host_solve(a, b):
    out = jax.ShapeDtypeStruct(b.shape, b.dtype)
    solve = lambda a, b: np.linalg.solve(a, b[..., None])[..., 0].astype(b.dtype)  # noqa: E731
    return jax.pure_callback(solve, out, a, b, vmap_method="broadcast_all")


def host_solve_rule(transposed):
    def pull(g, a, b):
        u = host_solve(a.T if transposed else a, g)
        return -jnp.outer(u, host_solve(a, b)), u

    return pull


def host_sum(x, w):
    """A loss computed on the host, a scalar."""
    out = jax.ShapeDtypeStruct((), x.dtype)
    total = lambda x, w: np.sum(np.log1p(x**2) * w, -1).astype(x.dtype)  # noqa: E731
    return jax.pure_callback(total, out, x, w, vmap_method="broadcast_all")


def host_sum_rule(power):
    return lambda g, x, w: (2 * g * w * x / (1 + x**2) ** power, g * jnp.log1p(x**2))


def staggered(x):
    """A stencil written as a kernel: the differences of neighbours, with the border held."""

    def body(x_ref, o_ref):
        v = x_ref[...]
        o_ref[...] = jnp.concatenate([v[1:] - v[:-1], v[-1:]])

    return kernel(body)(x)


def staggered_rule(border):
    def pull(g, x):
        d = jnp.concatenate([-g[:1], g[:-2] - g[1:-1], g[-2:-1] + border * g[-1:]])
        return (d,)

    return pull


# fmt: off
CASES = [
    opaque("pallas_tanh_factor", KERNELS, tanh_kernel, jnp.tanh, lambda g, x: (g * (1 - jnp.tanh(x) ** 2),),
           lambda g, x: (1.01 * g * (1 - jnp.tanh(x) ** 2),), lambda: (normal(1500, 32, 64),),
           "a large kernel without a reference: 1% too large"),
    opaque("pallas_softmax_delta", KERNELS, softmax_kernel, partial(jax.nn.softmax, axis=-1), softmax_rule(1.0),
           softmax_rule(0.0), lambda: (normal(1501, 3, 5),), "a kernel over a grid of rows: the row sums dropped"),
    opaque("pallas_matmul_half", KERNELS, matmul_kernel, jnp.matmul, matmul_rule(True), matmul_rule(False),
           lambda: (normal(1502, 3, 4), normal(1503, 4, 2)), "kernels in the backward pass too, one of them halved"),
    opaque("pallas_scale_rows", KERNELS, scale_kernel, scale_formula, scale_rule(5), scale_rule(4),
           lambda: (normal(1504, 5, 4), 1 + normal(1505, 4, scale=0.2)), "the weight's gradient misses the last row"),
    opaque("pallas_blocks_tail", KERNELS, partial(add_one_kernel, n=4), jnp.square, blocks_rule(True),
           blocks_rule(False), lambda: (normal(1506, 10),), "10 elements in blocks of 4: the last two stay zero"),
    opaque("pallas_segments_shifted", KERNELS, segments_kernel, segments_formula, lambda g, x, ids: (g[ids], None),
           lambda g, x, ids: (g[(ids + 1) % 3], None), lambda: (normal(1507, 7), integers(1508, 3, 7)),
           "the segment's number off by one"),
    opaque("pallas_gelu_bf16_constant", KERNELS, low_gelu, low_gelu_formula, low_gelu_rule(1.702), low_gelu_rule(1.0),
           lambda: (normal(1509, 24, dtype=bf16),), "bfloat16: the inner constant missing", self_test=16.0),
    opaque("pallas_recurrence_forward", KERNELS, cumulative_kernel, cumulative_formula, cumulative_rule(True),
           cumulative_rule(False), lambda: (normal(1510, 8),), "the adjoint recurrence runs forward"),
    opaque("pallas_stencil_border", KERNELS, staggered, lambda v: jnp.concatenate([v[1:] - v[:-1], v[-1:]]),
           staggered_rule(1.0), staggered_rule(0.0), lambda: (normal(1511, 7),), "off at the border by one element"),
    opaque("callback_sine_factor", CALLBACKS, host_sine, jnp.sin, lambda g, x: (g * host_cosine(x),),
           lambda g, x: (1.1 * g * host_cosine(x),), lambda: (normal(1512, 5),), "a function of the host, 10% wrong"),
    Case("callback_push_power", CALLBACKS, bessel_pair(2, 1.0), lambda: (normal(1513, 5),), bessel_pair(1, 1.0),
         "JAX's documented pattern, a custom_jvp over a callback: x for x²", how="jvp",
         primal=lambda x: jnp.sinc(x / np.pi)),
    Case("callback_push_factor", CALLBACKS, bessel_pair(2, 1.0), lambda: (uniform(1514, 4, low=0.5, high=3.0),),
         bessel_pair(2, -1.0), "the sign", how="jvp", primal=lambda x: jnp.sinc(x / np.pi)),
    opaque("callback_solve_transposed", CALLBACKS, host_solve, jnp.linalg.solve, host_solve_rule(True),
           host_solve_rule(False), lambda: (normal(1515, 3, 3) + 3 * jnp.eye(3, dtype=f32), normal(1516, 3)),
           "a solver of the host: A for Aᵀ", self_test=1e4),
    opaque("callback_loss_power", CALLBACKS, host_sum, lambda x, w: jnp.sum(jnp.log1p(x**2) * w), host_sum_rule(1),
           host_sum_rule(2), lambda: (normal(1517, 5), uniform(1518, 5, low=0.5, high=2.0)),
           "a scalar loss of the host: one leaf has a squared denominator"),
    opaque("callback_f16_sign", CALLBACKS, host(lambda x: np.arctan(x)), jnp.arctan, lambda g, x: (g / (1 + x * x),),
           lambda g, x: (g / (1 - x * x + 2),), lambda: (normal(1519, 6, dtype=f16, scale=0.5),),
           "float16: a sign in the denominator", self_test=16.0),
]
# fmt: on
