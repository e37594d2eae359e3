"""Networks in layers: each layer reads some earlier ones, densely. Chains are MLPs; edges that skip are shortcuts."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jnn import activations
from jnn.activations import Activation
from jnn.checks import count
from jnn.networks.base import Hidden, Network, Params, Trace, laid_out, leading_axes, one_each
from jnn.networks.initialization import Initializer, draw_layers


@dataclass(frozen=True)
class Layer:
    """Neurons with one activation that read the same `sources`: 0 is the input, l the l-th layer."""

    size: int
    activation: Activation
    sources: tuple[int, ...]


Columns = tuple[Float[Array, "_ n"], ...]
"""One array for each layer, examples as columns."""


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
        ends = itertools.accumulate(self.sizes[s] for s in layer.sources)
        return [(s, slice(end - self.sizes[s], end)) for s, end in zip(layer.sources, ends, strict=True)]

    @property
    def weight_count(self) -> int:
        """The number of weights, biases included."""
        return sum((self.fan_in(layer) + 1) * layer.size for layer in self.layers)

    def drawn(self, key: Key[Array, ""], weights: Initializer, bias: float, dtype: Any) -> Params:
        """The weights of all layers, the biases equal."""
        shapes = [((self.fan_in(h), h.size), self.fan_in(h), h.activation.gain) for h in self.layers]
        drawn = draw_layers(weights, key, shapes, dtype)
        return tuple({"W": w, "b": jnp.full(w.shape[1], bias, dtype) + more} for w, more in drawn)

    def forward(self, params: Params, x: Float[Array, "d n"]) -> tuple[Float[Array, "K n"], Trace]:
        """a_l = Σ_s W_lsᵀ z_s + b_l and z_l = h_l(a_l), layer after layer (slide "Backpropagation V", forward pass)."""
        z: list[Array] = [x]
        a: list[Array] = []
        for layer, p in zip(self.layers, params, strict=True):
            if layer is not self.layers[0]:
                z.append(self.layers[len(a) - 1].activation.h(a[-1]))
            products = (p["W"][rows].T @ z[s] for s, rows in self.blocks(layer))
            bias: Array = p["b"][:, None]
            a.append(sum(products, start=bias))
        return a[-1], Trace(tuple(a), tuple(z))

    def backward(self, params: Params, kept: Trace, delta: Float[Array, "K n"]) -> tuple[Columns, Float[Array, "d n"]]:
        """δ_l = h_l'(a_l) ⊙ Σ_k W_kl δ_k, layer before layer (slide "Backpropagation IV"); and Σ_k W_k0 δ_k = ∂E/∂x."""
        count = len(self.layers)
        found: list[Array] = [delta] * count
        pulled: dict[int, Array] = {}  # Σ_k W_kl δ_k by source l, filled while the layers k > l are visited
        for number in range(count, 0, -1):
            layer = self.layers[number - 1]
            if number < count:
                slope = layer.activation.derivative(kept.a[number - 1])
                found[number - 1] = slope * pulled[number] if number in pulled else jnp.zeros_like(slope)
            for source, rows in self.blocks(layer):
                product = laid_out(params[number - 1]["W"][rows]) @ found[number - 1]
                pulled[source] = pulled[source] + product if source in pulled else product
        return tuple(found), pulled[0] if 0 in pulled else jnp.zeros_like(kept.z[0])

    def gradients(self, kept: Trace, deltas: Columns) -> Params:
        """∂E/∂w_ij = Σ_n δ_i z_j and ∂E/∂w_i0 = Σ_n δ_i (slide "Backpropagation II"), summed over the examples."""
        return tuple(
            # (δ zᵀ)ᵀ, not z δᵀ: by neuron, as the training program keeps weights (see `jnn.training.packing`).
            {"W": jnp.concatenate([delta @ kept.z[s].T for s in layer.sources], axis=1).T, "b": jnp.sum(delta, axis=1)}
            for layer, delta in zip(self.layers, deltas, strict=True)
        )

    def moved_forward(self, params: Params, direction: Params, kept: Trace) -> tuple[Float[Array, "K n"], Trace]:
        """R{a_l} = Σ_s (W_lsᵀ R{z_s} + V_lsᵀ z_s) + v_l and R{z_l} = h_l'(a_l) R{a_l}."""
        z: list[Array] = [jnp.zeros_like(kept.z[0])]
        a: list[Array] = []
        for layer, p, v in zip(self.layers, params, direction, strict=True):
            if a:
                z.append(self.layers[len(a) - 1].activation.derivative(kept.a[len(a) - 1]) * a[-1])
            products = [v["W"][rows].T @ kept.z[s] for s, rows in self.blocks(layer)]
            products += [p["W"][rows].T @ z[s] for s, rows in self.blocks(layer) if s > 0]
            bias: Array = v["b"][:, None]
            a.append(sum(products, start=bias))
        return a[-1], Trace(tuple(a), tuple(z))

    def moved_backward(
        self,
        params: Params,
        direction: Params,
        kept: Trace,
        moved: Trace,
        delta: Float[Array, "K n"],
        moved_delta: Float[Array, "K n"],
    ) -> tuple[Columns, Columns]:
        """δ_l, and R{δ_l} = h_l''(a_l) ⊙ R{a_l} ⊙ Σ_k W_kl δ_k + h_l'(a_l) ⊙ Σ_k (V_kl δ_k + W_kl R{δ_k})."""
        count = len(self.layers)
        found, moved_found = [delta] * count, [moved_delta] * count
        pulled: dict[int, tuple[Array, Array]] = {}  # Σ_k W_kl δ_k and how it moves, by source l
        for number in range(count, 0, -1):
            layer, place = self.layers[number - 1], number - 1
            if number < count:
                a, nothing = kept.a[place], jnp.zeros_like(kept.a[place])
                product, moved_product = pulled.get(number, (nothing, nothing))
                slope = layer.activation.derivative(a)
                bend = layer.activation.second_derivative(a) * moved.a[place]
                found[place], moved_found[place] = slope * product, bend * product + slope * moved_product
            for source, rows in self.blocks(layer):
                if source == 0:
                    continue  # the inputs have no δ
                w, v = laid_out(params[place]["W"][rows]), laid_out(direction[place]["W"][rows])
                own = w @ found[place], v @ found[place] + w @ moved_found[place]
                before = pulled.get(source)
                pulled[source] = own if before is None else (before[0] + own[0], before[1] + own[1])
        return tuple(found), tuple(moved_found)

    def moved_gradients(self, kept: Trace, moved: Trace, deltas: Columns, moved_deltas: Columns) -> Params:
        """R{∂E/∂w_ij} = Σ_n (R{δ_i} z_j + δ_i R{z_j}) and R{∂E/∂w_i0} = Σ_n R{δ_i}."""

        def block(s: int, delta: Array, moved_delta: Array) -> Array:
            product = moved_delta @ kept.z[s].T
            return product + delta @ moved.z[s].T if s > 0 else product

        return tuple(
            {"W": jnp.concatenate([block(s, d, r) for s in layer.sources], axis=1).T, "b": jnp.sum(r, axis=1)}
            for layer, d, r in zip(self.layers, deltas, moved_deltas, strict=True)
        )

    def per_example_gradients(self, kept: Trace, deltas: Columns) -> Params:
        """∂E^n/∂w_ij = δ_i z_j for every example n: one outer product each, examples on the first axis."""
        read = (jnp.concatenate([kept.z[s] for s in layer.sources]) for layer in self.layers)
        pairs = zip(read, deltas, strict=True)
        return tuple({"W": z.T[:, :, None] * delta.T[:, None, :], "b": delta.T} for z, delta in pairs)

    def squared_norms(self, kept: Trace, deltas: Columns) -> Float[Array, "n"]:
        """Σ_ij (δ_i z_j)² = Σ_layers ‖δ‖² (1 + ‖z‖²) for every example (Goodfellow 2015)."""
        squares = [jnp.sum(z * z, axis=0) for z in kept.z]
        total = jnp.zeros_like(squares[0])
        for layer, delta in zip(self.layers, deltas, strict=True):
            total += jnp.sum(delta * delta, axis=0) * (1 + sum(squares[s] for s in layer.sources))
        return total

    def decay_mask(self, counted: np.ndarray) -> Params:
        """All weights but biases and those into outputs that are not counted."""
        layers = [{"W": np.array(True), "b": np.array(False)} for _ in self.layers]
        layers[-1]["W"] = counted[None, :]
        return tuple(layers)

    def fold_inputs(self, params: Params, mean: Array, matrix: Array, *, diagonal: bool) -> "tuple[Layered, Params]":
        """W' = A W and b' = b − m A W, for the weights W of every layer that reads the inputs."""
        del diagonal
        folded = []
        for layer, p in zip(self.layers, params, strict=True):
            b, blocks = p["b"], []
            for source, rows in self.blocks(layer):
                w = p["W"][rows]
                if source == 0:
                    w = matrix.astype(w.dtype) @ w
                    b = b - mean.astype(b.dtype) @ w
                blocks.append(w)
            folded.append({"W": jnp.concatenate(blocks), "b": b})
        return Layered(matrix.shape[0], self.layers), tuple(folded)

    def fold_outputs(self, params: Params, mean: Array, scale: Array) -> Params:
        """w_ij' = s_i w_ij and b_i' = s_i b_i + m_i for the output neurons i."""
        *hidden, last = params
        return (*hidden, {"W": last["W"] * scale[None, :], "b": last["b"] * scale + mean})

    def as_layers(self, params: Params) -> "tuple[Layered, Params]":
        """This network, which is one of layers."""
        return self, params

    @property
    def hidden_activations(self) -> tuple[Activation, ...]:
        """Of each hidden layer."""
        return tuple(layer.activation for layer in self.layers[:-1])

    @property
    def neurons(self) -> int:
        """M + K."""
        return sum(layer.size for layer in self.layers)

    def rows(self) -> Sequence[tuple[str, ...]]:
        """The lines of `describe`."""
        names = ["input", *(f"hidden {n}" for n in range(1, len(self.layers))), "output"]
        lines = [("input", str(self.inputs), "", "", "", "")]
        for name, layer in zip(names[1:], self.layers, strict=True):
            rows, size = self.fan_in(layer), layer.size
            kind = "(likelihood)" if name == "output" else layer.activation.name
            reads = ", ".join(names[s] for s in layer.sources)
            lines.append((name, str(size), kind, reads, f"({rows}, {size}) + {size}", f"{(rows + 1) * size:,}"))
        return lines


def mlp(sizes: Sequence[int], hidden: Hidden = "tanh", shortcuts: bool = False) -> Layered:
    """A multi-layer perceptron, with or without shortcut connections (slides "Multi-layer perceptron network").

        z_l = h_l(Σ_s W_lsᵀ z_s + b_l),   s = l − 1, or with shortcuts every s < l, the inputs (s = 0) included

    Args:
        sizes: number of neurons from inputs to outputs, `(d, hidden..., K)`; `(d, K)` is the linear model.
        hidden: one activation for all hidden layers, or a list with one for each: a name, an `Activation`, or a pair
            of functions (h, h').
        shortcuts: whether every earlier layer, the input included, is read by every later one.

    Raises ValueError for fewer than two sizes, sizes below 1, an unknown activation, or a list of the wrong length.

    >>> import jnn
    >>> network = jnn.mlp([64, 100, 10], hidden="tanh")
    >>> network.weight_count
    7510
    """
    try:
        checked = tuple(count("sizes", size, least=0) for size in sizes)
    except (TypeError, ValueError):
        raise ValueError(f"expected sizes as a list of integers (inputs, hidden..., outputs), got {sizes!r}") from None
    if len(checked) < 2 or min(checked) < 1:
        raise ValueError(
            f"expected at least two sizes of at least 1 each, (inputs, hidden..., outputs); got {checked}. "
            "A linear model is mlp([inputs, outputs])."
        )
    chosen = (*one_each(hidden, len(checked) - 2, "hidden layer"), activations.identity)
    layers = (
        Layer(size, h, tuple(range(layer)) if shortcuts else (layer - 1,))
        for layer, (size, h) in enumerate(zip(checked[1:], chosen, strict=True), start=1)
    )
    return Layered(checked[0], tuple(layers))


def with_shortcuts(network: Layered, params: Params) -> tuple[Layered, Params]:
    """The network with every shortcut added, the new weights zero: the same function, with more to learn."""
    leading_axes(network, params)
    params = jax.tree.map(jnp.asarray, params)
    layers, filled = [], []
    for number, (layer, p) in enumerate(zip(network.layers, params, strict=True), start=1):
        blocks = [jnp.zeros((network.sizes[s], layer.size), p["W"].dtype) for s in range(number)]
        for source, rows in network.blocks(layer):
            blocks[source] = p["W"][rows]
        layers.append(Layer(layer.size, layer.activation, tuple(range(number))))
        filled.append({"W": jnp.concatenate(blocks), "b": p["b"]})
    return Layered(network.inputs, tuple(layers)), tuple(filled)
