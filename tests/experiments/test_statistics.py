"""Intervals for means over splits and for shares."""

import numpy as np
import pytest

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
