"""Would the tests notice? Changes the library's arithmetic at one place at a time, and runs the module's tests.

    python -m experiments.mutants [--only WORD] [--sample N] [--seed S] [--jobs 2] [--out FILE.jsonl]

A mutant is *killed* if a test of its module fails, or does not end; in the end, those tests must pass without a mutant.
What survives is listed, but for what is known to be no fault (`selections.EQUIVALENT`, with the reasons). With `--out`
each result is a line of that file, and a later call goes on from it. The exit status is 1 if less than 95 % are killed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.mutants import running
from experiments.mutants.changes import Made, Mutant, mutants, planted
from experiments.mutants.selections import PLANTED, TESTS, excused

PACKAGE = running.ROOT / "jnn"
ASKED = 0.95
SECONDS = 600.0
"""After so many the tests do not end: the longest of them take a third, beside much else."""
HOW = {"passed": "survived", "failed": "killed", "hung": "hung"}


def every(only: str = "") -> list[Made]:
    """The mutants of all modules whose module, function, kind or change has the word."""
    found = [each for module in TESTS for each in mutants(PACKAGE / module, module)]
    found += [each for module, faults in PLANTED.items() for each in planted(PACKAGE / module, module, faults)]
    return [each for each in found if only in "{module}:{where}: {kind}: {what}".format(**asdict(each[0]))]


def drawn(mutant: Mutant, seed: int) -> bytes:
    """By what a sample is drawn: changes elsewhere, and a larger sample, leave it as it is."""
    return hashlib.blake2b(repr((seed, mutant.key)).encode()).digest()


def earlier(path: Path | None) -> dict[tuple[str, str, str, int], dict[str, Any]]:
    """The results in a file, by mutant."""
    if path is None or not path.exists():
        return {}
    lines = map(json.loads, path.read_text().splitlines())
    return {(line["module"], line["where"], line["what"], line["number"]): line for line in lines}


def examined(
    trees: list[Path], chosen: Sequence[Made], before: Sequence[dict[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """The result of each mutant; those of before tell which tests to begin with."""
    killers: dict[str, set[str]] = {module: set() for module in TESTS}
    for result in before:
        killers[result["module"]] |= {result["by"]}

    def begin(tree: Path, task: Made) -> tuple[running.Child, contextlib.ExitStack]:
        mutant, text = task
        kept = contextlib.ExitStack()
        kept.enter_context(running.mutated(tree / "jnn" / mutant.module, text()))
        return running.start(
            tree, ["-x", *TESTS[mutant.module].split()], SECONDS, mutant.where, killers[mutant.module]
        ), kept

    for (mutant, _), how, took, failed in running.together(trees, iter(chosen), begin):
        killers[mutant.module].update(failed)
        result = {"how": HOW[how], "by": failed[0] if failed else None, "seconds": round(took, 1)}
        yield {**asdict(mutant), **result}


def unfounded(tree: Path, results: Sequence[dict[str, Any]]) -> list[str]:
    """The tests that have killed mutants, and fail without one as well."""
    killers = sorted({r["by"] for r in results if r["by"]})
    if not killers:
        return []
    child = running.start(tree, killers, 60 + SECONDS * len(killers))
    while (how := child.ended()) is None:
        time.sleep(0.1)
    return [] if how == "passed" else running.failures(tree) or [f"all ({how}): {(tree / 'log').read_text()[-2000:]}"]


def told(result: dict[str, Any]) -> str:
    """A result in a line."""
    return "{how} in {seconds} s: {module}:{line}: {where}: {kind}: {what}".format(**result)


def conclude(results: Sequence[dict[str, Any]]) -> int:
    """Print what survived, and the share that did not."""
    survived = [r for r in results if r["how"] == "survived"]
    reasons = {number: excused(r["module"], r["where"], r["what"], r["number"]) for number, r in enumerate(survived)}
    harmless = [f"no fault: {told(survived[number])}: {reason}" for number, reason in reasons.items() if reason]
    missed = [told(survived[number]) for number, reason in reasons.items() if not reason]
    for line in (*harmless, *missed):
        print(line)
    counted = len(results) - len(harmless)
    killed, hung = counted - len(missed), sum(r["how"] == "hung" for r in results)
    share = killed / max(counted, 1)
    print(
        f"{killed} of {counted} mutants killed ({share:.1%}; {hung} of them did not end); {len(harmless)} are no fault"
    )
    return int(share < ASKED)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--only", default="", metavar="WORD", help="of the module, function, kind or change, as in sweep.py"
    )
    made.add_argument("--sample", type=int, metavar="N", help="so many at random; default: all")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="of the sample; default: 0")
    made.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="J", help="how many at a time")
    made.add_argument(
        "--out", type=Path, metavar="FILE.jsonl", help="a line for each result; goes on from what is there"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Mutate, test, list the survivors."""
    options = parser().parse_args(argv)
    chosen = every(options.only)
    if options.sample is not None:
        chosen = sorted(chosen, key=lambda made: drawn(made[0], options.seed))[: options.sample]
    known = earlier(options.out)
    results = [known[mutant.key] for mutant, _ in chosen if mutant.key in known]
    left = [each for each in chosen if each[0].key not in known]
    with tempfile.TemporaryDirectory() as folder:
        running.prepare(Path(folder) / "programs")
        trees = [running.copied(Path(folder) / str(number)) for number in range(min(options.jobs, max(len(left), 1)))]
        for result in examined(trees, left, results):
            results.append(result)
            if options.out is not None:
                with options.out.open("a") as file:
                    file.write(json.dumps(result, ensure_ascii=False) + "\n")
            print(f"{len(results)} of {len(chosen)}: {told(result)}", file=sys.stderr, flush=True)
        wrong = unfounded(trees[0], results)
    if wrong:
        print("fails without a mutant as well:", *wrong, sep="\n  ")
        return 1
    return conclude(results)


if __name__ == "__main__":
    sys.exit(main())
