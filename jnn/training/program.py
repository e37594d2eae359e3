"""The compiled training program: epochs in a loop, mini-batches in a loop inside, observers after each epoch.

`Program` is what it is compiled for, and static. What it computes with are pytrees: `Shared`, which all members of
an ensemble have in common; `Member`, what one network has of its own, which is vmapped whole; and `State`. A single
network is a member without companions.

`run` takes a state on to a given epoch, so that the same compiled program runs to the end in one call, or in several
with visits of the host between them; `run_lanes` does so for many members at once. An epoch is `begin`, `take` for each
block of examples, `end`: data on the device are one block, data that stay on the host are several
(`jnn.training.streaming`). Where mini-batches are divided among devices, each of them runs the whole program
(`jnn.training.dividing`).
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, Key

from jnn import backprop, curvature, objectives
from jnn.likelihoods import Likelihood
from jnn.networks import Network, Params
from jnn.training.dividing import Division, on_each, part, places, summed
from jnn.training.observers import Best, Divergence, KeepBest, Record, Recorded
from jnn.training.packing import Packing, packing
from jnn.training.splitting import Rows, shuffled, split_places
from jnn.training.stopping import Observation
from jnn.training.structure import is_traced, restored

Gradient = Literal["backprop", "autodiff"]

RUNNING = 0
DIVERGED = 1
FIRST_RULE = 2
"""Codes for why training stopped; a rule's code is its place among the rules, from FIRST_RULE on."""


@dataclass(frozen=True)
class Program:
    """What a training program is compiled for."""

    network: Network
    likelihood: Likelihood
    gradient: Gradient
    reduction: objectives.Reduction
    batch_size: int | None  # examples a step; None: batch learning
    shuffle: bool
    decays: bool  # whether there is a weight decay
    split: Literal["none", "plain", "stratified"]  # how the program sets validation examples aside
    places: tuple[int, int]  # the most rows to train on and to validate on, where they are told apart
    room: int  # for how many epochs the history has room
    dtype: Any
    platform: str  # of the device: "cpu", "gpu", ...
    steps: int | None = None  # mini-batches an epoch, where the compiler is better told; None: as many as needed
    ragged: bool = False  # whether members may have different numbers of mini-batches
    axis: str | None = None  # the name of the axis of members; None: a single network
    division: Division | None = None  # of mini-batches among devices; None: one device
    curvature: bool = False  # whether the optimizer asks for the Gauss-Newton matrix


class Examples(NamedTuple):
    """Inputs and targets as rows, and their weights (None: one each)."""

    x: Any
    y: Any
    weights: Any


class Shared(NamedTuple):
    """What all members have in common."""

    examples: Examples  # all that there are, then rows to fill up the arrays
    count: Any  # N, how many there are
    validation: Examples | None  # to validate on; rows that fill up weigh 0
    mask: Params | None  # which weights decay; None: the likelihood's own choice
    epochs: Any  # the most
    validate_every: Any


class Member(NamedTuple):
    """What one network has of its own; optimizer, rules and initializer as `structure.as_data` makes them."""

    key: Array
    params: Params | None  # where to start; None: to be drawn
    optimizer: Any
    rules: Any
    initializer: Any
    weight_decay: Any
    aside: Any  # how many of its examples to set aside for validation
    rows: Rows | None = None  # which examples to train on; None: all
    held_out: Rows | None = None  # which to validate on
    weights: Any = None  # of the examples
    present: Params | None = None  # 1 for weights that exist in a network smaller than the widest


class State(NamedTuple):
    """Training after some epoch: hypothesis, optimizer, observers, and the split of the examples (None: no split)."""

    params: Params
    optimizer: Any
    key: Array
    epoch: Int[Array, "*members"]
    code: Int[Array, "*members"]
    record: Recorded
    best: Best
    rules: tuple[Any, ...]
    rows: Rows | None
    held_out: Rows | None


# --- before the first epoch


class Compiled:
    """A training program, compiled for what its `Program` says.

    On a CPU without LLVM's costlier passes, unless XLA_FLAGS says how far to optimize: that takes a third off the time
    to compile, and nothing from the speed (`experiments/benchmarks/NOTES.md`). Inside of another program, as under
    `jit` and `vmap`, that one's options hold.
    """

    def __init__(self, function: Callable[..., State]) -> None:
        functools.update_wrapper(self, function)
        self._plain: Any = jax.jit(function, static_argnames="program")
        self._on_cpu = self._plain
        if (level := "xla_backend_optimization_level") not in os.environ.get("XLA_FLAGS", ""):
            self._on_cpu = jax.jit(function, static_argnames="program", compiler_options={level: 1})

    def __call__(self, program: Program, *arguments: Any) -> State:
        """Run it."""
        alone = program.platform == "cpu" and not is_traced(arguments)
        return (self._on_cpu if alone else self._plain)(program, *arguments)

    def count(self) -> int:
        """How many programs were compiled."""
        return sum(compiled._cache_size() for compiled in {self._plain, self._on_cpu})


@Compiled
def start(program: Program, shared: Shared, member: Member) -> State:
    """The state before the first epoch: parameters drawn unless given, validation examples set aside."""
    return on_each(program.division, functools.partial(_start, program))(shared, member)


def _start(program: Program, shared: Shared, member: Member) -> State:
    init_key, split_key, epoch_key = jax.random.split(member.key, 3)
    first: Params = member.params
    if first is None:
        first = program.network.init(init_key, weights=restored(member.initializer), dtype=program.dtype)
    rows, held_out = member.rows, member.held_out
    if program.split != "none":
        rows, held_out = _set_aside(program, shared, member, split_key)
    return State(
        params=first,
        optimizer=restored(member.optimizer).init(first),
        key=epoch_key,
        epoch=jnp.zeros((), int),
        code=jnp.asarray(RUNNING, int),
        record=Record(program.room).init(program.dtype),
        best=KeepBest(first).init(program.dtype),
        rules=tuple(rule.init(program.dtype) for rule in restored(member.rules)),
        rows=rows,
        held_out=held_out,
    )


def _set_aside(program: Program, shared: Shared, member: Member, key: Array) -> tuple[Rows, Rows]:
    """Divide the member's rows, or all examples."""
    own = member.rows
    classes = None
    if program.split == "stratified":
        y = shared.examples.y if own is None else shared.examples.y[own.index]
        classes = jnp.argmax(y, axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(len(y)).astype(int)
    count = shared.count if own is None else own.count
    size = len(shared.examples.x) if own is None else len(own.index)
    train, held_out = split_places(key, count, member.aside, program.places, size, classes)
    if own is None:
        return train, held_out
    return train._replace(index=own.index[train.index]), held_out._replace(index=own.index[held_out.index])


# --- the loop over epochs


@Compiled
def run(program: Program, shared: Shared, member: Member, state: State, until: Array | np.ndarray) -> State:
    """Train until the given epoch, or until a rule stops it."""

    def alone(shared: Shared, member: Member, state: State, until: Array | np.ndarray) -> State:
        return _loop(program, shared, member, state, lambda _, state: running(shared, state) & (state.epoch < until))

    return on_each(program.division, alone)(shared, member, state, until)


@Compiled
def start_lanes(program: Program, shared: Shared, members: Member) -> State:
    """Members before their first epoch."""
    return jax.vmap(functools.partial(_start, program, shared))(members)


@Compiled
def run_lanes(program: Program, shared: Shared, members: Member, states: State, epochs: Array, fewest: Array) -> State:
    """Train many members for some epochs, or until fewer than `fewest` of them are still running.

    The loop's condition is about all members, so that no state has to be selected by it: a member that has ended keeps
    its state by the same choice that keeps a member's state when it diverges.
    """

    def one(member: Member, state: State) -> State:
        def going(done: Array, state: State) -> Array:
            return (done < epochs) & (jax.lax.psum(running(shared, state).astype(int), program.axis) >= fewest)

        return _loop(program, shared, member, state, going)

    return jax.vmap(one, axis_name=program.axis)(members, states)


def running(shared: Shared, state: State) -> Bool[Array, ""]:
    """Whether there are epochs left and no rule has stopped it."""
    return (state.code == RUNNING) & (state.epoch < shared.epochs)


def _loop(
    program: Program, shared: Shared, member: Member, state: State, going: Callable[[Array, State], Array]
) -> State:
    """Epochs as long as `going(epochs done in this loop, state)`."""
    train = training_examples(program, shared, member, state)
    packed, first = pack(program, member, state)

    def epoch(carry: tuple[Array, State]) -> tuple[Array, State]:
        done, state = carry
        block = block_of_all(program, train, state)
        after = take(program, shared, member, train.total, packed, begin(member, state), block)
        due = is_due(program, shared, state)
        risk = validated(program, shared, member, packed, state.held_out, after.params, due)
        return done + 1, end(program, shared, member, state, after, train.total, due, risk)

    _, last = jax.lax.while_loop(lambda carry: going(*carry), epoch, (jnp.zeros((), int), first))
    return unpack(packed, last)


def pack(program: Program, member: Member, state: State) -> tuple[Packing, State]:
    """A state as the program computes with it (see `jnn.training.packing`)."""
    packed = packing(state.params, restored(member.optimizer), program.platform)
    return packed, state._replace(
        params=packed.pack(state.params),
        best=state.best._replace(params=packed.pack(state.best.params)),
        optimizer=packed.pack_state(state.optimizer),
    )


def unpack(packed: Packing, state: State) -> State:
    """The inverse of `pack`."""
    return state._replace(
        params=packed.unpack(state.params),
        best=state.best._replace(params=packed.unpack(state.best.params)),
        optimizer=packed.unpack_state(state.optimizer),
    )


def _most(program: Program, value: Any) -> Any:
    """The largest of all members' values, the same for all."""
    return value if program.axis is None else jax.lax.pmax(value, program.axis)


# --- an epoch


class Training(NamedTuple):
    """The training examples: arrays, which of their rows to use (None: the first `count`), how many, and Σ v_n."""

    examples: Examples
    index: Int[Array | np.ndarray, "places"] | None  # pyright: ignore[reportIncompatibleMethodOverride]
    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    total: Float[Array, ""]


class Block(NamedTuple):
    """Some of an epoch's mini-batches."""

    # Arrays with their rows; without an order, `(steps, size)` of them, or of a divided one `(steps, own, places)`.
    examples: Examples
    order: Int[Array, "places"] | None  # the rows as they are taken
    first: Any  # number of the first mini-batch
    steps: Any  # how many mini-batches
    # How many training examples the whole epoch has.
    count: Int[Array | np.ndarray, ""]  # pyright: ignore[reportIncompatibleMethodOverride]


class Pass(NamedTuple):
    """What an epoch carries from one mini-batch to the next.

    Parameters (packed) and the optimizer's state; the sums over the mini-batches, by their shares, of the error and of
    the gradient (None if no rule asks for it).
    """

    params: Any
    optimizer: Any
    error: Float[Array, ""]
    gradient: Any


def training_examples(program: Program, shared: Shared, member: Member, state: State) -> Training:
    """What to train on; batch learning reads all rows in every epoch, and so gathers them once."""
    x, y, weights = shared.examples
    weights = weights if member.weights is None else member.weights
    wide = np.promote_types(program.dtype, np.float32)  # float16 has no numbers for the sizes of large data sets
    if state.rows is None:
        index, count, size = None, shared.count, len(x)
        v = weights
    else:
        index, count = state.rows
        size = len(index)
        v = None if weights is None else weights[index]
        if program.batch_size is None:
            x, y, weights, index = x[index], y[index], v, None
    there = jnp.arange(size) < count
    total = jnp.asarray(count, wide) if v is None else jnp.sum(jnp.where(there, v, 0), dtype=wide)
    if program.batch_size is None:
        x, y, weights = jax.tree.map(functools.partial(part, program.division), (x, y, weights))
    return Training(Examples(x, y, weights), index, jnp.asarray(count, int), total)


def block_of_all(program: Program, train: Training, state: State) -> Block:
    """The epoch as one block: examples that lie on the device."""
    size = program.batch_size
    if size is None:
        return Block(train.examples, None, 0, 1, train.count)
    places = len(train.examples.x) if train.index is None else len(train.index)
    order = epoch_order(program, state, places, train.count)
    order = order if train.index is None else train.index[order]
    # The places beyond the last example hold it again; they count nothing.
    order = jnp.pad(order, (0, -places % size), mode="edge")
    steps = _most(program, -(-train.count // size)) if program.steps is None else program.steps
    return Block(train.examples, order, 0, steps, train.count)


def epoch_order(program: Program, state: State, places: int, count: Any) -> Int[Array, "places"]:
    """The order of the training examples in the epoch after this state: a function of the key and the epoch alone."""
    if not program.shuffle:
        return jnp.arange(places)
    return shuffled(epoch_key(state), places, count)


def epoch_key(state: State) -> Key[Array, "*members"]:
    """What decides the order of the epoch after this state."""
    return jax.random.fold_in(state.key, state.epoch)


def begin(member: Member, state: State) -> Pass:
    """Before an epoch's first mini-batch."""
    needs_gradient = any(rule.needs_gradient for rule in restored(member.rules))
    gradient = jax.tree.map(jnp.zeros_like, state.params) if needs_gradient else None
    return Pass(state.params, state.optimizer, jnp.zeros((), state.record.train_error.dtype), gradient)


def take(
    program: Program, shared: Shared, member: Member, total: Array, packed: Packing, before: Pass, block: Block
) -> Pass:
    """The updates of a block of mini-batches.

    The unbiased estimate (N / |S_m|) Σ_{n ∈ S_m} counts each example of the m-th mini-batch N / |S_m| times. The last
    mini-batch may be smaller, and then counts its examples the more; the places that it lacks count nothing.
    """
    division, size = program.division, program.batch_size
    if size is None:
        lead = np.shape(block.examples.y)[: 1 if division is None else 2]
        size = int(np.prod(lead)) * (1 if division is None else len(division.devices))
    wide = total.dtype
    all_examples = block.count.astype(wide)

    update = optax.with_extra_args_support(restored(member.optimizer)).update

    def batch(number: Array | int, present: Array) -> Examples:
        """The rows of a mini-batch, and what each of them counts."""
        rows = block.examples
        if program.batch_size is not None and block.order is not None:
            order = part(division, jax.lax.dynamic_slice_in_dim(block.order, number * size, size))
            rows = jax.tree.map(lambda leaf: leaf[order], rows)
        elif program.batch_size is not None:
            rows = jax.tree.map(lambda leaf: leaf[number], rows)
        scale = all_examples / jnp.maximum(present, 1)
        if program.reduction == "mean":
            scale = scale / total
        counts = jnp.where(places(division, size) < present, scale, 0).astype(program.dtype)
        return rows._replace(weights=counts if rows.weights is None else rows.weights.astype(program.dtype) * counts)

    def step(number: Array | int, before: Pass) -> Pass:
        present = jnp.clip(block.count - (block.first + number) * size, 0, size)
        examples = batch(number, present)
        share = (present / all_examples).astype(program.dtype)
        value, error, grads, value_fn = _evaluated(program, shared, member, total, packed, before.params, examples)
        extra = {"value": value, "grad": grads, "value_fn": value_fn}
        if program.curvature:
            extra["gauss_newton_fn"] = _GaussNewton(program, shared, member, total, examples)
        updates, optimizer = update(grads, before.optimizer, before.params, **extra)
        gradient = before.gradient
        if gradient is not None:
            gradient = jax.tree.map(lambda s, g: s + share * g, gradient, grads)
        params = optax.apply_updates(before.params, updates)
        after = Pass(params, optimizer, before.error + share * error, gradient)
        return _select(present > 0, after, before) if program.ragged else after

    if program.batch_size is None:
        return step(0, before)
    return jax.lax.fori_loop(0, block.steps, step, before)


def _evaluated(
    program: Program, shared: Shared, member: Member, total: Array, packed: Packing, params: Any, batch: Examples
) -> tuple[Array, Array, Any, Any]:
    """The batch's estimate of the objective and of its data term, the gradient, and the objective as a function."""
    network, likelihood = program.network, program.likelihood
    if program.gradient == "autodiff":
        of_batch = objectives.objective(network, likelihood, reduction="sum")
        value_and_grad = jax.value_and_grad(of_batch)
    else:
        of_batch = None
        value_and_grad = backprop.value_and_grad(network, likelihood, reduction="sum")

    def evaluate(params: Any) -> tuple[Array, Any]:
        tree = packed.unpack(params)

        def of_part(part: Examples) -> tuple[Array, Any]:
            error, grads = value_and_grad(tree, *part)
            if member.present is not None:
                grads = jax.tree.map(lambda g, there: g * there, grads, member.present)
            return error, packed.pack(grads)

        return summed(program.division, of_part, batch)

    error, grads = evaluate(params)
    error_fn = backprop.differentiable(evaluate)
    if of_batch is not None and program.division is None:
        error_fn = lambda params: of_batch(packed.unpack(params), *batch)  # noqa: E731
    if not program.decays:
        return error, error, grads, error_fn
    # On the packed weights, where it is part of the optimizer's one pass; and what only line searches ask for, the
    # objective's value, costs the others nothing.
    gamma, mask = _decay(program, shared, member, total)
    mask = packed.pack_mask(mask)
    decay = objectives.penalty_gradient(params, mask)
    grads = jax.tree.map(lambda g, w: g + gamma.astype(w.dtype) * w, grads, decay)
    value = error + gamma * objectives.penalty(params, mask)
    return value, error, grads, lambda p: error_fn(p) + gamma * objectives.penalty(p, mask)


def _decay(program: Program, shared: Shared, member: Member, total: Array) -> tuple[Any, Params]:
    """γ, or γ/N, and which weights decay."""
    gamma = member.weight_decay / total if program.reduction == "mean" else member.weight_decay
    mask = objectives.decay_mask(program.network, program.likelihood) if shared.mask is None else shared.mask
    return gamma.astype(program.dtype), mask


class _GaussNewton(NamedTuple):
    """The Gauss-Newton matrix of the objective over some examples, and its products with vectors.

    (An optimizer that asks for it has its parameters unpacked.)
    """

    program: Program
    shared: Shared
    member: Member
    total: Array
    examples: Examples

    def matrix(self, params: Params) -> Float[Array, "P P"]:
        """G + γ; rows of weights that a narrower network does not have are 0."""
        g = curvature.gauss_newton(self.program.network, self.program.likelihood, reduction="sum")
        matrix = summed(self.program.division, lambda part: g(params, part.x, part.weights), self.examples)
        matrix += jnp.diag(ravel_pytree(self._decayed(jax.tree.map(jnp.ones_like, params)))[0])
        if self.member.present is None:
            return matrix
        there = ravel_pytree(self.member.present)[0]
        return matrix * there[:, None] * there[None, :]

    def product(self, params: Params, v: Params) -> Params:
        """(G + γ) v."""
        present = self.member.present
        there = v if present is None else jax.tree.map(jnp.multiply, v, present)
        g = curvature.gauss_newton_vector_product(self.program.network, self.program.likelihood, reduction="sum")
        found = summed(self.program.division, lambda part: g(params, there, part.x, part.weights), self.examples)
        found = jax.tree.map(jnp.add, found, self._decayed(there))
        return found if present is None else jax.tree.map(jnp.multiply, found, present)

    def _decayed(self, v: Params) -> Params:
        """γ v, 0 where a weight does not decay."""
        if not self.program.decays:
            return jax.tree.map(jnp.zeros_like, v)
        gamma, mask = _decay(self.program, self.shared, self.member, self.total)
        return jax.tree.map(lambda w: gamma.astype(w.dtype) * w, objectives.penalty_gradient(v, mask))


def is_due(program: Program, shared: Shared, state: State) -> Bool[Array, ""] | bool:
    """Whether the epoch after this state is one with validation."""
    if shared.validation is None and state.held_out is None:
        return False
    return (state.epoch + _active(program, shared, state)) % shared.validate_every == 0


def validated(
    program: Program, shared: Shared, member: Member, packed: Packing, held_out: Rows | None, params: Any, due: Any
) -> Float[Array, ""]:
    """The risk on the validation examples, if that is due for any member; else 0."""
    nothing = jnp.zeros((), program.dtype)
    if shared.validation is None and held_out is None:
        return nothing

    def compute(params: Any) -> Array:
        risk = validation_risk(program, packed, params, validation_examples(program, shared, member, held_out))
        return (risk.error / risk.total).astype(program.dtype)

    return jax.lax.cond(_most(program, due.astype(int)) > 0, compute, lambda _: nothing, params)


def validation_examples(program: Program, shared: Shared, member: Member, held_out: Rows | None) -> Examples:
    """What to validate on here; weighted by 0 in places that hold no example."""
    own = functools.partial(part, program.division)
    if shared.validation is not None:
        x, y, weights = jax.tree.map(own, shared.validation)
        place = places(program.division, len(shared.validation.x))
        return Examples(x, y, jnp.where(place < len(shared.validation.x), weights, 0))
    assert held_out is not None
    x, y, weights = shared.examples
    weights = weights if member.weights is None else member.weights
    index = own(jnp.asarray(held_out.index))
    there = places(program.division, len(held_out.index)) < held_out.count
    counts = there.astype(program.dtype) if weights is None else jnp.where(there, weights[index], 0)
    return Examples(x[index], y[index], counts)


class Risk(NamedTuple):
    """Σ_n v_n (−ln p), without the w-independent terms, and Σ_n v_n."""

    error: Float[Array, ""]
    total: Float[Array, ""]


def validation_risk(program: Program, packed: Packing, params: Any, examples: Examples) -> Risk:
    """The risk on examples, or parts of them."""
    wide = np.promote_types(program.dtype, np.float32)
    evaluate = objectives.objective(program.network, program.likelihood, reduction="sum")
    tree = packed.unpack(params)

    def of_part(part: Examples) -> Risk:
        counts = part.weights.astype(program.dtype)
        return Risk(evaluate(tree, part.x, part.y, counts).astype(wide), jnp.sum(counts, dtype=wide))

    return summed(program.division, of_part, examples)


def end(
    program: Program, shared: Shared, member: Member, state: State, after: Pass, total: Array, due: Any, risk: Array
) -> State:
    """The state after an epoch: what was seen is told to every observer, and the first that says so stops training.

    A diverged epoch leaves the last good hypothesis; of a network that has ended, nothing changes.
    """
    active = _active(program, shared, state)
    train_error = after.error / total if program.reduction == "sum" else after.error
    train_error = train_error.astype(program.dtype)
    finite = jnp.isfinite(train_error) & (~jnp.asarray(due) | jnp.isfinite(risk))
    for leaf in jax.tree.leaves(after.params):
        finite &= jnp.all(jnp.isfinite(leaf))
    norm = jnp.zeros((), program.dtype) if after.gradient is None else optax.tree.norm(after.gradient)
    epoch = state.epoch + active
    seen = Observation(epoch, train_error, risk, norm, due, finite, active, after.params, after.optimizer)

    rules = restored(member.rules)
    observers: tuple[Any, ...] = (Record(program.room), KeepBest(None), Divergence(), *rules)
    before = (state.record, state.best, (), *state.rules)
    observed = [observer.update(old, seen) for observer, old in zip(observers, before, strict=True)]
    (record, _), (best, _), *others = observed
    code = state.code
    for place, (_, stop) in reversed(list(enumerate(others))):  # the first has the last word
        code = jnp.where(stop, DIVERGED + place, code)
    good = finite & active
    return State(
        params=_select(good, after.params, state.params),
        optimizer=_select(good, after.optimizer, state.optimizer),
        key=state.key,
        epoch=epoch,
        code=jnp.where(active, code, state.code),
        record=record,
        best=best,
        rules=_select(active, tuple(new for new, _ in others[1:]), state.rules),
        rows=state.rows,
        held_out=state.held_out,
    )


def _active(program: Program, shared: Shared, state: State) -> Any:
    """Whether the network is in training: a single one always is, as long as the loop runs."""
    return True if program.axis is None else running(shared, state)


def _select(condition: Any, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
