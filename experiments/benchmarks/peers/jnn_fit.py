"""jnn, as its README has it; alone for networks that it could train at once, and plain without validation."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jnn
from experiments.benchmarks.peers.jaxes import device as device
from experiments.benchmarks.workloads import ALONE, Data, Setting, Train, Trained, Unavailable, Workload
from jnn import likelihoods, stopping

LIKELIHOODS = {
    "categorical": likelihoods.Categorical(),
    "bernoulli": likelihoods.Bernoulli(),
    "squared": likelihoods.Gaussian(),
}


PACKAGES = ("jnn", "optax", "jax", "jaxlib")


def _network(workload: Workload, data: Data) -> jnn.networks.Network:
    if workload.graph:
        return jnn.dag(workload.sizes[0], workload.sizes[-1], data.edges, workload.activation)
    return jnn.mlp(workload.sizes, workload.activation, shortcuts=workload.shortcuts)


def _lecun_normal(key: jax.Array, shape: tuple[int, ...], fan_in: Any, gain: Any, dtype: Any) -> jax.Array:
    """Gain 1 for rectifiers, too, as the peers draw by default: He's larger weights end at another error."""
    return jnn.networks.fan_in_normal(key, shape, fan_in, 1.0, dtype)


def _keywords(workload: Workload, data: Data, network: jnn.networks.Network) -> dict[str, Any]:
    rate = workload.learning_rate
    optimizers = {"adam": lambda: jnn.adam(rate), "rprop": lambda: jnn.rprop(rate, "iRprop-"), "lbfgs": optax.lbfgs}
    keywords = {
        "optimizer": optimizers[workload.optimizer](),
        "epochs": workload.epochs,
        "batch_size": workload.batch_size,
    }
    if workload.weight_decay:
        shapes = jax.eval_shape(network.init, jax.random.key(0))
        keywords["weight_decay"] = workload.weight_decay
        keywords["mask"] = jax.tree.map(lambda leaf: leaf.ndim > 1, shapes)
    if workload.activation == "relu":
        keywords["initializer"] = _lecun_normal
    if workload.extras:
        keywords["validation"] = (data.x_test, data.y_test)
        keywords["stopping"] = stopping.Patience(workload.epochs)
    return keywords


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """One network, or with `jnn.ensembles` many."""
    network, likelihood = _network(workload, data), LIKELIHOODS[workload.loss]
    keywords = _keywords(workload, data, network)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)  # on the device, as the others' are
    if workload.members > 1:
        try:
            from jnn import ensembles
        except ImportError:
            raise Unavailable("not available: there is no jnn.ensembles") from None
        apply = jax.vmap(network.apply, (0, None))

        def fit(key: jax.Array) -> Any:
            members = workload.members
            return ensembles.fit(network, likelihood, x, y, key=key, members=members, **keywords).result

    else:
        apply = network.apply

        def fit(key: jax.Array) -> Any:
            return jnn.fit(network, likelihood, x, y, key=key, **keywords)

    def train(seed: int) -> Trained:
        params = jax.block_until_ready(fit(jax.random.key(seed)).params)
        squares = [float(np.square(leaf).sum()) for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
        return Trained(lambda x: np.asarray(apply(params, x)), sum(squares) if workload.weight_decay else 0.0)

    return train


def prepare_alone(workload: Workload, data: Data, setting: Setting) -> Train:
    """A few networks, one after another."""
    network, likelihood = _network(workload, data), LIKELIHOODS[workload.loss]
    keywords = _keywords(workload, data, network)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)  # on the device, as the others' are

    def train(seed: int) -> Trained:
        keys = jax.random.split(jax.random.key(seed), min(ALONE, workload.members))
        found = [jnn.fit(network, likelihood, x, y, key=key, **keywords).params for key in keys]
        jax.block_until_ready(found)
        return Trained(lambda x: np.stack([network.apply(params, x) for params in found]))

    return train


def prepare_plain(workload: Workload, data: Data, setting: Setting) -> Train:
    """Without validation and early stopping."""
    return prepare(replace(workload, extras=False), data, setting)
