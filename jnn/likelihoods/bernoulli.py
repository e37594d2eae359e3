"""Binary classification, and several binary labels at once."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Int, Key

from jnn.likelihoods.base import Components, PerExample, at_least_float32
from jnn.likelihoods.canonical import Canonical
from jnn.likelihoods.targets import reject


@dataclass(frozen=True)
class Bernoulli(Canonical):
    """Targets in {0, 1} given logistic outputs z = 1/(1 + exp(−a)): the cross-entropy error.

        −ln p(y | a) = −Σ_k [y_k ln z_k + (1 − y_k) ln(1 − z_k)]        δ = z − y

    K = 1 is binary classification; K > 1 are K independent labels (multi-label), not K classes. The targets are
    `(..., K)`, also with K = 1. `nll` and `delta` also accept probabilities y in [0, 1]; `check_targets` does not.
    (Slides "Binary classification" and "Other error functions".)
    """

    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a) = Σ_k ln(1 + exp(a_k))."""
        return jnp.sum(jax.nn.softplus(a), axis=-1)

    def cross_term(self, a: Components, t: Components) -> PerExample:
        """Return A(a) − a·t, as Σ_k [(1 − t_k) ln(1 + exp(a_k)) + t_k ln(1 + exp(−a_k))], where nothing cancels."""
        return jnp.sum((1 - t) * jax.nn.softplus(a) + t * jax.nn.softplus(-a), axis=-1)

    def residual(self, a: Components, t: Components) -> Components:
        """Return z − t, as (1 − t) σ(a) − t σ(−a): z − 1 has no correct digit left once z rounds to 1."""
        return (1 - t) * jax.nn.sigmoid(a) - t * jax.nn.sigmoid(-a)

    def mean(self, a: Components) -> Components:
        """Return the probabilities z = σ(a) of ones."""
        return jax.nn.sigmoid(a)

    def variance(self, a: Components) -> Components:
        """Return z(1 − z)."""
        return jax.nn.sigmoid(a) * jax.nn.sigmoid(-a)

    def decide(self, a: Components) -> Bool[Array, "*batch K"]:
        """Return the more probable label: whether a > 0, that is z > ½."""
        return a > 0

    def sample(self, key: Key[Array, ""], a: Components) -> Int[Array, "*batch K"]:
        """Draw zeros and ones."""
        a = at_least_float32(a)
        # P(logistic noise < a) = σ(a), accurate in both tails where comparing a uniform number with σ(a) is not.
        return (jax.random.logistic(key, a.shape, a.dtype) < a).astype(int)

    def check_values(self, y: np.ndarray, name: str) -> None:
        """Raise ValueError unless all targets are 0 or 1."""
        reject(y, (y != 0) & (y != 1), name, "only 0 and 1", "encode two classes as 0 and 1, more with Categorical")
