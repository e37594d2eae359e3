"""Models as ONNX graphs, for runtimes that know nothing of JAX.

A network in layers is a few products, sums and activations, and a general network is one in layers, with zeros where
there is no edge. So each of ONNX' nodes stands here beside the equation it computes. A general converter from JAX does
not take the step, relu, or a general network.
"""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn import activations, likelihoods
from jnn.activations import Activation
from jnn.likelihoods import Likelihood
from jnn.networks import Dag, Layered, Network
from jnn.persistence import files
from jnn.persistence.errors import UnsupportedError
from jnn.persistence.model import Model
from jnn.persistence.optional import needed
from jnn.transforms import Affine, Squash, Standardize, Transform

OPSET = 20
"""The first with every activation's node; onnxruntime has it since 1.17."""


def export_onnx(path: str | os.PathLike[str], model: Model) -> None:
    """Write `model.mean`, from raw inputs "x" `(n, d)` to predictions "mean" `(n, K)`, as an ONNX graph.

    It computes in float32, which every runtime knows: parameters and transforms are rounded to it, if they are wider.
    A general network becomes dense matrices, a layer for each level and activation.

    Args:
        path: where to; written like `save` writes, all or nothing.
        model: what to export, ensembles included.

    Raises:
        MismatchError: if the parts of the model do not fit each other.
        UnsupportedError: for activations, likelihoods and networks of your own, which ONNX has no node for; and for
            graphs of more than 2 GB.
        ImportError: if onnx is not installed.
    """
    needed("onnx", extra="onnx")
    import onnx

    model.check()
    graph = _Graph(onnx)
    x = "x"
    for transform in model.transforms:
        x = _applied(graph, transform, x)
    a = _network(graph, model.network, model.params, len(model.members), x)
    mean = _mean(graph, model.likelihood, model.network.outputs, a)
    if model.target_transform is not None:
        mean = _undone(graph, model.target_transform, mean)
    for _ in model.members:
        mean = graph.node("ReduceMean", mean, graph.index(0), keepdims=0)
    graph.node("Identity", mean, output="mean")
    try:
        outputs = model.likelihood.target_components(model.network.outputs)
        data = graph.model(model.inputs, outputs).SerializeToString()
    except ValueError as error:
        raise UnsupportedError(f"expected a graph of less than 2 GB, ONNX' limit ({error}); use export") from None
    files.replace(path, [data])


class _Graph:
    """The nodes of a graph, in order."""

    def __init__(self, onnx: ModuleType) -> None:
        self.onnx: Any = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """An array in the file."""
        name = f"constant_{len(self.constants)}"
        array = np.asarray(np.asarray(value).astype(dtype), order="C")
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def index(self, number: int) -> str:
        """A position or an axis, as operators take it."""
        return self.constant([number], np.int64)

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def model(self, inputs: int, outputs: int) -> Any:
        """The whole, checked."""
        helper, real = self.onnx.helper, self.onnx.TensorProto.FLOAT
        x = helper.make_tensor_value_info("x", real, ["n", inputs])
        mean = helper.make_tensor_value_info("mean", real, ["n", outputs])
        graph = helper.make_graph(self.nodes, "jnn", [x], [mean], self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        version = helper.find_min_ir_version_for(opset)  # onnx' newest is not what runtimes read
        model = helper.make_model(graph, producer_name="jnn", opset_imports=opset, ir_version=version)
        self.onnx.checker.check_model(model, full_check=True)
        return model


# --- The network


def _network(graph: _Graph, network: Network, params: Any, members: int, x: str) -> str:
    """The outputs' pre-activations, a_l = Σ_s z_s @ W_ls + b_l and z_l = h_l(a_l) layer after layer."""
    if isinstance(network, Dag):
        matrices = network.matrices
        for _ in range(members):
            matrices = jax.vmap(matrices)
        layered, params = network.layered[0], matrices(jax.tree.map(jnp.asarray, params))
    elif isinstance(network, Layered):
        layered = network
    else:
        raise UnsupportedError(f"expected a network of jnn's own, got {type(network).__name__}; use export instead")
    z, a = [x], ""
    for number, (layer, p) in enumerate(zip(layered.layers, params, strict=True)):
        if number:
            z.append(_activated(graph, layered.layers[number - 1].activation, a))
        w, b = np.asarray(p["W"]), np.asarray(p["b"])
        a = graph.constant(_rows(b))
        for source, rows in layered.blocks(layer):
            a = graph.node("Add", graph.node("MatMul", z[source], graph.constant(w[..., rows, :])), a)
    return a


def _activated(graph: _Graph, activation: Activation, a: str) -> str:
    """h(a)."""
    node, number = graph.node, graph.constant

    def squareplus() -> str:
        """(|a| + √(a² + 4)) / 2, and its reciprocal for a < 0."""
        root = node("Sqrt", node("Add", node("Mul", a, a), number(4)))
        larger = node("Mul", node("Add", node("Abs", a), root), number(0.5))
        return node("Where", node("Less", a, number(0)), node("Reciprocal", larger), larger)

    known: dict[str, Callable[[], str]] = {
        "identity": lambda: a,
        "step": lambda: node("Cast", node("Greater", a, number(0)), to=graph.onnx.TensorProto.FLOAT),
        "tanh": lambda: node("Tanh", a),
        "relu": lambda: node("Relu", a),
        "logistic": lambda: node("Sigmoid", a),
        "softsign": lambda: node("Softsign", a),
        "leaky_relu": lambda: node("LeakyRelu", a, alpha=0.01),
        "relu6": lambda: node("Clip", a, number(0), number(6)),
        "hard_tanh": lambda: node("Clip", a, number(-1), number(1)),
        "hard_sigmoid": lambda: node("HardSigmoid", a, alpha=1 / 6, beta=0.5),
        "hard_silu": lambda: node("HardSwish", a),
        "elu": lambda: node("Elu", a, alpha=1.0),
        "celu": lambda: node("Elu", a, alpha=1.0),
        "selu": lambda: node("Selu", a),
        "softplus": lambda: node("Softplus", a),
        "log_sigmoid": lambda: node("Neg", node("Softplus", node("Neg", a))),
        "silu": lambda: node("Mul", a, node("Sigmoid", a)),
        "mish": lambda: node("Mish", a),
        "gelu": lambda: node("Gelu", a, approximate="tanh"),
        "gelu_exact": lambda: node("Gelu", a, approximate="none"),
        "squareplus": squareplus,
    }
    if activations.ACTIVATIONS.get(activation.name) != activation or activation.name not in known:
        raise UnsupportedError(
            f"ONNX has no node for the activation {activation.name!r}; export(...) takes it, as StableHLO"
        )
    return known[activation.name]()


# --- What stands before and behind it


def _rows(array: Any) -> np.ndarray:
    """An array by columns, with an axis for the examples."""
    return np.asarray(array)[..., None, :]


def _applied(graph: _Graph, transform: Transform, x: str) -> str:
    """z = (x − m) / s, or (x − m) A, or x / √(1 + (x / c)²)."""
    if isinstance(transform, Squash):
        within, bound = graph.node("Div", x, _root(graph, transform, x, "Add")), _rows(transform.bound)
        return graph.node("Max", graph.node("Min", within, graph.constant(bound)), graph.constant(-bound))
    assert isinstance(transform, Affine)
    centered = graph.node("Sub", x, graph.constant(_rows(transform.mean)))
    if isinstance(transform, Standardize):
        return graph.node("Div", centered, graph.constant(_rows(transform.scale)))
    return graph.node("MatMul", centered, graph.constant(_matrix(transform, lambda t: t.matrix)))


def _undone(graph: _Graph, transform: Transform, z: str) -> str:
    """x = z s + m, or z A⁺ + m, or z / √(1 − (z / c)²)."""
    if isinstance(transform, Squash):
        return graph.node("Div", z, _root(graph, transform, z, "Sub"))
    assert isinstance(transform, Affine)
    if isinstance(transform, Standardize):
        scaled = graph.node("Mul", z, graph.constant(_rows(transform.scale)))
    else:
        scaled = graph.node("MatMul", z, graph.constant(_matrix(transform, lambda t: t.inverse)))
    return graph.node("Add", scaled, graph.constant(_rows(transform.mean)))


def _root(graph: _Graph, transform: Squash, x: str, sign: str) -> str:
    """√(1 ± (x / c)²), and of a column that stays as it is 1."""
    ratio = graph.node("Mul", x, graph.constant(_rows(1 / np.asarray(transform.bound))))
    ratio = graph.node("Clip", ratio, graph.constant(-1e18), graph.constant(1e18))  # its square is to be finite
    one = graph.constant(np.ones(1))
    return graph.node("Sqrt", graph.node(sign, one, graph.node("Mul", ratio, ratio)))


def _matrix(transform: Affine, matrix: Callable[[Affine], jax.Array]) -> jax.Array:
    for _ in transform.mean.shape[:-1]:
        matrix = jax.vmap(matrix)
    return matrix(transform)


def _mean(graph: _Graph, likelihood: Likelihood, outputs: int, a: str) -> str:
    """E[y | a]."""
    match likelihood:
        case likelihoods.GeneralRule():
            return _mean(graph, likelihood.error, outputs, _output(graph, likelihood.output, a))
        case likelihoods.Gaussian():
            return a
        case likelihoods.HeteroscedasticGaussian():
            first, half, last = map(graph.index, (0, outputs // 2, -1))
            return graph.node("Slice", a, first, half, last)
        case likelihoods.Bernoulli():
            return graph.node("Sigmoid", a)
        case likelihoods.Categorical():
            return graph.node("Softmax", a, axis=-1)
        case likelihoods.Poisson():
            return graph.node("Exp", a)
    raise UnsupportedError(f"expected a likelihood of jnn's own, got {type(likelihood).__name__}; use export instead")


def _output(graph: _Graph, output: likelihoods.OutputMap, a: str) -> str:
    """z = σ(a)."""
    match output:
        case likelihoods.Softmax():
            return graph.node("Softmax", a, axis=-1)
        case likelihoods.Elementwise():
            return _activated(graph, output.activation, a)
    raise UnsupportedError(f"expected an output map of jnn's own, got {type(output).__name__}; use export instead")
