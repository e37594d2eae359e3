"""The experiment on intervals: its scores, and a small run."""

import numpy as np
import pytest
from scipy.stats import norm

from experiments import coverage, estimator_data


def test_scores_are_those_of_a_normal_distribution() -> None:
    standardized, deviation = np.array([0.0, 1.6, 1.7, -3.0]), np.array([1.0, 2.0, 0.5, 1.0])
    inside, nll = coverage._scores(standardized, deviation)
    assert inside == 0.5
    assert nll == pytest.approx(-np.mean(norm.logpdf(standardized * deviation, scale=deviation)))


def test_with_and_without_leverages() -> None:
    examples = estimator_data.regression()["Friedman 1"].take(np.arange(60))
    found = coverage.measure(examples, 2, members=2, hidden_layer_sizes=3)
    assert len(found) == 2
    for one in found:
        assert len(one.shares) == len(one.widths) == 3
        assert one.widths[0] < one.widths[1] < one.widths[2]
        assert one.normal != one.without
        assert abs(one.gain) < 1
