"""How many mutants of right derivative rules does `jnn.gradcheck.check` tell?

    python -m experiments.gradcheck_mutants [--rules PATTERN] [--settings ...] [--each N] [--out FILE.json [--resume]]

The backward passes of `rules` are changed at one place at a time (`mutate`): a sign, a factor, a dropped term, a
transpose, a residual that is another or has not been through its activation, another axis, a coarse dtype on the way,
a border. Each is asked about in float32, in mixed precision (bfloat16 activations, float32 parameters) and in float64.
Mutants that raise (the shapes no longer fit) are not counted. Of the others, `--each` of every rule and setting are
taken, spread over the kinds.

Whether a mutant is wrong at all is measured beside the check: the right rule and the mutant are called with four random
cotangents, and what changes is compared with the resolution that the check of the right rule has stated for this leaf.
The largest change of an element (relative to the element, or to the leaf's median if that is larger) is compared with
the smallest error of a typical element that would have failed, of the formula, or, for a coarse dtype, of the
arithmetic alone; for a coarse dtype the typical change of the leaf is compared with the smallest that would have failed
as well. The right rule beside a coarse sum is one that sums the same rounded terms in float32: what rounding the terms
commits is allowed to a rule that does it. A mutant that changes no leaf by more than that is "within the resolution",
and asked about too: it may be told or not. Of the others, `told` are those with the verdict `fail`; all that are not
are listed.
"""

import argparse
import fnmatch
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradcheck_mutants.mutate import KINDS, Mutant, mutants
from experiments.gradcheck_mutants.rules import RULES, SETTINGS, Rule, ruled
from experiments.gradcheck_power import progress, write
from jnn import gradcheck

COTANGENTS = 4
ARITHMETIC = "accumulation dtype"  # the kind of mutant whose formula is right

Changes = tuple[list[float], list[float]]  # by leaf: the largest of an element, the typical one
Chosen = tuple[Mutant, Changes]


@dataclass(frozen=True)
class Result:
    """One mutant: `change` is the largest over the leaves of (relative change / stated resolution)."""

    rule: str
    setting: str
    kind: str
    what: str
    change: float
    verdict: str
    seconds: float

    @property
    def beyond(self) -> bool:
        """Whether the mutant changes a value by more than the check says that it resolves."""
        return self.change > 1


def cotangents(rule: Rule, args: tuple) -> list[Any]:
    """Random signed cotangents of the result."""
    out = jax.eval_shape(rule.primal, *args)
    rng = np.random.default_rng([sum(map(ord, rule.name)), len(rule.shapes)])  # not those of an argument
    return [jnp.asarray(rng.standard_normal(out.shape), out.dtype) for _ in range(COTANGENTS)]


def gradients(backward: Any, args: tuple, weights: list[Any]) -> list[list[np.ndarray]] | None:
    """By cotangent the gradients of every leaf; None where the mutant raises or returns other shapes or dtypes."""
    want = [(a.shape, a.dtype) for a in args if jnp.issubdtype(a.dtype, jnp.inexact)]
    found = []
    for w in weights:
        try:
            leaves = [leaf for leaf in backward(args, w) if leaf is not None]
        except (TypeError, ValueError, IndexError):
            return None
        if [(jnp.shape(v), jnp.result_type(v)) for v in leaves] != want:
            return None
        found.append([np.asarray(v, np.float64) for v in leaves])
    return found


def relative_changes(right: list[list[np.ndarray]], wrong: list[list[np.ndarray]]) -> list[float]:
    """By leaf the largest change of an element, relative to it or to the leaf's median if that is larger."""

    def change(a: np.ndarray, b: np.ndarray) -> float:
        error, size = np.abs(a - b), np.maximum(np.abs(a), np.median(np.abs(a)))
        if not np.all(np.isfinite(error)):
            return math.inf
        return float(np.max(np.where(error == 0, 0, error / np.where(size == 0, 1e-300, size))))

    by_cotangent = [[change(a, b) for a, b in zip(x, y, strict=True)] for x, y in zip(right, wrong, strict=True)]
    return [max(column) for column in zip(*by_cotangent, strict=True)]


def typical_changes(right: list[list[np.ndarray]], wrong: list[list[np.ndarray]]) -> list[float]:
    """By leaf the typical change of an element beside the typical element."""

    def change(a: np.ndarray, b: np.ndarray) -> float:
        present = (a != 0) | (b != 0)
        if not present.any():
            return 0.0
        size = float(np.median(np.abs(a[present])))
        error = float(np.median(np.abs(a - b)[present]))
        return error / size if size else math.inf * bool(error)

    by_cotangent = [[change(a, b) for a, b in zip(x, y, strict=True)] for x, y in zip(right, wrong, strict=True)]
    return [max(column) for column in zip(*by_cotangent, strict=True)]


def beyond(leaves: Sequence[gradcheck.LeafEvidence], changes: Changes, kind: str) -> float:
    """The largest over the leaves of what changes beside what the right rule's check says it would have noticed."""
    ratios = [0.0]
    for leaf, single, typical in zip(leaves, *changes, strict=True):
        if kind == ARITHMETIC:
            element = max(leaf.detectable_element, leaf.detectable_rounding_element)
            ratios.append(typical / leaf.detectable_rounding)
        else:
            element = leaf.detectable_element
        ratios.append(single / element if single else 0.0)
    return max(ratios)


def changed(rule: Rule, args: tuple) -> Callable[[Mutant], Changes | None]:
    """A function from a mutant to how much it changes each leaf; None for one that raises or changes nothing."""
    weights = cotangents(rule, args)

    def change(mutant: Mutant) -> Changes | None:
        right = gradients(mutant.right or rule.backward, args, weights)
        wrong = gradients(mutant.backward, args, weights)
        if right is None or wrong is None:
            return None
        changes = relative_changes(right, wrong)
        return (changes, typical_changes(right, wrong)) if any(changes) else None

    return change


def spread(found: Iterable[Mutant], change: Callable[[Mutant], Changes | None], most: int) -> list[Chosen]:
    """`most` of the mutants that change something, with what they change: of each kind in turn, drawn at random."""
    by_kind: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in found:
        by_kind[mutant.kind].append(mutant)
    rng = np.random.default_rng(1)
    queues = [[of[i] for i in rng.permutation(len(of))] for kind in KINDS if (of := by_kind[kind])]
    chosen: list[Chosen] = []
    while any(queues):
        for queue in queues:
            while queue:
                mutant = queue.pop()
                changes = change(mutant)
                if changes is not None:
                    chosen.append((mutant, changes))
                    break
            if len(chosen) == most:
                return chosen
    return chosen


def examined(rule: Rule, setting: str, each: int, known: dict[tuple, Result]) -> Iterator[Result]:
    """The results of one rule in one setting; the right rule comes first, under the kind "none"."""
    args = rule.arguments(setting)
    chosen = spread(mutants(rule.backward), changed(rule, args), each)
    started = time.process_time()
    report = gradcheck.check(ruled(rule.primal, rule.backward), *args, power=False)
    yield Result(rule.name, setting, "none", "", 0.0, report.verdict, time.process_time() - started)
    for mutant, changes in chosen:
        key = (rule.name, setting, mutant.kind, mutant.what)
        if key in known:
            yield known[key]
            continue
        leaves = report.leaves
        if mutant.right is not None:
            started = time.process_time()
            beside = gradcheck.check(ruled(rule.primal, mutant.right), *args, power=False)
            leaves, what = beside.leaves, f"right beside {mutant.what}"
            yield Result(rule.name, setting, "none", what, 0.0, beside.verdict, time.process_time() - started)
        ratio = beyond(leaves, changes, mutant.kind)
        started = time.process_time()
        try:
            verdict = gradcheck.check(ruled(rule.primal, mutant.backward), *args, power=False).verdict
        except Exception as error:  # what the check raises is a result of this experiment
            verdict = f"error: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
        yield Result(*key, ratio, verdict, time.process_time() - started)


HEADINGS = ("kind", *(f"{setting}: told" for setting in SETTINGS), "within the resolution: told")


def table(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """By kind: told of those beyond the resolution, in each setting; and of those within it."""

    def told(of: Sequence[Result]) -> str:
        return f"{sum(r.verdict == 'fail' for r in of)} of {len(of)}"

    mutated = [r for r in results if r.kind != "none"]
    rows = []
    for kind in (*KINDS, "all"):
        some = [r for r in mutated if kind in (r.kind, "all")]
        beyond = [[r for r in some if r.setting == setting and r.beyond] for setting in SETTINGS]
        rows.append((kind, *map(told, beyond), told([r for r in some if not r.beyond])))
    return rows


def show(rows: Sequence[tuple[str, ...]]) -> None:
    """Print the table in Markdown."""
    for row in (HEADINGS, ("---",) * len(HEADINGS), *rows):
        print("| " + " | ".join(row) + " |")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.gradcheck_mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--rules", default="*", metavar="PATTERN", help="names of rules, as in 'rms_*'")
    made.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="default: all three")
    made.add_argument("--each", type=int, default=8, metavar="N", help="mutants of a rule and setting; default: 8")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="where every result is saved")
    made.add_argument("--resume", action="store_true", help="take over what --out FILE.json holds already")
    return made


def earlier(path: Path | None) -> dict[tuple, Result]:
    """The results of an earlier run with the same JAX.

    Raises:
        ValueError: no file is named, or it was made with another JAX.
    """
    if path is None:
        raise ValueError("--resume needs --out FILE.json, the file to go on from")
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["jax"] != jax.__version__:
        raise ValueError(f"expected results with jax {jax.__version__} in {path}, got {record['jax']}; choose another")
    return {(r["rule"], r["setting"], r["kind"], r["what"]): Result(**r) for r in record["results"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Mutate, check, print the table and the misses, save it."""
    options = parser().parse_args(argv)
    chosen = [rule for rule in RULES if fnmatch.fnmatch(rule.name, options.rules)]
    if not chosen:
        print(f"no rule is called {options.rules!r}; there are {', '.join(r.name for r in RULES)}", file=sys.stderr)
        return 2
    known: dict[tuple, Result] = {}
    if options.resume:
        try:
            known = earlier(options.out)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    results: list[Result] = []
    interrupted = False
    with jax.enable_x64(True):
        try:
            for i, rule in enumerate(chosen):
                for setting in options.settings:
                    progress(i, len(chosen), f"{rule.name}, {setting}", every=1)
                    for result in examined(rule, setting, options.each, known):
                        results.append(result)
                        if options.out is not None:
                            write(options.out, {"jax": jax.__version__, "results": [asdict(r) for r in results]})
                    jax.clear_caches()  # thousands of programs that run once take gigabytes
        except KeyboardInterrupt:
            interrupted = True
    progress(0, 0, "")
    return conclude(results, interrupted)


def conclude(results: Sequence[Result], interrupted: bool) -> int:
    """Print what was found."""
    mutated = [r for r in results if r.kind != "none"]
    beyond = [r for r in mutated if r.beyond]
    told = sum(r.verdict == "fail" for r in beyond)
    print(f"jax {jax.__version__}; mutants: {len(mutated)}, {len(beyond)} of them beyond the stated resolution\n")
    show(table(results))
    share = f" ({told / len(beyond):.1%})" if beyond else ""
    print(f"\ntold: {told} of {len(beyond)}{share}; {sum(r.seconds for r in results):.0f} s of processor time\n")
    for r in results:
        if r.kind == "none" and r.verdict != "pass":
            print(f"the right rule is not passed: {r.rule}, {r.setting} {r.what}: {r.verdict}")
        if r.kind != "none" and r.beyond and r.verdict != "fail":
            times = f"{r.change:.3g} times the resolution"
            print(f"missed: {r.rule}, {r.setting}, {r.kind}: {r.what} ({times}): {r.verdict}")
    if interrupted:
        print("\ninterrupted: this is part of the table; --out FILE.json --resume goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
