"""Layers of flax, linen and nnx, in float32 and with dtype=bfloat16 over float32 parameters."""

# pyright: reportMissingImports=false

import jax
from flax import linen, nnx

from .target import Target, at, bf16, f32, integers, normal

KEY = jax.random.key(0, impl="threefry2x32")


def applied(name: str, layer, *inputs, **more) -> Target:
    """A linen module as a function of its parameters and inputs; its other collections are held constant."""
    variables = layer.init(KEY, *inputs)
    params = variables.pop("params")

    def fun(params, *inputs):
        return layer.apply({"params": params, **variables}, *inputs, **more)

    return Target("flax.linen." + name, fun, at(initial=(moved(params), *inputs)))


def moved(params):
    """The parameters, a little off their initial values: biases of zero and scales of one hide mistakes."""
    leaves, tree = jax.tree.flatten(params)
    return tree.unflatten([v + normal(900 + i, *v.shape, scale=0.2).astype(v.dtype) for i, v in enumerate(leaves)])


def modular(name: str, layer, *inputs) -> Target:
    """An nnx module as a function of its parameters and inputs."""
    graph, params, rest = nnx.split(layer, nnx.Param, ...)

    def fun(params, *inputs):
        out = nnx.merge(graph, params, rest)(*inputs)
        return out[0] if isinstance(out, tuple) else out

    return Target("flax.nnx." + name, fun, at(initial=(moved(params), *inputs)))


def suffix(dtype) -> str:
    return "" if dtype is None else "(bfloat16)"


X, IMAGE, SEQUENCE = normal(1, 3, 4), normal(2, 1, 5, 5, 2), normal(3, 1, 4, 6)


def linen_layers(dtype) -> list[Target]:
    s = suffix(dtype)
    low = {"dtype": dtype}
    return [
        applied("Dense" + s, linen.Dense(5, **low), X),
        applied("DenseGeneral" + s, linen.DenseGeneral((2, 3), **low), X),
        applied("Einsum" + s, linen.Einsum((4, 3), "bi,io->bo", **low), X),
        applied("Conv" + s, linen.Conv(3, (3, 3), strides=2, **low), IMAGE),
        applied("ConvTranspose" + s, linen.ConvTranspose(2, (3, 3), strides=(2, 2), **low), IMAGE),
        applied("LayerNorm" + s, linen.LayerNorm(**low), X),
        applied("RMSNorm" + s, linen.RMSNorm(**low), X),
        applied("GroupNorm" + s, linen.GroupNorm(num_groups=2, **low), X),
        applied("InstanceNorm" + s, linen.InstanceNorm(**low), IMAGE),
        applied("BatchNorm(evaluation)" + s, linen.BatchNorm(use_running_average=True, **low), X),
        applied("Embed" + s, linen.Embed(5, 3, **low), integers(4, 5, 6)),
        applied("MultiHeadDotProductAttention" + s, linen.MultiHeadDotProductAttention(2, **low), SEQUENCE),
        applied("PReLU" + s, linen.PReLU(), X if dtype is None else X.astype(dtype)),
        applied("WeightNorm(Dense)" + s, linen.WeightNorm(linen.Dense(3, **low)), X),
        applied("GRUCell" + s, linen.RNN(linen.GRUCell(3, **low)), normal(5, 1, 3, 2)),
        applied("OptimizedLSTMCell" + s, linen.RNN(linen.OptimizedLSTMCell(3, **low)), normal(6, 1, 3, 2)),
        applied("MGUCell" + s, linen.RNN(linen.MGUCell(3, **low)), normal(7, 1, 3, 2)),
    ]


def nnx_layers(dtype) -> list[Target]:
    s = suffix(dtype)
    low = {"dtype": dtype, "rngs": nnx.Rngs(0)}
    return [
        modular("Linear" + s, nnx.Linear(4, 5, **low), X),
        modular("LinearGeneral" + s, nnx.LinearGeneral(4, (2, 3), **low), X),
        modular("Einsum" + s, nnx.Einsum("bi,io->bo", (4, 3), (3,), **low), X),
        modular("Conv" + s, nnx.Conv(2, 3, (3, 3), strides=2, **low), IMAGE),
        modular("ConvTranspose" + s, nnx.ConvTranspose(2, 2, (3, 3), strides=2, **low), IMAGE),
        modular("LayerNorm" + s, nnx.LayerNorm(4, **low), X),
        modular("RMSNorm" + s, nnx.RMSNorm(4, **low), X),
        modular("GroupNorm" + s, nnx.GroupNorm(4, num_groups=2, **low), X),
        modular("Embed" + s, nnx.Embed(5, 3, **low), integers(8, 5, 6)),
        modular("MultiHeadAttention" + s, nnx.MultiHeadAttention(2, 6, decode=False, **low), SEQUENCE),
        modular("LoRA" + s, nnx.LoRA(4, 2, 3, **low), X),
    ]


FUNCTIONS = [
    Target(
        "flax.linen.dot_product_attention" + suffix(dtype),
        lambda q, k, v: linen.dot_product_attention(q, k, v),
        at(normal=tuple(normal(s, 1, 4, 2, 4, dtype=dtype or f32) for s in (20, 21, 22))),
    )
    for dtype in (None, bf16)
]

TARGETS = [*linen_layers(None), *linen_layers(bf16), *nnx_layers(None), *nnx_layers(bf16), *FUNCTIONS]
