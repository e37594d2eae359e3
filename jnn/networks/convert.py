"""Exact converters: an MLP as an MLP with shortcuts, and either as a general network, with the same outputs."""

import jax.numpy as jnp
import numpy as np

from jnn.networks.base import Params
from jnn.networks.connections import dag
from jnn.networks.graph import Dag, Evaluation
from jnn.networks.layered import Layer, Layered


def with_shortcuts(network: Layered, params: Params) -> tuple[Layered, Params]:
    """The network with every shortcut added, the new weights zero: the same function, with more to learn.

    Args:
        network: from `mlp`.
        params: its parameters.

    Returns:
        The network with shortcuts and its parameters.
    """
    wide = Layered(
        network.inputs,
        tuple(Layer(layer.size, layer.activation, tuple(range(n))) for n, layer in enumerate(network.layers, start=1)),
    )
    filled = []
    for old, new, p in zip(network.layers, wide.layers, params, strict=True):
        present = dict(network.blocks(old))
        filled.append(
            {
                "W": jnp.concatenate(
                    [
                        p["W"][present[s]] if s in present else jnp.zeros((wide.sizes[s], new.size), p["W"].dtype)
                        for s, _ in wide.blocks(new)
                    ]
                ),
                "b": p["b"],
            }
        )
    return wide, tuple(filled)


def as_dag(network: Layered, params: Params, *, evaluation: Evaluation | None = None) -> tuple[Dag, Params]:
    """The network as a general one: the neurons numbered layer after layer, each weight on the edge it belongs to.

    Args:
        network: from `mlp`, with or without shortcuts.
        params: its parameters.
        evaluation: as for `dag`.

    Returns:
        The network and its parameters: the same values, and the same outputs up to the order of summation.
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
