r"""A Gaussian posterior of a network's weights, and what it says about predictions.

    p(w | S) ≈ N(w*, Σ),   Σ = σ² (G + γ)⁻¹,   Var[a(x)] = J Σ Jᵀ

with G the Gauss-Newton matrix of the error E (a sum over examples), γ the weight decay, J the derivatives of the
outputs a by the weights at x, and σ² the noise's variance in units of the likelihood's own: 1, unless the likelihood is
Gaussian and its s, as in the sum of squares, not meant to be the noise. The prior is N(0, σ²/γ).

G is kept by eigenvectors and eigenvalues λ_i, so that

    γ_eff = Σ_i λ_i / (λ_i + γ),   ln det(Σ) = −Σ_i ln((λ_i + γ)/σ²)

A `Basis` is one form of G: full, of the last layer, diagonal, or a product of Kronecker's for each layer. Where there
are fewer examples than weights, the full one has only as many eigenvectors as there are examples; G is 0 elsewhere.

Source: MacKay, "A practical Bayesian framework for backpropagation networks", Neural Computation 4, 1992; Daxberger et
al., "Laplace redux", NeurIPS 2021.
"""

import abc
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from jnn import curvature
from jnn.likelihoods import Categorical, Gaussian, GeneralRule, HeteroscedasticGaussian, Likelihood, Softmax
from jnn.networks import Network, Params


class Basis(abc.ABC):
    """Eigenvectors of G, in one of its forms, and its eigenvalues λ."""

    @property
    @abc.abstractmethod
    def eigenvalues(self) -> Float[Array | np.ndarray, "R"]:
        """λ_i ≥ 0."""

    @abc.abstractmethod
    def complete(self, weights: int) -> bool:
        """Whether the eigenvectors span all weights that are uncertain."""

    @abc.abstractmethod
    def coordinates(self, flat: Float[Array | np.ndarray, "*rows P"]) -> Float[Array | np.ndarray, "*rows R"]:
        """Vᵀ v of vectors in the order of the weights."""

    @abc.abstractmethod
    def vector(self, coordinates: Float[Array | np.ndarray, "R"], weights: int) -> Float[Array, "P"]:
        """V c, in the order of the weights."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Full(Basis):
    """Any eigenvectors, of the weights from number `start` on (the last layer's; 0: of all)."""

    vectors: Any  # (P - start, R)
    values: Any  # (R,)
    start: int = field(default=0, metadata={"static": True})

    @property
    def eigenvalues(self) -> Float[Array | np.ndarray, "R"]:
        """λ_i."""
        return self.values

    def complete(self, weights: int) -> bool:
        """If there are as many as weights."""
        return self.values.shape[-1] == weights - self.start

    def coordinates(self, flat: Float[Array | np.ndarray, "*rows P"]) -> Float[Array | np.ndarray, "*rows R"]:
        """Vᵀ v."""
        return flat[..., self.start :] @ self.vectors

    def vector(self, coordinates: Float[Array | np.ndarray, "R"], weights: int) -> Float[Array, "P"]:
        """V c; 0 for weights that are certain."""
        return jnp.zeros(weights, coordinates.dtype).at[self.start :].set(self.vectors @ coordinates)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Diagonal(Basis):
    """The weights' own axes."""

    values: Any  # (P,)

    @property
    def eigenvalues(self) -> Float[Array | np.ndarray, "R"]:
        """λ_i."""
        return self.values

    def complete(self, weights: int) -> bool:
        """Always."""
        return True

    def coordinates(self, flat: Float[Array | np.ndarray, "*rows P"]) -> Float[Array | np.ndarray, "*rows R"]:
        """As it is."""
        return flat

    def vector(self, coordinates: Float[Array | np.ndarray, "R"], weights: int) -> Float[Array, "P"]:
        """As it is."""
        return jnp.asarray(coordinates)


class Pair(NamedTuple):
    """Eigenvectors and eigenvalues of the factors A ⊗ B of a layer (`jnn.curvature.Kronecker`)."""

    U: Any  # (fan-in + 1, fan-in + 1)
    a: Any  # (fan-in + 1,)
    V: Any  # (size, size)
    b: Any  # (size,)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Kronecker(Basis):
    """For each layer the eigenvectors U ⊗ V, with the eigenvalues a_i b_j."""

    layers: tuple[Any, ...]

    @property
    def eigenvalues(self) -> Float[Array | np.ndarray, "R"]:
        """a_i b_j of all layers."""
        pairs = [Pair(*layer) for layer in self.layers]
        return jnp.concatenate([(p.a[:, None] * p.b[None, :]).reshape(-1) for p in pairs])

    def complete(self, weights: int) -> bool:
        """Always."""
        return True

    def coordinates(self, flat: Float[Array | np.ndarray, "*rows P"]) -> Float[Array | np.ndarray, "*rows R"]:
        """Uᵀ v V of each layer's weights, its biases as the last row."""
        return self._each(flat, lambda pair, block: jnp.swapaxes(pair.U, 0, 1) @ block @ pair.V)

    def vector(self, coordinates: Float[Array | np.ndarray, "R"], weights: int) -> Float[Array, "P"]:
        """U c Vᵀ of each layer."""
        return self._each(coordinates, lambda pair, block: pair.U @ block @ jnp.swapaxes(pair.V, 0, 1))

    def _each(self, flat: Any, apply: Any) -> Any:
        # A layer's weights come row by row of W, then its biases: the rows of one matrix, the last for the bias unit.
        found, place = [], 0
        for layer in self.layers:
            pair = Pair(*layer)
            shape = len(pair.a), len(pair.b)
            block = flat[..., place : place + shape[0] * shape[1]].reshape(*flat.shape[:-1], *shape)
            found.append(apply(pair, block).reshape(*flat.shape[:-1], -1))
            place += shape[0] * shape[1]
        return jnp.concatenate(found, axis=-1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Posterior:
    """N(w*, σ² (G + γ)⁻¹) of one network, or with a first axis over them in every array, of each of an ensemble.

    Made by `jnn.laplace`; a part of a `Model`, which predicts with it.
    """

    basis: Any
    weight_decay: Any  # γ
    noise: Any = 1.0  # σ², in units of the likelihood's own variance
    log_evidence: Any = math.nan  # ln p(S), if it is known

    @property
    def effective_weights(self) -> Float[Array, "*members"]:
        """γ_eff = Σ_i λ_i / (λ_i + γ): how many of the weights the examples determine."""
        if jnp.ndim(self.weight_decay):
            return jax.vmap(lambda one: one.effective_weights)(self)
        values = self.basis.eigenvalues
        return jnp.sum(values / (values + self.weight_decay))

    def covariance(self, flat: Float[Array | np.ndarray, "rows P"]) -> Float[Array | np.ndarray, "rows rows"]:
        """J Σ Jᵀ for the rows of J."""
        c, values, gamma = self.basis.coordinates(flat), self.basis.eigenvalues, self.weight_decay
        if self.basis.complete(flat.shape[-1]):
            c = c / jnp.sqrt(values + gamma)[None, :]
            return self.noise * c @ c.T
        less = c * jnp.sqrt(values / (values + gamma))[None, :]
        return self.noise / gamma * (flat @ flat.T - less @ less.T)

    def variances(self, flat: Float[Array | np.ndarray, "rows P"]) -> Float[Array | np.ndarray, "rows"]:
        """The diagonal of J Σ Jᵀ."""
        c, values, gamma = self.basis.coordinates(flat), self.basis.eigenvalues, self.weight_decay
        if self.basis.complete(flat.shape[-1]):
            return self.noise * (jnp.square(c) @ (1 / (values + gamma)))
        certain = jnp.square(c) @ (values / (values + gamma))
        return self.noise / gamma * jnp.maximum(jnp.sum(jnp.square(flat), axis=-1) - certain, 0)

    def sample(self, key: Key[Array, ""], params: Params) -> Params:
        """Draw the weights of a network, w ~ N(w*, Σ), w* being `params`."""
        flat, unravel = ravel_pytree(params)
        values, gamma = self.basis.eigenvalues, self.weight_decay
        if self.basis.complete(len(flat)):
            unit = jax.random.normal(key, values.shape, flat.dtype)
            moved = self.basis.vector(unit / jnp.sqrt(values + gamma), len(flat))
        else:
            unit = jax.random.normal(key, flat.shape, flat.dtype)
            shrunk = (1 - jnp.sqrt(gamma / (values + gamma))) * self.basis.coordinates(unit)
            moved = (unit - self.basis.vector(shrunk, len(flat))) / jnp.sqrt(gamma)
        return unravel((flat + jnp.sqrt(self.noise) * moved).astype(flat.dtype))


def moves_means(likelihood: Likelihood) -> bool:
    """Whether the mean of y depends on how uncertain the outputs are: unless it is an output itself."""
    return not isinstance(likelihood, (Gaussian, HeteroscedasticGaussian))


def predictive(
    network: Network, likelihood: Likelihood, posterior: Posterior, params: Params, z: Float[Array, "d"]
) -> tuple[Float[Array, "K"], Float[Array, "K"]]:
    """Mean and variance of y at one input, the network linear in its weights about w*: a ~ N(a*, J Σ Jᵀ).

    What the likelihood makes of a is averaged over each output's own distribution, by Gauss and Hermite's rule; of
    classes, whose probabilities depend on all outputs, by MacKay's softmax(a / √(1 + π/8 Var[a])).
    """
    a = network.apply(params, z)
    j = jnp.concatenate(
        [leaf.reshape(len(a), -1) for leaf in jax.tree.leaves(curvature.jacobian(network, params, z))], axis=1
    )
    spread = posterior.variances(j)
    if isinstance(likelihood, Categorical) or (
        isinstance(likelihood, GeneralRule) and isinstance(likelihood.output, Softmax)
    ):
        a = a / jnp.sqrt(1 + math.pi / 8 * spread)
        return likelihood.mean(a), likelihood.variance(a)
    nodes, share = (np.asarray(v, a.dtype) for v in np.polynomial.hermite_e.hermegauss(24))
    share = share / share.sum()
    draws = a[None, :] + nodes[:, None] * jnp.sqrt(spread)[None, :]
    means = likelihood.mean(draws)
    mean = share @ means
    within = posterior.noise * (share @ likelihood.variance(draws))
    return mean, within + share @ jnp.square(means - mean[None, :])
