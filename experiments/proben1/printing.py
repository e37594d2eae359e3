"""The study's tables, as text."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console

from experiments.command_line import rich_table
from experiments.experiment import Table
from experiments.proben1 import comparison
from experiments.proben1.published import KINDS
from experiments.proben1.study import Result

NONE = "–"
COLUMNS = (
    *("problem", "network", "hidden", "squared", "publ.", "diff. (t)", "agrees"),
    *("wrong", "publ.", "ep.", "publ."),
)
WIDTH = 120
"""Of the tables in characters, where there is no terminal that has a width."""


def show(console: Console, by_choices: Sequence[Sequence[Result]]) -> None:
    """All tables: for each reading of what the report leaves open, and then how they compare."""
    tables: list[Table | None] = []
    linear = [result for results in by_choices for result in results if result.cell.kind == "linear"]
    complete = []
    for results in by_choices:
        complete.append([*linear, *(result for result in results if result.cell.kind != "linear")])
        tables += [errors_table(results), shortcuts_table(results)]
    for table in (*tables, choices_table(complete)):
        if table is not None:
            made = rich_table(table, box=SIMPLE_HEAD)
            made.padding, made.pad_edge = 0, False  # 11 columns
            console.print(made)
            console.print()


def line(result: Result) -> str:
    """One network on one problem, when it is done."""
    theirs = result.cell.published
    error, epochs = ("", "") if theirs is None else (f" (published {theirs.squared})", f" (published {theirs.epochs})")
    return (
        f"{result.cell.name}: {result.squared} %{error}, {result.runs.epochs.mean():.0f} epochs{epochs}, "
        f"{result.seconds:.0f} s"
    )


def in_order(results: Sequence[Result]) -> list[Result]:
    """By problem, then by network."""
    return sorted(results, key=lambda r: (r.cell.problem.name, KINDS.index(r.cell.kind), r.cell.choices.name))


def errors_table(results: Sequence[Result]) -> Table:
    """Test errors and epochs beside the published ones, with the test of the difference."""
    rows = []
    for result in in_order(results):
        theirs, difference = result.cell.published, comparison.difference(result)
        rows.append(
            [
                result.cell.problem.name,
                result.cell.kind,
                "+".join(map(str, result.cell.layers)) or NONE,
                str(result.squared),
                NONE if theirs is None else str(theirs.squared),
                NONE if difference is None else f"{difference.value:+.2f} ({difference.in_errors:+.1f})",
                NONE if difference is None else "yes" if difference.agrees else "no",
                str(result.wrong) if result.cell.problem.classes else NONE,
                NONE if theirs is None else str(theirs.wrong),
                f"{result.runs.epochs.mean():.0f}",
                NONE if theirs is None else str(theirs.epochs),
            ]
        )
    runs = len(results[0].runs.squared)
    used = {r.cell.choices.name: r.cell.choices.words for r in results if r.cell.kind != "linear"}
    chosen = "; ".join(f"parameter set “{name}”: {words}" for name, words in used.items())
    return Table(
        "Test errors, in percent, and epochs trained",
        COLUMNS,
        rows,
        f"Mean ± standard deviation of {runs} runs (published: 60, linear 10). Difference: ours less the published "
        "mean, and t, in standard errors of both combined. It agrees within 2 standard errors, or within 3% of the "
        f"published mean. Taken is each run's network with the lowest validation risk. {chosen}"
        + ("." if chosen else ""),
    )


def shortcuts_table(results: Sequence[Result]) -> Table | None:
    """What shortcuts do to the test squared error; None if no problem was trained with and without them."""
    found = comparison.shortcuts(results)
    if not found:
        return None
    rows = [
        [each.problem, str(each.with_shortcuts), str(each.without), each.here, each.published or NONE] for each in found
    ]
    known = [each for each in found if each.published]
    agreeing = sum(each.here == each.published for each in known)
    summary = f"Here: {comparison.counted(each.here for each in found)}."
    if known:
        summary += (
            f" Published: {comparison.counted(each.published for each in known)}. "
            f"The same in {agreeing} of {len(known)}."
        )
    return Table(
        "What shortcuts do to the test squared error",
        ["problem", "with", "without", "shortcuts are", "published"],
        rows,
        f"Welch's t-test on means and standard deviations, two-sided at {comparison.LEVEL:.0%}; the same test on the "
        f"published figures. {summary}",
    )


def choices_table(by_choices: Sequence[Sequence[Result]]) -> Table | None:
    """For each reading of what the report leaves open: how many results agree, and how long was trained."""
    rows = []
    for results in by_choices:
        compared = [(r, d) for r in results if (d := comparison.difference(r)) is not None]
        if not compared:
            continue
        choices = next((r.cell.choices for r in results if r.cell.kind != "linear"), results[0].cell.choices)
        row = [choices.words]
        for kind in KINDS:
            here = [d.agrees for r, d in compared if r.cell.kind == kind]
            row.append(f"{sum(here)} of {len(here)}" if here else NONE)
        agreeing = sum(d.agrees for _, d in compared)
        row.append(f"{agreeing} of {len(compared)} ({agreeing / len(compared):.0%})")
        row.append(f"{_epochs_ratio([r for r, _ in compared if r.cell.kind != 'linear'])}")
        rows.append(row)
    if not rows:
        return None
    return Table(
        "How many test squared errors agree with the published ones",
        ["networks with hidden neurons", *KINDS, "all", "epochs"],
        rows,
        "Epochs: those trained by networks with hidden neurons, over the published ones (geometric mean). Linear "
        "networks are trained with the first parameter set of the report in every row.",
    )


def _epochs_ratio(results: Sequence[Result]) -> str:
    ratios = [math.log(r.runs.epochs.mean() / theirs.epochs) for r in results if (theirs := r.cell.published)]
    return f"× {math.exp(sum(ratios) / len(ratios)):.2f}" if ratios else NONE
