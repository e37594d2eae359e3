"""What every network has in common: a static description, and pure functions over its parameters."""

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from jnn import activations
from jnn.activations import Activation
from jnn.networks.initialization import Initializer, fan_in_normal

Params = Any
"""A pytree of floating-point arrays, as `Network.init` makes it."""


class Trace(NamedTuple):
    """Everything a forward pass computes: `a`, each neuron's weighted sum, and `z = h(a)`, what it sends on.

    For a layered network both are tuples over the layers: `a[l]` is `(..., size of layer l)`, and `z[l]` is what
    layer `l` may read, `z[0]` being the inputs `x`. For a DAG both are arrays over the neurons in the lecture's
    numbering: `z` is `(..., 1 + d + M)`, from the bias unit `z_0 = 1` and the inputs on, and `a` is `(..., M + K)`,
    from the first hidden neuron on. The outputs' own `z = σ(a)` belongs to the likelihood.
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

    @abc.abstractmethod
    def init(
        self,
        key: Key[Array, ""],
        *,
        weights: Initializer = fan_in_normal,
        bias: float = 0.0,
        dtype: Any = jnp.float32,
    ) -> Params:
        """Draw initial parameters.

        Args:
            key: a typed key (`jax.random.key`).
            weights: how weights are drawn; the default is normal with standard deviation gain / √fan-in, where the
                gain suits the activation (see `jnn.activations`).
            bias: the value that every bias w_i0 starts from.
            dtype: of all parameters; the computation follows it.
        """

    @abc.abstractmethod
    def forward(self, params: Params, x: Float[Array, "d n"]) -> tuple[Float[Array, "K n"], Any]:
        """The forward pass on columns: the outputs' pre-activations, and what the backward pass needs of the rest.

        Inside the library neurons are rows and examples are columns (faster where layers are narrow and batches
        long); users meet examples as rows, in `apply` and `trace`.
        """

    @abc.abstractmethod
    def trace(self, params: Params, x: Num[Array | np.ndarray, "*batch d"]) -> Trace:
        """The forward pass with every neuron's `a` and `z` kept."""

    @abc.abstractmethod
    def rows(self) -> Sequence[tuple[str, ...]]:
        """The lines of `describe`: name, neurons, activation, what it reads, shape of its weights, their number."""

    @property
    @abc.abstractmethod
    def weight_count(self) -> int:
        """The number of weights, biases included."""

    def apply(self, params: Params, x: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch K"]:
        """The outputs' pre-activations a_i = Σ_j w_ij z_j (slides "Notation II", "Backpropagation V").

        Args:
            params: as `init` made them.
            x: one example `(d,)` or any batch of them `(..., d)`. Integers are taken as the parameters' dtype.

        Raises:
            ValueError: if the last axis of `x` is not the number of inputs.
        """
        columns, batch = self.columns(params, x)
        a, _ = self.forward(params, columns)
        return as_rows(a, batch)

    def columns(self, params: Params, x: Num[Array | np.ndarray, "..."]) -> tuple[Float[Array, "d n"], tuple[Any, ...]]:
        """`x` with its examples as columns, and the batch shape to put back in the end."""
        x = jnp.asarray(x)
        if x.ndim == 0 or x.shape[-1] != self.inputs:
            raise ValueError(
                f"expected x of shape (..., {self.inputs}), one column for each input of the network; "
                f"got {x.shape}. Rows are examples: transpose x, or build the network for {x.shape[-1:] or 'scalar'} "
                "inputs."
            )
        if not jnp.issubdtype(x.dtype, jnp.floating):
            x = x.astype(jax.tree.leaves(params)[0].dtype)
        return x.reshape(-1, self.inputs).T, x.shape[:-1]

    def __str__(self) -> str:
        """The table that `describe` prints."""
        head = ("", "neurons", "activation", "reads", "weights", "number")
        lines = [head, *self.rows(), ("total", "", "", "", "", f"{self.weight_count:,}")]
        widths = [max(len(line[c]) for line in lines) for c in range(len(head))]
        right = {1, 5}
        return "\n".join(
            "  ".join(
                cell.rjust(w) if c in right else cell.ljust(w)
                for c, (cell, w) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


Hidden = str | Activation | tuple[Any, Any] | Sequence[str | Activation | tuple[Any, Any]]
"""One activation for all hidden neurons (a name, an `Activation`, or a pair of functions h, h'), or one for each."""


def one_each(hidden: Hidden, count: int, of: str) -> tuple[Activation, ...]:
    """The activation of each of `count` hidden layers or neurons.

    Raises:
        ValueError: for an unknown name, or a list of another length.
    """
    is_pair = isinstance(hidden, tuple) and not any(isinstance(h, (str, tuple, Activation)) for h in hidden)
    if isinstance(hidden, str) or callable(hidden) or (is_pair and len(hidden) == 2):
        return (activations.get(hidden),) * count  # type: ignore[arg-type]
    each = tuple(hidden)
    if len(each) != count:
        raise ValueError(f"expected one activation, or a list of {count}, one for each {of}; got {len(each)}")
    return tuple(activations.get(spec) for spec in each)


def as_rows(columns: Float[Array, "size n"], batch: tuple[Any, ...]) -> Float[Array, "*batch size"]:
    """Columns of examples back to rows of the given batch shape."""
    return columns.T.reshape(*batch, columns.shape[0])


def describe(network: Network) -> None:
    """Print a network's layers, the shapes of their weights, and the number of weights."""
    print(network)
