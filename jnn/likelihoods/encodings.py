"""Between class labels of any type and the numbers a network is trained with."""

from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Int

from jnn.checks import real_array

OBJECT = np.dtype(object)


@dataclass(frozen=True)
class OneHot:
    """One-hot encoding: the j-th component of a row is one if the example belongs to the j-th class, else zero.

    The lecture's example, the third of four classes (slide "Multi-class classification: One-hot"):

        >>> from jnn.likelihoods import OneHot
        >>> encoding = OneHot.fit(["ant", "bee", "cow", "dog"])
        >>> encoding.encode(["cow"]).tolist()
        [[0.0, 0.0, 1.0, 0.0]]
        >>> encoding.decode([[0.1, 0.2, 0.6, 0.1]]).tolist()
        ['cow']

    Args:
        classes: the labels of the classes, in the order of the components.
        dtype: the NumPy dtype of decoded labels.
    """

    classes: tuple[Hashable, ...]
    dtype: np.dtype = OBJECT

    @classmethod
    def fit(cls, labels: ArrayLike | Iterable) -> "OneHot":
        """Find the classes: the distinct labels, sorted (labels that have no order, by first appearance).

        The labels are one per example, `(n,)`: integers, strings, booleans, floats, or hashable objects of one type.
        Raises ValueError if there are none, not one per example, or missing ones (None, NaN), and TypeError if types
        are mixed, or labels are not hashable.
        """
        values = _values(labels)
        if not values:
            raise ValueError("OneHot.fit: expected at least one label, got none")
        kinds = {_kind(value): value for value in reversed(values)}
        if len(kinds) > 1:
            found = ", ".join(f"{kind} ({value!r})" for kind, value in sorted(kinds.items()))
            raise TypeError(f"labels: expected one type, got {found}; convert them, for instance to strings")
        classes = list(dict.fromkeys(values))
        with suppress(TypeError):  # labels such as enumeration members have no order
            classes.sort()
        if hasattr(labels, "dtype"):
            return cls(tuple(classes), np.asarray(labels).dtype)
        plain = all(isinstance(value, bool | Real | str | bytes) for value in classes)
        return cls(tuple(classes), np.asarray(classes).dtype if plain else OBJECT)

    def encode(self, labels: ArrayLike | Iterable) -> Float[Array, "n K"]:
        """Return the one-hot rows of labels `(n,)`, in JAX's default precision; raise ValueError if one is unknown."""
        return jnp.asarray(np.eye(len(self.classes))[self.indices(labels)])

    def indices(self, labels: ArrayLike | Iterable) -> Int[Array, "n"]:
        """Return the classes' numbers 0, ..., K − 1 of labels `(n,)`; raise ValueError if one is unknown."""
        number = {label: j for j, label in enumerate(self.classes)}
        values = _values(labels)
        if unseen := [value for value in dict.fromkeys(values) if value not in number]:
            raise ValueError(
                f"labels: expected the classes seen by fit ({_few(self.classes)}), got {_few(unseen)}; "
                "fit the encoding to all labels"
            )
        return jnp.asarray(np.array([number[value] for value in values], dtype=int))

    def decode(self, z: ArrayLike | Sequence) -> np.ndarray:
        """Return the label of the largest component of each row (of equal ones the first), `(..., K)` to `(...)`.

        Raises ValueError if the shape does not fit, or there are NaNs.
        """
        z = np.asarray(real_array(z, "z"))
        if z.ndim == 0 or z.shape[-1] != len(self.classes):
            raise ValueError(
                f"OneHot.decode: expected shape (..., {len(self.classes)}), a component per class, got {z.shape}"
            )
        if np.isnan(z).any():
            raise ValueError("OneHot.decode: expected numbers, got NaN; the network's outputs are not usable")
        return self.labels(z.argmax(axis=-1))

    def labels(self, indices: ArrayLike | Sequence) -> np.ndarray:
        """Return the labels of the classes numbered `indices`, `(...)`; raise ValueError if one is out of range."""
        indices = np.asarray(real_array(indices, "indices"))
        if indices.dtype.kind not in "iu":
            raise TypeError(f"OneHot.labels: expected integers, got dtype {indices.dtype}; for rows use decode")
        outside = indices[(indices < 0) | (indices >= len(self.classes))]
        if outside.size:
            raise ValueError(f"OneHot.labels: expected numbers 0, ..., {len(self.classes) - 1}, got {outside.flat[0]}")
        vector = np.empty(len(self.classes), self.dtype)
        for n, label in enumerate(self.classes):  # at once, NumPy would take tuples for rows
            vector[n] = label
        return vector[indices, ...]  # an array also for a single index


def _few(labels: Sequence) -> str:
    return ", ".join([*map(repr, labels[:5]), *["..."] * (len(labels) > 5)])


def _values(labels: ArrayLike | Iterable) -> list:
    """Labels `(n,)` as Python objects, one hashable value per example."""
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise ValueError(f"labels: expected one per example, shape (n,), got the single value {labels!r}")
    shape = tuple(getattr(labels, "shape", (0,)))  # what has none is taken as a list of labels
    if len(shape) != 1:
        hint = "use labels[:, 0]" if len(shape) == 2 and shape[1] == 1 else "give one label per example"
        raise ValueError(f"labels: expected shape (n,), got {shape}; {hint}")
    values: list[Any] = np.asarray(labels).tolist() if hasattr(labels, "dtype") else list(labels)
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    for n, value in enumerate(values):
        if not isinstance(value, Hashable):
            raise TypeError(
                f"labels: expected hashable values, one per example, got {value!r} at position {n}; "
                "give each class a name"
            )
        if value is None or value != value:
            raise ValueError(f"labels: expected no missing ones, got {value!r} at position {n}; drop those examples")
    return values


def _kind(value: Hashable) -> str:
    """All real numbers are of one type, but booleans of their own."""
    return "number" if isinstance(value, Real) and not isinstance(value, bool) else type(value).__name__
