"""`ensembles.fit`: what differs from member to member, and what is common to all."""

import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key, Num

from jnn.checks import check_floating, count as counted, example_weights, real_array
from jnn.ensembles import scheduling
from jnn.ensembles.ensemble import Ensemble
from jnn.ensembles.widths import places, widest
from jnn.likelihoods import Likelihood
from jnn.networks import Network, Params
from jnn.networks.base import expected_parameters, leading_axes
from jnn.optimizers import Optimizer
from jnn.training import checkpoints, dividing, visiting
from jnn.training.checkpoints import Checkpoints
from jnn.training.fingerprint import fingerprint
from jnn.training.fitting import ASKED, INTERRUPTED, Callback, DivergenceWarning
from jnn.training.problem import aside, check_problem, fill, lay_out
from jnn.training.program import DIVERGED, Examples, Member, State, start_lanes
from jnn.training.result import FitResult
from jnn.training.settings import Settings, checked, numbers, takes_settings, warn_of_thresholds
from jnn.training.splitting import Rows, split_key
from jnn.training.structure import COARSE, FINE, LEAST, LEAST_VALIDATED, is_traced, rounded_up


@takes_settings
def fit(
    network: Network | Sequence[Network],
    likelihood: Likelihood,
    x: Num[Array, "n d"] | np.ndarray,
    y: Num[Array, "n ..."] | np.ndarray,
    *,
    key: Key[Array, "..."],
    members: int | None = None,
    weights: Num[Array | np.ndarray, "..."] | None = None,
    rows: Int[Array | np.ndarray, "members train"] | None = None,
    held_out: Int[Array | np.ndarray, "members held_out"] | None = None,
    validation: float | tuple[Any, ...] | None = None,
    params: Params | None = None,
    resume: FitResult | None = None,
    lanes: int | None = None,
    devices: Sequence[Any] | None = None,
    callback: Callback | None = None,
    callback_every: int = 1,
    checkpoint: Checkpoints | None = None,
    **settings: Unpack[Settings],
) -> Ensemble:
    """Train many networks, hundreds or thousands, each with its own early stopping and its own best hypothesis.

    Every member is trained as `jnn.fit` would train it alone with its key, numbers and examples: equal to rounding.
    Members that have stopped cost nothing; all cores and all devices are used.

    What differs between members is given with a first axis over them: keys, examples, weights, first parameters, the
    decay, and every number of the optimizer and of the stopping rules, as in `optimizer=jnn.adam(rates)`. The other
    arguments are those of `jnn.fit`.

    Args:
        network: f(x; w), or a sequence of networks, one for each member, that differ in the sizes of hidden layers.
        likelihood: p(y | x; w).
        x: inputs, one row an example.
        y: targets.
        key: one key, split for the members, or an array of keys, one for each.
        members: how many; may be left out where another argument tells.
        weights: `(n,)`, or `(members, n)`.
        rows: the examples that each member trains on, `(members, train)`; negative numbers stand for none. See
            `k_fold` and `bootstrap`.
        held_out: the examples that each member validates on, in the same form.
        validation: a fraction (of the member's rows), or examples of their own for all members.
        params: where to start, with a first axis over the members (of one width); drawn by default.
        resume: an earlier ensemble's result, to go on from, up to `epochs` in all; members that have ended stay so.
        lanes: how many members a device (on a CPU, a thread) trains at once; chosen by default. Their number decides
            how sums are rounded: pass it for the same result to the last bit on other devices or processes.
        devices: where to train; all local ones of the default kind by default. With those of all processes, as
            `jax.devices()`, each process trains its own members, and all get the result of all.
        callback: as in `jnn.fit`, called with a `Snapshot` of all members. For it they are trained in step, all on the
            first device (on a CPU, by one thread), whatever `lanes` says.
        callback_every: epochs from one call to the next.
        checkpoint: as in `jnn.fit`; of all members, those that have ended and those that wait included.
        {settings}

    Returns an `Ensemble`; after Ctrl-C, with what was learned up to then. Raises ValueError or TypeError for shapes,
    values or settings that do not fit, before anything is trained. Warns (`DivergenceWarning`) if the error or a
    parameter of some members became NaN or infinite.
    """
    if is_traced(x, y, key, params, resume, validation, weights, rows, held_out, dict(settings)):
        raise TypeError("ensembles.fit visits its members from the host: call it outside jit and vmap, or vmap jnn.fit")
    weights = None if weights is None else real_array(weights, "weights")
    rows = None if rows is None else real_array(rows, "rows", "give numbers of examples")
    held_out = None if held_out is None else real_array(held_out, "held_out", "give numbers of examples")
    local, division = _devices(devices)
    if callback is not None and division is not None:
        raise ValueError("a callback sees the members of one process: leave out the devices of others")
    if jax.process_count() > 1:
        given = {"x": x, "y": y, "weights": weights, "validation": validation, "params": params}
        x, y, weights, validation, params = dividing.gathered(given, division).values()
    varied = {"weights": weights, "rows": rows, "held_out": held_out}
    networks, keys = _members(network, key, members, params, varied, settings)
    count, wide = len(keys), widest(networks)
    several = any(own != wide for own in networks)
    if several and params is not None:
        raise ValueError("expected params only where all members have one network; those of several widths draw theirs")
    if held_out is not None and validation is not None:
        raise ValueError("expected validation or held_out, got both")
    if params is not None:
        leading_axes(wide, params, lead=(count,))
    own_weights = weights if weights is not None and np.ndim(weights) == 2 else None
    examples = Examples(x, y, weights if own_weights is None else None)
    problem = check_problem(wide, likelihood, examples, validation, params)
    given = checked(settings, wide, validation is not None or held_out is not None, several=True)
    warn_of_thresholds(wide, stacklevel=3)
    train = _checked_rows(rows, "rows", problem.count, given["batch_size"] is None)
    program, shared = lay_out(problem, given, rows=train, axis="members")
    if own_weights is not None:
        own_weights = example_weights(own_weights, (count, problem.count), problem.dtype)
        own_weights = np.asarray(fill(own_weights, len(shared.examples.x), axis=1))
    present = None
    if several:
        params, present = _drawn(networks, wide, keys, given["initializer"], problem.dtype)
    optimizer, rules, initializer, decay = jax.tree.map(
        lambda leaf: np.broadcast_to(leaf, (count, *np.shape(leaf)[1:])), numbers(given, problem.dtype)
    )
    validate = _checked_rows(held_out, "held_out", problem.count, False)
    split = aside(problem, np.full(count, problem.count) if train is None else np.asarray(train.count))
    everyone = Member(keys, params, optimizer, rules, initializer, decay, split, train, validate, own_weights, present)
    if resume is not None and checkpoint is not None:
        raise ValueError("expected resume or checkpoint, got both: a checkpoint's folder knows where to go on")

    def described() -> dict[str, str]:
        others = {name: given[name] for name in ("mask", "reduction", "gradient", "batch_size", "shuffle")}
        return fingerprint(networks=networks, likelihood=likelihood, keys=keys, validation=validation, x=x, y=y,
                           weights=weights, rows=rows, held_out=held_out, params=params, weight_decay=decay,
                           optimizer=given["optimizer"], stopping=given["stopping"], dtype=problem.dtype,
                           initializer=given["initializer"], validate_every=given["validate_every"],
                           **others)  # fmt: skip

    if division is not None:
        dividing.check_alike(division, described() | fingerprint(lanes=lanes, epochs=given["epochs"]))
    with checkpoints.opened(checkpoint, described, division) as saved:
        begun, states = np.full(count, resume is not None), None if resume is None else resume.state
        if (found := saved.latest()) is not None:
            states = jax.eval_shape(functools.partial(start_lanes, program), shared, everyone)
            states, begun = checkpoints.restored(found, (states, begun), jax.random.key_impl(keys))
            begun = np.asarray(begun)
        if states is not None:
            _check_resumed(states, count, given["epochs"])
        work = scheduling.Work(program, shared, everyone, states, begun, division)
        watch = None if callback is None else scheduling.Watch(callback, counted("callback_every", callback_every))
        states, interruption = _train(work, lanes, local, given["progress"], saved, watch)
    result = FitResult(states, rules, given["epochs"], interruption)
    if (lost := int(np.sum(np.asarray(states.code) == DIVERGED))) > 0:
        warnings.warn(
            f"{lost} of {count} members diverged; their last good hypotheses are returned (result.diverged tells "
            "which). Lower the learning rate, or standardize the data.",
            DivergenceWarning,
            stacklevel=3,
        )
    return Ensemble(result, wide, likelihood, networks)


def _members(
    network: Any, key: Any, members: int | None, params: Any, varied: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[tuple[Network, ...], Array]:
    """Each member's network and key; everything that has a member axis must agree on their number."""
    counts: dict[str, int] = {} if members is None else {"members": counted("members", members)}
    if not isinstance(network, Network):
        network = tuple(network)
        counts["network"] = len(network)
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim <= 1):
        raise TypeError(f"expected a typed key (jax.random.key) or an array of them, one for each member; got {key!r}")
    if key.ndim == 1:
        counts["key"] = len(key)
    for name, value in varied.items():
        if value is not None and np.ndim(value) == 2:
            counts[name] = np.shape(value)[0]
        elif value is not None and (np.ndim(value) != 1 or name != "weights"):
            raise ValueError(f"expected {name} with a first axis over the members, got shape {np.shape(value)}")
    for name in ("optimizer", "stopping", "weight_decay"):
        setting = settings.get(name)
        numbers_of = dict(setting.numbers) if isinstance(setting, Optimizer) else setting
        for path, leaf in jax.tree.leaves_with_path(numbers_of):
            if isinstance(leaf, (np.ndarray, jax.Array)) and np.ndim(leaf):
                if name == "weight_decay" and np.ndim(leaf) > 1:
                    raise ValueError(f"expected {name} with a first axis over the members, got shape {np.shape(leaf)}")
                counts[f"{name}{jax.tree_util.keystr(path)}"] = np.shape(leaf)[0]
    if params is not None:
        check_floating(params, "params")
        if not all(np.ndim(leaf) for leaf in jax.tree.leaves(params)):
            raise ValueError("expected params with a first axis over the members, got a single number for an array")
        counts["params"] = np.shape(jax.tree.leaves(params)[0])[0]
    if not counts:
        raise ValueError("expected the number of members: pass members=, or an array of keys")
    if len(set(counts.values())) > 1 or min(counts.values()) < 1:
        raise ValueError(f"expected one number of members, at least 1, in all arguments; got {counts}")
    count = next(iter(counts.values()))
    networks = network if isinstance(network, tuple) else (network,) * count
    return networks, key if key.ndim == 1 else split_key(key, count)


def _checked_rows(rows: Any, name: str, count: int, whole: bool) -> Rows | None:
    """Numbers of examples, `(members, ...)`: below `count`, negative for none, and at least one for each member.

    Those that are come first, in their order; places up to a size that other numbers of rows share repeat the last.
    """
    if rows is None:
        return None
    values = np.asarray(rows)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"expected {name} as integers of shape (members, ...), got {values.dtype} {values.shape}")
    if values.size and values.max() >= count:
        raise ValueError(f"expected {name} below the number of examples, {count}; got {values.max()}")
    counts = (values >= 0).sum(axis=1)
    if empty := np.flatnonzero(counts == 0).tolist():
        raise ValueError(f"expected at least one example in {name} of each member; members {empty[:5]} have none")
    most, of_all = int(counts.max()), rounded_up(count, COARSE, LEAST)
    if whole:
        size = rounded_up(most, FINE)
    elif name == "rows":
        size = max(of_all, rounded_up(most))  # places for mini-batches cost no time
    else:
        size = _size_of_part(most, of_all)
    order = np.argsort(values < 0, axis=1, kind="stable")
    place = np.take_along_axis(order, np.minimum(np.arange(size), counts[:, None] - 1), axis=1)
    return Rows(np.take_along_axis(values, place, axis=1).astype(np.int32), counts)


def _size_of_part(most: int, size: int) -> int:
    """A size for a part of examples that changes only where theirs does: so often halved, as the part allows."""
    while -(-size // 2) >= max(most, LEAST_VALIDATED):
        size = -(-size // 2)
    return size if most <= size else rounded_up(most)


def _drawn(
    networks: Sequence[Network], wide: Network, keys: Array, initializer: Any, dtype: Any
) -> tuple[Params, Params]:
    """What `jnn.fit` would draw for each member's own network, in the wide one; and 1 where it has a weight, else 0."""
    shapes = expected_parameters(wide)
    params, present = (jax.tree.map(lambda leaf: np.zeros((len(keys), *leaf.shape), dtype), shapes) for _ in range(2))

    def draw(network: Network) -> None:
        members = np.flatnonzero([own == network for own in networks])

        def init(key: Array) -> Params:
            own = jax.random.split(key, 3)[0]  # as in the compiled program's `start`
            return network.init(own, weights=initializer, dtype=dtype)

        def put(drawn: Array, place: Any, params: np.ndarray, present: np.ndarray) -> None:
            at = np.ix_(members, *place)
            params[at], present[at] = drawn, 1

        jax.tree.map(put, jax.jit(jax.vmap(init))(keys[members]), places(network, wide), params, present)

    for network in dict.fromkeys(networks):
        draw(network)
    return params, present


def _check_resumed(states: State, members: int, epochs: int) -> None:
    done = np.asarray(states.epoch)
    if done.shape != (members,):
        raise ValueError(f"expected the result of {members} members to resume, got {done.shape}")
    if done.max(initial=0) > epochs:
        raise ValueError(f"expected epochs of at least the {done.max()} already run, got {epochs}")


def _devices(devices: Sequence[Any] | None) -> tuple[list[Any], dividing.Division | None]:
    """This process's devices; and all of them, where there are others' among them."""
    given = list(dividing.listed(jax.local_devices() if devices is None else devices))
    here = jax.process_index()
    if all(device.process_index == here for device in given):
        return given, None
    return [device for device in given if device.process_index == here], dividing.divided(given, None)


def _train(
    work: scheduling.Work,
    lanes: int | None,
    local: list[Any],
    progress: bool,
    saved: checkpoints.Run,
    watch: scheduling.Watch | None,
) -> tuple[State, str | None]:
    lanes = None if lanes is None else counted("lanes", lanes)
    platform = local[0].platform
    program = replace(work.program, platform=platform, steps=None if platform == "cpu" else work.program.steps)
    work = replace(work, program=program)
    if watch is not None:
        lanes, local = work.count, local[:1]
    elif platform == "cpu":
        local = (local * scheduling.cpu_workers())[: max(len(local), scheduling.cpu_workers())]
    if lanes is None:
        # On CPUs as if all members were trained here: few are enough for an operation, and so many processes of the
        # same kind come to the same bits.
        share = work.count if platform == "cpu" else len(work.own)
        lanes = scheduling.lanes_for(work, -(-share // len(local)), platform)
    with visiting.interruptible() as interrupted, visiting.bar(len(work.own), "networks", progress) as show:
        states = scheduling.train(work, local, lanes, show, interrupted, saved, watch)
        if watch is not None and watch.asked:
            return states, ASKED
        return states, INTERRUPTED if any(dividing.together(work.division, interrupted())) else None
