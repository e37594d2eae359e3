"""What every network has in common: a static description, and pure functions over its parameters."""

import abc
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from jnn import activations
from jnn.activations import Activation
from jnn.checks import floats, is_floating, one_key, one_number
from jnn.networks.initialization import Initializer, fan_in_normal

Params = Any
"""A pytree of floating-point arrays, as `Network.init` makes it."""


class Trace(NamedTuple):
    """Everything a forward pass computes: `a`, each neuron's weighted sum, and `z = h(a)`, what it sends on.

    For a layered network both are tuples over the layers: `a[l]` is `(..., size)` of layer l + 1, and `z[l]` of layer
    l, `z[0]` being the inputs `x`. For a DAG both are arrays over the neurons in the lecture's numbering: `z` is
    `(..., 1 + d + M)`, from the bias unit `z_0 = 1` and the inputs on, and `a` is `(..., M + K)`, from the first hidden
    neuron on. The outputs' own `z = σ(a)` belongs to the likelihood.
    """

    a: Any
    z: Any


class Network(abc.ABC):
    """A feed-forward network f: R^d → R^K, up to its outputs' pre-activations `a` (slides "Notation I, II").

    A network is static and hashable: it holds sizes, activations and connections, never parameters. It ends at the
    weighted sums of its output neurons; the output map σ belongs to the likelihood.
    """

    inputs: int
    outputs: int

    def init(
        self, key: Key[Array, ""], *, weights: Initializer = fan_in_normal, bias: float = 0.0, dtype: Any = jnp.float32
    ) -> Params:
        """Draw initial parameters.

        Args:
            key: a typed key (`jax.random.key`).
            weights: how weights are drawn; by default normal with standard deviation gain / √fan-in, where the gain
                suits the activation (see `jnn.activations`).
            bias: the value that every bias w_i0 starts from.
            dtype: of all parameters; the computation follows it.
        """
        bias = one_number("bias", bias, "a finite number", np.isfinite)
        return self.drawn(one_key(key), weights, bias, dtype)

    @abc.abstractmethod
    def drawn(self, key: Key[Array, ""], weights: Initializer, bias: float, dtype: Any) -> Params:
        """See `init`."""

    @abc.abstractmethod
    def forward(self, params: Params, x: Float[Array, "d n"]) -> tuple[Float[Array, "K n"], Any]:
        """The forward pass on columns: the outputs' pre-activations, and what the backward pass needs of the rest.

        Inside the library neurons are rows and examples are columns (faster where layers are narrow and batches
        long); users meet examples as rows, in `apply` and `trace`.
        """

    @abc.abstractmethod
    def backward(self, params: Params, kept: Any, delta: Float[Array, "K n"]) -> tuple[Any, Float[Array, "d n"]]:
        """The backward pass on columns, δ_j = h'(a_j) Σ_k w_kj δ_k (slide "Backpropagation IV"), from the outputs' δ.

        Returns δ of every neuron, in a form that `gradients` and its like take; and ∂E/∂x.
        """

    @abc.abstractmethod
    def gradients(self, kept: Any, deltas: Any) -> Params:
        """∂E/∂w_ij = Σ_n δ_i z_j and ∂E/∂w_i0 = Σ_n δ_i (slide "Backpropagation II"), in the form of the parameters."""

    # Pearlmutter's R-operator (1994): R{f} is how f moves when the parameters w move by v, R{f(w)} = d/dr f(w + rv) at
    # r = 0. Of each pass above, what moves in it; the inputs stay.

    @abc.abstractmethod
    def moved_forward(self, params: Params, direction: Params, kept: Any) -> tuple[Float[Array, "K n"], Any]:
        """R{a_i} = Σ_j (w_ij R{z_j} + v_ij z_j) + v_i0 and R{z_i} = h'(a_i) R{a_i}: of the outputs, and of all kept."""

    @abc.abstractmethod
    def moved_backward(
        self,
        params: Params,
        direction: Params,
        kept: Any,
        moved: Any,
        delta: Float[Array, "K n"],
        moved_delta: Float[Array, "K n"],
    ) -> tuple[Any, Any]:
        """δ of every neuron, and R{δ_j} = h''(a_j) R{a_j} Σ_k w_kj δ_k + h'(a_j) Σ_k (v_kj δ_k + w_kj R{δ_k})."""

    @abc.abstractmethod
    def moved_gradients(self, kept: Any, moved: Any, deltas: Any, moved_deltas: Any) -> Params:
        """R{∂E/∂w_ij} = Σ_n (R{δ_i} z_j + δ_i R{z_j}) and R{∂E/∂w_i0} = Σ_n R{δ_i}."""

    @abc.abstractmethod
    def per_example_gradients(self, kept: Any, deltas: Any) -> Params:
        """∂E^n/∂w_ij = δ_i z_j of every example n, examples on the first axis."""

    @abc.abstractmethod
    def squared_norms(self, kept: Any, deltas: Any) -> Float[Array, "n"]:
        """Σ_ij (δ_i z_j)² of every example, without forming its gradient (Goodfellow 2015)."""

    def traced(self, kept: Any) -> Trace:
        """What the forward pass kept as a trace, examples as columns; here, as it is."""
        return kept

    def traced_deltas(self, deltas: Any) -> Any:
        """δ in the form of a trace's `a`, examples as columns; here, as it is."""
        return deltas

    @abc.abstractmethod
    def decay_mask(self, counted: np.ndarray) -> Params:
        """Which weights decay: all but biases and those into outputs that are not counted, `(K,)`. Broadcasts."""

    @abc.abstractmethod
    def fold_inputs(self, params: Params, mean: Array, matrix: Array, *, diagonal: bool) -> "tuple[Network, Params]":
        """The network that takes x where this one takes (x − m) A; with `diagonal`, A mixes no columns.

        Raises ValueError if a neuron that reads inputs has no bias to take up the mean.
        """

    @abc.abstractmethod
    def fold_outputs(self, params: Params, mean: Array, scale: Array) -> Params:
        """The parameters with outputs s a + m where these have a. Raises ValueError if an output has no bias."""

    @abc.abstractmethod
    def as_layers(self, params: Params) -> "tuple[Network, Params]":
        """The same function as a network in layers, and its parameters (for programs that know nothing else)."""

    @property
    @abc.abstractmethod
    def hidden_activations(self) -> tuple[Activation, ...]:
        """The activations of the hidden layers or neurons."""

    @property
    @abc.abstractmethod
    def neurons(self) -> int:
        """How many neurons compute: M + K."""

    @property
    @abc.abstractmethod
    def weight_count(self) -> int:
        """The number of weights, biases included."""

    @abc.abstractmethod
    def rows(self) -> Sequence[tuple[str, ...]]:
        """The lines of `describe`: name, neurons, activation, what it reads, shape of its weights, their number."""

    def trace(self, params: Params, x: Num[Array | np.ndarray, "*batch d"]) -> Trace:
        """The forward pass with every neuron's `a` and `z` kept, examples as rows."""
        leading_axes(self, params, lead=())
        columns, batch = self.columns(params, x)
        return as_rows(self.traced(self.forward(params, columns)[1]), batch)

    def apply(self, params: Params, x: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch K"]:
        """The outputs' pre-activations a_i = Σ_j w_ij z_j (slides "Notation II", "Backpropagation V").

        `x` is one example `(d,)` or any batch of them, a ValueError otherwise; integers become the parameters' dtype.
        """
        leaves = jax.tree.leaves(params)
        if not leaves or not all(isinstance(leaf, jax.Array) for leaf in leaves):
            leading_axes(self, params, lead=())  # JAX's own are looked at once, where they are compiled for
        return _applied(self, params, floats(x, "x", leaves[0].dtype))

    def columns(self, params: Params, x: Num[Array | np.ndarray, "..."]) -> tuple[Float[Array, "d n"], tuple[Any, ...]]:
        """`x` with its examples as columns, and the batch shape to put back in the end."""
        x = floats(x, "x", jax.tree.leaves(params)[0].dtype)
        if x.ndim == 0 or x.shape[-1] != self.inputs:
            raise ValueError(
                f"expected x of shape (..., {self.inputs}), one column for each input of the network; got {x.shape}. "
                f"Rows are examples: transpose x, or build the network for {x.shape[-1:] or 'scalar'} inputs."
            )
        return x.reshape(-1, self.inputs).T, x.shape[:-1]

    def __str__(self) -> str:
        """The table that `describe` prints."""
        head = ("", "neurons", "activation", "reads", "weights", "number")
        lines = [head, *self.rows(), ("total", "", "", "", "", f"{self.weight_count:,}")]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ([f"{c:{side}{w}}" for c, side, w in zip(line, "<><<<>", widths, strict=True)] for line in lines)
        return "\n".join("  ".join(line).rstrip() for line in padded)


Hidden = str | Activation | tuple[Any, ...] | Sequence[str | Activation | tuple[Any, ...]]
"""One activation for all hidden neurons (a name, an `Activation`, or functions h, h', perhaps h''), or one for each."""


def one_each(hidden: Hidden, count: int, of: str) -> tuple[Activation, ...]:
    """The activation of each of `count` hidden layers or neurons."""
    functions = isinstance(hidden, tuple) and not any(isinstance(h, (str, tuple, Activation)) for h in hidden)
    if isinstance(hidden, str) or callable(hidden) or (functions and len(hidden) in (2, 3)):
        return (activations.get(hidden),) * count  # type: ignore[arg-type]
    each = tuple(hidden)
    if len(each) != count:
        raise ValueError(f"expected one activation, or a list of {count}, one for each {of}; got {len(each)}")
    return tuple(activations.get(spec) for spec in each)


@functools.lru_cache(maxsize=128)
def expected_parameters(network: Network) -> Params:
    """The shapes of the network's parameters, in their structure."""
    return jax.eval_shape(lambda: network.init(jax.random.key(0)))


def leading_axes(
    network: Network, params: Params, lead: tuple[int, ...] | None = None, what: str = "params"
) -> tuple[int, ...]:
    """The axes of an ensemble before those of one network's parameters: () for one network, (M,) for M of them.

    Raises ValueError unless they are the network's, with leading axes `lead` if given; TypeError unless floating-point.
    """
    expected = expected_parameters(network)
    if (got := jax.tree.structure(params)) != (wanted := jax.tree.structure(expected)):
        raise ValueError(f"expected {what} of the structure that network.init gives, {wanted}; got {got}")
    for (path, like), leaf in zip(jax.tree.leaves_with_path(expected), jax.tree.leaves(params), strict=True):
        where = f"{what}{jax.tree_util.keystr(path)}"
        if not (hasattr(leaf, "shape") and is_floating(leaf)):
            got = type(leaf).__name__ + (f" of dtype {leaf.dtype}" if hasattr(leaf, "dtype") else "")
            raise TypeError(f"expected {where} as an array of floating-point numbers, got {got}")
        found = leaf.shape[: max(leaf.ndim - len(like.shape), 0)]
        if leaf.shape != found + like.shape or (lead is not None and found != lead):
            wanted = f"{like.shape} after any axes of an ensemble" if lead is None else lead + like.shape
            raise ValueError(f"expected {where} of shape {wanted}, as network.init gives; got {leaf.shape}")
        lead = found
    return lead or ()


def laid_out(a: Array) -> Array:
    """`a` in an order of memory of its own, first axis slowest.

    XLA would leave a transpose to the product that reads it, and on a CPU multiplies matrices several times slower
    where both are read against their order (see `experiments/benchmarks/NOTES.md`).
    """
    return jax.lax.optimization_barrier(a)


@functools.partial(jax.jit, static_argnames="network")
def _applied(network: Network, params: Params, x: Array) -> Array:
    """As one program, which compiles faster than its operations one by one."""
    leading_axes(network, params, lead=())
    columns, batch = network.columns(params, x)
    return as_rows(network.forward(params, columns)[0], batch)


def as_rows(columns: Any, batch: tuple[Any, ...]) -> Any:
    """Examples as columns `(size, n)`, in one array or several, back to rows of the given batch shape."""
    return jax.tree.map(lambda array: array.T.reshape(*batch, array.shape[0]), columns)


def describe(network: Network) -> None:
    """Print a network's layers, the shapes of their weights, and the number of weights."""
    print(network)
