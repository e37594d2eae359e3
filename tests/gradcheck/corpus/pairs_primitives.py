"""Pairs whose rule is out of sight: inside shard_map, pmap, pallas_call, linear_call, custom_linear_solve, custom_root,
custom_vmap, platform_dependent, or handed over as the rule's own solver.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import linear_call
from jax.experimental import pallas as pl
from jax.sharding import Mesh, PartitionSpec

from .case import Case, array, f32, i32, jvp, normal, uniform, vjp

FAMILY = "primitives"
ROOTS = "custom_root"
KERNELS = "kernels"


def one_device():
    return Mesh(np.array(jax.devices()[:1]), ("d",))


def sharded(fun, inputs=1):
    """`fun` on blocks of the first axis, on one device."""

    def run(*args):
        spec = PartitionSpec("d")
        return jax.shard_map(fun, mesh=one_device(), in_specs=(spec,) * inputs, out_specs=spec)(*args)

    return run


def sine(factor):
    return vjp(jnp.sin, lambda g, x: (factor * g * jnp.cos(x),))


def sine_push(factor):
    return jvp(jnp.sin, lambda p, t: factor * jnp.cos(p[0]) * t[0])


def share(total):
    """x / Σ x over all devices; the wrong rule forgets that the sum depends on x."""

    def primal(x):
        return x / lax.psum(jnp.sum(x), "d")

    def pull(g, x):
        s = lax.psum(jnp.sum(x), "d")
        return (g / s - total * lax.psum(jnp.sum(g * x), "d") / s**2,)

    return vjp(primal, pull)


def scaled_rows(axis):
    """Each row times its weight, as a sharded layer; the wrong rule sums the weight's gradient over the rows."""

    def primal(x, w):
        return x * w[:, None]

    return vjp(primal, lambda g, x, w: (g * w[:, None], jnp.sum(g * x, axis)))


def on_devices(rule):
    """`rule` under pmap, over a leading axis of one device."""
    return lambda x: jax.pmap(rule, axis_name="d", devices=jax.devices()[:1])(x[None])[0]


def centred(mean):
    """x − mean(x), the mean over a mapped axis as well."""
    primal = lambda x: x - lax.pmean(jnp.mean(x), "d")  # noqa: E731
    return vjp(primal, lambda g, x: (g - mean * lax.pmean(jnp.mean(g), "d"),))


# Linear maps with a transpose of their own.


def linear(transpose):
    """a @ x, linear in x."""

    def run(a, x):
        return linear_call(lambda a, x: a @ x, lambda a, g: transpose(a, g), a, x)

    return run


def shift_linear(by):
    """A shift by 2 with zeros, whose transpose shifts back."""

    def move(_, x):
        return jnp.concatenate([jnp.zeros_like(x[:2]), x[:-2]])

    def back(_, g):
        return jnp.concatenate([g[by:], jnp.zeros_like(g[:by])])

    return lambda x: linear_call(move, back, (), jnp.sin(x))


def fft_linear(conjugate):
    """The real part of a spectrum times a real filter: symmetric, if the filter is real."""

    def filtered(w, x):
        return jnp.fft.irfft(jnp.fft.rfft(x) * (w + 1j * (1 - w)), n=x.shape[0])

    def back(w, g):
        turn = (w - 1j * (1 - w)) if conjugate else (w + 1j * (1 - w))
        return jnp.fft.irfft(jnp.fft.rfft(g) * turn, n=g.shape[0])

    return lambda x: linear_call(filtered, back, jnp.asarray([1.0, 0.5, 0.2, 0.9], f32).astype(x.dtype), jnp.tanh(x))


def solved(transposed, symmetric=False):
    """A⁻¹ b by custom_linear_solve, the solver of the transposed system given by hand."""

    def run(a, b):
        solve = lambda _, v: jnp.linalg.solve(a, v)  # noqa: E731
        back = None if symmetric else (lambda _, v: jnp.linalg.solve(transposed(a), v))
        return lax.custom_linear_solve(lambda v: a @ v, b, solve, back, symmetric=symmetric)

    return run


def bidiagonal(shift):
    """(I − L) x = b by substitution; the transposed system is solved from the other end."""

    def run(c, b):
        def matvec(v):
            return v - c * jnp.concatenate([jnp.zeros_like(v[:1]), v[:-1]])

        def forward(_, v):
            return lax.scan(lambda h, cv: ((y := cv[0] * h + cv[1]), y), jnp.zeros_like(v[0]), (c, v))[1]

        def backward(_, v):
            coefficients = jnp.concatenate([c[1:], jnp.zeros_like(c[:1])]) if shift else c
            return jnp.flip(
                lax.scan(
                    lambda h, cv: ((y := cv[0] * h + cv[1]), y),
                    jnp.zeros_like(v[0]),
                    (jnp.flip(coefficients), jnp.flip(v)),
                )[1]
            )

        return lax.custom_linear_solve(matvec, b, forward, backward)

    return run


def substituted(c, b):
    return lax.scan(lambda h, cv: ((y := cv[0] * h + cv[1]), y), jnp.zeros_like(b[0]), (c, b))[1]


# Roots.


def newton(f, x):
    return lax.fori_loop(0, 25, lambda _, x: x - f(x) / jax.grad(f)(x), x)


def cubic(tangent):
    """a x³ + x = b by custom_root, the tangent equation solved by `tangent(g, y)`."""

    def run(a, b):
        return lax.custom_root(lambda x: a * x**3 + x - b, jnp.ones_like(b), newton, tangent)

    return run


def cubic_alone(a, b):
    return newton(lambda x: a * x**3 + x - b, jnp.ones_like(b))


def divided(g, y):
    return y / g(jnp.ones_like(y))


def system(a, b):
    """x + tanh(a x) = b."""
    step = lambda x: b - jnp.tanh(a @ x)  # noqa: E731
    return lax.fori_loop(0, 60, lambda _, x: 0.5 * (x + step(x)), jnp.zeros_like(b))


def system_root(tangent):
    def run(a, b):
        solve = lambda f, x: lax.fori_loop(0, 60, lambda _, x: x - 0.5 * f(x), x)  # noqa: E731
        return lax.custom_root(lambda x: x + jnp.tanh(a @ x) - b, jnp.zeros_like(b), solve, tangent)

    return run


def dense_tangent(change):
    return lambda g, y: jnp.linalg.solve(change(jax.jacobian(g)(y)), y)


def root_in_scan(tangent):
    """Implicit Euler for y' = −k y³: a root in every step of a scan."""

    def run(y0, k):
        def step(y, _):
            f = lambda z: z + 0.1 * k * z**3 - y  # noqa: E731
            return lax.custom_root(f, y, lambda f, z: newton(f, z), tangent), None

        return lax.scan(step, y0, None, length=4)[0]

    return run


def implicit_euler(y0, k):
    return lax.fori_loop(0, 4, lambda _, y: newton(lambda z: z + 0.1 * k * z**3 - y, y), y0)


# Kernels, interpreted.


def kernel(body, shape=None):
    """`body(*refs)` as a Pallas kernel on whole arrays."""

    def run(*args):
        out = jax.ShapeDtypeStruct(args[0].shape if shape is None else shape(*args), args[0].dtype)
        return pl.pallas_call(body, out_shape=out, interpret=True)(*args)

    return run


def with_rule_inside(rule):
    def body(x_ref, o_ref):
        o_ref[...] = rule(x_ref[...]) * 2

    return kernel(body)


def rows_kernel(rule):
    """Row by row over a grid, the rule inside the kernel."""

    def body(x_ref, o_ref):
        o_ref[...] = rule(x_ref[...]) + x_ref[...]

    def run(x):
        spec = pl.BlockSpec((1, x.shape[1]), lambda i: (i, i32(0)))
        out = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return pl.pallas_call(body, out_shape=out, grid=(x.shape[0],), in_specs=[spec], out_specs=spec, interpret=True)(
            x
        )

    return run


# Other places.


def mapped(rule):
    """A function with a batching rule of its own, which calls `rule` for the whole batch."""

    @jax.custom_batching.custom_vmap
    def fun(x):
        return rule(x)

    @fun.def_vmap
    def batched(size, in_batched, x):
        return rule(x), True

    return lambda x: jax.vmap(fun)(x)


def by_platform(rule):
    return lambda x: lax.platform_dependent(x, cpu=rule, default=rule)


def in_while(rule):
    """Three rounds of a while loop: forward mode only."""
    return lambda x: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, rule(s[1]) + 0.3), (i32(0), x))[1]


def in_associative(rule):
    return lambda x: lax.associative_scan(lambda a, b: rule(a, b), x)


def product(factor):
    return vjp(lambda a, b: a * b + a + b, lambda g, a, b: (g * (b + 1), factor * g * (a + 1)))


def nested(inner):
    """A right rule whose backward pass calls another rule."""
    cosine = vjp(jnp.cos, lambda g, x: (-g * jnp.sin(x),))
    return vjp(jnp.sin, lambda g, x: (g * inner * cosine(x),))


def converted(factor):
    """A function that closes over one of the values to be differentiated, made pure by closure_convert."""

    def integral(f, a):
        pure, consts = jax.closure_convert(f, a)
        return trapezoid(pure, a, *consts)

    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def trapezoid(f, a, *consts):
        nodes = np.linspace(0, 1, 9)
        return sum(f(a * float(t), *consts) for t in nodes) * a / 9

    def fwd(f, a, *consts):
        return trapezoid(f, a, *consts), (a, consts)

    def bwd(f, saved, g):
        a, consts = saved
        _, back = jax.vjp(lambda a, *c: sum(f(a * float(t), *c) for t in np.linspace(0, 1, 9)) * a / 9, a, *consts)
        da, *dc = back(g)
        return (da, *(factor * d for d in dc))

    trapezoid.defvjp(fwd, bwd)
    return lambda a, k: integral(lambda t: jnp.exp(-k * t**2), a)


def converted_plain(a, k):
    return sum(jnp.exp(-k * (a * float(t)) ** 2) for t in np.linspace(0, 1, 9)) * a / 9


def twins(name, make, right, wrong, args, note, primal, family=FAMILY, **more):
    return Case(name, family, make(right), args, make(wrong), note, primal=primal, **more)


def x6(seed):
    return lambda: (normal(seed, 6),)


def dominant(seed, n=4):
    return lambda: (normal(seed, n, n) + 3 * jnp.eye(n, dtype=f32), normal(seed + 1, n))


def same(m):
    return m


# fmt: off
CASES = [
    twins("shard_map_factor", lambda c: sharded(sine(c)), 1.0, 1.1, x6(1100), "a rule inside shard_map, 10% too large",
          jnp.sin),
    twins("shard_map_psum", lambda c: sharded(share(c)), 1.0, 0.0, lambda: (uniform(1101, 6, low=0.5, high=2.0),),
          "a sum over devices treated as a constant", lambda x: x / jnp.sum(x)),
    twins("shard_map_two_arguments", lambda axis: sharded(scaled_rows(axis), 2), 1, 0,
          lambda: (normal(1102, 4, 4), normal(1103, 4)), "the wrong axis, inside shard_map",
          lambda x, w: x * w[:, None]),
    twins("shard_map_in_scan", lambda c: lambda x: lax.scan(lambda h, _: (sharded(sine(c))(h) + x, None), x, None,
                                                             length=3)[0], 1.0, -1.0, x6(1104),
          "shard_map in a scan: the sign", lambda x: jnp.sin(jnp.sin(jnp.sin(x) + x) + x) + x),
    twins("shard_map_push", lambda c: sharded(sine_push(c)), 1.0, 0.5, x6(1105), "a custom_jvp inside shard_map",
          jnp.sin, how="jvp"),
    twins("pmap_factor", lambda c: on_devices(sine(c)), 1.0, 1.1, x6(1106), "a rule inside pmap, 10% too large",
          jnp.sin),
    twins("pmap_mean", lambda c: on_devices(centred(c)), 1.0, 0.0, x6(1107), "the mean over devices dropped",
          lambda x: x - jnp.mean(x)),
    twins("linear_call_transpose", lambda t: lambda x: linear(t)(normal(1108, 4, 4).astype(x.dtype), x),
          lambda a, g: a.T @ g, lambda a, g: a @ g, lambda: (normal(1109, 4),), "A g for Aᵀ g in a linear_call",
          lambda x: normal(1108, 4, 4).astype(x.dtype) @ x),
    twins("linear_call_shift", shift_linear, 2, 1, lambda: (normal(1110, 7),), "shifted back by one too few",
          lambda x: jnp.concatenate([jnp.zeros_like(x[:2]), jnp.sin(x)[:-2]])),
    twins("linear_call_filter", fft_linear, True, False, x6(1111), "the conjugate of a filter forgotten",
          lambda x: jnp.fft.irfft(jnp.fft.rfft(jnp.tanh(x)) * (jnp.asarray([1.0, 0.5, 0.2, 0.9], f32).astype(x.dtype)
                                  + 1j * (1 - jnp.asarray([1.0, 0.5, 0.2, 0.9], f32).astype(x.dtype))), n=x.shape[0])),
    twins("linear_solve_transpose", solved, lambda a: a.T, same, dominant(1112),
          "custom_linear_solve: the transposed system solved with A", jnp.linalg.solve, self_test=1e4),
    Case("linear_solve_symmetric", FAMILY, solved(lambda a: a.T), dominant(1114), solved(same, symmetric=True),
         "a matrix declared symmetric that is not", primal=jnp.linalg.solve, self_test=1e4),
    twins("linear_solve_bidiagonal", bidiagonal, True, False,
          lambda: (uniform(1116, 6, low=0.2, high=0.9), normal(1117, 6)), "the adjoint recurrence runs with c_t for "
          "c_{t+1}", substituted),
    twins("custom_root_multiplied", cubic, divided, lambda g, y: y * g(jnp.ones_like(y)),
          lambda: (f32(0.7), f32(2.0)), "the tangent equation multiplied where it is to be divided", cubic_alone,
          ROOTS),
    twins("custom_root_unsolved", cubic, divided, lambda g, y: y, lambda: (f32(0.4), f32(-1.5)),
          "the tangent equation not solved at all", cubic_alone, ROOTS),
    twins("custom_root_transposed", system_root, dense_tangent(same), dense_tangent(lambda m: m.T),
          lambda: (normal(1118, 3, 3, scale=0.6), normal(1119, 3)), "the Jacobian's transpose in the tangent equation",
          system, ROOTS),
    twins("custom_root_neumann", system_root, dense_tangent(same), lambda g, y: 2 * y - g(y),
          lambda: (normal(1120, 3, 3, scale=0.4), normal(1121, 3)), "two terms of a Neumann series in place of a solve",
          system, ROOTS),
    twins("custom_root_in_scan", root_in_scan, divided, lambda g, y: 0.9 * divided(g, y),
          lambda: (f32(1.5), f32(0.8)), "a root in each step of a scan, its tangent 10% too small", implicit_euler,
          ROOTS),
    twins("pallas_rule_inside", lambda c: with_rule_inside(sine_push(c)), 1.0, 1.1, x6(1122),
          "a custom_jvp inside a kernel", lambda x: jnp.sin(x) * 2, KERNELS, how="jvp"),
    twins("pallas_rule_in_grid", lambda c: rows_kernel(sine_push(c)), 1.0, -1.0, lambda: (normal(1123, 3, 4),),
          "a custom_jvp inside a kernel with a grid: the sign", lambda x: jnp.sin(x) + x, KERNELS, how="jvp"),
    twins("custom_vmap_rule", lambda c: mapped(sine(c)), 1.0, 1.1, x6(1124), "a rule inside the batching rule",
          jnp.sin),
    twins("platform_dependent_rule", lambda c: by_platform(sine(c)), 1.0, 1.1, x6(1125),
          "a rule in the branch of a platform", jnp.sin),
    twins("while_push", lambda c: in_while(sine_push(c)), 1.0, 1.1, x6(1126), "a custom_jvp in a while loop",
          lambda x: jnp.sin(jnp.sin(jnp.sin(x) + 0.3) + 0.3) + 0.3, how="jvp"),
    twins("associative_scan_rule", lambda c: in_associative(product(c)), 1.0, 0.9, x6(1127),
          "a rule as the operation of an associative scan", lambda x: jnp.cumprod(x + 1) - 1),
    twins("rule_in_backward_pass", nested, 1.0, 0.9, x6(1128), "the backward pass calls another rule, and scales it",
          jnp.sin),
    twins("closure_converted", converted, 1.0, 2.0, lambda: (f32(1.3), f32(0.7)),
          "the closed-over value's share doubled", converted_plain),
    twins("checkpoint_in_map", lambda c: lambda x: lax.map(jax.checkpoint(sine(c)), x), 1.0, 0.95,
          lambda: (array(0.3, -1.0, 2.0),), "a rule under checkpoint under map: 5% too small", jnp.sin),
]
# fmt: on
