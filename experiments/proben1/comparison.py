"""Ours beside the published figures, and networks with shortcuts beside those without.

Only means and standard deviations were published, not single runs: both tests need no more, and treat both sides alike.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from scipy import stats

from experiments.proben1.published import Kind, Sample
from experiments.proben1.study import Result

ERRORS = 2.0
SHARE = 0.03
LEVEL = 0.05
"""Of the t-tests between networks, two-sided."""

Effect = Literal["better", "worse", "no difference"]


@dataclass(frozen=True)
class Difference:
    """Our mean less the published one, with the standard error of both combined, √(s₁²/n₁ + s₂²/n₂)."""

    ours: Sample
    theirs: Sample

    @property
    def value(self) -> float:
        """Ours less theirs."""
        return self.ours.mean - self.theirs.mean

    @property
    def error(self) -> float:
        """The combined standard error."""
        return math.hypot(self.ours.error, self.theirs.error)

    @property
    def in_errors(self) -> float:
        """The difference in standard errors, Welch's t."""
        return self.value / self.error if self.error else math.copysign(math.inf, self.value) if self.value else 0.0

    @property
    def agrees(self) -> bool:
        """Whether it is within 2 combined standard errors, or within 3% of the published mean."""
        return abs(self.value) <= ERRORS * self.error or abs(self.value) <= SHARE * self.theirs.mean


def difference(result: Result) -> Difference | None:
    """Our test squared error against the published one; None if none is at hand."""
    theirs = result.cell.published
    return None if theirs is None else Difference(result.squared, theirs.squared)


def effect_of_shortcuts(with_shortcuts: Sample, without: Sample) -> Effect:
    """Whether the test squared error is lower or higher with shortcuts, or the t-test finds no difference."""
    if not _welch(with_shortcuts, without) < LEVEL:
        return "no difference"
    return "better" if with_shortcuts.mean < without.mean else "worse"


def _welch(one: Sample, other: Sample) -> float:
    if one.deviation == other.deviation == 0:
        return float(one.mean == other.mean)
    return float(
        stats.ttest_ind_from_stats(
            one.mean, one.deviation, one.runs, other.mean, other.deviation, other.runs, equal_var=False
        ).pvalue
    )


@dataclass(frozen=True)
class Shortcuts:
    """What shortcuts do on one problem: here, and by the published figures if those are at hand."""

    problem: str
    with_shortcuts: Sample
    without: Sample
    here: Effect
    published: Effect | None


def shortcuts(results: Iterable[Result]) -> list[Shortcuts]:
    """For each problem of which both networks were trained (with the same choices)."""
    by_cell: Mapping[tuple[str, Kind], Result] = {(r.cell.problem.name, r.cell.kind): r for r in results}
    found = []
    for (problem, kind), result in sorted(by_cell.items()):
        other = by_cell.get((problem, "no shortcuts"))
        if kind != "pivot" or other is None:
            continue
        pair, theirs = (result.squared, other.squared), (result.cell.published, other.cell.published)
        published = effect_of_shortcuts(theirs[0].squared, theirs[1].squared) if theirs[0] and theirs[1] else None
        found.append(Shortcuts(problem, *pair, effect_of_shortcuts(*pair), published))
    return found


def counted(effects: Iterable[Effect | None]) -> str:
    """How often better, worse, no difference."""
    count = Counter(effects)
    return ", ".join(f"{effect} {count[effect]}" for effect in ("better", "worse", "no difference"))
