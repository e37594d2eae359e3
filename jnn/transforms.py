"""Normalizing inputs, and folding the normalization into a trained network's first weights.

"Normalize the data component-wise to zero mean and unit variance (using PCA for removing linear correlations helps)"
(slide "The secrets of successful shallow NN training"). These are affine, z = (x − m) A, so a network trained on z is
also a network on x: weights A W, biases b − m A W, in every layer that reads the inputs. `Squash` is not.

NumPy arrays are worked on by NumPy in float64, so that a large mean costs no digits before the numbers become float32;
JAX arrays by JAX in their own dtype, also under `jit` and `vmap`. What comes out is what went in: NumPy or JAX, in the
input's dtype.
"""

import abc
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num

from jnn import checks
from jnn.checks import example_weights, real_array
from jnn.networks import Network, Params
from jnn.networks.base import leading_axes

Examples = Num[Array | np.ndarray, "n d"]
Inputs = Num[Array | np.ndarray, "*batch d"]
Numbers = Float[Array | np.ndarray, "*batch d"]


def _library(x: Any) -> Any:
    """NumPy or jax.numpy, whichever made `x`."""
    return jnp if isinstance(x, jax.Array) else np


def _floating(x: Any) -> Any:
    """The dtype of `x`; of integers and booleans the floating-point one that its library converts them to."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x.dtype
    return jnp.result_type(float) if isinstance(x, jax.Array) else np.dtype(np.float64)


def _examples(x: Any) -> tuple[Any, Any, float]:
    """The library, `x` as rows of floating-point numbers (NumPy's in float64), and the roundoff of its own dtype."""
    x = real_array(x, "x")
    xp = _library(x)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"expected x of shape (n, d) with at least one example and one column; got {x.shape}")
    if not isinstance(x, jax.core.Tracer) and not bool(xp.all(xp.isfinite(x))):
        raise ValueError("x has NaN or infinite values; remove or impute them before fitting a transform")
    own = _floating(x)
    wide = np.float64 if xp is np else np.promote_types(own, np.float32)
    return xp, x.astype(wide), float(jnp.finfo(own).eps)


class Transform(abc.ABC):
    """A map of examples, learned from data; a pytree, so that it can be vmapped and saved.

    Fitting checks for NaN only outside of `jit` and `vmap`.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of columns that are taken, `(d,)`, after any axes of an ensemble: the shape of the first array."""
        return jax.tree.leaves(self)[0].shape

    @abc.abstractmethod
    def apply(self, x: Inputs) -> Float[Array | np.ndarray, "*batch k"]:
        """z, from x."""

    @abc.abstractmethod
    def undo(self, z: Num[Array | np.ndarray, "*batch k"]) -> Float[Array | np.ndarray, "*batch d"]:
        """x, from z: exact where nothing was lost, else the nearest point that maps to z."""

    def _mapped(self, x: Any, columns: int, name: str, formula: Any) -> Any:
        """`formula(xp, x, *arrays)`: in float64 by NumPy, in its own dtype by JAX; of integers in floating point."""
        every: Any = self
        arrays: list[Any] = [getattr(self, own.name) for own in fields(every) if not own.metadata.get("static")]
        x = real_array(x, name)
        xp = jnp if any(isinstance(array, jax.core.Tracer) for array in arrays) else _library(x)
        if x.ndim == 0 or x.shape[-1] != columns:
            raise ValueError(f"expected {name} with {columns} columns, as the transform was fitted to; got {x.shape}")
        own = _floating(x)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            x, *arrays = (xp.asarray(array, np.float64 if xp is np else own) for array in (x, *arrays))
            # Vectors with as many axes as x, so that nothing is broadcast by accident.
            arrays = [m if m.ndim > 1 else m.reshape((1,) * (x.ndim - 1) + m.shape) for m in arrays]
            return xp.asarray(formula(xp, x, *arrays)).astype(own)


class Affine(Transform):
    """z = (x − m) A, which can be folded into a network's weights."""

    mean: Numbers

    @property
    @abc.abstractmethod
    def matrix(self) -> Float[Array | np.ndarray, "*batch d k"]:
        """A."""

    @property
    @abc.abstractmethod
    def inverse(self) -> Float[Array | np.ndarray, "*batch k d"]:
        """A⁺, with x = z A⁺ + m for every x that the transform loses nothing of."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Standardize(Affine):
    """Zero mean and unit variance in each column: z_j = (x_j − m_j) / s_j, s_j the standard deviation (over n).

    A constant column has no scale: it becomes zero, with s_j = 1.

    >>> import numpy as np
    >>> from jnn.transforms import Standardize
    >>> t = Standardize.fit(np.array([[0.0, 5.0], [2.0, 5.0]]))
    >>> t.apply(np.array([[0.0, 5.0], [4.0, 6.0]])).tolist()
    [[-1.0, 0.0], [3.0, 1.0]]
    """

    mean: Numbers  # m, (d,)
    scale: Numbers  # s, (d,)

    @classmethod
    def fit(cls, x: Examples, weights: Num[Array | np.ndarray, "n"] | None = None) -> "Standardize":
        """Learn means and standard deviations from the rows of `x`, each counted as often as its weight says."""
        xp, x, eps = _examples(x)
        v = xp.ones(len(x), x.dtype) if weights is None else xp.asarray(example_weights(weights, (len(x),), x.dtype))
        share = (v / xp.sum(v))[:, None]

        def average(values: Any) -> Any:
            return xp.sum(share * values, axis=0)

        mean = average(x)
        # The mean of a constant column can be off by rounding; its own rounding error is no scale.
        mean = mean + average(x - mean[None, :])
        centered = x - mean[None, :]
        # In units of the largest deviation, so that no square overflows or underflows.
        counts = v[:, None] > 0
        largest = xp.max(xp.where(counts, xp.abs(centered), xp.zeros_like(centered)), axis=0)
        unit = xp.where(largest > 0, largest, xp.ones_like(largest))
        with np.errstate(over="ignore", under="ignore"):
            scale = unit * xp.sqrt(average(xp.square(centered / unit[None, :])))
        smallest = 10 * eps * xp.max(xp.where(counts, xp.abs(x), xp.zeros_like(x)), axis=0)
        return cls(mean, xp.where(scale > smallest, scale, xp.ones_like(scale)))

    @property
    def matrix(self) -> Float[Array | np.ndarray, "d d"]:
        """diag(1 / s)."""
        return _library(self.scale).diag(1 / self.scale)

    @property
    def inverse(self) -> Float[Array | np.ndarray, "d d"]:
        """diag(s)."""
        return _library(self.scale).diag(self.scale)

    def apply(self, x: Inputs) -> Float[Array | np.ndarray, "*batch d"]:
        """z = (x − m) / s."""
        return self._mapped(x, self.mean.shape[-1], "x", lambda xp, x, m, s: (x - m) / s)

    def undo(self, z: Num[Array | np.ndarray, "*batch d"]) -> Float[Array | np.ndarray, "*batch d"]:
        """x = z s + m."""
        return self._mapped(z, self.mean.shape[-1], "z", lambda xp, z, m, s: z * s + m)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Whiten(Affine):
    """PCA whitening: uncorrelated components of unit variance, z_k = (x − m) · u_k / s_k.

    u_k is the k-th principal axis and s_k the standard deviation along it, largest first. A direction in which the
    data do not vary (constant columns, fewer examples than columns) has no scale: its z_k is zero for all x.
    """

    mean: Numbers  # m, (d,)
    axes: Float[Array | np.ndarray, "*batch d k"]  # the u_k as columns
    scale: Float[Array | np.ndarray, "*batch k"]  # s, zero where the data do not vary

    @classmethod
    def fit(cls, x: Examples, components: int | None = None) -> "Whiten":
        """Learn the principal axes from the rows of `x`, by a singular value decomposition of the centered data.

        `components` axes are kept, those of largest variance; all d by default. Raises ValueError unless
        1 ≤ components ≤ d, or for bad `x`.
        """
        xp, x, eps = _examples(x)
        n, d = x.shape
        kept = d if components is None else checks.count("components", components)
        if kept > d:
            raise ValueError(f"expected components between 1 and {d}, the number of columns; got {components}")
        mean = xp.mean(x, axis=0)
        mean = mean + xp.mean(x - mean[None, :], axis=0)
        centered = x - mean[None, :]
        if n < d:  # rows of zeros change neither axes nor singular values, and give all d axes
            centered = xp.concatenate([centered, xp.zeros((d - n, d), x.dtype)])
        _, singular, axes = xp.linalg.svd(centered, full_matrices=False)
        # A column is known to its own rounding; so is the smallest variation that means anything.
        smallest = 10 * eps * xp.maximum(singular[0], xp.max(xp.abs(x)) * np.sqrt(n))
        scale = xp.where(singular > smallest, singular / np.sqrt(n).astype(x.dtype), xp.zeros_like(singular))
        # The sign of an axis is arbitrary: make its largest component positive, so that equal data give equal axes.
        largest = xp.take_along_axis(axes, xp.argmax(xp.abs(axes), axis=1)[:, None], axis=1)
        axes = (axes * xp.where(largest < 0, -1, 1).astype(x.dtype)).T
        return cls(mean, axes[:, :kept], scale[:kept])

    @property
    def matrix(self) -> Float[Array | np.ndarray, "*batch d k"]:
        """U diag(1 / s), zero where s is."""
        return self.axes * _reciprocal(_library(self.scale), self.scale)[..., None, :]

    @property
    def inverse(self) -> Float[Array | np.ndarray, "*batch k d"]:
        """diag(s) Uᵀ."""
        return self.scale[..., :, None] * self.axes.swapaxes(-1, -2)

    def apply(self, x: Inputs) -> Float[Array | np.ndarray, "*batch k"]:
        """z = (x − m) U / s."""
        return self._mapped(x, self.mean.shape[-1], "x", lambda xp, x, m, u, s: (x - m) @ u * _reciprocal(xp, s))

    def undo(self, z: Num[Array | np.ndarray, "*batch k"]) -> Float[Array | np.ndarray, "*batch d"]:
        """x = (z s) Uᵀ + m."""
        return self._mapped(z, self.scale.shape[-1], "z", lambda xp, z, m, u, s: (z * s) @ u.T + m)

    def __repr__(self) -> str:
        return f"Whiten({self.axes.shape[0]} columns, {self.axes.shape[1]} components)"


def _reciprocal(xp: Any, s: Any) -> Any:
    """1 / s, and 0 where s is 0."""
    return xp.where(s > 0, 1 / xp.where(s > 0, s, xp.ones_like(s)), xp.zeros_like(s))


BOUND, BEYOND = 3.0, 4.0
"""Where squashed columns end, and what a heavy tail is, in standard deviations. Of 16,000 values that are normally
distributed, one lies beyond four."""
FREE = 1e38
"""A bound that is none, in float32 as well; infinity would be taken for a fault by `jax_debug_infs`."""
GAPS = 3
"""So many gaps a column needs for what they say to be learned."""
MARGIN = 0.5
"""How far outside of the examples' range, in units of it, inputs still count."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Squash(Transform):
    """Heavy tails drawn in: z_j = x_j / √(1 + (x_j / c_j)²), about x_j where |x_j| is well below c_j, never beyond c_j.

    For standardized columns: a few values far out otherwise take most of a network's attention, and what it says
    between and beyond them is anybody's guess. (Holzmüller, Grinsztajn, Steinwart, "Better by default", 2024, squash
    all columns so; here it is for those that need it.)

    >>> import numpy as np
    >>> from jnn.transforms import Squash
    >>> Squash(np.array([3.0, 1e38])).apply(np.array([[4.0, 4.0]])).round(2).tolist()
    [[2.4, 4.0]]
    """

    bound: Numbers  # c, (d,), positive; `FREE` for a column that stays as it is

    @classmethod
    def fit(cls, z: Examples, *, bound: float = BOUND, beyond: float = BEYOND) -> "Squash":
        """Learn which columns of `z` (standardized) have heavy tails: those with a value beyond ±`beyond`."""
        xp, z, _ = _examples(z)
        heavy = xp.max(xp.abs(z), axis=0) > beyond
        return cls(xp.where(heavy, xp.asarray(bound, z.dtype), xp.asarray(FREE, z.dtype)))

    def apply(self, x: Inputs) -> Float[Array | np.ndarray, "*batch d"]:
        """z = x / √(1 + (x / c)²)."""
        # Far out the quotient is rounded to c, from any finite x.
        return self._mapped(x, self.shape[-1], "x", lambda xp, x, c: xp.clip(x / _root(xp, x / c, 1), -c, c))

    def undo(self, z: Num[Array | np.ndarray, "*batch d"]) -> Float[Array | np.ndarray, "*batch d"]:
        """x = z / √(1 − (z / c)²), for |z| < c; infinite at the bound (large x are there), NaN beyond it."""
        return self._mapped(z, self.shape[-1], "z", lambda xp, z, c: z / _root(xp, z / c, -1))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Clip(Transform):
    """Columns kept within bounds: z_j = min(max(x_j, l_j), u_j).

    What a network says far outside of the examples that it has seen is arbitrary, and grows without bound. Within the
    range of the examples nothing changes; for `MARGIN` of it beyond either end the network goes on as it does there;
    from then on it says what it says there. A column that was constant has no range, and is ignored.

    >>> import numpy as np
    >>> from jnn.transforms import Clip
    >>> clip = Clip.fit(np.array([[0.0, 5.0], [2.0, 5.0]]))
    >>> clip.apply(np.array([[1.5, 5.0], [2.5, 1000.0], [9.0, 5.0]])).tolist()
    [[1.5, 5.0], [2.5, 5.0], [3.0, 5.0]]
    """

    low: Numbers  # l, (d,)
    high: Numbers  # u, (d,)

    @classmethod
    def fit(cls, x: Examples, *, margin: float = MARGIN) -> "Clip":
        """Bounds that lie `margin` times each column's range outside of it."""
        xp, x, _ = _examples(x)
        low, high = xp.min(x, axis=0), xp.max(x, axis=0)
        beyond = margin * (high - low)
        return cls(low - beyond, high + beyond)

    def apply(self, x: Inputs) -> Float[Array | np.ndarray, "*batch d"]:
        """z = min(max(x, l), u)."""
        return self._mapped(x, self.shape[-1], "x", lambda xp, x, low, high: xp.minimum(xp.maximum(x, low), high))

    def undo(self, z: Num[Array | np.ndarray, "*batch d"]) -> Float[Array | np.ndarray, "*batch d"]:
        """x = z."""
        return self._mapped(z, self.shape[-1], "z", lambda xp, z, low, high: z)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Encode(Transform):
    """Gaps filled, and categories one-hot: from a matrix with NaN and with categories' numbers, as `jnn.tables` makes.

        z_k = m_k                  if x_j is missing, j the column that z_k reads
        z_k = x_j                  for numbers
        z_k = 𝟙{x_j = c_k}         for category c_k of column j

    Numbers that are missing become the column's median, and if there are at least `GAPS`, a column that tells where
    they are goes beside it; missing categories are then one more category. Other categories that are missing become the
    column's average, which says nothing. Of two categories one is enough.

    One-hot into a dense layer is an embedding: a row of the layer's weights for each category.

    >>> import numpy as np
    >>> from jnn.transforms import Encode
    >>> x = np.array([[1.0, 0], [np.nan, 1], [3, 2], [5, 1]])
    >>> Encode.fit(x, categories=(0, 3)).apply(x).tolist()
    [[1.0, 1.0, 0.0, 0.0], [3.0, 0.0, 1.0, 0.0], [3.0, 0.0, 0.0, 1.0], [5.0, 0.0, 1.0, 0.0]]
    """

    missing: Numbers  # m, (k,)
    code: Numbers  # c, (k,)
    number: Bool[Array | np.ndarray, "k"]  # whether z is a number, not one-hot
    source: tuple[int, ...] = field(metadata={"static": True})  # j
    columns: int = field(metadata={"static": True})  # d

    @classmethod
    def fit(cls, x: Num[np.ndarray, "n d"], categories: Sequence[int] = ()) -> "Encode":
        """Learn what to put in gaps; `categories` is how many each column has, 0 for numbers (for all, by default)."""
        x = np.asarray(x, np.float64)
        gaps = np.isnan(x)
        made: list[tuple[int, float, float, bool]] = []  # source, missing, code, number
        seen: set[bytes] = set()  # one column for gaps that are always together
        for j, count in enumerate(categories or (0,) * x.shape[1]):
            there, gap = x[~gaps[:, j], j], gaps[:, j]
            if not count:
                made.append((j, float(np.sort(there)[(len(there) - 1) // 2]) if len(there) else 0.0, -1.0, True))
            had_gaps = GAPS <= gap.sum() < len(gap)
            first = 1 if count == 2 and not had_gaps else 0
            for code in range(first, count):
                made.append((j, 0.0 if had_gaps else float(np.mean(there == code)) if len(there) else 0.0, code, False))
            if had_gaps and (count or gap.tobytes() not in seen):
                made.append((j, 1.0, -1.0, False))
                seen.add(gap.tobytes())
        source, missing, code, number = zip(*made, strict=True)
        return cls(np.array(missing), np.array(code, float), np.array(number), tuple(source), x.shape[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """`(d,)`."""
        return (self.columns,)

    def apply(self, x: Inputs) -> Float[Array | np.ndarray, "*batch k"]:
        """z."""

        def formula(xp: Any, x: Any, missing: Any, code: Any, number: Any) -> Any:
            x = xp.take(x, np.array(self.source, int), axis=-1, mode="clip")
            return xp.where(xp.isnan(x), missing, xp.where(number != 0, x, (x == code).astype(x.dtype)))

        return self._mapped(x, self.columns, "x", formula)

    def undo(self, z: Num[Array | np.ndarray, "*batch k"]) -> Float[Array | np.ndarray, "*batch d"]:
        """Not defined: gaps and categories are gone."""
        raise NotImplementedError("gaps that were filled and rare categories do not come back")


PIECES, MOST_PIECES, EXAMPLES_A_PIECE = 8, 64, 16
"""Pieces of a column, at most; of all columns together, as they cost time like any other inputs; and how many examples
are to lie in one, in the mean."""
GAIN = 0.5
"""Of a piece, whose own height is 1: they are many, and together as large as the column."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Pieces(Transform):
    """The columns, and beside them those of numbers in pieces: a function of one column can bend where examples are.

        z_k = g_k (min(max(x_j, l_k), u_k) − c_k),   j the column that z_k reads

    With l and u neighboring quantiles (or values, if there are few) and g = `GAIN` / (u − l): a ramp between the two,
    level on either side, of zero mean. A network without them is slow to learn thresholds, which trees find at once.

    >>> import numpy as np
    >>> from jnn.transforms import Pieces
    >>> x = np.repeat([[0.0], [1.0], [3.0]], 16, axis=0)
    >>> Pieces.fit(x).apply(np.array([[0.0], [2.0]])).round(3).tolist()
    [[0.0, -0.333, -0.167, 0.0], [2.0, 0.167, 0.083, 0.0]]

    Source: Gorishniy, Rubachev, Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS 2022,
    section 3.2, there as all that the network sees of the column.
    """

    low: Numbers  # l, (k,)
    high: Numbers  # u, (k,)
    gain: Numbers  # g, (k,)
    center: Numbers  # c, (k,)
    source: tuple[int, ...] = field(metadata={"static": True})  # j
    columns: int = field(metadata={"static": True})  # d

    @classmethod
    def fit(
        cls, x: Num[np.ndarray, "n d"], numbers: Bool[np.ndarray, "d"] | None = None, *, multiple_of: int = 1
    ) -> "Pieces":
        """Learn the quantiles of those columns that are `numbers` (all, by default) with three values or more.

        Each gets equally many pieces, be it that some are level everywhere. More such are added until the number of
        columns that come out is a `multiple_of`: then tables that differ in a category or two can share a program.
        """
        x = np.asarray(real_array(x, "x"), np.float64)
        n, d = x.shape
        wanted = np.flatnonzero(np.ones(d, bool) if numbers is None else np.asarray(numbers))
        values = {int(j): found for j in wanted if len(found := np.unique(x[:, j])) > 2}
        count = min(PIECES, n // EXAMPLES_A_PIECE, MOST_PIECES // max(len(values), 1))
        made: list[tuple[int, float, float]] = []  # source, low, high
        for j, found in values.items() if count > 1 else ():
            inner = np.unique(np.quantile(x[:, j], np.linspace(0, 1, count + 1)))
            edges = (found if len(found) <= count + 1 else inner).tolist()
            edges += [edges[-1]] * (count + 1 - len(edges))
            made += [(j, low, high) for low, high in itertools.pairwise(edges)]
        made += [(0, 0.0, 0.0)] * (-(d + len(made)) % multiple_of)
        if not made:
            none = np.zeros(0)
            return cls(none, none, none, none, (), d)
        source, low, high = zip(*made, strict=True)
        low, high = np.array(low), np.array(high)
        gain = np.where(high > low, GAIN / np.where(high > low, high - low, 1.0), 0.0)
        return cls(low, high, gain, np.clip(x[:, list(source)], low, high).mean(axis=0), source, d)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(d,)`."""
        return (self.columns,)

    def apply(self, x: Inputs) -> Float[Array | np.ndarray, "*batch k"]:
        """x, and z beside it."""

        def formula(xp: Any, x: Any, low: Any, high: Any, gain: Any, center: Any) -> Any:
            z = xp.take(x, np.array(self.source, int), axis=-1, mode="clip")
            return xp.concatenate([x, gain * (xp.minimum(xp.maximum(z, low), high) - center)], axis=-1)

        return self._mapped(x, self.columns, "x", formula)

    def undo(self, z: Num[Array | np.ndarray, "*batch k"]) -> Float[Array | np.ndarray, "*batch d"]:
        """x, which is the first columns."""
        return z[..., : self.columns]


def _root(xp: Any, ratio: Any, sign: int) -> Any:
    """√(1 ± ratio²), without an overflow."""
    most = float(np.sqrt(jnp.finfo(ratio.dtype).max) / 2)
    return xp.sqrt(1 + sign * xp.square(xp.clip(ratio, -most, most)))


def fold(transform: Affine, network: Network, params: Params) -> tuple[Network, Params]:
    """The network that takes raw inputs: folded.apply(x) = network.apply(transform.apply(x)).

        a = W'ᵀ x + b',   W' = A W,   b' = b − m A W,   for the weights W of every layer (neuron) that reads inputs

    If the transform kept fewer components, the network has another number of inputs; and if it mixes columns, a DAG
    has an edge from every input to each neuron that read any.

    Raises:
        ValueError: if the transform does not give as many columns as the network has inputs, or a neuron that reads
            inputs has no bias.
        TypeError: if the transform is not affine.
    """
    if not isinstance(transform, Affine):
        raise TypeError(f"expected an affine transform, which weights can take up; got {type(transform).__name__}")
    leading_axes(network, params)
    params = jax.tree.map(jnp.asarray, params)
    mean, matrix = jnp.asarray(transform.mean), jnp.asarray(transform.matrix)
    if matrix.shape[1] != network.inputs:
        raise ValueError(f"expected a transform to the network's {network.inputs} inputs, got one to {matrix.shape[1]}")
    return network.fold_inputs(params, mean, matrix, diagonal=isinstance(transform, Standardize))


def fold_outputs(transform: Standardize, network: Network, params: Params) -> Params:
    """Parameters of the network that gives raw targets: folded.apply(x) = transform.undo(network.apply(x)).

        w_ij' = s_i w_ij,   b_i' = s_i b_i + m_i   for the output neurons i

    For regression on standardized targets, with linear outputs.

    Raises:
        ValueError: if the transform has not one column for each output, or an output has no bias.
        TypeError: if the transform is not a standardization.
    """
    if not isinstance(transform, Standardize):
        raise TypeError(f"expected a standardization of the targets, got {type(transform).__name__}")
    leading_axes(network, params)
    if transform.mean.shape != (network.outputs,):
        raise ValueError(
            f"expected a standardization of {network.outputs} target columns, got one of {transform.mean.shape}"
        )
    return network.fold_outputs(params, jnp.asarray(transform.mean), jnp.asarray(transform.scale))
