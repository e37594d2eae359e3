"""jnn and its peers, side by side.

    python -m experiments.benchmarks [--workloads digits-32 wide] [--peers jnn sklearn] [--rounds 7]
        [--python torch=/path/to/python] [--out report/benchmarks.json]

Every contestant trains the same network on the same data in a process of its own; they take turns, round after round.
Times are medians with quartiles, ratios are taken within each round, and beside each time stands the test error that
was reached, so that nobody wins by doing less work. A peer in another environment is named by `--python`, several
at once as in `--python flax,equinox,connex=/path/to/python`; it needs NumPy there, but not jnn.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.benchmarks import machine, table
from experiments.benchmarks.contestants import ENTRANTS, interpreters
from experiments.benchmarks.results import Result
from experiments.benchmarks.running import Bench, not_measured
from experiments.benchmarks.workers import Failure
from experiments.benchmarks.workloads import SIZES, Setting, workloads

PEERS = sorted({e.peer for e in ENTRANTS.values()} | set(ENTRANTS))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m experiments.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="workloads:\n" + "\n".join(f"  {w.name:14} {w.title}" for w in workloads().values()),
    )
    made.add_argument("--workloads", nargs="+", metavar="NAME", choices=list(workloads()), help="default: all")
    made.add_argument(
        "--peers",
        nargs="+",
        metavar="NAME",
        choices=PEERS,
        help=f"default: all but torch-compile; of {', '.join(PEERS)}",
    )
    made.add_argument("--rounds", type=int, default=7, help="default: 7")
    made.add_argument(
        "--python", action="append", default=[], metavar="PEERS=PATH", help="another interpreter for them"
    )
    made.add_argument(
        "--out", type=Path, default=Path("report/benchmarks.json"), help="default: report/benchmarks.json"
    )
    made.add_argument("--devices", nargs="+", choices=("cpu", "gpu"), default=["cpu", "gpu"], help="default: both")
    made.add_argument(
        "--precision",
        choices=("float32", "tf32", "bfloat16"),
        default="float32",
        help="of matrix products on a GPU (default: float32)",
    )
    made.add_argument("--size", choices=SIZES, default="default", help="tiny: try out the code; full: more epochs")
    made.add_argument(
        "--before", type=Path, metavar="PATH", help="another checkout of this repository, whose jnn takes part as well"
    )
    return made


def main(arguments: Sequence[str]) -> int:
    """Measure, show, and write; return the exit status."""
    options = parser().parse_args(arguments)
    try:
        pythons = interpreters(options.python)
    except ValueError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    if options.rounds < 1:
        print(f"Expected at least one round, got {options.rounds}.", file=sys.stderr)
        return 2
    console = Console(width=max(Console().width, 200) if not Console().is_terminal else None)
    header = {**machine.header(), "rounds": options.rounds, "size": options.size, "versions": {}}
    table.show_header(console, header)
    results: list[Result] = []
    try:
        for device in options.devices:
            _measure(options, device, pythons, console, header, results)
    except KeyboardInterrupt:
        console.print("Broken off; what was measured is kept.")
        return 130
    finally:
        table.show_versions(console, header["versions"])
        console.print(f"The figures are in {options.out}.", highlight=False, soft_wrap=True)
    return 0


def _measure(
    options: Any, device: Any, pythons: dict[str, str], console: Console, header: dict[str, Any], results: list[Result]
) -> None:
    chosen = workloads(options.size)
    names = options.workloads or list(chosen)
    setting = Setting(device, options.precision)
    with (
        console.status("") as status,
        Bench(setting, options.size, options.peers, pythons, status.update, options.before) as bench,
    ):
        device_name, missing = "", ""
        try:
            device_name = bench.device_name()
        except Failure as why:
            missing = "no GPU here that JAX can use" if device == "gpu" else str(why).splitlines()[0]
        for name in names:
            if missing:
                result = not_measured(chosen[name], device, missing, bench.takes_part)
            else:
                result = bench.measure(chosen[name], options.rounds)
            result.device_name = device_name
            results.append(result)
            header["versions"].update({row.title: row.versions for row in result.rows if row.versions})
            if result.rows:
                table.show(console, result)
            write(options.out, header, results)


def write(path: Path, header: dict[str, Any], results: Sequence[Result]) -> None:
    """All results so far; rewritten after each workload."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"header": header, "results": [r.as_json() for r in results]}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
