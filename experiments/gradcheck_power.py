"""Which wrong derivatives does a gradient checker see, and how often does it call a right one wrong?

    python -m experiments.gradcheck_power [--tools jnn jax chex torch] [--cases PATTERN] [--out FILE.json [--resume]]

Runs the corpus of tests/gradcheck/corpus (wrong rules, each beside its right twin, and right functions that are hard)
through jnn.gradcheck, jax.test_util.check_grads and chex.assert_numerical_grads at their defaults, with JAX's default
configuration (float32), and torch.autograd.gradcheck on the pairs that translate, in float64, as its defaults demand.
What is not a matter of taste is set in the tools' favor: integer and other arguments without derivative are closed
over, outputs without derivative dropped, the arguments flattened, and only the modes (forward, reverse) that JAX offers
for the function asked for.

"Told" counts the pairs whose wrong rule is rejected while the right twin is not. A tool that cannot tell a wrong rule
from its twin either accepts both or rejects both. "False alarms" are right functions that are rejected: twins, and hard
functions, counted apart. An exception that is not a verdict (the tool cannot run the function) is counted by itself,
and neither as an alarm nor as a success.

Every outcome is saved as soon as it is known; interrupted, the program prints the table of what it has, and goes on
from there with --resume.
"""

import argparse
import fnmatch
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import jax.test_util

from jnn import gradcheck

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "gradcheck" / "corpus" / "__init__.py"

ACCEPT, REJECT, UNSURE, ERROR = "accept", "reject", "inconclusive", "error"


@dataclass(frozen=True)
class Outcome:
    """What one tool said of one function."""

    verdict: str
    detail: str
    seconds: float  # of processor time


@dataclass(frozen=True)
class Score:
    """One row of the table."""

    tool: str
    pairs: int
    told: int
    wrong_accepted: int
    twin_alarms: int
    hard: int
    hard_alarms: int
    inconclusive: int
    errors: int
    seconds: float


class NotFoundError(Exception):
    """The corpus is not part of the installed package."""


def load_corpus(path: Path = CORPUS) -> ModuleType:
    """The package tests/gradcheck/corpus of the checkout; NotFoundError without one."""
    if not path.exists():
        raise NotFoundError(f"expected the corpus at {path}; run this from a checkout, which has tests/")
    folder = [str(path.parent)]
    spec = importlib.util.spec_from_file_location("gradcheck_corpus", path, submodule_search_locations=folder)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gradcheck_corpus"] = module
    spec.loader.exec_module(module)
    return module


def _differentiable(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def flattened(fun: Callable[..., Any], args: tuple) -> tuple[Callable[..., Any], list]:
    """`fun` as a function of its floating leaves alone, with its floating outputs alone, and these leaves."""
    leaves, tree = jax.tree.flatten(args)
    places = [i for i, leaf in enumerate(leaves) if _differentiable(leaf)]

    def flat(*values: Any) -> list:
        full = list(leaves)
        for i, value in zip(places, values, strict=True):
            full[i] = jnp.asarray(value)  # check_grads steps in NumPy, and hands over NumPy arrays, which have no `.at`
        return [leaf for leaf in jax.tree.leaves(fun(*jax.tree.unflatten(tree, full))) if _differentiable(leaf)]

    return flat, [leaves[i] for i in places]


def modes(flat: Callable[..., Any], values: list) -> tuple[str, ...]:
    """The modes in which JAX can differentiate the function at all."""
    offered = []
    for mode, attempt in (
        ("fwd", lambda: jax.jvp(flat, values, values)),
        ("rev", lambda: jax.vjp(flat, *values)[1](flat(*values))),
    ):
        try:
            attempt()
        except (TypeError, ValueError, NotImplementedError):
            continue
        offered.append(mode)
    return tuple(offered) or ("fwd", "rev")


def by_jnn(fun: Callable[..., Any], case: Any) -> tuple[str, str]:
    """jnn.gradcheck.check; a kink is accepted, as its report says that the value lies in the hull."""
    report = gradcheck.check(fun, *case.args(), order=case.order, **case.check_kwargs)
    verdict = {"pass": ACCEPT, "kink": ACCEPT, "fail": REJECT, "inconclusive": UNSURE}[report.verdict]
    return verdict, report.verdict


def by_jax(fun: Callable[..., Any], case: Any) -> tuple[str, str]:
    """jax.test_util.check_grads."""
    flat, values = flattened(fun, case.args())
    return _asserted(lambda: jax.test_util.check_grads(flat, values, case.order, modes=modes(flat, values)))


def by_chex(fun: Callable[..., Any], case: Any) -> tuple[str, str]:
    """chex.assert_numerical_grads."""
    import chex

    flat, values = flattened(fun, case.args())
    return _asserted(lambda: chex.assert_numerical_grads(flat, values, case.order, modes=modes(flat, values)))


def _asserted(run: Callable[[], Any]) -> tuple[str, str]:
    try:
        run()
    except AssertionError as error:
        return REJECT, " ".join(str(error).split())[:200]
    return ACCEPT, ""


def by_torch(fun: Callable[..., Any], args: tuple) -> tuple[str, str]:
    """torch.autograd.gradcheck."""
    from torch.autograd.gradcheck import GradcheckError, gradcheck  # pyright: ignore[reportMissingImports]

    try:
        gradcheck(fun, args)
    except GradcheckError as error:
        return REJECT, " ".join(str(error).split())[:200]
    return ACCEPT, ""


TOOLS: dict[str, tuple[str, Callable[..., tuple[str, str]]]] = {
    "jnn": ("jnn", by_jnn),
    "jax": ("jax", by_jax),
    "chex": ("chex", by_chex),
    "torch": ("torch", by_torch),
}


def timed(run: Callable[[], tuple[str, str]]) -> Outcome:
    """The outcome of one call, with anything that it raises."""
    started = time.process_time()  # so that a busy machine does not count
    try:
        verdict, detail = run()
    except Exception as error:  # a tool that falls over is a result of this experiment
        verdict, detail = ERROR, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return Outcome(verdict, detail, time.process_time() - started)


def functions(tool: str, corpus: ModuleType, pattern: str) -> Iterator[tuple[str, str, Callable[[], tuple[str, str]]]]:
    """(case, "right" or "wrong", the call) for every function that the tool is given."""
    check = TOOLS[tool][1]
    cases = [case for case in corpus.CASES if fnmatch.fnmatch(case.name, pattern)]
    if tool == "torch":
        rules = importlib.import_module("gradcheck_corpus.torch_rules").translations()
        for case in cases:
            if case.torch in rules:
                args, right, wrong = rules[case.torch]
                yield case.name, "right", lambda f=right, a=args: check(f, a())
                yield case.name, "wrong", lambda f=wrong, a=args: check(f, a())
        return
    for case in cases:
        yield case.name, "right", lambda c=case: check(c.right, c)
        if case.wrong is not None:
            yield case.name, "wrong", lambda c=case: check(c.wrong, c)


def score(tool: str, outcomes: dict[str, dict[str, Outcome]]) -> Score:
    """The counts of one tool from its outcomes by case."""
    pairs = [o for o in outcomes.values() if len(o) == 2]  # of an interrupted run, the last may lack its wrong rule
    alone = [o["right"] for o in outcomes.values() if list(o) == ["right"]]
    everything = [o for entry in outcomes.values() for o in entry.values()]
    return Score(
        tool=tool,
        pairs=len(pairs),
        told=sum(o["wrong"].verdict == REJECT and o["right"].verdict == ACCEPT for o in pairs),
        wrong_accepted=sum(o["wrong"].verdict == ACCEPT for o in pairs),
        twin_alarms=sum(o["right"].verdict == REJECT for o in pairs),
        hard=len(alone),
        hard_alarms=sum(o.verdict == REJECT for o in alone),
        inconclusive=sum(o.verdict == UNSURE for o in everything),
        errors=sum(o.verdict == ERROR for o in everything),
        seconds=sum(o.seconds for o in everything),
    )


def progress(i: int, total: int, what: str, every: int = 25) -> None:
    """Say on stderr what is being done: on one line of a terminal, else on a line of its own at `every` so many."""
    if sys.stderr.isatty():
        print(f"\r\033[K{i + 1} of {total}: {what}" if total else "\r\033[K", end="", file=sys.stderr, flush=True)
    elif total and i % every == 0:
        print(f"{i + 1} of {total}: {what}", file=sys.stderr, flush=True)


Outcomes = dict[str, dict[str, Outcome]]  # by case, then "right" and "wrong"


def run(
    tool: str, corpus: ModuleType, pattern: str, outcomes: Outcomes, save: Callable[[], None] = lambda: None
) -> None:
    """Put all outcomes of one tool into `outcomes`, except those that are there already, saving after each."""
    calls = list(functions(tool, corpus, pattern))
    for i, (name, side, call) in enumerate(calls):
        progress(i, len(calls), f"{tool}: {name}")
        if side not in outcomes.get(name, {}):
            outcomes.setdefault(name, {})[side] = timed(call)
            save()
    progress(0, 0, "")


def write(path: Path, record: dict[str, Any]) -> None:
    """Save a record as JSON, by renaming, so that an interruption leaves the old file or the new one."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def settings() -> dict[str, Any]:
    """What the outcomes depend on besides the corpus and the tools."""
    return {"jax": jax.__version__, "x64": jnp.result_type(float) == jnp.float64}


def plain(everything: dict[str, Outcomes]) -> dict[str, Any]:
    """All outcomes as nested dictionaries."""
    return {
        tool: {name: {side: asdict(o) for side, o in sides.items()} for name, sides in found.items()}
        for tool, found in everything.items()
    }


def saved(path: Path) -> dict[str, Outcomes]:
    """The outcomes by tool in a file of an earlier run; none where there is no file.

    Raises:
        ValueError: the file was made with another JAX or other settings.
    """
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    if any(record[key] != value for key, value in settings().items()):
        raise ValueError(f"expected results of {settings()} in {path}, got other settings; choose another file")
    return {
        tool: {name: {side: Outcome(**o) for side, o in sides.items()} for name, sides in found.items()}
        for tool, found in record["outcomes"].items()
    }


HEADINGS = (
    "tool, at its defaults",
    "wrong rules told from their twins",
    "wrong accepted",
    "false alarms: twins",
    "false alarms: hard functions",
    "inconclusive",
    "cannot run",
    "CPU seconds",
)


def cells(row: Score) -> tuple[str, ...]:
    """One row of the table as text."""
    return (
        row.tool,
        f"{row.told} of {row.pairs}",
        str(row.wrong_accepted),
        f"{row.twin_alarms} of {row.pairs}",
        f"{row.hard_alarms} of {row.hard}",
        str(row.inconclusive),
        str(row.errors),
        f"{row.seconds:.0f}",
    )


def show(rows: Sequence[Score]) -> None:
    """Print the table: with rich where it is installed, else in Markdown."""
    if importlib.util.find_spec("rich") is None or not sys.stdout.isatty():
        for row in (HEADINGS, ("---",) * len(HEADINGS), *map(cells, rows)):
            print("| " + " | ".join(row) + " |")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*cells(row))
    Console().print(table)


def notable(tool: str, outcomes: dict[str, dict[str, Outcome]]) -> list[str]:
    """The cases that a tool did not get right, one line each."""
    lines = []
    for name, sides in outcomes.items():
        if "wrong" in sides and sides["wrong"].verdict != REJECT:
            lines.append(f"{tool}: {name}: wrong rule: {sides['wrong'].verdict} {sides['wrong'].detail}")
        if sides["right"].verdict != ACCEPT:
            lines.append(f"{tool}: {name}: right function: {sides['right'].verdict} {sides['right'].detail}")
    return lines


def parser() -> argparse.ArgumentParser:
    """The command line."""
    about = __doc__ or ""
    made = argparse.ArgumentParser(
        "python -m experiments.gradcheck_power", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--tools", nargs="+", choices=tuple(TOOLS), help="tools to run; by default all installed ones")
    made.add_argument("--cases", default="*", metavar="PATTERN", help="only cases whose name matches, as in 'softmax*'")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="where the table and every outcome are saved")
    made.add_argument("--resume", action="store_true", help="take over what --out FILE.json holds already")
    made.add_argument("--list", action="store_true", help="list, per tool, each case that it did not get right")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tools over the corpus, print the table, save it."""
    options = parser().parse_args(argv)
    try:
        corpus = load_corpus()
    except NotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    installed = [tool for tool, (module, _) in TOOLS.items() if importlib.util.find_spec(module) is not None]
    tools = options.tools or installed
    for tool in tools:
        if tool not in installed:
            print(f"{tool} is not installed; leave it out, or install it", file=sys.stderr)
            return 2
    if options.resume and options.out is None:
        print("--resume needs --out FILE.json, the file to go on from", file=sys.stderr)
        return 2
    try:
        earlier = saved(options.out) if options.resume else {}
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    everything: dict[str, Outcomes] = {tool: earlier.get(tool, {}) for tool in tools}

    def save() -> None:
        if options.out is not None:
            rows = [asdict(score(tool, everything[tool])) for tool in tools]
            write(options.out, {**settings(), "table": rows, "outcomes": plain({**earlier, **everything})})

    interrupted = False
    try:
        for tool in tools:
            run(tool, corpus, options.cases, everything[tool], save)
    except KeyboardInterrupt:
        interrupted = True
    save()
    print(f"JAX {jax.__version__}, {jnp.result_type(float)} by default, {jax.default_backend()}\n")
    show([score(tool, everything[tool]) for tool in tools])
    if "torch" in everything and len(tools) > 1:
        shared = everything["torch"].keys()
        print(f"\nThe {len(shared)} pairs that translate to torch, by every tool:\n")
        show([score(tool, {n: o for n, o in found.items() if n in shared}) for tool, found in everything.items()])
    if options.list:
        print("", *(line for tool in tools for line in notable(tool, everything[tool])), sep="\n")
    if interrupted:
        print("\ninterrupted: this is part of the table; --out FILE.json --resume goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
