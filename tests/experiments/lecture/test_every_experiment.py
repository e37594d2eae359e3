"""Every experiment at a tiny size: that it runs, and says something."""

import pytest

from experiments.experiment import Outcome, Session
from experiments.lecture import EXPERIMENTS


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name != "gradients"])  # see test_gradients.py
def test_every_experiment_runs_and_says_something(name: str) -> None:
    says_something(EXPERIMENTS[name].run(Session(seed=3, size="tiny")))


def says_something(outcome: Outcome) -> None:
    assert outcome.verdicts
    assert all(v.claim and v.evidence for v in outcome.verdicts)
    assert outcome.pictures
    assert not outcome.interrupted
    for table in outcome.tables:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)


def test_an_interrupted_experiment_reports_what_is_done() -> None:
    session = Session(stop_asked=lambda: True)
    assert list(session.each([1, 2, 3])) == [1]
    assert session.interrupted
