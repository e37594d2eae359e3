"""Layers of equinox, in float32 and in bfloat16, and its loops and rules."""

# pyright: reportMissingImports=false, reportFunctionMemberAccess=false

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp

from .target import Target, at, bf16, f32, integers, normal, vector

KEY = jax.random.key(0, impl="threefry2x32")


def layer(name: str, module, *inputs, **more) -> Target:
    """A module as a function of its arrays and inputs."""
    arrays, static = eqx.partition(module, eqx.is_inexact_array)

    def fun(arrays, *inputs):
        return eqx.combine(arrays, static)(*inputs, **more)

    return Target("equinox.nn." + name, fun, at(initial=(arrays, *inputs)))


def layers(dtype) -> list[Target]:
    s = "" if dtype == f32 else "(bfloat16)"
    at_key = {"dtype": dtype, "key": KEY}
    x = normal(1, 4, dtype=dtype)
    sequence = normal(2, 5, 4, dtype=dtype)
    return [
        layer("Linear" + s, eqx.nn.Linear(4, 3, **at_key), x),
        layer("MLP" + s, eqx.nn.MLP(4, 2, 5, 2, **at_key), x),
        layer("Conv1d" + s, eqx.nn.Conv1d(2, 3, 3, padding=1, **at_key), normal(3, 2, 6, dtype=dtype)),
        layer("ConvTranspose1d" + s, eqx.nn.ConvTranspose1d(2, 3, 3, stride=2, **at_key), normal(4, 2, 4, dtype=dtype)),
        layer("LayerNorm" + s, eqx.nn.LayerNorm(4, dtype=dtype), x),
        layer("RMSNorm" + s, eqx.nn.RMSNorm(4, dtype=dtype), x),
        layer("GroupNorm" + s, eqx.nn.GroupNorm(2, 4, dtype=dtype), normal(5, 4, 3, dtype=dtype)),
        layer("Embedding" + s, eqx.nn.Embedding(5, 3, **at_key), integers(6, 5)),
        layer("MultiheadAttention" + s, eqx.nn.MultiheadAttention(2, 4, **at_key), sequence, sequence, sequence),
        layer("RotaryPositionalEmbedding" + s, eqx.nn.RotaryPositionalEmbedding(4, dtype=dtype), sequence),
        layer("GRUCell" + s, eqx.nn.GRUCell(4, 3, **at_key), x, normal(7, 3, dtype=dtype)),
        layer(
            "LSTMCell" + s, eqx.nn.LSTMCell(4, 3, **at_key), x, (normal(8, 3, dtype=dtype), normal(9, 3, dtype=dtype))
        ),
        layer("PReLU" + s, eqx.nn.PReLU(), x),
        layer("MaxPool1d" + s, eqx.nn.MaxPool1d(2), normal(10, 2, 6, dtype=dtype)),
        layer("AdaptiveAvgPool1d" + s, eqx.nn.AdaptiveAvgPool1d(3), normal(11, 2, 7, dtype=dtype)),
    ]


def growing(kind: str):
    """eˣ by a series, in one of equinox's loops that can be differentiated in reverse."""

    def fun(x):
        def body(state):
            i, term, total = state
            term = term * x / i
            return i + 1, term, total + term

        first = (jnp.ones((), x.dtype), jnp.ones_like(x), jnp.ones_like(x))
        return eqxi.while_loop(lambda s: s[0] < 9, body, first, max_steps=16, kind=kind)[2]

    return fun


def scanned(x):
    return eqxi.scan(
        lambda h, v: (jnp.tanh(h + v), h * v), jnp.zeros_like(x[0]), x, kind="checkpointed", checkpoints=2
    )[1]


@eqx.filter_custom_vjp
def squared(x, _):
    return x**2


@squared.def_fwd
def squared_fwd(perturbed, x, _):
    return x**2, x


@squared.def_bwd
def squared_bwd(residuals, g, perturbed, x, _):
    return 2 * g * residuals


@eqx.filter_custom_jvp
def cubed(x):
    return x**3


@cubed.def_jvp
def cubed_jvp(primals, tangents):
    (x,), (t,) = primals, tangents
    return x**3, 3 * x**2 * t


TARGETS = [
    *layers(f32),
    *layers(bf16),
    *(
        Target(f"equinox.internal.while_loop({kind})", growing(kind), at(normal=normal(20, 3)))
        for kind in ("checkpointed", "bounded")
    ),
    Target("equinox.internal.scan(checkpointed)", scanned, at(normal=normal(21, 5, 2))),
    Target("equinox.filter_custom_vjp", lambda x: squared(x, None), at(normal=normal(22, 3))),
    Target("equinox.filter_custom_jvp", cubed, at(normal=normal(23, 3))),
    Target(
        "equinox.error_if",
        lambda x: jnp.sqrt(eqx.error_if(x, jnp.any(x < 0), "negative")),
        at(positive=vector(0.5, 2.0)),
    ),
    Target("equinox.filter_checkpoint", eqx.filter_checkpoint(lambda x: jnp.sin(jnp.exp(x))), at(normal=normal(24, 3))),
    Target("equinox.internal.abs/inexact_asarray", lambda x: jnp.abs(eqxi.nextafter(x)), at(normal=normal(25, 3))),
]
