"""The objects that a file can describe, by name. Reading looks names up here; it never imports what a file names."""

import datetime
import decimal
import fractions
import operator
import struct
from collections.abc import Callable, Mapping
from dataclasses import fields as dataclass_fields
from typing import Any, NamedTuple

import numpy as np

from jnn import activations, likelihoods, transforms
from jnn.activations import Activation
from jnn.networks import Dag, Layer, Layered
from jnn.persistence.errors import NewerFileError, UnsupportedError
from jnn.persistence.model import Model


class Kind(NamedTuple):
    """How objects of a type are described: by fields, from which they are built again."""

    type: type
    fields: Callable[[Any], dict[str, Any]]
    build: Callable[..., Any]


def attributes(*names: str) -> Callable[[Any], dict[str, Any]]:
    """The fields that are attributes of the same name."""
    return lambda value: {name: getattr(value, name) for name in names}


def plain(cls: type) -> Kind:
    """A dataclass, described by its fields."""
    return Kind(cls, attributes(*(field.name for field in dataclass_fields(cls))), cls)


# --- Activations


def _activation_fields(activation: Activation) -> dict[str, Any]:
    if activations.ACTIVATIONS.get(activation.name) != activation:
        raise UnsupportedError(
            f"the activation {activation.name!r} is one of your own, and a file holds no code. Give it a name when "
            f"you save, save(..., custom={{{activation.name!r}: activation}}), and the same when you load"
        )
    return {"name": activation.name}


def _activation(name: str) -> Activation:
    if name not in activations.ACTIVATIONS:
        raise NewerFileError(
            f"the file names the activation {name!r}, which this jnn does not have: update jnn. "
            f"It has {', '.join(sorted(activations.ACTIVATIONS))}"
        )
    return activations.ACTIVATIONS[name]


# --- Networks


def _count(value: Any, least: int = 0, below: float = float("inf")) -> int:
    if not least <= operator.index(value) < below:
        raise ValueError(f"expected a number from {least} to {below}, got {value}")
    return operator.index(value)


def _layered_fields(network: Layered) -> dict[str, Any]:
    return {
        "inputs": operator.index(network.inputs),
        "layers": [
            {
                "size": operator.index(layer.size),
                "activation": layer.activation,
                "reads": [int(s) for s in layer.sources],
            }
            for layer in network.layers
        ],
    }


def _layered(inputs: int, layers: list[dict[str, Any]]) -> Layered:
    built = []
    for number, layer in enumerate(layers, start=1):
        sources = tuple(_count(s, below=number) for s in layer["reads"])
        built.append(Layer(_count(layer["size"], least=1), _of(Activation, layer["activation"]), sources))
        if not sources:
            raise ValueError(f"layer {number} reads nothing")
    if not built:
        raise ValueError("a network has at least one layer")
    return Layered(_count(inputs, least=1), tuple(built))


def _dag_fields(network: Dag) -> dict[str, Any]:
    kinds = list(dict.fromkeys(network.neuron_activations))
    number = {kind: n for n, kind in enumerate(kinds)}
    return {
        "inputs": network.inputs,
        "hidden": network.hidden,
        "outputs": network.outputs,
        "edges": network.edges,
        "activations": kinds,
        "activation": np.array([number[kind] for kind in network.neuron_activations], np.int32),
        "biased": network.biased,
        "evaluation": network.evaluation,
    }


def _dag(
    inputs: int,
    hidden: int,
    outputs: int,
    edges: np.ndarray,
    activations: list[Activation],
    activation: np.ndarray,
    biased: np.ndarray,
    evaluation: str,
) -> Dag:
    """A network as `jnn.dag` makes it: neuron i reads neurons j < i, none twice, edges ordered by i, then j."""
    d, m, k = _count(inputs, least=1), _count(hidden), _count(outputs, least=1)
    count = 1 + d + m + k
    if edges.dtype != np.int64 or edges.ndim != 2 or edges.shape[1] != 2 or biased.dtype != bool:
        raise ValueError(f"expected edges as integers (E, 2), biased as booleans; got {edges.shape}, {biased.dtype}")
    if biased.shape != (m + k,) or activation.shape != (m,) or evaluation not in ("blocks", "sweep"):
        raise ValueError(f"the sizes {d}, {m}, {k} do not fit the arrays, or there is no evaluation {evaluation!r}")
    source, target = edges.T
    in_order = (np.diff(target) > 0) | ((np.diff(target) == 0) & (np.diff(source) > 0))
    right = (source > 0) & (source <= d + m) & (source < target) & (target > d) & (target < count)
    if not (in_order.all() and right.all()):
        raise ValueError("there are edges that no feed-forward network has")
    each = tuple(_of(Activation, activations[_count(n, below=len(activations))]) for n in activation.tolist())
    edges.setflags(write=False)
    biased.setflags(write=False)
    return Dag(d, m, k, edges, each, biased, evaluation)


# --- Likelihoods, encodings, transforms


def _squared_error_fields(likelihood: likelihoods.SquaredError) -> dict[str, Any]:
    return {"output": likelihood.output, "s": likelihood.error.s}  # type: ignore[attr-defined]


def _general_rule(output: likelihoods.OutputMap, error: likelihoods.Likelihood) -> likelihoods.GeneralRule:
    return likelihoods.GeneralRule(_of(likelihoods.OutputMap, output), _of(likelihoods.Likelihood, error))


def _one_hot_fields(encoding: likelihoods.OneHot) -> dict[str, Any]:
    return {"classes": list(encoding.classes), "dtype": encoding.dtype}


def _one_hot(classes: list, dtype: np.dtype) -> likelihoods.OneHot:
    return likelihoods.OneHot(tuple(classes), _of(np.dtype, dtype))


def _transform(cls: type, names: str) -> Kind:
    """A transform whose arrays end in these axes, d columns and k components, after any of an ensemble."""
    axes = dict(item.split(":") for item in names.split())

    first = next(iter(axes))

    def build(**arrays: Any) -> transforms.Transform:
        sizes: dict[str, int] = {}
        lead = arrays[first].shape[:-1]
        for name, ends in axes.items():
            shape = arrays[name].shape
            if shape[: -len(ends)] != lead or any(
                sizes.setdefault(*item) != item[1] for item in zip(ends, shape[len(lead) :], strict=True)
            ):
                raise ValueError(f"{cls.__name__}: the shape {shape} of {name} does not fit the others")
        return cls(**arrays)

    return Kind(cls, attributes(*axes), build)


# --- Labels and numbers that JSON does not have


def _dtype_fields(dtype: np.dtype) -> dict[str, Any]:
    if dtype.kind not in "biufcSUOMm" or dtype.names:
        raise UnsupportedError(f"expected labels or arrays of a plain NumPy dtype, got {dtype}")
    return {"name": dtype.str}


def _dtype(name: str) -> np.dtype:
    return np.dtype(_of(str, name))


def _datetime_fields(value: datetime.datetime) -> dict[str, Any]:
    if type(value.tzinfo) not in (type(None), datetime.timezone):
        raise UnsupportedError(f"expected a time with a fixed offset from UTC or none, got {value!r}")
    return {"iso": value.isoformat(), "fold": value.fold}


def _datetime(iso: str, fold: int) -> datetime.datetime:
    return datetime.datetime.fromisoformat(iso).replace(fold=fold)


def _of(cls: Any, value: Any) -> Any:
    if not isinstance(value, cls):
        raise TypeError(f"expected {cls.__name__}, got {type(value).__name__}")
    return value


KINDS: Mapping[str, Kind] = {
    "model": plain(Model),
    "activation": Kind(Activation, _activation_fields, _activation),
    "layered": Kind(Layered, _layered_fields, _layered),
    "dag": Kind(Dag, _dag_fields, _dag),
    "gaussian": plain(likelihoods.Gaussian),
    "heteroscedastic_gaussian": plain(likelihoods.HeteroscedasticGaussian),
    "bernoulli": plain(likelihoods.Bernoulli),
    "categorical": plain(likelihoods.Categorical),
    "poisson": plain(likelihoods.Poisson),
    "general_rule": Kind(likelihoods.GeneralRule, attributes("output", "error"), _general_rule),
    "squared_error": Kind(likelihoods.SquaredError, _squared_error_fields, likelihoods.SquaredError),
    "softmax": plain(likelihoods.Softmax),
    "elementwise": Kind(
        likelihoods.Elementwise,
        attributes("activation"),
        lambda activation: likelihoods.Elementwise(_of(Activation, activation)),
    ),
    "one_hot": Kind(likelihoods.OneHot, _one_hot_fields, _one_hot),
    "standardize": _transform(transforms.Standardize, "mean:d scale:d"),
    "whiten": _transform(transforms.Whiten, "mean:d axes:dk scale:k"),
    "squash": _transform(transforms.Squash, "bound:d"),
    "dtype": Kind(np.dtype, _dtype_fields, _dtype),
    "float": Kind(
        float,
        lambda value: {"bits": struct.pack(">d", value).hex()},  # infinities, NaNs
        lambda bits: struct.unpack(">d", bytes.fromhex(bits))[0],
    ),
    "complex": Kind(complex, attributes("real", "imag"), complex),
    "bytes": Kind(bytes, lambda value: {"hex": value.hex()}, lambda hex: bytes.fromhex(hex)),
    "date": Kind(datetime.date, lambda value: {"iso": value.isoformat()}, lambda iso: datetime.date.fromisoformat(iso)),
    "datetime": Kind(datetime.datetime, _datetime_fields, _datetime),
    "timedelta": Kind(datetime.timedelta, attributes("days", "seconds", "microseconds"), datetime.timedelta),
    "decimal": Kind(decimal.Decimal, lambda value: {"digits": str(value)}, lambda digits: decimal.Decimal(digits)),
    "fraction": Kind(fractions.Fraction, attributes("numerator", "denominator"), fractions.Fraction),
}
