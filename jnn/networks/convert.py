"""Exact converters: an MLP as an MLP with shortcuts, and either as a general network, with the same outputs."""

import jax.numpy as jnp
import numpy as np

from jnn.networks.base import Params
from jnn.networks.connections import dag
from jnn.networks.evaluation import Evaluation
from jnn.networks.graph import Dag
from jnn.networks.layered import Layer, Layered


def with_shortcuts(network: Layered, params: Params) -> tuple[Layered, Params]:
    """The network with every shortcut added, the new weights zero: the same function, with more to learn."""
    layers = [Layer(old.size, old.activation, tuple(range(n))) for n, old in enumerate(network.layers, start=1)]
    filled = []
    for layer, p in zip(network.layers, params, strict=True):
        present = dict(network.blocks(layer))
        blocks = [
            p["W"][present[s]] if s in present else jnp.zeros((network.sizes[s], layer.size), p["W"].dtype)
            for s in range(len(filled) + 1)
        ]
        filled.append({"W": jnp.concatenate(blocks), "b": p["b"]})
    return Layered(network.inputs, tuple(layers)), tuple(filled)


def as_dag(network: Layered, params: Params, *, evaluation: Evaluation | None = None) -> tuple[Dag, Params]:
    """The network as a general one: the neurons numbered layer after layer, each weight on the edge it belongs to.

    The values of the parameters stay, and the outputs up to the order of summation; `evaluation` as for `dag`.
    """
    first = np.cumsum([1, *network.sizes])  # number of the first neuron of each layer, the inputs being layer 0
    pairs, weights = [], []
    for number, (layer, p) in enumerate(zip(network.layers, params, strict=True), start=1):
        readers = first[number] + np.arange(layer.size)
        read = np.concatenate([first[s] + np.arange(network.sizes[s]) for s in layer.sources])
        # By reader, then by what it reads: the order of the edges in a Dag.
        pairs.append(np.stack([np.tile(read, layer.size), np.repeat(readers, len(read))], axis=1))
        weights.append(p["W"].T.reshape(-1))
    hidden = [layer.activation for layer in network.layers[:-1] for _ in range(layer.size)]
    general = dag(network.inputs, network.outputs, np.concatenate(pairs), hidden, evaluation=evaluation)
    return general, {"w": jnp.concatenate(weights), "b": jnp.concatenate([p["b"] for p in params])}
