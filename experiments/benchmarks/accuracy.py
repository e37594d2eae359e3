"""Do the libraries reach the same test error at the same setting?

    python -m experiments.benchmarks.accuracy [--workload digits-32] [--seeds 20] [--epochs 60]
        [--python torch=/path/to/python]

One of the benchmarks' workloads, by default digits, 64-100-10 tanh, mini-batch 32, Adam, on one fixed split into
training and test examples. Each library draws and shuffles by itself, from as many seeds. So the runs are independent,
and differences of the mean test error from jnn's are tested by Welch's t-test; its interval says how large a difference
these seeds could have missed. (What another split would give is no part of the question, and not in the intervals.)
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from experiments.benchmarks import machine
from experiments.benchmarks.contestants import interpreters
from experiments.benchmarks.running import Bench
from experiments.benchmarks.workloads import SIZES, Setting, workloads

WORKLOADS = ("digits-32", "digits-200", "wide")
CONTESTANTS = ("jnn", "sklearn", "torch", "jax", "equinox", "flax")


@dataclass(frozen=True)
class Difference:
    """A mean test error, and what it differs from jnn's by; `p` is Welch's, the interval has 95%."""

    mean: float
    error: float
    difference: float
    low: float
    high: float
    p: float


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Theirs against ours."""
    a, b = np.asarray(theirs, float), np.asarray(ours, float)
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"expected at least two seeds of each, got {len(b)} and {len(a)}")
    error = float(a.std(ddof=1) / np.sqrt(len(a)))
    if a.var() == b.var() == 0:  # no spread, no test: the difference is exact
        gap = float(a.mean() - b.mean())
        return Difference(float(a.mean()), error, gap, gap, gap, 1.0 if gap == 0 else 0.0)
    test: Any = stats.ttest_ind(a, b, equal_var=False)
    interval = test.confidence_interval(0.95)
    gap = float(a.mean() - b.mean())
    return Difference(float(a.mean()), error, gap, float(interval.low), float(interval.high), float(test.pvalue))


def show(console: Console, errors: Mapping[str, Sequence[float]]) -> None:
    """The table; `errors` by title, the first one's being jnn's."""
    table = Table(title="Test error, %", title_justify="left", title_style="bold")
    for head in ("", "mean ± standard error", "minus jnn's", "95% interval", "p"):
        table.add_column(head, justify="right" if head else "left")
    ours = next(iter(errors.values()))
    for place, (title, found) in enumerate(errors.items()):
        d = compare(ours, found)
        cells = (f"{100 * d.difference:+.2f}", f"{100 * d.low:+.2f} to {100 * d.high:+.2f}", f"{d.p:.2f}")
        table.add_row(title, f"{100 * d.mean:.2f} ± {100 * d.error:.2f}", *(cells if place else ("", "", "")))
    console.print(table)


def main(arguments: Sequence[str]) -> int:
    """Train, show, write; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=20, help="default: 20")
    parser.add_argument("--workload", choices=WORKLOADS, default="digits-32", help="default: digits-32")
    parser.add_argument("--epochs", type=int, default=60, help="default: 60")
    parser.add_argument("--peers", nargs="+", choices=CONTESTANTS, default=["sklearn", "torch"])
    parser.add_argument("--python", action="append", default=[], metavar="PEERS=PATH")
    parser.add_argument("--size", choices=SIZES, default="default", help="of the data")
    parser.add_argument("--out", type=Path, default=Path("report/accuracy.json"))
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        print(f"Expected at least two seeds, got {options.seeds}.", file=sys.stderr)
        return 2
    try:
        pythons = interpreters(options.python)
    except ValueError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    console = Console()
    names = tuple(dict.fromkeys(("jnn", *options.peers)))
    workload = replace(workloads()[options.workload], epochs=options.epochs, contestants=names)
    with console.status("") as status, Bench(Setting("cpu", "float32"), options.size, names, pythons) as bench:
        bench.say = status.update
        result = bench.measure(workload, options.seeds, floors=False)
    errors = {row.title: row.errors for row in result.rows if row.status == "measured"}
    for row in result.rows:
        if row.status != "measured":
            console.print(f"{row.title}: {row.status} ({row.why})", markup=False)
    if result.reference is None:
        return 1
    console.print(f"{options.seeds} seeds, {options.epochs} epochs, {workload.title}", highlight=False)
    show(console, errors)
    ours = result.reference.errors
    figures = {title: {**asdict(compare(ours, found)), "errors": found} for title, found in errors.items()}
    header = {**machine.header(), "versions": {row.title: row.versions for row in result.rows}}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"header": header, "seeds": options.seeds, "figures": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
