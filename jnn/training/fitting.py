"""`fit`: starts the compiled program, and visits it for whoever watches or interrupts."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, Num

from jnn.checks import count, one_key
from jnn.data import OnDisk
from jnn.likelihoods import Likelihood
from jnn.networks import Network, Params
from jnn.networks.base import leading_axes
from jnn.optimizers import Optimizer, takes_curvature
from jnn.training import checkpoints, dividing, program as programs, streaming, visiting
from jnn.training.checkpoints import Checkpoints
from jnn.training.dividing import Division
from jnn.training.fingerprint import fingerprint
from jnn.training.problem import Problem, aside, check_problem, lay_out
from jnn.training.program import DIVERGED, RUNNING, Examples, Member, Program, Shared, State
from jnn.training.result import FitResult
from jnn.training.settings import Settings, checked, numbers, takes_settings, warn_of_thresholds
from jnn.training.structure import is_traced, room_for


class Snapshot(NamedTuple):
    """What a callback sees: the epochs run so far, the newest risks, and the newest and best hypotheses.

    The validation risk is NaN in an epoch without validation. Of an ensemble each is an array with an entry for each
    member, and parameters have a first axis over them.
    """

    epoch: Any
    train_error: Any
    validation_error: Any
    params: Params
    best_params: Params
    best_epoch: Any


Callback = Callable[[Snapshot], bool | None]
Advance = Callable[[State, Any], State]


class Watching(NamedTuple):
    """Who looks at a training from the host, and how often."""

    progress: bool
    callback: Callback | None
    every: int
    saved: checkpoints.Run
    division: Division | None


class DivergenceWarning(UserWarning):
    """Training stopped because a risk or a parameter became NaN or infinite."""


ROWS_ON_DEVICE = 65_536
"""How many rows of those that are read from disk lie on the device at once, if nothing else is asked for."""
INTERRUPTED, ASKED = "interrupted (Ctrl-C)", "the callback asked to stop"


@takes_settings
def fit(
    network: Network,
    likelihood: Likelihood,
    x: Num[Array, "n d"] | np.ndarray | OnDisk,
    y: Num[Array, "n ..."] | np.ndarray,
    *,
    key: Key[Array, ""],
    weights: Num[Array, "n"] | np.ndarray | None = None,
    validation: float | tuple[Any, ...] | None = None,
    params: Params | None = None,
    callback: Callback | None = None,
    callback_every: int = 1,
    resume: FitResult | None = None,
    rows_on_device: int | None = None,
    devices: Sequence[Any] | None = None,
    shards: int | None = None,
    checkpoint: Checkpoints | None = None,
    **settings: Unpack[Settings],
) -> FitResult:
    """Train a network by gradients: batch, mini-batch or online, with early stopping, as one compiled program.

        minimize J = (E + γ/2 ‖w‖²) / N   or   E + γ/2 ‖w‖²,   E = −Σ_n v_n ln p(y_n | x_n; w)

    Each epoch shuffles the examples and takes a step for each mini-batch S_m, with the unbiased estimate
    (N / |S_m|) Σ_{n ∈ S_m} of E; the last mini-batch may be smaller. With validation examples, the hypothesis with the
    lowest validation risk is returned (slides "Online vs. batch learning iteration", "Early stopping").

    The call is pure: it can be put under `jax.jit`, and under `jax.vmap` over keys, learning rates, decays and data. It
    compiles once for equal structure: the network, the likelihood, which rules; not for other numbers, and for other
    numbers of examples or epochs only where they exceed the next of a few sizes.

    Args:
        network: f(x; w), from `mlp` or `dag`.
        likelihood: p(y | x; w); decides the error, the output map and the targets' form.
        x: inputs, one row an example; an array, or from disk (`jnn.data`).
        y: targets `(n, K)`, or for `Categorical` `(n,)` integer labels.
        key: a typed key (`jax.random.key`) for the initial weights, the split and the shuffling.
        weights: v_n ≥ 0, how often each example counts; once by default.
        validation: a fraction of the examples to set aside (stratified for classes), or `(x, y)` or
            `(x, y, weights)`; None to validate nothing.
        params: where to start; drawn by `initializer` if not given.
        callback: called with a `Snapshot`; training stops if it returns True.
        callback_every: epochs from one call to the next.
        resume: an earlier result to go on from, with the same data and settings, up to `epochs` in all.
        rows_on_device: the most examples to have on the device at once; the others stay on the host, as NumPy arrays or
            memory-mapped files (`np.load(..., mmap_mode="r")`). For data larger than the device's memory: the result
            is the same, to rounding. None sends all examples there once; of those from `jnn.data`, 65,536 at a time.
        devices: where to train, as `jax.devices()`: every mini-batch is divided among them, and their sums of errors
            and gradients are added up, one reduction a step. The result is that of one device, to rounding. All have
            all examples, unless `rows_on_device` says how many (of all devices together).
        shards: for the same result to the last bit on any number of devices, the number of parts that mini-batches
            have everywhere: a power of two, at least twice the most devices. Takes longer on one device.
        checkpoint: `jnn.Checkpoints(folder)`, to go on with the same call after a crash, as if there had been none.
        {settings}

    Returns:
        A `FitResult`. If training was interrupted (Ctrl-C), or diverged, what was learned up to then.

    Raises:
        ValueError, TypeError: for shapes, values or settings that do not fit, before anything is trained. Values
            cannot be looked at under `jit` or `vmap`; there only shapes and dtypes are checked.
        CheckpointError: if a checkpoint cannot be written or read.

    Warns:
        DivergenceWarning: if the error, the validation risk or a parameter became NaN or infinite.
        NoGradientWarning: if the network has threshold units.
    """
    if rows_on_device is None and isinstance(x, OnDisk):
        rows_on_device = max(ROWS_ON_DEVICE, 2 * (settings.get("batch_size") or 0))
    on_host, division = rows_on_device is not None, dividing.divided(devices, shards)
    of_host = {"rows_on_device": rows_on_device, "devices": devices, "shards": shards, "checkpoint": checkpoint}
    for name, asked in of_host.items():
        if asked is not None and is_traced(x, y, weights, validation, key, params, dict(settings)):
            raise ValueError(f"{name} needs a host to work from: not under jit, vmap or grad. Leave it out.")
    if resume is not None and checkpoint is not None:
        raise ValueError("expected resume or checkpoint, got both: a checkpoint's folder knows where to go on")
    one_key(key)
    callback_every = count("callback_every", callback_every)
    rows_on_device = None if rows_on_device is None else count("rows_on_device", rows_on_device)
    if params is not None:
        leading_axes(network, params, lead=())
    alone = devices[0] if devices is not None and division is None else None
    with contextlib.nullcontext() if alone is None else jax.default_device(alone):
        given = {"x": x, "y": y, "weights": weights, "validation": validation, "params": params}
        x, y, weights, validation, params = dividing.gathered(given, division, alone).values()
        problem = check_problem(network, likelihood, Examples(x, y, weights), validation, params, on_host)
        chosen = checked(settings, network, validation is not None, several=False)
        if takes_curvature(chosen["optimizer"]) and on_host:
            raise ValueError(
                "levenberg_marquardt takes all examples in every step: leave rows_on_device out, and bring inputs that "
                "lie on disk into memory, x = np.asarray(x); devices= divides them"
            )
        warn_of_thresholds(network, stacklevel=3)
        program, shared = lay_out(problem, chosen, on_host=on_host, division=division)
        member = _only_member(problem, chosen, key, params)
        streamed = None
        if rows_on_device is not None:
            streamed = streaming.Source.of(problem, chosen["batch_size"], rows_on_device)

        def described() -> dict[str, str]:
            examples = {"x": problem.examples.x, "y": problem.examples.y, "weights": problem.examples.weights}
            others = {name: value for name, value in chosen.items() if name not in ("epochs", "progress")}
            where = {"rows_on_device": rows_on_device, "shards": shards, "dtype": problem.dtype, "params": params}
            return fingerprint(network=network, likelihood=likelihood, key=key, validation=validation, **examples,
                               **where, **others)  # fmt: skip

        if division is not None and division.several_processes:
            dividing.check_alike(division, described())
        with checkpoints.opened(checkpoint, described, division) as saved:
            watching = Watching(chosen["progress"], callback, callback_every, saved, division)
            result = _fit(program, shared, member, streamed, chosen, resume, watching)
    if not is_traced(result.state) and int(result.code) == DIVERGED:
        warnings.warn(
            f"training diverged in epoch {int(result.epochs)}: {result.stop_reason}. The hypothesis of epoch "
            f"{int(result.best_epoch)} is returned; lower the learning rate, or standardize the data.",
            DivergenceWarning,
            stacklevel=3,
        )
    return result


def _fit(
    program: Program,
    shared: Shared,
    member: Member,
    source: streaming.Source | None,
    given: Mapping[str, Any],
    resume: FitResult | None,
    watching: Watching,
) -> FitResult:
    """What has been checked and laid out, trained."""
    division, rules, limit, interruption = program.division, member.rules, given["epochs"], None
    if division is not None:
        shared, member = division.everywhere((shared, member))
    advance: Advance = functools.partial(programs.run, program, shared, member)
    if source is not None:
        advance = streaming.Run(source, program, shared, member)
    if (found := watching.saved.latest()) is not None:
        state = _restored(found, advance, program, shared, member)
    elif resume is not None:
        state = resume.state._replace(code=jnp.where(resume.state.code == DIVERGED, resume.state.code, RUNNING))
        state = _with_room(state, program, shared, member)
    else:
        state = programs.start(program, shared, member)
    if is_traced(shared, member, state):
        state = _unwatched(advance, state, limit, watching)
    else:
        pace = visiting.pace_of((program, shared.examples.x.shape))
        opaque = not isinstance(given["optimizer"], Optimizer)
        state, interruption = _watched(advance, state, limit, pace, opaque, watching)
    return FitResult(state if division is None else dividing.here(state), rules, limit, interruption)


def _only_member(problem: Problem, settings: Mapping[str, Any], key: Any, params: Params | None) -> Member:
    optimizer, rules, initializer, decay = numbers(settings, problem.dtype)
    out = np.asarray(int(aside(problem, np.asarray(problem.count))), int)
    return Member(key, params, optimizer, rules, initializer, decay, out)


def _unwatched(advance: Advance, state: State, limit: int, watching: Watching) -> State:
    """All epochs in one call: there is no host to visit."""
    if watching.progress or watching.callback is not None or watching.saved.wanted:
        raise ValueError(
            "progress, callback and checkpoint need a host to visit: not under jit, vmap or grad. Leave them out."
        )
    return advance(state, np.asarray(limit, int))


def _watched(
    advance: Advance, state: State, limit: int, pace: visiting.Pace, opaque: bool, watching: Watching
) -> tuple[State, str | None]:
    """Run in chunks of epochs, and between them look for Ctrl-C, move the bar, save and call back."""
    done, saved, callback, division = int(state.epoch), watching.saved, watching.callback, watching.division
    begun, interruption = done, None
    with visiting.interruptible() as interrupted, visiting.bar(limit, "epochs", watching.progress) as show:
        # Compile before the first epoch is timed, and before it is too late to interrupt; and see whether an optimizer
        # of optax's closes over something that is traced.
        if pace.epochs == 0 or opaque:
            state = jax.block_until_ready(advance(state, np.asarray(done, int)))
            if is_traced(state):
                return _unwatched(advance, state, limit, watching), None
        if saved.wanted and isinstance(advance, streaming.Run):
            advance.visit = functools.partial(_left, watching, interrupted)
        while done < limit and int(state.code) == RUNNING:
            wanted = (pace.epochs or 1) if callback is None else watching.every
            epochs, leave, due = dividing.together(division, wanted, interrupted(), saved.due())
            if leave:
                break
            if due and done > begun:
                saved.save(_to_save(advance, state))
            state = visiting.timed(
                lambda epochs, done=done, state=state: advance(state, np.asarray(min(done + epochs, limit), int)),
                lambda state: int(state.epoch),
                done,
                pace,
                epochs,
            )
            done = int(state.epoch)
            if show is not None and done > 0:
                show(visiting.Seen(done, done, _risks(state)))
            if callback is not None and done > 0:
                asked = bool(callback(snapshot(dividing.here(state))))
                if any(dividing.together(division, asked)):
                    interruption = ASKED
                    break
        # Told even if the training was over before it was noticed: a caller with more to do may want to stop too.
        if interruption is None and any(dividing.together(division, interrupted())):
            interruption = INTERRUPTED
        if done > begun or interruption is not None:
            saved.save(_to_save(advance, state), last=True)
    return state, interruption


def _left(watching: Watching, interrupted: Callable[[], bool], state: State, within: streaming.Within) -> bool:
    """Whether to leave an epoch half done; saves what is done of it where it is time to."""
    leave, due = dividing.together(watching.division, interrupted(), watching.saved.due())
    if due and not leave:
        watching.saved.save((state, within))
    return bool(leave)


def _to_save(advance: Advance, state: State) -> tuple[State, streaming.Within | None]:
    """All that it takes to go on."""
    return state, advance.begun(state) if isinstance(advance, streaming.Run) else None


def _restored(found: Any, advance: Advance, program: Program, shared: Shared, member: Member) -> State:
    """The state in a checkpoint; a run that streams is put back to its place in the epoch."""
    state: State = jax.eval_shape(functools.partial(programs.start, program), shared, member)
    within = None
    if isinstance(advance, streaming.Run):
        within = jax.eval_shape(advance.begun, state)
    state, within = checkpoints.restored(found, (state, within), jax.random.key_impl(member.key))
    if within is not None and isinstance(advance, streaming.Run):
        advance.within = within if program.division is None else program.division.everywhere(within)
    return _with_room(state, program, shared, member)


def _risks(state: State) -> str:
    best = state.best
    known = (float(best.error), int(best.epoch)) if bool(best.validated) else (None, None)
    return visiting.risks(float(state.record.train_error[int(state.epoch) - 1]), *known)


def snapshot(state: State) -> Snapshot:
    """What is seen of one training, or of members; NaN where no epoch has been run."""
    epoch = np.asarray(state.epoch)
    train, validation, validated = (
        np.take_along_axis(np.asarray(curve), np.maximum(epoch - 1, 0)[..., None], axis=-1)[..., 0]
        for curve in state.record
    )
    train = np.where(epoch > 0, train, np.nan)
    validation = np.where((epoch > 0) & validated, validation, np.nan)
    seen = (epoch, train, validation, np.asarray(state.best.epoch))
    at, train, validation, best = (value.item() for value in seen) if epoch.ndim == 0 else seen
    return Snapshot(at, train, validation, state.params, state.best.params, best)


def _with_room(state: State, program: Program, shared: Shared, member: Member) -> State:
    """The state to go on from, with room for the epochs to come."""
    epochs = int(shared.epochs)
    if state.epoch.ndim != 0:
        raise ValueError(f"expected one result to resume, got a batch of {state.epoch.shape}; resume it under vmap")
    if not is_traced(state) and int(state.epoch) > epochs:
        raise ValueError(f"expected epochs of at least the {int(state.epoch)} already run, got {epochs}")
    room = room_for(epochs)

    def with_room(values: Array) -> Array:
        return jnp.pad(values, (0, max(0, room - len(values))))[:room]

    if program.division is not None:
        state = program.division.everywhere(state)
    state = state._replace(record=jax.tree.map(with_room, state.record))
    expected = jax.eval_shape(functools.partial(programs.start, program), shared, member)
    if jax.tree.structure(state) != jax.tree.structure(expected) or any(
        (old.shape, old.dtype) != (new.shape, new.dtype)
        for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True)
    ):
        raise ValueError(
            "expected a result to resume from the same network, optimizer, stopping rules, validation, number of "
            "examples and dtype; pass what the first call of fit was passed, but for epochs"
        )
    return state
