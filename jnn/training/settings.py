"""The settings of training: named, given their types and defaults, and checked here, for `fit`, `ensembles.fit`,
`ensembles.cross_validate` and the estimators alike.
"""

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jnn import objectives
from jnn.checks import count, number
from jnn.networks import Initializer, Network, Params, fan_in_normal
from jnn.networks.base import expected_parameters
from jnn.optimizers import adam, takes_curvature
from jnn.training.program import Gradient
from jnn.training.stopping import LargeDamping, SmallGradient, SmallStep, StoppingRule
from jnn.training.structure import as_data


class NoGradientWarning(UserWarning):
    """The network has hidden neurons through which no gradient passes."""


class Settings(TypedDict, total=False):
    """What training takes besides a network, a likelihood and examples, as keyword arguments."""

    optimizer: optax.GradientTransformation
    epochs: int
    batch_size: int | None
    shuffle: bool
    validate_every: int
    stopping: StoppingRule | Sequence[StoppingRule] | None
    weight_decay: float | Float[Array | np.ndarray, "..."]
    mask: Params | None
    reduction: objectives.Reduction
    gradient: Gradient
    initializer: Initializer
    progress: bool


DEFAULTS: Settings = {
    "optimizer": adam(),
    "epochs": 100,
    "batch_size": 32,
    "shuffle": True,
    "validate_every": 1,
    "stopping": None,
    "weight_decay": 0.0,
    "mask": None,
    "reduction": "mean",
    "gradient": "backprop",
    "initializer": fan_in_normal,
    "progress": False,
}

MEANINGS = """optimizer: `adam()` by default; any of jnn's or optax's, L-BFGS with its line search too. jnn's are
            pytrees of their numbers, and `optimizers.parametrized` makes one of any other; another number needs no
            other program. An optimizer of optax's is known by its functions: build it once, and pass the same again.
        epochs: the most passes over the examples.
        batch_size: examples a step; 1 is online learning, None batch learning (as always with `levenberg_marquardt`).
        shuffle: whether each epoch takes the examples in a new random order, or always in the given one.
        validate_every: epochs from one validation to the next.
        stopping: a rule or several from `jnn.training.stopping`; None runs all epochs.
        weight_decay: γ ≥ 0.
        mask: which weights decay; by default all but biases and the weights of linear outputs (with
            `levenberg_marquardt`, all of them).
        reduction: "mean" or "sum" (see `jnn.objectives`); with "sum" the gradient is N times as large.
        gradient: "backprop" for the hand-written one, "autodiff" for JAX's.
        initializer: how to draw weights (see `jnn.networks.initialization`).
        progress: show a bar with the risks (needs rich)."""

F = TypeVar("F", bound=Callable[..., Any])


def takes_settings(function: F) -> F:
    """Show the settings in the function's signature and docstring, in place of `**settings` and `{settings}`."""
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=Settings.__annotations__[name]
        )
        for name, value in DEFAULTS.items()
    ]

    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # "strict" is for its user's own code
            return function(*given, **named)

    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__doc__ = (function.__doc__ or "").replace("{settings}", MEANINGS)
    return call  # type: ignore[return-value]


def checked(settings: Mapping[str, Any], network: Network, validated: bool, several: bool) -> dict[str, Any]:
    """All settings, checked: `stopping` as a tuple of rules, and the defaults where nothing was given.

    Raises:
        TypeError, ValueError: for what does not fit, in the user's terms.
    """
    if unknown := sorted(set(settings) - set(DEFAULTS)):
        raise TypeError(f"unexpected argument {unknown[0]!r}; the settings of training are {', '.join(DEFAULTS)}")
    given: dict[str, Any] = {**DEFAULTS, **settings}
    optimizer = adam() if given["optimizer"] is None else given["optimizer"]
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(f"expected an optimizer, as jnn.adam(1e-3) or one of optax's, got {optimizer!r}")
    objectives.check_reduction(given["reduction"])
    if given["gradient"] not in ("backprop", "autodiff"):
        raise ValueError(f'expected gradient "backprop" or "autodiff", got {given["gradient"]!r}')
    for name in ("epochs", "validate_every", "batch_size"):
        value = given[name]
        if value is None and name == "batch_size":
            continue
        given[name] = count(name, value)
    if validated and given["validate_every"] > given["epochs"]:
        raise ValueError(
            f"expected validate_every of at most the {given['epochs']} epochs, got {given['validate_every']}"
        )
    stopping = given["stopping"]
    rules = tuple(stopping) if isinstance(stopping, (list, tuple)) else () if stopping is None else (stopping,)
    for rule in rules:
        if not isinstance(rule, StoppingRule):
            raise TypeError(f"expected stopping rules from jnn.training.stopping, got {rule!r}")
        rule.check()
        if rule.needs_validation and not validated:
            raise ValueError(f"{rule} watches the validation risk: pass validation, a fraction or (x, y)")
    if not callable(given["initializer"]):
        raise TypeError(f"expected an initializer, as jnn.networks.normal(0.1), got {given['initializer']!r}")
    if not several:
        _check_scalar(given["weight_decay"], optimizer, rules)
    given["weight_decay"] = number("weight_decay", given["weight_decay"], "a number ≥ 0", lambda x: x >= 0)
    _check_mask(network, given["mask"])
    given |= {"optimizer": optimizer, "stopping": rules}
    return given | _with_curvature(given, settings, network) if takes_curvature(optimizer) else given


def _with_curvature(given: Mapping[str, Any], settings: Mapping[str, Any], network: Network) -> dict[str, Any]:
    """What Levenberg-Marquardt asks of the other settings: all examples in a step, all weights decaying, its own ends.

    Raises:
        ValueError: for mini-batches, and for a mask that spares weights.
    """
    if settings.get("batch_size") is not None:
        raise ValueError(
            f"levenberg_marquardt takes all examples in every step, got batch_size={settings['batch_size']}; leave it "
            "out, or take jnn.adam"
        )
    decays = not objectives.is_zero(given["weight_decay"])
    mask = given["mask"]
    if decays and mask is not None:
        counted = jax.tree.map(
            lambda m, all_but_biases: np.all(m | ~all_but_biases), mask, objectives.all_weights_mask(network)
        )
        if not all(jax.tree.leaves(counted)):
            raise ValueError(
                "levenberg_marquardt needs all weights to decay if any do, but the mask spares some: where those of "
                "linear outputs are spared, the objective has no minimum, and the others fall to 0 while these grow. "
                "Leave mask out, or pass jnn.objectives.all_weights_mask(network)"
            )
    optimizer = given["optimizer"].numbers
    own = (
        SmallGradient(optimizer["gradient_tolerance"]),
        SmallStep(optimizer["step_tolerance"]),
        LargeDamping(optimizer["most_damping"]),
    )
    mask = objectives.every_weight_mask(network) if decays and mask is None else mask
    return {"batch_size": None, "mask": mask, "stopping": (*given["stopping"], *own)}


def numbers(settings: Mapping[str, Any], dtype: Any) -> tuple[Any, Any, Any, Any]:
    """Optimizer, rules, initializer and weight decay with arrays of at least float32 for numbers."""
    wide, decay = np.promote_types(dtype, np.float32), settings["weight_decay"]
    if isinstance(decay, jax.core.Tracer):
        decay = decay.astype(dtype)
    else:
        with np.errstate(over="ignore"):
            decay = np.asarray(decay, jnp.dtype(dtype))
        if not np.isfinite(decay).all():
            raise ValueError(f"expected weight_decay within {dtype}'s range, got {settings['weight_decay']}")
    return (*(as_data(settings[name], wide) for name in ("optimizer", "stopping", "initializer")), decay)


def _check_scalar(decay: Any, optimizer: Any, rules: Any) -> None:
    """One network has one number of each."""
    if np.ndim(decay) != 0:
        raise ValueError(
            f"expected weight_decay as one number, got shape {np.shape(decay)}; jnn.ensembles.fit takes one for each "
            "member, and fit can be vmapped"
        )
    given = dict(getattr(optimizer, "numbers", {}))
    schedules = {name: value for name, value in given.items() if callable(value)}
    given |= {
        f"{name}{jax.tree_util.keystr(path)}": leaf
        for name, value in schedules.items()
        for path, leaf in jax.tree.leaves_with_path(value)
    }
    numbers = given | {
        f"{type(rule).__name__}{jax.tree_util.keystr(path)}": leaf
        for rule in rules
        for path, leaf in jax.tree.leaves_with_path(rule)
    }
    for name, value in numbers.items():
        if isinstance(value, (np.ndarray, jax.Array)) and np.ndim(value):
            raise ValueError(
                f"expected one number for {name}, got shape {np.shape(value)}; jnn.ensembles.fit takes one for each "
                "member, and fit can be vmapped"
            )


def _check_mask(network: Network, mask: Params | None) -> None:
    """It broadcasts to the weights."""
    if mask is None:
        return
    expected = expected_parameters(network)
    if jax.tree.structure(mask) != jax.tree.structure(expected):
        raise ValueError(
            f"expected mask of the structure that network.init gives, {jax.tree.structure(expected)}; "
            f"got {jax.tree.structure(mask)}"
        )
    for (path, like), leaf in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(mask), strict=True):
        with contextlib.suppress(ValueError):
            if np.broadcast_shapes(np.shape(leaf), like.shape) == like.shape:
                continue
        where = jax.tree_util.keystr(path)
        raise ValueError(f"expected mask{where} of shape {like.shape}, as network.init gives; got {np.shape(leaf)}")


def warn_of_thresholds(network: Network, stacklevel: int) -> None:
    """Warn if the network has hidden neurons through which no gradient passes."""
    blocked = sorted({h.name for h in network.hidden_activations if not h.gradient_passes})
    if blocked:
        warnings.warn(
            f"no gradient passes through {', '.join(blocked)}: the weights before those neurons will not be trained",
            NoGradientWarning,
            stacklevel=stacklevel + 1,
        )
