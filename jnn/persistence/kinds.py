"""The objects that a file can describe, by name. Reading looks names up here; it never imports what a file names."""

import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields as dataclass_fields
from operator import index
from typing import Any, NamedTuple

import numpy as np

from jnn import activations, likelihoods, schedules, transforms
from jnn.activations import Activation
from jnn.model import Model
from jnn.networks import Dag, Layer, Layered, UselessNeuronWarning, dag
from jnn.optimizers import Optimizer, adam, rprop, steepest_descent
from jnn.persistence.errors import NewerFileError, UnsupportedError


class Kind(NamedTuple):
    """How objects of a type are described: by fields, from which they are built again."""

    type: type
    fields: Callable[[Any], dict[str, Any]]
    build: Callable[..., Any]


def attributes(*names: str) -> Callable[[Any], dict[str, Any]]:
    """The fields that are attributes of the same name."""
    return lambda value: {name: getattr(value, name) for name in names}


def plain(cls: Any) -> Kind:
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
    if not least <= index(value) < below:
        raise ValueError(f"expected a number from {least} to {below}, got {value}")
    return index(value)


def _layered_fields(network: Layered) -> dict[str, Any]:
    layers = [
        {"size": index(layer.size), "activation": layer.activation, "reads": [*map(index, layer.sources)]}
        for layer in network.layers
    ]
    return {"inputs": index(network.inputs), "layers": layers}


def _layered(inputs: int, layers: list[dict[str, Any]]) -> Layered:
    built = []
    for number, layer in enumerate(layers, start=1):
        sources = tuple(_count(s, below=number) for s in layer["reads"])
        built.append(Layer(_count(layer["size"], least=1), activations.get(layer["activation"]), sources))
    if not all(layer.sources for layer in built) or not built:
        raise ValueError("a network has at least one layer, and each layer reads something")
    return Layered(_count(inputs, least=1), tuple(built))


def _dag_fields(network: Dag) -> dict[str, Any]:
    kinds = list(dict.fromkeys(network.neuron_activations))
    number = {kind: n for n, kind in enumerate(kinds)}
    return {
        **attributes("inputs", "hidden", "outputs", "edges")(network),
        "activations": kinds,
        "activation": np.array([number[kind] for kind in network.neuron_activations], np.int32),
        **attributes("biased", "evaluation")(network),
    }


def _dag(
    inputs: int, hidden: int, outputs: int, edges: Any, activations: Any, activation: Any, biased: Any, evaluation: Any
) -> Dag:
    """What `jnn.dag` makes of the same edges, if it makes exactly that: parameters stand in the order of the edges."""
    if activation.shape != (hidden,) or biased.shape != (hidden + outputs,):
        raise ValueError(f"the sizes {inputs}, {hidden}, {outputs} do not fit the arrays")
    each = [activations[_count(n)] for n in activation.tolist()]
    from_bias = inputs + 1 + np.flatnonzero(biased) if not biased.all() else np.zeros(0, int)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UselessNeuronWarning)
            connections = np.concatenate([edges, np.stack([0 * from_bias, from_bias], axis=1)])
            neurons = 1 + inputs + hidden + outputs
            network = dag(inputs, outputs, connections, each, neurons=neurons, evaluation=evaluation)
    except (ValueError, MemoryError) as error:
        raise ValueError(f"it describes no feed-forward network: {error}") from None
    if not (np.array_equal(network.edges, edges) and np.array_equal(network.biased, biased)):
        raise ValueError("it describes no feed-forward network in the order in which jnn writes it")
    return network


def _dtype_fields(dtype: np.dtype) -> dict[str, Any]:
    if dtype.kind not in "biufcSUOMm" or dtype.names:
        raise UnsupportedError(f"expected labels or arrays of a plain NumPy dtype, got {dtype}")
    return {"name": dtype.str}


# --- Optimizers

RULES: Mapping[str, Callable[..., Optimizer]] = {"adam": adam, "steepest_descent": steepest_descent, "rprop": rprop}


def _optimizer_fields(optimizer: Optimizer) -> dict[str, Any]:
    arguments = {**optimizer.numbers, **optimizer.structure}
    name = next((name for name, rule in RULES.items() if repr(optimizer).startswith(f"{name}(")), None)
    if name is None:
        raise UnsupportedError(f"expected one of jnn's own optimizers, {', '.join(RULES)}; got {optimizer!r}")
    return {"rule": name, "arguments": arguments}


def _optimizer(rule: str, arguments: dict[str, Any]) -> Optimizer:
    if rule not in RULES:
        raise NewerFileError(f"the file names the optimizer {rule!r}, which this jnn does not have: update jnn")
    return RULES[rule](**arguments)


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
    "general_rule": plain(likelihoods.GeneralRule),
    "squared_error": Kind(
        likelihoods.SquaredError, lambda value: {"output": value.output, "s": value.error.s}, likelihoods.SquaredError
    ),
    "softmax": plain(likelihoods.Softmax),
    "elementwise": plain(likelihoods.Elementwise),
    "one_hot": Kind(
        likelihoods.OneHot,
        lambda value: {"classes": list(value.classes), "dtype": value.dtype},
        lambda classes, dtype: likelihoods.OneHot(tuple(classes), dtype),
    ),
    "standardize": plain(transforms.Standardize),
    "whiten": plain(transforms.Whiten),
    "squash": plain(transforms.Squash),
    "optimizer": Kind(Optimizer, _optimizer_fields, _optimizer),
    "cosine": plain(schedules.Cosine),
    "inverse_scaling": plain(schedules.InverseScaling),
    "dtype": Kind(np.dtype, _dtype_fields, lambda name: np.dtype(name)),
    "float": Kind(
        float,
        lambda value: {"bits": struct.pack(">d", value).hex()},  # infinities, NaNs
        lambda bits: struct.unpack(">d", bytes.fromhex(bits))[0],
    ),
}
