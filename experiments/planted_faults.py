"""Would the tests notice? Plants one fault at a time in a copy of the library, and runs the tests that should turn red.

    python -m experiments.planted_faults [--only WORD] [--jobs 2] [--skip-baseline]

Each fault is one replacement of source text, a mistake that people make: a sign, a factor, a missing derivative, a
dropped shortcut, an off-by-one. A fault is *found* if the tests named beside it fail; they must pass without it, which
is checked first. The text to replace must occur exactly once, so that the list cannot silently rot.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from experiments.faults import FAULTS, Fault

ROOT = pathlib.Path(__file__).parent.parent


def run_tests(tree: pathlib.Path, tests: str) -> bool:
    """Whether the tests pass in that copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    done = subprocess.run(
        command, cwd=tree, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(tree)}
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest {tests} could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def copy(to: pathlib.Path) -> pathlib.Path:
    """A copy of what the tests need."""
    for part in ("jnn", "tests", "experiments"):
        shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / part, to / part)
    return to


def plant(fault: Fault) -> str:
    """Plant it, run its tests, and tell what came of it: "found", "SURVIVED", or what is wrong with the fault."""
    with tempfile.TemporaryDirectory() as folder:
        tree = copy(pathlib.Path(folder))
        source = tree / fault.file
        text = source.read_text()
        if text.count(fault.old) != 1:
            return f"the text to replace occurs {text.count(fault.old)} times"
        source.write_text(text.replace(fault.old, fault.new))
        return "SURVIVED" if run_tests(tree, fault.tests) else "found"


def main() -> int:
    """Plant all faults; the number that was not found is the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only faults whose description has this word")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many to try at a time")
    parser.add_argument("--skip-baseline", action="store_true", help="do not check first that the tests pass without")
    arguments = parser.parse_args()
    faults = [fault for fault in FAULTS if arguments.only in fault.what]
    missed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        unharmed = set() if arguments.skip_baseline else {fault.tests for fault in faults}
        baseline = {tests: pool.submit(run_tests, ROOT, tests) for tests in unharmed}
        for tests, passes in baseline.items():
            if not passes.result():
                sys.exit(f"without any fault these tests fail already: {tests}")
        for fault, outcome in zip(faults, pool.map(plant, faults), strict=True):
            missed += outcome != "found"
            print(f"{outcome:9} {fault.file:32} {fault.what}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} planted faults found")
    return missed


if __name__ == "__main__":
    sys.exit(main())
