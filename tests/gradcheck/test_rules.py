"""`check_rules`: every rule inside a function, on what really reaches it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnn import gradcheck
from jnn.gradcheck import check_rules

from .rules import numbers, pulled, pushed, wrong_product


def sine(x):
    return jnp.sin(x)


def cube(x):
    return x**3


def clipped(x):
    return jnp.minimum(x, 2)


right_sine = pulled(sine, lambda g, x: (g * jnp.cos(x),))
wrong_cube = pulled(cube, lambda g, x: (2 * g * x**2,))
right_exp = pushed(jnp.exp, lambda a, t: jnp.exp(a[0]) * t[0])
# Wrong beyond 2 only, which random inputs of size one would hardly meet.
wrong_far = pulled(clipped, lambda g, x: (g,))


def model(p, x, far):
    h = right_sine(x @ p["w"])
    h, _ = lax.scan(lambda c, _: (right_exp(right_sine(c)), None), h, None, length=3)
    h = lax.cond(jnp.sum(h) > 0, right_sine, wrong_cube, h)
    h = lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, right_exp(c[1] - 1)), (0, lax.stop_gradient(h)))[1] + h
    return jnp.sum(jax.jit(right_sine)(h) * wrong_far(far * jnp.ones_like(h)))


P, X = {"w": numbers(3, 2)}, numbers(4, 3, seed=1)


def test_values_and_places():
    report = check_rules(model, P, X, jnp.float32(1.5))
    assert report.verdict == "pass", str(report)
    names = [(r.kind, r.name) for r in report.rules]
    assert names.count(("custom_vjp", "sine")) == 5
    assert names.count(("custom_jvp", "exp")) == 3
    assert ("custom_vjp", "cube") not in names
    assert "not reached" in report.sampled[0]
    assert all("test_rules.py" in r.site for r in report.rules)
    assert {r.visit for r in report.rules} == {
        "call", "iteration 1 of 3", "iteration 3 of 3", "call, random cotangents"
    }  # fmt: skip


def test_real_values_find_what_others_do_not():
    report = check_rules(model, P, X, jnp.float32(3.0))
    assert report.verdict == "fail"
    assert [r.name for r in report.rules if r.report.verdict == "fail"] == ["clipped"]
    assert "clipped" in report.summary
    assert "clipped" in str(report)


def test_the_branch_that_is_taken():
    flipped = jax.tree.map(lambda w: w, P)
    report = check_rules(
        lambda p, x: jnp.sum(lax.cond(jnp.sum(x) > 1e9, right_sine, wrong_cube, x @ p["w"])), flipped, X
    )
    assert [r.name for r in report.rules] == ["cube"]
    assert report.rules[0].report.leaves[0].pattern == "factor 2/3"
    assert report.verdict == "fail"


def test_cotangents_are_the_real_ones():
    _, operands, cotangents = gradcheck.rule_call(lambda x: jnp.sum(3 * right_sine(x)), X[0])
    np.testing.assert_array_equal(operands[0], X[0])
    np.testing.assert_array_equal(cotangents[0], np.full(3, 3.0, np.float32))


def test_nothing_to_check():
    report = check_rules(lambda x: jnp.sum(jnp.sin(x)), X)
    assert report.verdict == "pass"
    assert "no custom rule" in report.summary


def test_more_calls_than_asked_for():
    report = check_rules(lambda x: jnp.sum(right_sine(right_sine(right_sine(x)))), X[0], most=1)
    assert len(report.rules) == 1
    assert "1 of 3" in report.sampled[0]


def test_a_snippet_calls_the_wrong_rule_again():
    def loss(x, y):
        return jnp.sum(jax.nn.relu(wrong_product(x, y)))

    x, y = numbers(4, 3), numbers(4, 3, seed=1)
    (report,) = [r.report for r in check_rules(loss, x, y).rules if r.report.verdict == "fail"]
    shown = []
    exec(report.snippet, {"fun": loss, "args": (x, y), "jax": jax, "gradcheck": gradcheck, "print": shown.append})
    (worst,) = [leaf.worst for leaf in report.leaves if leaf.verdict == "fail"]
    # The first leaf of the call's own cotangents; the random ones of the report are others.
    assert len(shown[0]) == 2
    reached = (jnp.sin(x) * y > 0).astype(x.dtype)
    np.testing.assert_allclose(shown[0][1], -reached * jnp.sin(x), rtol=1e-5)
    assert worst.path == "y"


def test_rules_in_the_primal_of_a_rule_are_named():
    outer = pulled(lambda x: 2 * jax.nn.relu(x), lambda g, x: (2 * g * (x > 0),))
    report = check_rules(lambda x: jnp.sum(outer(x)), numbers(4, 3))
    assert report.verdict == "pass"
    (hidden,) = report.not_rewritten
    assert "rules inside the primal" in hidden
