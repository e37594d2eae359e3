"""The experiment on real data: its verdicts follow from the errors."""

import numpy as np
import pytest

from experiments import datasets
from experiments.experiment import Session
from experiments.lecture import real_data, recipe
from experiments.lecture.real_data import Comparison


def test_every_data_set_is_in_every_table() -> None:
    titles = {datasets.SOURCES[name].title for name in recipe.EFFORTS["tiny"].names}
    for table in real_data.EXPERIMENT.run(Session(seed=3, size="tiny")).tables:
        assert {row[0].split(" (")[0] for row in table.rows} == titles


def test_the_tiny_size_has_every_likelihood_and_the_others_every_data_set() -> None:
    likelihoods = {source.likelihood for source in datasets.SOURCES.values()}
    assert {datasets.SOURCES[name].likelihood for name in recipe.EFFORTS["tiny"].names} == likelihoods
    for size in ("quick", "full"):
        assert set(recipe.EFFORTS[size].names) == set(datasets.SOURCES)


def comparison(jnn: list[float], linear: list[float], name: str = "iris") -> Comparison:
    data = datasets.split(name, splits=len(jnn), seed=0, examples=60)
    trained = recipe.Trained(data, None, None, None)  # type: ignore[arg-type]
    return Comparison(trained, {"jnn": np.array(jnn), "linear": np.array(linear)})


@pytest.mark.parametrize(
    ("jnn", "holds"),
    [
        ([5.0, 5.1, 4.9, 5.0], True),
        ([9.0, 9.1, 8.9, 9.0], False),
        ([5.0, 25.0, 0.0, 9.0], None),
        ([6.0, 6.1, 5.9, 6.0], True),  # worse, but by less than the margin of 2 percentage points
    ],
)
def test_the_verdict_follows_from_the_errors(jnn: list[float], holds: bool | None) -> None:
    verdict = real_data.verdict([comparison(jnn, [5.0, 5.0, 5.0, 5.0])], "linear", "the linear model")
    assert verdict.holds is holds


def test_one_bad_data_set_refutes_the_verdict() -> None:
    good, bad = comparison([5.0, 5.1, 5.0], [5.0] * 3), comparison([0.9, 0.9, 0.91], [0.5] * 3, "diabetes")
    assert real_data.verdict([good, bad], "linear", "the linear model").holds is False


def test_every_rival_has_a_verdict_of_its_own() -> None:
    bad = comparison([9.0, 9.1, 8.9, 9.0], [9.0] * 4)
    bad.errors["random forest"] = np.array([5.0, 5.1, 5.0, 4.9])
    assert real_data.verdict([bad], "linear", real_data.CALLED["linear"]).holds is True
    verdict = real_data.verdict([bad], "random forest", real_data.CALLED["random forest"])
    assert verdict.holds is False
    assert "the random forest" in verdict.claim
    assert "Iris" in verdict.evidence
