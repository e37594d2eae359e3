"""The canonical exponential families: one equation behind three of the lecture's error functions.

If the natural parameter of an exponential family is the network's output pre-activation itself,

    −ln p(y | a) = (A(a) − a·t(y)) / φ − ln h(y),

with log-normalizer A, statistic t, base measure h and dispersion φ. Since A'(a) = E[t | a] = z is the output map σ(a),

    δ = ∂(−ln p)/∂a = (A'(a) − t) / φ = (z − t) / φ.

So sum of squares with linear outputs and cross-entropy with logistic or softmax outputs all start backpropagation with
δ = z − y (slides "Backpropagation III" and "Other error functions").
"""

import abc

import jax.numpy as jnp
from jaxtyping import ArrayLike

from jnn.likelihoods.base import Components, Likelihood, PerExample, Targets, paired


class Canonical(Likelihood):
    """The equations above. A family of your own defines `log_normalizer` (A), `mean` (A'), and, where they are not
    trivial, `statistic` (t), `log_base_measure` (ln h), `dispersion` (φ):

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

    `cross_term` (A − a·t) and `residual` (z − t) cancel for an example that is fitted well; a family may replace them
    by forms that do not.
    """

    @abc.abstractmethod
    def log_normalizer(self, a: Components) -> PerExample:
        """Return A(a), summed over the components of an example."""

    def statistic(self, a: Components, y: Targets) -> Components:
        """Return t(y) in the shape and dtype of a; here y itself."""
        return paired(a, y)[1]

    def log_base_measure(self, t: Components) -> PerExample:
        """Return ln h(y) as a function of t, summed over the components of an example; here 0."""
        return jnp.zeros(t.shape[:-1], t.dtype)

    @property
    def dispersion(self) -> ArrayLike:
        """φ, here 1."""
        return 1.0

    def cross_term(self, a: Components, t: Components) -> PerExample:
        """Return A(a) − a·t."""
        return self.log_normalizer(a) - jnp.sum(a * t, axis=-1)

    def residual(self, a: Components, t: Components) -> Components:
        """Return A'(a) − t = z − t."""
        return self.mean(a) - t

    def nll(self, a: Components, y: Targets, complete: bool = False) -> PerExample:
        """Return (A(a) − a·t(y))/φ of each example, less ln h(y) if complete; see `Likelihood.nll`."""
        t = self.statistic(a, y)
        value = self.cross_term(a, t) / jnp.asarray(self.dispersion, a.dtype)
        return value - self.log_base_measure(t) if complete else value

    def delta(self, a: Components, y: Targets) -> Components:
        """Return δ = (A'(a) − t)/φ = (z − y)/φ (slide "Other error functions")."""
        return self.residual(a, self.statistic(a, y)) / jnp.asarray(self.dispersion, a.dtype)
