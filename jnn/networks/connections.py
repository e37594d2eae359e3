"""Building a general network: from a connection matrix, an edge list or a networkx graph, or from one in layers."""

import graphlib
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jnn.checks import count as at_least
from jnn.networks.base import Hidden, Params, leading_axes, one_each
from jnn.networks.graph import Dag, Evaluation, choose_evaluation
from jnn.networks.layered import Layered


class UselessNeuronWarning(UserWarning):
    """A neuron that cannot matter: it reads nothing, or nothing that leads to an output reads it."""


def dag(
    inputs: int,
    outputs: int,
    connections: Any,
    hidden: Hidden = "tanh",
    *,
    neurons: int | None = None,
    evaluation: Evaluation | None = None,
) -> Dag:
    """The lecture's general network: neuron i reads any neurons j < i (slides "Notation I, II").

        a_i = Σ_{j<i} w_ij z_j + w_i0,   z_i = h(a_i) for hidden neurons

    Neurons are numbered 0 (the bias unit), 1..d (inputs), d+1..d+M (hidden) and d+M+1..d+M+K (outputs). If no
    connection leaves neuron 0, every neuron has a bias; otherwise just those that neuron 0 is connected to.
    An output cannot read another one: its z = σ(a) belongs to the likelihood, outside the network.

    Args:
        inputs: d.
        outputs: K.
        connections: a boolean matrix of shape `(1 + d + M + K,) * 2` with `[i, j]` true where neuron i reads neuron j,
            the pattern of the lecture's w_ij; or a list of edges `(j, i)`, from neuron j to neuron i; or a networkx
            `DiGraph` whose nodes are neuron numbers and whose edges go from j to i.
        hidden: one activation for all hidden neurons, or a list with one for each.
        neurons: 1 + d + M + K, if the highest number has no edge; by default what the connections show.
        evaluation: "blocks" or "sweep" (see `jnn.networks.graph`); by default the one that suits the connections.

    Raises ValueError for cycles, edges i ≤ j, edges into inputs or the bias unit, edges between outputs, repeated
    edges, numbers out of range, or a list of activations of the wrong length. Warns (`UselessNeuronWarning`) of hidden
    neurons that read nothing or that reach no output, and of outputs that read nothing.

    >>> import jnn
    >>> xor = jnn.dag(2, 1, [(1, 3), (2, 3), (1, 4), (2, 4), (3, 4)], hidden="step")
    >>> xor.weight_count
    7
    """
    if evaluation not in ("blocks", "sweep", None):
        raise ValueError(f'expected evaluation "blocks", "sweep" or None, got {evaluation!r}')
    d, k = at_least("inputs", inputs), at_least("outputs", outputs)
    edges, shown = _edges(connections, 1 + d + k)
    count = shown if neurons is None else at_least("neurons", neurons)
    if count < shown:
        raise ValueError(f"expected at least {shown} neurons, as the connections show; got neurons={neurons}")
    m = count - 1 - d - k
    if m < 0:
        raise ValueError(
            f"expected at least {1 + d + k} neurons: the bias unit, {d} inputs and {k} outputs; got {count}"
        )
    _check(edges, d, m, k)
    edges = edges[np.lexsort((edges[:, 0], edges[:, 1]))]
    from_bias = edges[:, 0] == 0
    biased = np.isin(np.arange(d + 1, count), edges[from_bias, 1]) | ~from_bias.any()
    each = one_each(hidden, m, "hidden neuron")
    network = Dag(d, m, k, edges[~from_bias], each, biased, evaluation or "sweep")
    _warn_of_useless(network)
    return network if evaluation else replace(network, evaluation=choose_evaluation(network))


def as_dag(network: Layered, params: Params, *, evaluation: Evaluation | None = None) -> tuple[Dag, Params]:
    """The network as a general one: the neurons numbered layer after layer, each weight on the edge it belongs to.

    The values of the parameters stay, and the outputs up to the order of summation; `evaluation` as for `dag`.
    """
    leading_axes(network, params, lead=())
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


def _edges(connections: Any, least: int) -> tuple[np.ndarray, int]:
    """The edges as an `(E, 2)` array of pairs (j, i), and the number of neurons that they show."""
    if hasattr(connections, "nodes") and hasattr(connections, "edges"):
        if not connections.is_directed():
            raise ValueError("expected a directed graph (networkx.DiGraph); edges of an undirected one have no order")
        for node in connections.nodes:
            if not isinstance(node, (int, np.integer)) or isinstance(node, bool):
                raise ValueError(
                    f"expected the graph's nodes to be neuron numbers; got {node!r}. "
                    "Number them in topological order first (networkx.relabel_nodes)."
                )
        return _pairs(list(connections.edges)), max([least, *(int(node) + 1 for node in connections.nodes)])
    if not isinstance(connections, Iterable) or hasattr(connections, "shape"):
        connections = np.asarray(connections)
        if connections.dtype == bool:
            if connections.ndim != 2 or connections.shape[0] != connections.shape[1]:
                raise ValueError(
                    "expected a square connection matrix with a row and a column for each neuron, the bias unit "
                    f"included; got shape {connections.shape}"
                )
            return np.argwhere(connections)[:, ::-1].astype(np.int64), len(connections)
    edges = _pairs(connections)
    return edges, max(least, int(edges.max(initial=0)) + 1)


def _pairs(connections: Any) -> np.ndarray:
    if isinstance(connections, list) and connections and np.asarray(connections[0]).dtype == bool:
        raise ValueError("expected a boolean matrix as a NumPy array; wrap the nested list in numpy.array")
    pairs = connections if hasattr(connections, "shape") else list(connections)
    if not (isinstance(pairs, np.ndarray) and pairs.ndim == 0) and len(pairs) == 0:
        return np.empty((0, 2), np.int64)
    try:
        edges = np.asarray(pairs)
    except ValueError:
        edges = np.empty(0, object)
    if edges.shape[1:] != (2,) or edges.dtype.kind not in "iu":
        raise ValueError(
            "expected connections as a boolean matrix, a list of edges (j, i) of two integers, or a networkx DiGraph; "
            f"got an array of shape {edges.shape} and dtype {edges.dtype}"
        )
    return edges.astype(np.int64)


def _check(edges: np.ndarray, d: int, m: int, k: int) -> None:
    """Name the first mistake."""

    def refuse(wrong: Any, message: str) -> None:
        if wrong.any():
            j, i = edges[np.flatnonzero(wrong)[0]]
            more = f" (and {wrong.sum() - 1} more)" if wrong.sum() > 1 else ""
            raise ValueError(message.format(f"{j} → {i}{more}"))

    source, target = edges.T
    count = 1 + d + m + k
    refuse((edges < 0).any(1), f"expected neuron numbers from 0 to {count - 1}, got the edge {{}}")
    if (target <= source).any() and (loop := _cycle(edges)):
        raise ValueError(f"the connections have a cycle, {' → '.join(map(str, loop))}; a feed-forward network has none")
    refuse(
        target <= source,
        "neuron i reads only neurons j < i, but there is the edge {}. "
        "There is no cycle: number the neurons in topological order.",
    )
    refuse(target <= d, "inputs and the bias unit read nothing, but there is the edge {}")
    refuse(
        source > d + m,
        "outputs cannot be read: their z = σ(a) belongs to the likelihood; got the edge {}. "
        "Make the neuron that is read a hidden one.",
    )
    again = np.ones(len(edges), bool)
    again[np.unique(source * count + target, return_index=True)[1]] = False
    refuse(again, "expected each edge once, got {} again")


def _cycle(edges: np.ndarray) -> list[int]:
    """Some cycle as a list of neurons, the first one repeated at its end, or nothing."""
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for j, i in edges.tolist():
        sorter.add(i, j)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        loop = error.args[1][:-1]
        start = loop.index(min(loop))
        return [*loop[start:], *loop[: start + 1]]
    return []


def _warn_of_useless(network: Dag) -> None:
    first_output = 1 + network.inputs + network.hidden
    numbers = np.arange(network.inputs + 1, first_output + network.outputs)
    reaches = np.arange(first_output + network.outputs) >= first_output
    for j, i in network.edges[::-1]:  # edges end in falling order of i: reaches[i] is final
        reaches[j] |= reaches[i]
    idle, output = network.fan_ins == 0, numbers >= first_output
    for neurons, what in (
        (numbers[idle & ~output], "read nothing: each is a constant"),
        (numbers[~reaches[numbers]], "reach no output: their weights are never trained"),
        (numbers[idle & output], "are outputs that read nothing: each is a constant"),
    ):
        if len(neurons):
            named = ", ".join(map(str, neurons[:5])) + (", ..." if len(neurons) > 5 else "")
            warnings.warn(f"neurons {named} {what}", UselessNeuronWarning, stacklevel=3)
