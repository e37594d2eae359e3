"""What is to be learned from: examples checked, and laid out in arrays of a few sizes."""

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jnn import objectives
from jnn.checks import example_weights, real_array
from jnn.data import OnDisk, blocks
from jnn.likelihoods import Bernoulli, Categorical, Likelihood
from jnn.networks import Network, Params
from jnn.optimizers import takes_curvature
from jnn.training.dividing import Division
from jnn.training.program import Examples, Program, Shared
from jnn.training.splitting import Rows, held_out_count
from jnn.training.structure import COARSE, FINE, LEAST, LEAST_VALIDATED, room_for, rounded_up


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, a likelihood and examples that fit each other.

    Attributes:
        network: f(x; w).
        likelihood: p(y | x; w).
        examples: to learn from, as they were given.
        validation: the user's own examples to validate on, with weights, or None.
        fraction: the share to set aside for validation, or None.
        dtype: of the parameters.
    """

    network: Network
    likelihood: Likelihood
    examples: Examples
    validation: Examples | None
    fraction: float | None
    dtype: Any

    @property
    def count(self) -> int:
        """N."""
        return len(self.examples.x)


def check_problem(
    network: Network,
    likelihood: Likelihood,
    examples: Examples,
    validation: Any,
    params: Params | None,
    on_host: bool = False,
) -> Problem:
    """Check everything that is about examples.

    Raises:
        TypeError, ValueError: for what does not fit, in the user's terms.
    """
    if not isinstance(network, Network):
        raise TypeError(f"expected a network, as from jnn.mlp or jnn.dag, got {network!r}")
    if not isinstance(likelihood, Likelihood):
        raise TypeError(f"expected a likelihood, as jnn.likelihoods.Categorical(), got {likelihood!r}")
    x = _numbers(examples.x, "x")
    dtype = _parameter_dtype(x, params)
    with jax.default_device(jax.local_devices(backend="cpu")[0]) if on_host else contextlib.nullcontext():
        checked = _checked(network, likelihood, Examples(x, *examples[1:]), dtype, "", on_host)
    own = fraction = None
    if isinstance(validation, tuple):
        if len(validation) not in (2, 3):
            raise ValueError(f"expected validation as (x, y) or (x, y, weights), got {len(validation)} arrays")
        vx, vy, vw = (*validation, None)[:3]
        given = Examples(_numbers(vx, "validation x"), vy, vw)
        own = _checked(network, likelihood, given, dtype, "validation ")
    elif validation is not None:
        if isinstance(validation, bool) or not isinstance(validation, (int, float, np.number)):
            raise TypeError(f"expected validation as a fraction, (x, y) or (x, y, weights), got {type(validation)}")
        fraction = float(validation)
        if not 0 < fraction < 1:
            raise ValueError(f"expected a validation fraction between 0 and 1, got {fraction}")
    return Problem(network, likelihood, checked, own, fraction, dtype)


def _parameter_dtype(x: Any, params: Params | None) -> Any:
    if params is not None:
        leaves = jax.tree.leaves(params)
        if len(dtypes := {jnp.dtype(leaf.dtype) for leaf in leaves}) > 1:
            raise TypeError(f"expected params of one dtype, got {', '.join(sorted(map(str, dtypes)))}; convert them")
        if not all(isinstance(leaf, jax.core.Tracer) or np.isfinite(leaf).all() for leaf in leaves):
            raise ValueError("params has NaN or infinite values; draw them again, or take those of an earlier epoch")
        return dtypes.pop()
    dtype = jnp.result_type(x)  # of the array in JAX, without making it
    return jnp.dtype(dtype) if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(jnp.float32)


def _numbers(x: Any, name: str) -> Any:
    return x if isinstance(x, OnDisk) else real_array(x, name)


def _checked(
    network: Network, likelihood: Likelihood, given: Examples, dtype: Any, which: str, on_host: bool = False
) -> Examples:
    x, y, weights = given
    if isinstance(x, OnDisk) and not on_host:
        x = np.asarray(x)
    if np.ndim(x) != 2 or x.shape[1] != network.inputs:
        raise ValueError(f"expected {which}x of shape (n, {network.inputs}), one row an example; got {np.shape(x)}")
    if len(x) == 0:
        raise ValueError(f"expected at least one {which}example, got none")
    if not isinstance(x, jax.core.Tracer):
        wrong = _rows_not_finite(x, dtype)
        if len(wrong):
            raise ValueError(
                f"{which}x has NaN or infinite values (in {dtype}) in {len(wrong)} rows, the first is row {wrong[0]}; "
                "remove or impute them"
            )
    with np.errstate(over="ignore"):
        if not isinstance(x, OnDisk):
            x = np.asarray(x) if on_host else x.astype(dtype)
    y = likelihood.check_targets(y, network.outputs)
    if y.ndim > 2 or (y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.floating)) or y.ndim == 0:
        raise ValueError(f"expected {which}y of shape (n, K), or (n,) integer labels; got {y.shape}")
    if len(y) != len(x):
        raise ValueError(f"expected a target for each of the {len(x)} {which}examples, got {len(y)}")
    weights = example_weights(weights, (len(x),), dtype, which)
    if on_host:
        return Examples(x, np.asarray(y), None if weights is None else np.asarray(weights))
    return Examples(x, y, weights)


def _rows_not_finite(x: Any, dtype: Any) -> np.ndarray:
    """The numbers of the rows with NaN or infinite values, looked for where the examples are.

    On the host block by block, to need no memory of the data's size.
    """
    if isinstance(x, Array) and any(device.platform != "cpu" for device in x.devices()):
        return np.flatnonzero(~np.asarray(_finite_rows(x, dtype)))
    x = x if isinstance(x, OnDisk) else np.asarray(x)

    def finite(rows: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.asarray(np.isfinite(rows.astype(dtype, copy=False)).all(axis=1))

    return np.flatnonzero(~np.concatenate([finite(rows) for rows in blocks(x)]))


@functools.partial(jax.jit, static_argnames="dtype")
def _finite_rows(x: Array, dtype: Any) -> Array:
    return jnp.isfinite(x.astype(dtype)).all(axis=1)


# --- in arrays of a few sizes


def lay_out(
    problem: Problem,
    settings: Mapping[str, Any],
    *,
    rows: Rows | None = None,
    on_host: bool = False,
    axis: str | None = None,
    division: Division | None = None,
) -> tuple[Program, Shared]:
    """What to compile for, and what all members have in common.

    Rows are filled up to a size that data of nearly as many rows share. In batch learning all of them are worked on in
    every step, so there the sizes are finer.
    """
    each = np.asarray(problem.count if rows is None else rows.count)
    whole = settings["batch_size"] is None or settings["batch_size"] >= int(each.max())
    steps = FINE if whole else COARSE
    least = 1 if whole else LEAST
    size = rounded_up(problem.count, steps if rows is None else COARSE, least)
    lead = size if rows is None else rows.index.shape[-1]
    held_out = 0 if problem.fraction is None else round(problem.fraction * lead)
    trained = int(each.max()) - (0 if problem.fraction is None else held_out_count(int(each.max()), problem.fraction))
    platform = _platform(problem.examples.x) if division is None else division.devices[0].platform
    counts = [] if whole else (-(-(each - aside(problem, each)) // settings["batch_size"])).reshape(-1).tolist()
    # A GPU asks the host at every turn of a loop whether to go on, unless it is known how often.
    fixed = None if platform == "cpu" or whole else max(counts)
    split: Literal["none", "plain", "stratified"] = "none"
    if problem.fraction is not None:
        split = "stratified" if _has_classes(problem) else "plain"
    program = Program(
        network=problem.network,
        likelihood=problem.likelihood,
        gradient=settings["gradient"],
        reduction=settings["reduction"],
        batch_size=None if whole else settings["batch_size"],
        shuffle=settings["shuffle"],
        decays=not objectives.is_zero(settings["weight_decay"]),
        split=split,
        places=(max(lead - held_out, trained), max(held_out, 1)) if problem.fraction is not None else (lead, 0),
        room=room_for(settings["epochs"]),
        dtype=problem.dtype,
        platform=platform,
        steps=fixed,
        ragged=len(set(counts)) > 1,
        axis=axis,
        division=division,
        curvature=takes_curvature(settings["optimizer"]),
    )
    return program, Shared(
        examples=_on_host(problem, program, size) if on_host else filled(problem.examples, size),
        count=np.asarray(problem.count, int),
        validation=_filled_validation(problem),
        mask=settings["mask"],
        epochs=np.asarray(settings["epochs"], int),
        validate_every=np.asarray(settings["validate_every"], int),
    )


def aside(problem: Problem, each: np.ndarray) -> np.ndarray:
    """How many of so many examples are set aside for validation.

    Raises:
        ValueError: if either part would be empty.
    """
    if problem.fraction is None:
        return np.zeros_like(each)
    return np.vectorize(lambda count: held_out_count(int(count), problem.fraction), otypes=[int])(each)


def _has_classes(problem: Problem) -> bool:
    likelihood = problem.likelihood
    return isinstance(likelihood, Categorical) or (isinstance(likelihood, Bernoulli) and problem.network.outputs == 1)


def _platform(x: Any) -> str:
    """Of the device where training will take place, as far as is known."""
    if isinstance(x, Array) and not isinstance(x, jax.core.Tracer):
        return next(iter(x.devices())).platform
    return jax.default_backend()


def filled(examples: Examples, size: int) -> Examples:
    """The examples with the last one again in the rows that fill the arrays up: nothing new, and never counted."""
    return Examples(*(None if leaf is None else fill(leaf, size) for leaf in examples))


def fill(array: Any, size: int, axis: int = 0) -> Any:
    """An array with its last entry again, up to a size; on the host where that costs no transfer."""
    missing = size - array.shape[axis]
    if missing == 0:
        return jax.device_put(array) if isinstance(array, np.ndarray) else jnp.asarray(array)
    pad = [(0, 0)] * array.ndim
    pad[axis] = (0, missing)
    if isinstance(array, jax.core.Tracer) or (
        isinstance(array, Array) and any(device.platform != "cpu" for device in array.devices())
    ):
        return jnp.pad(array, pad, mode="edge")
    return jax.device_put(np.pad(np.asarray(array), pad, mode="edge"))


def _filled_validation(problem: Problem) -> Examples | None:
    """The user's own validation examples; rows that fill up weigh nothing."""
    if problem.validation is None:
        return None
    x, y, weights = problem.validation
    size = rounded_up(len(x), COARSE, LEAST_VALIDATED)
    weights = np.ones(len(x), problem.dtype) if weights is None else weights
    missing = [(0, size - len(x))]
    weights = jnp.pad(weights, missing) if isinstance(weights, Array) else np.pad(weights, missing)
    return Examples(fill(x, size), fill(y, size), weights)


def _on_host(problem: Problem, program: Program, size: int) -> Examples:
    """What the device is given of examples that stay on the host: nothing but what setting some aside needs."""
    y = none = np.empty((size, 0), problem.dtype)
    if program.split == "stratified":
        y = problem.examples.y
        y = fill(np.argmax(y, axis=1) if y.ndim == 2 and y.shape[1] > 1 else y, size)
    return Examples(none, y, None)
