"""An idea, measured: the whole training of a small network as one GPU kernel, many networks side by side.

    python -m experiments.benchmarks.fused [--members 1 132 1056] [--epochs 10] [--rounds 3]

A multiprocessor keeps a network's weights and moments in its registers from the first step to the last; nothing but
examples is read meanwhile, and no kernel is started between steps. Each network is inputs-hidden-classes with tanh and
softmax, trained by Adam on mini-batches of 32 of digits. Printed is the time of a step for each network beside
`jnn.ensembles.fit`, in turn, and how far the weights are from those that jnn learns from the same batches.

It is here and not in jnn, since Pallas' backend for it (Triton) is deprecated, and its products are TF32 (those of
float32 had not compiled after half a minute). See `experiments/benchmarks/NOTES.md`.
"""

import argparse
import functools
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int
from sklearn.datasets import load_digits

import jnn
from jnn import ensembles, likelihoods

BATCH = 32
LEARNING_RATE, B1, B2, EPS = 1e-3, 0.9, 0.999, 1e-8
NO_CLASS = -1e30
"""The bias of an output that only fills up: its probability is zero."""


class Weights(NamedTuple):
    """By neuron, sizes rounded up to powers of two; the leading axis, if any, is that of the networks."""

    w1: Float[Array, "*m hidden inputs"]
    b1: Float[Array, "*m hidden"]
    w2: Float[Array, "*m classes hidden"]
    b2: Float[Array, "*m classes"]


def gradients(w: Weights, x: Float[Array, "n inputs"], y: Float[Array, "n classes"]) -> Weights:
    """∂/∂w of the mean of −ln p(y | x; w) over a mini-batch, y being one-hot."""
    z = jnp.tanh(w.w1 @ x.T + w.b1[:, None])
    a = w.w2 @ z + w.b2[:, None]
    e = jnp.exp(a - jnp.max(a, axis=0)[None, :])
    delta2 = (e / jnp.sum(e, axis=0)[None, :] - y.T) * (1 / len(x))
    delta1 = (1 - z * z) * (w.w2.T @ delta2)
    return Weights(delta1 @ x, jnp.sum(delta1, axis=1), delta2 @ z.T, jnp.sum(delta2, axis=1))


def _kernel(x_ref: Any, y_ref: Any, order_ref: Any, *refs: Any, steps: int) -> None:
    weights_in, weights_out = Weights(*refs[:4]), Weights(*refs[4:])

    def step(t: Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        w, m, v, power1, power2 = carry
        rows = order_ref[0, t, :]
        g = gradients(w, x_ref[rows, :], y_ref[rows, :])
        power1, power2 = power1 * B1, power2 * B2
        scale1, scale2 = 1 / (1 - power1), 1 / (1 - power2)
        m = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, m, g)
        v = jax.tree.map(lambda v, g: B2 * v + (1 - B2) * g * g, v, g)
        w = jax.tree.map(lambda w, m, v: w - LEARNING_RATE * (m * scale1) / (jnp.sqrt(v * scale2) + EPS), w, m, v)
        return w, m, v, power1, power2

    first = Weights(*(ref[0] for ref in weights_in))
    zeros = jax.tree.map(jnp.zeros_like, first)
    one = jnp.float32(1)
    trained = jax.lax.fori_loop(0, steps, step, (first, zeros, zeros, one, one))[0]
    for ref, value in zip(weights_out, trained, strict=True):
        ref[0] = value


@functools.partial(jax.jit, static_argnames="interpret")
def train(
    w: Weights, x: Float[Array, "n inputs"], y: Float[Array, "n classes"], order: Int[Array, "m steps batch"],
    interpret: bool = False,
) -> Weights:  # fmt: skip
    """Train every network from its weights on its mini-batches, in their order; `interpret` on a CPU, to try it out."""
    members, steps, _ = order.shape

    def own(a: Any) -> pl.BlockSpec:
        return pl.BlockSpec((1, *a.shape[1:]), lambda i: (i,) + (0,) * (a.ndim - 1))

    def common(a: Any) -> pl.BlockSpec:
        return pl.BlockSpec(a.shape, lambda i: (0,) * a.ndim)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        call = pl.pallas_call(
            functools.partial(_kernel, steps=steps),
            grid=(members,),
            in_specs=[common(x), common(y), own(order), *(own(a) for a in w)],
            out_specs=[own(a) for a in w],
            out_shape=[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in w],
            compiler_params=triton.CompilerParams(num_warps=8, num_stages=1),
            interpret=interpret,
        )
        return Weights(*call(x, y, order, *w))


def _room(size: int) -> int:
    return max(16, 1 << (size - 1).bit_length())


def padded(params: Any) -> Weights:
    """Networks of jnn, with a leading axis, as the kernel has them."""
    first, last = params
    (_, inputs, hidden), classes = first["W"].shape, last["W"].shape[2]
    more = {n: _room(n) - n for n in (inputs, hidden, classes)}

    def filled(a: Array, *ends: int, value: float = 0.0) -> Array:
        return jnp.pad(a, [(0, 0), *((0, end) for end in ends)], constant_values=value)

    return Weights(
        filled(jnp.swapaxes(first["W"], 1, 2), more[hidden], more[inputs]),
        filled(first["b"], more[hidden]),
        filled(jnp.swapaxes(last["W"], 1, 2), more[classes], more[hidden]),
        filled(last["b"], more[classes], value=NO_CLASS),
    )


def unpadded(w: Weights, like: Any) -> Any:
    """The inverse of `padded`, for networks of the sizes of these."""
    (_, inputs, hidden), classes = like[0]["W"].shape, like[1]["W"].shape[2]
    return (
        {"W": jnp.swapaxes(w.w1[:, :hidden, :inputs], 1, 2), "b": w.b1[:, :hidden]},
        {"W": jnp.swapaxes(w.w2[:, :classes, :hidden], 1, 2), "b": w.b2[:, :classes]},
    )


def examples(x: Any, labels: Any, classes: int) -> tuple[Array, Array]:
    """Inputs and one-hot labels, filled up."""
    x = jnp.asarray(x, jnp.float32)
    x = jnp.pad(x, [(0, _room(len(x)) - len(x)), (0, _room(x.shape[1]) - x.shape[1])])
    y = jax.nn.one_hot(jnp.asarray(labels), _room(classes), dtype=jnp.float32)
    return x, jnp.pad(y, [(0, len(x) - len(y)), (0, 0)])


def _seconds(run: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begun


def compare(members: int, epochs: int, rounds: int) -> str:
    """One line: both times, their ratio, the distance of the weights."""
    x, labels = load_digits(return_X_y=True)
    x, labels = x[:1408] / 16, labels[:1408]  # 44 whole batches
    network, likelihood = jnn.mlp([64, 100, 10], "tanh"), likelihoods.Categorical()
    keys = jax.random.split(jax.random.key(0), members)
    params = jax.jit(jax.vmap(network.init))(keys)
    w, (x_all, y_all) = padded(params), examples(x, labels, 10)
    steps = len(x) // BATCH
    order = jnp.tile(jnp.arange(len(x), dtype=jnp.int32).reshape(1, steps, BATCH), (members, epochs, 1))
    on_device = jnp.asarray(x, jnp.float32), jnp.asarray(labels, jnp.int32)

    def ours() -> Any:
        return ensembles.fit(
            network, likelihood, *on_device, key=keys, params=params, epochs=epochs, batch_size=BATCH, shuffle=False,
            optimizer=jnn.adam(LEARNING_RATE),
        ).result.params  # fmt: skip

    def fused() -> Weights:
        return train(w, x_all, y_all, order)

    for run in (fused, ours):  # compile
        _seconds(run)
    pairs = [(_seconds(fused), _seconds(ours)) for _ in range(rounds)]
    each = 1e6 / (members * epochs * steps)
    ratio = statistics.median(b / a for a, b in pairs)
    distances = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), unpadded(fused(), params), ours())
    return (
        f"{members:5} networks: fused {each * statistics.median(a for a, _ in pairs):.4f} µs a step and network, jnn "
        f"{each * statistics.median(b for _, b in pairs):.4f}; {ratio:.1f} times faster; weights differ by "
        f"{max(jax.tree.leaves(distances)):.1g} at most"
    )


def main(arguments: Sequence[str]) -> int:
    """Measure; return the exit status."""
    made = argparse.ArgumentParser(
        "python -m experiments.benchmarks.fused",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--members", type=int, nargs="+", default=[1, 132, 1056], help="how many (default: 1 132 1056)")
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--rounds", type=int, default=3)
    options = made.parse_args(arguments)
    if jax.default_backend() != "gpu":
        print(f"expected an NVIDIA GPU that JAX can use, got {jax.default_backend()}", file=sys.stderr)
        return 2
    print(f"{jax.devices()[0].device_kind}, JAX {jax.__version__}, TF32 products, {options.epochs} epochs")
    for members in options.members:
        print(compare(members, options.epochs, options.rounds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
