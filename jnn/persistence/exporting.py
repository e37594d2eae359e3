"""Models that run without jnn: as StableHLO, which needs only jax, or as ONNX graphs, which need no JAX at all.

For ONNX a network in layers is a few products, sums and activations; a general network is one in layers, with zeros
where there is no edge. A general converter from JAX does not take the step, relu, or a general network.
"""

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from jnn import activations, likelihoods
from jnn.activations import Activation
from jnn.likelihoods import Likelihood, OutputMap
from jnn.model import Model
from jnn.networks import Layered, Network
from jnn.optional import needed
from jnn.persistence import files
from jnn.persistence.errors import PrecisionError, UnsupportedError
from jnn.posterior import moves_means
from jnn.tables import Table
from jnn.transforms import Affine, Clip, Encode, Pieces, Squash, Standardize, Transform

OPSET, ML_OPSET = 20, 3
"""Of ONNX, the first with every activation's node; onnxruntime has it since 1.17. The other has operators for machine
learning, which look categories up."""


def export(
    path: files.Path, model: Model, *, dtype: Any = None, platforms: Sequence[str] = ("cpu", "cuda", "tpu")
) -> None:
    """Freeze `model.mean`, from raw inputs `(n, d)` of any n to predictions `(n, K)`, into a program in a file.

    What runs it needs jax, but neither jnn nor the model. jax keeps such files readable for six months at least; what
    should last longer is saved with `save`. Custom activations and likelihoods go in as the operations they consist of.

    Args:
        path: where to; written like `save` writes, all or nothing.
        model: what to export, ensembles included.
        dtype: of the inputs; by default `Model.input_dtype`. Those of another must be converted.
        platforms: where it should run.

    Raises:
        MismatchError: if the parts of the model do not fit each other.
        PrecisionError: for a 64-bit dtype while JAX's 64-bit mode is off.
        ImportError: if flatbuffers is not installed.

    To run it:

        program = jax.export.deserialize(bytearray(pathlib.Path("iris.stablehlo").read_bytes()))
        mean = program.call(x)  # x of shape (n, d) and the dtype of the export
    """
    needed("flatbuffers", extra="export")
    model.check()
    wanted = jnp.dtype(dtype or model.input_dtype)
    if jnp.asarray(np.zeros((), wanted)).dtype != wanted:
        raise PrecisionError(
            f"expected inputs of at most 32 bits, since JAX's 64-bit mode is off, got {wanted}; pass "
            'dtype="float32", or turn it on, jax.config.update("jax_enable_x64", True), here and where it runs'
        )
    (n,) = jax.export.symbolic_shape("n")
    program = jax.export.export(jax.jit(model.mean), platforms=tuple(platforms))
    files.replace(path, [program(jax.ShapeDtypeStruct((n, model.inputs), wanted)).serialize()])


def export_onnx(path: files.Path, model: Model) -> None:
    """Write `model.mean`, from raw inputs "x" `(n, d)` to predictions "mean" `(n, K)`, as an ONNX graph.

    It computes in float32, to which wider parameters are rounded. Inputs are float32 as well, unless the model's first
    transform needs more (`Model.input_dtype`): then "x" is a tensor of doubles, and the transforms are computed in
    float64. A general network becomes dense matrices, a layer for each level and activation.

    Of a model with a table some of whose columns hold categories, each column is an input of its own, `(n, 1)`, by its
    name (without names "x0", "x1", ...): strings, of which "" is missing, or numbers, of which NaN is.

    Args:
        path: where to; written like `save` writes, all or nothing.
        model: what to export, ensembles included.

    Raises:
        MismatchError: if the parts of the model do not fit each other.
        UnsupportedError: for activations, likelihoods and networks of your own, and for graphs of more than 2 GB.
        ImportError: if onnx is not installed.
    """
    needed("onnx", extra="onnx")
    import onnx

    model.check()
    if model.posterior is not None and moves_means(model.likelihood):
        raise UnsupportedError("ONNX has no Jacobians, which the mean of a model with a posterior needs: use export")
    graph = _Graph(onnx, wide=model.input_dtype == np.float64 and jax.tree.leaves(model.params)[0].dtype != np.float64)
    by_name = model.table is not None and model.table.has_categories
    x = _read(graph, model.table) if by_name and model.table else graph.input("x", model.inputs)
    for transform in model.transforms:
        x = _applied(graph, transform, x)
    if graph.wide:  # behind the transforms everything is float32
        graph.real = np.float32
        x = graph.node("Cast", x, to=onnx.TensorProto.FLOAT)
    a = _network(graph, model.network, model.params, len(model.members), x)
    mean = _mapped(graph, model.likelihood, model.network.outputs, a)
    if model.target_transform is not None:
        mean = _undone(graph, model.target_transform, mean)
    for _ in model.members:
        mean = graph.node("ReduceMean", mean, graph.constant([0], np.int64), keepdims=0)
    graph.node("Identity", mean, output="mean")
    try:
        outputs = model.likelihood.target_components(model.network.outputs)
        data = graph.model(outputs).SerializeToString()
    except ValueError as error:
        raise UnsupportedError(f"expected a graph of less than 2 GB, ONNX' limit ({error}); use export") from None
    files.replace(path, [data])


class _Graph:
    """The nodes of a graph, in order, each named by its output."""

    def __init__(self, onnx: ModuleType, wide: bool) -> None:
        self.onnx: Any = onnx
        self.wide = wide
        self.real: Any = np.float64 if wide else np.float32
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []

    def constant(self, value: Any, dtype: Any = None) -> str:
        name = f"constant_{len(self.constants)}"
        array = np.asarray(np.asarray(value).astype(dtype or self.real), order="C")
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def rows(self, array: Any) -> str:
        """An array by columns as a constant, with an axis for the examples."""
        return self.constant(np.asarray(array)[..., None, :])

    def node(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], **attributes))
        return name

    def input(self, name: str, columns: int, strings: bool = False) -> str:
        kinds = self.onnx.TensorProto
        kind = kinds.STRING if strings else kinds.DOUBLE if self.wide else kinds.FLOAT
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, kind, ["n", columns]))
        return name

    def model(self, outputs: int) -> Any:
        helper = self.onnx.helper
        mean = helper.make_tensor_value_info("mean", self.onnx.TensorProto.FLOAT, ["n", outputs])
        graph = helper.make_graph(self.nodes, "jnn", self.inputs, [mean], self.constants)
        opset = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        version = helper.find_min_ir_version_for(opset)  # onnx' newest is not what runtimes read
        model = helper.make_model(graph, producer_name="jnn", opset_imports=opset, ir_version=version)
        self.onnx.checker.check_model(model, full_check=True)
        return model


def _read(graph: _Graph, table: Table) -> str:
    """The matrix that the table makes of its columns, each of them an input."""
    columns = []
    for n, own in enumerate(table.categories):
        name = f"x{n}" if table.names is None else table.names[n]
        if own is None:
            columns.append(graph.input(name, 1))
            continue
        kinds = {type(value) for value in own.values}
        if not (kinds <= {str} or kinds <= {bool, int, float}):
            raise UnsupportedError(f"expected categories that are all strings or all numbers, in {name!r}; got {kinds}")
        strings, other = kinds == {str}, float(own.other) if own.other >= 0 else float("nan")
        keys: Any = {"keys_strings": [*own.values, ""]} if strings else {"keys_floats": [*map(float, own.values)]}
        numbers = [*map(float, own.numbers), *([float("nan")] if strings else [])]
        wide, graph.wide = graph.wide, False  # they are looked up in float32
        x = graph.input(name, 1, strings)
        graph.wide = wide
        found = graph.node("LabelEncoder", x, **keys, values_floats=numbers, default_float=other, domain="ai.onnx.ml")
        if not strings:  # what is not a number is not one of the keys
            found = graph.node("Where", graph.node("IsNaN", x), x, found)
        columns.append(graph.node("Cast", found, to=graph.onnx.TensorProto.DOUBLE) if wide else found)
    return graph.node("Concat", *columns, axis=1)


def _network(graph: _Graph, network: Network, params: Any, members: int, x: str) -> str:
    """The outputs' pre-activations, a_l = Σ_s z_s @ W_ls + b_l and z_l = h_l(a_l) layer after layer."""
    layered = network.as_layers(jax.tree.map(lambda leaf: leaf[(0,) * members], params))[0]
    if not isinstance(layered, Layered):
        raise UnsupportedError(f"expected a network of jnn's own, got {type(network).__name__}; use export instead")

    def numbers(params: Any, axes: int) -> Any:
        return jax.vmap(lambda p: numbers(p, axes - 1))(params) if axes else network.as_layers(params)[1]

    params = numbers(jax.tree.map(jnp.asarray, params), members)
    z, a = [x], ""
    for number, (layer, p) in enumerate(zip(layered.layers, params, strict=True)):
        if number:
            z.append(_activated(graph, layered.layers[number - 1].activation, a))
        w, b = np.asarray(p["W"]), np.asarray(p["b"])
        a = graph.rows(b)
        for source, rows in layered.blocks(layer):
            a = graph.node("Add", graph.node("MatMul", z[source], graph.constant(w[..., rows, :])), a)
    return a


_NODES = {name.lower(): name for name in ("Elu", "Mish", "Relu", "Selu", "Softplus", "Softsign", "Tanh")}
_NODES |= {"celu": "Elu", "hard_silu": "HardSwish", "leaky_relu": "LeakyRelu", "logistic": "Sigmoid"}  # α = 1 or 0.01


def _activated(graph: _Graph, activation: Activation, a: str) -> str:
    """h(a)."""
    node, number = graph.node, graph.constant

    def squareplus() -> str:
        """(|a| + √(a² + 4)) / 2, and its reciprocal for a < 0."""
        root = node("Sqrt", node("Add", node("Mul", a, a), number(4)))
        larger = node("Mul", node("Add", node("Abs", a), root), number(0.5))
        return node("Where", node("Less", a, number(0)), node("Reciprocal", larger), larger)

    known: dict[str, Callable[[], str]] = {
        **{name: functools.partial(node, operator, a) for name, operator in _NODES.items()},
        "identity": lambda: a,
        "step": lambda: node("Cast", node("Greater", a, number(0)), to=graph.onnx.TensorProto.FLOAT),
        "relu6": lambda: node("Clip", a, number(0), number(6)),
        "hard_tanh": lambda: node("Clip", a, number(-1), number(1)),
        "hard_sigmoid": lambda: node("HardSigmoid", a, alpha=1 / 6, beta=0.5),
        "log_sigmoid": lambda: node("Neg", node("Softplus", node("Neg", a))),
        "silu": lambda: node("Mul", a, node("Sigmoid", a)),
        "gelu": lambda: node("Gelu", a, approximate="tanh"),
        "gelu_exact": lambda: node("Gelu", a, approximate="none"),
        "squareplus": squareplus,
    }
    if activations.ACTIVATIONS.get(activation.name) != activation or activation.name not in known:
        raise UnsupportedError(f"ONNX has no node for the activation {activation.name!r}; export(...) takes it")
    return known[activation.name]()


def _mapped(graph: _Graph, rule: Likelihood | OutputMap, outputs: int, a: str) -> str:
    """E[y | a] of a likelihood, σ(a) of an output map."""
    match rule:
        case likelihoods.GeneralRule():
            return _mapped(graph, rule.error, outputs, _mapped(graph, rule.output, outputs, a))
        case likelihoods.Elementwise():
            return _activated(graph, rule.activation, a)
        case likelihoods.Gaussian():
            return a
        case likelihoods.HeteroscedasticGaussian():
            return graph.node("Slice", a, *(graph.constant([n], np.int64) for n in (0, outputs // 2, -1)))
        case likelihoods.Bernoulli():
            return graph.node("Sigmoid", a)
        case likelihoods.Categorical() | likelihoods.Softmax():
            return graph.node("Softmax", a, axis=-1)
        case likelihoods.Poisson():
            return graph.node("Exp", a)
    what = "an output map" if isinstance(rule, OutputMap) else "a likelihood"
    raise UnsupportedError(f"expected {what} of jnn's own, got {type(rule).__name__}; use export instead")


def _applied(graph: _Graph, transform: Transform, x: str) -> str:
    """z = (x − m) / s, or (x − m) A, or x / √(1 + (x / c)²), or min(max(x, l), u)."""
    if isinstance(transform, Clip):
        return graph.node("Min", graph.node("Max", x, graph.rows(transform.low)), graph.rows(transform.high))
    if isinstance(transform, Encode):
        return _encoded(graph, transform, x)
    if isinstance(transform, Squash):
        within, bound = graph.node("Div", x, _root(graph, transform, x, "Add")), np.asarray(transform.bound)
        return graph.node("Max", graph.node("Min", within, graph.rows(bound)), graph.rows(-bound))
    if isinstance(transform, Pieces):
        return _with_pieces(graph, transform, x)
    assert isinstance(transform, Affine)
    centered = graph.node("Sub", x, graph.rows(transform.mean))
    if isinstance(transform, Standardize):
        return graph.node("Div", centered, graph.rows(transform.scale))
    return graph.node("MatMul", centered, graph.constant(transform.matrix))


def _encoded(graph: _Graph, transform: Encode, x: str) -> str:
    """m where x is NaN, else x or 𝟙{x = c}."""
    if transform.source != tuple(range(transform.columns)):
        x = graph.node("Gather", x, graph.constant(transform.source, np.int64), axis=-1)
    real = graph.onnx.TensorProto.DOUBLE if graph.real == np.float64 else graph.onnx.TensorProto.FLOAT
    one_hot = graph.node("Cast", graph.node("Equal", x, graph.rows(transform.code)), to=real)
    number = graph.constant(np.asarray(transform.number)[None], bool)
    known = graph.node("Where", number, x, one_hot)
    return graph.node("Where", graph.node("IsNaN", x), graph.rows(transform.missing), known)


def _with_pieces(graph: _Graph, transform: Pieces, x: str) -> str:
    """x, and beside it g (min(max(x, l), u) − c)."""
    if not transform.source:
        return x
    z = graph.node("Gather", x, graph.constant(transform.source, np.int64), axis=-1)
    z = graph.node("Min", graph.node("Max", z, graph.rows(transform.low)), graph.rows(transform.high))
    z = graph.node("Mul", graph.node("Sub", z, graph.rows(transform.center)), graph.rows(transform.gain))
    return graph.node("Concat", x, z, axis=-1)


def _undone(graph: _Graph, transform: Transform, z: str) -> str:
    """x = z s + m, or z A⁺ + m, or z / √(1 − (z / c)²)."""
    if isinstance(transform, Squash):
        return graph.node("Div", z, _root(graph, transform, z, "Sub"))
    if isinstance(transform, Clip):
        return z
    assert isinstance(transform, Affine)
    if isinstance(transform, Standardize):
        scaled = graph.node("Mul", z, graph.rows(transform.scale))
    else:
        scaled = graph.node("MatMul", z, graph.constant(transform.inverse))
    return graph.node("Add", scaled, graph.rows(transform.mean))


def _root(graph: _Graph, transform: Squash, x: str, sign: str) -> str:
    """√(1 ± (x / c)²), and of a column that stays as it is 1."""
    ratio = graph.node("Mul", x, graph.rows(1 / np.asarray(transform.bound)))
    ratio = graph.node("Clip", ratio, graph.constant(-1e18), graph.constant(1e18))  # its square is to be finite
    return graph.node("Sqrt", graph.node(sign, graph.constant(np.ones(1)), graph.node("Mul", ratio, ratio)))
