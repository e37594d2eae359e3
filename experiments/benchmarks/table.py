"""The results as tables in a terminal."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.benchmarks.results import Result, Row, Verdict
from experiments.benchmarks.timing import quartiles

MET = {True: "[green]met[/]", False: "[red]not met[/]", None: "not measured"}
ERRORS = {"categorical": "test error", "bernoulli": "test error", "squared": "test error / deviation"}


def show_header(console: Console, header: dict[str, Any]) -> None:
    """The machine and what is installed."""
    console.print(
        f"{header['processor']}, {header['cores']} cores, {header['system']}, load {header['load']}, {header['date']}",
        highlight=False,
    )
    environment = ", ".join(f"{name}={value}" for name, value in header["environment"].items())
    console.print(
        f"{header['dtype']}, {header['rounds']} rounds in turn, size {header['size']!r}"
        + (f"; {environment}" if environment else ""),
        highlight=False,
    )


def show_versions(console: Console, versions: dict[str, dict[str, str]]) -> None:
    """Of each contestant's packages."""
    for title, found in versions.items():
        console.print(f"{title}: " + ", ".join(f"{name} {v}" for name, v in found.items()), highlight=False)


def show(console: Console, result: Result) -> None:
    """One workload: its contestants, and what bounds them."""
    workload = result.workload
    each = ", each network" if workload.members > 1 else ""
    where = result.device.upper() + (f" ({result.device_name})" if result.device_name else "")
    statuses = {row.status for row in result.rows}
    if statuses == {"not measured"}:
        console.print(f"[bold]{escape(workload.title)}[/], {where}: not measured ({escape(result.rows[0].why)})")
        return
    table = Table(title=f"{workload.title}\n{where}", title_justify="left", title_style="bold", caption_justify="left")
    for head in ("", f"time per {workload.unit}{each}", "quartiles", "× jnn", "quartiles", ERRORS[workload.loss]):
        table.add_column(head, justify="left" if not head else "right")
    table.add_column("risk", justify="right")
    table.add_column("bound")
    table.add_column("notes")
    verdicts = result.verdicts()
    for row in result.rows:
        table.add_row(*_cells(result, row, [v for v in verdicts if v.row == row.name]))
    table.caption = _caption(result)
    console.print(table)


def _cells(result: Result, row: Row, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    bounds = "\n".join(f"{v.text}: {MET[v.met]}{_value(v)}" for v in verdicts)
    if row.status != "measured":
        why = row.why if row.status in ("failed", "not available") else ""
        return (escape(row.title), row.status, "", "", "", "", "", bounds, escape(why))
    time = quartiles(row.seconds)
    ratio = result.ratio(row.name, result.workload.contestants[0])
    return (
        escape(row.title),
        duration(time.median),
        f"{duration(time.low)} to {duration(time.high)}",
        f"{ratio.median:.2f}" if ratio else "",
        f"{ratio.low:.2f} to {ratio.high:.2f}" if ratio else "",
        _error(row, percent=result.workload.loss != "squared"),
        f"{np.mean(row.risks):.3g}" if row.risks else "",
        bounds,
        "; ".join(_notes(result, row)),
    )


def _value(verdict: Verdict) -> str:
    if verdict.value is None:
        return ""
    if verdict.unit == "%":
        return f" ({verdict.value:.0%})"
    return f" ({verdict.value:.3g}{verdict.unit and ' '}{verdict.unit})"


def _error(row: Row, percent: bool) -> str:
    errors = np.asarray(row.errors) * (100 if percent else 1)
    spread = f" ± {errors.std(ddof=1) / np.sqrt(len(errors)):.2f}" if len(errors) > 1 else ""
    return f"{errors.mean():.2f}{spread}" + (" %" if percent else "")


def _notes(result: Result, row: Row) -> list[str]:
    notes = [row.precision]
    if row.threads is not None:
        notes.append(f"{row.threads} thread" + ("s" if row.threads > 1 else ""))
    if row.iterations:
        notes.append(f"{np.mean(row.iterations):.0f} iterations")
    if row.first is not None:
        notes.append(f"first {row.first:.2f} s")
    return notes


def _caption(result: Result) -> str:
    if result.floor is None or result.costs is None or result.work is None:
        return "The ratio is the median of the rounds' ratios."
    rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in result.matrix_rates.items())
    parts = (
        f"products {duration(result.work.flops / result.costs.matrix_rate)}"
        f" (at the best of {rates} GFLOP/s), tanh {duration(result.work.tanh * result.costs.tanh)}, "
        f"exp {duration(result.work.exp * result.costs.exp)}, Adam {duration(result.work.weights * result.costs.adam)}"
    )
    measured = ""
    if result.reference is not None:
        median = quartiles(result.reference.seconds).median
        measured = f"; measured / floor {median / result.floor:.2f}, share of the matrix rate {result.share:.0%}"
    return f"Floor {duration(result.floor)}: {parts}{measured}"


def duration(seconds: float) -> str:
    """With three digits, in the unit that suits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds / size < 1000 else f"{seconds / size:,.0f} {unit}"
    return f"{seconds / 1e-9:.3g} ns" if seconds else "0"
