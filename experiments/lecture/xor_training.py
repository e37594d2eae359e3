"""Networks of every small width that learn XOR, with and without shortcuts: all of one activation in one program."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

import jnn
from experiments import statistics
from experiments.experiment import Effort, efforts
from experiments.lecture.variants import masked
from experiments.statistics import Estimate
from jnn.likelihoods import Bernoulli
from jnn.networks import Layered, Params

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([0, 1, 1, 0])

WIDTHS = tuple(range(9))
"""Numbers of hidden neurons. With none, and with shortcuts, a network is a single unit."""
ACTIVATIONS = ("tanh", "logistic", "relu", "softsign")
LEARNING_RATE = 0.03


EFFORTS = efforts(seeds=(4, 100, 2000), epochs=(20, 1000, 1000), activations=(("tanh",), ACTIVATIONS, ACTIVATIONS))


@dataclass(frozen=True)
class Trial:
    """Networks with one activation that were trained from many seeds.

    Attributes:
        activation: by name.
        network: the widest, which the others are parts of.
        params: with axes (without and with shortcuts, WIDTHS, seeds).
        solved: who got all four right, `(2, WIDTHS, seeds)`.
    """

    activation: str
    network: Layered
    params: Params
    solved: np.ndarray

    def share(self, shortcuts: bool, hidden: int) -> Estimate:
        """Of seeds that solved it, with its interval."""
        solved = self.solved[int(shortcuts), hidden]
        return statistics.share(int(solved.sum()), len(solved))


def part(network: Layered, hidden: jax.Array, shortcuts: jax.Array) -> Params:
    """1 for the weights that a network with so many hidden neurons, with or without shortcuts, has; 0 for others."""
    width = network.sizes[1]
    present = (jnp.arange(width) < hidden).astype(jnp.float32)
    into_output = jnp.concatenate([jnp.full(2, shortcuts, jnp.float32), present])  # the inputs' weights come first
    return (
        {"W": jnp.broadcast_to(present, (2, width)), "b": present},
        {"W": into_output[:, None], "b": jnp.ones(1, jnp.float32)},
    )


def train(activation: str, effort: Effort, seed: int) -> Trial:
    """Batch learning with Adam, from `effort.seeds` initial weights for each width, without and with shortcuts."""
    network = jnn.mlp([2, WIDTHS[-1], 1], activation, shortcuts=True)

    def one(shortcuts: jax.Array, hidden: jax.Array, key: jax.Array) -> Params:
        present = part(network, hidden, shortcuts)
        first, output = network.init(key)
        # As large as `jnn.mlp` of that width would draw them: 1/√fan-in.
        fan_in = jnp.maximum(jnp.sum(present[1]["W"]), 1)
        drawn = (first, {"W": output["W"] * jnp.sqrt((2 + WIDTHS[-1]) / fan_in), "b": output["b"]})
        return jnn.fit(
            network,
            Bernoulli(),
            X,
            Y[:, None],
            key=key,
            optimizer=masked(jnn.adam(LEARNING_RATE), present),
            epochs=effort.epochs,
            batch_size=None,
            params=jax.tree.map(jnp.multiply, drawn, present),
        ).params

    by_seed = jax.vmap(one, in_axes=(None, None, 0))
    by_width = jax.vmap(by_seed, in_axes=(None, 0, None))
    everyone = jax.jit(jax.vmap(by_width, in_axes=(0, None, None)))
    keys = jax.random.split(jax.random.key(seed), effort.seeds)
    params = everyone(jnp.array([0.0, 1.0], jnp.float32), jnp.array(WIDTHS), keys)
    apply = jax.vmap(jax.vmap(jax.vmap(lambda p: network.apply(p, X)[:, 0])))
    return Trial(activation, network, params, np.all((np.asarray(jax.jit(apply)(params)) > 0) == (Y == 1), axis=-1))
