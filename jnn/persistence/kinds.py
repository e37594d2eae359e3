"""The objects that a file can describe, by name. Reading looks names up here; it never imports what a file names."""

import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields as dataclass_fields
from operator import index
from typing import Any, NamedTuple

import numpy as np

from jnn import activations, likelihoods, posterior, schedules, tables, transforms
from jnn.activations import Activation
from jnn.model import Model
from jnn.networks import Dag, Layer, Layered, UselessNeuronWarning, dag
from jnn.optimizers import Optimizer, adam, levenberg_marquardt, rprop, steepest_descent
from jnn.persistence.errors import NewerFileError, UnsupportedError


class Kind(NamedTuple):
    """How objects of a type are described: by fields, from which they are built again."""

    type: type
    fields: Callable[[Any], dict[str, Any]]
    build: Callable[..., Any]


def plain(cls: Any) -> Kind:
    """A dataclass, described by its fields."""
    return Kind(cls, lambda value: {field.name: getattr(value, field.name) for field in dataclass_fields(cls)}, cls)


def known(table: Mapping[str, Any], name: str, what: str) -> Any:
    """What a name in a file stands for; NewerFileError if this jnn does not have it."""
    if name not in table:
        names = ", ".join(sorted(table))
        raise NewerFileError(f"the file has the {what} {name!r}, unknown to this jnn: update jnn. It knows {names}")
    return table[name]


def _of_activation(activation: Activation) -> dict[str, Any]:
    if activations.ACTIVATIONS.get(activation.name) != activation:
        raise UnsupportedError(
            f"the activation {activation.name!r} is one of your own, and a file holds no code. Give it a name when "
            f"you save, save(..., custom={{{activation.name!r}: activation}}), and the same when you load"
        )
    return {"name": activation.name}


def _count(value: Any, least: int = 0, below: float = float("inf")) -> int:
    if not least <= index(value) < below:
        raise ValueError(f"expected a number from {least} to {below}, got {value}")
    return index(value)


def _of_layered(network: Layered) -> dict[str, Any]:
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


def _of_dag(network: Dag) -> dict[str, Any]:
    kinds = list(dict.fromkeys(network.neuron_activations))
    number = {kind: n for n, kind in enumerate(kinds)}
    numbered = np.array([number[kind] for kind in network.neuron_activations], np.int32)
    before = {name: getattr(network, name) for name in ("inputs", "hidden", "outputs", "edges")}
    kinds_used = {"activations": kinds, "activation": numbered}
    return {**before, **kinds_used, "biased": network.biased, "evaluation": network.evaluation}


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


def _of_dtype(dtype: np.dtype) -> dict[str, Any]:
    if dtype.kind not in "biufcSUOMm" or dtype.names:
        raise UnsupportedError(f"expected labels or arrays of a plain NumPy dtype, got {dtype}")
    return {"name": dtype.str}


RULES: Mapping[str, Callable[..., Optimizer]] = {
    "adam": adam,
    "levenberg_marquardt": levenberg_marquardt,
    "steepest_descent": steepest_descent,
    "rprop": rprop,
}


def _of_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    arguments = {**optimizer.numbers, **optimizer.structure}
    name = next((name for name, rule in RULES.items() if repr(optimizer).startswith(f"{name}(")), None)
    if name is None:
        raise UnsupportedError(f"expected one of jnn's own optimizers, {', '.join(RULES)}; got {optimizer!r}")
    return {"rule": name, "arguments": arguments}


KINDS: Mapping[str, Kind] = {
    "model": plain(Model),
    "activation": Kind(Activation, _of_activation, lambda name: known(activations.ACTIVATIONS, name, "activation")),
    "layered": Kind(Layered, _of_layered, _layered),
    "dag": Kind(Dag, _of_dag, _dag),
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
    "clip": plain(transforms.Clip),
    "encode": plain(transforms.Encode),
    "pieces": plain(transforms.Pieces),
    "table": plain(tables.Table),
    "categories": plain(tables.Categories),
    "posterior": plain(posterior.Posterior),
    "full_basis": plain(posterior.Full),
    "diagonal_basis": plain(posterior.Diagonal),
    "kronecker_basis": Kind(
        posterior.Kronecker,
        lambda value: {"layers": [list(layer) for layer in value.layers]},
        lambda layers: posterior.Kronecker(tuple(posterior.Pair(*layer) for layer in layers)),
    ),
    "optimizer": Kind(Optimizer, _of_optimizer, lambda rule, arguments: known(RULES, rule, "optimizer")(**arguments)),
    "cosine": plain(schedules.Cosine),
    "inverse_scaling": plain(schedules.InverseScaling),
    "dtype": Kind(np.dtype, _of_dtype, lambda name: np.dtype(name)),
    "float": Kind(
        float,
        lambda value: {"bits": struct.pack(">d", value).hex()},  # infinities, NaNs
        lambda bits: struct.unpack(">d", bytes.fromhex(bits))[0],
    ),
}
