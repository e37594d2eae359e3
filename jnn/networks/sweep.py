"""A general network evaluated in one `scan`: each step computes some neurons from what they read.

Both passes gather. Forward, neuron i sums over the neurons it reads, a_i = Σ_j w_ij z_j; backward, neuron j sums over
the neurons that read it, δ_j = h'(a_j) Σ_k w_kj δ_k: the same sweep over the graph with its edges turned round. A
`Schedule` cuts such a sweep into equal steps. A neuron's edges fill one or more rows of `width` slots, a step takes
`rows` rows, and a neuron is finished in the step with its last row. Whatever a step reads was finished before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn.activations import Activation

STEP_COST = 8_000
"""What a step of the scan costs beside its slots, in slots times examples: a few microseconds on a CPU."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a sweep; all arrays lead with the number of steps. Neurons are numbered from the inputs on.

    Attributes:
        edge: `(steps, rows, width)` edge in each slot; the number of edges where the slot is empty.
        read: `(steps, rows, width)` the neuron that the slot reads.
        target: `(steps, rows)` the neuron that the row belongs to; one past the last where the row is empty.
        finished: `(steps, rows)` the target where this is its last row, else one past the last.
        kind: `(steps,)` which activation the neurons finished in this step have.
    """

    edge: np.ndarray
    read: np.ndarray
    target: np.ndarray
    finished: np.ndarray
    kind: np.ndarray


class Plan(NamedTuple):
    """A network ready to be swept: sizes, its distinct activations, edges from 0 on, and both schedules."""

    inputs: int
    hidden: int
    outputs: int
    kinds: tuple[Activation, ...]
    source: np.ndarray
    target: np.ndarray
    forward: Schedule
    backward: Schedule


def plan(inputs: int, hidden: int, outputs: int, edges: np.ndarray, neuron_activations: tuple[Activation, ...]) -> Plan:
    """Schedule a network's forward and backward sweep; `edges` as in `Dag`, neurons numbered from the bias unit."""
    source, target = edges.T - 1  # the bias unit is not swept
    count = inputs + hidden + outputs
    kinds = tuple(dict.fromkeys(neuron_activations))
    kind = np.zeros(count, int)
    kind[inputs : inputs + hidden] = [kinds.index(h) for h in neuron_activations]
    computed = np.arange(inputs, count)
    turned = np.arange(inputs + hidden - 1, inputs - 1, -1)
    return Plan(
        inputs,
        hidden,
        outputs,
        kinds,
        source,
        target,
        forward=_schedule(count, computed, source, target, kind),
        backward=_schedule(count, turned, target, source, kind),
    )


def _schedule(count: int, order: np.ndarray, read: np.ndarray, reader: np.ndarray, kind: np.ndarray) -> Schedule:
    """Cut the sweep over the neurons `order`, a topological one, into steps; edge e lets `reader[e]` read `read[e]`."""
    by_reader = np.argsort(reader, kind="stable")
    starts = np.searchsorted(reader[by_reader], np.arange(count + 1))
    fan = np.diff(starts)
    level = np.zeros(count, int)
    for neuron in order:
        mine = by_reader[starts[neuron] : starts[neuron + 1]]
        level[neuron] = 1 + (level[read[mine]].max() if len(mine) else 0)
    # Neurons that can be computed together: equal level and activation.
    groups: dict[tuple[int, int], list[int]] = {}
    for neuron in order:
        groups.setdefault((int(level[neuron]), int(kind[neuron])), []).append(int(neuron))
    batches = [(key[1], np.array(groups[key])) for key in sorted(groups)]

    width, height = _shape([fan[neurons] for _, neurons in batches])
    steps: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
    empty = len(read)
    for which, neurons in batches:
        rows_of = np.maximum(1, -(-fan[neurons] // width))
        owner = np.repeat(neurons, rows_of)
        last = np.zeros(len(owner), bool)
        last[np.cumsum(rows_of) - 1] = True
        part = np.arange(len(owner)) - np.repeat(np.cumsum(rows_of) - rows_of, rows_of)
        slot = starts[owner][:, None] + part[:, None] * width + np.arange(width)
        filled = slot < starts[owner + 1][:, None]
        edge = np.where(filled, by_reader[np.minimum(slot, empty - 1)] if empty else 0, empty)
        for first in range(0, len(owner), height):
            step = slice(first, first + height)
            missing = height - len(owner[step])
            steps.append(
                (
                    which,
                    np.pad(edge[step], ((0, missing), (0, 0)), constant_values=empty),
                    np.pad(owner[step], (0, missing), constant_values=count),
                    np.pad(np.where(last[step], owner[step], count), (0, missing), constant_values=count),
                )
            )
    edge = np.array([s[1] for s in steps], np.int32).reshape(-1, height, width)
    return Schedule(
        edge=edge,
        read=np.append(read, 0)[edge].astype(np.int32),
        target=np.array([s[2] for s in steps], np.int32).reshape(-1, height),
        finished=np.array([s[3] for s in steps], np.int32).reshape(-1, height),
        kind=np.array([s[0] for s in steps], np.int32),
    )


def _shape(fans: list[np.ndarray]) -> tuple[int, int]:
    """The slots in a row and the rows in a step that cost least, over a batch of 32 examples."""
    most = max((int(f.max()) for f in fans if len(f)), default=1)
    widths = sorted({1 << p for p in range(most.bit_length() + 1)} | {max(most, 1)})

    def cost(width: int, height: int) -> int:
        steps = sum(-(-int(np.maximum(1, -(-f // width)).sum()) // height) for f in fans)
        return steps * (height * (width + 4) * 32 + STEP_COST)

    candidates = [(w, 1 << p) for w in widths for p in range(15)]
    return min(candidates, key=lambda c: cost(*c)) if fans else (1, 1)


def _sums(
    schedule: Schedule,
    weights: Float[Array, "edges"],
    start: Float[Array, "neurons n"],
    sent: Float[Array, "neurons n"],
    finish: Callable[[Array, Array, Array], Array],
) -> tuple[Float[Array, "neurons n"], Float[Array, "neurons n"]]:
    """Sweep: add to each neuron of `start` its weighted sum of `sent`, and put what `finish` makes of it into `sent`.

    Writes to the neuron one past the last fall away, so that empty rows change nothing.
    """
    padded = jnp.append(weights, jnp.zeros((), weights.dtype))

    def step(carry: tuple[Array, Array], slots: tuple[Array, ...]) -> tuple[tuple[Array, Array], None]:
        total, sent = carry
        edge, read, target, finished, kind = slots
        row = jnp.sum(padded[edge][:, :, None] * sent[read], axis=1)
        total = total.at[target].add(row, mode="drop")
        done = finish(kind, finished, total.at[finished].get(mode="clip"))
        return (total, sent.at[finished].set(done, mode="drop")), None

    slots = (schedule.edge, schedule.read, schedule.target, schedule.finished, schedule.kind)
    (total, sent), _ = jax.lax.scan(step, (start, sent), jax.tree.map(jnp.asarray, slots))
    return total, sent


def _by_kind(functions: list[Callable[[Array], Array]], kind: Array, a: Array) -> Array:
    return functions[0](a) if len(functions) == 1 else jax.lax.switch(kind, functions, a)


def forward(
    plan: Plan, w: Float[Array, "edges"], b: Float[Array, "neurons"], x: Float[Array, "d n"]
) -> tuple[Float[Array, "computed n"], Float[Array, "read n"]]:
    """a_i = Σ_j w_ij z_j + w_i0 of all neurons from d+1 on, and z_j = h(a_j) of the inputs and hidden neurons."""
    n = x.shape[1]
    dtype = jnp.result_type(w, x)
    unsummed = jnp.zeros((plan.inputs, n), dtype)
    start = jnp.concatenate([unsummed, jnp.broadcast_to(b[:, None], (len(b), n)).astype(dtype)])
    sent = jnp.concatenate([x.astype(dtype), jnp.zeros((len(b), n), dtype)])
    h = [kind.h for kind in plan.kinds] or [lambda a: a]
    a, z = _sums(plan.forward, w, start, sent, lambda kind, _, total: _by_kind(h, kind, total))
    return a[plan.inputs :], z[: plan.inputs + plan.hidden]


def backward(
    plan: Plan, w: Float[Array, "edges"], a: Float[Array, "computed n"], delta: Float[Array, "K n"]
) -> Float[Array, "computed n"]:
    """δ_j = h'(a_j) Σ_k w_kj δ_k of all neurons from d+1 on, the outputs' δ given (slide "Backpropagation IV")."""
    n = delta.shape[1]
    known = plan.inputs + plan.hidden
    everything = jnp.concatenate([jnp.zeros((plan.inputs, n), a.dtype), a])
    sent = jnp.concatenate([jnp.zeros((known, n), delta.dtype), delta])
    slope = [kind.derivative for kind in plan.kinds] or [lambda a: a]

    def finish(kind: Array, finished: Array, total: Array) -> Array:
        return _by_kind(slope, kind, everything.at[finished].get(mode="clip")) * total

    _, deltas = _sums(plan.backward, w, jnp.zeros_like(sent), sent, finish)
    return deltas[plan.inputs :]
