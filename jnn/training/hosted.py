"""Training on examples that stay on the host: data larger than the device's memory, or memory-mapped files.

The steps are those of `jnn.training.program`, in the same order. An epoch is a loop of the host over blocks of
mini-batches: while the device works on one, the host gathers the next and sends it.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jnn import objectives
from jnn.training.packing import Packing, packing
from jnn.training.program import (
    Batches,
    Data,
    Pass,
    Settings,
    State,
    after_epoch,
    batches,
    begin_pass,
    is_due,
    optimizer_of,
    pack,
    running,
    step,
    unpack,
)
from jnn.training.splitting import shuffled


@dataclass(frozen=True, eq=False)
class Examples:
    """All examples, as NumPy arrays; weights or None; and how many of them may lie on the device at once."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    rows_on_device: int

    def block(self, rows: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Some of them, the inputs and weights in the dtype of training."""
        weights = None if self.weights is None else self.weights[rows].astype(dtype)
        return self.x[rows].astype(dtype), self.y[rows], weights


class _Risk(NamedTuple):
    """Σ_n v_n (−ln p) and Σ_n v_n."""

    error: Float[Array, ""]
    total: Float[Array, ""]


def divided(settings: Settings, data: Data, rows_on_device: int) -> tuple[Examples, Data]:
    """What stays on the host, and what the device is given: not the examples, but what setting some aside needs."""
    x, y = np.asarray(data.x), np.asarray(data.y)  # as they are: nothing is copied
    examples = Examples(x, y, None if data.weights is None else np.asarray(data.weights), rows_on_device)
    classes = none = np.empty((len(x), 0), settings.dtype)
    if settings.stratify and settings.fraction is not None:
        classes = np.argmax(y, axis=1) if y.ndim == 2 and y.shape[1] > 1 else y
    return examples, data._replace(x=none, y=classes, weights=None)


def run(examples: Examples, settings: Settings, data: Data, state: State, until: Any) -> State:
    """Train until the given epoch, or until a rule stops it; as `jnn.training.program.run`, to rounding."""
    places = len(examples.x) if state.rows is None else len(state.rows)
    rows = np.arange(places) if state.rows is None else np.asarray(state.rows)
    wide = jnp.promote_types(settings.dtype, jnp.float32)
    weights = examples.weights
    total = jnp.asarray(places if weights is None else weights[rows].sum(dtype=np.float64), wide)
    all_batches = _batches(settings, places, total)
    while bool(running(settings, state)) and int(state.epoch) < int(until):
        key, shuffle_key = jax.random.split(state.key)
        order = rows[np.asarray(shuffled(shuffle_key, places))] if settings.shuffle else rows
        done = _begin(settings, data, state)
        for some, part in _blocks(settings, examples, order, all_batches):
            before, done = done, _take(settings, data, total, done, *some, part)
            jax.block_until_ready(before.error)  # else the host would send blocks faster than they are worked on
        validation_error = jnp.asarray(jnp.nan, state.train_error.dtype)
        if bool(is_due(settings, state)):
            validation_error = _validated(settings, data, examples, state, done, validation_error)
        state = _end(settings, data, state, key, done, total, validation_error)
    return state


def _blocks(settings: Settings, examples: Examples, order: np.ndarray, all_batches: Batches) -> Iterator[Any]:
    """Blocks of mini-batches, half of what may lie on the device: the other half is being worked on."""
    size = all_batches.counts.shape[1]
    steps = len(all_batches.share)
    # The places beyond the last example hold it again; they count nothing.
    order = np.pad(order, (0, steps * size - len(order)), mode="edge")
    each = examples.rows_on_device // 2 // size
    for first in range(0, steps, each):
        last = min(first + each, steps)
        some = examples.block(order[first * size : last * size], settings.dtype)
        part = jax.tree.map(lambda leaf, a=first, b=last: leaf[a:b], all_batches)
        yield some, part


@functools.partial(jax.jit, static_argnames=("settings", "places"))
def _batches(settings: Settings, places: int, total: Array) -> Batches:
    assert settings.batch_size is not None  # `fit` asks for mini-batches
    return batches(settings, places, total, min(settings.batch_size, places), places, settings.dtype)


@functools.partial(jax.jit, static_argnames="settings")
def _begin(settings: Settings, data: Data, state: State) -> Pass:
    return begin_pass(settings, pack(settings, data, state)[1])


@functools.partial(jax.jit, static_argnames="settings")
def _take(
    settings: Settings, data: Data, total: Array, done: Pass, x: Array, y: Array, v: Array | None, part: Batches
) -> Pass:
    """The updates of a block of mini-batches."""
    packed = _packing(settings, data)
    steps = len(part.share)

    def by_batch(a: Array) -> Array:
        return a.reshape(steps, -1, *a.shape[1:])

    def take(before: Pass, batch: tuple[Any, Batches]) -> tuple[Pass, None]:
        (x, y, v), (counts, share) = batch
        return step(settings, data, total, packed, before, x, y, counts if v is None else v * counts, share), None

    return jax.lax.scan(take, done, (jax.tree.map(by_batch, (x, y, v)), part))[0]


def _packing(settings: Settings, data: Data) -> Packing:
    """What packs the network's parameters, known from their shapes."""
    shapes = jax.eval_shape(functools.partial(settings.network.init, dtype=settings.dtype), jax.random.key(0))
    return packing(shapes, optimizer_of(settings, data), settings.platform)


@functools.partial(jax.jit, static_argnames="settings")
def _end(
    settings: Settings, data: Data, state: State, key: Array, done: Pass, total: Array, validation_error: Array
) -> State:
    packed, before = pack(settings, data, state)
    return unpack(packed, after_epoch(settings, data, before, key, done, total, validation_error))


def _validated(settings: Settings, data: Data, examples: Examples, state: State, done: Pass, unknown: Array) -> Array:
    """Σ_n v_n (−ln p) / Σ_n v_n over the validation examples, block by block; NaN if there are none."""
    if data.validation is not None:
        found = _risk(settings, data, done.params, *data.validation)
    elif state.held_out is not None:
        held_out = np.asarray(state.held_out)
        each = examples.rows_on_device // 2
        blocks = (held_out[first : first + each] for first in range(0, len(held_out), each))
        parts = [_risk(settings, data, done.params, *examples.block(rows, settings.dtype)) for rows in blocks]
        found = jax.tree.map(lambda *values: sum(values), *parts)
    else:
        return unknown
    return (found.error / found.total).astype(unknown.dtype)


@functools.partial(jax.jit, static_argnames="settings")
def _risk(settings: Settings, data: Data, params: Any, x: Array, y: Array, weights: Array | None) -> _Risk:
    evaluate = objectives.objective(settings.network, settings.likelihood, reduction="sum")
    wide = jnp.promote_types(x.dtype, jnp.float32)
    error = evaluate(_packing(settings, data).unpack(params), x, y, weights)
    total = jnp.asarray(len(x), wide) if weights is None else jnp.sum(weights, dtype=wide)
    return _Risk(error.astype(wide), total)
