"""Choosing problems, training, showing what is done as it is done, and keeping it."""

import argparse
import concurrent.futures
import dataclasses
import difflib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from experiments.command_line import INTERRUPTED, progress_columns, stoppable
from experiments.proben1 import files, printing, study
from experiments.proben1.files import Problem
from experiments.proben1.published import KINDS
from experiments.proben1.study import PARAMETERS, Cell, Result
from jnn.optimizers import Variant

ABOUT = """\
Reproduce Prechelt's study "Proben1" (1994) from its data files: linear networks, networks with all shortcut
connections and networks without, trained by Rprop, stopped by GL5 and P5, beside the published figures. Ctrl-C
finishes what has begun and shows what is done; a second one shows it at once.
"""
NO_DATA = """\
Expected --data FOLDER, the folder with Proben1's data files (cancer1.dt and so on, in subfolders if you like). They
are public, and not part of this project: get the Proben1 archive, and name the folder that you unpacked.\
"""
TOGETHER = 2
"""How many cells are worked on at once: while one is compiled, on one core, another is trained."""


class Refused(ValueError):
    """What was asked for cannot be done; the message says why."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m experiments.proben1",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--data", type=Path, metavar="FOLDER", help="where the .dt files are")
    made.add_argument(
        "--problems", nargs="+", metavar="NAME", help="cancer1, or cancer for all its variants (default: all files)"
    )
    made.add_argument("--networks", nargs="+", choices=KINDS, default=list(KINDS), help="default: all three")
    made.add_argument("--runs", type=int, default=60, help="of each network, at least 2 (default: 60, as published)")
    made.add_argument("--seed", type=int, default=0, help="everything random derives from it (default: 0)")
    made.add_argument("--out", type=Path, metavar="FILE", help="keep every run's figures in this file, as JSON")
    made.add_argument(
        "--parameters",
        nargs="+",
        choices=tuple(PARAMETERS),
        default=["final"],
        help="sets of Rprop's parameters and initial weights that the report names: of its final runs (default), or "
        "of its search for architectures, or both; linear networks always use the first",
    )
    made.add_argument(
        "--variant",
        choices=get_args(Variant),
        default=study.VARIANT,
        help=f"of Rprop, which the report does not name (default: {study.VARIANT})",
    )
    made.add_argument(
        "--outputs",
        choices=get_args(study.Outputs),
        default="published",
        help="what outputs of networks with hidden neurons go through (default: as published; linear where nothing is)",
    )
    made.add_argument(
        "--hidden",
        default="+".join(map(str, study.HIDDEN)),
        metavar="N+N",
        help="hidden layers for problems whose published network is not at hand (default: %(default)s)",
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Run the study; return the exit status."""
    options = parser().parse_args(arguments)
    try:
        cells = plan(options)
    except (Refused, files.MalformedFile) as error:
        print(error, file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:
        console = Console(width=printing.WIDTH)
    return run(cells, options.runs, options.seed, options.out, console)


def plan(options: argparse.Namespace) -> list[list[Cell]]:
    """For each parameter set its cells, the small ones first.

    Raises:
        Refused: an option makes no sense here.
        MalformedFile: a data file is not in the format.
    """
    if options.data is None:
        raise Refused(NO_DATA)
    if options.runs < 2:
        raise Refused(f"Expected --runs of at least 2, for a mean and a deviation; got {options.runs}.")
    if options.seed < 0:
        raise Refused(f"Expected a --seed of at least 0, got {options.seed}.")
    if options.out is not None:
        _check_writable(options.out)
    hidden = _hidden(options.hidden)
    problems = [_read(path) for path in chosen(options.data, options.problems)]
    planned = []
    for place, name in enumerate(dict.fromkeys(options.parameters)):
        choices = dataclasses.replace(PARAMETERS[name], variant=options.variant)
        linear = dataclasses.replace(PARAMETERS["final"], variant=options.variant)
        cells = [
            Cell(problem, kind, linear if kind == "linear" else choices, hidden, options.outputs)
            for problem in problems
            for kind in dict.fromkeys(options.networks)
            if kind != "linear" or place == 0  # once is enough
        ]
        planned.append(sorted(cells, key=lambda cell: cell.cost))
    return planned


def chosen(folder: Path, names: Sequence[str] | None) -> list[Path]:
    """The files of the problems that are named, or all there are.

    Raises:
        Refused: the folder is none, or has no such file.
    """
    if not folder.is_dir():
        raise Refused(f"There is no folder {folder}.")
    found = {path.stem: path for path in sorted(folder.rglob("*.dt"))}
    if not found:
        raise Refused(f"There is no .dt file in {folder}, nor below it.")
    if names is None:
        return list(found.values())
    paths: dict[str, Path] = {}
    for name in (name.removesuffix(".dt") for name in names):
        here = [each for each in found if each == name or each.rstrip("0123456789") == name]
        if not here:
            close = difflib.get_close_matches(name, found, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise Refused(f"There is no problem {name!r} in {folder}; {hint}There are {', '.join(found)}.")
        paths.update((each, found[each]) for each in here)
    return list(paths.values())


def _read(path: Path) -> Problem:
    try:
        return files.read(path)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None


def _hidden(text: str) -> tuple[int, ...]:
    sizes = text.split("+")
    if not all(size.isascii() and size.isdigit() for size in sizes) or not any(map(int, sizes)):
        raise Refused(f"Expected --hidden as sizes of layers, 16+8 or 32, got {text!r}.")
    return tuple(int(size) for size in sizes if int(size))


def _check_writable(out: Path) -> None:
    if out.is_dir():
        raise Refused(f"Expected --out as a file, got the folder {out}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a"):
            pass
    except OSError as error:
        raise Refused(f"{out} cannot be written: {error.strerror}.") from None


def run(planned: Sequence[Sequence[Cell]], runs: int, seed: int, out: Path | None, console: Console) -> int:
    """Train everything that is planned; show and keep each result as it comes, and the tables in the end."""
    sets: list[list[Result]] = []
    broken_off = False
    total = sum(map(len, planned))
    try:
        with stoppable(console) as stop_asked, Progress(*progress_columns(), console=console, transient=True) as bar:
            task = bar.add_task("", total=total)
            for cells in planned:
                done: list[Result] = []
                sets.append(done)
                for result in train_all(
                    cells, runs, seed, stop_asked, lambda names: bar.update(task, description=escape("; ".join(names)))
                ):
                    done.append(result)
                    bar.advance(task)
                    console.print(escape(printing.line(result)), highlight=False)
                    keep(sets, runs, seed, out)
    except KeyboardInterrupt:
        broken_off = True
    printing.show(console, [results for results in sets if results])
    complete = sum(map(len, sets)) == total
    if not complete:
        console.print(f"Interrupted: {sum(map(len, sets))} of {total} done.")
    if out is not None and any(sets):
        console.print(f"All runs are in {escape(str(out))}.", highlight=False, soft_wrap=True)
    if broken_off:
        # A compiled program cannot be broken off, and Python would wait for it.
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    return 0 if complete else INTERRUPTED


def train_all(
    cells: Sequence[Cell], runs: int, seed: int, stop_asked: Callable[[], bool], tell: Callable[[list[str]], None]
) -> Iterator[Result]:
    """Results as they come; after Ctrl-C only of what has begun."""
    waiting = list(cells)
    running: dict[concurrent.futures.Future[Result], str] = {}
    pool = concurrent.futures.ThreadPoolExecutor(TOGETHER)
    try:
        while running or (waiting and not stop_asked()):
            while waiting and len(running) < TOGETHER and not stop_asked():
                cell = waiting.pop(0)
                running[pool.submit(study.train, cell, runs, seed)] = cell.name
                tell(list(running.values()))
            done, _ = concurrent.futures.wait(running, timeout=0.2, return_when="FIRST_COMPLETED")
            for future in done:
                del running[future]
                tell(list(running.values()))
                yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def keep(sets: Sequence[Sequence[Result]], runs: int, seed: int, out: Path | None) -> None:
    """Write everything that is done, in one piece: a file that is there is complete."""
    if out is None:
        return
    cells = [record(result) for results in sets for result in results]
    beside = out.with_name(out.name + ".part")
    beside.write_text(json.dumps({"runs": runs, "seed": seed, "cells": cells}, indent=1) + "\n", encoding="utf-8")
    beside.replace(out)


def record(result: Result) -> dict[str, Any]:
    """A result as JSON has it: how it was trained, each run's figures, and the published ones or null."""
    cell, runs = result.cell, result.runs
    published = cell.published
    return {
        "problem": cell.problem.name,
        "network": cell.kind,
        "hidden": list(cell.layers),
        "weights": cell.network.weight_count,
        "output": cell.output,
        "choices": dataclasses.asdict(cell.choices),
        "squared_error_percentage": [round(float(value), 6) for value in runs.squared],
        "classification_error_percentage": (
            [round(float(value), 6) for value in runs.wrong] if cell.problem.classes else None
        ),
        "epochs": runs.epochs.tolist(),
        "epoch_of_lowest_validation_risk": runs.best_epoch.tolist(),
        "stopped_by": [study.REASONS[code] for code in runs.code.tolist()],
        "seconds": round(result.seconds, 2),
        "published": None if published is None else dataclasses.asdict(published),
    }
