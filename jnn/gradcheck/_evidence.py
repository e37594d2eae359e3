"""What the probes showed of one leaf, gathered until the leaf is judged."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jnn.gradcheck._judge import Comparison
from jnn.gradcheck._problem import Leaf
from jnn.gradcheck.report import Element, ErrorByElement, LeafEvidence, StepCurve

PLOTTED = 256
KEPT = 200_000


@dataclasses.dataclass
class Dispute:
    """The elements of one leaf that one probe showed to deviate."""

    probe: int
    where: np.ndarray
    comparison: Comparison
    leaf: Leaf
    settled: dict[int, str] = dataclasses.field(default_factory=dict)


def element(
    leaf: Leaf,
    flat: int,
    value: float,
    expected: float,
    error: float,
    allowed: float,
    probe: str,
    of_largest: bool = False,
) -> Element:
    """An element by its index into the flat (real) array of a leaf."""
    suffix = ""
    if np.issubdtype(np.dtype(leaf.dtype), np.complexfloating):
        suffix = (".real", ".imag")[flat % 2]
        flat //= 2
    index = tuple(int(k) for k in np.unravel_index(flat, leaf.shape)) if leaf.shape else ()
    path = leaf.path + suffix
    return Element(path, index, float(value), float(expected), float(error), float(allowed), probe, of_largest)


class LeafRecord:
    """The evidence on one leaf of the arguments."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self.comparisons = 0
        self.disputes: list[Dispute] = []
        self.compared: list[tuple[int, Comparison]] = []
        self.worst: Element | None = None
        self._excess = -1.0
        self._ulps: list[float] = []
        self.errors: ErrorByElement | None = None
        self.detectable = math.inf
        self._typical: list[float] = []
        self.steps: list[StepCurve] = []
        self.notes: dict[str, None] = {}
        self.pattern = ""
        self.verdict = "pass"
        self.outcomes: dict[str, str] = {}  # by mode: "reverse", "forward"
        self.wrong_share = 0.0

    def add(self, index: int, probe: str, comparison: Comparison, shown_as: Leaf | None = None) -> None:
        """Take in the comparison that one probe made; `shown_as` is the output leaf, for a forward rule."""
        leaf = shown_as or self.leaf
        if not comparison.truth.size:
            return
        self.comparisons += comparison.truth.size
        # Of a large leaf no more than two arrays of float64 are made here: a check is to fit where its function does.
        ulps, resolution = (np.empty(comparison.truth.shape) for _ in range(2))
        present = np.empty(comparison.truth.shape, bool)  # zeros that are zero say nothing of the error
        largest, at = -1.0, 0
        for place, part in comparison.parts():
            value, _, excess, ulps[place] = _errors(part)
            resolution[place] = part.resolution()
            present[place] = (value != 0) | (part.truth != 0)
            worst = int(np.argmax(excess))
            if excess[worst] > largest:
                largest, at = float(excess[worst]), place.start + worst
        if self.errors is None or largest > 1 >= self._excess:  # plotted: the first probe, or the first that fails
            self.errors = _plotted(ulps, comparison)
        if largest > self._excess:
            self._excess = largest
            self.worst = _told(comparison, at, leaf, probe)
        if present.any():
            self._ulps.append(float(np.median(ulps[present], overwrite_input=True)))
        del ulps
        if np.any(comparison.truth):
            self.detectable = min(self.detectable, float(resolution.min()))
            self._typical.append(float(np.median(resolution[comparison.truth != 0], overwrite_input=True)))
        del resolution
        wrong = comparison.wrong()
        if wrong.any():
            self.disputes.append(Dispute(index, np.flatnonzero(wrong), comparison, leaf))
            self.wrong_share = max(self.wrong_share, float(wrong.mean()))
        # Of a large leaf one comparison is kept (for the power of the check); the others are only looked at.
        if shown_as is None and (comparison.truth.size <= KEPT or not self.compared):
            self.compared.append((index, comparison))

    def seen(self, mode: str, outcome: str) -> None:
        """Note what an element of a mode's comparisons came to, if it is worse than what was seen before."""
        worse = ("kink", "inconclusive", "fail")
        if outcome in worse and worse.index(outcome) >= worse.index(self.outcomes.get(mode, worse[0])):
            self.outcomes[mode] = outcome

    def show(self, settled: Sequence[tuple[Dispute, int]], probes: Mapping[int, str]) -> None:
        """Make the worst of the elements that decided the verdict the one to report."""
        best = -1.0
        for dispute, flat in settled:
            _, _, excess, _ = _errors(dispute.comparison.at([flat]))
            if excess[0] > best:
                best = excess[0]
                self.worst = _told(dispute.comparison, flat, dispute.leaf, probes[dispute.probe])

    def evidence(self, expected: bool) -> LeafEvidence:
        """The leaf's part of the report."""
        return LeafEvidence(
            path=self.leaf.path,
            shape=tuple(int(n) for n in self.leaf.shape),
            dtype=np.dtype(self.leaf.dtype).name,
            verdict=self.verdict,
            comparisons=self.comparisons,
            wrong_share=self.wrong_share,
            worst=self.worst,
            median_ulps=float(np.median(self._ulps)) if self._ulps else math.nan,
            pattern=self.pattern,
            note="; ".join(self.notes),
            expected=expected,
            detectable=self.detectable,
            detectable_element=float(np.median(self._typical)) if self._typical else math.inf,
            errors=self.errors,
            steps=tuple(self.steps),
        )


def _errors(c: Comparison) -> tuple[np.ndarray, ...]:
    """By element: the value to report, what it was allowed, its error beside that, and its error in ulps."""
    value, allowed = c.shown()
    with np.errstate(all="ignore"):
        error = np.abs(value - c.truth)
        error = np.where(np.isfinite(error), error, np.inf)
        excess = error / allowed
        return value, allowed, np.where(np.isnan(excess), np.inf, excess), error / c.unit()


def _told(comparison: Comparison, flat: int, leaf: Leaf, probe: str) -> Element:
    """One element of a comparison, to report."""
    c = comparison.at([flat])
    value, allowed, _, ulps = _errors(c)
    unit = c.unit()
    return element(leaf, flat, value[0], c.truth[0], ulps[0], allowed[0] / unit[0], probe, bool(c.small()[0]))


def _plotted(ulps: np.ndarray, comparison: Comparison) -> ErrorByElement:
    """The errors of all elements, or of the worst and an even sample when there are many."""
    n = ulps.size
    if n <= PLOTTED:
        at = np.arange(n)
    else:
        worst = np.argpartition(np.where(np.isnan(ulps), np.inf, ulps), n - PLOTTED // 4)[n - PLOTTED // 4 :]
        at = np.unique(np.concatenate([worst, np.linspace(0, n - 1, PLOTTED - PLOTTED // 4).astype(int)]))
    c = comparison.at(at)
    with np.errstate(all="ignore"):
        allowed = c.shown()[1] / c.unit()
    plain = [tuple(float(v) for v in a) for a in (ulps[at], allowed)]
    return ErrorByElement(tuple(int(k) for k in at), plain[0], plain[1], n > PLOTTED)


def describe(value: Any) -> str:
    """An exception or a value in one line."""
    text = str(value).strip().splitlines()
    line = text[0] if text else ""
    kind = type(value).__name__ + ": " if isinstance(value, Exception) else ""
    return kind + (line if len(line) <= 200 else line[:197] + "...")
