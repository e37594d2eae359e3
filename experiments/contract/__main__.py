"""Does the library do what its users expect, or say what it expected, whatever it is given?

    python -m experiments.contract [--cases 1000] [--seed 0] [--only WORD] [--each] [--messages]

Draws cases: a public function (`functions.py`), one or two of its arguments changed (`kinds.py`), and how JAX is set.
A case has a fault if good arguments are refused, if the same numbers in another form give another result, if what is no
number is taken, if parameters are not finite after training, if an error is not the library's own, or comes from within
NumPy, JAX or XLA, if a warning of theirs is let through, or if a call hangs. The number of cases with a fault is the
exit status. `--each` tries every change of a single argument in JAX's default setting, instead.
"""

import argparse
import collections
import random
import sys
import time
from collections.abc import Iterator, Sequence

import jax

from experiments.contract.functions import Function, functions
from experiments.contract.judging import MODES, Case, Outcome, judge
from experiments.contract.kinds import kinds_of


def drawn(known: Sequence[Function], count: int, seed: int) -> Iterator[Case]:
    """Cases: one argument changed, in a third of them two; JAX in its default setting in three of four."""
    draw = random.Random(seed)
    for _ in range(count):
        function = draw.choice(known)
        names = draw.sample(sorted(function.arguments), min(len(function.arguments), draw.choice((1, 1, 2))))
        changes = {name: draw.choice(sorted(kinds_of(function.arguments[name]))) for name in names}
        yield Case(function, changes, draw.choice(sorted(MODES)) if draw.random() < 0.25 else "default")


def each(known: Sequence[Function]) -> Iterator[Case]:
    """Every change of every single argument."""
    for function in known:
        for name, argument in function.arguments.items():
            for kind in kinds_of(argument):
                yield Case(function, {name: kind}, "default")


def report(outcomes: Sequence[Outcome], messages: bool) -> int:
    """Print faults, and messages if asked for; how many faults."""
    faults = [outcome for outcome in outcomes if outcome.fault]
    for outcome in faults:
        print(f"{outcome.case}\n    {outcome.fault.splitlines()[0][:300] if outcome.fault else ''}")
    if messages:
        told = collections.Counter(outcome.message for outcome in outcomes if outcome.message)
        for message, count in sorted(told.items()):
            print(f"{count:5}  {message}")
    refused = sum(bool(outcome.message) for outcome in outcomes)
    names = {outcome.case.function.name for outcome in outcomes}
    print(
        f"{len(outcomes)} cases of {len(names)} functions: {len(outcomes) - refused} results, {refused} errors, "
        f"{len(faults)} faults"
    )
    return len(faults)


def main() -> int:
    """Draw, call, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only functions with this word in their name")
    parser.add_argument("--each", action="store_true", help="every change of a single argument")
    parser.add_argument("--messages", action="store_true", help="print every error message")
    arguments = parser.parse_args()
    known = [function for function in functions() if arguments.only in function.name]
    cases = each(known) if arguments.each else drawn(known, arguments.cases, arguments.seed)
    started, outcomes = time.monotonic(), []
    for case in cases:
        outcomes.append(judge(case))
        if len(outcomes) % 1000 == 0:
            jax.clear_caches()  # each compiled program holds memory maps, of which Linux gives a process 65,530
            print(f"{len(outcomes)} cases, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return min(report(outcomes, arguments.messages), 100)


if __name__ == "__main__":
    sys.exit(main())
