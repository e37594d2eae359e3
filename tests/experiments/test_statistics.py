"""Intervals for means over splits and for shares."""

import numpy as np
import pytest
import sklearn.calibration
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


def test_calibration_error_is_scikit_learns_curve() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(500)
    happened = (rng.random(500) < p**2).astype(float)
    share, said = sklearn.calibration.calibration_curve(happened, p, n_bins=10)
    counts, _ = np.histogram(p, bins=10, range=(0, 1))
    expected = np.sum(counts / 500 * np.abs(share - said))
    assert statistics.calibration_error(p[None], happened[None])[0] == pytest.approx(expected)
    certain = statistics.calibration_error(np.full(4, 0.75), np.zeros(4))
    assert certain == 0.75


@pytest.mark.parametrize(("means", "expected"), [((2.0, 3.0), True), ((2.0, 0.0), None), ((2.0, -2.0), False)])
def test_all_figures_lie_above_or_below(means: tuple[float, ...], expected: bool | None) -> None:
    estimates = [statistics.Estimate(m, 0.5, m - 1, m + 1) for m in means]
    mirrored = [statistics.Estimate(-m, 0.5, -m - 1, -m + 1) for m in means]
    assert statistics.above(*estimates) is statistics.below(*mirrored) is expected
    moved = [statistics.Estimate(e.mean + 5, 0.5, e.low + 5, e.high + 5) for e in estimates]
    assert statistics.above(*moved, than=5.0) is expected


def test_an_estimate_in_another_unit_and_as_text() -> None:
    e = statistics.Estimate(0.5, 0.1, -0.001, 0.75)
    assert f"{e:.2f}" == "0.50 (-0.00 to 0.75)"
    assert f"{e:+z.0%}" == "+50% (+0 to +75)"
    assert f"{100 * e:.1f}" == "50.0 (-0.1 to 75.0)"
    assert (10**e).low == pytest.approx(10**-0.001)
    assert (10**e).error == pytest.approx((10**0.500001 - 10**0.5) / 1e-6 * 0.1, rel=1e-5)  # to first order


@pytest.mark.parametrize(
    ("judged", "expected"), [([], True), ([True, True], True), ([True, None], None), ([None, False, True], False)]
)
def test_all_hold_only_if_each_does(judged: list[bool | None], expected: bool | None) -> None:
    assert statistics.every(judged) is expected
