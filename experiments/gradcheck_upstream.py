"""Are the custom rules of JAX and optax right?

    python -m experiments.gradcheck_upstream [--functions PATTERN] [--dtypes DTYPE ...] [--out FILE.json [--resume]]

Every public function of jax.nn, jax.numpy, jax.numpy.linalg, jax.scipy.special and optax is traced on sample arguments
(a vector; two to four vectors; a matrix; a matrix and labels; ...). Those whose program contains a call with a custom
derivative rule go through jnn.gradcheck.check at several inputs: between 0 and 1, normal, large (normal · 30), tiny
(normal · 1e-6), and special (zeros, integers, ties), in float32 and in bfloat16. Elements at which the value itself is
not finite lie outside the domain and are left out; an input of which nothing remains is skipped ("outside"), and a
dtype that the function does not take as well ("unsupported").

The table has one row a function and dtype: the verdict at each input. `kink` says that the derivative lies between the
one-sided ones (relu at 0); `fail` is printed with what was seen, and is not yet a fault of the library: a rule may
deviate on purpose (optax.scale_gradient), or take a convention at a point where no derivative exists.

Every result is saved as soon as it is known; interrupted, the program prints the table of what it has, and goes on
from there with --resume.
"""

import argparse
import fnmatch
import functools
import importlib
import importlib.util
import inspect
import itertools
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradcheck_power import progress, write
from jnn import gradcheck

MODULES = (
    "jax.nn",
    "jax.numpy",
    "jax.numpy.linalg",
    "jax.scipy.special",
    "optax",
    "optax.losses",
    "optax.projections",
    "optax.perturbations",
)
INPUTS = ("unit", "normal", "large", "tiny", "special")
DTYPES = ("float32", "bfloat16")
SIZE = 6

# What each form of call is made of, in the order in which the forms are tried.
FORMS: dict[str, tuple[str, ...]] = {
    "x": ("vector",),
    "x, y": ("vector", "vector"),
    "n, x": ("order", "vector"),
    "x, y, z": ("vector",) * 3,
    "x, y, z, w": ("vector",) * 4,
    "A": ("matrix",),
    "A, labels": ("matrix", "labels"),
}
# Where the first form that can be traced is not the function's own; and arguments that have to be Python numbers.
FORM_OF = {"expn": "n, x"}
BOUND = {"scale_gradient": (2.0,)}


@dataclass(frozen=True)
class Rule:
    """A public function with a custom rule somewhere inside."""

    name: str
    form: str
    rules: tuple[str, ...]
    fun: Callable[..., Any]


@dataclass(frozen=True)
class Result:
    """One check: `verdict` is a report's, or "outside" (of the domain), "unsupported" (no value in this
    dtype), or "error" (an exception from the derivative, or from the check).
    """

    function: str
    form: str
    dtype: str
    inputs: str
    verdict: str
    detail: str


def argument(kind: str, inputs: str, dtype: Any, place: int) -> Any:
    """One sample argument; `place` makes those of one call differ, except for the ties of the special inputs."""
    rng = np.random.default_rng([INPUTS.index(inputs), place])
    if kind == "order":
        return jnp.asarray([1, 2, 3, 1, 2, 5], jnp.int32)
    if kind == "labels":
        return jnp.asarray([0, 2, 1], jnp.int32)
    shape = (3, 3) if kind == "matrix" else (SIZE,)
    if inputs == "unit":
        value = rng.uniform(0.05, 0.95, shape)
    elif inputs == "special":
        special = [0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 0.0, 4.0, 1.0]
        value = np.asarray(special[: int(np.prod(shape))]).reshape(shape)
    else:
        value = rng.standard_normal(shape) * {"normal": 1.0, "large": 30.0, "tiny": 1e-6}[inputs]
    return jnp.asarray(value.astype(np.float32)).astype(dtype)


def arguments(form: str, inputs: str, dtype: Any) -> tuple:
    """The arguments of one call."""
    return tuple(argument(kind, inputs, dtype, place) for place, kind in enumerate(FORMS[form]))


def rules_inside(jaxpr: Any) -> Iterator[str]:
    """The names of the calls with custom rules in a jaxpr, at any depth."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call")):
            called = eqn.params.get("call_jaxpr") or eqn.params.get("fun_jaxpr")
            info = getattr(getattr(called, "jaxpr", called), "debug_info", None)
            yield getattr(info, "func_name", None) or eqn.primitive.name
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from rules_inside(inner)


def traced(fun: Callable[..., Any], form: str) -> tuple[str, ...] | None:
    """The rules in the program of one form of call; None where the function cannot be called so."""
    try:
        closed = jax.make_jaxpr(fun)(*arguments(form, "unit", jnp.float32))
    except Exception:  # any function, called with anything: whatever it raises says no more than "not so"
        return None
    return tuple(dict.fromkeys(rules_inside(closed.jaxpr)))


def is_function(value: Any) -> bool:
    """Whether a module's attribute can be called and is no class."""
    return callable(value) and not inspect.isclass(value) and not inspect.ismodule(value)


def _with(fun: Callable[..., Any], last: tuple) -> Callable[..., Any]:
    return lambda *args: fun(*args, *last)


def public_rules(pattern: str = "*") -> list[Rule]:
    """Every public function of the modules in which a custom rule is called, each once, with the form of its call."""
    found: list[Rule] = []
    seen: set[int] = set()
    for module_name in MODULES:
        if importlib.util.find_spec(module_name.split(".")[0]) is None:
            continue
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue
        for name in sorted(n for n in dir(module) if not n.startswith("_")):
            fun = getattr(module, name)
            full = f"{module_name}.{name}"
            if not is_function(fun) or id(fun) in seen or not fnmatch.fnmatch(full, pattern):
                continue
            for form in [FORM_OF[name]] if name in FORM_OF else FORMS:
                called = _with(fun, BOUND[name]) if name in BOUND else fun
                rules = traced(called, form)
                if rules:
                    found.append(Rule(full, form, rules, called))
                    seen.add(id(fun))
                    break
    return found


def in_domain(fun: Callable[..., Any], args: tuple) -> tuple | None:
    """The arguments without the elements at which an elementwise function is not finite; None if nothing is left."""
    out = [np.asarray(leaf, np.complex128) for leaf in jax.tree.leaves(fun(*args))]
    finite = [np.isfinite(leaf) for leaf in out]
    if all(f.all() for f in finite):
        return args
    elementwise = all(f.shape == (SIZE,) for f in finite) and all(np.shape(a) in ((), (SIZE,)) for a in args)
    keep = np.logical_and.reduce(finite) if elementwise else np.zeros(SIZE, bool)
    if not keep.any():
        return None
    places = np.flatnonzero(keep)
    return tuple(a[places] if np.ndim(a) else a for a in args)


def examined(rule: Rule, inputs: str, dtype: str) -> Result:
    """One check."""
    result = functools.partial(Result, rule.name, rule.form, dtype, inputs)
    try:
        args = in_domain(rule.fun, arguments(rule.form, inputs, jnp.dtype(dtype)))
    except (TypeError, ValueError, NotImplementedError) as error:
        return result("unsupported", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")
    if args is None:
        return result("outside", "the value is not finite")
    try:
        report = gradcheck.check(rule.fun, *args, power=False)
    except Exception as error:  # what a library's derivative raises is a result of this experiment
        return result("error", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}")
    return result(report.verdict, "" if report.verdict == "pass" else seen(report))


def seen(report: gradcheck.Report) -> str:
    """The worst leaf of a report and the checks that did not pass, in one line."""
    leaves = [f"{leaf.worst} {leaf.pattern} {leaf.note}".strip() for leaf in report.leaves if leaf.verdict != "pass"]
    checks = [f"{c.name}: {c.why}" for c in report.checks if c.outcome not in ("pass", "skipped")]
    return "; ".join(leaves[:1] + checks)[:400]


HEADINGS = ("function", "rules inside", "dtype", *INPUTS)


def table(rules: Sequence[Rule], results: Sequence[Result]) -> list[tuple[str, ...]]:
    """The rows: a function and a dtype, and the verdict at each kind of input."""
    verdicts = {(r.function, r.dtype, r.inputs): r.verdict for r in results}
    dtypes = list(dict.fromkeys(r.dtype for r in results))
    return [
        (
            f"{rule.name}({rule.form})",
            ", ".join(rule.rules),
            dtype,
            *(verdicts.get((rule.name, dtype, inputs), "") for inputs in INPUTS),
        )
        for rule in rules
        for dtype in dtypes
    ]


def show(rows: Sequence[tuple[str, ...]]) -> None:
    """Print the table: with rich on a terminal, else in Markdown."""
    if importlib.util.find_spec("rich") is None or not sys.stdout.isatty():
        for row in (HEADINGS, ("---",) * len(HEADINGS), *rows):
            print("| " + " | ".join(row) + " |")
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(*HEADINGS)
    colors = {"fail": "red", "error": "red", "kink": "yellow", "inconclusive": "yellow"}
    for row in rows:
        shown.add_row(*(f"[{colors[cell]}]{cell}[/]" if cell in colors else cell for cell in row))
    Console().print(shown)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.gradcheck_upstream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--functions", default="*", metavar="PATTERN", help="full names to check, as in 'jax.nn.*'")
    made.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="default: both")
    made.add_argument("--inputs", nargs="+", choices=INPUTS, default=list(INPUTS), help="default: all")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="where every result is saved")
    made.add_argument("--resume", action="store_true", help="take over what --out FILE.json holds already")
    return made


def saved(path: Path | None, versions: dict[str, str]) -> dict[tuple[str, str, str], Result]:
    """The results of an earlier run, by function, dtype and kind of input.

    Raises:
        ValueError: no file is named, or it was made with other versions.
    """
    if path is None:
        raise ValueError("--resume needs --out FILE.json, the file to go on from")
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    if any(record[name] != version for name, version in versions.items()):
        raise ValueError(f"expected results of {versions} in {path}, got other versions; choose another file")
    return {(r["function"], r["dtype"], r["inputs"]): Result(**r) for r in record["results"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Find the rules, check them, print the table and what failed, save it."""
    options = parser().parse_args(argv)
    versions = {name: importlib.import_module(name).__version__ for name in ("jax", "optax")}
    results: dict[tuple[str, str, str], Result] = {}
    if options.resume:
        try:
            results = saved(options.out, versions)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names are tried too
        rules = public_rules(options.functions)
        if not rules:
            print(f"no public function with a custom rule is called {options.functions!r}", file=sys.stderr)
            return 2
        interrupted = False
        try:
            for i, rule in enumerate(rules):
                progress(i, len(rules), rule.name, every=1)
                for dtype, inputs in itertools.product(options.dtypes, options.inputs):
                    if (rule.name, dtype, inputs) not in results:
                        results[rule.name, dtype, inputs] = examined(rule, inputs, dtype)
                        if options.out is not None:
                            write(options.out, {**versions, "results": [asdict(r) for r in results.values()]})
        except KeyboardInterrupt:
            interrupted = True
    progress(0, 0, "")
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{named}; public functions with custom rules: {len(rules)}\n")
    show(table(rules, list(results.values())))
    counts = {v: sum(r.verdict == v for r in results.values()) for v in sorted({r.verdict for r in results.values()})}
    print("\n" + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + "\n")
    for r in results.values():
        if r.verdict not in ("pass", "outside", "unsupported"):
            print(f"{r.verdict}: {r.function}({r.form}), {r.dtype}, {r.inputs}: {r.detail}")
    if interrupted:
        print("\ninterrupted: this is part of the table; --out FILE.json --resume goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
