"""How good a trained network is: the same arithmetic for every contestant."""

import numpy as np

from experiments.benchmarks.workloads import Loss


def risk(loss: Loss, a: np.ndarray, y: np.ndarray) -> float:
    """The mean of −ln p(y | a) (for squares ½ ‖a − y‖²) over the examples, and over networks if there are several."""
    a = np.asarray(a, np.float64)
    if loss == "squared":
        return float(np.mean(0.5 * np.sum((a - y) ** 2, axis=-1)))
    if loss == "bernoulli":
        return float(np.mean(np.sum(np.logaddexp(0, a) - y * a, axis=-1)))
    top = a.max(axis=-1, keepdims=True)
    log_normalizer = top[..., 0] + np.log(np.sum(np.exp(a - top), axis=-1))
    return float(np.mean(log_normalizer - a[..., np.arange(len(y)), y]))


def error(loss: Loss, a: np.ndarray, y: np.ndarray) -> float:
    """The share of wrong classes; for squares the root of the unexplained share of the variance."""
    a = np.asarray(a, np.float64)
    if loss == "squared":
        return float(np.sqrt(np.mean((a - y) ** 2) / np.mean((y - y.mean(axis=0)) ** 2)))
    if loss == "bernoulli":
        return float(np.mean((a > 0) != (y > 0.5)))
    return float(np.mean(a.argmax(axis=-1) != y))
