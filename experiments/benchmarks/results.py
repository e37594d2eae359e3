"""What came out, as plain data that turns into JSON."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from experiments.benchmarks.bounds import BOUNDS, LEAST_SHARE, MOST_OF_FLOOR, MOST_SECONDS
from experiments.benchmarks.floors import Costs, Work, floor
from experiments.benchmarks.timing import Quartiles, quartiles, ratios
from experiments.benchmarks.workloads import Workload

Status = Literal["measured", "not installed", "not available", "not measured", "failed"]


@dataclass
class Row:
    """One contestant's figures, round by round.

    Attributes:
        seconds: for each unit (and network) of the workload.
        errors: on the test examples (see `scoring.error`).
        risks: on the training examples, what was minimized.
        first: seconds of the first training in the process, so with compilation; None if trials of threads came first.
        threads: which number was the fastest, where that was tried.
    """

    name: str
    title: str
    status: Status
    why: str = ""
    precision: str = "float32"
    threads: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    first: float | None = None
    seconds: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    risks: list[float] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)


@dataclass
class Verdict:
    """A bound, and whether it is met; None if it was not measured. `unit` is that of the value: "", "s" or "%"."""

    text: str
    value: float | None
    met: bool | None
    row: str
    unit: str = ""


@dataclass
class Result:
    """One workload on one device."""

    workload: Workload
    device: str
    device_name: str
    rows: list[Row]
    work: Work | None = None
    costs: Costs | None = None
    matrix_rates: dict[str, float] = field(default_factory=dict)

    def row(self, name: str) -> Row | None:
        """The contestant's, if it was measured."""
        return next((row for row in self.rows if row.name == name and row.status == "measured"), None)

    @property
    def reference(self) -> Row | None:
        """The one with which all are compared."""
        return self.row(self.workload.contestants[0])

    def ratio(self, against: str, of: str) -> Quartiles | None:
        """The time of one, in those of the other."""
        theirs, ours = self.row(against), self.row(of)
        return ratios(theirs.seconds, ours.seconds) if theirs and ours else None

    @property
    def floor(self) -> float | None:
        """Seconds a unit and network that nothing can be faster than."""
        if self.work is None or self.costs is None or self.workload.unit not in ("step", "epoch"):
            return None
        return floor(self.work, self.costs)

    @property
    def share(self) -> float | None:
        """The share of the machine's matrix rate that the reference reaches."""
        if self.work is None or self.costs is None or self.reference is None or not self.floor:
            return None
        return self.work.flops / quartiles(self.reference.seconds).median / self.costs.matrix_rate

    def verdicts(self) -> list[Verdict]:
        """All bounds on this workload; they hold for CPUs."""
        if self.device != "cpu":
            return []
        name, found = self.workload.name, []

        def judge(text: str, value: float | None, met: Callable[[float], bool], row: str, unit: str = "") -> None:
            found.append(Verdict(text, value, None if value is None else met(value), row, unit))

        for bound in BOUNDS:
            if bound.workload == name:
                ratio = self.ratio(bound.of, bound.against) if bound.within else self.ratio(bound.against, bound.of)
                judge(bound.text, ratio and ratio.median, bound.met, bound.row)
        first, ours = self.workload.contestants[0], self.reference
        median = ours and quartiles(ours.seconds).median
        if name in MOST_SECONDS:
            epochs, most = MOST_SECONDS[name]
            judge(f"{epochs:,} epochs in ≤ {most:g} s", median and epochs * median, lambda s: s <= most, first, "s")
        if name in LEAST_SHARE:
            least = LEAST_SHARE[name]
            judge(f"≥ {least:.0%} of the matrix rate", self.share, lambda share: share >= least, first, "%")
        if self.workload.kind == "training" and self.floor and not self.workload.extras:
            times = median and median / self.floor
            judge(f"≤ {MOST_OF_FLOOR:g} × the floor", times, lambda times: times <= MOST_OF_FLOOR, first)
        return found

    def as_json(self) -> dict[str, Any]:
        """All of it, with the medians and ratios that follow from it."""
        reference = self.workload.contestants[0]
        rows = []
        for row in self.rows:
            made = dict(vars(row))
            if row.status == "measured":
                made["quartiles"] = vars(quartiles(row.seconds))
                ratio = self.ratio(row.name, reference)
                made["ratio"] = None if ratio is None else vars(ratio)
                made["error"] = float(np.mean(row.errors))
            rows.append(made)
        return {
            "workload": self.workload.as_json(),
            "device": self.device,
            "device_name": self.device_name,
            "rows": rows,
            "work": self.work and self.work._asdict(),
            "costs": self.costs and self.costs._asdict(),
            "matrix_rates": self.matrix_rates,
            "floor": self.floor,
            "share_of_matrix_rate": self.share,
            "bounds": [vars(verdict) for verdict in self.verdicts()],
        }
