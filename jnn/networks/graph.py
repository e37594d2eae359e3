"""The lecture's general network: neuron i may read any neuron j < i.

Neurons are numbered as on slides "Notation I, II": 0 is the bias unit (z_0 = 1), 1..d the inputs, d+1..d+M the
hidden neurons, d+M+1..d+M+K the outputs. The parameters are one weight for each edge and one bias for each neuron. Of
two ways to evaluate the network, equal up to summation order, each has its forward and its backward pass:

- **blocks**: neurons of equal depth form a layer, and the network runs as a `Layered` one, a few dense matrix
  products, with the weights of absent edges zero. Right for few, well filled levels.
- **sweep**: one `scan` over the levels, each step gathering what its neurons read (`jnn.networks.sweep`). Right for
  deep networks (a cascade of 300 neurons is 300 levels) and for sparse ones (10,000 neurons, 100,000 edges).
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jnn import activations
from jnn.activations import Activation
from jnn.networks import sweep
from jnn.networks.base import Network, Params, Trace
from jnn.networks.initialization import Initializer, nguyen_widrow
from jnn.networks.layered import Layer, Layered
from jnn.networks.sweep import Sweep

Evaluation = Literal["blocks", "sweep"]

MOST_BLOCK_LAYERS = 24
"""More levels than this are not unrolled: every level adds to the compile time."""
LEAST_BLOCK_DENSITY = 0.05
"""Below this share of present edges, gathering what is there beats multiplying by zeros."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """A general network's passes, as layers."""

    layered: Layered
    tables: tuple[np.ndarray, ...]  # for each place of each layer's `W`, the edge; the number of edges where none is
    groups: tuple[np.ndarray, ...]  # each layer's neurons, numbered from d+1 on as 0, 1, ...
    hidden: int
    edges: int

    def matrices(self, w: Array, b: Array) -> Any:
        """The parameters as the layered network takes them."""
        weights = jnp.append(w, jnp.zeros((), w.dtype))
        places = zip(self.tables, self.groups, strict=True)
        return tuple({"W": weights[table], "b": b[neurons]} for table, neurons in places)

    def forward(self, w: Array, b: Array, x: Array) -> tuple[Array, Trace]:
        """a_i = Σ_j w_ij z_j + w_i0 of the outputs, and what is kept."""
        return self.layered.forward(self.matrices(w, b), x)

    def backward(self, w: Array, b: Array, kept: Trace, delta: Array) -> tuple[Any, Array]:
        """δ_j = h'(a_j) Σ_k w_kj δ_k of all neurons, and ∂E/∂x."""
        return self.layered.backward(self.matrices(w, b), kept, delta)

    def gradients(self, kept: Trace, deltas: Any) -> tuple[Array, Array]:
        """∂E/∂w_ij = Σ_n δ_i z_j for each edge, ∂E/∂w_i0 = Σ_n δ_i for each neuron."""
        return self._by_edge(self.layered.gradients(kept, deltas))

    def moved_forward(self, w: Array, b: Array, v: Array, v_b: Array, kept: Trace) -> tuple[Array, Trace]:
        """R{a_i} of the outputs, and how what was kept moves."""
        return self.layered.moved_forward(self.matrices(w, b), self.matrices(v, v_b), kept)

    def moved_backward(
        self, w: Array, v: Array, kept: Trace, moved: Trace, delta: Array, moved_delta: Array
    ) -> tuple[Any, Any]:
        """δ and R{δ} of all neurons."""
        none = jnp.zeros(sum(map(len, self.groups)), w.dtype)  # the biases have no part in it
        matrices = self.matrices(w, none), self.matrices(v, none)
        return self.layered.moved_backward(*matrices, kept, moved, delta, moved_delta)

    def moved_gradients(self, kept: Trace, moved: Trace, deltas: Any, moved_deltas: Any) -> tuple[Array, Array]:
        """R{∂E/∂w_ij} for each edge, R{∂E/∂w_i0} for each neuron."""
        return self._by_edge(self.layered.moved_gradients(kept, moved, deltas, moved_deltas))

    def _by_edge(self, dense: Any) -> tuple[Array, Array]:
        """From matrices for each layer to one number for each edge and each neuron."""
        flat = jnp.concatenate([layer["W"].reshape(-1) for layer in dense])
        return flat[self._places], self.by_neuron([layer["b"][:, None] for layer in dense])[:, 0]

    def traced(self, kept: Trace) -> tuple[Array, Array]:
        """`a` of the neurons from d+1 on, and `z` of the inputs and the hidden neurons, examples as columns."""
        z = self.by_neuron([*kept.z[1:], kept.a[-1]])[: self.hidden]
        return self.by_neuron(kept.a), jnp.concatenate([kept.z[0], z])

    def by_neuron(self, layers: Sequence[Float[Array, "_ n"]]) -> Float[Array, "neurons n"]:
        """One array in the order of the neurons from d+1 on, from one array for each layer."""
        return jnp.concatenate(layers)[np.argsort(np.concatenate(self.groups))]

    @property
    def _places(self) -> np.ndarray:
        """Where each edge's weight stands in all the matrices, one after another."""
        # Every edge is there once, and the places without one sort to the end.
        return np.argsort(np.concatenate([table.reshape(-1) for table in self.tables]), kind="stable")[: self.edges]


@dataclass(frozen=True, eq=False)
class Dag(Network):
    """A network of any acyclic connections; build it with `dag`.

    Parameters: `{"w": (number of edges,), "b": (M + K,)}`; `w[e]` is the weight w_ij of `edges[e] = (j, i)`, and
    `b[i - d - 1]` the bias w_i0 of neuron i.
    """

    inputs: int  # d
    hidden: int  # M
    outputs: int  # K
    edges: np.ndarray  # (number of edges, 2) pairs (j, i), "i reads j", ordered by i, then j
    neuron_activations: tuple[Activation, ...]  # of the hidden neurons d+1..d+M
    biased: np.ndarray  # for each neuron from d+1 on, whether it has a bias
    evaluation: Evaluation

    def __post_init__(self) -> None:
        self.edges.setflags(write=False)
        self.biased.setflags(write=False)

    @functools.cached_property
    def _identity(self) -> tuple[Any, ...]:
        digest = hashlib.sha256(self.edges.tobytes() + self.biased.tobytes()).digest()
        return (self.inputs, self.hidden, self.outputs, digest, self.neuron_activations, self.evaluation)

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dag) and self._identity == other._identity

    # --- structure

    @property
    def neurons(self) -> int:
        """M + K."""
        return self.hidden + self.outputs

    @property
    def hidden_activations(self) -> tuple[Activation, ...]:
        """Of each hidden neuron."""
        return self.neuron_activations

    @property
    def weight_count(self) -> int:
        """The number of weights, biases included."""
        return len(self.edges) + int(self.biased.sum())

    @functools.cached_property
    def depths(self) -> np.ndarray:
        """Each neuron's depth, by number: 0 for the bias and the inputs, else 1 + the deepest neuron it reads."""
        count = 1 + self.inputs + self.neurons
        return sweep.longest_paths(count, np.arange(self.inputs + 1, count), *self.edges.T)

    @functools.cached_property
    def fan_ins(self) -> np.ndarray:
        """How many neurons each neuron from d+1 on reads, the bias unit aside."""
        return np.bincount(self._ends[1], minlength=self.neurons)

    @functools.cached_property
    def groups(self) -> tuple[tuple[np.ndarray, Activation], ...]:
        """Hidden neurons of equal depth and activation, in topological order; the outputs last."""
        first = self.inputs + 1
        kinds = list(dict.fromkeys(self.neuron_activations))
        kind = np.array([kinds.index(h) for h in self.neuron_activations], int)
        together = sweep.grouped(np.arange(self.hidden), self.depths[first : first + self.hidden], kind)
        hidden = ((first + neurons, self.neuron_activations[neurons[0]]) for neurons in together)
        return (*hidden, (first + np.arange(self.hidden, self.neurons), activations.identity))

    @functools.cached_property
    def blocks(self) -> Blocks:
        """The same network in layers."""
        columns = [np.arange(1, self.inputs + 1), *(neurons for neurons, _ in self.groups)]
        layer_of = np.zeros(1 + self.inputs + self.neurons, int)
        for number, neurons in enumerate(columns):
            layer_of[neurons] = number
        source, target = self.edges.T
        place = target * len(layer_of) + source  # of each edge in a matrix of all neurons; in ascending order
        layers, tables = [], []
        for number, (neurons, activation) in enumerate(self.groups, start=1):
            sources = tuple(np.unique(layer_of[source[layer_of[target] == number]]).tolist()) or (0,)
            read = np.concatenate([columns[s] for s in sources])
            wanted = neurons * len(layer_of) + read[:, None]
            edge = np.searchsorted(place, wanted)
            there = np.append(place, -1)[edge] == wanted
            layers.append(Layer(len(neurons), activation, sources))
            tables.append(np.where(there, edge, len(place)).astype(np.int32))
        groups = tuple(neurons - self.inputs - 1 for neurons in columns[1:])
        return Blocks(Layered(self.inputs, tuple(layers)), tuple(tables), groups, self.hidden, len(self.edges))

    @property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each edge begins among inputs and hidden neurons, and where it ends among the neurons from d+1 on."""
        return self.edges[:, 0] - 1, self.edges[:, 1] - self.inputs - 1

    # --- evaluation

    def drawn(self, key: Key[Array, ""], weights: Initializer, bias: float, dtype: Any) -> Params:
        """Each neuron's own fan-in and activation count."""
        if weights == nguyen_widrow:
            raise ValueError("nguyen_widrow spreads the neurons of a layer: build the network with mlp, or draw others")
        gains = np.array([h.gain for h in self.neuron_activations] + [activations.identity.gain] * self.outputs)
        reader = self._ends[1]
        return {
            "w": weights(key, (len(self.edges),), self.fan_ins[reader], gains[reader], dtype),
            "b": jnp.where(self.biased, jnp.asarray(bias, dtype), jnp.zeros((), dtype)),
        }

    def biases(self, params: Params) -> Float[Array, "neurons"]:
        """The biases of the neurons from d+1 on: zero where there is no edge from the bias unit."""
        return self._where_biased(params["b"])

    def _where_biased(self, of_neurons: Float[Array, "*n neurons"]) -> Float[Array, "*n neurons"]:
        """Zero for neurons without a bias."""
        if self.biased.all():
            return of_neurons
        return jnp.where(jnp.broadcast_to(self.biased, of_neurons.shape), of_neurons, jnp.zeros_like(of_neurons))

    @functools.cached_property
    def passes(self) -> Blocks | Sweep:
        """The forward and the backward pass, by the chosen evaluation."""
        if self.evaluation == "blocks":
            return self.blocks
        return Sweep.of(self.inputs, self.hidden, self.outputs, self.edges, self.neuron_activations)

    def forward(self, params: Params, x: Float[Array, "d n"]) -> tuple[Float[Array, "K n"], Any]:
        """a_i = Σ_j w_ij z_j + w_i0 and z_i = h(a_i) (slide "Backpropagation V", forward pass)."""
        return self.passes.forward(params["w"], self.biases(params), x)

    def backward(self, params: Params, kept: Any, delta: Float[Array, "K n"]) -> tuple[Any, Float[Array, "d n"]]:
        """δ_j = h'(a_j) Σ_k w_kj δ_k (slide "Backpropagation IV"), and ∂E/∂x."""
        return self.passes.backward(params["w"], self.biases(params), kept, delta)

    def gradients(self, kept: Any, deltas: Any) -> Params:
        """∂E/∂w_ij = Σ_n δ_i z_j for each edge, ∂E/∂w_i0 = Σ_n δ_i for each bias (slide "Backpropagation II")."""
        w, b = self.passes.gradients(kept, deltas)
        return {"w": w, "b": self._where_biased(b)}

    def moved_forward(self, params: Params, direction: Params, kept: Any) -> tuple[Float[Array, "K n"], Any]:
        """R{a_i} = Σ_j (w_ij R{z_j} + v_ij z_j) + v_i0 and R{z_i} = h'(a_i) R{a_i}."""
        of = params["w"], self.biases(params), direction["w"], self.biases(direction)
        return self.passes.moved_forward(*of, kept)

    def moved_backward(
        self,
        params: Params,
        direction: Params,
        kept: Any,
        moved: Any,
        delta: Float[Array, "K n"],
        moved_delta: Float[Array, "K n"],
    ) -> tuple[Any, Any]:
        """δ, and R{δ_j} = h''(a_j) R{a_j} Σ_k w_kj δ_k + h'(a_j) Σ_k (v_kj δ_k + w_kj R{δ_k})."""
        return self.passes.moved_backward(params["w"], direction["w"], kept, moved, delta, moved_delta)

    def moved_gradients(self, kept: Any, moved: Any, deltas: Any, moved_deltas: Any) -> Params:
        """R{∂E/∂w_ij} = Σ_n (R{δ_i} z_j + δ_i R{z_j}) and R{∂E/∂w_i0} = Σ_n R{δ_i}."""
        w, b = self.passes.moved_gradients(kept, moved, deltas, moved_deltas)
        return {"w": w, "b": self._where_biased(b)}

    def per_example_gradients(self, kept: Any, deltas: Any) -> Params:
        """∂E^n/∂w_ij = δ_i z_j for every example n, examples on the first axis."""
        (_, z), delta = self.passes.traced(kept), self.passes.by_neuron(deltas)
        source, reader = self._ends
        return {"w": (z[source] * delta[reader]).T, "b": self._where_biased(delta.T)}

    def squared_norms(self, kept: Any, deltas: Any) -> Float[Array, "n"]:
        """Σ_ij (δ_i z_j)² for every example."""
        (_, z), delta = self.passes.traced(kept), self.passes.by_neuron(deltas)
        source, reader = self._ends
        by_weights = jnp.einsum("en,en->n", jnp.square(z)[source], jnp.square(delta)[reader])
        return by_weights + jnp.sum(jnp.square(self._where_biased(delta.T)), axis=1)

    def traced_deltas(self, deltas: Any) -> Float[Array, "neurons n"]:
        """δ of the neurons from d+1 on."""
        return self.passes.by_neuron(deltas)

    def traced(self, kept: Any) -> Trace:
        """By the lecture's numbers, from the bias unit on."""
        a, z = self.passes.traced(kept)
        return Trace(a, jnp.concatenate([jnp.ones((1, z.shape[1]), z.dtype), z]))

    # --- as other networks

    def as_layers(self, params: Params) -> tuple[Layered, Params]:
        """As it runs in blocks, the weights of absent edges zero."""
        return self.blocks.layered, self.blocks.matrices(params["w"], self.biases(params))

    def decay_mask(self, counted: np.ndarray) -> Params:
        """All weights but biases and those into outputs that are not counted."""
        output = self.edges[:, 1] - (self.inputs + self.hidden + 1)
        return {"w": np.where(output >= 0, counted[np.maximum(output, 0)], True), "b": np.array(False)}

    def fold_inputs(self, params: Params, mean: Array, matrix: Array, *, diagonal: bool) -> "tuple[Dag, Params]":
        """W' = A W, b' = b − m A W; unless A is diagonal, every neuron that read some inputs then reads all."""
        from_input = self.edges[:, 0] <= self.inputs
        readers = np.unique(self._ends[1][from_input])
        if not self.biased[readers].all():
            raise ValueError("a neuron that reads inputs has no bias to take up the mean; connect neuron 0 to it")
        d, k = matrix.shape
        source, reader = self._ends
        # The input weights as a matrix, zero where there is no edge.
        w_in = jnp.zeros((k, self.neurons), params["w"].dtype)
        w_in = w_in.at[source[from_input], reader[from_input]].set(params["w"][from_input])
        w_raw = matrix.astype(w_in.dtype) @ w_in
        b = params["b"] - mean.astype(w_in.dtype) @ w_raw
        if diagonal:
            read, by = source[from_input], reader[from_input]
        else:
            read, by = np.tile(np.arange(d), len(readers)), np.repeat(readers, d)
        edges = np.concatenate([np.stack([read + 1, by + d + 1], axis=1), self.edges[~from_input] + (d - k)])
        weights = jnp.concatenate([w_raw[read, by], params["w"][~from_input]])
        order = np.lexsort((edges[:, 0], edges[:, 1]))
        return replace(self, inputs=d, edges=edges[order]), {"w": weights[order], "b": b}

    def fold_outputs(self, params: Params, mean: Array, scale: Array) -> Params:
        """w_ij' = s_i w_ij and b_i' = s_i b_i + m_i for the output neurons i."""
        if not self.biased[self.hidden :].all():
            raise ValueError("an output has no bias to take up the mean of the targets; connect neuron 0 to it")
        s = jnp.concatenate([jnp.ones(self.hidden, scale.dtype), scale])
        m = jnp.concatenate([jnp.zeros(self.hidden, mean.dtype), mean])
        return {"w": params["w"] * s[self._ends[1]], "b": params["b"] * s + m}

    def rows(self) -> Sequence[tuple[str, ...]]:
        """The lines of `describe`: one a level, or a summary where there are too many."""
        lines = [("input", str(self.inputs), "", "", "", "")]
        for neurons, activation in self.groups:
            k = neurons - self.inputs - 1
            last = len(lines) == len(self.groups)
            name, kind = ("output", "(likelihood)") if last else (f"level {self.depths[neurons[0]]}", activation.name)
            reads = f"{self.fan_ins[k].min()} to {self.fan_ins[k].max()} neurons each"
            edges, biases = int(self.fan_ins[k].sum()), int(self.biased[k].sum())
            lines.append((name, str(len(k)), kind, reads, f"{edges} + {biases}", f"{edges + biases:,}"))
        if len(lines) > 2 * MOST_BLOCK_LAYERS:
            cut = len(lines) - 2 * (MOST_BLOCK_LAYERS - 1)
            lines[MOST_BLOCK_LAYERS : MOST_BLOCK_LAYERS + cut] = [("...", "", "", f"({cut} more levels)", "", "")]
        return lines


def choose_evaluation(network: Dag) -> Evaluation:
    """Blocks for few, well filled levels; a sweep otherwise."""
    if len(network.groups) > MOST_BLOCK_LAYERS:
        return "sweep"
    places = sum(table.size for table in network.blocks.tables)
    return "blocks" if len(network.edges) >= LEAST_BLOCK_DENSITY * places else "sweep"
