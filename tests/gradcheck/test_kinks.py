"""Kinks: any value between the one-sided derivatives is a kink, anything else fails; elsewhere nothing is excused."""

import jax
import jax.numpy as jnp
import pytest

from jnn.gradcheck import check

from .rules import pulled, pushed

ZERO = jnp.asarray([-1.0, 0.0, 2.0], jnp.float32)


def relu_like(at_zero, above=1.0):
    slope = lambda x: jnp.where(x > 0, above, jnp.where(x == 0, at_zero, 0)).astype(x.dtype)  # noqa: E731
    return pulled(lambda x: jnp.maximum(x, 0), lambda g, x: (g * slope(x),))


@pytest.mark.parametrize(
    ("at_zero", "verdict"), [(0.0, "kink"), (0.3, "kink"), (0.5, "kink"), (1.0, "kink"), (1.1, "fail"), (-0.2, "fail")]
)
def test_relu_at_zero(at_zero, verdict):
    report = check(relu_like(at_zero), ZERO, power=False)
    assert report.verdict == verdict, str(report)
    if verdict == "fail":
        assert report.worst.index == (1,)


def test_a_wrong_slope_beside_a_kink_is_not_excused():
    report = check(relu_like(0.0, above=1.01), ZERO, power=False)
    assert report.verdict == "fail"
    assert report.worst.index == (2,)


def test_forward_rules_at_a_kink():
    slope = lambda x: jnp.sign(x) + (x == 0)  # noqa: E731
    assert check(pushed(jnp.abs, lambda a, t: slope(a[0]) * t[0]), ZERO, power=False).verdict == "kink"
    assert check(pushed(jnp.abs, lambda a, t: 3 * slope(a[0]) * t[0]), ZERO, power=False).verdict == "fail"


PLAIN = {
    "abs": (jnp.abs, ZERO),
    "relu": (jax.nn.relu, ZERO),
    "max of ties": (jnp.max, jnp.asarray([1.0, 3.0, 3.0, 3.0], jnp.float32)),
    "sort of ties": (
        lambda x: jnp.sort(x) * jnp.arange(1, 4, dtype=x.dtype),
        jnp.asarray([2.0, 1.0, 2.0], jnp.float32),
    ),
    "clip at its end": (lambda x: jnp.clip(x, 0, 1), jnp.asarray([0.0, 0.5, 1.0], jnp.float32)),
    "norm at zero": (lambda x: jnp.linalg.norm(x, 1), jnp.zeros(3, jnp.float32)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_functions_at_kinks_never_fail(name):
    fun, x = PLAIN[name]
    report = check(fun, x, power=False)
    assert report.verdict == "kink", str(report)


def test_a_kink_that_is_not_met_is_none():
    assert check(jax.nn.relu, jnp.asarray([-1.0, 1e-6, 2.0], jnp.float32), power=False).verdict == "pass"


def test_many_kinks_at_once():
    x = jnp.where(jnp.arange(5000) % 3 == 0, 0.0, 1.0).astype(jnp.float32)
    assert check(relu_like(0.25), x, power=False).verdict == "kink"
    assert check(relu_like(1.5), x, power=False).verdict == "fail"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_differences_confirm_a_rule_against_a_select_that_hides_a_term(dtype):
    # Σ w x where 0 · anything is 0: autodiff of the primal drops the derivative by a weight that is 0, the rule has it.
    # In bfloat16 what is missing is smaller than the rounding allowed in the sum, but not than that of the formula.
    x = jnp.asarray([2.5, 1.5, 3.5, 0.5, 5.5, 2.0], dtype)
    w = jnp.asarray([0.0, 1.0, -1.0, 2.0, -3.0, 0.5], dtype)

    def rule(part):
        def forward(args, tangents):
            share = jnp.where(args[1] == 0, part, 1).astype(dtype)
            return jnp.sum(args[1] * tangents[0] + share * args[0] * tangents[1])

        return pushed(lambda x, w: jnp.sum(jnp.where(w != 0, w * x, 0)), forward)

    right, wrong = check(rule(1.0), x, w, power=False), check(rule(0.5), x, w, power=False)
    assert right.verdict == "pass", str(right)
    assert "differences confirm" in right.leaves[1].note
    assert wrong.verdict == "fail"
