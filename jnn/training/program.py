"""The compiled training program: epochs in a while loop, mini-batches in a scan, early stopping inside.

Everything that shapes the program is in `Settings`, which is static; everything it computes with is in `Data` and
`State`, which are pytrees. `run` takes a state on to a given epoch, so the same compiled program runs to the end in
one call, or in several with visits of the host between them.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from jnn import backprop, objectives
from jnn.likelihoods import Likelihood
from jnn.networks import Initializer, Network, Params
from jnn.training.splitting import split
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
    optimizer: optax.GradientTransformation
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


class Data(NamedTuple):
    """Examples as rows, weights or None, the user's own validation set or None, and γ with its mask or None."""

    x: Array
    y: Array
    weights: Array | None
    validation: tuple[Array, Array, Array | None] | None
    weight_decay: Array
    mask: Params | None


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
    rows = held_out = None
    if settings.fraction is not None:
        classes = None
        if settings.stratify:
            y = data.y
            classes = y if jnp.issubdtype(y.dtype, jnp.integer) and y.ndim == 1 else _classes(y)
        rows, held_out = split(split_key, len(data.x), settings.fraction, classes)
    unseen = jnp.full(settings.epochs, jnp.nan, dtype)
    return State(
        params=first,
        optimizer=settings.optimizer.init(first),
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
    train = _training_rows(settings, data, state)

    def unfinished(state: State) -> Array:
        return (state.code == RUNNING) & (state.epoch < until)

    return jax.lax.while_loop(unfinished, lambda state: _epoch(settings, data, train, state), state)


class _Rows(NamedTuple):
    """The training examples: all arrays, and which of their rows to use (None: all)."""

    x: Array
    y: Array
    weights: Array | None
    rows: Array | None
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]  (hides tuple.count)
    total: Array  # Σ v_n


def _training_rows(settings: Settings, data: Data, state: State) -> _Rows:
    x, y, weights, rows = data.x, data.y, data.weights, state.rows
    if rows is not None and settings.batch_size is None:
        # Batch learning reads all rows every epoch: gather them once.
        x, y, weights, rows = x[rows], y[rows], None if weights is None else weights[rows], None
    count = len(x) if rows is None else len(rows)
    # In float16 there are no numbers for the sizes of large data sets: sizes are float32 at least.
    wide = jnp.promote_types(x.dtype, jnp.float32)
    v = weights if weights is None or rows is None else weights[rows]
    total = jnp.asarray(count, wide) if v is None else jnp.sum(v, dtype=wide)
    return _Rows(x, y, weights, rows, count, total)


def _epoch(settings: Settings, data: Data, train: _Rows, state: State) -> State:
    key, shuffle_key = jax.random.split(state.key)
    params, optimizer, train_error, gradient_norm = _pass_over(settings, data, train, state, shuffle_key)
    epoch = state.epoch + 1
    dtype = state.train_error.dtype
    finite = jnp.isfinite(train_error)
    for leaf in jax.tree.leaves(params):
        finite &= jnp.all(jnp.isfinite(leaf))

    validation_error = jnp.asarray(jnp.nan, dtype)
    if _has_validation(settings, data):
        due = epoch % settings.validate_every == 0
        risk = functools.partial(_validation_risk, settings, data, state.held_out)
        validation_error = (
            risk(params)
            if settings.validate_every == 1
            else jax.lax.cond(due, risk, lambda _: validation_error, params)
        )
        finite &= ~due | jnp.isfinite(validation_error)
        lowest = validation_error < state.best_error  # false for NaN
        best_error = jnp.where(lowest, validation_error, state.best_error)
        # Until something has been validated, the newest hypothesis is the best known.
        best = lowest | jnp.isinf(best_error)
    else:
        best, best_error = jnp.asarray(True), state.best_error

    seen = Observation(epoch, train_error, validation_error, gradient_norm)
    updated = [rule.update(old, seen) for rule, old in zip(settings.rules, state.rules, strict=True)]
    code = state.code
    for place, (_, stop) in reversed(list(enumerate(updated))):  # the first rule has the last word
        code = jnp.where(stop, FIRST_RULE + place, code)
    code = jnp.where(finite, code, DIVERGED)
    # A diverged epoch leaves everything but the record of its errors as it was: the last good hypothesis.
    keep = functools.partial(_select, finite)
    return State(
        params=keep(params, state.params),
        optimizer=keep(optimizer, state.optimizer),
        key=key,
        epoch=epoch,
        code=code,
        best_params=_select(finite & best, params, state.best_params),
        best_error=jnp.where(finite, best_error, state.best_error),
        best_epoch=jnp.where(finite & best, epoch, state.best_epoch),
        rules=tuple(new for new, _ in updated),
        train_error=state.train_error.at[epoch - 1].set(train_error),
        validation_error=state.validation_error.at[epoch - 1].set(validation_error),
        rows=state.rows,
        held_out=state.held_out,
    )


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def _has_validation(settings: Settings, data: Data) -> bool:
    return settings.fraction is not None or data.validation is not None


def _validation_risk(settings: Settings, data: Data, held_out: Array | None, params: Params) -> Array:
    """Σ_n v_n (−ln p) / Σ_n v_n over the validation examples, without the w-independent terms."""
    if data.validation is not None:
        x, y, weights = data.validation
    else:
        x, y, weights = data.x[held_out], data.y[held_out], None if data.weights is None else data.weights[held_out]
    evaluate = objectives.objective(settings.network, settings.likelihood, reduction="mean")
    dtype = jax.tree.leaves(params)[0].dtype
    return evaluate(params, x, y, weights).astype(dtype)


def _pass_over(
    settings: Settings, data: Data, train: _Rows, state: State, key: Array
) -> tuple[Params, Any, Array, Array]:
    """One epoch's updates: the parameters and optimizer after it, its risk per example, and the gradient's norm."""
    size = train.count if settings.batch_size is None else min(settings.batch_size, train.count)
    steps = -(-train.count // size)
    dtype = state.train_error.dtype
    needs_gradient = any(rule.needs_gradient for rule in settings.rules)
    no_gradient = jax.tree.map(jnp.zeros_like, state.params) if needs_gradient else None
    update = optax.with_extra_args_support(settings.optimizer).update

    def step(carry: tuple[Any, ...], batch: tuple[Array | None, Array]) -> tuple[tuple[Any, ...], None]:
        params, optimizer, error_sum, gradient_sum = carry
        rows, number = batch
        x, y, v = train.x, train.y, train.weights
        if rows is not None:
            x, y, v = x[rows], y[rows], None if v is None else v[rows]
        # The last batch may be smaller: its missing examples count nothing, the others the more.
        present = size if train.count % size == 0 else jnp.minimum(size, train.count - number * size)
        scale = train.count / present
        if settings.reduction == "mean":
            scale = scale / train.total
        scale = jnp.asarray(scale, dtype)
        counts = jnp.broadcast_to(scale, size) if v is None else v.astype(dtype) * scale
        if train.count % size:
            counts = jnp.where(jnp.arange(size) < present, counts, jnp.zeros((), dtype))
        value, error, grads, value_fn = _evaluate(settings, data, train, params, x, y, counts)
        updates, optimizer = update(grads, optimizer, params, value=value, grad=grads, value_fn=value_fn)
        share = jnp.asarray(present / train.count, dtype)
        if needs_gradient:
            gradient_sum = jax.tree.map(lambda s, g: s + share * g, gradient_sum, grads)
        return (optax.apply_updates(params, updates), optimizer, error_sum + share * error, gradient_sum), None

    carry = (state.params, state.optimizer, jnp.zeros((), dtype), no_gradient)
    if settings.batch_size is None:
        carry, _ = step(carry, (None, jnp.zeros((), int)))
    else:
        order = (
            jax.random.permutation(key, train.count) if train.rows is None else jax.random.permutation(key, train.rows)
        )
        # The places beyond the last example hold it again; they count nothing.
        order = jnp.pad(order, (0, steps * size - train.count), mode="edge").reshape(steps, size)
        carry, _ = jax.lax.scan(step, carry, (order, jnp.arange(steps)))
    params, optimizer, error, gradient_sum = carry
    if settings.reduction == "sum":
        error = (error / train.total).astype(dtype)
    norm = optax.tree.norm(gradient_sum) if needs_gradient else jnp.asarray(jnp.nan, dtype)
    return params, optimizer, error, norm


def _evaluate(
    settings: Settings, data: Data, train: _Rows, params: Params, x: Array, y: Array, counts: Array
) -> tuple[Array, Array, Params, Any]:
    """The batch's estimate of the objective and of its data term, the gradient, and the objective as a function."""
    gamma: Any = 0.0
    mask = objectives.decay_mask(settings.network, settings.likelihood) if data.mask is None else data.mask
    if settings.decays:
        gamma = data.weight_decay
        if settings.reduction == "mean":
            gamma = gamma / train.total
        gamma = gamma.astype(counts.dtype)
    arguments: dict[str, Any] = {"reduction": "sum", "weight_decay": gamma, "mask": mask}
    plain = objectives.objective(settings.network, settings.likelihood, **arguments)
    if settings.gradient == "autodiff":
        value_fn = functools.partial(plain, x=x, y=y, weights=counts)
        value, grads = jax.value_and_grad(value_fn)(params)
    else:
        by_hand = backprop.value_and_grad(settings.network, settings.likelihood, **arguments)
        value, grads = by_hand(params, x, y, counts)
        value_fn = backprop.differentiable(by_hand, x, y, counts)
    error = value - gamma * objectives.penalty(params, mask) if settings.decays else value
    return value, error, grads, value_fn


def reasons(settings: Settings) -> tuple[str, ...]:
    """What each code means."""
    return (
        f"all {settings.epochs} epochs were run",
        "the training error, the validation risk or a parameter became NaN or infinite",
        *(rule.reason for rule in settings.rules),
    )
