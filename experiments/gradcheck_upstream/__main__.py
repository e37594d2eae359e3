"""Are the derivatives that public libraries offer right?

    python -m experiments.gradcheck_upstream [--libraries NAME ...] [--functions PATTERN] [--inputs PATTERN]
                                             [--most N] [--out FILE.json [--resume]]

Two kinds of functions go through `jnn.gradcheck.check`. "scan": every public function of jax.nn, jax.numpy,
jax.numpy.linalg, jax.scipy.special and optax in whose program a custom rule is called, in float32 and bfloat16 at five
kinds of input: between 0 and 1, normal, large (normal · 30), tiny (normal · 1e-6), and special (zeros, integers, ties);
elements at which the value itself is not finite are left out. And the functions of a list for each library
(`experiments/gradcheck_upstream/in_<library>.py`), called as its documentation does; a library that is not installed is
skipped with a line.

The table has one row a function: the inputs tried and the verdicts. An input of which the value is not finite is
"outside", one that the function does not take "unsupported"; "error" is an exception from the derivative or from the
check. Whatever is none of pass, outside and unsupported is printed with what was seen and with its explanation
(`explained.py`), or as unexplained.

Every result is saved as soon as it is known; interrupted, the program prints the table of what it has, and goes on
from there with --resume.
"""

import argparse
import fnmatch
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np

from experiments.gradcheck_power import progress, write
from experiments.gradcheck_upstream import scan
from experiments.gradcheck_upstream.exact import Shown
from experiments.gradcheck_upstream.explained import explanation
from experiments.gradcheck_upstream.target import OutsideError, Target, UnsupportedError
from jnn import gradcheck

# By name the distribution whose version is printed.
LIBRARIES = {
    "scan": "jax",
    "jax": "jax",
    "pallas": "jax",
    "optax": "optax",
    "flax": "flax",
    "equinox": "equinox",
    "lineax": "lineax",
    "optimistix": "optimistix",
    "diffrax": "diffrax",
    "jaxopt": "jaxopt",
    "distrax": "distrax",
    "numpyro": "numpyro",
    "ott": "ott-jax",
    "e3nn": "e3nn-jax",
    "tokamax": "tokamax",
    "tfp": "tfp-nightly",
    "flowjax": "flowjax",
    "interpax": "interpax",
    "jaxlie": "jaxlie",
    "matfree": "matfree",
    "rlax": "rlax",
    "tinygp": "tinygp",
}
QUIET = ("pass", "outside", "unsupported")


@dataclass(frozen=True)
class Result:
    """One check: `verdict` is a report's, or "outside", "unsupported", or "error"."""

    library: str
    function: str
    inputs: str
    verdict: str
    detail: str
    seconds: float


def seen(report: gradcheck.Report) -> str:
    """The worst leaf of a report and the checks that did not pass, in one line."""
    bad = next((leaf for leaf in report.leaves if leaf.verdict != "pass"), None)
    worst = None if bad is None else bad.worst
    leaf = [] if bad is None else [str(worst) if worst is not None and worst.wrong else "", bad.pattern, bad.note]
    checks = [f"{c.name}: {c.why}" for c in report.checks if c.outcome not in ("pass", "skipped")]
    return "; ".join([text for text in (" ".join(filter(None, leaf)), *checks) if text])[:400]


def finite(value: object) -> bool:
    """Whether all floating leaves are finite."""
    leaves = [np.asarray(v) for v in jax.tree.leaves(value) if hasattr(v, "dtype") and v.dtype != jax.dtypes.float0]
    return all(np.isfinite(v.astype(np.complex128)).all() for v in leaves if v.dtype.kind not in "biuSUO")


def examined(library: str, target: Target, inputs: str) -> Result:
    """One check."""
    started = time.process_time()
    result = functools.partial(Result, library, target.name, inputs)

    def spent() -> float:
        return time.process_time() - started

    try:
        args = target.inputs[inputs]()
        with target.within():
            value = target.fun(*args)
        if not finite(value):
            raise OutsideError("the value is not finite")
    except OutsideError as error:
        return result("outside", str(error), spent())
    except UnsupportedError as error:
        return result("unsupported", str(error), spent())
    except Exception as error:  # what a library raises is a result of this experiment
        return result("unsupported", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", spent())
    try:
        with target.within():
            report = gradcheck.check(target.fun, *args, power=False, **target.check)
    except Exception as error:  # the same
        return result("error", f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", spent())
    return result(report.verdict, "" if report.verdict == "pass" else seen(report), spent())


def installed(name: str) -> str | None:
    """The version of a distribution, None without one."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def targets_of(library: str, pattern: str) -> list[Target]:
    """The functions of one library whose full names fit the pattern.

    Raises:
        ImportError: it is not installed, or not the version that the list was written for.
    """
    if library == "scan":
        return scan.targets(pattern)
    module = importlib.import_module(f"experiments.gradcheck_upstream.in_{library}")
    return [target for target in module.TARGETS if fnmatch.fnmatch(target.name, pattern)]


def collected(libraries: Sequence[str], pattern: str) -> Iterator[tuple[str, list[Target]]]:
    """By library its functions; those that are missing or broken are said on stderr."""
    for library in libraries:
        if installed(LIBRARIES[library]) is None:
            print(f"skipped: {LIBRARIES[library]} is not installed", file=sys.stderr)
            continue
        try:
            yield library, targets_of(library, pattern)
        except Exception as error:  # a library may fail to import in many ways, or have moved a name
            print(f"skipped: {library}: {type(error).__name__}: {error}", file=sys.stderr)


HEADINGS = ("function", "inputs tried", "verdict")
ORDER = ("fail", "error", "inconclusive", "kink", "pass", "outside", "unsupported")


def table(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """One row a function: the inputs, and the verdicts by number of inputs, the worst first."""
    by_function: dict[tuple[str, str], list[Result]] = {}
    for r in results:
        by_function.setdefault((r.library, r.function), []).append(r)
    rows = []
    for (_, function), some in by_function.items():
        counts = {v: [r.inputs for r in some if r.verdict == v] for v in ORDER}
        said = [
            f"{v} ({len(inputs)}{': ' + '; '.join(inputs) if v not in QUIET else ''})"
            for v, inputs in counts.items()
            if inputs
        ]
        rows.append((function, str(len(some)), ", ".join(said)))
    return rows


def by_library(results: Sequence[Result], versions: dict[str, str]) -> list[tuple[str, ...]]:
    """One row a distribution, under `SHORT`: its functions, and its checks by verdict."""
    rows = []
    for name in dict.fromkeys(LIBRARIES[r.library] for r in results):
        mine = [r for r in results if LIBRARIES[r.library] == name]
        count = {v: sum(r.verdict == v for r in mine) for v in ORDER}
        told = ("pass", "kink", "fail", "inconclusive")
        rest = len(mine) - sum(count[v] for v in told)
        functions = len({(r.library, r.function) for r in mine})
        rows.append((f"{name} {versions[name]}", *map(str, (functions, *(count[v] for v in told), rest))))
    return rows


SHORT = ("library", "functions", "pass", "kink", "fail", "inconclusive", "no value, or error")


def show(rows: Sequence[tuple[str, ...]], headings: tuple[str, ...] = HEADINGS) -> None:
    """Print the table: with rich on a terminal, else in Markdown."""
    if importlib.util.find_spec("rich") is None or not sys.stdout.isatty():
        for row in (headings, ("---",) * len(headings), *rows):
            print("| " + " | ".join(row) + " |")
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table(*headings)
    for row in rows:
        color = {"fail": "red", "error": "red", "kink": "yellow", "inconclusive": "yellow"}.get(row[-1].split()[0])
        shown.add_row(*row[:-1], f"[{color}]{row[-1]}[/]" if color else row[-1])
    Console().print(shown)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.gradcheck_upstream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=list(LIBRARIES), help="default: all")
    made.add_argument("--functions", default="*", metavar="PATTERN", help="full names to check, as in 'jax.nn.*'")
    made.add_argument("--inputs", default="*", metavar="PATTERN", help="labels of inputs, as in '*float32'")
    made.add_argument("--most", type=int, metavar="N", help="inputs of a function at most; default: all")
    made.add_argument("--out", type=Path, metavar="FILE.json", help="where every result is saved")
    made.add_argument("--resume", action="store_true", help="take over what --out FILE.json holds already")
    return made


Key = tuple[str, str, str]


def saved(path: Path | None, versions: dict[str, str]) -> dict[Key, Result]:
    """The results of an earlier run, by library, function and inputs.

    Raises:
        ValueError: no file is named, or it was made with other versions.
    """
    if path is None:
        raise ValueError("--resume needs --out FILE.json, the file to go on from")
    if not path.exists():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    old = record["versions"]
    if any(old[name] != version for name, version in versions.items() if name in old):
        raise ValueError(f"expected results of {versions} in {path}, got {old}; choose another file")
    return {(r["library"], r["function"], r["inputs"]): Result(**r) for r in record["results"]}


def main(argv: Sequence[str] | None = None) -> int:
    """Find the functions, check them, print the table and what did not pass, save it."""
    options = parser().parse_args(argv)
    versions = {name: v for name in dict.fromkeys(LIBRARIES.values()) if (v := installed(name)) is not None}
    results: dict[Key, Result] = {}
    if options.resume:
        try:
            results = saved(options.out, versions)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
    chosen: list[Key] = []
    interrupted = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names are tried too
        try:
            for library, targets in collected(options.libraries, options.functions):
                for i, target in enumerate(targets):
                    progress(i, len(targets), target.name, every=1)
                    for inputs in fnmatch.filter(target.inputs, options.inputs)[: options.most]:
                        key = (library, target.name, inputs)
                        if key not in results:
                            results[key] = examined(library, target, inputs)
                            if options.out is not None:
                                found = [asdict(r) for r in results.values()]
                                write(options.out, {"versions": versions, "results": found})
                        chosen.append(key)
                jax.clear_caches()  # thousands of programs that run once take gigabytes
        except KeyboardInterrupt:
            interrupted = True
    progress(0, 0, "")
    if not chosen and not interrupted:
        print(f"no function is called {options.functions!r} and has inputs {options.inputs!r}", file=sys.stderr)
        return 2
    return conclude([results[key] for key in chosen], versions, interrupted)


def stated(shown: Callable[[], Shown]) -> str:
    """What a library says, and what is right, in a line."""
    try:
        got, right = shown()
    except ImportError as error:  # mpmath, or the library itself where results are taken over from a file
        return f"{shown.__doc__} Not shown: {error}"
    return f"{shown.__doc__} Got {got}, exact {right}."


def conclude(results: Sequence[Result], versions: dict[str, str], interrupted: bool) -> int:
    """Print what was found."""
    used = {LIBRARIES[r.library] for r in results}
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if name in used)
    functions = len({(r.library, r.function) for r in results})
    seconds = sum(r.seconds for r in results)
    print(f"{named}\n\nfunctions: {functions} of {len(used)} distributions; {seconds:.0f} s of processor time\n")
    show(by_library(results, versions), SHORT)
    print()
    show(table(results))
    counts = {v: sum(r.verdict == v for r in results) for v in ORDER}
    print("\n" + ", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n) + "\n")
    shown: set[object] = set()
    for r in results:
        if r.verdict not in QUIET:
            e = explanation(r.function, r.inputs)
            why = f"{e.whose}: {e.text}" if e is not None else "unexplained"
            print(f"{r.verdict}: {r.function}, {r.inputs}: {r.detail}\n    {why}")
            if e is not None and e.shown is not None and e.shown not in shown:
                shown.add(e.shown)
                print(f"    {stated(e.shown)}")
    if interrupted:
        print("\ninterrupted: this is part of the table; --out FILE.json --resume goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
