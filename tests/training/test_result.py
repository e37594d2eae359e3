"""What a result says, of states that are written down by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn.training.observers import Best, Divergence, Recorded
from jnn.training.program import State
from jnn.training.result import FitResult
from jnn.training.stopping import GradientNorm, Patience
from jnn.training.structure import as_data

RULES = as_data((Patience(3), GradientNorm(0.5)), jnp.float32)


def result(epochs, codes, limit=4, room=8, rules=RULES, interruption=None, validated=(2,)):
    epochs, codes = np.asarray(epochs), np.asarray(codes)
    lead = epochs.shape
    place = np.broadcast_to(np.arange(room), (*lead, room))
    record = Recorded(10.0 + place, 20.0 + place, np.isin(place + 1, validated))
    known = np.full(lead, bool(validated))
    best = Best({"w": np.ones((*lead, 2))}, np.full(lead, 0.25), np.asarray(np.minimum(epochs, 2)), known)
    state = State({"w": np.zeros((*lead, 2))}, None, None, epochs, codes, record, best, (), None, None)
    return FitResult(state, rules, limit, interruption)


def test_risks_are_shown_up_to_the_limit_and_nan_where_there_are_none() -> None:
    history = result(3, 0).history
    np.testing.assert_array_equal(history.train_error, [10, 11, 12, np.nan])
    np.testing.assert_array_equal(history.validation_error, [np.nan, 21, np.nan, np.nan])
    several = result([[0, 4], [2, 1]], np.zeros((2, 2), int)).history
    assert several.train_error.shape == several.validation_error.shape == (2, 2, 4)
    run = np.arange(4) < np.array([[[0], [4]], [[2], [1]]])
    np.testing.assert_array_equal(np.isnan(several.train_error), ~run)
    np.testing.assert_array_equal(np.isnan(several.validation_error), ~(run & (np.arange(4) == 1)))


def test_which_parameters_and_risks_it_names() -> None:
    one = result(4, 0)
    assert (one.params["w"][0], one.last_params["w"][0]) == (1, 0)
    assert (int(one.epochs), int(one.best_epoch), float(one.best_validation_error)) == (4, 2, 0.25)
    assert np.isinf(result(4, 0, validated=()).best_validation_error)


def test_why_training_stopped() -> None:
    """0: it ran; 1: diverged; from 2 on the rules in their order."""
    assert result(4, 0).stop_reason == "all 4 epochs were run"
    assert result(3, 0).stop_reason == "interrupted"
    assert result(3, 0, interruption="by the callback").stop_reason == "by the callback"
    assert result(3, 2, interruption="by the callback").stop_reason == Patience(3).reason
    assert result(3, 1).stop_reason == Divergence.reason
    assert result(3, 3).stop_reason == GradientNorm(0.5).reason
    assert [bool(result(3, code).diverged) for code in (0, 1, 2)] == [False, True, False]
    rules = as_data((Patience(np.array([[1, 2], [3, 4]])),), jnp.float32)
    reasons = result(np.full((2, 2), 3), [[2, 1], [0, 2]], rules=rules).stop_reason
    expected = [[Patience(1).reason, Divergence.reason], ["interrupted", Patience(4).reason]]
    assert reasons.tolist() == expected
    np.testing.assert_array_equal(result([3, 3], [1, 2]).diverged, [True, False])


def test_inside_of_a_program_numbers_are_known_there_only() -> None:
    @jax.jit
    def ask(state):
        inside = FitResult(state, RULES, 4)
        with pytest.raises(ValueError, match="stop_reason needs values"):
            _ = inside.stop_reason
        return inside.history, inside.best_validation_error, inside.diverged

    plain = result(3, 1)
    history, error, diverged = ask(plain.state)
    for found, expected in zip(history, plain.history, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert float(error) == 0.25
    assert bool(diverged)
