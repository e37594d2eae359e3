"""One recipe for every data set: a single hidden layer, small initial weights, Adam, early stopping.

The slide "The secrets of successful shallow NN training", taken at its word. The numbers were chosen once, by the
validation risk on splits of another seed than the default one, and are the same for all data sets: no figure here was
tuned on test examples. All splits of a data set are trained by one compiled program.
"""

import functools
from dataclasses import dataclass

import jax
import numpy as np

import jnn
from experiments import datasets
from experiments.datasets import Data
from experiments.experiment import Session, Size, efforts
from jnn.networks import Layered, Params
from jnn.training import FitResult, stopping


@dataclass(frozen=True)
class Recipe:
    """How many neurons, how fast, how long."""

    hidden: int = 32
    learning_rate: float = 0.003
    batch_size: int = 32
    validation: float = 0.2
    epochs: int = 300
    patience: int = 20


EFFORTS = efforts(
    splits=(2, 10, 40),
    recipe=(Recipe(hidden=4, epochs=3, patience=2), Recipe(), Recipe()),
    names=(("breast_cancer", "iris", "diabetes"), tuple(datasets.SOURCES), tuple(datasets.SOURCES)),
    examples=(60, None, None),
)
"""How many splits of which data sets an experiment can afford."""


@dataclass(frozen=True)
class Trained:
    """A network for each split of a data set."""

    data: Data
    network: Layered
    initial: Params
    result: FitResult

    @property
    def splits(self) -> int:
        """How many."""
        return len(self.data.train.x)

    def decisions(self, x: np.ndarray) -> np.ndarray:
        """Labels, or predicted targets, `(splits, n)`, for the inputs `(splits, n, d)`."""
        a = jax.jit(jax.vmap(self.network.apply))(self.result.params, x)
        likelihood = self.data.source.likelihood
        if not self.data.source.classes:
            return np.asarray(a[..., 0])
        decided = np.asarray(likelihood.decide(a))  # type: ignore[attr-defined]
        return decided[..., 0].astype(int) if self.data.outputs == 1 else decided


def train(name: str, session: Session) -> Trained:
    """Train on every split of a data set (once: experiments that ask for the same networks share them)."""
    return _train(name, session.seed, session.size)


@functools.lru_cache(maxsize=16)
def _train(name: str, seed: int, size: Size) -> Trained:
    effort = EFFORTS[size]
    data, recipe = datasets.split(name, effort.splits, seed, effort.examples), effort.recipe
    network = jnn.mlp([data.inputs, recipe.hidden, data.outputs], hidden="tanh")

    @jax.jit
    @jax.vmap
    def program(key: jax.Array, params: Params, x: jax.Array, y: jax.Array) -> FitResult:
        return jnn.fit(
            network,
            data.source.likelihood,
            x,
            y,
            key=key,
            optimizer=jnn.adam(recipe.learning_rate),
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            validation=recipe.validation,
            stopping=stopping.Patience(recipe.patience),
            params=params,
        )

    keys = jax.random.split(jax.random.key(seed), effort.splits)
    initial = jax.jit(jax.vmap(network.init))(keys)
    return Trained(data, network, initial, program(keys, initial, data.train.x, data.targets(data.train)))
