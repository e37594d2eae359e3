"""Intervals: for means over random splits of one data set, for differences between methods, for shares of seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error, and an interval."""

    mean: float
    error: float
    low: float
    high: float


def over_splits(values: Sequence[float], train: int, test: int, level: float = 0.95) -> Estimate:
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
        raise ValueError(f"expected at least two splits, got {len(array)}")
    mean = float(array.mean())
    error = float(np.sqrt((1 / len(array) + test / train) * array.var(ddof=1)))
    reach = float(stats.t.ppf(0.5 + level / 2, len(array) - 1)) * error
    return Estimate(mean, error, mean - reach, mean + reach)


def share(successes: int, trials: int, level: float = 0.95) -> Estimate:
    """A share with Wilson's score interval, which also makes sense for 0 and for all."""
    p = successes / trials
    interval = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    return Estimate(p, float(np.sqrt(p * (1 - p) / trials)), float(interval.low), float(interval.high))


def over_seeds(values: Sequence[float] | np.ndarray, level: float = 0.95) -> Estimate:
    """The mean of independent values, one for each seed with data of its own (or of paired differences): Student's."""
    array = np.asarray(values, float)
    if len(array) < 2:
        raise ValueError(f"expected at least two seeds, got {len(array)}")
    mean, error = float(array.mean()), float(array.std(ddof=1) / np.sqrt(len(array)))
    reach = float(stats.t.ppf(0.5 + level / 2, len(array) - 1)) * error
    return Estimate(mean, error, mean - reach, mean + reach)


def inside(e: Estimate, low: float, high: float) -> bool | None:
    """Whether the figure lies within [low, high]: yes if its whole interval does, no if none of it does, else open."""
    return True if low <= e.low and e.high <= high else False if e.high < low or e.low > high else None


def above(*estimates: Estimate, than: float = 0.0) -> bool | None:
    """Whether all figures lie above a bound: yes if all intervals do, no if one lies below, else open."""
    return True if all(e.low > than for e in estimates) else False if any(e.high < than for e in estimates) else None


def below(*estimates: Estimate, than: float = 0.0) -> bool | None:
    """Whether all figures lie below a bound: yes if all intervals do, no if one lies above, else open."""
    return True if all(e.high < than for e in estimates) else False if any(e.low > than for e in estimates) else None


def direction(estimates: Sequence[Estimate]) -> bool | None:
    """True if some intervals lie above 0 and none below, False if some lie below and none above, else None."""
    above, below = any(e.low > 0 for e in estimates), any(e.high < 0 for e in estimates)
    return above if above != below else None


def calibration_error(probability: np.ndarray, happened: np.ndarray, bins: int = 10) -> np.ndarray:
    """Σ_b n_b/n |share that happened − mean probability| over equal bins; axes before the last are data sets."""
    chosen = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [np.abs(np.mean((happened - probability) * (chosen == b), axis=-1)) for b in range(bins)]
    return np.sum(gaps, axis=0)
