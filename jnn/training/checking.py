"""What `fit` is given: checked before anything is trained, and sorted into settings (static) and data."""

import contextlib
import functools
import warnings
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jnn import objectives
from jnn.likelihoods import Bernoulli, Categorical, Likelihood
from jnn.networks import Dag, Initializer, Network, Params
from jnn.training.program import Data, Gradient, Settings
from jnn.training.splitting import held_out_count
from jnn.training.stopping import StoppingRule


class NoGradientWarning(UserWarning):
    """The network has hidden neurons through which no gradient passes."""


def prepare(
    network: Network,
    likelihood: Likelihood,
    x: Any,
    y: Any,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int | None,
    weights: Any,
    validation: Any,
    validate_every: int,
    stopping: Any,
    weight_decay: Any,
    mask: Params | None,
    reduction: objectives.Reduction,
    gradient: Gradient,
    params: Params | None,
    initializer: Initializer,
    key: Any,
    shuffle: bool = True,
    held_out: bool = False,
    trained: int | None = None,
    on_host: bool = False,
) -> tuple[Settings, Data]:
    """Check everything, and sort it into what the program is compiled for and what it computes with.

    `held_out` says that rows to validate on are given, `trained` how many rows to train on; both by members only. With
    `on_host`, inputs, targets and weights stay NumPy arrays, the inputs in the dtype that they have.
    """
    if not isinstance(network, Network):
        raise TypeError(f"expected a network, as from jnn.mlp or jnn.dag, got {network!r}")
    if not isinstance(likelihood, Likelihood):
        raise TypeError(f"expected a likelihood, as jnn.likelihoods.Categorical(), got {likelihood!r}")
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(f"expected an optimizer, as jnn.adam(1e-3) or one of optax's, got {optimizer!r}")
    objectives.check_reduction(reduction)
    if gradient not in ("backprop", "autodiff"):
        raise ValueError(f'expected gradient "backprop" or "autodiff", got {gradient!r}')
    for name, value in (("epochs", epochs), ("validate_every", validate_every), ("batch_size", batch_size)):
        if value is None and name == "batch_size":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"expected {name} as an integer of at least 1, got {value!r}")
    if np.ndim(weight_decay) != 0:
        raise ValueError(f"expected weight_decay as one number, got shape {np.shape(weight_decay)}; vmap over several")
    if not isinstance(weight_decay, jax.core.Tracer) and not 0 <= float(weight_decay) < np.inf:
        raise ValueError(f"expected weight_decay ≥ 0, got {weight_decay}")
    if not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0):
        raise TypeError(f"expected one typed key, as from jax.random.key(seed), got {key!r}; vmap over several")
    _warn_of_thresholds(network)

    x = _as_numbers(x, "x")
    _check_parameters(network, params, mask)
    dtype = _parameter_dtype(x, params)
    with jax.default_device(jax.devices("cpu")[0]) if on_host else contextlib.nullcontext():
        x, y, weights = _checked_examples(network, likelihood, x, y, weights, dtype, "", on_host)
    fraction = None
    own = None
    if isinstance(validation, tuple):
        if len(validation) not in (2, 3):
            raise ValueError(f"expected validation as (x, y) or (x, y, weights), got {len(validation)} arrays")
        vx, vy, vw = (*validation, None)[:3]
        own = _checked_examples(network, likelihood, _as_numbers(vx, "validation x"), vy, vw, dtype, "validation ")
    elif validation is not None:
        if not isinstance(validation, (int, float, np.number)):
            raise TypeError(f"expected validation as a fraction, (x, y) or (x, y, weights), got {type(validation)}")
        fraction = float(validation)
        held_out_count(len(x) if trained is None else trained, fraction)
    if held_out and validation is not None:
        raise ValueError("expected validation or held_out, got both")
    validated = validation is not None or held_out
    if validated and validate_every > epochs:
        raise ValueError(f"expected validate_every of at most the {epochs} epochs, got {validate_every}")
    rules = tuple(stopping) if isinstance(stopping, (list, tuple)) else () if stopping is None else (stopping,)
    for rule in rules:
        if not isinstance(rule, StoppingRule):
            raise TypeError(f"expected stopping rules from jnn.training.stopping, got {rule!r}")
        if rule.needs_validation and not validated:
            raise ValueError(f"{rule} watches the validation risk: pass validation, a fraction or (x, y)")
    settings = Settings(
        network=network,
        likelihood=likelihood,
        optimizer=optimizer,
        epochs=int(epochs),
        batch_size=None if batch_size is None or batch_size >= (trained or len(x)) else int(batch_size),
        rules=rules,
        gradient=gradient,
        reduction=reduction,
        fraction=fraction,
        stratify=isinstance(likelihood, Categorical) or (isinstance(likelihood, Bernoulli) and network.outputs == 1),
        validate_every=int(validate_every),
        decays=not objectives.is_zero(weight_decay),
        initializer=initializer,
        dtype=dtype,
        shuffle=bool(shuffle),
        platform=_platform(x),
    )
    return settings, Data(x, y, weights, own, jnp.asarray(weight_decay, dtype), mask)


def _platform(x: Any) -> str:
    """Of the device where training will take place, as far as is known."""
    if isinstance(x, Array) and not isinstance(x, jax.core.Tracer):
        return next(iter(x.devices())).platform
    return jax.default_backend()


def _parameter_dtype(x: Any, params: Params | None) -> Any:
    if params is not None:
        return jax.tree.leaves(params)[0].dtype
    dtype = jnp.result_type(x)  # of the array in JAX, without making it
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(jnp.float32)


def _checked_examples(
    network: Network,
    likelihood: Likelihood,
    x: Any,
    y: Any,
    weights: Any,
    dtype: Any,
    which: str,
    on_host: bool = False,
) -> tuple[Any, Any, Any]:
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
        x = np.asarray(x) if on_host else jnp.asarray(x, dtype)
    y = likelihood.check_targets(y, network.outputs)
    if y.ndim > 2 or (y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.floating)) or y.ndim == 0:
        raise ValueError(f"expected {which}y of shape (n, K), or (n,) integer labels; got {y.shape}")
    if len(y) != len(x):
        raise ValueError(f"expected a target for each of the {len(x)} {which}examples, got {len(y)}")
    weights = checked_weights(weights, (len(x),), dtype, which)
    if on_host:
        return x, np.asarray(y), None if weights is None else np.asarray(weights)
    return x, jnp.asarray(y), weights


def _rows_not_finite(x: np.ndarray | Array, dtype: Any, block: int = 65_536) -> np.ndarray:
    """The numbers of the rows with NaN or infinite values, looked for where the examples are.

    On the host block by block, to need no memory of the data's size.
    """
    if isinstance(x, Array) and any(device.platform != "cpu" for device in x.devices()):
        return np.flatnonzero(~np.asarray(_finite_rows(x, dtype)))
    x = np.asarray(x)

    def finite(rows: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.asarray(np.isfinite(rows.astype(dtype, copy=False)).all(axis=1))

    return np.concatenate(
        [start + np.flatnonzero(~finite(x[start : start + block])) for start in range(0, len(x), block)]
    )


@functools.partial(jax.jit, static_argnames="dtype")
def _finite_rows(x: Array, dtype: Any) -> Array:
    return jnp.isfinite(x.astype(dtype)).all(axis=1)


def checked_weights(weights: Any, shape: tuple[int, ...], dtype: Any, which: str = "") -> Array | None:
    """Weights for the examples (the last axis of `shape`), or for each member as well: finite, ≥ 0, not all zero."""
    if weights is None:
        return None
    if np.shape(weights) not in (shape, shape[-1:]):
        raise ValueError(f"expected {which}weights of shape {shape}, got {np.shape(weights)}")
    if not isinstance(weights, jax.core.Tracer):
        values = np.asarray(weights, np.float64)
        if not (np.isfinite(values).all() and (values >= 0).all() and (values.sum(axis=-1) > 0).all()):
            raise ValueError(f"expected {which}weights that are finite, ≥ 0 and not all zero")
    return jnp.asarray(weights, dtype)


def checked_rows(rows: Any, name: str, count: int) -> Array | None:
    """Numbers of examples, `(members, ...)`: below `count`, negative for none, and at least one for each member."""
    if rows is None:
        return None
    values = np.asarray(rows)
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"expected {name} as integers of shape (members, ...), got {values.dtype} {values.shape}")
    if values.size and values.max() >= count:
        raise ValueError(f"expected {name} below the number of examples, {count}; got {values.max()}")
    if empty := np.flatnonzero(~(values >= 0).any(axis=1)).tolist():
        raise ValueError(f"expected at least one example in {name} of each member; members {empty[:5]} have none")
    return jnp.asarray(values)


def _as_numbers(x: Any, name: str) -> Any:
    """`x` as an array of numbers, whatever has rows and columns."""
    if not isinstance(x, jax.Array):
        x = np.asarray(x)
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
        raise TypeError(f"expected {name} of real numbers, got dtype {x.dtype}; encode categories first")
    return x


def _check_parameters(network: Network, params: Params | None, mask: Params | None) -> None:
    """Check that given parameters and mask are of this network."""
    for name, tree in (("params", params), ("mask", mask)):
        if tree is None:
            continue
        expected = jax.eval_shape(network.init, jax.random.key(0))
        if jax.tree.structure(tree) != jax.tree.structure(expected):
            raise ValueError(
                f"expected {name} of the structure that network.init gives, {jax.tree.structure(expected)}; "
                f"got {jax.tree.structure(tree)}"
            )
        for (path, want), leaf in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(tree), strict=True):
            got = np.shape(leaf)
            # A mask broadcasts to the weights.
            fits = got == want.shape or (name == "mask" and _broadcasts(got, want.shape))
            if not fits:
                where = jax.tree_util.keystr(path)
                raise ValueError(f"expected {name}{where} of shape {want.shape}, as network.init gives; got {got}")
            if name == "params" and not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise TypeError(f"expected params of a floating-point dtype, got {jnp.result_type(leaf)}")


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


def _warn_of_thresholds(network: Network) -> None:
    hidden = network.neuron_activations if isinstance(network, Dag) else [h.activation for h in network.layers[:-1]]  # type: ignore[attr-defined]
    blocked = sorted({h.name for h in hidden if not h.gradient_passes})
    if blocked:
        warnings.warn(
            f"no gradient passes through {', '.join(blocked)}: the weights before those neurons will not be trained",
            NoGradientWarning,
            stacklevel=4,
        )
