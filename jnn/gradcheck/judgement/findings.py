"""What the stages of an examination return. Nothing is written twice: the report is folded from these at the end."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from jnn.gradcheck.judgement.comparison import Comparison
from jnn.gradcheck.oracle.numbers import parts
from jnn.gradcheck.oracle.problem import Leaf
from jnn.gradcheck.report import Check, Element, ErrorByElement, StepCurve

ORDER = ("fail", "inconclusive", "kink")
"""From bad to less bad; `pass` is what is left."""
PLOTTED = 256
KEPT = 200_000


def worst_of(outcomes: Iterable[str]) -> str:
    """The worst of some outcomes; `pass` where there is none."""
    seen = set(outcomes)
    return next((v for v in ORDER if v in seen), "pass")


@dataclasses.dataclass(frozen=True)
class LeafFinding:
    """What one stage says of one leaf; `mode` is "reverse" or "forward" where it is the mode's own comparison."""

    path: str
    outcome: str = "pass"
    note: str = ""
    worst: Element | None = None
    steps: tuple[StepCurve, ...] = ()
    mode: str = ""


@dataclasses.dataclass(frozen=True)
class Findings:
    """What one stage found: named checks, what they say of single leaves, and what was sampled."""

    checks: tuple[Check, ...] = ()
    leaves: tuple[LeafFinding, ...] = ()
    sampled: tuple[str, ...] = ()

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(self.checks + other.checks, self.leaves + other.leaves, self.sampled + other.sampled)

    def of(self, path: str) -> list[LeafFinding]:
        """What was said of one leaf."""
        return [leaf for leaf in self.leaves if leaf.path == path]

    def verdict(self, path: str) -> str:
        """The worst that was said of one leaf."""
        return worst_of(leaf.outcome for leaf in self.of(path))


@dataclasses.dataclass(frozen=True)
class Measured:
    """The numbers of one comparison that a report shows."""

    elements: int
    excess: float
    worst: Element | None
    median_ulps: float
    detectable: float
    typical: float
    precision: float
    precision_element: float
    wrong_share: float
    errors: ErrorByElement | None


@dataclasses.dataclass(frozen=True)
class Compared:
    """One leaf under one probe: `owner` is the argument that it speaks of, `shown` the leaf whose elements were
    compared (an output, of a forward rule); probes of forward mode are numbered −1, −2, ... `wrong` are flat indices.

    Of a large leaf the arrays are kept for the first probe only, and where something is wrong.
    """

    owner: str
    shown: Leaf
    probe: int
    name: str
    comparison: Comparison | None
    measured: Measured
    wrong: np.ndarray

    @property
    def mode(self) -> str:
        """Reverse or forward."""
        return "reverse" if self.probe >= 0 else "forward"


def compared(owner: str, shown: Leaf, probe: int, name: str, comparison: Comparison, *, keep: bool) -> Compared:
    """Measure a comparison; `keep` says whether its arrays are needed later on."""
    # Of a large leaf no more than two arrays of float64 are made here: a check is to fit where its function does.
    ulps, resolution = (np.empty(comparison.truth.shape) for _ in range(2))
    present = np.empty(comparison.truth.shape, bool)  # zeros that are zero say nothing of the error
    wrong = np.zeros(comparison.truth.shape, bool)
    largest, at = -1.0, 0
    precisions: list[float] = []  # by part: a median of all would need a third array
    for place, part in comparison.parts():
        value, _, excess, ulps[place] = _errors(part)
        resolution[place] = part.resolution()
        finite = part.precision()
        finite = finite[np.isfinite(finite)]
        precisions += [float(np.median(finite))] if finite.size else []
        present[place] = (value != 0) | (part.truth != 0)
        wrong[place] = part.formula_wrong() | part.arithmetic_wrong()
        index = int(np.argmax(excess))
        if excess[index] > largest:
            largest, at = float(excess[index]), place.start + index
    single = float(np.median(precisions)) if precisions and comparison.granted else math.nan
    known = comparison.truth != 0 if not comparison.parts_size else np.ones(comparison.truth.shape, bool)
    measured = Measured(
        elements=comparison.truth.size,
        excess=largest,
        worst=told(comparison, at, shown, name),
        median_ulps=float(np.median(ulps[present])) if present.any() else math.nan,
        detectable=float(resolution.min()) if known.any() else math.inf,
        typical=float(np.median(resolution[known])) if known.any() else math.nan,
        precision=(min(single, comparison.precision_as_a_whole()) if comparison.granted else math.nan)
        if known.any()
        else math.inf,
        precision_element=single if known.any() else math.inf,
        wrong_share=float(wrong.mean()),
        errors=_plotted(ulps, comparison),
    )
    keep = keep or bool(wrong.any())
    return Compared(owner, shown, probe, name, comparison if keep else None, measured, np.flatnonzero(wrong))


def element(
    leaf: Leaf, flat: int, value: float, expected: float, error: float, allowed: float, probe: str,
    of_largest: bool = False,
) -> Element:  # fmt: skip
    """An element by its index into the flat (real) array of a leaf."""
    suffix = ""
    if np.issubdtype(np.dtype(leaf.dtype), np.complexfloating):
        suffix = (".real", ".imag")[flat % 2]
        flat //= 2
    index = tuple(int(k) for k in np.unravel_index(flat, leaf.shape)) if leaf.shape else ()
    path = leaf.path + suffix
    return Element(path, index, float(value), float(expected), float(error), float(allowed), probe, of_largest)


def told(comparison: Comparison, flat: int, leaf: Leaf, probe: str) -> Element:
    """One element of a comparison, to report."""
    c = comparison.at([flat])
    value, allowed, _, ulps = _errors(c)
    unit = c.unit()
    return element(leaf, flat, value[0], c.truth[0], ulps[0], allowed[0] / unit[0], probe, bool(c.small()[0]))


def excess_of(comparison: Comparison, flat: int) -> float:
    """The error of one element beside what it was allowed."""
    return float(_errors(comparison.at([flat]))[2][0])


def _errors(c: Comparison) -> tuple[np.ndarray, ...]:
    """By element: the value to report, what it was allowed, its error beside that, and its error in ulps."""
    value, allowed = c.shown()
    with np.errstate(all="ignore"):
        error = np.abs(value - c.truth)
        error = np.where(np.isfinite(error), error, np.inf)
        excess = error / allowed
        return value, allowed, np.where(np.isnan(excess), np.inf, excess), error / c.unit()


def _plotted(ulps: np.ndarray, comparison: Comparison) -> ErrorByElement:
    """The errors of all elements, or of the worst and an even sample when there are many."""
    n = ulps.size
    if n <= PLOTTED:
        at = np.arange(n)
    else:
        worst = np.concatenate([p.start + np.argsort(-np.nan_to_num(ulps[p], nan=np.inf))[: PLOTTED // 4]
                                for p in parts(n)])  # fmt: skip
        worst = worst[np.argsort(-np.nan_to_num(ulps[worst], nan=np.inf))[: PLOTTED // 4]]
        at = np.unique(np.concatenate([worst, np.linspace(0, n - 1, PLOTTED - PLOTTED // 4).astype(int)]))
    c = comparison.at(at)
    with np.errstate(all="ignore"):
        allowed = c.shown()[1] / c.unit()
    plain = [tuple(float(v) for v in a) for a in (ulps[at], allowed)]
    return ErrorByElement(tuple(int(k) for k in at), plain[0], plain[1], n > PLOTTED)


def describe(value: Any) -> str:
    """An exception or a value in one line; of one that quotes a traceback (of a callback), the error at its end."""
    text = str(value).strip().splitlines()
    frames = [k for k, line in enumerate(text) if line.startswith("  File ")]
    if frames:
        text = [line for line in text[frames[-1] + 1 :] if not line.startswith(" ")] or text
    line = text[0] if text else ""
    kind = type(value).__name__ + ": " if isinstance(value, Exception) else ""
    return kind + (line if len(line) <= 200 else line[:197] + "...")
