"""The canonical exponential families: one equation behind three of the lecture's error functions.

If the natural parameter of an exponential family is the network's output pre-activation itself,

    −ln p(y | a) = (A(a) − a·t(y)) / φ − ln h(y),

with log-normalizer A, statistic t, base measure h and dispersion φ. Since A'(a) = E[t | a] = z is the output map σ(a),

    δ = ∂(−ln p)/∂a = (A'(a) − t) / φ = (z − t) / φ.

So sum of squares with linear outputs, cross-entropy with a logistic output, and cross-entropy with softmax outputs all
start backpropagation with δ = z − y (slides "Backpropagation III" and "Other error functions").
"""

import abc

import jax.numpy as jnp
from jax import Array
from jaxtyping import ArrayLike, Float, Shaped

from jnn.likelihoods.base import Likelihood, paired


class Canonical(Likelihood):
    """A likelihood with −ln p(y | a) = (A(a) − a·t(y))/φ − ln h(y), and hence δ = (A'(a) − t)/φ.

    A family of your own defines `log_normalizer` (A), `mean` (A'), and, where they are not trivial, `statistic` (t),
    `log_base_measure` (ln h), `dispersion` (φ):

        >>> import jax, jax.numpy as jnp
        >>> from dataclasses import dataclass
        >>> from jnn.likelihoods import Canonical
        >>> @dataclass(frozen=True)
        ... class Exponential(Canonical):
        ...     '''p(y | a) = −a exp(a·y) for y ≥ 0 and a < 0.'''
        ...     def log_normalizer(self, a):
        ...         return -jnp.log(-a).sum(-1)
        ...     def mean(self, a):
        ...         return -1 / a
        >>> a, y = jnp.array([[-2.0], [-0.5]]), jnp.array([[1.0], [1.0]])
        >>> Exponential().delta(a, y).tolist() == (-1 / a - y).tolist()
        True

    Two methods may be replaced by forms that are equal on paper and more accurate on a machine: `cross_term`
    (A − a·t) and `residual` (z − t). In the textbook form both cancel for an example that is fitted well.
    """

    @abc.abstractmethod
    def log_normalizer(self, a: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
        """Return A(a), summed over the components of an example."""

    def statistic(self, a: Float[Array, "*batch K"], y: Shaped[ArrayLike, "..."]) -> Float[Array, "*batch K"]:
        """Return t(y) in the shape and dtype of a; here y itself."""
        return paired(a, y)[1]

    def log_base_measure(self, t: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
        """Return ln h(y) as a function of t, summed over the components of an example; here 0."""
        return jnp.zeros(t.shape[:-1], t.dtype)

    @property
    def dispersion(self) -> ArrayLike:
        """φ, here 1."""
        return 1.0

    def cross_term(self, a: Float[Array, "*batch K"], t: Float[Array, "*batch K"]) -> Float[Array, "*batch"]:
        """Return A(a) − a·t."""
        return self.log_normalizer(a) - jnp.sum(a * t, axis=-1)

    def residual(self, a: Float[Array, "*batch K"], t: Float[Array, "*batch K"]) -> Float[Array, "*batch K"]:
        """Return A'(a) − t = z − t."""
        return self.mean(a) - t

    def nll(
        self, a: Float[Array, "*batch K"], y: Shaped[ArrayLike, "..."], complete: bool = False
    ) -> Float[Array, "*batch"]:
        """Return (A(a) − a·t(y))/φ of each example, less ln h(y) if complete; see `Likelihood.nll`."""
        t = self.statistic(a, y)
        value = self.cross_term(a, t) / jnp.asarray(self.dispersion, a.dtype)
        return value - self.log_base_measure(t) if complete else value

    def delta(self, a: Float[Array, "*batch K"], y: Shaped[ArrayLike, "..."]) -> Float[Array, "*batch K"]:
        """Return δ = (A'(a) − t)/φ = (z − y)/φ (slide "Other error functions")."""
        return self.residual(a, self.statistic(a, y)) / jnp.asarray(self.dispersion, a.dtype)
