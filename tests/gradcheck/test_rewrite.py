"""Custom rules are removed wherever JAX lets them hide, and what remains differentiates as the primal does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend import core

from jnn.gradcheck.oracle import jaxprs
from jnn.gradcheck.oracle.rewrite import without_rules


def wrong_rule(primal):
    """`primal` with a rule that says 7 for every derivative."""
    rule = jax.custom_vjp(primal)
    rule.defvjp(lambda x: (primal(x), x), lambda x, g: (0 * g + 7,))
    return rule


sine = wrong_rule(jnp.sin)


@jax.custom_jvp
def nested(x):
    return 2 * sine(x)


nested.defjvp(lambda p, t: (nested(p[0]), 100 * t[0]))


def loop(x):
    return lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, nested(c[1])), (0, x))[1]


def lanes(x):
    """No, one and two iterations, in one loop whose lanes end one by one."""
    step = lambda c: (c[0] + 1, nested(c[1]))  # noqa: E731
    return jax.vmap(lambda n: lax.while_loop(lambda c: c[0] < n, step, (0, x))[1])(jnp.arange(3)).sum()


def scan(x):
    carry, ys = lax.scan(lambda c, u: (sine(c) * u, nested(c)), x, jnp.arange(1.0, 4.0, dtype=x.dtype))
    return carry + jnp.sum(ys)


def plain_scan(x):
    total = 0.0
    for u in (1.0, 2.0, 3.0):
        total, x = total + 2 * jnp.sin(x), jnp.sin(x) * u
    return x + total


def vjp_inside(x):
    return jax.vmap(sine)(x * jnp.ones(3, x.dtype)).sum()


# (function with rules, the same written plainly)
CASES = {
    "plain": (sine, jnp.sin),
    "nested": (nested, lambda x: 2 * jnp.sin(x)),
    "jit": (jax.jit(nested), lambda x: 2 * jnp.sin(x)),
    "jit in jit": (jax.jit(lambda x: jax.jit(nested)(x) * x), lambda x: 2 * jnp.sin(x) * x),
    "scan": (scan, plain_scan),
    "while": (loop, lambda x: 2 * jnp.sin(2 * jnp.sin(2 * jnp.sin(x)))),
    "while under vmap": (lanes, lambda x: x + 2 * jnp.sin(x) + 2 * jnp.sin(2 * jnp.sin(x))),
    "fori": (lambda x: lax.fori_loop(0, 2, lambda i, c: sine(c), x), lambda x: jnp.sin(jnp.sin(x))),
    "cond": (lambda x: lax.cond(x > 0, sine, nested, x), jnp.sin),
    "switch": (lambda x: lax.switch(1, [sine, nested, jnp.cos], x), lambda x: 2 * jnp.sin(x)),
    "remat": (jax.checkpoint(lambda x: nested(x) * x), lambda x: 2 * jnp.sin(x) * x),
    "vmap": (vjp_inside, lambda x: 3 * jnp.sin(x)),
    "map": (lambda x: lax.map(nested, x * jnp.ones(3, x.dtype)).sum(), lambda x: 6 * jnp.sin(x)),
    "stop_gradient": (lambda x: lax.stop_gradient(jnp.sin(x)) * x, lambda x: jnp.sin(x) * x),
    "relu": (jax.nn.relu, lambda x: jnp.maximum(x, 0)),
    "logsumexp": (lambda x: jax.nn.logsumexp(jnp.stack([x, 2 * x])), lambda x: jnp.log(jnp.exp(x) + jnp.exp(2 * x))),
    "solve": (lambda x: jnp.linalg.solve(x * jnp.eye(2, dtype=x.dtype), jnp.ones(2, x.dtype))[0], lambda x: 1 / x),
    "custom root": (
        lambda x: lax.custom_root(
            lambda y: y**3 - x,
            jnp.ones_like(x),
            lambda f, y: lax.fori_loop(0, 30, lambda _, y: y - f(y) / (3 * y**2), y),
            lambda g, y: y / g(jnp.ones_like(y)),
        ),
        jnp.cbrt,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_removed_everywhere(name):
    fun, plain = CASES[name]
    x = jnp.float64(0.7)
    jaxpr, _ = jaxprs.trace(fun, x)
    rewritten, removed, kept = without_rules(jaxpr)
    left = {e.primitive.name for e in jaxprs.all_equations(rewritten)}
    assert not left & {*jaxprs.RULES, "stop_gradient", "custom_linear_solve"}
    assert removed
    assert not kept
    value, slope = jax.jvp(lambda v: core.jaxpr_as_fun(rewritten)(v)[0], (x,), (jnp.float64(1.0),))
    # The same operations in the same order, up to how sums are associated: a few ulps of float64.
    np.testing.assert_allclose(value, plain(x), rtol=1e-14)
    np.testing.assert_allclose(slope, jax.jvp(plain, (x,), (jnp.float64(1.0),))[1], rtol=1e-13)


def test_values_are_untouched():
    x = jnp.asarray(np.linspace(-2, 2, 12).reshape(3, 4), jnp.float32)

    def fun(x, key):
        noise = jax.random.normal(key, x.shape, x.dtype)
        return jax.nn.gelu(nested(x) + noise) @ sine(x).T

    key = jax.random.key(3)
    jaxpr, _ = jaxprs.trace(fun, x, key)
    rewritten, _, _ = without_rules(jaxpr)
    np.testing.assert_array_equal(jax.jit(core.jaxpr_as_fun(rewritten))(x, key)[0], jax.jit(fun)(x, key))


def test_names_and_sites():
    jaxpr, _ = jaxprs.trace(lambda x: nested(x) + lax.stop_gradient(x), jnp.float64(1.0))
    _, removed, _ = without_rules(jaxpr)
    assert [r.split(" at ")[0] for r in removed] == ["custom_jvp nested", "custom_vjp sin", "stop_gradient"]
    assert all("test_rewrite.py" in r for r in removed)


def test_scan_arity_is_read_from_shapes():
    def fun(a, x):
        return lax.scan(lambda c, u: ((c[0] * a, c[1] + u), u * a), (x, x), jnp.ones((5, 3)))

    jaxpr, _ = jaxprs.trace(fun, jnp.ones(3), jnp.ones(3))
    (eqn,) = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
    assert jaxprs.scan_arity(eqn) == (1, 2)


def test_weakly_typed_carry():
    def fun(x):
        return lax.scan(lambda c, _: (c * x, None), 1.0, None, length=2)[0]

    jaxpr, _ = jaxprs.trace(fun, jnp.float32(3.0))
    rewritten, _, _ = without_rules(jaxpr)
    assert core.jaxpr_as_fun(rewritten)(jnp.float32(3.0))[0] == 9.0
