"""Differences with error bars: derivatives along one direction, from both sides.

The step runs over ten octets (h = 2⁻⁴ ... 2⁻³¹, relative to the point). Central differences are extrapolated once
(their error is even in h), one-sided ones twice; of the extrapolated values the one with the smallest error bar is
kept, where the bar is the change that extrapolation made plus the rounding noise of the function divided by the step
(Ridders 1982), and no less than a quarter of what the next step says otherwise: two values that agree by chance are
no plateau. No step is asked of the user, and none is right for all functions: the bar says when none was.

The noise is the function's own, not that of float64 alone: an unstable recurrence amplifies what it rounds, and the
smallest steps show by how much. A function that does not change at all from one small step
to the next, though larger ones show a slope (a bisection, a table), is a staircase: its slope is taken from the larger
steps, with the height of its steps as the noise. Its steps may be narrower than those of the differences, and the point
may lie on an edge; so still smaller steps are compared with each other, not with the point.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jnn.gradcheck.oracle.numbers import EPS64, parts

RATIO = 8.0
STEPS = tuple(2.0 ** -(4 + 3 * k) for k in range(10))
COARSE = (4.0, tuple(2.0 ** -(1 + 2 * k) for k in range(8)))
"""(ratio, steps) for functions that are rounded to fewer digits than float64 has."""
FINER = tuple(2.0 ** -(34 + 3 * k) for k in range(3))
"""Steps at which a staircase is flat, if only at these. The last is some thousand spacings of float64: what changes by
less than rounding there has no slope to speak of (see `_on_stairs`)."""
GAP = 1e-6
"""So little, beside the values themselves, may those on either side of the point miss the one at the point: these are
pieces of one function (an exact case and a series, say), and their slopes count."""
BESIDE = (0.37, -0.53, 0.81, -0.92)
"""Where a staircase is looked at once more, in units of the largest step."""


@dataclasses.dataclass(frozen=True)
class Slope:
    """A derivative `estimate ± bar`, its one-sided versions, and what it was made of.

    `stairs` is the largest step at which nothing changed, of a function that is piecewise constant; 0 otherwise.
    `beside` is the steeper of the two secants to the ends of the largest step.
    """

    estimate: float
    bar: float
    left: float
    left_bar: float
    right: float
    right_bar: float
    steps: tuple[float, ...]
    central: tuple[float, ...]
    stairs: float = 0.0
    beside: float = 0.0

    @property
    def kinked(self) -> bool:
        """Whether the two one-sided derivatives differ beyond doubt."""
        gap = abs(self.right - self.left)
        size = max(abs(self.right), abs(self.left))
        return bool(gap > 4 * (self.left_bar + self.right_bar) and gap > 1e-5 * size)

    def resolves(self, scale: float) -> bool:
        """Whether the bar is small beside `scale` (or beside the estimate itself; where that vanishes, as of x⁴ at 0,
        tiny beside the slope close by).
        """
        small = self.bar <= 1e-2 * max(abs(self.estimate), scale) or self.bar <= 1e-6 * self.beside
        return bool(np.isfinite(self.bar) and small)

    def agrees(self, value: float) -> bool:
        """Whether a derivative lies within the bar."""
        return bool(abs(value - self.estimate) <= 4 * self.bar + 1e-9 * abs(self.estimate))

    def encloses(self, value: float) -> bool:
        """Whether a derivative lies between the one-sided ones."""
        low, high = sorted((self.left, self.right))
        slack = 4 * max(self.left_bar, self.right_bar) + 1e-6 * abs(high - low)
        return bool(low - slack <= value <= high + slack)

    def scaled(self, factor: float) -> "Slope":
        """The slope times a number."""
        size = abs(factor)
        return Slope(
            self.estimate * factor, self.bar * size, self.left * factor, self.left_bar * size, self.right * factor,
            self.right_bar * size, self.steps, tuple(c * factor for c in self.central), self.stairs,
            self.beside * size,
        )  # fmt: skip


Outputs = Callable[[float], np.ndarray]


def slope(outputs: Outputs, weights: np.ndarray, eps: float) -> Slope:
    """d/ds Σ weights · outputs(s) at s = 0.

    Args:
        outputs: the flat outputs of the function, in float64, at a signed step along the direction.
        weights: the flat cotangent.
        eps: the relative precision with which `outputs` is computed (coarser than float64 for a kernel, say).
    """
    here = outputs(0.0)
    active = weights != 0
    size = _total(lambda at: np.abs(weights[at] * here[at]), active)
    noise = 4 * eps * size
    if eps > EPS64:
        # Outputs that are rounded one by one: their errors are independent, and add up like a random walk.
        squares = _total(lambda at: (weights[at] * here[at]) ** 2, active)
        noise = min(noise, 16 * eps * float(np.sqrt(squares)))

    def change(step: float) -> np.ndarray:
        there = outputs(step)
        return np.array([_total(lambda at: weights[at] * (there[at] - here[at]), active)])

    return slopes(change, np.array([noise]), np.array([size]), *_steps(eps)).at(0)


def elementwise(outputs: Outputs, eps: float) -> "Slopes":
    """d/ds outputs(s) at s = 0, element by element."""
    here = outputs(0.0)
    return slopes(lambda step: outputs(step) - here, 4 * eps * np.abs(here), np.abs(here), *_steps(eps))


def _steps(eps: float) -> tuple[float, tuple[float, ...]]:
    return (RATIO, STEPS) if eps <= EPS64 else COARSE


@dataclasses.dataclass(frozen=True)
class Slopes:
    """Many derivatives along one direction, as arrays; `central` has one row a step."""

    estimate: np.ndarray
    bar: np.ndarray
    left: np.ndarray
    left_bar: np.ndarray
    right: np.ndarray
    right_bar: np.ndarray
    central: np.ndarray
    stairs: np.ndarray
    beside: np.ndarray
    steps: tuple[float, ...]

    def at(self, k: int) -> Slope:
        """One of them."""
        estimate, bar, left, left_bar, right, right_bar = (
            float(v[k]) for v in (self.estimate, self.bar, self.left, self.left_bar, self.right, self.right_bar)
        )
        central = tuple(float(c) for c in self.central[:, k])
        stairs, beside = float(self.stairs[k]), float(self.beside[k])
        return Slope(estimate, bar, left, left_bar, right, right_bar, self.steps, central, stairs, beside)


def slopes(
    change: Outputs, noise: np.ndarray, size: np.ndarray, ratio: float = RATIO, steps: tuple[float, ...] = STEPS
) -> Slopes:
    """The derivatives of values of this size, of which `change(step)` tells how they differ from those at 0, up to
    `noise`.
    """
    left, right = (_gap(change, side, noise, size) for side in (-1.0, 1.0))
    if left.any() or right.any():
        apart, change = change, lambda step: apart(step) - (left if step < 0 else right)
    rises, falls = [], []
    for h in steps:
        rises.append(change(h))
        falls.append(-change(-h))
    with np.errstate(all="ignore"):
        rise, fall = np.stack(rises), np.stack(falls)
        measured = np.maximum(noise, _noise(change))
        found = _extrapolated_all(rise, fall, np.broadcast_to(measured, rise.shape), ratio, steps)
        if not np.any(change(FINER[-1]) == change(FINER[-2])):
            return found
        return _on_stairs(change, noise, rise, fall, found, ratio)


def _gap(change: Outputs, side: float, noise: np.ndarray, size: np.ndarray) -> np.ndarray:
    """By how much the values on one side miss the one at the point."""
    with np.errstate(all="ignore"):
        near = np.stack([change(side * f) for f in FINER])
        size_of_gap = np.abs(near[-1])
        real = (np.ptp(near, axis=0) <= 0.1 * size_of_gap) & (size_of_gap > 4 * noise) & (size_of_gap <= GAP * size)
        ratio = FINER[-2] / FINER[-1]
        return np.where(real, (ratio * near[-1] - near[-2]) / (ratio - 1), 0.0)


def _noise(change: Outputs) -> np.ndarray:
    """What rounding changes, measured where the function itself cannot bend: at the smallest steps. A jump or a kink at
    the point is none.
    """
    near, nearer = (change(f) + change(-f) for f in FINER[-2:])
    size, other = np.abs(near), np.abs(nearer)
    bent = np.abs(near - FINER[-2] / FINER[-1] * nearer) <= 0.1 * size  # a kink: in proportion to the step
    jumped = np.abs(near - nearer) <= 0.1 * size
    return np.where(bent | jumped, 0.0, 2.0 * np.nan_to_num(np.maximum(size, other), nan=0.0, posinf=0.0))


def _on_stairs(
    change: Outputs, noise: np.ndarray, rise: np.ndarray, fall: np.ndarray, found: Slopes, ratio: float
) -> Slopes:
    """The slopes with those of staircases taken from the larger steps."""
    n, h = len(found.steps), np.array(found.steps)[:, None]
    every = np.array([*found.steps, *FINER])
    rises, falls = ([*side, *(sign * change(sign * f) for f in FINER)] for side, sign in ((rise, 1.0), (fall, -1.0)))
    up, down = np.stack(rises), np.stack(falls)
    # From the smallest step on, those that change no more than the one before.
    flat = (up[:-1] == up[1:]) & (down[:-1] == down[1:])
    count = np.cumprod(flat[::-1], axis=0).sum(0)
    widest = every[np.clip(every.size - 1 - count, 0, every.size - 1)]
    wide = np.arange(n)[:, None] < every.size - 1 - count
    central = (rise + fall) / (2 * h)
    # The height of the steps, from what the slopes at smaller steps deviate from that at the largest one.
    height = np.max(np.abs(central - central[0]) * h, axis=0)
    coarse = _extrapolated_all(rise, fall, np.where(wide, height, np.inf) + noise, ratio, found.steps)
    size = np.abs(coarse.estimate)
    # A trend that is less than twice the noise is none, and a function that is flat here and has another slope to the
    # left than to the right has a kink nearby.
    even = np.abs(coarse.right - coarse.left) <= 4 * (coarse.right_bar + coarse.left_bar)
    stairs = (count >= 1) & wide[1] & (size * widest > 8 * noise) & even & (size > 2 * coarse.bar)
    if stairs.any():
        # As fine as a slope would still show: so an edge is hardly ever met.
        fine = [f for f in (found.steps[-1], *FINER) if np.all((size * f > 8 * noise) | ~stairs)]
        step = fine[-1] if fine else found.steps[-1]
        for place in BESIDE:
            at = place * found.steps[0]
            stairs &= change(at) == change(at + step)
    chosen = {
        name: np.where(stairs, getattr(coarse, name), getattr(found, name))
        for name in ("estimate", "bar", "left", "left_bar", "right", "right_bar")
    }
    return dataclasses.replace(found, **chosen, central=central, stairs=np.where(stairs, widest, 0.0))


def _extrapolated_all(
    rise: np.ndarray, fall: np.ndarray, noise: np.ndarray, ratio: float, steps: tuple[float, ...]
) -> Slopes:
    h = np.array(steps)[:, None]
    central, right, left = (rise + fall) / (2 * h), rise / h, fall / h
    # The second term is the rounding of the point itself: a step is only known to eps/h of its length.
    bars = noise / h + 4 * EPS64 / h * np.maximum(np.abs(right), np.abs(left))
    estimate, bar = _extrapolated(central, bars, ratio**2)
    left_value, left_bar = _extrapolated(*_once(left, bars, ratio), ratio**2)
    right_value, right_bar = _extrapolated(*_once(right, bars, ratio), ratio**2)
    beside = np.nan_to_num(np.maximum(np.abs(right[0]), np.abs(left[0])), nan=0.0, posinf=0.0)
    return Slopes(
        estimate, bar, left_value, left_bar, right_value, right_bar, central, np.zeros(estimate.shape), beside, steps
    )


def _total(terms: Callable[[slice], Any], active: np.ndarray) -> float:
    """The sum of the active terms, made by parts, so that temporary arrays stay small."""
    with np.errstate(all="ignore"):
        return sum((float(np.sum(terms(at)[active[at]])) for at in parts(active.size)), 0.0)


def _once(values: np.ndarray, bars: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """One extrapolation of a first-order sequence (error ∝ h), as a sequence with its noise."""
    return values[1:] + (values[1:] - values[:-1]) / (ratio - 1), 2 * bars[1:]


def _extrapolated(values: np.ndarray, noise: np.ndarray, order: float) -> tuple[np.ndarray, np.ndarray]:
    """The extrapolated values with the smallest error bars, and these bars."""
    refined = values[1:] + (values[1:] - values[:-1]) / (order - 1)
    # Where rounding dominates, extrapolation gains nothing: the bar is the larger of what changed and the noise.
    bar = np.maximum(np.abs(refined - values[1:]), 0.1 * np.abs(values[1:] - values[:-1])) + noise[1:]
    apart = np.abs(refined[1:] - refined[:-1])
    apart = np.where(np.isfinite(apart), apart, np.inf)
    first, last = apart[:1], apart[-1:]
    nearest = np.minimum(np.concatenate([first, apart]), np.concatenate([apart, last]))
    bar = np.where(np.isfinite(refined), np.maximum(bar, 0.25 * nearest), np.inf)
    bar = np.where(np.isnan(bar), np.inf, bar)
    best = np.argmin(bar, axis=0)[None]
    value = np.take_along_axis(refined, best, 0)[0]
    bar = np.take_along_axis(bar, best, 0)[0]
    return np.where(np.isfinite(bar), value, np.nan), bar
