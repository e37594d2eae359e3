"""Differences with error bars: one derivative along one direction, from both sides.

The step runs over ten octets (h = 2⁻⁴ ... 2⁻³¹, relative to the point). Central differences are extrapolated once
(their error is even in h), one-sided ones twice; of the extrapolated values the one with the smallest error bar is
kept, where the bar is the change that extrapolation made plus the rounding noise of the function divided by the step
(Ridders 1982). No step is asked of the user, and none is right for all functions: the bar says when none was.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from jnn.gradcheck._judge import parts

RATIO = 8.0
STEPS = tuple(2.0 ** -(4 + 3 * k) for k in range(10))


@dataclasses.dataclass(frozen=True)
class Slope:
    """A derivative `estimate ± bar`, its one-sided versions, and what it was made of."""

    estimate: float
    bar: float
    left: float
    left_bar: float
    right: float
    right_bar: float
    steps: tuple[float, ...]
    central: tuple[float, ...]

    @property
    def kinked(self) -> bool:
        """Whether the two one-sided derivatives differ beyond doubt."""
        gap = abs(self.right - self.left)
        size = max(abs(self.right), abs(self.left))
        return bool(gap > 4 * (self.left_bar + self.right_bar) and gap > 1e-5 * size)

    def resolves(self, scale: float) -> bool:
        """Whether the bar is small beside `scale` (or beside the estimate itself)."""
        return bool(np.isfinite(self.bar) and self.bar <= 1e-2 * max(abs(self.estimate), scale))

    def agrees(self, value: float) -> bool:
        """Whether a derivative lies within the bar."""
        return bool(abs(value - self.estimate) <= 4 * self.bar + 1e-9 * abs(self.estimate))

    def encloses(self, value: float) -> bool:
        """Whether a derivative lies between the one-sided ones."""
        low, high = sorted((self.left, self.right))
        slack = 4 * max(self.left_bar, self.right_bar) + 1e-6 * abs(high - low)
        return bool(low - slack <= value <= high + slack)


def slope(outputs: Callable[[float], np.ndarray], weights: np.ndarray, eps: float) -> Slope:
    """d/ds Σ weights · outputs(s) at s = 0.

    Args:
        outputs: the flat outputs of the function, in float64, at a signed step along the direction.
        weights: the flat cotangent.
        eps: the relative precision with which `outputs` is computed (coarser than float64 for a kernel, say).
    """
    here = outputs(0.0)
    active = weights != 0
    noise = 4 * eps * _total(lambda at: np.abs(weights[at] * here[at]), active)
    if eps > 2.0**-52:
        # Outputs that are rounded one by one: their errors are independent, and add up like a random walk.
        squares = _total(lambda at: (weights[at] * here[at]) ** 2, active)
        noise = min(noise, 16 * eps * float(np.sqrt(squares)))
    central, left, right, bars = [], [], [], []
    for h in STEPS:
        rise, fall = _change(weights, here, outputs(h), active), -_change(weights, here, outputs(-h), active)
        central.append((rise + fall) / (2 * h))
        right.append(rise / h)
        left.append(fall / h)
        # The second term is the rounding of the point itself: a step is only known to eps/h of its length.
        bars.append(noise / h + 4 * 2.0**-52 / h * max(abs(right[-1]), abs(left[-1])))
    estimate, bar = _extrapolated(central, bars, RATIO**2)
    left_value, left_bar = _extrapolated(*_once(left, bars), RATIO**2)
    right_value, right_bar = _extrapolated(*_once(right, bars), RATIO**2)
    return Slope(estimate, bar, left_value, left_bar, right_value, right_bar, STEPS, tuple(central))


def _change(weights: np.ndarray, here: np.ndarray, there: np.ndarray, active: np.ndarray) -> float:
    return _total(lambda at: weights[at] * (there[at] - here[at]), active)


def _total(terms: Callable[[slice], np.ndarray], active: np.ndarray) -> float:
    """The sum of the active terms, made by parts, so that temporary arrays stay small."""
    with np.errstate(all="ignore"):
        return sum((float(np.sum(terms(at)[active[at]])) for at in parts(active.size)), 0.0)


def _once(values: list[float], bars: list[float]) -> tuple[list[float], list[float]]:
    """One extrapolation of a first-order sequence (error ∝ h), as a sequence with its noise."""
    refined = [b + (b - a) / (RATIO - 1) for a, b in itertools.pairwise(values)]
    return refined, [2 * bar for bar in bars[1:]]


def _extrapolated(values: list[float], noise: list[float], order: float) -> tuple[float, float]:
    """The extrapolated value with the smallest error bar, and that bar."""
    best, best_bar = float("nan"), float("inf")
    for k in range(1, len(values)):
        refined = values[k] + (values[k] - values[k - 1]) / (order - 1)
        # Where rounding dominates, extrapolation gains nothing: the bar is the larger of what changed and the noise.
        bar = max(abs(refined - values[k]), 0.1 * abs(values[k] - values[k - 1])) + noise[k]
        if np.isfinite(refined) and bar < best_bar:
            best, best_bar = refined, bar
    return best, best_bar
