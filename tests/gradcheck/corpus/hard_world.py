"""Right functions that act on the world, or on which the world has marks: donated buffers, prints, callbacks, errors in
iterations that are never reached, static arguments, devices; rules inside primitives; derivatives inside functions.
"""

from collections import namedtuple
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import linear_call
from jax.experimental import checkify
from jax.sharding import PartitionSpec

from .case import array, f32, hard, i32, jvp, key, normal, plain, uniform, vjp
from .pairs_kernels import bessel_pair, host_sine
from .pairs_primitives import cubic, divided, kernel, on_devices, one_device, sharded
from .pairs_solvers import bisect

WORLD = "the world"
STATIC = "static arguments"
PRIMITIVES = "primitives"
INNER = "derivatives inside"
ROOTS = "custom_root"


def donated(x, w):
    return jnp.tanh(x) * w


def printed(x):
    jax.debug.print("x = {}", x)
    return jnp.sin(x)


def watched(x):
    """A callback with effects in each step of a scan."""

    def step(h, v):
        jax.debug.callback(lambda _: None, h)
        return jnp.tanh(h + v), None

    return lax.scan(step, jnp.zeros_like(x[0]), x)[0]


def refuse_beyond(limit):
    """A host function that raises when it is called with a larger number than `limit`."""

    def look(i):
        if int(np.max(i)) > limit:
            raise RuntimeError(f"iteration {i} is never to be reached")
        return np.asarray(i)

    return lambda i: jax.pure_callback(look, jax.ShapeDtypeStruct((), i32), i, vmap_method="sequential")


def limited_root(x):
    """√x by a while loop that raises after 30 steps; it needs 6."""
    reached = refuse_beyond(30)

    def step(s):
        i, y, _moved = s
        z = 0.5 * (y + x / y)
        return reached(i) + 1, z, jnp.max(jnp.abs(z - y)) > 1e-6 * jnp.max(z)

    return lax.while_loop(lambda s: s[2], step, (i32(0), x, jnp.asarray(True)))[1]


limited = vjp(limited_root, lambda g, x: (0.5 * g / limited_root(x),))


def limited_push(x):
    """The same, differentiated by JAX in forward mode."""
    reached = refuse_beyond(30)

    def step(s):
        i, y = s
        return reached(i) + 1, 0.5 * (y + x / y)

    return lax.while_loop(lambda s: s[0] < 8, step, (i32(0), x))[1]


def within_domain(x):
    """Raises outside of its domain, by a host function that looks at the values."""

    def look(v):
        if np.any(v <= 0):
            raise ValueError("expected positive values")
        return np.zeros((), np.int32)

    fine = jax.pure_callback(look, jax.ShapeDtypeStruct((), i32), lax.stop_gradient(x), vmap_method="sequential")
    return jnp.log(x) + fine.astype(x.dtype)


def checked(x):
    """Checks that checkify turns into values."""

    def fun(x):
        checkify.check(jnp.all(x > 0), "expected positive values")
        return jnp.sqrt(x)

    return checkify.checkify(fun)(x)[1]


TRACES: list[int] = []


def counted(x):
    """Counts how often it is traced."""
    TRACES.append(1)
    return x * jnp.cos(x)


def by_power(x, p):
    """A Python number decides about the program."""
    return jnp.abs(x) ** p if p > 2 else x**2


def by_name(x, name, axis):
    return getattr(jax.nn, name)(x, axis=axis)


def optional(x, bias, scale):
    y = x if bias is None else x + bias
    return y * scale["by"] if isinstance(scale, dict) else y


Layer = namedtuple("Layer", "w b")


def apply_layer(layer, x):
    return jnp.tanh(x @ layer.w + layer.b[None, :])


@partial(jax.jit, static_argnames=("n", "mode"))
def repeated(x, n, mode):
    for _ in range(n):
        x = jnp.sin(x) if mode == "sine" else jnp.cos(x)
    return x


def gathered(x):
    """A mean over devices and a permutation of one."""
    axis = "d"
    y = lax.ppermute(x, axis, [(0, 0)])
    return jnp.sin(y) - lax.pmean(jnp.mean(x), axis)


def replicated(x, w):
    mesh, spec = one_device(), PartitionSpec("d")
    return jax.shard_map(
        lambda x, w: lax.psum(jnp.tanh(x @ w), "d"),
        mesh=mesh,
        in_specs=(spec, PartitionSpec()),
        out_specs=PartitionSpec(),
    )(x, w)


def residual_loss(params, t):
    """A physics-informed loss: (u'(t) + u(t))² of a small network u."""

    def u(t):
        h = jnp.tanh(t * params["a"] + params["b"])
        return jnp.sum(h * params["c"])

    return jnp.mean(jax.vmap(lambda t: (jax.grad(u)(t) + u(t)) ** 2)(t))


def divergence(x, w):
    """The divergence of tanh(w x) by forward mode."""
    field = lambda v: jnp.tanh(w @ v)  # noqa: E731
    columns = [jax.jvp(field, (x,), (e,))[1][i] for i, e in enumerate(jnp.eye(x.shape[0], dtype=x.dtype))]
    return jnp.sum(jnp.stack(columns))


def inner_descent(x, rate):
    """Three steps of gradient descent inside, as in meta-learning."""
    loss = lambda w: jnp.sum((jnp.sin(w) - x) ** 2)  # noqa: E731
    w = jnp.zeros_like(x)
    for _ in range(3):
        w = w - rate * jax.grad(loss)(w)
    return loss(w)


def rule_and_gradient(x):
    """The gradient of a function with a rule, as a function."""
    rule = vjp(jnp.tanh, lambda g, x: (g * (1 - jnp.tanh(x) ** 2),))
    return jax.grad(lambda v: jnp.sum(rule(v) ** 2))(x)


def root_squared(a, b):
    return cubic(divided)(a, b) ** 2


def root_by_bisection(y):
    """JAX's own example of custom_root: the solver is a bisection, of which autodiff is zero."""
    solve = lambda f, _: bisect(f, jnp.full_like(y, -4.0), jnp.full_like(y, 4.0), 40)  # noqa: E731
    return lax.custom_root(lambda x: x**3 + x - y, jnp.zeros_like(y), solve, lambda g, v: v / g(jnp.ones_like(v)))


def root_by_while(y):
    def solve(f, x):
        step = lambda s: (s[0] + 1, s[1] - f(s[1]) / jax.jvp(f, (s[1],), (jnp.ones_like(s[1]),))[1])  # noqa: E731
        return lax.while_loop(lambda s: s[0] < 20, step, (i32(0), x))[1]

    return lax.custom_root(lambda x: jnp.exp(x) + x - y, jnp.zeros_like(y), solve, lambda g, v: v / g(jnp.ones_like(v)))


def symmetric_solve(a, b):
    m = a @ a.T + jnp.eye(a.shape[0], dtype=a.dtype)
    return lax.custom_linear_solve(lambda v: m @ v, b, lambda _, v: jnp.linalg.solve(m, v), symmetric=True)


def krylov(a, b):
    m = a @ a.T + 2 * jnp.eye(a.shape[0], dtype=a.dtype)
    return jax.scipy.sparse.linalg.cg(lambda v: m @ v, b, tol=1e-7, maxiter=20)[0]


def transposable(x):
    """linear_call with the transpose that it should have."""
    w = jnp.asarray(np.random.default_rng(1700).standard_normal((3, 4)).astype(np.float32)).astype(x.dtype)
    return linear_call(lambda w, v: w @ v, lambda w, g: w.T @ g, w, jnp.tanh(x))


def kernel_pushed(x):
    """A kernel that JAX differentiates in forward mode."""

    def body(x_ref, o_ref):
        o_ref[...] = jnp.exp(jnp.sin(x_ref[...]))

    return kernel(body)(x)


rms_kernel = jax.custom_vjp(plain(lambda x: _rms(x)))


def _rms(x):
    def body(x_ref, o_ref):
        v = x_ref[...]
        o_ref[...] = v * lax.rsqrt(jnp.mean(v * v, -1, keepdims=True) + 1e-6)

    return kernel(body)(x)


def _rms_back(x, g):
    r = lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
    return (r * (g - x * r * r * jnp.mean(g * x, -1, keepdims=True)),)


rms_kernel.defvjp(lambda x: (_rms(x), x), _rms_back)


def world(name, fun, args, note, family=WORLD, **more):
    return hard(name, fun, args, note, family, **more)


def x4(seed):
    return lambda: (normal(seed, 4),)


def positive(seed):
    return lambda: (uniform(seed, 4, low=0.5, high=3.0),)


# fmt: off
CASES = [
    world("donated_argument", jax.jit(donated, donate_argnums=0), lambda: (normal(1701, 4), normal(1702, 4)),
          "donate_argnums: the caller's array must outlive the check"),
    world("donated_both", jax.jit(donated, donate_argnames=("x", "w")), lambda: (normal(1703, 4), normal(1704, 4)),
          "every buffer is given away"),
    world("debug_print", printed, x4(1705), "prints at each evaluation"),
    world("debug_callback_in_scan", watched, lambda: (normal(1706, 5, 2),), "a callback with effects in each step"),
    world("raises_beyond_limit", limited, positive(1707), "a rule over a while loop that raises in iterations that are "
          "never reached", primal=jnp.sqrt, self_test=512.0),
    world("raises_beyond_limit_push", limited_push, positive(1708), "the same in forward mode", how="jvp",
          self_test=None),
    world("raises_outside_domain", within_domain, positive(1709), "raises at a step that leaves the domain",
          self_test=None),
    world("checkified", checked, positive(1710), "checks turned into values"),
    world("counts_its_traces", counted, x4(1711), "a Python list grows when it is traced"),
    world("static_power", by_power, lambda: (normal(1712, 4), 2.5), "a Python float decides about the program", STATIC),
    world("static_name_and_axis", by_name, lambda: (normal(1713, 3, 4), "softmax", 0), "a string and an axis", STATIC),
    world("static_options", optional, lambda: (normal(1714, 4), None, {"by": array(2.0)[0]}),
          "None among the arguments", STATIC),
    world("named_tuple", apply_layer, lambda: (Layer(normal(1715, 3, 2), normal(1716, 2)), normal(1717, 4, 3)),
          "parameters in a named tuple", STATIC),
    world("static_argnames", repeated, lambda: (normal(1718, 4), 3, "sine"), "jit with static arguments", STATIC),
    world("read_only_numpy", lambda x: jnp.exp(-(x**2)), lambda: (np.broadcast_to(np.float32(0.4), (3,)),),
          "a NumPy array that cannot be written to", STATIC),
    world("host_function_pair", vjp(host_sine, lambda g, x: (g * jnp.cos(x),)), x4(1719), "a callback with a right "
          "rule", PRIMITIVES, primal=jnp.sin),
    world("host_function_push", bessel_pair(2, 1.0), lambda: (array(0.0, 0.4, -2.0),), "a custom_jvp over a callback, "
          "at 0 as well", PRIMITIVES, primal=lambda x: jnp.sinc(x / np.pi), self_test=1e3),
    world("shard_map_collectives", sharded(gathered), x4(1720), "collectives by autodiff", PRIMITIVES),
    world("shard_map_replicated", replicated, lambda: (normal(1721, 4, 3), normal(1722, 3, 2)), "replicated weights",
          PRIMITIVES),
    world("pmap_autodiff", on_devices(lambda x: jnp.tanh(x) * lax.psum(jnp.sum(x), "d")), x4(1723), "pmap without a "
          "rule", PRIMITIVES),
    world("linear_call_right", transposable, x4(1724), "linear_call", PRIMITIVES),
    world("linear_solve_spd", symmetric_solve, lambda: (normal(1725, 3, 3), normal(1726, 3)), "symmetric=True, rightly",
          PRIMITIVES, self_test=1e4),
    world("linear_solve_krylov", krylov, lambda: (normal(1727, 3, 3), normal(1728, 3)), "conjugate gradients of "
          "jax.scipy", PRIMITIVES, self_test=1e4),
    world("pallas_forward_mode", kernel_pushed, x4(1729), "a kernel in forward mode", PRIMITIVES, how="jvp",
          primal=lambda x: jnp.exp(jnp.sin(x))),
    world("pallas_rms_norm", rms_kernel, lambda: (normal(1730, 6, 8),), "a kernel with a right rule", PRIMITIVES,
          primal=lambda x: x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)),
    world("custom_root_squared", root_squared, lambda: (f32(0.7), f32(2.0)), "one variable enters several times",
          ROOTS),
    world("custom_root_bisection", root_by_bisection, lambda: (array(0.5, 2.0, 9.0),), "a bisection inside custom_root",
          ROOTS, self_test=None),
    world("custom_root_while", root_by_while, lambda: (array(0.5, 2.0),), "a while loop inside custom_root", ROOTS),
    world("custom_root_mapped", lambda a, b: jax.vmap(cubic(divided))(a, b), lambda: (uniform(1731, 3, low=0.3),
          normal(1732, 3)), "under vmap", ROOTS),
    world("gradient_inside", residual_loss, lambda: ({"a": normal(1733, 3), "b": normal(1734, 3), "c": normal(1735, 3)},
          uniform(1736, 4)), "a loss of derivatives", INNER),
    world("divergence_inside", divergence, lambda: (normal(1737, 3), normal(1738, 3, 3)), "forward mode inside", INNER),
    world("descent_inside", inner_descent, lambda: (normal(1739, 4, scale=0.4), f32(0.1)), "meta-learning", INNER),
    world("gradient_of_rule", rule_and_gradient, x4(1740), "the gradient of a rule as the function", INNER),
    world("gradient_of_rule_second", vjp(jnp.sinh, lambda g, x: (g * jnp.cosh(x),)), x4(1741), "order 2", INNER,
          order=2, primal=jnp.sinh),
    world("push_rule_second", jvp(jnp.arctan, lambda p, t: t[0] / (1 + p[0] ** 2)), x4(1742), "order 2 of a custom_jvp",
          INNER, order=2, primal=jnp.arctan),
    world("key_folded", lambda k, x: x * jax.random.normal(jax.random.fold_in(k, 3), x.shape, f32).astype(x.dtype),
          lambda: (key(9), normal(1743, 4)), "random, but the same at each call"),
]
# fmt: on
