"""connex: a network from a graph, trained as its README advises, by Equinox and optax."""

from typing import Any

import connex as cnx  # pyright: ignore[reportMissingImports]
import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import networkx as nx

from experiments.benchmarks.peers.equinox_optax import loop
from experiments.benchmarks.peers.jaxes import ACTIVATIONS, device as device
from experiments.benchmarks.workloads import Data, Setting, Train, Workload

PACKAGES = ("connex", "equinox", "optax", "jax", "jaxlib")


def prepare(workload: Workload, data: Data, setting: Setting) -> Train:
    """The same graph, without neuron 0: every neuron has a bias of its own."""
    inputs, hidden, outputs = workload.sizes
    first_output = 1 + inputs + hidden
    neurons = range(1, first_output + outputs)
    graph = nx.DiGraph()
    graph.add_nodes_from(neurons)
    graph.add_edges_from((int(j), int(i)) for j, i in data.edges)
    spec = cnx.GraphSpec(graph, range(1, inputs + 1), range(first_output, first_output + outputs), topo_sort=neurons)

    ops = cnx.ops.default_ops(activation=ACTIVATIONS[workload.activation])
    first = cnx.NeuralDAG(spec, ops=ops, key=jax.random.key(0))

    def build(key: jax.Array) -> Any:
        # Compiling the topology again for each seed would only cost connex time: seeds differ by their shuffling.
        return jax.tree.map(lambda leaf: leaf.copy() if eqx.is_array(leaf) else leaf, first)

    return loop(workload, data, build, lambda model, x: model.batched(x))
