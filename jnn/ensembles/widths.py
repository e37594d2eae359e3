"""Networks of different widths as one: padded with neurons that never matter.

A neuron that a member lacks gets no weights, in or out, and keeps none (gradients are masked): nobody reads its h(0).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jnn.networks import Layered, Network, Params


def widest(networks: Sequence[Network]) -> Network:
    """The network with every layer as wide as the widest; ValueError if more than hidden layers' sizes differ."""
    first = networks[0]
    if all(network == first for network in networks):
        return first
    for network in networks:
        if not (isinstance(network, Layered) and isinstance(first, Layered) and _kind(network) == _kind(first)):
            raise ValueError(
                "expected networks that differ in the sizes of their hidden layers only (layers, activations, "
                f"shortcuts, inputs and outputs the same); got\n{first}\nand\n{network}"
            )
    layered = [network for network in networks if isinstance(network, Layered)]
    each = zip(*(network.layers for network in layered), strict=True)
    layers = tuple(replace(same[0], size=max(layer.size for layer in same)) for same in each)
    return replace(layered[0], layers=layers)


def _kind(network: Layered) -> Any:
    """All but the sizes of hidden layers."""
    return network.inputs, network.outputs, [(layer.activation, layer.sources) for layer in network.layers]


def places(network: Network, wide: Network) -> Params:
    """Where each array of the network's parameters stands in that of the wider one: its indices along each axis."""
    assert isinstance(network, Layered)
    assert isinstance(wide, Layered)
    found = []
    for layer, wide_layer in zip(network.layers, wide.layers, strict=True):
        blocks = zip(network.blocks(layer), wide.blocks(wide_layer), strict=True)
        rows = [large.start + np.arange(small.stop - small.start) for (_, small), (_, large) in blocks]
        columns = np.arange(layer.size)
        found.append({"W": (np.concatenate(rows), columns), "b": (columns,)})
    return tuple(found)
