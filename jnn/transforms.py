"""Normalizing inputs, and folding the normalization into a trained network's first weights.

"Normalize the data component-wise to zero mean and unit variance (using PCA for removing linear correlations helps)"
(slide "The secrets of successful shallow NN training"). These are affine, z = (x − m) A, so a network trained on z is
also a network on x: weights A W, biases b − m A W, in every layer that reads the inputs. `Squash` is not.
"""

import abc
from typing import Any, cast

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jnn.networks import Dag, Layered, Network, Params, dag


def _examples(x: Any) -> Array:
    """`x` as floating-point rows, or an error."""
    x = jnp.asarray(x)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"expected x of shape (n, d) with at least one example and one column; got {x.shape}")
    if not isinstance(x, jax.core.Tracer) and not bool(jnp.all(jnp.isfinite(x))):
        raise ValueError("x has NaN or infinite values; remove or impute them before fitting a transform")
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


class Transform(abc.ABC):
    """A map of examples, learned from data; a pytree, so that it can be vmapped and saved.

    Fitting checks for NaN only outside of `jit` and `vmap`.
    """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The number of columns that are taken, `(d,)`, after any axes of an ensemble."""

    @abc.abstractmethod
    def apply(self, x: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch k"]:
        """z, from x."""

    @abc.abstractmethod
    def undo(self, z: Num[Array | np.ndarray, "*batch k"]) -> Float[Array, "*batch d"]:
        """x, from z: exact where nothing was lost, else the nearest point that maps to z."""

    def _check(self, x: Any, columns: int, name: str) -> Array:
        x = jnp.asarray(x)
        if x.ndim == 0 or x.shape[-1] != columns:
            raise ValueError(f"expected {name} with {columns} columns, as the transform was fitted to; got {x.shape}")
        return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jax.tree.leaves(self)[0].dtype)


class Affine(Transform):
    """z = (x − m) A, which can be folded into a network's weights."""

    mean: Float[Array, "*batch d"]

    @property
    def shape(self) -> tuple[int, ...]:
        """That of m."""
        return self.mean.shape

    @property
    @abc.abstractmethod
    def matrix(self) -> Float[Array, "d k"]:
        """A."""

    @property
    @abc.abstractmethod
    def inverse(self) -> Float[Array, "k d"]:
        """A⁺, with x = z A⁺ + m for every x that the transform loses nothing of."""


def _around(x: Array, m: Array) -> Array:
    """m with as many axes as x, so that nothing is broadcast by accident."""
    return m.reshape((1,) * (x.ndim - 1) + m.shape)


@jax.tree_util.register_pytree_node_class
class Standardize(Affine):
    """Zero mean and unit variance in each column: z_j = (x_j − m_j) / s_j, s_j the standard deviation (over n).

    A constant column has no scale: it becomes zero, with s_j = 1.

    Args:
        mean: m, `(d,)`.
        scale: s, `(d,)`.

    >>> import numpy as np
    >>> from jnn.transforms import Standardize
    >>> t = Standardize.fit(np.array([[0.0, 5.0], [2.0, 5.0]]))
    >>> t.apply(np.array([[0.0, 5.0], [4.0, 6.0]])).tolist()
    [[-1.0, 0.0], [3.0, 1.0]]
    """

    def __init__(self, mean: Float[Array, "*batch d"], scale: Float[Array, "*batch d"]) -> None:
        self.mean = mean
        self.scale = scale

    @classmethod
    def fit(cls, x: Num[Array, "n d"] | np.ndarray) -> "Standardize":
        """Learn means and standard deviations from the rows of `x`."""
        x = _examples(x)
        mean = jnp.mean(x, axis=0)
        centered = x - _around(x, mean)
        # The mean of a constant column can be off by rounding; its own rounding error is no scale.
        mean = mean + jnp.mean(centered, axis=0)
        centered = x - _around(x, mean)
        # In units of the largest deviation, so that no square overflows or underflows.
        largest = jnp.max(jnp.abs(centered), axis=0)
        unit = jnp.where(largest > 0, largest, jnp.ones_like(largest))
        scale = unit * jnp.sqrt(jnp.mean(jnp.square(centered / _around(x, unit)), axis=0))
        smallest = 10 * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(x), axis=0)
        return cls(mean, jnp.where(scale > smallest, scale, jnp.ones_like(scale)))

    @property
    def matrix(self) -> Float[Array, "d d"]:
        """diag(1 / s)."""
        return jnp.diag(1 / self.scale)

    @property
    def inverse(self) -> Float[Array, "d d"]:
        """diag(s)."""
        return jnp.diag(self.scale)

    def apply(self, x: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch d"]:
        """z = (x − m) / s."""
        x = self._check(x, self.mean.shape[-1], "x")
        return (x - _around(x, self.mean)) / _around(x, self.scale)

    def undo(self, z: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch d"]:
        """x = z s + m."""
        z = self._check(z, self.mean.shape[-1], "z")
        return z * _around(z, self.scale) + _around(z, self.mean)

    def tree_flatten(self) -> tuple[tuple[Array, Array], None]:
        """The arrays."""
        return (self.mean, self.scale), None

    @classmethod
    def tree_unflatten(cls, _: None, arrays: tuple[Array, Array]) -> "Standardize":
        """From the arrays."""
        return cls(*arrays)

    def __repr__(self) -> str:
        return f"Standardize(mean={self.mean}, scale={self.scale})"


@jax.tree_util.register_pytree_node_class
class Whiten(Affine):
    """PCA whitening: uncorrelated components of unit variance, z_k = (x − m) · u_k / s_k.

    u_k is the k-th principal axis and s_k the standard deviation along it, largest first. A direction in which the
    data do not vary (constant columns, fewer examples than columns) has no scale: its z_k is zero for all x.

    Args:
        mean: m, `(d,)`.
        axes: the u_k as columns, `(d, k)`.
        scale: s, `(k,)`, zero where the data do not vary.
    """

    def __init__(
        self, mean: Float[Array, "*batch d"], axes: Float[Array, "*batch d k"], scale: Float[Array, "*batch k"]
    ) -> None:
        self.mean = mean
        self.axes = axes
        self.scale = scale

    @classmethod
    def fit(cls, x: Num[Array, "n d"] | np.ndarray, components: int | None = None) -> "Whiten":
        """Learn the principal axes from the rows of `x`, by a singular value decomposition of the centered data.

        Args:
            x: `(n, d)`.
            components: how many axes to keep, those of largest variance; all d by default.

        Raises:
            ValueError: unless 1 ≤ components ≤ d, or for bad `x`.
        """
        x = _examples(x)
        n, d = x.shape
        kept = d if components is None else components
        if not 1 <= kept <= d:
            raise ValueError(f"expected components between 1 and {d}, the number of columns; got {components}")
        mean = jnp.mean(x, axis=0)
        centered = x - _around(x, mean)
        mean = mean + jnp.mean(centered, axis=0)
        if n < d:  # rows of zeros change neither axes nor singular values, and give all d axes
            centered = jnp.concatenate([x - _around(x, mean), jnp.zeros((d - n, d), x.dtype)])
        else:
            centered = x - _around(x, mean)
        _, singular, axes = jnp.linalg.svd(centered, full_matrices=False)
        # A column is known to its own rounding; so is the smallest variation that means anything.
        smallest = 10 * jnp.finfo(x.dtype).eps * jnp.maximum(singular[0], jnp.max(jnp.abs(x)) * np.sqrt(n))
        scale = jnp.where(singular > smallest, singular / np.sqrt(n).astype(x.dtype), jnp.zeros_like(singular))
        # The sign of an axis is arbitrary: make its largest component positive, so that equal data give equal axes.
        largest = jnp.take_along_axis(axes, jnp.argmax(jnp.abs(axes), axis=1)[:, None], axis=1)
        axes = (axes * jnp.where(largest < 0, -1, 1).astype(x.dtype)).T
        return cls(mean, axes[:, :kept], scale[:kept])

    @property
    def _inverse_scale(self) -> Array:
        varies = self.scale > 0
        return jnp.where(
            varies, 1 / jnp.where(varies, self.scale, jnp.ones_like(self.scale)), jnp.zeros_like(self.scale)
        )

    @property
    def matrix(self) -> Float[Array, "d k"]:
        """U diag(1 / s), zero where s is."""
        return self.axes * self._inverse_scale[None, :]

    @property
    def inverse(self) -> Float[Array, "k d"]:
        """diag(s) Uᵀ."""
        return self.scale[:, None] * self.axes.T

    def apply(self, x: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch k"]:
        """z = (x − m) U / s."""
        x = self._check(x, self.mean.shape[-1], "x")
        return (x - _around(x, self.mean)) @ self.axes * _around(x, self._inverse_scale)

    def undo(self, z: Num[Array | np.ndarray, "*batch k"]) -> Float[Array, "*batch d"]:
        """x = (z s) Uᵀ + m."""
        z = self._check(z, self.scale.shape[-1], "z")
        return (z * _around(z, self.scale)) @ self.axes.T + _around(z, self.mean)

    def tree_flatten(self) -> tuple[tuple[Array, Array, Array], None]:
        """The arrays."""
        return (self.mean, self.axes, self.scale), None

    @classmethod
    def tree_unflatten(cls, _: None, arrays: tuple[Array, Array, Array]) -> "Whiten":
        """From the arrays."""
        return cls(*arrays)

    def __repr__(self) -> str:
        return f"Whiten({self.axes.shape[0]} columns, {self.axes.shape[1]} components)"


BOUND, BEYOND = 3.0, 4.0
"""Where squashed columns end, and what a heavy tail is, in standard deviations. Of 16,000 values that are normally
distributed, one lies beyond four."""


@jax.tree_util.register_pytree_node_class
class Squash(Transform):
    """Heavy tails drawn in: z_j = x_j / √(1 + (x_j / c_j)²), about x_j where |x_j| is well below c_j, never beyond c_j.

    For standardized columns: a few values far out otherwise take most of a network's attention, and what it says
    between and beyond them is anybody's guess. (Holzmüller, Grinsztajn, Steinwart, "Better by default", 2024, squash
    all columns so; here it is for those that need it.)

    Args:
        bound: c, `(d,)`, positive; infinite for a column that stays as it is.

    >>> import numpy as np
    >>> from jnn.transforms import Squash
    >>> Squash(np.array([3.0, np.inf])).apply(np.array([[4.0, 4.0]])).round(2).tolist()
    [[2.4, 4.0]]
    """

    def __init__(self, bound: Float[Array | np.ndarray, "*batch d"]) -> None:
        self.bound = bound

    @classmethod
    def fit(cls, z: Num[Array, "n d"] | np.ndarray, *, bound: float = BOUND, beyond: float = BEYOND) -> "Squash":
        """Learn which columns of `z` (standardized) have heavy tails: those with a value beyond ±`beyond`."""
        z = _examples(z)
        heavy = jnp.max(jnp.abs(z), axis=0) > beyond
        return cls(jnp.where(heavy, jnp.asarray(bound, z.dtype), jnp.asarray(jnp.inf, z.dtype)))

    @property
    def shape(self) -> tuple[int, ...]:
        """That of c."""
        return self.bound.shape

    def _root(self, x: Array, sign: int) -> Array:
        """√(1 ± (x / c)²), without an overflow."""
        most = float(np.sqrt(jnp.finfo(x.dtype).max) / 2)
        ratio = jnp.clip(x / _around(x, jnp.asarray(self.bound, x.dtype)), -most, most)
        return jnp.sqrt(1 + sign * jnp.square(ratio))

    def apply(self, x: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch d"]:
        """z = x / √(1 + (x / c)²)."""
        x = self._check(x, self.shape[-1], "x")
        bound = _around(x, jnp.asarray(self.bound, x.dtype))
        # Far out the quotient is rounded to c, from any finite x.
        return jnp.clip(x / self._root(x, 1), -bound, bound)

    def undo(self, z: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch d"]:
        """x = z / √(1 − (z / c)²), for |z| < c; infinite at the bound (large x are there), NaN beyond it."""
        z = self._check(z, self.shape[-1], "z")
        return z / self._root(z, -1)

    def tree_flatten(self) -> tuple[tuple[Array | np.ndarray], None]:
        """The array."""
        return (self.bound,), None

    @classmethod
    def tree_unflatten(cls, _: None, arrays: tuple[Array]) -> "Squash":
        """From the array."""
        return cls(*arrays)

    def __repr__(self) -> str:
        return f"Squash(bound={self.bound})"


def fold(transform: Affine, network: Network, params: Params) -> tuple[Network, Params]:
    """The network that takes raw inputs: folded.apply(x) = network.apply(transform.apply(x)).

        a = W'ᵀ x + b',   W' = A W,   b' = b − m A W,   for the weights W of every layer (neuron) that reads inputs

    Args:
        transform: what the network's inputs went through in training.
        network: the trained network, shortcuts included.
        params: its parameters.

    Returns:
        The network (of another number of inputs, if the transform kept fewer components; and, for a DAG and a
        transform that mixes columns, with an edge from every input to each neuron that read any) and its parameters.

    Raises:
        ValueError: if the transform does not give as many columns as the network has inputs, or a neuron that reads
            inputs has no bias.
        TypeError: if the transform is not affine.
    """
    if not isinstance(transform, Affine):
        raise TypeError(f"expected an affine transform, which weights can take up; got {type(transform).__name__}")
    d, k = transform.matrix.shape
    if k != network.inputs:
        raise ValueError(f"expected a transform to the network's {network.inputs} inputs, got one to {k}")
    if isinstance(network, Dag):
        return _fold_general(transform, network, params)
    layered = cast(Layered, network)
    wide = Layered(d, layered.layers)
    folded = []
    for layer, p in zip(layered.layers, params, strict=True):
        blocks = []
        b = p["b"]
        for source, rows in layered.blocks(layer):
            w = p["W"][rows]
            if source == 0:
                w = transform.matrix.astype(w.dtype) @ w
                b = b - transform.mean.astype(b.dtype) @ w
            blocks.append(w)
        folded.append({"W": jnp.concatenate(blocks), "b": b})
    return wide, tuple(folded)


def _fold_general(transform: Affine, network: Dag, params: Params) -> tuple[Dag, Params]:
    if not network.biased[_reads_inputs(network)].all():
        raise ValueError("a neuron that reads inputs has no bias to take up the mean; connect neuron 0 to it")
    d, k = transform.matrix.shape
    mixes = not isinstance(transform, Standardize)
    source, target = network.edges.T
    shift = d - k  # how much higher each later neuron is numbered
    from_input = source <= k
    reader = target - k - 1  # among the neurons that compute
    # The input weights as a matrix, zero where there is no edge.
    w_in = jnp.zeros((k, network.hidden + network.outputs), params["w"].dtype)
    w_in = w_in.at[source[from_input] - 1, reader[from_input]].set(params["w"][from_input])
    matrix = transform.matrix.astype(w_in.dtype)
    w_raw = matrix @ w_in
    b = params["b"] - transform.mean.astype(w_in.dtype) @ w_raw
    readers = np.flatnonzero(_reads_inputs(network))
    pairs = (
        np.stack([np.tile(np.arange(d), len(readers)), np.repeat(readers, d)], axis=1)
        if mixes
        else np.stack([source[from_input] - 1, reader[from_input]], axis=1)
    )
    edges = np.concatenate([pairs + np.array([1, d + 1]), network.edges[~from_input] + shift])
    weights = jnp.concatenate([w_raw[pairs[:, 0], pairs[:, 1]], params["w"][~from_input]])
    order = np.lexsort((edges[:, 0], edges[:, 1]))
    bias_edges = [(0, int(i) + d + 1) for i in np.flatnonzero(network.biased)] if not network.biased.all() else []
    connections = [*map(tuple, edges[order].tolist()), *bias_edges]
    general = dag(
        d,
        network.outputs,
        connections,
        list(network.neuron_activations),
        neurons=1 + d + network.hidden + network.outputs,
        evaluation=network.evaluation,
    )
    return general, {"w": weights[order], "b": b}


def _reads_inputs(network: Dag) -> np.ndarray:
    """For each neuron from d+1 on, whether it reads an input."""
    found = np.zeros(network.hidden + network.outputs, bool)
    found[network.edges[network.edges[:, 0] <= network.inputs, 1] - network.inputs - 1] = True
    return found


def fold_outputs(transform: Standardize, network: Network, params: Params) -> Params:
    """Parameters of the network that gives raw targets: folded.apply(x) = transform.undo(network.apply(x)).

        w_ij' = s_i w_ij,   b_i' = s_i b_i + m_i   for the output neurons i

    For regression on standardized targets, with linear outputs.

    Args:
        transform: the standardization of the targets.
        network: the trained network.
        params: its parameters.

    Raises:
        ValueError: if the transform has not one column for each output, or an output has no bias.
        TypeError: if the transform is not a standardization.
    """
    if not isinstance(transform, Standardize):
        raise TypeError(f"expected a standardization of the targets, got {type(transform).__name__}")
    if transform.mean.shape != (network.outputs,):
        raise ValueError(
            f"expected a standardization of {network.outputs} target columns, got one of {transform.mean.shape}"
        )
    if isinstance(network, Dag):
        if not network.biased[network.hidden :].all():
            raise ValueError("an output has no bias to take up the mean of the targets; connect neuron 0 to it")
        s = jnp.concatenate([jnp.ones(network.hidden, transform.scale.dtype), transform.scale])
        m = jnp.concatenate([jnp.zeros(network.hidden, transform.mean.dtype), transform.mean])
        reader = network.edges[:, 1] - network.inputs - 1
        return {"w": params["w"] * s[reader], "b": params["b"] * s + m}
    *hidden, last = params
    return (*hidden, {"W": last["W"] * transform.scale[None, :], "b": last["b"] * transform.scale + transform.mean})
