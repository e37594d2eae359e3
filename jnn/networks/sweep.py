"""A general network evaluated in one `scan`: each step computes some neurons from what they read.

Both passes gather. Forward, neuron i sums over the neurons it reads, a_i = Σ_j w_ij z_j; backward, neuron j sums over
the neurons that read it, δ_j = h'(a_j) Σ_k w_kj δ_k: the same sweep over the graph with its edges turned round. A
`Schedule` cuts such a sweep into equal steps. A neuron's edges fill one or more rows of `width` slots, a step takes
`rows` rows, and a neuron is finished in the step with its last row. Whatever a step reads was finished before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn.activations import Activation

STEP_COST = 8_000
"""What a step of the scan costs beside its slots, in slots times examples: a few microseconds on a CPU."""


class Schedule(NamedTuple):
    """The steps of a sweep. Neurons are numbered from the inputs on; numbers one past the last mean none."""

    edge: np.ndarray  # (steps, rows, width): the edge in each slot
    read: np.ndarray  # (steps, rows, width): the neuron that the slot reads
    target: np.ndarray  # (steps, rows): the neuron that the row belongs to
    finished: np.ndarray  # (steps, rows): the target, if this is its last row
    kind: np.ndarray  # (steps,): which activation the neurons of this step have


@dataclass(frozen=True, eq=False)
class Sweep:
    """A general network's passes, each as one scan."""

    inputs: int
    hidden: int
    kinds: tuple[Activation, ...]  # distinct ones
    source: np.ndarray  # where each edge begins among inputs and hidden neurons
    reader: np.ndarray  # where it ends among hidden neurons and outputs
    ahead: Schedule  # the forward pass
    back: Schedule  # the backward pass, over the hidden neurons

    @classmethod
    def of(
        cls, inputs: int, hidden: int, outputs: int, edges: np.ndarray, neuron_activations: tuple[Activation, ...]
    ) -> "Sweep":
        """Schedule a network's passes; the arguments as in `Dag`."""
        source, target = edges.T - 1  # the bias unit is not swept
        kinds = tuple(dict.fromkeys(neuron_activations))
        kind = np.zeros(inputs + hidden + outputs, int)
        kind[inputs : inputs + hidden] = [kinds.index(h) for h in neuron_activations]
        computed = np.arange(inputs, len(kind))
        ahead = _schedule(computed, source, target, kind)
        back = _schedule(computed[:hidden][::-1], target, source, kind)
        return cls(inputs, hidden, kinds, source, target - inputs, ahead, back)

    def forward(self, w: Array, b: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
        """a_i = Σ_j w_ij z_j + w_i0 of the outputs, and what is kept."""
        n, dtype = x.shape[1], jnp.result_type(w, x)
        unsummed = jnp.zeros((self.inputs, n), dtype)
        start = jnp.concatenate([unsummed, jnp.broadcast_to(b[:, None], (len(b), n)).astype(dtype)])
        sent = jnp.concatenate([x.astype(dtype), jnp.zeros((len(b), n), dtype)])
        h = [kind.h for kind in self.kinds]
        a, z = _sums(self.ahead, w, start, sent, lambda kind, _, total: _by_kind(h, kind, total))
        read = self.inputs + self.hidden
        return a[read:], (a[self.inputs :], z[:read])

    def backward(self, w: Array, b: Array, kept: tuple[Array, Array], delta: Array) -> tuple[Array, Array]:
        """δ_j = h'(a_j) Σ_k w_kj δ_k of all neurons, the outputs' given (slide "Backpropagation IV"), and ∂E/∂x."""
        del b
        a, n = kept[0], delta.shape[1]
        everything = jnp.concatenate([jnp.zeros((self.inputs, n), a.dtype), a])
        sent = jnp.concatenate([jnp.zeros((self.inputs + self.hidden, n), delta.dtype), delta])

        def finish(kind: Array, finished: Array, total: Array) -> Array:
            return self._slope(kind, everything.at[finished].get(mode="clip")) * total

        _, swept = _sums(self.back, w, jnp.zeros_like(sent), sent, finish)
        deltas = swept[self.inputs :]
        of_input = np.flatnonzero(self.source < self.inputs)
        weighted = w[of_input][:, None] * deltas[self.reader[of_input]]
        return deltas, jnp.zeros((self.inputs, n), deltas.dtype).at[self.source[of_input]].add(weighted)

    def gradients(self, kept: tuple[Array, Array], deltas: Array) -> tuple[Array, Array]:
        """∂E/∂w_ij = Σ_n δ_i z_j for each edge, ∂E/∂w_i0 = Σ_n δ_i for each neuron."""
        return jnp.einsum("en,en->e", kept[1][self.source], deltas[self.reader]), jnp.sum(deltas, axis=1)

    # What moves: a sweep like the pass itself, over sums to which the weights' own moves, known beforehand, are added.

    def moved_forward(
        self, w: Array, b: Array, v: Array, v_b: Array, kept: tuple[Array, Array]
    ) -> tuple[Array, tuple[Array, Array]]:
        """R{a_i} = Σ_j (w_ij R{z_j} + v_ij z_j) + v_i0 of the outputs, and R{z_i} = h'(a_i) R{a_i} with it."""
        del b
        a, z = kept
        own = jnp.broadcast_to(v_b[:, None], a.shape).at[self.reader].add(v[:, None] * z[self.source])
        start = jnp.concatenate([jnp.zeros_like(z[: self.inputs]), own])
        everything = jnp.concatenate([jnp.zeros_like(z[: self.inputs]), a])

        def finish(kind: Array, finished: Array, total: Array) -> Array:
            return self._slope(kind, everything.at[finished].get(mode="clip")) * total

        moved_a, moved_z = _sums(self.ahead, w, start, jnp.zeros_like(start), finish)
        read = self.inputs + self.hidden
        return moved_a[read:], (moved_a[self.inputs :], moved_z[:read])

    def moved_backward(
        self,
        w: Array,
        v: Array,
        kept: tuple[Array, Array],
        moved: tuple[Array, Array],
        delta: Array,
        moved_delta: Array,
    ) -> tuple[Array, Array]:
        """δ, and R{δ_j} = h''(a_j) R{a_j} Σ_k w_kj δ_k + h'(a_j) Σ_k (v_kj δ_k + w_kj R{δ_k})."""
        deltas, _ = self.backward(w, w, kept, delta)
        between = np.flatnonzero(self.source >= self.inputs)  # edges that do not begin at an input
        source, sent = self.source[between], deltas[self.reader[between]]
        nothing = jnp.zeros((self.inputs + len(deltas), delta.shape[1]), deltas.dtype)
        product = nothing.at[source].add(w[between][:, None] * sent)
        start = nothing.at[source].add(v[between][:, None] * sent)
        a = nothing.at[self.inputs :].set(kept[0])
        moved_a = nothing.at[self.inputs :].set(moved[0])
        bend = [kind.second_derivative for kind in self.kinds]

        def finish(kind: Array, finished: Array, total: Array) -> Array:
            at, moves, pulled = (array.at[finished].get(mode="clip") for array in (a, moved_a, product))
            return _by_kind(bend, kind, at) * moves * pulled + self._slope(kind, at) * total

        outputs = nothing.at[self.inputs + self.hidden :].set(moved_delta)
        _, swept = _sums(self.back, w, start, outputs, finish)
        return deltas, swept[self.inputs :]

    def moved_gradients(
        self, kept: tuple[Array, Array], moved: tuple[Array, Array], deltas: Array, moved_deltas: Array
    ) -> tuple[Array, Array]:
        """R{∂E/∂w_ij} = Σ_n (R{δ_i} z_j + δ_i R{z_j}) for each edge, R{∂E/∂w_i0} = Σ_n R{δ_i} for each neuron."""
        moved_pairs = jnp.einsum("en,en->e", moved[1][self.source], deltas[self.reader])
        pairs, biases = self.gradients(kept, moved_deltas)
        return pairs + moved_pairs, biases

    def _slope(self, kind: Array, a: Array) -> Array:
        return _by_kind([kind.derivative for kind in self.kinds], kind, a)

    def traced(self, kept: tuple[Array, Array]) -> tuple[Array, Array]:
        """`a` of the neurons from d+1 on, and `z` of the inputs and the hidden neurons, examples as columns."""
        return kept

    def by_neuron(self, deltas: Array) -> Array:
        """δ in the order of the neurons from d+1 on, as it is."""
        return deltas


def longest_paths(count: int, order: np.ndarray, read: np.ndarray, reader: np.ndarray) -> np.ndarray:
    """One more than the longest path to any neuron that it reads, for the neurons of a topological `order`; else 0."""
    by_reader = np.argsort(reader, kind="stable")
    starts = np.searchsorted(reader[by_reader], np.arange(count + 1))
    longest = np.zeros(count, int)
    for neuron in order:
        mine = by_reader[starts[neuron] : starts[neuron + 1]]
        longest[neuron] = 1 + longest[read[mine]].max(initial=0)
    return longest


def grouped(neurons: np.ndarray, level: np.ndarray, kind: np.ndarray) -> list[np.ndarray]:
    """Neurons of equal level and kind together, by level, then kind: what can be computed at once."""
    ordered = neurons[np.lexsort((kind[neurons], level[neurons]))]
    cuts = np.flatnonzero(np.diff(level[ordered]) | np.diff(kind[ordered])) + 1
    return np.split(ordered, cuts) if len(neurons) else []


def _schedule(order: np.ndarray, read: np.ndarray, reader: np.ndarray, kind: np.ndarray) -> Schedule:
    """Cut the sweep over the neurons `order`, a topological one, into steps; edge e lets `reader[e]` read `read[e]`."""
    count, empty = len(kind), len(read)
    by_reader = np.argsort(reader, kind="stable")
    starts = np.searchsorted(reader[by_reader], np.arange(count + 1))
    fan = np.diff(starts)
    groups = grouped(order, longest_paths(count, order, read, reader), kind)
    width, height = _shape([fan[neurons] for neurons in groups])
    # Each row: the edges in its slots, its neuron, and that again if the row is its last.
    rows = [np.empty((0, width + 2), int)]
    kinds: list[int] = []
    for neurons in groups:
        rows_of = np.maximum(1, -(-fan[neurons] // width))
        owner = np.repeat(neurons, rows_of)
        last = np.zeros(len(owner), bool)
        last[np.cumsum(rows_of) - 1] = True
        part = np.arange(len(owner)) - np.repeat(np.cumsum(rows_of) - rows_of, rows_of)
        slot = starts[owner][:, None] + part[:, None] * width + np.arange(width)
        edge = np.append(by_reader, empty)[np.where(slot < starts[owner + 1][:, None], slot, empty)]
        missing = -len(owner) % height
        rows.append(np.column_stack([edge, owner, np.where(last, owner, count)]))
        rows.append(np.tile([empty] * width + [count, count], (missing, 1)))
        kinds += [int(kind[neurons[0]])] * ((len(owner) + missing) // height)
    steps = np.concatenate(rows).astype(np.int32).reshape(-1, height, width + 2)
    edge, target, finished = steps[..., :width], steps[..., width], steps[..., width + 1]
    return Schedule(edge, np.append(read, 0).astype(np.int32)[edge], target, finished, np.array(kinds, np.int32))


def _shape(fans: list[np.ndarray]) -> tuple[int, int]:
    """The slots in a row and the rows in a step that cost least, over a batch of 32 examples."""
    most = max((int(f.max()) for f in fans), default=1)
    widths = sorted({1 << p for p in range(most.bit_length() + 1)} | {max(most, 1)})

    def cost(shape: tuple[int, int]) -> int:
        width, height = shape
        steps = sum(-(-int(np.maximum(1, -(-f // width)).sum()) // height) for f in fans)
        return steps * (height * (width + 4) * 32 + STEP_COST)

    return min(((width, 1 << p) for width in widths for p in range(15)), key=cost) if fans else (1, 1)


def _sums(
    schedule: Schedule,
    weights: Float[Array, "edges"],
    start: Float[Array, "neurons n"],
    sent: Float[Array, "neurons n"],
    finish: Callable[[Array, Array, Array], Array],
) -> tuple[Float[Array, "neurons n"], Float[Array, "neurons n"]]:
    """Add to each neuron of `start` its weighted sum of `sent`, and put what `finish` makes of it into `sent`."""
    padded = jnp.append(weights, jnp.zeros((), weights.dtype))

    def step(carry: tuple[Array, Array], slots: Any) -> tuple[tuple[Array, Array], None]:
        (total, sent), (edge, read, target, finished, kind) = carry, slots
        row = jnp.sum(padded[edge][:, :, None] * sent[read], axis=1)
        # What is written to the neuron one past the last falls away, so that empty rows change nothing.
        total = total.at[target].add(row, mode="drop")
        done = finish(kind, finished, total.at[finished].get(mode="clip"))
        return (total, sent.at[finished].set(done, mode="drop")), None

    return jax.lax.scan(step, (start, sent), jax.tree.map(jnp.asarray, schedule))[0]


def _by_kind(functions: list[Callable[[Array], Array]], kind: Array, a: Array) -> Array:
    if len(functions) > 1:
        return jax.lax.switch(kind, functions, a)
    return functions[0](a) if functions else a
