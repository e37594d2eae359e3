"""Intervals: for means over random splits of one data set, for differences between methods, for shares of seeds."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error, and an interval.

    Multiplied by a number or made a power (`100 * e`, `10**e`), it is one in another unit. As text, `f"{e:.2f}"`
    is "0.50 (0.45 to 0.55)", and `f"{e:.0%}"` "50% (45 to 55)".
    """

    mean: float
    error: float
    low: float
    high: float

    def __rmul__(self, factor: float) -> "Estimate":
        return Estimate(factor * self.mean, factor * self.error, factor * self.low, factor * self.high)

    def __rpow__(self, base: float) -> "Estimate":
        error = math.log(base) * base**self.mean * self.error
        return Estimate(base**self.mean, error, base**self.low, base**self.high)

    def __format__(self, form: str) -> str:
        low, high = (format(value, form).rstrip("%") for value in (self.low, self.high))
        return f"{format(self.mean, form)} ({low} to {high})"


def over_splits(values: Sequence[float] | np.ndarray, train: int, test: int, level: float = 0.95) -> Estimate:
    """The mean over random splits of the same data, with a standard error that knows that the splits overlap.

        error² = (1/J + n_test/n_train) · variance of the J values

    The plain 1/J takes the training sets for independent and finds differences that are not there (Nadeau, Bengio,
    "Inference for the generalization error", 2003). The interval is Student's, with J − 1 degrees of freedom.

    Args:
        values: a figure for each split (or a difference of two methods on that split).
        train: examples for training in each split.
        test: examples for testing.
        level: of the interval.
    """
    array = np.asarray(values, float)
    if len(array) < 2:
        raise ValueError(f"expected at least two seeds or splits, got {len(array)}")
    mean = float(array.mean())
    error = float(np.sqrt((1 / len(array) + test / train) * array.var(ddof=1)))
    reach = float(stats.t.ppf(0.5 + level / 2, len(array) - 1)) * error
    return Estimate(mean, error, mean - reach, mean + reach)


def over_seeds(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Estimate:
    """The mean of independent values, one for each seed with data of its own (or of paired differences): Student's."""
    return over_splits(values, train=1, test=0, level=level)


def share(successes: int, trials: int, level: float = 0.95) -> Estimate:
    """A share with Wilson's score interval, which also makes sense for 0 and for all."""
    p = successes / trials
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Estimate(p, float(np.sqrt(p * (1 - p) / trials)), float(interval.low), float(interval.high))


def every(judged: Iterable[bool | None]) -> bool | None:
    """Whether all hold: yes if each does, no if one does not, else open."""
    found = list(judged)
    return False if False in found else None if None in found else True


def inside(e: Estimate, low: float, high: float) -> bool | None:
    """Whether the figure lies within [low, high]: yes if its whole interval does, no if none of it does, else open."""
    return True if low <= e.low and e.high <= high else False if e.high < low or e.low > high else None


def above(*estimates: Estimate, than: float = 0.0) -> bool | None:
    """Whether all figures lie above a bound: yes if all intervals do, no if one lies below, else open."""
    return every(True if e.low > than else False if e.high < than else None for e in estimates)


def below(*estimates: Estimate, than: float = 0.0) -> bool | None:
    """Whether all figures lie below a bound: yes if all intervals do, no if one lies above, else open."""
    return every(True if e.high < than else False if e.low > than else None for e in estimates)


def direction(estimates: Sequence[Estimate]) -> bool | None:
    """True if some intervals lie above 0 and none below, False if some lie below and none above, else None."""
    above, below = any(e.low > 0 for e in estimates), any(e.high < 0 for e in estimates)
    return above if above != below else None


def calibration_error(probability: np.ndarray, happened: np.ndarray, bins: int = 10) -> np.ndarray:
    """Σ_b n_b/n |share that happened − mean probability| over equal bins; axes before the last are data sets."""
    chosen = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [np.abs(np.mean((happened - probability) * (chosen == b), axis=-1)) for b in range(bins)]
    return np.sum(gaps, axis=0)
