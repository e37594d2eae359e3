"""Training the members of an estimator: an ensemble as one compiled program, or L-BFGS of SciPy's for each."""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from jnn import backprop, ensembles
from jnn.likelihoods import Likelihood
from jnn.networks import Layered, Network, Params
from jnn.sklearn.plan import Plan
from jnn.sklearn.shapes import rounded_up, with_places, with_rows
from jnn.training.fitting import DivergenceWarning
from jnn.training.program import RUNNING


@dataclass(frozen=True)
class Trained:
    """What was learned, as NumPy arrays with a first axis over the members.

    `train` and `validation` are risks by epoch, NaN where there is none; `ended` tells who was stopped by a rule.
    """

    best: Params
    last: Params
    train: np.ndarray
    validation: np.ndarray
    epochs: np.ndarray
    best_epoch: np.ndarray
    ended: np.ndarray


@dataclass(frozen=True)
class Problem:
    """The examples, standardized, as the likelihood takes them; weights or None; the user's validation set or None."""

    network: Layered
    likelihood: Likelihood
    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    validation: Any


def train(
    problem: Problem,
    plan: Plan,
    key: Array,
    rows: np.ndarray,
    held_out: np.ndarray | None,
    *,
    start: Params | None,
    shuffle: bool,
    device: Any,
    progress: bool,
) -> Trained:
    """Train all members.

    Args:
        problem: the examples.
        plan: how to train.
        key: for the first weights and the order of the examples.
        rows: each member's examples, `(members, m)`, negative for none.
        held_out: those that it validates on, or None.
        start: the members' first parameters, or None to draw them.
        shuffle: whether each epoch has a new order.
        device: where, or None.
        progress: whether to show a bar.
    """
    weights_key, key = jax.random.split(key)
    if start is None:
        start = first_weights(problem.network, weights_key, plan.members, problem.x.dtype)
    if plan.optimizer is None:
        return _by_scipy(problem, plan, start)
    padded = rounded_up(len(problem.x))
    places, places_held_out = plan.division(padded)  # no fewer than any number of examples that is rounded up so
    weights = problem.weights
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DivergenceWarning)  # the estimator says so in scikit-learn's way
        trained = ensembles.fit(
            problem.network,
            problem.likelihood,
            with_rows(problem.x, padded),
            with_rows(problem.y, padded),
            key=key,
            members=plan.members,
            optimizer=plan.optimizer,
            epochs=plan.epochs,
            batch_size=plan.batch_size,
            shuffle=shuffle,
            weights=None if weights is None else with_rows(weights.astype(problem.x.dtype), padded),
            rows=with_places(rows, places),
            held_out=None if held_out is None else with_places(held_out, places_held_out),
            validation=problem.validation,
            stopping=plan.rules or None,
            weight_decay=plan.alpha,
            params=start,
            devices=None if device is None else [device],
            progress=progress,
        )
    result = trained.result
    best, last, train, validation, epochs, best_epoch, code = jax.device_get(
        (
            result.params,
            result.last_params,
            result.history.train_error,
            result.history.validation_error,
            result.epochs,
            result.best_epoch,
            result.code,
        )
    )
    return Trained(best, last, train, validation, epochs, best_epoch, code != RUNNING)


def first_weights(network: Layered, key: Array, members: int, dtype: Any) -> Params:
    """Weights for every member, as `jnn.networks.initialization.fan_in_normal` describes them.

    Drawn by NumPy, from the key: compiling what draws them would take longer than training does on few examples.
    """
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())

    def draw(fan_in: int, size: int, gain: float) -> dict[str, np.ndarray]:
        w = random.normal(scale=gain / np.sqrt(fan_in), size=(members, fan_in, size))
        return {"W": w.astype(dtype), "b": np.zeros((members, size), dtype)}

    return tuple(draw(network.fan_in(layer), layer.size, layer.activation.gain) for layer in network.layers)


@jax.jit(static_argnames=("network", "likelihood", "unravel"))
def _value_and_gradient(
    network: Network,
    likelihood: Likelihood,
    unravel: Callable[[Array], Params],
    w: Array,
    x: Array,
    y: Array,
    weights: Array,
    alpha: Array,
) -> tuple[Array, Array]:
    evaluate = backprop.value_and_grad(network, likelihood, reduction="mean", weight_decay=alpha)
    value, gradient = evaluate(unravel(w), x, y, weights)
    return value, ravel_pytree(gradient)[0]


@functools.lru_cache(maxsize=64)
def _unravel(network: Network, dtype: Any) -> Callable[[Array], Params]:
    """From a vector to parameters; one function for a network, so that its program is found again."""
    return ravel_pytree(network.init(jax.random.key(0), dtype=dtype))[1]


def _by_scipy(problem: Problem, plan: Plan, start: Params) -> Trained:
    """L-BFGS on all examples, one member after another: SciPy's needs no more compiled than the gradient."""
    n, padded, dtype = len(problem.x), rounded_up(len(problem.x)), problem.x.dtype
    weights = np.ones(n) if problem.weights is None else problem.weights
    x, y = jnp.asarray(with_rows(problem.x, padded)), jnp.asarray(with_rows(problem.y, padded))
    v = jnp.asarray(with_rows(weights.astype(dtype), padded))
    alpha = jnp.asarray(plan.alpha, dtype)
    unravel = _unravel(problem.network, dtype)

    def evaluate(w: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _value_and_gradient(
            problem.network, problem.likelihood, unravel, jnp.asarray(w, dtype), x, y, v, alpha
        )
        return float(value), np.asarray(gradient, np.float64)

    found, curves, iterations, ended = [], [], [], []
    for member in range(plan.members):
        first = jax.tree.map(lambda leaf, m=member: leaf[m], start)
        curve: list[float] = []
        solution = scipy.optimize.minimize(
            evaluate,
            np.asarray(ravel_pytree(first)[0], np.float64),
            jac=True,
            method="L-BFGS-B",
            callback=_recorder(curve),
            options={"maxiter": plan.epochs, "maxfun": plan.evaluations, "gtol": plan.tol, "ftol": _ftol(dtype)},
        )
        found.append(unravel(jnp.asarray(solution.x, dtype)))
        curves.append(curve or [float(solution.fun)])
        iterations.append(max(1, solution.nit))
        ended.append(solution.status == 0)
    longest = max(map(len, curves))
    train = np.stack([np.pad(c, (0, longest - len(c)), constant_values=np.nan) for c in curves])
    params = jax.device_get(jax.tree.map(lambda *leaves: jnp.stack(leaves), *found))
    epochs = np.asarray(iterations)
    return Trained(params, params, train, np.full_like(train, np.nan), epochs, epochs, np.asarray(ended))


def _recorder(curve: list[float]) -> Callable[[Any], None]:
    """A callback with the one argument by whose name SciPy knows what to pass."""

    def record(intermediate_result: Any) -> None:
        curve.append(float(intermediate_result.fun))

    return record


def _ftol(dtype: Any) -> float:
    """The relative decrease below which nothing is left but rounding."""
    return 64 * float(np.finfo(dtype).eps)
