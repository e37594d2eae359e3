"""Gaussian noise: sum of squares with a fixed variance, and a variance that the network predicts as well."""

import math
from dataclasses import dataclass

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Key, Shaped

from jnn.likelihoods.base import Likelihood, paired
from jnn.likelihoods.canonical import Canonical

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian(Canonical):
    """Observations scattered around linear outputs with a fixed standard deviation s: the sum-of-squares error.

        −ln p(y | a) = ‖y − a‖² / (2s²) + K ln(s√2π)        δ = (a − y) / s²

    The second term is dropped unless `complete`; the term ‖y‖²/(2s²), free of `a` too, stays, because it completes the
    square. So with s = 1 the sum over examples is the lecture's E = ½ Σ ‖f(x) − y‖², and for any s it is
    s² (NLL − N K ln(s√2π)). (Slide "Sum-of-squares and maximum likelihood".)

    Args:
        s: the standard deviation, the same for every output; positive. Numbers are stored as Python floats, which
            keeps the likelihood hashable. A traced scalar is accepted too (to differentiate or vmap over s); such an
            object exists only inside that transformation and is not hashable.

    Raises:
        ValueError: if s is not a positive finite scalar.
    """

    s: ArrayLike = 1.0

    def __post_init__(self) -> None:
        if np.shape(self.s) != ():
            raise ValueError(f"Gaussian: expected a scalar s, got shape {np.shape(self.s)}; use one s for all outputs")
        if isinstance(self.s, jax.core.Tracer):
            return
        if isinstance(self.s, bool | complex) or not (math.isfinite(s := float(self.s)) and s > 0):
            raise ValueError(f"Gaussian: expected a positive finite standard deviation s, got {self.s}")
        object.__setattr__(self, "s", s)

    @property
    def dispersion(self) -> ArrayLike:
        """φ = s²."""
        return self.s * self.s

    def log_normalizer(self, a: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
        """Return A(a) = ½‖a‖²."""
        return 0.5 * jnp.sum(a * a, axis=-1)

    def log_base_measure(self, t: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
        """Return ln h(y) = −‖y‖²/(2s²) − K ln(s√2π)."""
        s = jnp.asarray(self.s, t.dtype)
        return -0.5 * jnp.sum(jnp.square(t / s), axis=-1) - t.shape[-1] * (jnp.log(s) + HALF_LOG_TWO_PI)

    def nll(
        self, a: Float[Array, "*batch K"], y: Shaped[ArrayLike, "..."], complete: bool = False
    ) -> Float[Array, "*batch"]:
        """Return ‖y − a‖²/(2s²) of each example, plus K ln(s√2π) if complete; see `Likelihood.nll`."""
        a, y = paired(a, y)
        s = jnp.asarray(self.s, a.dtype)
        value = 0.5 * jnp.sum(jnp.square((y - a) / s), axis=-1)
        return value + a.shape[-1] * (jnp.log(s) + HALF_LOG_TWO_PI) if complete else value

    def mean(self, a: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
        """Return a: the outputs are linear."""
        return a

    def variance(self, a: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
        """Return s² for every component."""
        return jnp.full_like(a, self.dispersion)

    def sample(self, key: Key[Array, ""], a: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
        """Draw y ~ N(a, s²)."""
        return a + jnp.asarray(self.s, a.dtype) * jax.random.normal(key, a.shape, a.dtype)

    def linear_outputs(self, pre_activations: int) -> tuple[bool, ...]:
        """All outputs are linear."""
        return (True,) * pre_activations


@dataclass(frozen=True)
class HeteroscedasticGaussian(Likelihood):
    """Gaussian noise whose variance the network predicts as well: P = 2K pre-activations a = (μ, ρ), ρ = ln variance.

        −ln p(y | a) = Σ_k ½[(y_k − μ_k)² exp(−ρ_k) + ρ_k] + K ln √2π
        ∂/∂μ_k = (μ_k − y_k) exp(−ρ_k)        ∂/∂ρ_k = ½[1 − (y_k − μ_k)² exp(−ρ_k)]

    The constant is dropped unless `complete`. The first K pre-activations are the means (linear outputs), the last K
    the logarithms of the variances (not linear: weight decay draws the variances together). An exact fit has no best
    variance: as μ → y the error falls without bound with ρ. (Nix and Weigend, 1994.)
    """

    @staticmethod
    def _split(a: Array) -> tuple[Array, Array]:
        if a.shape[-1] % 2:
            raise ValueError(
                f"HeteroscedasticGaussian: expected an even number of pre-activations (means, then log-variances), "
                f"got shape {a.shape}; give the network 2K outputs for K target components"
            )
        return a[..., : a.shape[-1] // 2], a[..., a.shape[-1] // 2 :]

    def _standardized(self, a: Array, y: ArrayLike) -> tuple[Array, Array, Array]:
        """Return ρ, (μ − y) exp(−ρ/2), and q with q⁴ = exp(−ρ)."""
        mu, rho = self._split(a)
        _, y = paired(a, y, components=mu.shape[-1])
        # exp(−ρ) overflows long before the product with a small (μ − y)² does, and 0·∞ would be NaN: multiply by
        # fourth roots. Where even those are capped, the product overflows for any residual but 0.
        q = jnp.exp(jnp.minimum(-0.25 * rho, math.floor(math.log(float(jnp.finfo(a.dtype).max)))))
        return rho, (mu - y) * q * q, q

    def nll(
        self, a: Float[Array, "*batch P"], y: Shaped[ArrayLike, "..."], complete: bool = False
    ) -> Float[Array, "*batch"]:
        """Return Σ_k ½[(y_k − μ_k)² exp(−ρ_k) + ρ_k] of each example; see `Likelihood.nll`."""
        rho, u, _ = self._standardized(a, y)
        value = 0.5 * jnp.sum(u * u + rho, axis=-1)
        return value + rho.shape[-1] * HALF_LOG_TWO_PI if complete else value

    def delta(self, a: Float[Array, "*batch P"], y: Shaped[ArrayLike, "..."]) -> Float[Array, "*batch P"]:
        """Return δ = ((μ − y) exp(−ρ), ½[1 − (y − μ)² exp(−ρ)])."""
        _, u, q = self._standardized(a, y)
        return jnp.concatenate([u * q * q, 0.5 * (1 - u) * (1 + u)], axis=-1)

    def mean(self, a: Float[Array, "*batch P"]) -> Float[Array, "*batch K"]:
        """Return μ."""
        return self._split(a)[0]

    def variance(self, a: Float[Array, "*batch P"]) -> Float[Array, "*batch K"]:
        """Return exp(ρ)."""
        return jnp.exp(self._split(a)[1])

    def sample(self, key: Key[Array, ""], a: Float[Array, "*batch P"]) -> Float[Array, "*batch K"]:
        """Draw y ~ N(μ, exp(ρ))."""
        mu, rho = self._split(a)
        return mu + jnp.exp(0.5 * rho) * jax.random.normal(key, mu.shape, mu.dtype)

    def pre_activations(self, targets: int) -> int:
        """Return 2K: a mean and a log-variance for each component."""
        return 2 * targets

    def target_components(self, pre_activations: int) -> int:
        """Return P/2, or raise ValueError if P is odd."""
        if pre_activations % 2:
            raise ValueError(
                f"HeteroscedasticGaussian: expected an even number of outputs (means, then log-variances), got "
                f"{pre_activations}; give the network 2K outputs for K target components"
            )
        return pre_activations // 2

    def linear_outputs(self, pre_activations: int) -> tuple[bool, ...]:
        """The means are linear, the log-variances are not."""
        components = self.target_components(pre_activations)
        return (True,) * components + (False,) * components
