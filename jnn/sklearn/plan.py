"""From an estimator's parameters and the data's shape to what is trained, and how: all defaults are decided here."""

import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optax

from jnn.networks.base import Hidden
from jnn.optimizers import adam, steepest_descent
from jnn.sklearn.shapes import rounded_up
from jnn.training import stopping
from jnn.training.stopping import StoppingRule

AUTO = "auto"

MEMBERS = 8
HIDDEN = (64, 64)
HIDDEN_FOR_FEW = (32, 32)
FEW = 400
ACTIVATION = "silu"
LEARNING_RATE = 0.02
ALPHA = 1.0
BATCH_SIZE = 32
UPDATES = 1000
EPOCHS = (40, 100)
"""The recipe's numbers, the same for all data but for the smaller networks of `FEW` examples, as good there and
faster. Chosen by hand on some thirty sets of the KEEL collection; `experiments/estimators.py` shows what they reach."""


DTYPES = ("float32", "float64", np.float32, np.float64, np.dtype(np.float32), np.dtype(np.float64))

Validation = Literal["folds", "own"] | float | None


@dataclass(frozen=True)
class Plan:
    """What is trained, and how.

    `validation` is "folds" if each member holds out a fold of its own, "own" if the user gave examples for it, a
    fraction, or None. `squashes` allows for scalings that no weights can take up: in an ensemble, which has no
    `coefs_`. `expects_an_end` says that training should be ended by a rule, so that running out of epochs is worth a
    warning.
    """

    hidden: tuple[int, ...]
    activation: Hidden
    members: int
    epochs: int
    batch_size: int | None
    optimizer: optax.GradientTransformation | None  # None: SciPy's L-BFGS
    evaluations: int
    tol: float
    alpha: float
    rules: tuple[StoppingRule, ...]
    validation: Validation
    squashes: bool
    expects_an_end: bool

    def division(self, examples: int) -> tuple[int, int]:
        """Of so many examples, how many a member trains on, and how many it holds out."""
        return _division(self.validation, self.members, examples)


def make_plan(
    parameters: Mapping[str, Any],
    examples: int,
    own_validation: bool,
    streaming: bool = False,
    loss_unit: float = 1.0,
) -> Plan:
    """Fill in what was left to "auto".

    With neither `max_iter` nor `early_stopping` given, solver "adam" follows the recipe: each member holds out another
    fold, Adam's learning rate falls along a cosine to its end, and each member keeps its best hypothesis. Otherwise one
    network is trained with scikit-learn's own defaults, and training ends as there: by `tol` and `n_iter_no_change`, on
    the training or the validation risk.

    Args:
        parameters: the estimator's.
        examples: how many there are.
        own_validation: whether the user gave validation examples.
        streaming: for `partial_fit`: a constant learning rate, nothing held out, no end.
        loss_unit: the loss that is minimized, in units of the one that the user's `tol` is about.

    Raises:
        ValueError: if a parameter is not what it should be.
    """
    checked = _checked(parameters)
    checked["tol"] = 1e-4 if checked["tol"] == AUTO else _to_a_power_of_two(checked["tol"] * loss_unit, loss_unit)
    _check_validation(checked, own_validation)
    given, padded = checked["optimizer"], rounded_up(examples)
    first_order = checked["solver"] != "lbfgs" or given is not None
    adam_like = checked["solver"] == "adam" and given is None
    recipe = adam_like and not streaming and checked["max_iter"] == AUTO and checked["early_stopping"] == AUTO
    members = _or(checked["members"], MEMBERS if recipe else 1)
    validation: Validation = None
    if own_validation:
        validation = "own"
    elif recipe:
        enough = 1 < members <= padded // 2
        validation = "folds" if enough else checked["validation_fraction"] if padded >= 20 else None
    elif first_order and not streaming and checked["early_stopping"] is True:
        validation = checked["validation_fraction"]
    # The recipe's schedule is the same for all sizes that are rounded up to one: it must not be compiled anew.
    rows = _division(validation, members, padded if recipe else examples)[0]
    batch_size = _or(checked["batch_size"], _even_batches(rows) if recipe else min(200, padded))
    steps = max(1, -(-rows // batch_size))
    epochs = _or(checked["max_iter"], int(np.clip(UPDATES // steps, *EPOCHS)) if recipe else 200)
    rate = _or(checked["learning_rate_init"], LEARNING_RATE if recipe else 1e-3)
    return Plan(
        hidden=_or(checked["hidden_layer_sizes"], (HIDDEN_FOR_FEW if padded <= FEW else HIDDEN) if recipe else (100,)),
        activation=_or(checked["activation"], ACTIVATION if recipe else "relu"),
        members=members,
        epochs=epochs,
        batch_size=batch_size if first_order else None,
        optimizer=given or _optimizer(checked, rate, steps, batch_size, epochs if recipe else None),
        evaluations=checked["max_fun"],
        tol=checked["tol"],
        alpha=_or(checked["alpha"], ALPHA if recipe else 1e-4),
        rules=_rules(checked, recipe, validation is not None) if first_order and not streaming else (),
        validation=validation,
        squashes=recipe and members > 1,
        expects_an_end=not recipe and not streaming,
    )


def _division(validation: Validation, members: int, examples: int) -> tuple[int, int]:
    if validation == "folds":
        return examples - examples // members, -(-examples // members)
    held_out = round(validation * examples) if isinstance(validation, float) else 0
    return examples - held_out, held_out


def _even_batches(rows: int) -> int:
    """About `BATCH_SIZE`, such that the last mini-batch is not a few examples with the weight of many."""
    return -(-rows // max(1, round(rows / BATCH_SIZE)))


def _to_a_power_of_two(tol: float, unit: float) -> float:
    """In other units only about so much: the folds of a cross-validation are to share a program."""
    return tol if unit == 1 or tol == 0 else 2.0 ** round(math.log2(tol))


def _or(value: Any, default: Any) -> Any:
    return default if isinstance(value, str) and value == AUTO else value


def _rules(checked: Mapping[str, Any], recipe: bool, validated: bool) -> tuple[StoppingRule, ...]:
    patience = checked["n_iter_no_change"]
    if recipe:
        given = validated and patience not in (AUTO, math.inf)
        return (stopping.Patience(int(patience)),) if given else ()
    patience = _or(patience, 10)
    if patience == math.inf:
        return ()
    reductions = math.ceil(math.log(max(checked["rate"] / 1e-6, 5), 5)) if checked["adaptive"] else 0
    watched = "validation" if validated else "train"
    return (stopping.Patience(int(patience) + 2 * reductions, checked["tol"], watched),)


def _optimizer(
    checked: Mapping[str, Any], rate: float, steps: int, batch_size: int, epochs: int | None
) -> optax.GradientTransformation | None:
    """The solver's update rule; `epochs` is given if the learning rate is to fall along a cosine."""
    solver = checked["solver"]
    if solver == "lbfgs":
        return None
    if solver == "adam":
        schedule = rate if epochs is None else _cosine(rate, steps * epochs)
        return adam(schedule, checked["beta_1"], checked["beta_2"], checked["epsilon"])
    if checked["learning_rate"] == "invscaling":
        rate = _inverse(rate, checked["power_t"], steps, batch_size)  # type: ignore[assignment]
    if checked["learning_rate"] == "adaptive":
        return _adaptive(rate, checked["momentum"], checked["nesterovs_momentum"], steps, float(checked["tol"]))
    if checked["nesterovs_momentum"] and checked["momentum"] > 0:
        return _nesterov(rate, checked["momentum"])
    return steepest_descent(rate, checked["momentum"])


# Each is built once for its arguments: a program that was compiled with it is found again.


@functools.lru_cache
def _cosine(rate: float, updates: int) -> Callable[[Any], Any]:
    return optax.cosine_decay_schedule(rate, updates, alpha=0.02)


@functools.lru_cache
def _inverse(rate: float, power: float, steps: int, batch_size: int) -> Callable[[Any], Any]:
    """η / (t + 1)^power, t the examples seen up to the last epoch's end, as scikit-learn has it."""
    return lambda count: rate / (count // steps * (steps * batch_size) + 1.0) ** power


@functools.lru_cache
def _nesterov(rate: Any, momentum: float) -> optax.GradientTransformation:
    return optax.sgd(rate, momentum, nesterov=True)


@functools.lru_cache
def _adaptive(rate: float, momentum: float, nesterov: bool, steps: int, tol: float) -> optax.GradientTransformation:
    return optax.chain(
        optax.sgd(rate, momentum or None, nesterov=nesterov),
        optax.contrib.reduce_on_plateau(
            factor=0.2, patience=2, rtol=0.0, atol=tol, accumulation_size=steps, min_scale=1e-6 / max(rate, 1e-6)
        ),
    )


def _checked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, each of the type and range that it should have; sizes as a tuple."""
    p = dict(parameters)
    p["hidden_layer_sizes"] = _sizes(p["hidden_layer_sizes"])
    p["learning_rate_init"] = _number(p, "learning_rate_init", above=0, auto=True)
    p["rate"] = _or(p["learning_rate_init"], 1e-3)
    p["alpha"] = _number(p, "alpha", least=0, auto=True)
    for name, low, high in [("beta_1", 0, 1), ("beta_2", 0, 1), ("validation_fraction", 0, 1)]:
        p[name] = _number(p, name, least=low, below=high)
    p["momentum"] = _number(p, "momentum", least=0, most=1)
    p["power_t"] = _number(p, "power_t", least=0)
    p["epsilon"] = _number(p, "epsilon", above=0)
    p["tol"] = _number(p, "tol", least=0, auto=True)
    for name in ("max_iter", "batch_size", "members"):
        p[name] = _count(p, name, auto=True)
    p["max_fun"] = _count(p, "max_fun", auto=False)
    if p["n_iter_no_change"] not in (AUTO, np.inf):
        p["n_iter_no_change"] = _count(p, "n_iter_no_change", auto=False)
    _one_of(p, "solver", ("adam", "sgd", "lbfgs"))
    _one_of(p, "learning_rate", ("constant", "invscaling", "adaptive"))
    _one_of(p, "early_stopping", (AUTO, True, False))
    for name in ("shuffle", "warm_start", "nesterovs_momentum", "standardize"):
        _one_of(p, name, (True, False))
    if p["optimizer"] is not None and not callable(getattr(p["optimizer"], "update", None)):
        raise ValueError(f"expected optimizer as jnn.adam(1e-3) or one of optax's, or None; got {p['optimizer']!r}")
    if p["dtype"] is not None and p["dtype"] not in DTYPES:
        raise ValueError(f"expected dtype as 'float32' or 'float64', or None; got {p['dtype']!r}")
    p["adaptive"] = p["solver"] == "sgd" and p["learning_rate"] == "adaptive"
    return p


def _check_validation(checked: Mapping[str, Any], own: bool) -> None:
    if own and checked["solver"] == "lbfgs" and checked["optimizer"] is None:
        raise ValueError("solver='lbfgs' does not validate: leave out X_val and y_val, or use 'adam' or 'sgd'")
    if own and checked["early_stopping"] is False:
        raise ValueError(
            "X_val and y_val are for early stopping, and early_stopping=False was given; to validate without stopping, "
            "give early_stopping=True and n_iter_no_change=numpy.inf"
        )


def _sizes(value: Any) -> Any:
    if isinstance(value, str) and value == AUTO:
        return AUTO
    sizes = (value,) if isinstance(value, numbers.Integral) else value
    if not isinstance(sizes, Sequence | np.ndarray) or isinstance(sizes, str):
        raise ValueError(f"expected hidden_layer_sizes as a size, a list of sizes or 'auto'; got {value!r}")
    if any(isinstance(s, bool) or not isinstance(s, numbers.Integral) or s < 1 for s in sizes):
        raise ValueError(f"expected hidden_layer_sizes of at least 1 neuron each, got {value!r}")
    return tuple(int(s) for s in sizes)


def _number(
    p: Mapping[str, Any],
    name: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    auto: bool = False,
) -> Any:
    value: Any = p[name]
    if auto and isinstance(value, str) and value == AUTO:
        return AUTO
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    number = float(value) if real else math.nan
    if not (least <= number <= most and above < number < below):
        bounds = [f"≥ {least}"] * (least > -math.inf) + [f"> {above}"] * (above > -math.inf)
        bounds += [f"< {below}"] * (below < math.inf) + [f"≤ {most}"] * (most < math.inf)
        raise ValueError(f"expected {name} {' and '.join(bounds)}{' or auto' * auto}, got {value!r}")
    return number


def _count(p: Mapping[str, Any], name: str, auto: bool) -> Any:
    value: Any = p[name]
    if auto and isinstance(value, str) and value == AUTO:
        return AUTO
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"expected {name} as an integer of at least 1{' or auto' * auto}, got {value!r}")
    return int(value)


def _one_of(p: Mapping[str, Any], name: str, values: Sequence[Any]) -> None:
    value = bool(p[name]) if isinstance(p[name], np.bool_) else p[name]
    if not any(isinstance(value, type(v)) and value == v for v in values):
        raise ValueError(f"expected {name} as one of {', '.join(map(repr, values))}; got {value!r}")
