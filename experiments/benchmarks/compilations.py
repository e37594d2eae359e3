"""How often does jnn compile, when nothing but numbers and sizes changes?

    python -m experiments.benchmarks.compilations [--only WORD] [--quick] [--timing]

One fit of a kind, and then others like it with another learning rate, another number of rows, and so on. Shown are the
training programs that those others had compiled beside the most that there should be, all compilations of whatever
kind, and by how much the process grew. Counted by JAX's own monitoring; versions of JAX that do not tell what is being
compiled count everything as a training program. The whole takes some six minutes.

With `--timing`, what that means in time: a search over learning rates beside the same fits at one rate, and fits of
many sizes beside fits of one.
"""

import argparse
import collections
import contextlib
import ctypes
import functools
import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from rich.console import Console
from scipy.stats import loguniform
from sklearn.model_selection import RandomizedSearchCV

import jnn
from experiments.benchmarks.memory import status
from experiments.command_line import rich_table
from experiments.experiment import Table
from jnn import ensembles, likelihoods, stopping
from jnn.sklearn import MLPClassifier, MLPRegressor

TRAINING = ("run", "run_lanes")
"""The compiled functions that train. What starts a training is compiled beside each (a fifth of the time)."""
FITS = 50
"""The number of fits in a row over which a process' growth is measured, at most."""

ROWS, COLUMNS, CLASSES = 100, 4, 3
NETWORK = jnn.mlp([COLUMNS, 8, CLASSES])


@contextlib.contextmanager
def compilations() -> Iterator[collections.Counter[str]]:
    """Within: what has been compiled, by the function's name; "" where JAX does not tell it."""
    found: collections.Counter[str] = collections.Counter()

    def listen(event: str, duration_secs: float, **about: Any) -> None:
        del duration_secs
        if event.endswith("backend_compile_duration"):
            found[str(about.get("fun_name", "")).removeprefix("jit(").removesuffix(")")] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# --- what is varied


@dataclass(frozen=True)
class Series:
    """Fits that differ in one thing: `fit` is called with one value after another, and the first does not count.

    Attributes:
        of: who fits.
        what: what differs.
        values: it takes.
        fit: trains with one of them.
        bound: the most training programs that the values after the first may need.
        growth: the most megabytes by which the process may grow over `FITS` of them; None if it does not matter.
    """

    of: str
    what: str
    values: Sequence[Any]
    fit: Callable[[Any], object]
    bound: int = 0
    growth: float | None = None


def examples(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels."""
    rng = np.random.default_rng(rows)
    return rng.normal(size=(rows, COLUMNS)).astype(np.float32), np.arange(rows) % CLASSES


def by_fit(rows: int = ROWS, seed: int = 0, **settings: Any) -> object:
    """One network, with all that may be varied."""
    rules = (stopping.Patience(100), stopping.GeneralizationLoss(1000.0))
    common: dict[str, Any] = {"epochs": 40, "weight_decay": 1e-4, "stopping": rules, "validation": 0.2}
    key = jax.random.key(seed)
    return jnn.fit(NETWORK, likelihoods.Categorical(), *examples(rows), key=key, **{**common, **settings})


def by_ensemble(members: int) -> object:
    """So many networks."""
    return ensembles.fit(
        NETWORK, likelihoods.Categorical(), *examples(ROWS), key=jax.random.key(0), members=members, epochs=2
    )


def by_estimator(kind: type[MLPClassifier | MLPRegressor], rows: int = ROWS, **parameters: Any) -> object:
    """An estimator; that it ran out of epochs is no matter."""
    x, y = examples(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(hidden_layer_sizes=(8,), **parameters).fit(x, y)


ESTIMATORS = {kind.__name__: functools.partial(by_estimator, kind) for kind in (MLPClassifier, MLPRegressor)}
SOLVERS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adam, max_iter given": {"max_iter": 20},
    "sgd": {"solver": "sgd", "max_iter": 20},
}

OF_FIT: dict[str, Callable[[Any], dict[str, Any]]] = {
    "learning rate": lambda value: {"optimizer": jnn.adam(value)},
    "β₁": lambda value: {"optimizer": jnn.adam(b1=value)},
    "β₂": lambda value: {"optimizer": jnn.adam(b2=value)},
    "ε": lambda value: {"optimizer": jnn.adam(eps=value)},
    "momentum": lambda value: {"optimizer": jnn.steepest_descent(0.01, value)},
    "weight decay": lambda value: {"weight_decay": value},
    "patience": lambda value: {"stopping": (stopping.Patience(value), stopping.GeneralizationLoss(1000.0))},
    "tol": lambda value: {"stopping": (stopping.Patience(100, value), stopping.GeneralizationLoss(1000.0))},
    "GL's threshold": lambda value: {"stopping": (stopping.Patience(100), stopping.GeneralizationLoss(value))},
    "validate_every": lambda value: {"validate_every": value},
    "seed": lambda value: {"seed": value},
}
OF_ESTIMATORS = {
    "learning rate": "learning_rate_init",
    "β₁": "beta_1",
    "β₂": "beta_2",
    "ε": "epsilon",
    "momentum": "momentum",
    "weight decay": "alpha",
    "patience": "n_iter_no_change",
    "tol": "tol",
    "seed": "random_state",
}


def values(count: int) -> dict[str, Sequence[Any]]:
    """So many of each number."""
    return {
        "learning rate": np.geomspace(1e-4, 1e-2, count).tolist(),
        "β₁": np.linspace(0.5, 0.95, count).tolist(),
        "β₂": np.linspace(0.9, 0.9999, count).tolist(),
        "ε": np.geomspace(1e-10, 1e-6, count).tolist(),
        "momentum": np.linspace(0.1, 0.9, count).tolist(),
        "weight decay": np.geomspace(1e-6, 1e-2, count).tolist(),
        "patience": range(5, 5 + count),
        "tol": np.geomspace(1e-6, 1e-3, count).tolist(),
        "GL's threshold": np.linspace(1, 10, count).tolist(),
        "validate_every": range(1, 1 + count),
        "seed": range(count),
    }


def every_series(quick: bool = False) -> list[Series]:
    """All that is counted; `quick` with fewer values of each."""

    def some(first: int, last: int, step: int = 1) -> list[int]:
        return [*range(first, last, step * 10 if quick else step), last]

    of_each = values(3 if quick else 31)
    found = [
        Series("fit", name, of_each[name], lambda value, make=make: by_fit(**make(value)))
        for name, make in OF_FIT.items()
    ]
    fits: dict[str, Callable[..., object]] = {"fit": by_fit}
    for estimator, fit in ESTIMATORS.items():
        for solver, settings in SOLVERS.items():
            of, own = f"{estimator}, {solver}", functools.partial(fit, **settings)
            fits[of] = own
            found += [
                Series(of, name, of_each[name], lambda value, own=own, given=given: own(**{given: value}))
                for name, given in OF_ESTIMATORS.items()
                if name not in (("β₁", "β₂", "ε") if solver == "sgd" else ("momentum",))
            ]
    for of, fit in fits.items():
        found += [
            Series(of, "200 to 249 rows", some(200, 249), lambda rows, fit=fit: fit(rows=rows), 5, growth=30),
            Series(of, "1,000 to 1,200 rows", some(1000, 1200, 5), lambda rows, fit=fit: fit(rows=rows), 5),
        ]
        name = "epochs" if of == "fit" else "max_iter"
        if of in ("fit", "MLPClassifier, sgd"):
            epochs = some(50, 500, 10)
            found.append(Series(of, "50 to 500 epochs", epochs, lambda n, fit=fit, name=name: fit(**{name: n}), 4))
    return [*found, Series("ensembles.fit", "2 to 200 members", some(2, 200), by_ensemble, 6, growth=30)]


@dataclass(frozen=True)
class Found:
    """What a series needed: training programs, compilations of all kinds, and megabytes (NaN where nobody knows)."""

    series: Series
    training: int
    all: int
    grown: float

    @property
    def met(self) -> bool:
        """Whether the bounds are kept."""
        return self.training <= self.series.bound and not self.grown > (self.series.growth or np.inf)


def resident() -> float:
    """Megabytes that the process holds, without what glibc's malloc keeps in reserve."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return status("VmRSS") / 1e6


def measure(series: Series) -> Found:
    """Fit with the first value, and count what the others need."""
    first, *others = series.values
    series.fit(first)
    held = [resident()]
    with compilations() as found:
        for begin in range(0, len(others), FITS):
            for value in others[begin : begin + FITS]:
                series.fit(value)
            held.append(resident())
    training = sum(count for name, count in found.items() if name in (*TRAINING, ""))
    return Found(series, training, found.total(), float(np.diff(held).max()))


def table(found: Sequence[Found]) -> Table:
    """A row a series."""
    rows = [
        (
            f"{one.series.of}: {one.series.what}" + ("" if one.met else "  (not met)"),
            f"{len(one.series.values) - 1}",
            f"{one.training}",
            f"{one.series.bound}",
            f"{one.all}",
            f"{one.grown:.1f}",
            "" if one.series.growth is None else f"{one.series.growth:g}",
        )
        for one in found
    ]
    columns = (
        "",
        "further fits",
        "training programs",
        "at most",
        "all compilations",
        f"MB over {FITS} fits",
        "at most",
    )
    return Table(f"What other numbers and sizes had compiled, JAX {jax.__version__}", columns, rows)


# --- in time


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def search_ratio(rounds: int = 3) -> float:
    """A random search over 12 learning rates in 3 folds / the same fits at one rate, in turn, new rates each time."""
    x, y = examples(300)

    def seconds(rates: Any, seed: int) -> float:
        estimator = MLPClassifier(hidden_layer_sizes=(8,), random_state=0)
        grid = {"learning_rate_init": rates}
        search = RandomizedSearchCV(estimator, grid, n_iter=12, cv=3, random_state=seed, refit=False)
        return _seconds(lambda: search.fit(x, y))

    def both(seed: int) -> float:
        return seconds(loguniform(1e-3, 1e-1), seed) / seconds([0.02] * 12, seed)

    both(0)
    return float(np.median([both(seed) for seed in range(1, 1 + rounds)]))


def sizes_ratio(fit: Callable[..., object]) -> float:
    """50 fits of 50 sizes, after one of the first, / 50 of the last size; once, since it is about compiling."""
    fit(rows=200)
    several = _seconds(lambda: [fit(rows=rows) for rows in range(200, 250)])
    return several / _seconds(lambda: [fit(rows=249) for _ in range(50)])


def timing() -> Table:
    """Both, with their bounds."""
    ratios = [
        ("MLPClassifier: a search over 12 learning rates / at one", search_ratio(), 1.2),
        ("MLPClassifier: 50 sizes / one", sizes_ratio(ESTIMATORS["MLPClassifier"]), 3.0),
        ("fit: 50 sizes / one", sizes_ratio(functools.partial(by_fit, epochs=100)), 3.0),
    ]
    rows = [
        (f"{what}{'' if ratio <= bound else '  (not met)'}", f"{ratio:.2f}", f"{bound}")
        for what, ratio, bound in ratios
    ]
    return Table(f"Ratios of times, JAX {jax.__version__}", ("", "ratio", "at most"), rows)


def main(arguments: Sequence[str]) -> int:
    """Print the table; the number of bounds that were not kept is the exit status."""
    parser = argparse.ArgumentParser(
        "python -m experiments.benchmarks.compilations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="only series with this in their name, as in 'sgd: momentum'")
    parser.add_argument("--quick", action="store_true", help="fewer values of each")
    parser.add_argument("--timing", action="store_true", help="times instead")
    options = parser.parse_args(arguments)
    console = Console(width=max(Console().width, 120) if not Console().is_terminal else None)
    if options.timing:
        console.print(rich_table(timing()))
        return 0
    found = []
    with console.status("") as shown:
        for series in every_series(options.quick):
            if options.only in f"{series.of}: {series.what}":
                shown.update(f"{series.of}: {series.what}")
                found.append(measure(series))
    console.print(rich_table(table(found)))
    return sum(not one.met for one in found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
