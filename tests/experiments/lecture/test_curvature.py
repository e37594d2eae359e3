"""The experiment on second derivatives: its pieces against closed forms, and a tiny run of all of it."""

import numpy as np
import pytest

from experiments.benchmarks import second_order
from experiments.experiment import Session
from experiments.lecture import curvature


def test_scores_are_those_of_a_normal_distribution() -> None:
    y = np.array([[0.0], [1.9], [2.1], [-2.1]])
    inside, nll = curvature._scores((np.zeros_like(y), np.ones_like(y)), y)
    assert inside == 0.5
    assert nll == pytest.approx(np.mean(0.5 * y**2) + 0.5 * np.log(2 * np.pi))


def test_verdicts_can_fail() -> None:
    good = curvature.Sines(*(np.full(5, v) for v in (12.0, 0.1, 0.04, 0.95)))
    assert curvature.by_itself(good).holds
    assert not curvature.by_itself(curvature.Sines(np.full(5, 5.0), good.noise, good.error, good.covered)).holds
    wide, narrow = (np.full((3, 2, 2), c) for c in (0.8, 0.2))
    found = {"full": wide, "kronecker": wide, "σ alone": narrow, "ensemble": narrow}
    assert curvature.widen(found, ("full", "kronecker"), 0.7, "").holds
    assert not curvature.widen(found | {"full": narrow}, ("full", "kronecker"), 0.7, "").holds
    assert curvature.robust({"hc3": np.full((100, 2), 0.94)}).holds
    assert not curvature.robust({"hc3": np.full((100, 2), 0.8)}).holds
    decays, seconds = np.ones((4, 2)), np.ones((4, 2))
    better, worse = np.array([[0.7, 0.8]] * 4), np.array([[0.9, 0.8]] * 4)
    better[0, 0], worse[0, 0] = 0.71, 0.91
    assert curvature.as_well(curvature.Choices(decays, better, seconds, 30, 10)).holds
    assert not curvature.as_well(curvature.Choices(decays, worse, seconds, 30, 10)).holds
    assert not curvature.nearer([(0, 1.0, 3, 0.1), (9, 0.1, 1, 0.09)]).holds


@pytest.mark.slow
def test_a_tiny_run() -> None:
    outcome = curvature.run(Session(size="tiny"))
    assert len(outcome.verdicts) == 8
    assert all(len(table.rows) > 1 for table in outcome.tables)


def test_the_benchmarks_problems_and_their_targets() -> None:
    found = second_order.problems()
    assert {name: p.network.weight_count for name, p in found.items()} == {"sine": 16, "sinc": 61, "mackey_glass": 321}
    series = second_order.mackey_glass(50)
    assert len(series) == 50
    assert series.std() > 0.1  # chaotic, not at rest
    assert second_order.reached(found["sine"], np.array([1.0, 1e-5, 1e-9])) == 1
    assert second_order.reached(found["sine"], np.array([1.0])) is None
