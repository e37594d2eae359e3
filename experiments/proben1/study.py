"""Training as the report did: full-batch Rprop, stopped by GL5 or P5, many runs of one network as one program.

The validation risk is looked at after every fifth epoch. A run ends at the first of these where

    GL(t) = 100 (E_va(t) / min_{t' ≤ t} E_va(t') − 1) > 5,   or   P5(t) = 1000 (Σ E_tr / (5 min E_tr) − 1) < 0.1,

sum and minimum over the last five epochs, or after 3000 epochs; it hands back the network with the lowest validation
risk. Inputs and outputs are used as they stand, the error is the sum of squares, hidden neurons are x / (1 + |x|).
"""

import functools
import time
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

import jnn
from experiments.proben1.files import Part, Problem
from experiments.proben1.measures import classification_error_percentage, squared_error_percentage
from experiments.proben1.published import TABLE, Figures, Kind, Sample
from jnn.likelihoods import Gaussian, Likelihood, SquaredError
from jnn.networks import Layered, Params
from jnn.optimizers import Variant
from jnn.training import stopping

EPOCHS = 3000
STRIP = 5
HIDDEN = (16, 8)
"""The hidden layers for problems whose pivot network is not at hand: the most frequent of those that are."""
Outputs = Literal["published", "linear", "softsign", "logistic"]
VARIANT: Variant = "iRprop+"
"""The report does not say which. Rprop+ and Rprop- train up to twice as long as its runs did, the "i" ones less."""
REASONS = ("all epochs", "divergence", "GL5", "P5")
"""Why a run ended, by its code."""
EXAMPLES_AT_ONCE = 8000
"""How many training examples, times runs, are worked on at once: enough to fill vectors, and to fit into caches."""


@dataclass(frozen=True)
class Choices:
    """What the report leaves open, or says in two ways: one reading of it.

    Attributes:
        name: of the reading.
        eta_plus: η⁺ (η⁻ is 0.5).
        steps: initial step sizes are drawn uniformly from this interval, one a weight.
        weights: initial weights and biases are drawn uniformly from ± this.
        variant: of Rprop.
    """

    name: str
    eta_plus: float
    steps: tuple[float, float]
    weights: float
    variant: Variant = VARIANT

    @property
    def words(self) -> str:
        """The choice in words."""
        low, high = self.steps
        return f"{self.variant}, η⁺ {self.eta_plus}, first steps {low} to {high}, first weights ±{self.weights}"


PARAMETERS = {
    "final": Choices("final", eta_plus=1.2, steps=(0.005, 0.02), weights=0.01),
    "search": Choices("search", eta_plus=1.1, steps=(0.05, 0.2), weights=0.5),
    "mixed": Choices("mixed", eta_plus=1.2, steps=(0.05, 0.2), weights=0.01),
}
"""Two sets that the report names: of the linear and the final runs, and of its search for architectures.

The third is nowhere in the report: "final" but for the first steps, which are those of "search", as if these two
ranges, alike but for a factor of ten, had been taken for each other where networks have hidden neurons. It came from
the question which of the sets' differences explains the published figures, and explains more of them than either set:
an inference, not a quotation.
"""


@dataclass(frozen=True)
class Cell:
    """One network on one problem, to be trained many times."""

    problem: Problem
    kind: Kind
    choices: Choices
    hidden: tuple[int, ...] = HIDDEN
    outputs: Outputs = "published"

    @property
    def name(self) -> str:
        """The problem and the network."""
        return f"{self.problem.name}, {self.kind}" + (f", {self.choices.name}" if self.kind != "linear" else "")

    @property
    def layers(self) -> tuple[int, ...]:
        """The sizes of the hidden layers: the published ones, where there are any."""
        if self.kind == "linear":
            return ()
        row = TABLE.get(self.problem.name)
        return self.hidden if row is None else row.hidden

    @property
    def published(self) -> Figures | None:
        """What was published, where it is at hand."""
        row = TABLE.get(self.problem.name)
        return None if row is None else row.figures[self.kind]

    @property
    def network(self) -> Layered:
        """The network: the pivot network has all feed-forward connections."""
        sizes = (self.problem.inputs, *self.layers, self.problem.outputs)
        return jnn.mlp(sizes, hidden="softsign", shortcuts=self.kind == "pivot")

    @property
    def output(self) -> str:
        """What outputs go through: as asked for, or as published, mostly nothing; never anything in linear networks."""
        row = TABLE.get(self.problem.name)
        if self.kind == "linear" or (self.outputs == "published" and (row is None or row.linear_outputs)):
            return "linear"
        return "softsign" if self.outputs == "published" else self.outputs

    @property
    def likelihood(self) -> Likelihood:
        """The squared error."""
        return Gaussian() if self.output == "linear" else SquaredError(self.output)

    @property
    def cost(self) -> int:
        """Multiplications an epoch, roughly."""
        return self.network.weight_count * len(self.problem.train.x)


class Runs(NamedTuple):
    """Of each run (arrays): test errors in percent, epochs trained and that of the network taken, why it ended."""

    squared: Any
    wrong: Any
    epochs: Any
    best_epoch: Any
    code: Any


@dataclass(frozen=True)
class Result:
    """All runs of a cell, as NumPy arrays, and how long they took, compilation included."""

    cell: Cell
    runs: Runs
    seconds: float

    @property
    def squared(self) -> Sample:
        """The test squared error."""
        return _sample(self.runs.squared)

    @property
    def wrong(self) -> Sample:
        """The test classification error."""
        return _sample(self.runs.wrong)


def _sample(values: np.ndarray) -> Sample:
    return Sample(float(np.mean(values, dtype=float)), float(np.std(values, ddof=1, dtype=float)), len(values))


def train(cell: Cell, runs: int, seed: int) -> Result:
    """Train a network many times from different initial weights: one compiled program."""
    begun = time.perf_counter()
    problem = cell.problem
    groups = -(-runs * len(problem.train.x) // EXAMPLES_AT_ONCE)
    together = -(-runs // groups) if groups < runs else 1
    filled = -(-runs // together) * together
    key = jax.random.fold_in(jax.random.key(seed), sum(map(ord, problem.name + cell.kind)))
    keys = jax.vmap(lambda number: jax.random.fold_in(key, number))(jnp.arange(filled))  # run i is run i of any number
    found = _train_all(
        cell.network, cell.likelihood, cell.choices, together, keys, problem.train, problem.validation, problem.test
    )
    found = Runs(*(np.asarray(each)[:runs] for each in found))
    return Result(cell, found, time.perf_counter() - begun)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _train_all(
    network: Layered,
    likelihood: Likelihood,
    choices: Choices,
    together: int,
    keys: Array,
    train: Part,
    validation: Part,
    test: Part,
) -> Runs:
    """Group after group, each until its last run has stopped: runs that have stopped wait for few others."""

    def one(key: Array) -> Runs:
        weights_key, fit_key = jax.random.split(key)
        weights, steps = _draw(network, choices, weights_key)
        result = jnn.fit(
            network,
            likelihood,
            *train,
            key=fit_key,
            optimizer=jnn.rprop(steps, choices.variant, eta_plus=choices.eta_plus),
            epochs=EPOCHS,
            batch_size=None,
            validation=validation,
            validate_every=STRIP,
            stopping=(stopping.GeneralizationLoss(5.0), stopping.TrainingProgress(0.1, STRIP)),
            params=weights,
        )
        outputs, targets = likelihood.mean(network.apply(result.params, test.x)), jnp.asarray(test.y)
        return Runs(
            squared_error_percentage(outputs, targets),
            classification_error_percentage(outputs, targets),
            result.epochs,
            result.best_epoch,
            result.code,
        )

    return jax.lax.map(one, keys, batch_size=together)


def _draw(network: Layered, choices: Choices, key: Array) -> tuple[Params, Params]:
    """Initial weights, biases among them, and initial step sizes, each uniform in its interval."""
    like = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(network.init, key))
    flat, unravel = ravel_pytree(like)
    # All in one draw: to compile a draw takes longer than to train some of the networks.
    drawn = jax.random.uniform(key, (2, len(flat)), flat.dtype)
    low, high = choices.steps
    return unravel(choices.weights * (2 * drawn[0] - 1)), unravel(low + (high - low) * drawn[1])
