"""Training on examples that stay on the host: data larger than the device's memory, or memory-mapped files.

The steps are those of `jnn.training.program`, in the same order. An epoch is a loop of the host over blocks of
mini-batches: while the device works on one, the host gathers the next and sends it.
"""

import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array

from jnn.data import OnDisk
from jnn.networks.base import expected_parameters
from jnn.training import dividing, program as programs
from jnn.training.packing import Packing, packing
from jnn.training.problem import Problem
from jnn.training.program import Block, Examples, Member, Pass, Program, Risk, Shared, State
from jnn.training.structure import LEAST_VALIDATED, restored, rounded_up


@dataclass(frozen=True, eq=False)
class Source:
    """All examples, as NumPy arrays, and how many of them may lie on the device at once."""

    examples: Examples
    dtype: Any
    rows_on_device: int

    @classmethod
    def of(cls, problem: Problem, batch_size: int | None, rows_on_device: int) -> "Source":
        """The examples of a problem.

        Raises:
            ValueError: unless there are mini-batches, and room for two of them.
        """
        if batch_size is None or batch_size >= problem.count:
            raise ValueError("rows_on_device is for mini-batches: expected a batch_size below the number of examples")
        if rows_on_device < 2 * batch_size:
            raise ValueError(
                f"expected rows_on_device of at least two mini-batches, {2 * batch_size}: one to work on and one to "
                f"send meanwhile; got {rows_on_device}"
            )
        x, y, weights = problem.examples
        others = (None if leaf is None else np.asarray(leaf) for leaf in (y, weights))
        whole = Examples(x if isinstance(x, OnDisk) else np.asarray(x), *others)
        return cls(whole, problem.dtype, rows_on_device)

    @property
    def half(self) -> int:
        """Half of what may lie on the device: the other half is being worked on."""
        return self.rows_on_device // 2

    def rows(self, program: Program, numbers: np.ndarray) -> Examples:
        """The examples of so many mini-batches `(steps, size)`, inputs and weights in the dtype of training."""
        division = program.division
        parts = numbers if division is None else division.cut(numbers)

        def sent(leaf: np.ndarray | OnDisk, dtype: Any) -> Any:
            def take(some: np.ndarray) -> np.ndarray:
                return leaf[some].astype(dtype, copy=False)

            return take(parts) if division is None else division.spread(take, parts, leaf)

        x, y, weights = self.examples
        own = None if weights is None else sent(weights, self.dtype)
        return Examples(sent(x, self.dtype), sent(y, y.dtype), own)

    def blocks(self, program: Program, order: np.ndarray, begin: int = 0) -> Iterator[Block]:
        """An epoch's mini-batches from one on, as many at a time as may be sent."""
        size, count = program.batch_size, np.asarray(len(order), int)
        assert size is not None
        steps, each = -(-len(order) // size), self.half // size
        for first in range(begin, steps, each):
            some = order[first * size : (first + each) * size]
            numbers = np.pad(some, (0, each * size - len(some)), mode="edge").reshape(each, size)
            where = np.asarray(first, int), np.asarray(min(each, steps - first), int)
            yield Block(self.rows(program, numbers), None, *where, count)


class Within(NamedTuple):
    """A place within an epoch: what it has carried so far, and the number of its next mini-batch."""

    carried: Pass
    step: Any


class Run:
    """Training until a given epoch, as `jnn.training.program.run`, to rounding; it may be left within an epoch.

    Attributes:
        within: where it was left within the epoch after the state that it returned, or is to go on; None at its start.
        visit: asked after each block, with the state before the epoch and the place in it, whether to leave.
    """

    def __init__(self, source: Source, program: Program, shared: Shared, member: Member) -> None:
        self._source, self._program, self._shared, self._member = source, program, shared, member
        self.within: Within | None = None
        self.visit: Callable[[State, Within], bool] = lambda state, within: False

    def begun(self, state: State) -> Within:
        """Where it was left, or the start of the epoch after this state."""
        if self.within is not None:
            return self.within
        return Within(_begin(self._program, self._member, state), np.zeros((), int))

    def __call__(self, state: State, until: Any) -> State:
        """The state at the epoch `until`, or where a rule or a visit stops it."""
        source, program, shared, member = self._source, self._program, self._shared, self._member
        count = int(shared.count) if state.rows is None else int(state.rows.count)
        rows = np.arange(count) if state.rows is None else state.rows.numbers()
        wide = jnp.promote_types(program.dtype, jnp.float32)
        weights = source.examples.weights
        total = jnp.asarray(count if weights is None else weights[rows].sum(dtype=np.float64), wide)
        if program.division is not None:
            total = program.division.everywhere(total)
        places = int(shared.examples.x.shape[0]) if state.rows is None else len(state.rows.index)
        while bool(programs.running(shared, state)) and int(state.epoch) < int(until):
            order = rows[np.asarray(_order(program, state, places, count))[:count]]
            if program.shuffle and isinstance(source.examples.x, OnDisk):
                order = source.examples.x.shuffled(order)
            done, first = self.begun(state)
            self.within = None
            for block in source.blocks(program, order, int(first)):
                before, done = done, _take(program, shared, member, total, done, block)
                jax.block_until_ready(before.error)  # else the host would send blocks faster than they are worked on
                place = Within(done, block.first + block.steps)
                if self.visit(state, place):
                    self.within = place
                    return state
            due = programs.is_due(program, shared, state)
            risk = np.zeros((), program.dtype)
            if bool(due):
                risk = _validated(source, program, shared, member, state, done)
            state = _end(program, shared, member, state, done, total, due, risk)
        return state


def _packing(program: Program, member: Member) -> Packing:
    """What packs the network's parameters, known from their shapes."""
    like = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, program.dtype), expected_parameters(program.network))
    return packing(like, restored(member.optimizer), program.platform)


@functools.partial(jax.jit, static_argnames=("program", "places"))
def _order(program: Program, state: State, places: int, count: Any) -> Array:
    return programs.epoch_order(program, state, places, count)


@functools.partial(jax.jit, static_argnames="program")
def _begin(program: Program, member: Member, state: State) -> Pass:
    return programs.begin(member, programs.pack(program, member, state)[1])


@functools.partial(jax.jit, static_argnames="program")
def _take(program: Program, shared: Shared, member: Member, total: Array, before: Pass, block: Block) -> Pass:
    def alone(shared: Shared, member: Member, total: Array, before: Pass, block: Block) -> Pass:
        return programs.take(program, shared, member, total, _packing(program, member), before, block)

    spec = Block(PartitionSpec(None, dividing.AXIS), None, *3 * (PartitionSpec(),))  # type: ignore[arg-type]
    same = 4 * (PartitionSpec(),)
    return dividing.on_each(program.division, alone, *same, spec)(shared, member, total, before, block)


@functools.partial(jax.jit, static_argnames="program")
def _end(
    program: Program, shared: Shared, member: Member, state: State, done: Pass, total: Array, due: Any, risk: Array
) -> State:
    packed, before = programs.pack(program, member, state)
    return programs.unpack(packed, programs.end(program, shared, member, before, done, total, due, risk))


def _validated(source: Source, program: Program, shared: Shared, member: Member, state: State, done: Pass) -> Array:
    """Σ_n v_n (−ln p) / Σ_n v_n over the validation examples, block by block."""
    if shared.validation is not None:
        found = [_risk(program, shared, member, done.params, None, None)]
    else:
        assert state.held_out is not None
        numbers = state.held_out.numbers()
        size = min(source.half, rounded_up(len(numbers), least=LEAST_VALIDATED))
        found = []
        for first in range(0, len(numbers), size):
            some = numbers[first : first + size]
            whole = np.pad(some, (0, size - len(some)), mode="edge")[None]
            examples = source.rows(program, whole)
            found.append(_risk(program, shared, member, done.params, examples, np.asarray(len(some), int)))
    error, total = (functools.reduce(operator.add, values) for values in zip(*found, strict=True))
    return (error / total).astype(program.dtype)


@functools.partial(jax.jit, static_argnames="program")
def _risk(program: Program, shared: Shared, member: Member, params: Any, examples: Examples | None, count: Any) -> Risk:
    """The risk on `count` examples, as one mini-batch; or on the user's own validation examples."""

    def alone(shared: Shared, member: Member, params: Any, examples: Examples | None, count: Any) -> Risk:
        if examples is None:
            some = programs.validation_examples(program, shared, member, None)
        else:
            x, y, weights = jax.tree.map(lambda leaf: leaf[0], examples)
            rows = y.shape[0] if program.division is None else y.shape[0] * y.shape[1] * len(program.division.devices)
            there = dividing.places(program.division, rows) < count
            some = Examples(x, y, jnp.where(there, 1 if weights is None else weights, 0))
        return programs.validation_risk(program, _packing(program, member), params, some)

    same = 3 * (PartitionSpec(),)
    spec = PartitionSpec() if examples is None else PartitionSpec(None, dividing.AXIS)
    return dividing.on_each(program.division, alone, *same, spec, PartitionSpec())(
        shared, member, params, examples, count
    )
