"""Errors of gradients, leaf by leaf, and the hand-written gradients of every kind of network with every likelihood."""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jnn
from jnn import backprop, objectives
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Likelihood, Poisson
from jnn.networks import Network

INPUTS, OUTPUTS = 3, 4
READS = {4: (1, 2, 3), 5: (2, 3), 6: (4, 1), 7: (6, 4), 8: (5, 6), 9: (6, 3), 10: (5,)}
"""What each neuron of the general network reads."""
NETWORKS: dict[str, Network] = {
    "One hidden layer": jnn.mlp([INPUTS, 5, OUTPUTS]),
    "Shortcuts": jnn.mlp([INPUTS, 3, 3, OUTPUTS], ["logistic", "tanh"], shortcuts=True),
    "General network": jnn.dag(
        INPUTS,
        OUTPUTS,
        [(j, i) for i, sources in READS.items() for j in sources],
        ["tanh", "softsign", "logistic"],
    ),
}
LIKELIHOODS: dict[str, Likelihood] = {
    "Gaussian": Gaussian(),
    "learned variance": HeteroscedasticGaussian(),
    "Bernoulli": Bernoulli(),
    "Categorical": Categorical(),
    "Poisson": Poisson(),
}
EXAMPLES = 16


class Leaf(NamedTuple):
    """Errors of one weight matrix's or bias vector's gradient, the largest over the networks.

    Attributes:
        name: of the parameters.
        ulps: of the float32 gradient against the float64 one, by "hand-written" and "autodiff": the largest error in
            any entry, in units of the float32 spacing at the largest entry.
        relative: the largest difference of the two in float64, over the largest entry.
    """

    name: str
    ulps: dict[str, float]
    relative: float

    @property
    def excess(self) -> float:
        """By how much the hand-written gradient's error exceeds twice that of autodiff plus 4 ulps, if positive."""
        return self.ulps["hand-written"] - (2 * self.ulps["autodiff"] + 4)


def compare_leaf(name: str, narrow: dict[str, np.ndarray], wide: dict[str, np.ndarray]) -> Leaf:
    """Errors of one leaf; arrays have the networks on the leading axis.

    The oracle of the float32 gradients is the float64 one of autodiff, so that a wrong hand-written formula shows.
    """
    oracle = wide["autodiff"].reshape(len(wide["autodiff"]), -1)
    largest = np.abs(oracle).max(axis=1)
    spacing = np.spacing(largest.astype(np.float32)).astype(np.float64)
    ulps = {
        how: float(np.max(np.abs(leaf.reshape(oracle.shape).astype(np.float64) - oracle).max(axis=1) / spacing))
        for how, leaf in narrow.items()
    }
    apart = np.abs(wide["hand-written"].reshape(oracle.shape) - oracle).max(axis=1)
    return Leaf(name, ulps, float(np.max(apart / largest)))


def compare_leaves(names: Iterable[str], narrow: dict[str, Any], wide: dict[str, Any]) -> list[Leaf]:
    """`compare_leaf` for every leaf of gradients that are trees."""
    single, double = (
        [dict(zip(found, leaves, strict=True)) for leaves in zip(*map(jax.tree.leaves, found.values()), strict=True)]
        for found in (narrow, wide)
    )
    return [compare_leaf(*leaf) for leaf in zip(names, single, double, strict=False)]


def targets(networks: int, seed: int) -> dict[str, np.ndarray]:
    """Random targets of each likelihood's kind, as float32 or labels."""
    rng = np.random.default_rng(seed)
    shape = (networks, EXAMPLES, OUTPUTS)
    return {
        "Gaussian": rng.normal(size=shape).astype(np.float32),
        "learned variance": rng.normal(size=(*shape[:2], shape[2] // 2)).astype(np.float32),
        "Bernoulli": rng.integers(0, 2, shape).astype(np.float32),
        "Categorical": rng.integers(0, shape[2], shape[:2]),
        "Poisson": rng.poisson(1.0, shape).astype(np.float32),
    }


def gradients(network: Network, params: Any, x: jax.Array, y: dict[str, jax.Array]) -> dict[str, dict[str, Any]]:
    """For each likelihood the gradient of the mean risk, by both methods."""
    found = {}
    for title, likelihood in LIKELIHOODS.items():
        by_hand = backprop.value_and_grad(network, likelihood)
        risk = objectives.objective(network, likelihood)
        found[title] = {
            "hand-written": by_hand(params, x, y[title])[1],
            "autodiff": jax.grad(risk)(params, x, y[title]),
        }
    return found


def compare(network: Network, networks: int, seed: int) -> list[Leaf]:
    """For one kind of network and each likelihood, the leaf that is nearest to the limit or furthest beyond it."""
    keys = jax.random.split(jax.random.key(seed), networks)
    params = jax.jit(jax.vmap(lambda key: network.init(key, bias=0.1, dtype=jnp.float32)))(keys)
    x = np.random.default_rng(seed).normal(size=(networks, EXAMPLES, network.inputs)).astype(np.float32)
    drawn = jax.tree.map(np.asarray, (params, x, targets(networks, seed)))
    evaluate = jax.jit(jax.vmap(lambda params, x, y: gradients(network, params, x, y)))
    with jax.enable_x64(True):
        narrow = jax.tree.map(np.asarray, evaluate(*drawn))
        wide = jax.tree.map(np.asarray, evaluate(*jax.tree.map(_widen, drawn)))
    found = []
    for title in LIKELIHOODS:
        leaves = compare_leaves(itertools.repeat(title), narrow[title], wide[title])
        found.append(max(leaves, key=lambda leaf: (leaf.relative > 1e-12, leaf.excess)))
    return found


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array
