"""Classification with K mutually exclusive classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import ArrayLike, Int, Key

from jnn.likelihoods.base import Components, PerExample, Targets, at_least_float32, paired
from jnn.likelihoods.canonical import Canonical
from jnn.likelihoods.targets import as_targets, check_shape, converted, is_real_float, reject


@dataclass(frozen=True)
class Categorical(Canonical):
    """One of K classes given softmax outputs z_j = exp(a_j) / Σ_k exp(a_k): the multi-class cross-entropy error.

        −ln p(y | a) = −Σ_k y_k ln z_k        δ = z − y

    The targets are integer labels 0, ..., K − 1 of shape `(...)`, or one-hot rows (or probabilities that sum to 1) of
    shape `(..., K)`. (Slides "Multi-class classification: One-hot", "Soft-max", "Other error functions".)
    """

    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a) = ln Σ_k exp(a_k)."""
        return jax.nn.logsumexp(a, axis=-1)

    def statistic(self, a: Components, y: Targets) -> Components:
        """Return the one-hot rows in the dtype of a; a label outside 0, ..., K − 1 would give a row of zeros."""
        if jnp.shape(y) == a.shape:
            return paired(a, y)[1]
        y = jnp.asarray(y)
        if y.shape != a.shape[:-1]:
            raise ValueError(
                f"Categorical: expected integer labels of shape {a.shape[:-1]} or one-hot rows of shape {a.shape}, "
                f"got {y.shape}; give one label or row per example"
            )
        if is_real_float(y):
            raise TypeError(
                f"Categorical: expected integer labels of shape {y.shape}, got dtype {y.dtype}; use y.astype(int)"
            )
        return jax.nn.one_hot(y.astype(jnp.int32), a.shape[-1], dtype=a.dtype)

    def cross_term(self, a: Components, t: Components) -> PerExample:
        """Return A(a) − a·t for Σ_k t_k = 1, as ln Σ_k exp(a_k − m) + Σ_k t_k (m − a_k) with m = max a.

        Both terms are sums of non-negative numbers: nothing cancels, however sure the network is.
        """
        d = a - lax.stop_gradient(jnp.max(a, axis=-1, keepdims=True))
        # The sum without its largest term, 1, keeps the digits that 1 + 1e-20 would lose. With m held constant,
        # derivatives of all orders come out right, also where several a are the largest.
        top = (d == 0).astype(a.dtype)
        rest = jnp.sum(jnp.exp(d) - top, axis=-1) + (jnp.sum(top, axis=-1) - 1)
        return jnp.log1p(rest) - jnp.sum(t * d, axis=-1)

    def residual(self, a: Components, t: Components) -> Components:
        """Return z − t, as −Σ_{j≠k} z_j where t_k = 1: z_k − 1 has no correct digit left once z_k rounds to 1."""
        z = self.mean(a)
        others = jnp.sum(z * (1 - t), axis=-1, keepdims=True)
        return jnp.where(t == 1, -others, z - t)

    def mean(self, a: Components) -> Components:
        """Return the probabilities z of the classes."""
        return jax.nn.softmax(a, axis=-1)

    def variance(self, a: Components) -> Components:
        """Return z_k (1 − z_k), the variance of each component of the one-hot target."""
        z = self.mean(a)
        return z * (1 - z)

    def decide(self, a: Components) -> Int[Array, "*batch"]:
        """Return the most probable label (of equally probable ones the first)."""
        return jnp.argmax(a, axis=-1)

    def sample(self, key: Key[Array, ""], a: Components) -> Int[Array, "*batch"]:
        """Draw integer labels."""
        return jax.random.categorical(key, at_least_float32(a), axis=-1)

    def check_targets(self, y: ArrayLike | Sequence, pre_activations: int) -> Array:
        """Check integer labels `(n,)` or one-hot rows `(..., K)`; see `Likelihood.check_targets`."""
        name, classes = f"{type(self).__name__} targets", pre_activations
        y = as_targets(y, name)
        if classes < 2:
            raise ValueError(
                f"{name}: expected a network with at least two outputs, one per class, got {classes}; "
                "for two classes with one output use Bernoulli"
            )
        forms = f"labels of shape (n,) or one-hot rows of shape (n, {classes})"
        if y.ndim >= 2 and y.shape[-1] == 1:
            raise ValueError(f"{name}: expected {forms}, got {y.shape}; use y[:, 0]")
        if is_real_float(y) and y.ndim < 2 and y.shape != (classes,):
            raise TypeError(
                f"{name}: expected integer {forms}, got dtype {y.dtype} and shape {y.shape}; "
                "use y.astype(int) if these are labels"
            )
        if y.ndim >= 2 or is_real_float(y):
            check_shape(y, classes, name)
            if isinstance(y, np.ndarray):  # else a tracer
                self.check_values(y, name)
        elif isinstance(y, np.ndarray):
            expected = f"labels 0, ..., {classes - 1} for {classes} outputs"
            remedy = "number the classes from 0, as OneHot.fit(labels).indices does, or give each class an output"
            labels = y.astype(np.int64)
            reject(labels, (labels < 0) | (labels >= classes), name, expected, remedy)
        return converted(y, name)

    def check_values(self, y: np.ndarray, name: str) -> None:
        """Raise ValueError unless the rows are probabilities, whose sum is 1 to three decimals (half precision's)."""
        y = np.asarray(y, np.float64)
        reject(y, y < 0, name, "probabilities", "give each class a non-negative share")
        total = y.sum(axis=-1)
        remedy = "divide each row by its sum, or use Bernoulli if the labels do not exclude each other"
        reject(total, np.abs(total - 1) > 1e-3, f"{name} (sums over each row)", "1", remedy)
