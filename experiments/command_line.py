"""Choosing experiments, running them, showing what came out, and writing the report as they are done."""

import argparse
import contextlib
import difflib
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.box import HEAVY_HEAD, Box
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table as RichTable

from experiments.experiment import Experiment, Outcome, Session, Table
from experiments.lecture import EXPERIMENTS
from experiments.report import Entry, write

MARKS = {True: "[green]Holds[/]", False: "[red]Does not hold[/]", None: "[yellow]Undecided[/]"}

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


def parser(names: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line; its help is about the experiment that is named, if one is."""
    chosen = [EXPERIMENTS[name] for name in names if name in EXPERIMENTS]
    if chosen:
        about = "\n\n".join(f"{e.title}. {e.question}\n\n{e.claim}" for e in chosen)
    else:
        width = max(map(len, EXPERIMENTS))
        listed = "\n".join(f"  {e.name:{width}}  {e.question}" for e in EXPERIMENTS.values())
        about = (
            "Try out what the lecture claims, on real data; print which claims hold, and write one HTML report.\n"
            "Without a name, all experiments are run, in a few minutes on 2 cores. Ctrl-C finishes what has begun and\n"
            "keeps what is done. Compiled programs are kept in ~/.cache/jnn: a second run starts sooner.\n\n"
            f"experiments:\n{listed}"
        )
    made = argparse.ArgumentParser(
        prog="python -m experiments", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="an experiment; all of them by default")
    made.add_argument("--seed", type=int, default=0, help="everything random derives from it (default: 0)")
    made.add_argument("--verbose", action="store_true", help="print the tables and the evidence as well")
    made.add_argument("--out", type=Path, default=Path("report"), help="folder of the report (default: report/)")
    size = made.add_mutually_exclusive_group()
    size.add_argument(
        "--full", dest="size", action="store_const", const="full", help="more seeds and splits: an hour or more for all"
    )
    size.add_argument(
        "--tiny", dest="size", action="store_const", const="tiny", help="try out the code; the figures mean nothing"
    )
    made.set_defaults(size="quick")
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the experiments that are named; return the exit status."""
    words = [word for word in arguments if not word.startswith("-")]
    options = parser(words).parse_args(arguments)
    unknown = [name for name in options.names if name not in EXPERIMENTS]
    if unknown:
        close = difflib.get_close_matches(unknown[0], EXPERIMENTS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        print(f"There is no experiment {unknown[0]!r}; {hint}The names are {', '.join(EXPERIMENTS)}.", file=sys.stderr)
        return 2
    if options.seed < 0:
        print(f"Expected a seed of at least 0, got {options.seed}.", file=sys.stderr)
        return 2
    chosen = [EXPERIMENTS[name] for name in dict.fromkeys(options.names)] or list(EXPERIMENTS.values())
    return run(chosen, options.seed, options.size, options.out, Console(), options.verbose)


def run(chosen: Sequence[Experiment], seed: int, size: str, out: Path, console: Console, verbose: bool = False) -> int:
    """Run experiments one after another, with the report rewritten after each."""
    entries: list[Entry] = []
    page = out / "index.html"
    if size == "full":
        console.print(_forecast(chosen), highlight=False)
    with stoppable(console) as stop_asked:
        for experiment in chosen:
            try:
                with _progress(console, len(chosen), len(entries)) as say:
                    session = Session(seed, size, say, stop_asked)  # type: ignore[arg-type]
                    begun = time.perf_counter()
                    outcome = experiment.run(session)
                    seconds = time.perf_counter() - begun
            except KeyboardInterrupt:
                console.print(f"{experiment.title}: broken off.")
                break
            entries.append(Entry(experiment, outcome, seconds))
            (show if verbose else show_claims)(console, experiment, outcome, seconds)
            write(page, entries, seed, size)
            if stop_asked():
                break
    if entries:
        where = f"\nThe report is [bold]{escape(str(page))}[/]; open it in a browser."
        console.print(where, highlight=False, soft_wrap=True)  # a path broken into two lines cannot be copied
    return INTERRUPTED if len(entries) < len(chosen) or entries[-1].outcome.interrupted else 0


def _forecast(chosen: Sequence[Experiment]) -> str:
    """What a run of full size is going to take."""
    minutes = sum(e.full_minutes for e in chosen)
    long = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{max(1, minutes):.0f} minutes"
    return (
        f"Full size: roughly {long} on 2 quiet cores. The report is rewritten after each experiment; Ctrl-C finishes "
        "what has begun and keeps what is done."
    )


@contextlib.contextmanager
def stoppable(console: Console) -> Iterator[Callable[[], bool]]:
    """Within: the first Ctrl-C is remembered, the second breaks off."""
    asked = False

    def remember(signum: int, frame: types.FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        console.print("Finishing what has begun; press Ctrl-C again to break off.")

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def progress_columns() -> tuple[ProgressColumn, ...]:
    """What is done, of how much, for how long, and what is being done now."""
    return (
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )


@contextlib.contextmanager
def _progress(console: Console, total: int, done: int) -> Iterator[Callable[[str], None]]:
    """Within: a function that shows what is being done now, beside the share of experiments done."""
    with Progress(*progress_columns(), console=console, transient=True) as drawn:
        task = drawn.add_task("", total=total, completed=done)

        def say(what: str) -> None:
            drawn.update(task, description=what)
            if not console.is_terminal:
                console.print(what, highlight=False)

        yield say


def show_claims(console: Console, experiment: Experiment, outcome: Outcome, seconds: float) -> None:
    """Of each claim a line: whether it holds."""
    for verdict in outcome.verdicts:
        line = f"{MARKS[verdict.holds]}: {escape(f'{experiment.name}: {verdict.claim}')}"
        console.print(line, highlight=False, soft_wrap=True)
    if outcome.interrupted:
        console.print(f"{experiment.name}: [yellow]interrupted, this is a part of it[/] ({seconds:.0f} s)")


def show(console: Console, experiment: Experiment, outcome: Outcome, seconds: float) -> None:
    """The tables and verdicts of an experiment, in the terminal."""
    console.rule(f"[bold]{experiment.title}[/] ({seconds:.0f} s)", align="left")
    console.print(experiment.question, highlight=False)
    for table in outcome.tables:
        console.print(rich_table(table))
    if outcome.interrupted:
        console.print("[yellow]Interrupted: this is a part of it.[/]")
    for verdict in outcome.verdicts:
        console.print(f"{MARKS[verdict.holds]}: {escape(f'{verdict.claim} {verdict.evidence}')}", highlight=False)


def rich_table(table: Table, box: Box | None = HEAVY_HEAD) -> RichTable:
    """A table for the terminal: the first column to the left, figures to the right."""
    made = RichTable(title=table.title, title_justify="left", title_style="bold", caption=table.note or None, box=box)
    made.caption_justify = "left"
    for place, head in enumerate(table.columns):
        made.add_column(head, justify="left" if place == 0 else "right", overflow="fold")
    for row in table.rows:
        made.add_row(*row)
    return made
