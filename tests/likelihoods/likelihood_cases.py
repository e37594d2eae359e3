"""The table of likelihoods under test, and an oracle for each: its textbook equations in long decimal arithmetic.

An oracle sees one example, as lists of Decimals. It returns the terms whose sum is the wanted number. Their absolute
values add up to the scale against which rounding errors are measured: where there is a single term, or all have the
same sign, a small relative error is demanded of the sum itself. 60 digits do for |a| < 60; 400 are enough to add
e^-745 (the smallest double) to 1 and to keep 70 digits of it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, getcontext, localcontext

import jax
import numpy as np
from scipy import stats

from jnn import likelihoods as lk

Numbers = Sequence[Decimal]
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
HALF_LOG_TWO_PI = (2 * PI).ln(Context(prec=60)) / 2


@dataclass(frozen=True)
class Case:
    name: str
    likelihood: lk.Likelihood
    components: int
    kind: str  # of targets: "real", "binary", "one-hot", "labels", "count"
    terms: Callable[[Numbers, Numbers], Numbers]  # of −ln p that contain a
    constants: Callable[[int, Numbers], Numbers]  # of −ln p that do not
    delta_terms: Callable[[Numbers, Numbers], Sequence[Numbers]]  # of each component of δ
    mean: Callable[[np.ndarray], np.ndarray]  # closed form, in NumPy
    logpdf: Callable[[np.ndarray, np.ndarray], np.ndarray]  # ln p(y | a) by SciPy, per example

    @property
    def outputs(self) -> int:
        return self.likelihood.pre_activations(self.components)

    def targets(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        labels = rng.integers(self.components, size=shape)
        return {
            "real": lambda: rng.normal(size=(*shape, self.components)),
            "binary": lambda: rng.integers(2, size=(*shape, self.components)),
            "count": lambda: rng.poisson(2.0, size=(*shape, self.components)),
            "one-hot": lambda: np.eye(self.components)[labels],
            "labels": lambda: labels,
        }[self.kind]()

    def data(self, *shape: int, seed: int = 0, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        return spread * rng.normal(size=(*shape, self.outputs)), self.targets(rng, shape)

    def rows(self, y: np.ndarray) -> np.ndarray:
        """Return targets as rows (..., K)."""
        return np.eye(self.components)[y] if self.kind == "labels" else np.asarray(y, float)

    def nll_oracle(self, a: np.ndarray, y: np.ndarray, complete: bool, digits: int = 60) -> tuple[float, float]:
        """Return −ln p of one example and the scale of its rounding error."""
        with localcontext(prec=digits):
            a, y = _decimals(a), _decimals(self.rows(y))
            terms = [*self.terms(a, y), *(self.constants(len(y), y) if complete else [])]
            return float(sum(terms)), float(sum(map(abs, terms)))

    def delta_oracle(self, a: np.ndarray, y: np.ndarray, digits: int = 60) -> tuple[np.ndarray, np.ndarray]:
        """Return δ of one example and the scale of its rounding errors."""
        with localcontext(prec=digits):
            terms = self.delta_terms(_decimals(a), _decimals(self.rows(y)))
            return np.array([float(sum(t)) for t in terms]), np.array([float(sum(map(abs, t))) for t in terms])


@functools.cache
def compiled(likelihood: lk.Likelihood) -> tuple[Callable, Callable, Callable]:
    """Return nll, complete nll and δ, each compiled once per shape and dtype in all tests."""
    complete = functools.partial(likelihood.nll, complete=True)
    return jax.jit(likelihood.nll), jax.jit(complete), jax.jit(likelihood.delta)


def _decimals(x: np.ndarray) -> list[Decimal]:
    return [Decimal(float(v)) for v in x]


# The digits are part of the key.
_cached_exp = functools.cache(lambda v, digits: v.exp())
_cached_ln = functools.cache(lambda v, digits: v.ln())


def exp(v: Decimal) -> Decimal:
    return _cached_exp(v, getcontext().prec)


def ln(v: Decimal) -> Decimal:
    return _cached_ln(v, getcontext().prec)


def _logistic(a: Decimal) -> Decimal:
    return 1 / (1 + exp(-a))


def _softmax(a: Numbers) -> list[Decimal]:
    e = [exp(v) for v in a]
    return [v / sum(e) for v in e]


def _no_constants(k: int, y: Numbers) -> Numbers:
    return []


def _gaussian_constants(s: float) -> Callable[[int, Numbers], Numbers]:
    return lambda k, y: [ln(Decimal(s))] * k + [HALF_LOG_TWO_PI] * k


def _squares(z: Numbers, y: Numbers, s: float) -> Numbers:
    return [(t - v) ** 2 / (2 * Decimal(s) ** 2) for v, t in zip(z, y, strict=True)]


def _squares_of_rounded(z: Numbers, y: Numbers, s: float) -> Numbers:
    """As _squares, in two terms each: z was rounded before y was subtracted, and (z − y) z is the scale of that."""
    return [v * (z - t) / (2 * Decimal(s) ** 2) for z, t in zip(z, y, strict=True) for v in (z, -t)]


def _np_softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _np_logistic(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def gaussian(s: float) -> Case:
    return Case(
        f"Gaussian({s})",
        lk.Gaussian(s),
        3,
        "real",
        terms=lambda a, y: _squares(a, y, s),
        constants=_gaussian_constants(s),
        delta_terms=lambda a, y: [[(v - t) / Decimal(s) ** 2] for v, t in zip(a, y, strict=True)],
        mean=lambda a: a,
        logpdf=lambda a, y: stats.norm.logpdf(y, a, s).sum(-1),
    )


def heteroscedastic() -> Case:
    def delta_terms(a: Numbers, y: Numbers) -> Sequence[Numbers]:
        k = len(y)
        mean = [[(m - t) * exp(-r)] for m, r, t in zip(a[:k], a[k:], y, strict=True)]
        variance = [[Decimal("0.5"), -((m - t) ** 2) * exp(-r) / 2] for m, r, t in zip(a[:k], a[k:], y, strict=True)]
        return mean + variance

    return Case(
        "HeteroscedasticGaussian",
        lk.HeteroscedasticGaussian(),
        2,
        "real",
        terms=lambda a, y: (
            [(t - m) ** 2 * exp(-r) / 2 for m, r, t in zip(a[:2], a[2:], y, strict=True)] + [r / 2 for r in a[2:]]
        ),
        constants=lambda k, y: [HALF_LOG_TWO_PI] * k,
        delta_terms=delta_terms,
        mean=lambda a: a[..., :2],
        logpdf=lambda a, y: stats.norm.logpdf(y, a[..., :2], np.exp(a[..., 2:] / 2)).sum(-1),
    )


def bernoulli(components: int) -> Case:
    return Case(
        f"Bernoulli, {components} outputs",
        lk.Bernoulli(),
        components,
        "binary",
        # 1 − z = σ(−a): with z itself, even 400 digits would not do at a = 1e4.
        terms=lambda a, y: [-ln(_logistic(v if t else -v)) for v, t in zip(a, y, strict=True)],
        constants=_no_constants,
        delta_terms=lambda a, y: [[_logistic(v) - t] for v, t in zip(a, y, strict=True)],
        mean=_np_logistic,
        logpdf=lambda a, y: stats.bernoulli.logpmf(y, _np_logistic(a)).sum(-1),
    )


def categorical(kind: str) -> Case:
    def logpdf(a: np.ndarray, y: np.ndarray) -> np.ndarray:
        return stats.multinomial.logpmf(np.eye(4)[y] if kind == "labels" else y, 1, _np_softmax(a))

    return Case(
        f"Categorical, {kind}",
        lk.Categorical(),
        4,
        kind,
        terms=lambda a, y: [-t * ln(v) for v, t in zip(_softmax(a), y, strict=True) if t],
        constants=_no_constants,
        delta_terms=lambda a, y: [[v - t] for v, t in zip(_softmax(a), y, strict=True)],
        mean=_np_softmax,
        logpdf=logpdf,
    )


def poisson() -> Case:
    return Case(
        "Poisson",
        lk.Poisson(),
        2,
        "count",
        terms=lambda a, y: [exp(v) for v in a] + [-v * t for v, t in zip(a, y, strict=True)],
        constants=lambda k, y: [ln(Decimal(math.factorial(int(t)))) for t in y],
        delta_terms=lambda a, y: [[exp(v), -t] for v, t in zip(a, y, strict=True)],
        mean=np.exp,
        logpdf=lambda a, y: stats.poisson.logpmf(y, np.exp(a)).sum(-1),
    )


def squared_error(output: str, s: float) -> Case:
    def z_of(a: Numbers) -> list[Decimal]:
        return _softmax(a) if output == "softmax" else [_logistic(v) for v in a]

    def delta_terms(a: Numbers, y: Numbers) -> Sequence[Numbers]:
        z = z_of(a)
        k, ss = range(len(z)), Decimal(s) ** 2
        # z − y and (softmax) g − ⟨g, z⟩ cancel; their terms, one by one, are the scale.
        if output == "logistic":
            return [[z[i] * (1 - z[i]) * z[i] / ss, -z[i] * (1 - z[i]) * y[i] / ss] for i in k]
        products = [[v * z[j] * g / ss for j in k for g in (z[j], -y[j])] for v in z]  # z_i z_j g_j
        return [[z[i] * z[i] / ss, -z[i] * y[i] / ss, *(-p for p in products[i])] for i in k]

    mean = _np_softmax if output == "softmax" else _np_logistic
    return Case(
        f"SquaredError({output})",
        lk.SquaredError(output, s),
        3,
        "one-hot",
        terms=lambda a, y: _squares_of_rounded(z_of(a), y, s),
        constants=_gaussian_constants(s),
        delta_terms=delta_terms,
        mean=mean,
        logpdf=lambda a, y: stats.norm.logpdf(y, mean(a), s).sum(-1),
    )


CASES = [
    gaussian(1.0),
    gaussian(0.3),
    heteroscedastic(),
    bernoulli(1),
    bernoulli(3),
    categorical("labels"),
    categorical("one-hot"),
    poisson(),
    squared_error("logistic", 1.0),
    squared_error("softmax", 0.5),
]
