"""`ensembles.fit`: what differs from member to member, and what is common to all."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Num

from jnn import objectives
from jnn.ensembles import scheduling
from jnn.ensembles.ensemble import Ensemble
from jnn.ensembles.widths import present, widen, widest
from jnn.likelihoods import Likelihood
from jnn.networks import Initializer, Network, Params, fan_in_normal
from jnn.optimizers import adam
from jnn.training import progress as bars
from jnn.training.checking import checked_rows, checked_weights, prepare
from jnn.training.fitting import DivergenceWarning, interruptible
from jnn.training.program import DIVERGED, Data, Gradient, Settings
from jnn.training.result import as_result
from jnn.training.stopping import StoppingRule


def fit(
    network: Network | Sequence[Network],
    likelihood: Likelihood,
    x: Num[Array, "n d"] | np.ndarray,
    y: Num[Array, "n ..."] | np.ndarray,
    *,
    key: Key[Array, "..."],
    members: int | None = None,
    optimizer: optax.GradientTransformation | Callable[..., optax.GradientTransformation] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    epochs: int = 100,
    batch_size: int | None = 32,
    shuffle: bool = True,
    weights: Num[Array | np.ndarray, "..."] | None = None,
    rows: Int[Array | np.ndarray, "members train"] | None = None,
    held_out: Int[Array | np.ndarray, "members held_out"] | None = None,
    validation: float | tuple[Any, ...] | None = None,
    validate_every: int = 1,
    stopping: StoppingRule | Sequence[StoppingRule] | None = None,
    weight_decay: float | Float[Array | np.ndarray, "..."] = 0.0,
    mask: Params | None = None,
    reduction: objectives.Reduction = "mean",
    gradient: Gradient = "backprop",
    params: Params | None = None,
    initializer: Initializer = fan_in_normal,
    lanes: int | None = None,
    devices: Sequence[Any] | None = None,
    progress: bool = False,
) -> Ensemble:
    """Train many networks, hundreds or thousands, each with its own early stopping and its own best hypothesis.

    Every member is trained as `jnn.fit` would train it alone with its key, hyperparameters, decay and examples: equal
    to rounding. Members that have stopped cost nothing; all cores and all devices are used.

    What differs between members is given with a first axis over them. The other arguments are those of `jnn.fit`.

    Args:
        network: f(x; w), or a sequence of networks, one for each member, that differ in the sizes of hidden layers.
        likelihood: p(y | x; w).
        x: inputs, one row an example.
        y: targets.
        key: one key, split for the members, or an array of keys, one for each.
        members: how many; may be left out where another argument tells.
        optimizer: as for `jnn.fit`; or, with `hyperparameters`, the function that makes it (`jnn.adam`, say).
        hyperparameters: arguments for that function by name, each one number or `(members,)`.
        epochs: the most passes over the examples.
        batch_size: examples a step.
        shuffle: whether each epoch takes the examples in a new random order.
        weights: `(n,)`, or `(members, n)`.
        rows: the examples that each member trains on, `(members, train)`; negative numbers stand for none. See
            `k_fold` and `bootstrap`.
        held_out: the examples that each member validates on, in the same form.
        validation: a fraction (of the member's rows), or examples of their own for all members.
        validate_every: epochs from one validation to the next.
        stopping: a rule or several.
        weight_decay: γ, one number or `(members,)`.
        mask: which weights decay.
        reduction: "mean" or "sum".
        gradient: "backprop" or "autodiff".
        params: where to start, with a first axis over the members (of one width); drawn by default.
        initializer: how to draw weights.
        lanes: how many members a device (on a CPU, a thread) trains at once; chosen by default.
        devices: where to train; all local ones of the default kind by default.
        progress: show how far the members are, with the mean risks of those in work (needs rich).

    Returns:
        An `Ensemble`. After Ctrl-C, with what was learned up to then.

    Raises:
        ValueError, TypeError: for shapes, values or settings that do not fit, before anything is trained.

    Warns:
        DivergenceWarning: if the error or a parameter of some members became NaN or infinite.
    """
    given = (x, y, key, params, weight_decay, weights, rows, held_out, validation, hyperparameters)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(given)):
        raise TypeError("ensembles.fit visits its members from the host: call it outside jit and vmap, or vmap jnn.fit")
    networks, keys = _members(network, key, members, hyperparameters, weight_decay, weights, rows, held_out, params)
    wide = widest(networks)
    several = any(own != wide for own in networks)
    if several and params is not None:
        raise ValueError("expected params only where all members have one network; those of several widths draw theirs")
    made, numbers = _hyperparameters(optimizer, hyperparameters, len(keys))
    decay = np.asarray(weight_decay, np.float64)
    settings, data = prepare(
        wide,
        likelihood,
        x,
        y,
        optimizer=made,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        weights=None,
        validation=validation,
        validate_every=validate_every,
        stopping=stopping,
        weight_decay=float(np.max(decay)),
        mask=mask,
        reduction=reduction,
        gradient=gradient,
        params=None if params is None else jax.tree.map(lambda leaf: leaf[0], params),
        initializer=initializer,
        key=keys[0],
        held_out=held_out is not None,
        trained=None if rows is None else np.shape(rows)[-1],
    )
    if not (np.isfinite(decay).all() and (decay >= 0).all()):
        raise ValueError("expected weight_decay ≥ 0 for every member")
    initial = params
    if several:
        initial = _initial(networks, wide, keys, settings)
        data = data._replace(present=_stacked([present(own, wide, _first(initial)) for own in networks]))
    if numbers is not None:
        # The factory itself is the static part: the optimizer is built where the numbers are known, in the program.
        settings = dataclasses.replace(settings, optimizer=optimizer)
        data = data._replace(hyperparameters={name: jnp.asarray(v, settings.dtype) for name, v in numbers.items()})
    data = data._replace(
        weights=checked_weights(weights, (len(keys), len(data.x)), settings.dtype),
        rows=checked_rows(rows, "rows", len(data.x)),
        held_out=checked_rows(held_out, "held_out", len(data.x)),
        weight_decay=jnp.asarray(decay, settings.dtype),
    )
    everyone = scheduling.Members(settings, _axes(data), data, keys, initial)
    states = _train(everyone, wide, lanes, devices, progress)
    result = as_result(settings, states)
    if (lost := int(np.sum(np.asarray(states.code) == DIVERGED))) > 0:
        warnings.warn(
            f"{lost} of {len(keys)} members diverged; their last good hypotheses are returned (result.diverged tells "
            "which). Lower the learning rate, or standardize the data.",
            DivergenceWarning,
            stacklevel=2,
        )
    return Ensemble(result, wide, likelihood, networks)


def _members(
    network: Any,
    key: Any,
    members: int | None,
    hyperparameters: Mapping[str, Any] | None,
    weight_decay: Any,
    weights: Any,
    rows: Any,
    held_out: Any,
    params: Any,
) -> tuple[tuple[Network, ...], Array]:
    """Each member's network and key; everything that has a member axis must agree on their number."""
    counts: dict[str, int] = {} if members is None else {"members": members}
    if not isinstance(network, Network):
        network = tuple(network)
        counts["network"] = len(network)
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim <= 1):
        raise TypeError(f"expected a typed key (jax.random.key) or an array of them, one for each member; got {key!r}")
    if key.ndim == 1:
        counts["key"] = len(key)
    varied = {"weight_decay": (weight_decay, 0), "weights": (weights, 1), "rows": (rows, 1), "held_out": (held_out, 1)}
    varied |= {f"hyperparameters[{name!r}]": (value, 0) for name, value in (hyperparameters or {}).items()}
    for name, (value, common) in varied.items():
        if value is not None and np.ndim(value) == common + 1:
            counts[name] = np.shape(value)[0]
        elif value is not None and (np.ndim(value) != common or name in ("rows", "held_out")):
            raise ValueError(f"expected {name} with a first axis over the members, got shape {np.shape(value)}")
    if params is not None:
        counts["params"] = np.shape(jax.tree.leaves(params)[0])[0]
    if not counts:
        raise ValueError("expected the number of members: pass members=, or an array of keys")
    if len(set(counts.values())) > 1 or min(counts.values()) < 1:
        raise ValueError(f"expected one number of members, at least 1, in all arguments; got {counts}")
    count = next(iter(counts.values()))
    networks = network if isinstance(network, tuple) else (network,) * count
    return networks, key if key.ndim == 1 else jax.random.split(key, count)


def _hyperparameters(
    optimizer: Any, hyperparameters: Mapping[str, Any] | None, count: int
) -> tuple[optax.GradientTransformation, dict[str, np.ndarray] | None]:
    """An optimizer (the first member's), and the numbers of all members; each member's are checked."""
    if hyperparameters is None:
        return adam() if optimizer is None else optimizer, None
    if not callable(optimizer):
        raise TypeError(
            "expected optimizer as a function that takes the hyperparameters, as optimizer=jnn.adam with "
            f"hyperparameters={{'learning_rate': ...}}; got {optimizer!r}"
        )
    numbers = {name: np.broadcast_to(np.asarray(value), count) for name, value in hyperparameters.items()}
    build = cast(Callable[..., optax.GradientTransformation], optimizer)
    made = [build(**dict(zip(numbers, values, strict=True))) for values in zip(*numbers.values(), strict=True)]
    return made[0], numbers


def _initial(networks: Sequence[Network], wide: Network, keys: Array, settings: Settings) -> Params:
    """What `jnn.fit` would draw for each member's own network, in the wide one."""

    @functools.cache
    def draw(network: Network) -> Callable[[Array], Params]:
        def one(key: Array) -> Params:
            own = jax.random.split(key, 3)[0]  # as in the compiled program's `start`
            return widen(network, wide, network.init(own, weights=settings.initializer, dtype=settings.dtype))

        return jax.jit(jax.vmap(one))

    place: dict[int, Params] = {}
    for network in dict.fromkeys(networks):
        numbers = [n for n, own in enumerate(networks) if own == network]
        drawn = draw(network)(keys[np.array(numbers)])
        place |= {n: jax.tree.map(lambda leaf, i=i: leaf[i], drawn) for i, n in enumerate(numbers)}
    return _stacked([place[n] for n in range(len(networks))])


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)


def _axes(data: Data) -> Data:
    """Which of the data have a member axis."""
    return Data(
        x=None,  # type: ignore[arg-type]
        y=None,  # type: ignore[arg-type]
        weights=0 if data.weights is not None and data.weights.ndim == 2 else None,  # type: ignore[arg-type]
        validation=None,
        weight_decay=0 if data.weight_decay.ndim == 1 else None,  # type: ignore[arg-type]
        mask=None,
        hyperparameters=None if data.hyperparameters is None else 0,  # type: ignore[arg-type]
        rows=None if data.rows is None else 0,  # type: ignore[arg-type]
        held_out=None if data.held_out is None else 0,  # type: ignore[arg-type]
        present=None if data.present is None else 0,
    )


def _train(
    everyone: scheduling.Members, network: Network, lanes: int | None, devices: Sequence[Any] | None, progress: bool
) -> Any:
    local = list(jax.local_devices() if devices is None else devices)
    if not local:
        raise ValueError("expected at least one device, got none")
    if lanes is not None and lanes < 1:
        raise ValueError(f"expected lanes of at least 1, got {lanes}")
    settings = dataclasses.replace(everyone.settings, platform=local[0].platform)
    everyone, data = dataclasses.replace(everyone, settings=settings), everyone.data
    in_step = len(data.x) if data.rows is None else data.rows.shape[1]
    if settings.batch_size is not None:
        in_step = min(in_step, settings.batch_size)
    if local[0].platform == "cpu":
        local = (local * scheduling.cpu_workers())[: max(len(local), scheduling.cpu_workers())]
    share = -(-everyone.count // len(local))
    lanes = min(share, scheduling.lanes_for(network, in_step, share, local[0])) if lanes is None else lanes
    with interruptible() as interrupted, bars.count(everyone.count, progress) as show:
        return scheduling.train(everyone, local, lanes, show, interrupted)
