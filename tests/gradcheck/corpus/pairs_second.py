"""Pairs of which the first derivative is right and the second wrong, and rules that look at which of their arguments
are perturbed: right when all are, wrong when one is.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from .case import Case, array, f32, i32, jvp, normal, plain, uniform, vjp

SECOND = "order2"
PERTURBED = "perturbed arguments"


def second(name, right, wrong, args, note, primal, **more):
    return Case(name, SECOND, right, args, wrong, note, order=2, how="order2", primal=primal, **more)


def sinc(x):
    """sin x / x with its limit at 0."""
    small = jnp.abs(x) < 1e-2
    y = jnp.where(small, 1, x)
    return jnp.where(small, 1 - x**2 / 6 + x**4 / 120, jnp.sin(y) / y)


def sinc_slope(x, cubic):
    small = jnp.abs(x) < 1e-2
    y = jnp.where(small, 1, x)
    return jnp.where(small, cubic(x), (y * jnp.cos(y) - jnp.sin(y)) / y**2)


def sinc_rule(cubic):
    return jvp(sinc, lambda p, t: sinc_slope(p[0], cubic) * t[0])


def root(x):
    """√x by a while loop."""
    step = lambda s: (s[0] + 1, 0.5 * (s[1] + x / s[1]))  # noqa: E731
    return lax.while_loop(lambda s: s[0] < 12, step, (i32(0), jnp.ones_like(x)))[1]


def root_rule(hold):
    """The slope through the rule itself, so that it can be differentiated again."""
    rule = jax.custom_jvp(root)
    rule.defjvp(lambda p, t: (rule(p[0]), 0.5 * t[0] / hold(rule(p[0]))))
    return lambda x: jnp.sum(rule(x) * x)


def backward_root_rule(hold):
    """The same as a custom_vjp over a while loop."""
    rule = jax.custom_vjp(root)
    rule.defvjp(lambda x: (rule(x), x), lambda x, g: (0.5 * g / hold(rule(x)),))
    return lambda x: jnp.sum(rule(x) ** 3)


def cube_root(a):
    return lax.fori_loop(0, 30, lambda _, x: x - (x**3 + x - a) / (3 * x**2 + 1), a)


def implicit_rule(hold):
    rule = jax.custom_jvp(cube_root)

    @rule.defjvp
    def push(p, t):
        x = rule(p[0])
        return x, t[0] / (3 * hold(x) ** 2 + 1)

    return lambda a: jnp.sum(rule(a) ** 2)


def huber(x):
    return jnp.where(jnp.abs(x) < 1, 0.5 * x**2, jnp.abs(x) - 0.5)


def huber_rule(smooth):
    """The right slope, clip(x), or one whose own rule is straight through."""

    @jax.custom_vjp
    def clip(x):
        return jnp.clip(x, -1, 1)

    inside = lambda x: (jnp.abs(x) < 1).astype(x.dtype)  # noqa: E731
    clip.defvjp(lambda x: (clip(x), x), lambda x, g: (g * (inside(x) if smooth else 1.0),))
    return vjp(huber, lambda g, x: (g * clip(x),))


def norm(x):
    return jnp.sqrt(jnp.sum(x**2))


def norm_rule(hold):
    return vjp(norm, lambda g, x: (g * x / hold(norm(x)),))


def quadratic(a, x):
    return 0.5 * x @ a @ x


def quadratic_rule(transposed):
    """The gradient is right for every A; its derivative by A is not."""

    def pull(g, a, x):
        ax = a @ x if transposed else lax.stop_gradient(a) @ x
        return 0.5 * g * jnp.outer(x, x), 0.5 * g * (ax + a.T @ x)

    return vjp(quadratic, pull)


def log_density(x, scale):
    return jnp.sum(-0.5 * (x / scale) ** 2 - jnp.log(scale))


def density_rule(hold):
    def push(p, t):
        x, s = p
        dx, ds = t
        return jnp.sum(-x / s**2 * dx + (hold(x**2) / s**3 - 1 / s) * ds)

    return jvp(log_density, push)


def product_push(both):
    def push(p, t):
        (x, y), (dx, dy) = p, t
        return jnp.sum(jnp.exp(y) * dx + (x if both else lax.stop_gradient(x)) * jnp.exp(y) * dy)

    return jvp(lambda x, y: jnp.sum(x * jnp.exp(y)), push)


def cg_energy(a):
    """½ bᵀ A(a)⁻¹ b for a tridiagonal A, by a scan."""
    b = jnp.ones_like(a)
    return lax.scan(lambda s, v: (0.3 * s + v[1] / (2 + v[0] ** 2), None), jnp.zeros_like(a[0]), (a, b))[0]


def energy_rule(power):
    """A saved denominator used once more, detached."""

    def pull(g, a):
        n = a.shape[0]
        weight = jnp.asarray([0.3 ** (n - 1 - i) for i in range(n)], f32).astype(a.dtype)
        d = 2 + a**2
        return (-2 * g * weight * a / (d * (d if power else lax.stop_gradient(d))),)

    return vjp(cg_energy, pull)


# Rules that look at what is perturbed.


def symbolic(primal, fwd, bwd):
    rule = jax.custom_vjp(plain(primal))
    rule.defvjp(fwd, bwd, symbolic_zeros=True)
    return rule


def product(x, y):
    return jnp.sin(x) * y


def product_by_need(lonely):
    """The part of each argument computed only where it is needed; `lonely` scales y's where x is not perturbed."""

    def fwd(x, y):
        saved = (x.value, y.value, x.perturbed, y.perturbed)
        return product(x.value, y.value), tuple(v if not isinstance(v, bool) else (() if v else None) for v in saved)

    def bwd(saved, g):
        x, y, need_x, need_y = saved
        if isinstance(g, SymbolicZero):
            return jnp.zeros_like(x), jnp.zeros_like(y)
        dx = g * jnp.cos(x) * y if need_x is not None else jnp.zeros_like(x)
        dy = g * jnp.sin(x) if need_y is not None else jnp.zeros_like(y)
        return dx, dy if need_x is not None else lonely * dy

    return symbolic(product, fwd, bwd)


def zero_tangent(t, x):
    return jnp.zeros_like(x) if isinstance(t, SymbolicZero) else t


def jvp_by_need(primal, push):
    rule = jax.custom_jvp(plain(primal))
    rule.defjvp(lambda p, t: (primal(*p), push(p, t)), symbolic_zeros=True)
    return rule


def quotient(x, y):
    return x / y


def quotient_push(confused):
    """Where only y is perturbed, the wrong rule forgets the sign."""

    def push(p, t):
        x, y = p
        dx, dy = zero_tangent(t[0], x), zero_tangent(t[1], y)
        alone = isinstance(t[0], SymbolicZero) and not isinstance(t[1], SymbolicZero)
        sign = 1.0 if confused and alone else -1.0
        return dx / y + sign * x * dy / y**2

    return jvp_by_need(quotient, push)


def affine(x, w, b):
    return x @ w + b[None, :]


def affine_by_need(last):
    """A dense layer that skips the gradient of frozen weights; the wrong one skips that of the bias with them."""

    def fwd(x, w, b):
        return affine(x.value, w.value, b.value), (x.value, w.value, () if w.perturbed else None)

    def bwd(saved, g):
        x, w, need = saved
        g = zero_tangent(g, jnp.zeros((x.shape[0], w.shape[1]), x.dtype))
        db = jnp.sum(g, 0)
        return g @ w.T, x.T @ g if need is not None else jnp.zeros_like(w), db if need is not None else last * db

    return symbolic(affine, fwd, bwd)


def two_outputs(x, y):
    return x * y, jnp.tanh(x)


def outputs_by_need(weight):
    """Where y is frozen, a shortcut for x's gradient, which the wrong rule takes from the first output only."""

    def fwd(x, y):
        return two_outputs(x.value, y.value), (x.value, y.value, () if y.perturbed else None)

    def bwd(saved, g):
        x, y, need = saved
        ga, gb = (zero_tangent(v, x) for v in g)
        second = gb * (1 - jnp.tanh(x) ** 2)
        return ga * y + (second if need is not None else weight * second), ga * x

    return symbolic(two_outputs, fwd, bwd)


def product_rule(second_leaf):
    primal = lambda x, y: jnp.cos(x) * y**2  # noqa: E731
    return vjp(primal, lambda g, x, y: (-g * jnp.sin(x) * y**2, second_leaf * 2 * g * jnp.cos(x) * y))


def penalized(x, penalty):
    return jnp.sum(x**2) * penalty


def penalized_push(factor):
    """The penalty alone perturbed, as when it is tuned."""

    def push(p, t):
        x, c = p
        dx, dc = zero_tangent(t[0], x), zero_tangent(t[1], c)
        alone = isinstance(t[0], SymbolicZero)
        return jnp.sum(2 * x * dx) * c + (factor if alone else 1.0) * jnp.sum(x**2) * dc

    return jvp_by_need(penalized, push)


def same(x):
    return x


def x5(seed):
    return lambda: (normal(seed, 5),)


def positive(seed):
    return lambda: (uniform(seed, 4, low=0.5, high=3.0),)


def alone(name, right, wrong, args, note, primal, **more):
    return Case(name, PERTURBED, right, args, wrong, note, primal=primal, how="alone", **more)


# fmt: off
CASES = [
    second("sinc_second_at_zero", sinc_rule(lambda x: -x / 3), sinc_rule(lambda x: -lax.stop_gradient(x) / 3),
           lambda: (array(0.0, 0.5, -2.0),), "a custom_jvp whose second derivative at 0 is 0 for −1/3", sinc),
    second("while_root_push", root_rule(same), root_rule(lax.stop_gradient), positive(1400),
           "a while loop with a custom_jvp: the value in its slope held constant", lambda x: jnp.sum(jnp.sqrt(x) * x)),
    second("while_root_pull", backward_root_rule(same), backward_root_rule(lax.stop_gradient), positive(1401),
           "the same with a custom_vjp", lambda x: jnp.sum(jnp.sqrt(x) ** 3)),
    second("implicit_second", implicit_rule(same), implicit_rule(lax.stop_gradient), x5(1402),
           "the implicit derivative with its root held constant", lambda a: jnp.sum(cube_root(a) ** 2)),
    second("huber_second", huber_rule(True), huber_rule(False), lambda: (array(-2.0, 0.5, 1.7, -0.2),),
           "the slope's own rule is straight through: curvature where there is none", huber),
    second("norm_second", norm_rule(same), norm_rule(lax.stop_gradient), x5(1403), "the Hessian of the norm without "
           "its projection", norm),
    second("quadratic_second", quadratic_rule(True), quadratic_rule(False),
           lambda: (normal(1404, 3, 3), normal(1405, 3)), "the mixed derivative by A and x loses one of two terms",
           quadratic),
    second("density_second", density_rule(same), density_rule(lax.stop_gradient),
           lambda: (normal(1406, 4), uniform(1407, 4, low=0.8, high=1.5)), "the mixed derivative by x and scale in a "
           "custom_jvp", log_density),
    second("mixed_partial_push", product_push(True), product_push(False), lambda: (normal(1408, 3), normal(1409, 3)),
           "∂²/∂x∂y differs from ∂²/∂y∂x", lambda x, y: jnp.sum(x * jnp.exp(y))),
    second("energy_second", energy_rule(True), energy_rule(False), x5(1410),
           "half of a squared denominator detached", cg_energy),
    alone("product_one_perturbed", product_by_need(1.0), product_by_need(2.0),
          lambda: (normal(1411, 4), normal(1412, 4)), "y's gradient doubled where x is not differentiated", product),
    alone("quotient_one_perturbed", quotient_push(False), quotient_push(True),
          lambda: (normal(1413, 4), uniform(1414, 4, low=0.5, high=2.0)), "a custom_jvp: the sign, where only the "
          "denominator is perturbed", quotient),
    alone("dense_frozen_weights", affine_by_need(1.0), affine_by_need(0.0),
          lambda: (normal(1415, 3, 2), normal(1416, 2, 4), normal(1417, 4)), "the bias freezes with the weights",
          affine),
    alone("outputs_one_perturbed", outputs_by_need(1.0), outputs_by_need(0.0),
          lambda: (normal(1418, 4), normal(1419, 4)), "the second output's cotangent lost where y is frozen",
          two_outputs),
    Case("argnums_second_leaf", PERTURBED, product_rule(1.0), lambda: (normal(1421, 4), normal(1422, 4)),
         product_rule(0.9), "argnums=1: the leaf that is asked for is 10% too small",
         primal=lambda x, y: jnp.cos(x) * y**2, check_kwargs={"argnums": 1}),
    alone("penalty_one_perturbed", penalized_push(1.0), penalized_push(0.5), lambda: (normal(1420, 4), f32(0.3)),
          "half, where only the penalty is perturbed", penalized),
]
# fmt: on
