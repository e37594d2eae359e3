"""The data of the workloads: made once, in one file that all contestants read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import sklearn.datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from experiments.benchmarks.workloads import EDGES_EACH, Data, Size, Workload

NO_EDGES = np.zeros((0, 2), np.int64)


def write(workload: Workload, size: Size, folder: Path) -> Path:
    """The workload's data as a file; written once for each folder."""
    shape = "-".join(map(str, workload.sizes)) if workload.graph else ""
    path = folder / f"{workload.data}{shape}-{size}.npz"
    if not path.exists():
        np.savez(path, **SOURCES[workload.data](workload, size)._asdict())
    return path


def digits(workload: Workload, size: Size) -> Data:
    """scikit-learn's 1,797 digits, within [0, 1]: 1,437 to train and 360 to test."""
    x, y = map(np.asarray, sklearn.datasets.load_digits(return_X_y=True))
    return _split(x / 16, y.astype(np.int32), 240 if size == "tiny" else 1437)


def breast_cancer(workload: Workload, size: Size) -> Data:
    """scikit-learn's 569 cases, standardized: 455 to train and 114 to test; targets are a column of 0 and 1."""
    x, y = map(np.asarray, sklearn.datasets.load_breast_cancer(return_X_y=True))
    data = _split(x, y, 455)
    scaler: Any = StandardScaler().fit(data.x)
    return data._replace(
        x=scaler.transform(data.x).astype(np.float32),
        x_test=scaler.transform(data.x_test).astype(np.float32),
        y=data.y[:, None].astype(np.float32),
        y_test=data.y_test[:, None].astype(np.float32),
    )


def exponential(workload: Workload, size: Size) -> Data:
    """2 × 2 matrices with standard normal elements, and their matrix exponentials (SimpleChains.jl's benchmark)."""
    count = 200 if size == "tiny" else 10_000
    x = np.random.default_rng(0).standard_normal((count + 1000, 2, 2))
    y = scipy.linalg.expm(x).reshape(-1, 4).astype(np.float32)
    x = x.reshape(-1, 4).astype(np.float32)
    return Data(x[:count], y[:count], x[count:], y[count:], NO_EDGES)


def clusters(workload: Workload, size: Size) -> Data:
    """784 inputs of unit variance in 10 classes around means close enough that none can tell all of them apart."""
    count = 256 if size == "tiny" else 8192
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, count + 2048).astype(np.int32)
    means = 0.15 * rng.standard_normal((10, 784))
    x = (means[y] + rng.standard_normal((len(y), 784))).astype(np.float32)
    return Data(x[:count], y[:count], x[count:], y[count:], NO_EDGES)


def graph(workload: Workload, size: Size) -> Data:
    """Digits, and the edges of a random acyclic network in which every hidden neuron reads and is read."""
    edges = random_edges(*workload.sizes, edges=EDGES_EACH * (1 + sum(workload.sizes)))
    return digits(workload, size)._replace(edges=edges)


def random_edges(inputs: int, hidden: int, outputs: int, edges: int, seed: int = 0) -> np.ndarray:
    """Edges (j, i), j < i, drawn evenly, in the numbering of `jnn.dag`: bias 0, inputs, hidden neurons, outputs."""
    rng = np.random.default_rng(seed)
    first_output = 1 + inputs + hidden
    last = first_output + outputs
    readers, read = np.arange(inputs + 1, last), np.arange(1, first_output)
    into = np.stack([rng.integers(1, np.minimum(readers, first_output)), readers], axis=1)
    out_of = np.stack([read, rng.integers(np.maximum(read, inputs) + 1, last)], axis=1)
    found = np.unique(np.concatenate([into, out_of]), axis=0)
    while len(found) < edges:
        i = rng.integers(inputs + 1, last, edges - len(found))
        j = rng.integers(1, np.minimum(i, first_output))
        found = np.unique(np.concatenate([found, np.stack([j, i], axis=1)]), axis=0)
    return found


def _split(x: np.ndarray, y: np.ndarray, count: int) -> Data:
    parts = train_test_split(x.astype(np.float32), y, train_size=count, test_size=None, stratify=y, random_state=0)
    x_train, x_test, y_train, y_test = (np.ascontiguousarray(part) for part in parts)
    return Data(x_train, y_train, x_test, y_test, NO_EDGES)


SOURCES: dict[str, Callable[[Workload, Size], Data]] = {
    "digits": digits,
    "breast_cancer": breast_cancer,
    "exponential": exponential,
    "clusters": clusters,
    "graph": graph,
}
