"""The compiled training program: epochs in a while loop, mini-batches in a scan, early stopping inside.

Everything that shapes the program is in `Settings`, which is static; everything it computes with is in `Data` and
`State`, which are pytrees. `run` takes a state on to a given epoch, so the same compiled program runs to the end in
one call, or in several with visits of the host between them. `run_lanes` does so for many members at once.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jnn import backprop, objectives
from jnn.likelihoods import Likelihood
from jnn.networks import Initializer, Network, Params
from jnn.training.packing import Packing, packing
from jnn.training.splitting import shuffled, split
from jnn.training.stopping import Observation, StoppingRule

Gradient = Literal["backprop", "autodiff"]

RUNNING = 0
DIVERGED = 1
FIRST_RULE = 2
"""Codes for why training stopped; a rule's code is its place among the rules, from FIRST_RULE on."""


@dataclass(frozen=True)
class Settings:
    """What the program is compiled for."""

    network: Network
    likelihood: Likelihood
    optimizer: optax.GradientTransformation | Callable[..., optax.GradientTransformation]
    epochs: int
    batch_size: int | None
    rules: tuple[StoppingRule, ...]
    gradient: Gradient
    reduction: objectives.Reduction
    fraction: float | None
    stratify: bool
    validate_every: int
    decays: bool
    initializer: Initializer
    dtype: Any
    shuffle: bool
    platform: str


class Data(NamedTuple):
    """What the program computes with.

    Examples as rows, weights or None, the user's own validation set or None, γ and its mask or None; and what only
    members of an ensemble have: hyperparameters for the optimizer to be built from, the rows to train on and to
    validate on (negative: none), and which weights exist in a network that is smaller than the widest.
    """

    x: Array
    y: Array
    weights: Array | None
    validation: tuple[Array, Array, Array | None] | None
    weight_decay: Array
    mask: Params | None
    hyperparameters: dict[str, Array] | None = None
    rows: Array | None = None
    held_out: Array | None = None
    present: Params | None = None


class State(NamedTuple):
    """Training after some epoch. `rows` and `held_out` are the split of the examples, or None."""

    params: Params
    optimizer: Any
    key: Array
    epoch: Array
    code: Array
    best_params: Params
    best_error: Array
    best_epoch: Array
    rules: tuple[Any, ...]
    train_error: Array
    validation_error: Array
    rows: Array | None
    held_out: Array | None


@functools.partial(jax.jit, static_argnames="settings")
def start(settings: Settings, data: Data, key: Array, params: Params | None) -> State:
    """The state before the first epoch: parameters drawn unless given, validation examples set aside."""
    init_key, split_key, epoch_key = jax.random.split(key, 3)
    first: Params = params
    if params is None:
        first = settings.network.init(init_key, weights=settings.initializer, dtype=settings.dtype)
    dtype = jax.tree.leaves(first)[0].dtype
    rows, held_out = data.rows, data.held_out
    if settings.fraction is not None:
        classes = None
        if settings.stratify:
            y = data.y if rows is None else data.y[rows]
            classes = y if jnp.issubdtype(y.dtype, jnp.integer) and y.ndim == 1 else _classes(y)
        train, validation = split(split_key, len(data.x) if rows is None else len(rows), settings.fraction, classes)
        rows, held_out = (train, validation) if rows is None else (rows[train], rows[validation])
    unseen = jnp.full(settings.epochs, jnp.nan, dtype)
    return State(
        params=first,
        optimizer=optimizer_of(settings, data).init(first),
        key=epoch_key,
        epoch=jnp.zeros((), int),
        code=jnp.asarray(RUNNING, int),
        best_params=first,
        best_error=jnp.asarray(jnp.inf, dtype),
        best_epoch=jnp.zeros((), int),
        rules=tuple(rule.init(dtype) for rule in settings.rules),
        train_error=unseen,
        validation_error=unseen,
        rows=rows,
        held_out=held_out,
    )


def _classes(y: Array) -> Array:
    """The class of each example, from one-hot targets or from one column of 0 and 1."""
    return jnp.argmax(y, axis=-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1).astype(int)


@functools.partial(jax.jit, static_argnames="settings")
def run(settings: Settings, data: Data, state: State, until: Array) -> State:
    """Train until the given epoch, or until a rule stops it."""
    return _loop(settings, data, state, lambda done, state: running(settings, state) & (state.epoch < until))


@functools.partial(jax.jit, static_argnames=("settings", "axes"))
def run_lanes(settings: Settings, axes: Data, data: Data, states: State, epochs: Array, fewest: Array) -> State:
    """Train many members for some epochs, or until fewer than `fewest` of them are still running.

    `axes` says which of the data have a member axis (0) and which are common to all (None). The loop's condition is
    about all members, so that no state has to be selected by it: a member that has ended keeps its state by the same
    choice that keeps a member's state when it diverges.
    """

    def member(data: Data, state: State) -> State:
        def going(done: Array, state: State) -> Array:
            return (done < epochs) & (jax.lax.psum(running(settings, state).astype(int), "members") >= fewest)

        return _loop(settings, data, state, going)

    return jax.vmap(member, in_axes=(axes, 0), axis_name="members")(data, states)


def running(settings: Settings, state: State) -> Array:
    """Whether there are epochs left and no rule has stopped it."""
    return (state.code == RUNNING) & (state.epoch < settings.epochs)


def _loop(settings: Settings, data: Data, state: State, going: Callable[[Array, State], Array]) -> State:
    """Epochs as long as `going(epochs done in this loop, state)`."""
    train = _training_rows(settings, data, state)
    packed, first = pack(settings, data, state)
    epoch = functools.partial(_epoch, settings, data, train, packed)
    _, last = jax.lax.while_loop(
        lambda carry: going(*carry),
        lambda carry: (carry[0] + 1, epoch(carry[1])),
        (jnp.zeros((), int), first),
    )
    return unpack(packed, last)


def pack(settings: Settings, data: Data, state: State) -> tuple[Packing, State]:
    """A state as the program computes with it (see `jnn.training.packing`)."""
    packed = packing(state.params, optimizer_of(settings, data), settings.platform)
    return packed, state._replace(
        params=packed.pack(state.params),
        best_params=packed.pack(state.best_params),
        optimizer=packed.pack_state(state.optimizer),
    )


def unpack(packed: Packing, state: State) -> State:
    """The inverse of `pack`."""
    return state._replace(
        params=packed.unpack(state.params),
        best_params=packed.unpack(state.best_params),
        optimizer=packed.unpack_state(state.optimizer),
    )


def optimizer_of(settings: Settings, data: Data) -> optax.GradientTransformation:
    """The optimizer, built from a member's hyperparameters where there are any."""
    if data.hyperparameters is None:
        return cast(optax.GradientTransformation, settings.optimizer)
    return cast(Callable[..., Any], settings.optimizer)(**data.hyperparameters)


class _Rows(NamedTuple):
    """The training examples: all arrays, and which of their rows to use (None: all)."""

    x: Array
    y: Array
    weights: Array | None
    rows: Array | None
    total: Array  # Σ v_n

    @property
    def places(self) -> int:
        """How many examples there are, those that are none included."""
        return len(self.x) if self.rows is None else len(self.rows)


def _training_rows(settings: Settings, data: Data, state: State) -> _Rows:
    x, y, weights, rows = data.x, data.y, data.weights, state.rows
    if rows is not None and settings.batch_size is None:
        # Batch learning reads all rows every epoch: gather them once.
        x, y, weights, rows = x[rows], y[rows], _weights_of(rows, weights, x.dtype, data.rows is not None), None
    # In float16 there are no numbers for the sizes of large data sets: sizes are float32 at least.
    wide = jnp.promote_types(x.dtype, jnp.float32)
    v = weights if rows is None else _weights_of(rows, weights, wide, data.rows is not None)
    total = jnp.asarray(len(x) if rows is None else len(rows), wide) if v is None else jnp.sum(v, dtype=wide)
    return _Rows(x, y, weights, rows, total)


def _weights_of(rows: Array, weights: Array | None, dtype: Any, may_miss: bool) -> Array | None:
    """The weights of some rows; of those that are none, if there may be such, zero."""
    v = None if weights is None else weights[rows]
    if not may_miss:
        return v
    return (rows >= 0).astype(dtype) if v is None else jnp.where(rows >= 0, v, jnp.zeros((), v.dtype))


class Pass(NamedTuple):
    """What an epoch carries from one mini-batch to the next.

    Parameters (packed) and the optimizer's state; the sums over the mini-batches, by their shares, of the error and of
    the gradient (None if no rule asks for it).
    """

    params: Any
    optimizer: Any
    error: Array
    gradient: Any


def _epoch(settings: Settings, data: Data, train: _Rows, packed: Packing, state: State) -> State:
    """One epoch; of a state that is not running, nothing changes."""
    key, shuffle_key = jax.random.split(state.key)
    done = _pass_over(settings, data, train, packed, state, shuffle_key)
    validation_error = jnp.asarray(jnp.nan, state.train_error.dtype)
    if _has_validation(settings, data):
        risk = functools.partial(_validation_risk, settings, data, packed, state.held_out)
        validation_error = (
            risk(done.params)
            if settings.validate_every == 1
            else jax.lax.cond(is_due(settings, state), risk, lambda _: validation_error, done.params)
        )
    return after_epoch(settings, data, state, key, done, train.total, validation_error)


def is_due(settings: Settings, state: State) -> Array:
    """Whether the epoch after this state is one with validation."""
    return (state.epoch + running(settings, state)) % settings.validate_every == 0


def after_epoch(
    settings: Settings, data: Data, state: State, key: Array, done: Pass, total: Array, validation_error: Array
) -> State:
    """The state after an epoch: the best hypothesis, the stopping rules, the history.

    Args:
        settings: what the program is compiled for.
        data: what it computes with.
        state: before the epoch, packed.
        key: for the epochs to come.
        done: the epoch.
        total: Σ v_n of the training examples.
        validation_error: NaN if there was no validation.
    """
    active = running(settings, state)
    epoch = state.epoch + active
    dtype = state.train_error.dtype
    train_error = (done.error / total).astype(dtype) if settings.reduction == "sum" else done.error
    finite = jnp.isfinite(train_error)
    for leaf in jax.tree.leaves(done.params):
        finite &= jnp.all(jnp.isfinite(leaf))
    if _has_validation(settings, data):
        finite &= ~is_due(settings, state) | jnp.isfinite(validation_error)
        lowest = validation_error < state.best_error  # false for NaN
        best_error = jnp.where(lowest, validation_error, state.best_error)
        # Until something has been validated, the newest hypothesis is the best known.
        best = lowest | jnp.isinf(best_error)
    else:
        best, best_error = jnp.asarray(True), state.best_error
    norm = jnp.asarray(jnp.nan, dtype) if done.gradient is None else optax.tree.norm(done.gradient)
    seen = Observation(epoch, train_error, validation_error, norm)
    updated = [rule.update(old, seen) for rule, old in zip(settings.rules, state.rules, strict=True)]
    code = state.code
    for place, (_, stop) in reversed(list(enumerate(updated))):  # the first rule has the last word
        code = jnp.where(stop, FIRST_RULE + place, code)
    code = jnp.where(finite, code, DIVERGED)
    # A diverged epoch leaves everything but the record of its errors as it was: the last good hypothesis.
    good = finite & active
    place = jnp.where(active, epoch - 1, settings.epochs)  # beyond the end: nothing is recorded
    return State(
        params=_select(good, done.params, state.params),
        optimizer=_select(good, done.optimizer, state.optimizer),
        key=jnp.where(active, key, state.key),
        epoch=epoch,
        code=jnp.where(active, code, state.code),
        best_params=_select(good & best, done.params, state.best_params),
        best_error=jnp.where(good, best_error, state.best_error),
        best_epoch=jnp.where(good & best, epoch, state.best_epoch),
        rules=_select(active, tuple(new for new, _ in updated), state.rules),
        train_error=state.train_error.at[place].set(train_error, mode="drop"),
        validation_error=state.validation_error.at[place].set(validation_error, mode="drop"),
        rows=state.rows,
        held_out=state.held_out,
    )


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _has_validation(settings: Settings, data: Data) -> bool:
    return settings.fraction is not None or data.validation is not None or data.held_out is not None


def _validation_risk(settings: Settings, data: Data, packed: Packing, held_out: Array | None, params: Any) -> Array:
    """Σ_n v_n (−ln p) / Σ_n v_n over the validation examples, without the w-independent terms."""
    if data.validation is not None:
        x, y, weights = data.validation
    else:
        assert held_out is not None
        may_miss = data.held_out is not None or data.rows is not None
        weights = _weights_of(held_out, data.weights, data.x.dtype, may_miss)
        x, y = data.x[held_out], data.y[held_out]
    evaluate = objectives.objective(settings.network, settings.likelihood, reduction="mean")
    dtype = jax.tree.leaves(params)[0].dtype
    return evaluate(packed.unpack(params), x, y, weights).astype(dtype)


class Batches(NamedTuple):
    """For each mini-batch: what its examples count, and its share of all examples."""

    counts: Float[Array, "steps size"]
    share: Float[Array, "steps"]


def batches(settings: Settings, places: int, total: Array, size: int, actual: Array | int, dtype: Any) -> Batches:
    """The unbiased estimate (N / |S_m|) Σ_{n ∈ S_m} counts each example of the m-th batch N / |S_m| times.

    The last batch may be smaller, and then counts its examples the more; the places that it lacks count nothing.

    Args:
        settings: what the program is compiled for.
        places: how many examples there are, those that are none included.
        total: Σ v_n.
        size: |S_m|.
        actual: N.
        dtype: of the counts.
    """
    steps = -(-places // size)
    wide = total.dtype
    first = jnp.arange(steps) * size
    present = jnp.clip(actual - first, 0, size).astype(wide)
    scale = actual / jnp.maximum(present, 1)
    if settings.reduction == "mean":
        scale = scale / total
    there = jnp.arange(size)[None, :] < present[:, None]
    counts = jnp.where(there, scale[:, None], jnp.zeros((), wide)).astype(dtype)
    return Batches(counts, (present / actual).astype(dtype))


def begin_pass(settings: Settings, state: State) -> Pass:
    """Before an epoch's first mini-batch."""
    needs_gradient = any(rule.needs_gradient for rule in settings.rules)
    gradient = jax.tree.map(jnp.zeros_like, state.params) if needs_gradient else None
    return Pass(state.params, state.optimizer, jnp.zeros((), state.train_error.dtype), gradient)


def step(
    settings: Settings,
    data: Data,
    total: Array,
    packed: Packing,
    before: Pass,
    x: Array,
    y: Array,
    counts: Array,
    share: Array,
) -> Pass:
    """One update, by one mini-batch: its examples, what each counts, and its share of all."""
    update = optax.with_extra_args_support(optimizer_of(settings, data)).update
    value, error, grads, value_fn = _evaluate(settings, data, total, packed, before.params, x, y, counts)
    updates, optimizer = update(grads, before.optimizer, before.params, value=value, grad=grads, value_fn=value_fn)
    gradient = before.gradient
    if gradient is not None:
        gradient = jax.tree.map(lambda s, g: s + share * g, gradient, grads)
    return Pass(optax.apply_updates(before.params, updates), optimizer, before.error + share * error, gradient)


def _pass_over(settings: Settings, data: Data, train: _Rows, packed: Packing, state: State, key: Array) -> Pass:
    """One epoch's updates."""
    size = train.places if settings.batch_size is None else min(settings.batch_size, train.places)
    dtype = state.train_error.dtype
    may_miss = data.rows is not None and train.rows is not None
    actual = jnp.sum(train.rows >= 0) if may_miss and train.rows is not None else train.places

    def take(before: Pass, batch: tuple[Array | None, Batches]) -> tuple[Pass, None]:
        rows, (counts, share) = batch
        x, y, v = train.x, train.y, train.weights
        if rows is not None:
            x, y, v = x[rows], y[rows], None if v is None else v[rows]
        if v is not None:
            counts = v.astype(dtype) * counts
        after = step(settings, data, train.total, packed, before, x, y, counts, share)
        if may_miss:  # so much that a whole batch may be missing
            after = _select(share > 0, after, before)
        return after, None

    carry = begin_pass(settings, state)
    all_batches = batches(settings, train.places, train.total, size, actual, dtype)
    if settings.batch_size is None:
        carry, _ = take(carry, (None, jax.tree.map(lambda leaf: leaf[0], all_batches)))
        return carry
    missing = train.rows < 0 if may_miss and train.rows is not None else None
    if settings.shuffle:
        order = shuffled(key, train.places, missing)
    else:
        order = jnp.arange(train.places) if missing is None else jnp.argsort(missing, stable=True)
    if train.rows is not None:
        order = train.rows[order]
    # The places beyond the last example hold it again; they count nothing.
    steps = len(all_batches.share)
    order = jnp.pad(order, (0, steps * size - train.places), mode="edge").reshape(steps, size)
    carry, _ = jax.lax.scan(take, carry, (order, all_batches))
    return carry


def _evaluate(
    settings: Settings, data: Data, total: Array, packed: Packing, params: Any, x: Array, y: Array, counts: Array
) -> tuple[Array, Array, Any, Any]:
    """The batch's estimate of the objective and of its data term, the gradient, and the objective as a function."""
    tree = packed.unpack(params)
    if settings.gradient == "autodiff":
        plain = objectives.objective(settings.network, settings.likelihood, reduction="sum")
        error_fn = functools.partial(plain, x=x, y=y, weights=counts)
        error, grads = jax.value_and_grad(error_fn)(tree)
    else:
        by_hand = backprop.value_and_grad(settings.network, settings.likelihood, reduction="sum")
        error, grads = by_hand(tree, x, y, counts)
        error_fn = backprop.differentiable(by_hand, x, y, counts)
    if data.present is not None:
        grads = jax.tree.map(lambda g, there: g * there, grads, data.present)
    grads = packed.pack(grads)
    if not settings.decays:
        return error, error, grads, lambda params: error_fn(packed.unpack(params))
    # On the packed weights, where it is part of the optimizer's one pass; and what only line searches ask for, the
    # objective's value, costs the others nothing.
    mask = objectives.decay_mask(settings.network, settings.likelihood) if data.mask is None else data.mask
    mask = packed.pack_mask(mask)
    gamma = data.weight_decay / total if settings.reduction == "mean" else data.weight_decay
    gamma = gamma.astype(counts.dtype)
    decay = objectives.penalty_gradient(params, mask)
    grads = jax.tree.map(lambda g, w: g + gamma.astype(w.dtype) * w, grads, decay)
    value = error + gamma * objectives.penalty(params, mask)
    return value, error, grads, lambda p: error_fn(packed.unpack(p)) + gamma * objectives.penalty(p, mask)


def reasons(settings: Settings) -> tuple[str, ...]:
    """What each code means."""
    return (
        f"all {settings.epochs} epochs were run",
        "the training error, the validation risk or a parameter became NaN or infinite",
        *(rule.reason for rule in settings.rules),
    )
