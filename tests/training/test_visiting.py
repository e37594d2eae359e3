"""How often the host visits a running program."""

import numpy as np
import pytest

from jnn import fit, mlp
from jnn.likelihoods import Gaussian
from jnn.training import program, visiting
from jnn.training.visiting import Pace, pace_of


def test_a_chunk_takes_the_time_between_two_visits() -> None:
    pace = Pace()
    assert pace.epochs == 0  # not known
    pace.took(epochs=10, seconds=visiting.SECONDS_BETWEEN_VISITS)
    assert pace.epochs == 10
    pace.took(epochs=1, seconds=100.0)
    assert pace.epochs == 1
    pace.took(epochs=0, seconds=0.0)  # nothing was left to do, nothing was learned
    assert pace.epochs == 1


def test_a_program_that_ran_before_is_visited_less(key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visiting, "SECONDS_BETWEEN_VISITS", 1e6)  # so that the machine's speed does not matter
    pace_of.cache_clear()
    visits = []

    def counted(compiled_for, shared, member, state, until, original=program.run):
        visits.append(int(until))
        return original(compiled_for, shared, member, state, until)

    monkeypatch.setattr(program, "run", counted)
    for _ in range(2):
        fit(mlp([1, 2, 1]), Gaussian(), np.ones((4, 1)), np.ones((4, 1)), key=key, epochs=7)
    assert visits == [0, 1, 7, 7]  # compiled, timed for an epoch, run; run
    pace_of.cache_clear()
