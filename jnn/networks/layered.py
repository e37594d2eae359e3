"""Networks in layers: each layer reads some earlier ones, densely. Chains are MLPs; edges that skip are shortcuts."""

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from jnn import activations
from jnn.activations import Activation
from jnn.networks.base import Hidden, Network, Params, Trace, as_rows, one_each
from jnn.networks.initialization import Initializer, fan_in_normal


@dataclass(frozen=True)
class Layer:
    """Neurons with one activation that read the same `sources`: 0 is the input, l the l-th layer."""

    size: int
    activation: Activation
    sources: tuple[int, ...]


class LayerTrace(NamedTuple):
    """A forward pass by layer, examples as columns: `a[l]` of layer l + 1, `z[l]` of layer l, `z[0] = x`."""

    a: tuple[Float[Array, "_ n"], ...]
    z: tuple[Float[Array, "_ n"], ...]


@dataclass(frozen=True)
class Layered(Network):
    """A network of densely connected layers in topological order; the last one is the output layer.

    Parameters: a tuple over the layers of `{"W": (fan-in, size), "b": (size,)}`. The rows of `W` are the neurons of
    the layer's sources, one source after another, so that `a = Σ_s z_s @ W_s + b`.
    """

    inputs: int
    layers: tuple[Layer, ...]

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """K, the number of output neurons."""
        return self.layers[-1].size

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of neurons from the inputs to the outputs."""
        return (self.inputs, *(layer.size for layer in self.layers))

    def fan_in(self, layer: Layer) -> int:
        """How many neurons each neuron of the layer reads, the bias unit aside."""
        return sum(self.sizes[s] for s in layer.sources)

    def blocks(self, layer: Layer) -> list[tuple[int, slice]]:
        """For each source of the layer: its number and the rows of `W` that belong to it."""
        ends = list(itertools.accumulate(self.sizes[s] for s in layer.sources))
        return [(s, slice(end - self.sizes[s], end)) for s, end in zip(layer.sources, ends, strict=True)]

    @property
    def weight_count(self) -> int:
        """The number of weights, biases included."""
        return sum((self.fan_in(layer) + 1) * layer.size for layer in self.layers)

    def init(
        self,
        key: Key[Array, ""],
        *,
        weights: Initializer = fan_in_normal,
        bias: float = 0.0,
        dtype: Any = jnp.float32,
    ) -> Params:
        """Draw initial parameters; see `Network.init`."""
        keys = jax.random.split(key, len(self.layers))
        return tuple(
            {
                "W": weights(k, (self.fan_in(layer), layer.size), self.fan_in(layer), layer.activation.gain, dtype),
                "b": jnp.full(layer.size, bias, dtype),
            }
            for k, layer in zip(keys, self.layers, strict=True)
        )

    def forward(self, params: Params, x: Float[Array, "d n"]) -> tuple[Float[Array, "K n"], LayerTrace]:
        """a_l = Σ_s W_lsᵀ z_s + b_l and z_l = h_l(a_l), layer after layer (slide "Backpropagation V", forward pass)."""
        z: list[Array] = [x]
        a: list[Array] = []
        for layer, p in zip(self.layers, params, strict=True):
            if layer is not self.layers[0]:
                z.append(self.layers[len(a) - 1].activation.h(a[-1]))
            products = (p["W"][rows].T @ z[s] for s, rows in self.blocks(layer))
            bias: Array = p["b"][:, None]
            a.append(sum(products, start=bias))
        return a[-1], LayerTrace(tuple(a), tuple(z))

    def trace(self, params: Params, x: Num[Array | np.ndarray, "*batch d"]) -> Trace:
        """The forward pass with every layer's `a` and `z` kept, examples as rows."""
        columns, batch = self.columns(params, x)
        _, kept = self.forward(params, columns)
        return Trace(tuple(as_rows(a, batch) for a in kept.a), tuple(as_rows(z, batch) for z in kept.z))

    def rows(self) -> Sequence[tuple[str, ...]]:
        """The lines of `describe`."""
        names = ["input", *(f"hidden {n}" for n in range(1, len(self.layers))), "output"]
        lines = [(names[0], str(self.inputs), "", "", "", "")]
        for name, layer in zip(names[1:], self.layers, strict=True):
            fan_in = self.fan_in(layer)
            lines.append(
                (
                    name,
                    str(layer.size),
                    "(likelihood)" if name == "output" else layer.activation.name,
                    ", ".join(names[s] for s in layer.sources),
                    f"({fan_in}, {layer.size}) + {layer.size}",
                    f"{(fan_in + 1) * layer.size:,}",
                )
            )
        return lines


def mlp(
    sizes: Sequence[int],
    hidden: Hidden = "tanh",
    shortcuts: bool = False,
) -> Layered:
    """A multi-layer perceptron, with or without shortcut connections (slides "Multi-layer perceptron network").

        z_l = h_l(Σ_s W_lsᵀ z_s + b_l),   s = l − 1, or with shortcuts every s < l, the inputs (s = 0) included

    Args:
        sizes: number of neurons from inputs to outputs, `(d, hidden..., K)`; `(d, K)` is the linear model.
        hidden: one activation for all hidden layers, or a list with one for each: a name, an `Activation`, or a pair
            of functions (h, h').
        shortcuts: whether every earlier layer, the input included, is read by every later one.

    Raises:
        ValueError: for fewer than two sizes, sizes below 1, an unknown activation, or a list of the wrong length.

    >>> import jnn
    >>> network = jnn.mlp([64, 100, 10], hidden="tanh")
    >>> network.weight_count
    7510
    """
    try:
        checked = tuple(operator.index(size) for size in sizes)
    except TypeError:
        raise ValueError(f"expected sizes as a list of integers (inputs, hidden..., outputs), got {sizes!r}") from None
    if len(checked) < 2 or min(checked) < 1:
        raise ValueError(
            f"expected at least two sizes of at least 1 each, (inputs, hidden..., outputs); got {checked}. "
            "A linear model is mlp([inputs, outputs])."
        )
    depth = len(checked) - 1
    chosen = (*one_each(hidden, depth - 1, "hidden layer"), activations.get("identity"))
    return Layered(
        inputs=checked[0],
        layers=tuple(
            Layer(size, h, tuple(range(layer)) if shortcuts else (layer - 1,))
            for layer, (size, h) in enumerate(zip(checked[1:], chosen, strict=True), start=1)
        ),
    )
