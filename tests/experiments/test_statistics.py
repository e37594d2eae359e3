"""Intervals for means over splits and for shares."""

import numpy as np
import pytest
from scipy import stats

from experiments import statistics


def test_the_corrected_error_is_nadeau_and_bengios() -> None:
    estimate = statistics.over_splits([1.0, 2.0, 3.0, 4.0], train=75, test=25)
    assert estimate.mean == 2.5
    assert estimate.error == pytest.approx(np.sqrt((1 / 4 + 1 / 3) * np.var([1, 2, 3, 4], ddof=1)), rel=1e-12)
    assert estimate.high - estimate.mean == pytest.approx(3.182446305284263 * estimate.error, rel=1e-9)  # t table, 3 df


def test_share_has_wilsons_interval() -> None:
    estimate = statistics.share(0, 10)
    assert estimate.low == 0
    assert estimate.high == pytest.approx(1.959963984540054**2 / (10 + 1.959963984540054**2), rel=1e-9)


def test_the_interval_over_seeds_is_that_of_students_test() -> None:
    values = [0.3, -0.1, 0.8, 0.4]
    estimate = statistics.over_seeds(values, level=0.9)
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    with pytest.raises(ValueError, match="two seeds"):
        statistics.over_seeds([1.0])


def test_direction_needs_an_interval_on_one_side_and_none_on_the_other() -> None:
    above, below, around = (statistics.Estimate(m, 1.0, m - 1, m + 1) for m in (2.0, -2.0, 0.0))
    assert statistics.direction([above, around]) is True
    assert statistics.direction([below, around]) is False
    assert statistics.direction([above, below]) is None
    assert statistics.direction([around]) is None
