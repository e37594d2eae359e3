"""What is told of an epoch, and what becomes of it: all cases, beside plain conditions."""

import itertools

import jax.numpy as jnp
import numpy as np

from jnn.training.observers import Best, Divergence, KeepBest, Record
from jnn.training.stopping import Observation


def test_an_epoch_that_says_no_more_was_validated_finite_and_active() -> None:
    assert Observation(1, 0.5, 0.25, 0.0)[4:] == (True, True, True, None, None)


def test_risks_are_written_in_their_epochs_place() -> None:
    record = Record(3)
    state = record.init(jnp.float32)
    assert [leaf.dtype for leaf in state] == [jnp.float32, jnp.float32, bool]
    for seen in (
        Observation(1, 0.5, 9.0, 0.0, validated=False),
        Observation(2, 0.25, 0.75, 0.0),
        Observation(2, 7.0, 7.0, 0.0, active=False),  # it has ended: nothing is written
    ):
        state, stop = record.update(state, seen)
        assert not stop
    np.testing.assert_array_equal(state.train_error, [0.5, 0.25, 0])
    np.testing.assert_array_equal(state.validation_error, [0, 0.75, 0])  # what was not observed is 0
    np.testing.assert_array_equal(state.validated, [False, True, False])
    state, _ = record.update(state, Observation(3, 0.125, 0.5, 0.0))
    np.testing.assert_array_equal(state.train_error, [0.5, 0.25, 0.125])


def test_the_best_hypothesis_is_that_of_the_lowest_risk_and_before_any_validation_the_newest() -> None:
    keep = KeepBest({"w": jnp.zeros(2)})
    first = keep.init(jnp.float32)
    assert (float(first.error), int(first.epoch), bool(first.validated)) == (0, 0, False)
    np.testing.assert_array_equal(first.params["w"], 0)
    for known, validated, finite, active, risk in itertools.product(*4 * [(False, True)], (1.0, 2.0, 3.0)):
        before = Best({"w": jnp.zeros(2)}, jnp.asarray(2.0), jnp.asarray(4), jnp.asarray(known))
        seen = Observation(7, 0.5, jnp.asarray(risk), 0.0, validated, finite, active, {"w": jnp.ones(2)})
        after, stop = keep.update(before, seen)
        if not (finite and active):
            taken = lowered = False
        elif validated:
            taken = lowered = not known or risk < 2  # of equal ones the first
        else:
            taken, lowered = not known, False
        case = (known, validated, finite, active, risk)
        assert not stop, case
        assert float(after.params["w"][1]) == taken, case
        assert int(after.epoch) == (7 if taken else 4), case
        assert float(after.error) == (risk if lowered else 2), case
        assert bool(after.validated) == (known or (validated and finite and active)), case


def test_training_diverges_where_something_is_not_finite() -> None:
    for finite in (False, True):
        assert bool(Divergence().update((), Observation(1, 0.5, 0.5, 0.0, finite=finite))[1]) == (not finite)
    assert Divergence().init(jnp.float32) == ()
