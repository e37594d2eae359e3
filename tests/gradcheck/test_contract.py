"""The contract of a pullback; each wrong rule here breaks one part of it."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from jnn.gradcheck import check

from .rules import numbers, pulled, right_product
from .test_check import leaf, outcome

X = numbers(9, seed=5)


def sine(change):
    return pulled(jnp.sin, lambda g, x: (change(g * jnp.cos(x), g, x),))


BROKEN = {
    "cotangent zero": sine(lambda d, g, x: d + 0.1 * x),
    "homogeneous and additive": sine(lambda d, g, x: d * g),
    "value with and without derivative": None,
    "repetition": None,
    "vmap and sum over a batch": None,
}


def test_all_parts_hold_for_a_right_rule():
    report = check(right_product, X, X[::-1], power=False)
    parts = [c for c in report.checks if c.name in BROKEN or c.name == "eager and jit"]
    assert [c.outcome for c in parts] == ["pass"] * 6
    assert report.verdict == "pass"


@pytest.mark.parametrize("name", [k for k, v in BROKEN.items() if v is not None])
def test_linearity(name):
    report = check(BROKEN[name], X, power=False)
    assert outcome(report, name) == "fail"
    assert report.leaves[0].verdict == "fail"


def test_sign_of_the_gradient_is_not_homogeneous():
    assert outcome(check(sine(lambda d, g, x: jnp.sign(d)), X, power=False), "homogeneous and additive") == "fail"


def test_another_value_under_differentiation():
    rule = jax.custom_vjp(jnp.sin)
    rule.defvjp(lambda x: (x - x**3 / 6, x), lambda x, g: (g * jnp.cos(x),))
    report = check(rule, X, power=False)
    assert outcome(report, "value with and without derivative") == "fail"
    assert report.verdict == "fail"
    assert report.leaves[0].verdict == "pass"


def test_a_rule_with_a_memory():
    calls = itertools.count()

    def backward(g, x):
        return (g * jnp.cos(x) * (1 + next(calls)),)

    report = check(pulled(jnp.sin, backward), X, power=False)
    assert report.verdict == "fail"
    assert outcome(report, "repetition") == "fail"


def test_a_batching_rule_of_its_own():
    @jax.custom_batching.custom_vmap
    def kernel(g, x):
        return g * jnp.cos(x)

    @kernel.def_vmap
    def batched(size, in_batched, g, x):
        g, x = (v if b else jnp.broadcast_to(v, (size, *v.shape)) for v, b in zip((g, x), in_batched, strict=True))
        return g * jnp.cos(x) / size, True

    report = check(pulled(jnp.sin, lambda g, x: (kernel(g, x),)), X, power=False)
    assert outcome(report, "vmap and sum over a batch") == "fail"
    assert leaf(report, "x").verdict == "fail"


def test_a_rule_that_is_wrong_without_jit():
    def backward(g, x):
        return (g * jnp.cos(x) * (1.0 if isinstance(x, jax.core.Tracer) else 2.0),)

    report = check(pulled(jnp.sin, backward), X, power=False)
    assert outcome(report, "eager and jit") == "fail"
    assert report.verdict == "fail"


def test_what_cannot_run_says_why():
    report = check(jnp.sin, X, power=False)
    skipped = [c for c in report.checks if not c.ran]
    assert skipped
    assert all(c.why for c in skipped)
