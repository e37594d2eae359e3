"""The lecture's general network: neuron i may read any neuron j < i.

Neurons are numbered as on slides "Notation I, II": 0 is the bias unit (z_0 = 1), 1..d the inputs, d+1..d+M the
hidden neurons, d+M+1..d+M+K the outputs. The parameters are one weight for each edge and one bias for each neuron,
however the network is evaluated. There are two ways, equal up to summation order:

- **blocks**: neurons of equal depth form a layer, and the network runs as a `Layered` one, a few dense matrix
  products, with the weights of absent edges zero. Right for few, well filled levels.
- **sweep**: one `scan` over the levels, each step gathering what its neurons read (`jnn.networks.sweep`). Right for
  deep networks (a cascade of 300 neurons is 300 levels) and for sparse ones (10,000 neurons, 100,000 edges).
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from jnn import activations
from jnn.activations import Activation
from jnn.networks import sweep
from jnn.networks.base import Network, Params, Trace, as_rows
from jnn.networks.initialization import Initializer, fan_in_normal
from jnn.networks.layered import Layer, Layered

Evaluation = Literal["blocks", "sweep"]

MOST_BLOCK_LAYERS = 24
"""More levels than this are not unrolled: every level adds to the compile time."""
LEAST_BLOCK_DENSITY = 0.05
"""Below this share of present edges, gathering what is there beats multiplying by zeros."""


@dataclass(frozen=True, eq=False)
class Dag(Network):
    """A network of any acyclic connections; build it with `dag`.

    Parameters: `{"w": (number of edges,), "b": (M + K,)}`; `w[e]` is the weight w_ij of `edges[e] = (j, i)`, and
    `b[i - d - 1]` the bias w_i0 of neuron i.

    Attributes:
        inputs: d.
        hidden: M.
        outputs: K.
        edges: `(number of edges, 2)` pairs (j, i), "i reads j", ordered by i, then j.
        neuron_activations: of the hidden neurons d+1..d+M.
        biased: for each neuron from d+1 on, whether it has a bias.
        evaluation: "blocks" or "sweep".
    """

    inputs: int
    hidden: int
    outputs: int
    edges: np.ndarray
    neuron_activations: tuple[Activation, ...]
    biased: np.ndarray
    evaluation: Evaluation

    @functools.cached_property
    def _identity(self) -> tuple[Any, ...]:
        digest = hashlib.sha256(self.edges.tobytes() + self.biased.tobytes()).digest()
        return (self.inputs, self.hidden, self.outputs, digest, self.neuron_activations, self.evaluation)

    def __hash__(self) -> int:
        return hash(self._identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dag) and self._identity == other._identity

    # --- structure ---------------------------------------------------------------------------------------------

    @functools.cached_property
    def depths(self) -> np.ndarray:
        """Each neuron's depth, by number: 0 for the bias and the inputs, else 1 + the deepest neuron it reads."""
        depth = np.zeros(1 + self.inputs + self.hidden + self.outputs, int)
        depth[self.inputs + 1 :] = 1
        for j, i in self.edges:  # in order of i, so that depth[j] is final
            depth[i] = max(depth[i], depth[j] + 1)
        return depth

    @functools.cached_property
    def fan_ins(self) -> np.ndarray:
        """How many neurons each neuron from d+1 on reads, the bias unit aside."""
        return np.bincount(self.edges[:, 1] - self.inputs - 1, minlength=self.hidden + self.outputs)

    @functools.cached_property
    def groups(self) -> tuple[tuple[np.ndarray, Activation], ...]:
        """Hidden neurons of equal depth and activation, in topological order; the outputs last."""
        numbers = np.arange(self.inputs + 1, self.inputs + 1 + self.hidden)
        kinds = list(dict.fromkeys(self.neuron_activations))
        kind = np.array([kinds.index(h) for h in self.neuron_activations], int)
        depth = self.depths[numbers]
        found = [
            (numbers[(depth == level) & (kind == k)], kinds[k])
            for level in np.unique(depth)
            for k in np.unique(kind[depth == level])
        ]
        last = np.arange(self.inputs + 1 + self.hidden, self.inputs + 1 + self.hidden + self.outputs)
        return (*found, (last, activations.get("identity")))

    @functools.cached_property
    def layered(self) -> tuple[Layered, tuple[np.ndarray, ...]]:
        """The same network in layers, and for each layer the edge whose weight stands at each place of its `W`.

        A place without an edge holds the number of edges, one past the last.
        """
        layer_of = np.zeros(1 + self.inputs + self.hidden + self.outputs, int)
        place = np.zeros_like(layer_of)
        place[1 : self.inputs + 1] = np.arange(self.inputs)
        for number, (neurons, _) in enumerate(self.groups, start=1):
            layer_of[neurons] = number
            place[neurons] = np.arange(len(neurons))
        source, target = self.edges.T
        sizes = [self.inputs, *(len(neurons) for neurons, _ in self.groups)]
        layers, tables = [], []
        for number, (neurons, activation) in enumerate(self.groups, start=1):
            here = np.flatnonzero(layer_of[target] == number)
            sources = tuple(int(s) for s in np.unique(layer_of[source[here]])) or (0,)
            first_row = dict(zip(sources, np.cumsum([0, *(sizes[s] for s in sources[:-1])]), strict=True))
            rows = np.array([first_row[s] for s in layer_of[source[here]]], int) + place[source[here]]
            table = np.full((sum(sizes[s] for s in sources), len(neurons)), len(self.edges), np.int32)
            table[rows, place[target[here]]] = here
            layers.append(Layer(len(neurons), activation, sources))
            tables.append(table)
        return Layered(self.inputs, tuple(layers)), tuple(tables)

    @functools.cached_property
    def plan(self) -> sweep.Plan:
        """The steps of a sweep over this network, forward and backward."""
        return sweep.plan(self.inputs, self.hidden, self.outputs, self.edges, self.neuron_activations)

    # --- evaluation --------------------------------------------------------------------------------------------

    @property
    def weight_count(self) -> int:
        """The number of weights, biases included."""
        return len(self.edges) + int(self.biased.sum())

    def init(
        self,
        key: Key[Array, ""],
        *,
        weights: Initializer = fan_in_normal,
        bias: float = 0.0,
        dtype: Any = jnp.float32,
    ) -> Params:
        """Draw initial parameters; see `Network.init`. Each neuron's own fan-in and activation count."""
        gains = np.array([h.gain for h in self.neuron_activations] + [activations.get("identity").gain] * self.outputs)
        reader = self.edges[:, 1] - self.inputs - 1
        return {
            "w": weights(key, (len(self.edges),), self.fan_ins[reader], gains[reader], dtype),
            "b": jnp.where(self.biased, jnp.asarray(bias, dtype), jnp.zeros((), dtype)),
        }

    def biases(self, params: Params) -> Float[Array, "neurons"]:
        """The biases of the neurons from d+1 on: zero where there is no edge from the bias unit."""
        return params["b"] if self.biased.all() else jnp.where(self.biased, params["b"], jnp.zeros_like(params["b"]))

    def matrices(self, params: Params) -> Params:
        """The parameters as the `layered` network takes them."""
        weights = jnp.append(params["w"], jnp.zeros((), params["w"].dtype))
        b = self.biases(params)
        return tuple(
            {"W": weights[table], "b": b[neurons - self.inputs - 1]}
            for table, (neurons, _) in zip(self.layered[1], self.groups, strict=True)
        )

    def forward(self, params: Params, x: Float[Array, "d n"]) -> tuple[Float[Array, "K n"], Any]:
        """The forward pass on columns, by the chosen evaluation."""
        if self.evaluation == "blocks":
            return self.layered[0].forward(self.matrices(params), x)
        a, z = sweep.forward(self.plan, params["w"], self.biases(params), x)
        return a[self.hidden :], (a, z)

    def by_neuron(self, layers: Sequence[Float[Array, "_ n"]]) -> Float[Array, "neurons n"]:
        """One array in the order of the neurons d+1..d+M+K from one array for each layer of `layered`."""
        order = np.concatenate([neurons for neurons, _ in self.groups])
        return jnp.concatenate(layers)[np.argsort(order)]

    def trace(self, params: Params, x: Num[Array | np.ndarray, "*batch d"]) -> Trace:
        """The forward pass with every neuron's `a` and `z` kept, by the lecture's numbers, examples as rows."""
        columns, batch = self.columns(params, x)
        if self.evaluation == "blocks":
            _, kept = self.forward(params, columns)
            a = self.by_neuron(kept.a)
            z = jnp.concatenate([columns, self.by_neuron([*kept.z[1:], kept.a[-1]])[: self.hidden]])
        else:
            _, (a, z) = self.forward(params, columns)
        bias_unit = jnp.ones((1, columns.shape[1]), z.dtype)
        return Trace(as_rows(a, batch), as_rows(jnp.concatenate([bias_unit, z]), batch))

    def rows(self) -> Sequence[tuple[str, ...]]:
        """The lines of `describe`: one a level, or a summary where there are too many."""
        lines = [("input", str(self.inputs), "", "", "", "")]
        fan_ins, biased = self.fan_ins, self.biased
        for number, (neurons, activation) in enumerate(self.groups, start=1):
            k = neurons - self.inputs - 1
            last = number == len(self.groups)
            name = "output" if last else f"level {self.depths[neurons[0]]}"
            reads = f"{fan_ins[k].min()} to {fan_ins[k].max()} neurons each"
            edges, biases = int(fan_ins[k].sum()), int(biased[k].sum())
            shown = "(likelihood)" if last else activation.name
            lines.append((name, str(len(neurons)), shown, reads, f"{edges} + {biases}", f"{edges + biases:,}"))
        if len(lines) > 2 * MOST_BLOCK_LAYERS:
            cut = len(lines) - 2 * (MOST_BLOCK_LAYERS - 1)
            middle = ("...", "", "", f"({cut} more levels)", "", "")
            lines[MOST_BLOCK_LAYERS : len(lines) - MOST_BLOCK_LAYERS + 2] = [middle]
        return lines


def choose_evaluation(network: Dag) -> Evaluation:
    """Blocks for few, well filled levels; a sweep otherwise."""
    if len(network.groups) > MOST_BLOCK_LAYERS:
        return "sweep"
    layered, _ = network.layered
    places = sum(layered.fan_in(layer) * layer.size for layer in layered.layers)
    return "blocks" if len(network.edges) >= LEAST_BLOCK_DENSITY * places else "sweep"
