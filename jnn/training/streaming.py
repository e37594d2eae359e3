"""Training on examples that stay on the host: data larger than the device's memory, or memory-mapped files.

The steps are those of `jnn.training.program`, in the same order. An epoch is a loop of the host over blocks of
mini-batches: while the device works on one, the host reads the next. Which that is, is known before: the order of an
epoch is a function of the key and the epoch alone, so while the last block of an epoch is worked on, the first to
validate on is read, and during the last of those the first of the next epoch.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

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
from jnn.training.splitting import in_order, random_numbers
from jnn.training.structure import LEAST_VALIDATED, restored, rounded_up

T = TypeVar("T")


class _Buffers:
    """Memory of two blocks, which take turns in it: the one that is worked on and the one that is read.

    Fresh memory from the system would cost more than it does to fill it. What begins at a multiple of 64 bytes, XLA on
    CPU takes as it is; of anything else it makes a copy.
    """

    def __init__(self) -> None:
        self._blocks: list[list[np.ndarray]] = [[], []]
        self._used = 0

    def turn(self) -> None:
        """Begin a block, in the memory of the one before the last: nobody works on that any more."""
        self._blocks.reverse()
        self._used = 0

    def take(self, leaf: np.ndarray | OnDisk, numbers: np.ndarray, dtype: Any) -> np.ndarray:
        """Rows of an array, in memory that was not used for this block."""
        out = self._next((*numbers.shape, *leaf.shape[1:]), np.dtype(dtype))
        if isinstance(leaf, OnDisk):
            leaf.read(numbers, out)
        elif leaf.dtype == dtype and leaf.flags.c_contiguous and leaf.flags.aligned:
            np.take(leaf, numbers, axis=0, out=out, mode="clip")  # "raise" would fill another array first
        else:  # of which `take` would make a copy, of all of it
            out[...] = leaf[numbers]
        return out

    def _next(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        block, size = self._blocks[0], math.prod(shape) * dtype.itemsize
        if self._used == len(block):
            block.append(np.empty(0, np.uint8))
        if len(block[self._used]) < size + 63:
            block[self._used] = np.empty(size + 63, np.uint8)
        memory = block[self._used]
        self._used += 1
        begin = -memory.ctypes.data % 64
        return memory[begin : begin + size].view(dtype).reshape(shape)


@dataclass(frozen=True, eq=False)
class Source:
    """All examples, as NumPy arrays, and how many of them may lie on the device at once.

    A block that was read is there until the second one after it is.
    """

    examples: Examples
    dtype: Any
    rows_on_device: int
    buffers: _Buffers = field(default_factory=_Buffers)

    @classmethod
    def of(cls, problem: Problem, batch_size: int | None, rows_on_device: int) -> "Source":
        """The examples of a problem.

        Raises:
            ValueError: unless there are mini-batches, and room for two of them.
        """
        if batch_size is None or batch_size >= problem.count:
            raise ValueError(
                f"examples that stay on the host are taken in mini-batches: expected a batch_size below the "
                f"{problem.count} examples, got {batch_size}; leave rows_on_device out, and bring inputs that lie on "
                "disk into memory, x = np.asarray(x)"
            )
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
        self.buffers.turn()
        division = program.division
        parts = numbers if division is None else division.cut(numbers)

        def sent(leaf: np.ndarray | OnDisk, dtype: Any) -> Any:
            take = functools.partial(self.buffers.take, leaf, dtype=dtype)
            return take(parts) if division is None else division.spread(take, parts, leaf)

        x, y, weights = self.examples
        own = None if weights is None else sent(weights, self.dtype)
        return Examples(sent(x, self.dtype), sent(y, y.dtype), own)

    def firsts(self, program: Program, count: int, begin: int = 0) -> range:
        """Of `count` examples, the numbers of the mini-batches that blocks begin with, from one on."""
        assert program.batch_size is not None
        return range(begin, -(-count // program.batch_size), self.half // program.batch_size)

    def blocks(self, program: Program, order: np.ndarray, begin: int = 0) -> Iterator[Block]:
        """An epoch's mini-batches from one on, as many at a time as may be sent."""
        size, count, firsts = program.batch_size, np.asarray(len(order), int), self.firsts(program, len(order), begin)
        assert size is not None
        for first in firsts:
            some = order[first * size : (first + firsts.step) * size]
            numbers = np.pad(some, (0, firsts.step * size - len(some)), mode="edge").reshape(-1, size)
            yield Block(self.rows(program, numbers), None, np.asarray(first), np.asarray(-(-len(some) // size)), count)

    def validated_at_once(self, count: int) -> int:
        """Of `count` examples to validate on, how many a block has."""
        return min(self.half, rounded_up(count, least=LEAST_VALIDATED))

    def validation_blocks(self, program: Program, numbers: np.ndarray) -> Iterator[Block]:
        """The examples to validate on, in the order of their numbers, each block as one mini-batch."""
        size, one = self.validated_at_once(len(numbers)), np.asarray(1)
        for first in range(0, len(numbers), size):
            some = np.sort(numbers)[first : first + size]
            whole = np.pad(some, (0, size - len(some)), mode="edge")[None]
            yield Block(self.rows(program, whole), None, one, one, np.asarray(len(some)))


class Within(NamedTuple):
    """A place within an epoch: what it has carried so far, and the number of its next mini-batch."""

    carried: Pass
    step: Any


class _Ahead:
    """Blocks to be worked on one after another; while the device does, the next is read."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self._read: Block | None = None
        self._before: Any = None

    def worked_on(self, work: Callable[[Block], T]) -> T:
        """What comes of the next block, which the device may not have done yet."""
        block, self._read = self._read or next(self._blocks), None
        done = work(block)
        del block
        jax.block_until_ready(self._before)  # so there are two: the block that is worked on, and the one that is read
        self._before, self._read = done, next(self._blocks, None)
        return done


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
        self._ahead: _Ahead | None = None  # the blocks from where this is now

    def begun(self, state: State) -> Within:
        """Where it was left, or the start of the epoch after this state."""
        if self.within is not None:
            return self.within
        return Within(_begin(self._program, self._member, state), np.zeros((), int))

    def __call__(self, state: State, until: Any) -> State:
        """The state at the epoch `until`, or where a rule or a visit stops it; each call goes on from the last."""
        source, program, shared, member = self._source, self._program, self._shared, self._member
        rows = None if state.rows is None else state.rows.numbers()
        count, weights = int(shared.count) if rows is None else len(rows), source.examples.weights
        if weights is not None and rows is not None:
            weights = weights[rows]
        wide = np.promote_types(program.dtype, np.float32)
        total = jnp.asarray(count if weights is None else weights.sum(dtype=np.float64), wide)
        if program.division is not None:
            total = program.division.everywhere(total)
        while bool(programs.running(shared, state)) and int(state.epoch) < int(until):
            done, step = self.begun(state)
            self.within = None
            if self._ahead is None:
                self._ahead = _Ahead(self._blocks(state, int(step)))
            for _ in source.firsts(program, count, int(step)):
                done, step = self._ahead.worked_on(functools.partial(self._taken, total, done))
                if self.visit(state, Within(done, step)):
                    self.within = Within(done, step)
                    return state
            due = programs.is_due(program, shared, state)
            risk = self._validated(state, done) if bool(due) else np.zeros((), program.dtype)
            state = _end(program, shared, member, state, done, total, due, risk)
        return state

    def _blocks(self, state: State, begin: int) -> Iterator[Block]:
        """All that is read from a place in an epoch on, to train and to validate, should no rule stop the training."""
        source, program, shared = self._source, self._program, self._shared
        x, rows, count, places = source.examples.x, None, int(shared.count), len(shared.examples.x)
        if state.rows is not None:
            rows, places = state.rows.numbers(), len(state.rows.index)
            count = len(rows)
        held_out = None if state.held_out is None else np.sort(state.held_out.numbers())

        def drawn(epoch: int) -> Array:
            return _numbers(state._replace(epoch=np.asarray(epoch)), places, count)

        first, last = int(state.epoch), int(shared.epochs)
        following = drawn(first)
        for epoch in range(first, last):
            order = in_order(np.asarray(following))[:count] if program.shuffle else np.arange(count)
            if epoch + 1 < last:
                following = drawn(epoch + 1)  # before the device gets other work, to be known when that is in work
            order = order if rows is None else rows[order]
            order = x.shuffled(order) if program.shuffle and isinstance(x, OnDisk) else order
            yield from source.blocks(program, order, begin if epoch == first else 0)
            if held_out is not None and (epoch + 1) % int(shared.validate_every) == 0:
                yield from source.validation_blocks(program, held_out)

    def _taken(self, total: Array, before: Pass, block: Block) -> Within:
        return Within(_take(self._program, self._shared, self._member, total, before, block), block.first + block.steps)

    def _validated(self, state: State, done: Pass) -> Array:
        """Σ_n v_n (−ln p) / Σ_n v_n over the validation examples, block by block."""
        risk = functools.partial(_risk, self._program, self._shared, self._member, done.params)
        if state.held_out is None:
            error, total = risk(None)
        else:
            assert self._ahead is not None
            count = len(state.held_out.numbers())
            found = [self._ahead.worked_on(risk) for _ in range(0, count, self._source.validated_at_once(count))]
            error, total = (functools.reduce(operator.add, values) for values in zip(*found, strict=True))
        return (error / total).astype(self._program.dtype)


def _packing(program: Program, member: Member) -> Packing:
    """What packs the network's parameters, known from their shapes."""
    like = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, program.dtype), expected_parameters(program.network))
    return packing(like, restored(member.optimizer), program.platform)


@functools.partial(jax.jit, static_argnames="places")
def _numbers(state: State, places: int, count: Any) -> Array:
    """As `jnn.training.program.epoch_order` has them; the host puts them in order faster, and has them to put."""
    return random_numbers(programs.epoch_key(state), places, count)


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


@functools.partial(jax.jit, static_argnames="program")
def _risk(program: Program, shared: Shared, member: Member, params: Any, block: Block | None) -> Risk:
    """The risk on a block with one mini-batch, or on the user's own validation examples."""
    examples, count = (None, None) if block is None else (block.examples, block.count)

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
