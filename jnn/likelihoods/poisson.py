"""Counts."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln
from jaxtyping import Int, Key

from jnn.likelihoods.base import Components, PerExample, at_least_float32
from jnn.likelihoods.canonical import Canonical
from jnn.likelihoods.targets import reject


@dataclass(frozen=True)
class Poisson(Canonical):
    """Counts with rate z = exp(a) (log link), independent for each component.

        −ln p(y | a) = Σ_k [exp(a_k) − a_k y_k + ln y_k!]        δ = z − y

    The last term is dropped unless `complete`. Rates beyond the floating-point range (a > 88 in float32) are infinite,
    and so is the error then.
    """

    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a) = Σ_k exp(a_k)."""
        return jnp.sum(jnp.exp(a), axis=-1)

    def log_base_measure(self, t: Components) -> PerExample:
        """Return ln h(y) = −Σ_k ln y_k!."""
        return -jnp.sum(gammaln(t + 1), axis=-1)

    def mean(self, a: Components) -> Components:
        """Return the rates z = exp(a)."""
        return jnp.exp(a)

    def variance(self, a: Components) -> Components:
        """Return z: mean and variance are the same."""
        return jnp.exp(a)

    def sample(self, key: Key[Array, ""], a: Components) -> Int[Array, "*batch K"]:
        """Draw counts (needs JAX's default random number generator, threefry)."""
        return jax.random.poisson(key, jnp.exp(at_least_float32(a)))

    def check_values(self, y: np.ndarray, name: str) -> None:
        """Raise ValueError unless all targets are 0, 1, 2, ..."""
        reject(y, (y < 0) | (y != np.rint(y)), name, "counts 0, 1, 2, ...", "use Gaussian for other numbers")
