"""How fast are the estimators where they are used: one row, many sizes, defaults, several processes?

    python -m experiments.benchmarks.estimators_in_use [--calls 1000] [--quick]

The median milliseconds of one-row `predict` and `predict_proba` beside scikit-learn's perceptron with the same network;
how many programs predictions of 100 different sizes compile; the seconds of a fit with defaults (after the first of the
process) beside scikit-learn's with defaults; and `cross_val_score(n_jobs=2)` with joblib's backends: loky, threading,
and dask's if it is installed, each with how far its scores are from those that one process finds.
"""

import argparse
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import joblib
import numpy as np
from rich.console import Console
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier as ScikitLearnsMLPClassifier, MLPRegressor as ScikitLearnsMLPRegressor

from experiments.benchmarks.compilations import compilations
from experiments.command_line import rich_table
from experiments.experiment import Table
from jnn.sklearn import MLPClassifier, MLPRegressor

SAME: dict[str, Any] = {"hidden_layer_sizes": (100,), "activation": "relu", "random_state": 0}


def milliseconds(call: Callable[[], object], calls: int) -> float:
    """The median over many calls."""
    seconds = []
    for _ in range(calls + 20):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return 1000 * float(np.median(seconds[20:]))


def one_row(calls: int) -> Table:
    """Predictions of a single row, in turn."""
    x, y = load_breast_cancer(return_X_y=True)
    models = {
        "scikit-learn, one network": ScikitLearnsMLPClassifier(max_iter=50, **SAME).fit(x, y),
        "jnn, the same network": MLPClassifier(members=1, **SAME).fit(x, y),
        "jnn, eight by default": MLPClassifier(random_state=0).fit(x, y),
    }
    rows = []
    for name, model in models.items():
        found = [milliseconds(lambda of=of: of(x[:1]), calls) for of in (model.predict, model.predict_proba)]
        rows.append([name, *(f"{ms:.3f}" for ms in found)])
    return Table("one row, milliseconds", ("", "predict", "predict_proba"), rows)


def programs(sizes: Sequence[int]) -> int:
    """How many programs predictions of so many rows compile."""
    x, y = load_iris(return_X_y=True)
    model = MLPClassifier(members=2, hidden_layer_sizes=8, random_state=0).fit(x, y)
    with compilations() as found:
        for size in sizes:
            model.predict_proba(np.resize(x, (size, 4)))
    return sum(found.values())


def fits(repeats: int) -> Table:
    """Defaults beside defaults."""
    data = {
        "iris, 150": (MLPClassifier, ScikitLearnsMLPClassifier, load_iris(return_X_y=True)),
        "diabetes, 442": (MLPRegressor, ScikitLearnsMLPRegressor, load_diabetes(return_X_y=True)),
        "breast cancer, 569": (MLPClassifier, ScikitLearnsMLPClassifier, load_breast_cancer(return_X_y=True)),
    }
    rows = []
    for name, (ours, theirs, (x, y)) in data.items():
        standardized = (x - x.mean(axis=0)) / x.std(axis=0)
        seconds: list[list[float]] = [[], []]
        for seed in range(repeats + 1):
            for kind, inputs, found in ((ours, x, seconds[0]), (theirs, standardized, seconds[1])):
                begun = time.perf_counter()
                kind(random_state=seed).fit(inputs, y)
                found.append(time.perf_counter() - begun)
        rows.append([name, *(f"{np.median(found[1:]):.2f}" for found in seconds)])
    return Table("a fit with defaults, seconds", ("", "jnn", "scikit-learn"), rows)


def backends() -> Table:
    """Cross-validations in two workers, and whether their scores are those of one process."""
    x, y = load_iris(return_X_y=True)
    model, rows = MLPClassifier(random_state=0), []
    expected = cross_val_score(model, x, y)
    for backend in ("loky", "threading", "dask"):
        if backend == "dask" and importlib.util.find_spec("distributed") is None:
            rows.append([backend, "not installed: pip install 'dask[distributed]'", ""])
            continue
        client: Any = None
        if backend == "dask":
            import distributed  # type: ignore[import-not-found]

            client = distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None)
        begun = time.perf_counter()
        with joblib.parallel_config(backend=backend, n_jobs=2):
            scores = cross_val_score(model, x, y)
        rows.append([backend, f"{time.perf_counter() - begun:.1f} s", f"{np.abs(scores - expected).max():.2g}"])
        if client is not None:
            client.close()
    return Table("cross_val_score(n_jobs=2)", ("backend", "", "scores differ by"), rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Print all of it."""
    parser = argparse.ArgumentParser(
        "python -m experiments.benchmarks.estimators_in_use",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=1000, help="one-row predictions of each kind (default: 1000)")
    parser.add_argument("--quick", action="store_true", help="few of everything, and no other processes")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # scikit-learn's perceptron says that 200 epochs were not enough
    console = Console()
    console.print(rich_table(one_row(20 if options.quick else options.calls)))
    sizes = range(1, 20_001, 2000 if options.quick else 200)
    console.print(f"predictions of {len(sizes)} sizes: {programs(sizes)} programs compiled", highlight=False)
    if not options.quick:
        console.print(rich_table(fits(5)))
        console.print(rich_table(backends()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
