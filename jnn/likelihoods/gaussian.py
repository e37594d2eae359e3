"""Gaussian noise: sum of squares with a fixed variance, and a variance that the network predicts as well."""

import math
from dataclasses import dataclass

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Key

from jnn.checks import number
from jnn.likelihoods.base import Components, Likelihood, Outputs, PerExample, Targets, diagonal, paired
from jnn.likelihoods.canonical import Canonical

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Gaussian(Canonical):
    """Observations scattered around linear outputs with a fixed standard deviation s: the sum-of-squares error.

        −ln p(y | a) = ‖y − a‖² / (2s²) + K ln(s√2π)        δ = (a − y) / s²

    The second term is dropped unless `complete`; ‖y‖²/(2s²), free of `a` too, completes the square and stays. So with
    s = 1 the sum over examples is the lecture's E = ½ Σ ‖f(x) − y‖². (Slide "Sum-of-squares and maximum likelihood".)

    Args:
        s: the standard deviation, the same for every output; ValueError unless it is a positive finite scalar. Stored
            as a Python float, so that the likelihood is hashable; with a traced scalar (to differentiate or vmap over
            s) it is not.
    """

    s: ArrayLike = 1.0

    def __post_init__(self) -> None:
        if np.shape(self.s) != ():
            raise ValueError(f"Gaussian: expected a scalar s, got shape {np.shape(self.s)}; use one s for all outputs")
        if isinstance(self.s, jax.core.Tracer):
            return
        # The square of s is a number in float32, too.
        s = number("s", self.s, "a positive finite standard deviation within 1e±18", lambda s: 1e-18 < s < 1e18)
        object.__setattr__(self, "s", float(s))

    @property
    def dispersion(self) -> ArrayLike:
        """φ = s²."""
        return self.s * self.s

    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a) = ½‖a‖²."""
        return 0.5 * jnp.sum(a * a, axis=-1)

    def log_base_measure(self, t: Components) -> PerExample:
        """Return ln h(y) = −‖y‖²/(2s²) − K ln(s√2π)."""
        s = jnp.asarray(self.s, t.dtype)
        return -0.5 * jnp.sum(jnp.square(t / s), axis=-1) - t.shape[-1] * (jnp.log(s) + HALF_LOG_TWO_PI)

    def nll(self, a: Components, y: Targets, complete: bool = False) -> PerExample:
        """Return ‖y − a‖²/(2s²) of each example, plus K ln(s√2π) if complete; see `Likelihood.nll`."""
        a, y = paired(a, y)
        s = jnp.asarray(self.s, a.dtype)
        value = 0.5 * jnp.sum(jnp.square((y - a) / s), axis=-1)
        return value + a.shape[-1] * (jnp.log(s) + HALF_LOG_TWO_PI) if complete else value

    def mean(self, a: Components) -> Components:
        """Return a: the outputs are linear."""
        return a

    def variance(self, a: Components) -> Components:
        """Return s² for every component."""
        return jnp.full_like(a, self.dispersion)

    def sample(self, key: Key[Array, ""], a: Components) -> Components:
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

    def _standardized(self, a: Array, y: ArrayLike) -> tuple[Array, Array, Array]:
        """Return ρ, (μ − y) exp(−ρ/2), and q with q⁴ = exp(−ρ)."""
        mu, rho = _means_and_log_variances(a)
        _, y = paired(a, y, components=mu.shape[-1])
        # exp(−ρ) overflows long before the product with a small (μ − y)² does, and 0·∞ would be NaN: multiply by
        # fourth roots. Where even those are capped, the product overflows for any residual but 0.
        q = jnp.exp(jnp.minimum(-0.25 * rho, math.floor(math.log(float(jnp.finfo(a.dtype).max)))))
        return rho, (mu - y) * q * q, q

    def nll(self, a: Outputs, y: Targets, complete: bool = False) -> PerExample:
        """Return Σ_k ½[(y_k − μ_k)² exp(−ρ_k) + ρ_k] of each example; see `Likelihood.nll`."""
        rho, u, _ = self._standardized(a, y)
        value = 0.5 * jnp.sum(u * u + rho, axis=-1)
        return value + rho.shape[-1] * HALF_LOG_TWO_PI if complete else value

    def delta(self, a: Outputs, y: Targets) -> Outputs:
        """Return δ = ((μ − y) exp(−ρ), ½[1 − (y − μ)² exp(−ρ)])."""
        _, u, q = self._standardized(a, y)
        return jnp.concatenate([u * q * q, 0.5 * (1 - u) * (1 + u)], axis=-1)

    def hessian_product(self, a: Outputs, y: Targets, v: Outputs) -> Outputs:
        """Return (exp(−ρ) v_μ − r exp(−ρ) v_ρ, −r exp(−ρ) v_μ + ½ r² exp(−ρ) v_ρ), with r = μ − y.

        Its determinant, −½ r² exp(−2ρ), is negative: steps and posteriors need `fisher_product`.
        """
        _, u, q = self._standardized(a, y)
        v_mu, v_rho = _means_and_log_variances(v)
        both = q * q * v_mu - u * v_rho
        return jnp.concatenate([q * q * both, -u * (both + 0.5 * u * v_rho)], axis=-1)

    def fisher_product(self, a: Outputs, v: Outputs) -> Outputs:
        """Return (exp(−ρ) v_μ, ½ v_ρ): in expectation r vanishes, and r² is exp(ρ)."""
        return jnp.square(self._root(a)) * v

    def fisher_root(self, a: Outputs) -> Float[Array, "*batch P R"]:
        """Return diag(exp(−ρ/2), √½)."""
        return diagonal(self._root(a))

    def _root(self, a: Outputs) -> Outputs:
        rho = _means_and_log_variances(a)[1]
        return jnp.concatenate([jnp.exp(-0.5 * rho), jnp.full_like(rho, math.sqrt(0.5))], axis=-1)

    def mean(self, a: Outputs) -> Components:
        """Return μ."""
        return _means_and_log_variances(a)[0]

    def variance(self, a: Outputs) -> Components:
        """Return exp(ρ)."""
        return jnp.exp(_means_and_log_variances(a)[1])

    def sample(self, key: Key[Array, ""], a: Outputs) -> Components:
        """Draw y ~ N(μ, exp(ρ))."""
        mu, rho = _means_and_log_variances(a)
        return mu + jnp.exp(0.5 * rho) * jax.random.normal(key, mu.shape, mu.dtype)

    def pre_activations(self, targets: int) -> int:
        """Return 2K: a mean and a log-variance for each component."""
        return 2 * targets

    def target_components(self, pre_activations: int) -> int:
        """Return P/2, or raise ValueError if P is odd."""
        return _half(pre_activations, "outputs")

    def linear_outputs(self, pre_activations: int) -> tuple[bool, ...]:
        """The means are linear, the log-variances are not."""
        components = self.target_components(pre_activations)
        return (True,) * components + (False,) * components


def _half(count: int, of: str) -> int:
    if count % 2:
        raise ValueError(
            f"HeteroscedasticGaussian: expected an even number of {of} (means, then log-variances), got {count}; "
            "give the network 2K outputs for K target components"
        )
    return count // 2


def _means_and_log_variances(a: Array) -> tuple[Array, Array]:
    k = _half(a.shape[-1], "pre-activations")
    return a[..., :k], a[..., k:]
