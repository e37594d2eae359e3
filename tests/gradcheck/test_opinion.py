"""The second opinion: differences along a random direction."""

import pytest

from jnn.gradcheck.judgement.opinion import _verdict
from jnn.gradcheck.judgement.setting import Setting
from jnn.gradcheck.oracle.differences import Slope


@pytest.mark.parametrize(
    ("right", "loops", "rule", "verdict"),
    [
        (1.0001, True, 1.00005, "pass"),  # a solver takes another number of iterations on its two sides
        (1.0001, True, 1.01, "inconclusive"),
        (1.0001, False, 1.00005, "kink"),
        (1.01, True, 1.005, "kink"),
    ],
)
def test_a_seam_of_a_solver_is_no_kink(right, loops, rule, verdict):
    slope = Slope(1.0, 1e-9, 1.0, 1e-9, right, 1e-9, (0.1, 0.01), (1.0, 1.0))
    assert slope.kinked
    setting = object.__new__(Setting)
    setting.loops, setting.stepping = loops, False
    assert _verdict(slope, rule, 0.0, setting) == verdict
