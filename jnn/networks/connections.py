"""Building a general network from a connection matrix, an edge list or a networkx graph, with every mistake named."""

import operator
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jnn.networks.base import Hidden, one_each
from jnn.networks.graph import Dag, Evaluation, choose_evaluation


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
        connections: one of
            - a boolean matrix of shape `(1 + d + M + K,) * 2` with `[i, j]` true where neuron i reads neuron j, the
              pattern of the lecture's w_ij;
            - a list of edges `(j, i)`, from neuron j to neuron i;
            - a networkx `DiGraph` whose nodes are neuron numbers and whose edges go from j to i.
        hidden: one activation for all hidden neurons, or a list with one for each.
        neurons: 1 + d + M + K, if the highest number has no edge; by default what the connections show.
        evaluation: "blocks" or "sweep" (see `jnn.networks.graph`); by default the one that suits the connections.

    Raises:
        ValueError: for cycles, edges i ≤ j, edges into inputs or the bias unit, edges between outputs, repeated edges,
            numbers out of range, or a list of activations of the wrong length.

    Warns:
        UselessNeuronWarning: for hidden neurons that read nothing or that reach no output, and outputs that read
            nothing.

    >>> import jnn
    >>> xor = jnn.dag(2, 1, [(1, 3), (2, 3), (1, 4), (2, 4), (3, 4)], hidden="step")
    >>> xor.weight_count
    7
    """
    if evaluation not in ("blocks", "sweep", None):
        raise ValueError(f'expected evaluation "blocks", "sweep" or None, got {evaluation!r}')
    d, k = _at_least_one(inputs, "inputs"), _at_least_one(outputs, "outputs")
    edges, shown = _edges(connections, 1 + d + k)
    count = shown if neurons is None else _at_least_one(neurons, "neurons")
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
    biased = np.ones(m + k, bool)
    if from_bias.any():
        biased = np.isin(np.arange(d + 1, count), edges[from_bias, 1])
    edges = edges[~from_bias]
    biased.setflags(write=False)
    edges.setflags(write=False)
    network = Dag(d, m, k, edges, one_each(hidden, m, "hidden neuron"), biased, evaluation or "sweep")
    _warn_of_useless(network)
    return network if evaluation else replace(network, evaluation=choose_evaluation(network))


def _at_least_one(count: Any, name: str) -> int:
    try:
        number = operator.index(count)
    except TypeError:
        raise ValueError(f"expected {name} as an integer, got {count!r}") from None
    if number < 1:
        raise ValueError(f"expected at least 1 of {name}, got {number}")
    return number


def _edges(connections: Any, least: int) -> tuple[np.ndarray, int]:
    """The edges as an `(E, 2)` array of pairs (j, i), and the number of neurons."""
    if hasattr(connections, "nodes") and hasattr(connections, "edges"):
        if not connections.is_directed():
            raise ValueError("expected a directed graph (networkx.DiGraph); edges of an undirected one have no order")
        pairs, nodes = list(connections.edges), list(connections.nodes)
        wrong = [n for n in nodes if not isinstance(n, (int, np.integer)) or isinstance(n, bool)]
        if wrong:
            raise ValueError(
                f"expected the graph's nodes to be neuron numbers; got {wrong[0]!r}. "
                "Number them in topological order first (networkx.relabel_nodes)."
            )
        edges = _pairs(pairs)
        return edges, max([least, *(int(n) + 1 for n in nodes)])
    array = np.asarray(connections) if not isinstance(connections, Iterable) or hasattr(connections, "shape") else None
    if array is not None and array.dtype == bool:
        if array.ndim != 2 or array.shape[0] != array.shape[1]:
            raise ValueError(
                "expected a square connection matrix with a row and a column for each neuron, the bias unit included; "
                f"got shape {array.shape}"
            )
        reader, read = np.nonzero(array)
        return np.stack([read, reader], axis=1).astype(np.int64), len(array)
    edges = _pairs(connections if array is None else array)
    return edges, max(least, int(edges.max(initial=0)) + 1)


def _pairs(connections: Any) -> np.ndarray:
    if isinstance(connections, list) and connections and np.asarray(connections[0]).dtype == bool:
        raise ValueError("expected a boolean matrix as a NumPy array; wrap the nested list in numpy.array")
    pairs = connections if hasattr(connections, "shape") else list(connections)
    try:
        edges = np.asarray(pairs)
    except ValueError:
        edges = np.empty(0, object)
    if len(pairs) == 0:
        return np.empty((0, 2), np.int64)
    if edges.shape[1:] != (2,) or not np.issubdtype(edges.dtype, np.integer):
        raise ValueError(
            "expected connections as a boolean matrix, a list of edges (j, i) of two integers, or a networkx DiGraph; "
            f"got an array of shape {edges.shape} and dtype {edges.dtype}"
        )
    return edges.astype(np.int64)


def _check(edges: np.ndarray, d: int, m: int, k: int) -> None:
    def first(wrong: npt.NDArray[np.bool] | np.bool) -> str:
        j, i = edges[np.flatnonzero(wrong)[0]]
        more = int(wrong.sum()) - 1
        return f"{j} → {i}" + (f" (and {more} more)" if more else "")

    source, target = edges[:, 0], edges[:, 1]
    count = 1 + d + m + k
    if (wrong := (edges < 0).any(1) | (edges >= count).any(1)).any():
        raise ValueError(f"expected neuron numbers from 0 to {count - 1}, got the edge {first(wrong)}")
    if (wrong := target <= source).any():
        loop = _cycle(edges, count)
        if loop:
            raise ValueError(
                f"the connections have a cycle, {' → '.join(map(str, loop))}; a feed-forward network has none"
            )
        raise ValueError(
            f"neuron i reads only neurons j < i, but there is the edge {first(wrong)}. "
            "There is no cycle: number the neurons in topological order."
        )
    if (wrong := target <= d).any():
        raise ValueError(f"inputs and the bias unit read nothing, but there is the edge {first(wrong)}")
    if (wrong := source > d + m).any():
        raise ValueError(
            f"outputs cannot be read: their z = σ(a) belongs to the likelihood; got the edge {first(wrong)}. "
            "Make the neuron that is read a hidden one."
        )
    _, counts = np.unique(edges, axis=0, return_counts=True)
    if (counts > 1).any():
        code = source * count + target
        seen = np.zeros(len(edges), bool)
        seen[np.unique(code, return_index=True)[1]] = True
        raise ValueError(f"expected each edge once, got {first(~seen)} again")


def _cycle(edges: np.ndarray, count: int) -> list[int]:
    """Some cycle as a list of neurons, the first one repeated at its end, or nothing."""
    readers: dict[int, list[int]] = {}
    missing = np.bincount(edges[:, 1], minlength=count)
    for j, i in edges.tolist():
        readers.setdefault(j, []).append(i)
    ready: list[int] = np.flatnonzero(missing == 0).tolist()
    while ready:
        for i in readers.get(ready.pop(), []):
            missing[i] -= 1
            if missing[i] == 0:
                ready.append(i)
    # Every neuron left has one of those left before it: walking backwards must come round.
    left = {int(n) for n in np.flatnonzero(missing > 0)}
    if not left:
        return []
    before = {i: j for j, i in edges.tolist() if i in left and j in left}
    path = [min(left)]
    while before[path[-1]] not in path:
        path.append(before[path[-1]])
    loop = path[path.index(before[path[-1]]) :]
    return [loop[0], *reversed(loop)]


def _warn_of_useless(network: Dag) -> None:
    d, m = network.inputs, network.hidden
    target = network.edges[:, 1]
    reaches = np.zeros(1 + d + m + network.outputs, bool)
    reaches[d + m + 1 :] = True
    for j, i in network.edges[::-1]:  # edges end in falling order of i: reaches[i] is final
        reaches[j] |= reaches[i]
    numbers = np.arange(d + 1, d + m + 1)
    found = {
        "read nothing: each is a constant": numbers[~np.isin(numbers, target)],
        "reach no output: their weights are never trained": numbers[~reaches[numbers]],
        "are outputs that read nothing: each is a constant": d
        + m
        + 1
        + np.flatnonzero(~np.isin(np.arange(d + m + 1, d + m + 1 + network.outputs), target)),
    }
    for what, neurons in found.items():
        if len(neurons):
            named = ", ".join(map(str, neurons[:5])) + (", ..." if len(neurons) > 5 else "")
            warnings.warn(f"neurons {named} {what}", UselessNeuronWarning, stacklevel=3)
