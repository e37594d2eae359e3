"""The experiment on activations: known slopes, and wrong ones are found."""

import math

import jax.numpy as jnp
import pytest

from experiments.experiment import Session
from experiments.lecture import activations
from jnn.activations import Activation, logistic, relu, softsign, tanh


def test_every_claim_holds_for_the_lectures_functions() -> None:
    outcome = activations.EXPERIMENT.run(Session(seed=3, size="tiny"))
    assert [v.holds for v in outcome.verdicts] == [True] * 4
    assert [row[0].split(",")[0] for row in outcome.tables[0].rows] == list(activations.SATURATING)


def test_flat_beyond_in_closed_form() -> None:
    """softsign: (1 + a)⁻² = 1/100 at a = 9; logistic: z(1 − z) = 1/100 where exp(−a) = 49 − √2400."""
    assert activations.flat_beyond(activations.examine(softsign, 50)) == pytest.approx(9)
    assert activations.flat_beyond(activations.examine(logistic, 50)) == pytest.approx(-math.log(49 - 2400**0.5))
    assert activations.flat_beyond(activations.examine(relu, 50)) is None


@pytest.mark.parametrize("error", [1e-3, 1e-7])
def test_a_wrong_derivative_is_found(error: float) -> None:
    wrong = Activation("tanh", tanh.h, lambda a: tanh.derivative(a) * (1 + error))
    assert activations.derivatives_agree([activations.examine(wrong, 201)]).holds is False


def test_differences_find_what_autodiff_of_a_wrong_rule_would_not() -> None:
    """Differences are a second opinion: 1e-7 is larger than their bars."""
    found = activations.examine(Activation("tanh", tanh.h, lambda a: tanh.derivative(a) + 1e-7), 201)
    assert (abs(found.slope - found.difference) > found.bar).any()


def test_a_function_that_does_not_saturate_refutes_the_claim() -> None:
    leaky = Activation("relu", lambda a: jnp.maximum(0.01 * a, a), lambda a: jnp.where(a > 0, 1.0, 0.01))
    assert activations.examine(leaky, 50).sides == "none"
    assert activations.saturation([activations.examine(leaky, 50)]).holds is False
    assert activations.relu_slopes(activations.examine(leaky, 50)).holds is False


def test_a_steeper_logistic_refutes_the_bound() -> None:
    steep = Activation("logistic", lambda a: logistic.h(1.01 * a), lambda a: 1.01 * logistic.derivative(1.01 * a))
    assert activations.quarter(activations.examine(steep, 50)).holds is False
