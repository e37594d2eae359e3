"""`fit`: starts the compiled program, and visits it for whoever watches or interrupts."""

import contextlib
import functools
import signal
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, Num

from jnn import objectives
from jnn.likelihoods import Likelihood
from jnn.networks import Initializer, Network, Params, fan_in_normal
from jnn.optimizers import adam
from jnn.training import hosted
from jnn.training import progress as bars
from jnn.training.checking import prepare
from jnn.training.pacing import pace_of
from jnn.training.program import DIVERGED, RUNNING, Data, Gradient, Settings, State, run, start
from jnn.training.result import FitResult, as_result
from jnn.training.stopping import StoppingRule


class Snapshot(NamedTuple):
    """What a callback sees: the epochs run so far, the newest risks, and the newest and best hypotheses."""

    epoch: int
    train_error: float
    validation_error: float
    params: Params
    best_params: Params
    best_epoch: int


Callback = Callable[[Snapshot], bool | None]
Run = Callable[[Settings, Data, State, Array], State]


class DivergenceWarning(UserWarning):
    """Training stopped because a risk or a parameter became NaN or infinite."""


def fit(
    network: Network,
    likelihood: Likelihood,
    x: Num[Array, "n d"] | np.ndarray,
    y: Num[Array, "n ..."] | np.ndarray,
    *,
    key: Key[Array, ""],
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 100,
    batch_size: int | None = 32,
    shuffle: bool = True,
    weights: Num[Array, "n"] | np.ndarray | None = None,
    validation: float | tuple[Any, ...] | None = None,
    validate_every: int = 1,
    stopping: StoppingRule | Sequence[StoppingRule] | None = None,
    weight_decay: float | Float[Array, ""] = 0.0,
    mask: Params | None = None,
    reduction: objectives.Reduction = "mean",
    gradient: Gradient = "backprop",
    params: Params | None = None,
    initializer: Initializer = fan_in_normal,
    progress: bool = False,
    callback: Callback | None = None,
    callback_every: int = 1,
    resume: FitResult | None = None,
    rows_on_device: int | None = None,
) -> FitResult:
    """Train a network by gradients: batch, mini-batch or online, with early stopping, as one compiled program.

        minimize J = (E + γ/2 ‖w‖²) / N   or   E + γ/2 ‖w‖²,   E = −Σ_n v_n ln p(y_n | x_n; w)

    Each epoch shuffles the examples and takes a step for each mini-batch S_m, with the unbiased estimate
    (N / |S_m|) Σ_{n ∈ S_m} of E; the last mini-batch may be smaller. With validation examples, the hypothesis with the
    lowest validation risk is returned (slides "Online vs. batch learning iteration", "Early stopping").

    The call is pure: it can be put under `jax.jit`, and under `jax.vmap` over keys, learning rates (as in
    `lambda rate: fit(..., optimizer=adam(rate))`), decays and data. It compiles once for equal shapes, settings and
    optimizer: jnn's optimizers are equal if their arguments are; build one of optax's once and pass that again.

    Args:
        network: f(x; w), from `mlp` or `dag`.
        likelihood: p(y | x; w); decides the error, the output map and the targets' form.
        x: inputs, one row an example.
        y: targets `(n, K)`, or for `Categorical` `(n,)` integer labels.
        key: a typed key (`jax.random.key`) for the initial weights, the split and the shuffling.
        optimizer: `adam()` by default; any of jnn's or optax's, L-BFGS with its line search too.
        epochs: the most passes over the examples.
        batch_size: examples a step; 1 is online learning, None batch learning.
        shuffle: whether each epoch takes the examples in a new random order, or always in the given one.
        weights: v_n ≥ 0, how often each example counts; once by default.
        validation: a fraction of the examples to set aside (stratified for classes), or `(x, y)` or
            `(x, y, weights)`; None to validate nothing.
        validate_every: epochs from one validation to the next.
        stopping: a rule or several from `jnn.training.stopping`; None runs all epochs.
        weight_decay: γ ≥ 0.
        mask: which weights decay; by default all but biases and the weights of linear outputs.
        reduction: "mean" or "sum" (see `jnn.objectives`); with "sum" the gradient is N times as large.
        gradient: "backprop" for the hand-written one, "autodiff" for JAX's.
        params: where to start; drawn by `initializer` if not given.
        initializer: how to draw weights (see `jnn.networks.initialization`).
        progress: show a bar with the risks (needs rich).
        callback: called with a `Snapshot`; training stops if it returns True.
        callback_every: epochs from one call to the next.
        resume: an earlier result to go on from, with the same data and settings, up to `epochs` in all.
        rows_on_device: the most examples to have on the device at once; the others stay on the host, as NumPy arrays or
            memory-mapped files (`np.load(..., mmap_mode="r")`). For data larger than the device's memory: the result
            is the same, to rounding. None sends all examples there once.

    Returns:
        A `FitResult`. If training was interrupted (Ctrl-C), or diverged, what was learned up to then.

    Raises:
        ValueError, TypeError: for shapes, values or settings that do not fit, before anything is trained. Values
            cannot be looked at under `jit` or `vmap`; there only shapes and dtypes are checked.

    Warns:
        DivergenceWarning: if the error, the validation risk or a parameter became NaN or infinite.
        NoGradientWarning: if the network has threshold units.
    """
    if rows_on_device is not None and _is_traced(x, y, weights, validation, key, params, weight_decay, optimizer):
        raise ValueError("rows_on_device needs a host to send them: not under jit, vmap or grad. Leave it out.")
    settings, data = prepare(
        network,
        likelihood,
        x,
        y,
        optimizer=adam() if optimizer is None else optimizer,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        weights=weights,
        validation=validation,
        validate_every=validate_every,
        stopping=stopping,
        weight_decay=weight_decay,
        mask=mask,
        reduction=reduction,
        gradient=gradient,
        params=params,
        initializer=initializer,
        key=key,
        on_host=rows_on_device is not None,
    )
    train: Run = run
    if rows_on_device is not None:
        _check_rows_on_device(rows_on_device, settings)
        examples, data = hosted.divided(settings, data, rows_on_device)
        train = functools.partial(hosted.run, examples)
    state = start(settings, data, key, params) if resume is None else _resumed(resume, settings, data, key, params)
    interruption = None
    if _is_traced(data, state, key, optimizer):
        if progress or callback is not None:
            raise ValueError("progress and callback need a host to visit: not under jit, vmap or grad. Leave them out.")
        state = train(settings, data, state, jnp.asarray(epochs))
    else:
        state, interruption = _watched(train, settings, data, state, progress, callback, callback_every)
    result = as_result(settings, state, interruption)
    if not isinstance(state.code, jax.core.Tracer) and int(state.code) == DIVERGED:
        warnings.warn(
            f"training diverged in epoch {int(state.epoch)}: {result.stop_reason}. The hypothesis of epoch "
            f"{int(state.best_epoch)} is returned; lower the learning rate, or standardize the data.",
            DivergenceWarning,
            stacklevel=2,
        )
    return result


def _check_rows_on_device(rows_on_device: int, settings: Settings) -> None:
    if settings.batch_size is None:
        raise ValueError("rows_on_device is for mini-batches: expected a batch_size below the number of examples")
    if rows_on_device < 2 * settings.batch_size:
        raise ValueError(
            f"expected rows_on_device of at least two mini-batches, {2 * settings.batch_size}: one to work on and one "
            f"to send meanwhile; got {rows_on_device}"
        )


def _watched(
    run: Run,
    settings: Settings,
    data: Data,
    state: State,
    progress: bool,
    callback: Callback | None,
    callback_every: int,
) -> tuple[State, str | None]:
    """Run in chunks of epochs, and between them look for Ctrl-C, move the bar and call back."""
    if callback_every < 1:
        raise ValueError(f"expected callback_every of at least 1, got {callback_every}")
    pace = pace_of((settings, data.x.shape))
    done = int(state.epoch)
    with interruptible() as interrupted, bars.bar(settings.epochs, progress) as show:
        while done < settings.epochs:
            begun, before = time.perf_counter(), done
            chunk = pace.epochs if callback is None else callback_every
            state = run(settings, data, state, jnp.asarray(min(done + chunk, settings.epochs)))
            done, code = int(state.epoch), int(state.code)
            pace.took(done - before, time.perf_counter() - begun)
            show(done, state)
            if callback is not None and callback(_snapshot(state)):
                return state, "the callback asked to stop"
            if code != RUNNING or interrupted():
                break
        # Told even if the training was over before it was noticed: a caller with more to do may want to stop too.
        return state, "interrupted (Ctrl-C)" if interrupted() else None


def _snapshot(state: State) -> Snapshot:
    epoch = int(state.epoch)
    return Snapshot(
        epoch,
        float(state.train_error[epoch - 1]),
        float(state.validation_error[epoch - 1]),
        state.params,
        state.best_params,
        int(state.best_epoch),
    )


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within: the first Ctrl-C is remembered instead of raised; the second is raised."""
    before = signal.getsignal(signal.SIGINT)
    # Signals reach the main thread only; and what does not come from Python, or ignores Ctrl-C, stays in place.
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield lambda: False
        return
    seen = False

    def remember(signum: int, frame: types.FrameType | None) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True

    signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


def _is_traced(*values: Any) -> bool:
    """Whether any leaf, or anything that a function among the leaves closes over, is being traced."""
    return any(isinstance(found, jax.core.Tracer) for value in values for found in _reachable(value))


def _reachable(value: Any) -> Iterator[Any]:
    """The leaves of a pytree, and of what its functions close over: an optimizer's rates live in closures."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        for leaf in jax.tree.leaves(waiting.pop()):
            if id(leaf) in seen:
                continue
            seen.add(id(leaf))
            yield leaf
            if isinstance(leaf, types.MethodType):
                waiting.append(leaf.__self__)
            elif hasattr(leaf, "func") and hasattr(leaf, "keywords"):  # functools.partial
                waiting.append((leaf.func, leaf.args, leaf.keywords))
            elif isinstance(leaf, types.FunctionType):
                for cell in leaf.__closure__ or ():
                    with contextlib.suppress(ValueError):  # a cell that is still empty
                        waiting.append(cell.cell_contents)


def _resumed(resume: FitResult, settings: Settings, data: Data, key: Any, params: Params | None) -> State:
    state, epochs = resume.state, settings.epochs
    if state.epoch.ndim != 0:
        raise ValueError(f"expected one result to resume, got a batch of {state.epoch.shape}; resume it under vmap")
    done = state.train_error.shape[0]
    if epochs < done and int(state.epoch) > epochs:
        raise ValueError(f"expected epochs of at least the {int(state.epoch)} already run, got {epochs}")
    widen = (0, max(0, epochs - done))
    state = state._replace(
        code=jnp.where(state.code == DIVERGED, state.code, RUNNING),
        train_error=jnp.pad(state.train_error, widen, constant_values=jnp.nan)[:epochs],
        validation_error=jnp.pad(state.validation_error, widen, constant_values=jnp.nan)[:epochs],
    )
    expected = jax.eval_shape(functools.partial(start, settings), data, key, params)
    if jax.tree.structure(state) != jax.tree.structure(expected) or any(
        (old.shape, old.dtype) != (new.shape, new.dtype)
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True)
    ):
        raise ValueError(
            "expected a result to resume from the same network, optimizer, stopping rules, validation, number of "
            "examples and dtype; pass what the first call of fit was passed, but for epochs"
        )
    return state
