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
        value, excess, ulps, allowed_ulps, resolution = (np.empty(comparison.truth.shape) for _ in range(5))
        for place, part in comparison.parts():
            value[place], allowed = part.shown()
            unit = part.unit()
            with np.errstate(all="ignore"):
                error = np.abs(value[place] - part.truth)
                error = np.where(np.isfinite(error), error, np.inf)
                beyond = error / allowed
                excess[place] = np.where(np.isnan(beyond), np.inf, beyond)
                ulps[place], allowed_ulps[place] = error / unit, allowed / unit
            resolution[place] = part.resolution()
        at = int(np.argmax(excess))
        if excess[at] > self._excess:
            self._excess = float(excess[at])
            numbers = value[at], comparison.truth[at], ulps[at], allowed_ulps[at]
            self.worst = element(leaf, at, *numbers, probe, bool(comparison.small()[at]))
        present = (value != 0) | (comparison.truth != 0)  # zeros that are zero say nothing of the error
        if present.any():
            self._ulps.append(float(np.median(ulps[present])))
        if self.errors is None or excess[at] > 1 >= self._excess:
            self.errors = _plotted(ulps, allowed_ulps)
        if np.any(comparison.truth):
            self.detectable = min(self.detectable, float(resolution.min()))
            self._typical.append(float(np.median(resolution[comparison.truth != 0])))
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
            c = dispute.comparison
            value, allowed = (a[flat] for a in c.shown())
            unit = c.unit()[flat]
            with np.errstate(all="ignore"):
                error = abs(value - c.truth[flat])
                error = error if np.isfinite(error) else np.inf
                excess = error / allowed
            if excess > best:
                best = excess
                name = probes[dispute.probe]
                expected = c.truth[flat]
                self.worst = element(
                    dispute.leaf, flat, value, expected, error / unit, allowed / unit, name, bool(c.small()[flat])
                )

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


def _plotted(ulps: np.ndarray, allowed: np.ndarray) -> ErrorByElement:
    """The errors of all elements, or of the worst and an even sample when there are many."""
    n = ulps.size
    if n <= PLOTTED:
        at = np.arange(n)
    else:
        worst = np.argpartition(-np.where(np.isnan(ulps), np.inf, ulps), PLOTTED // 4)[: PLOTTED // 4]
        at = np.unique(np.concatenate([worst, np.linspace(0, n - 1, PLOTTED - PLOTTED // 4).astype(int)]))
    plain = [tuple(float(v) for v in a[at]) for a in (ulps, allowed)]
    return ErrorByElement(tuple(int(k) for k in at), plain[0], plain[1], n > PLOTTED)


def describe(value: Any) -> str:
    """An exception or a value in one line."""
    text = str(value).strip().splitlines()
    line = text[0] if text else ""
    kind = type(value).__name__ + ": " if isinstance(value, Exception) else ""
    return kind + (line if len(line) <= 200 else line[:197] + "...")
