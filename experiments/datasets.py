"""scikit-learn's bundled data, split at random into training and test examples several times over, standardized."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.datasets
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from experiments import statistics
from experiments.statistics import Estimate
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood
from jnn.transforms import Standardize, Whiten

TEST_SHARE = 0.25


@dataclass(frozen=True)
class Source:
    """Where a data set comes from, and what its targets are."""

    title: str
    load: Callable[..., Any]
    likelihood: Likelihood

    @property
    def classes(self) -> bool:
        """Whether the targets are classes."""
        return not isinstance(self.likelihood, Gaussian)


SOURCES = {
    "digits": Source("Digits", sklearn.datasets.load_digits, Categorical()),
    "breast_cancer": Source("Breast cancer", sklearn.datasets.load_breast_cancer, Bernoulli()),
    "wine": Source("Wine", sklearn.datasets.load_wine, Categorical()),
    "iris": Source("Iris", sklearn.datasets.load_iris, Categorical()),
    "diabetes": Source("Diabetes", sklearn.datasets.load_diabetes, Gaussian()),
}


@dataclass(frozen=True)
class Part:
    """Examples of every split: inputs `(splits, n, d)`, and targets `(splits, n)`: labels, or standardized numbers."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Data:
    """Random splits of one data set. Means and deviations were taken from the training part alone.

    Numbers are float32. Labels count from 0.
    """

    source: Source
    train: Part
    test: Part

    @property
    def inputs(self) -> int:
        """D."""
        return self.train.x.shape[-1]

    @property
    def outputs(self) -> int:
        """K: a neuron for each class if there are more than two, else one."""
        return int(self.train.y.max()) + 1 if isinstance(self.source.likelihood, Categorical) else 1

    def targets(self, part: Part) -> np.ndarray:
        """The targets as the likelihood takes them: labels of more than two classes, else a column."""
        return part.y if isinstance(self.source.likelihood, Categorical) else part.y[..., None].astype(np.float32)

    def estimate(self, values: np.ndarray, level: float = 0.95) -> Estimate:
        """The mean of a figure of each split, with an interval that knows how the splits overlap."""
        return statistics.over_splits(values, self.train.x.shape[1], self.test.x.shape[1], level)


def split(name: str, splits: int, seed: int, examples: int | None = None, standardize: bool = True) -> Data:
    """Split a data set at random `splits` times, classes in proportion, and standardize it.

    Args:
        name: in `SOURCES`.
        splits: how often.
        seed: decides who is in which part.
        examples: take only so many, the same number of each class as far as possible (to try out the code).
        standardize: the inputs; targets that are numbers are standardized in any case.
    """
    source = SOURCES[name]
    x, y = source.load(return_X_y=True)
    chooser = StratifiedShuffleSplit if source.classes else ShuffleSplit
    if examples is not None and examples < len(x):
        rows, _ = next(chooser(1, train_size=examples, random_state=seed).split(x, y))
        x, y = x[rows], y[rows]
    rows = list(chooser(splits, test_size=TEST_SHARE, random_state=seed).split(x, y))
    train, test = np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows])
    if standardize:
        x_train, x_test = transformed(Standardize, x[train], x[test])
    else:
        x_train, x_test = (x[rows].astype(np.float32) for rows in (train, test))
    if source.classes:
        return Data(source, Part(x_train, y[train].astype(np.int32)), Part(x_test, y[test].astype(np.int32)))
    y_train, y_test = transformed(Standardize, y[train][..., None], y[test][..., None])
    return Data(source, Part(x_train, y_train[..., 0]), Part(x_test, y_test[..., 0]))


def transformed(
    kind: type[Standardize] | type[Whiten], train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both parts of every split, by what is learned from its training part, as float32."""
    learned = [kind.fit(part) for part in train]
    z_train, z_test = (
        np.stack([t.apply(part) for t, part in zip(learned, parts, strict=True)]) for parts in (train, test)
    )
    return z_train.astype(np.float32), z_test.astype(np.float32)
