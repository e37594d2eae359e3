"""The lecture's general output rule, for output maps and errors that are not a canonical pair.

For an error E(z, y) of outputs z = σ(a), the chain rule gives

    δ_i = Σ_j ∂z_j/∂a_i ∂E/∂z_j,        and for elementwise σ    δ_i = σ'(a_i) ∂E/∂z_i

(slide "Backpropagation III"). An output map has the product of its transposed Jacobian with a vector. An error E here
is a `Likelihood` given z in the place of a: its `delta` is ∂E/∂z. Second derivatives follow by the product rule.
"""

import abc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Key, Shaped

from jnn import activations
from jnn.activations import Activation
from jnn.likelihoods.base import Components, Likelihood, Outputs, PerExample, Targets
from jnn.likelihoods.gaussian import Gaussian


class OutputMap(abc.ABC):
    """An output map z = σ(a) with its hand-written derivative; subclasses are frozen dataclasses."""

    @property
    def linear(self) -> bool:
        """Whether σ(a) = a."""
        return False

    @abc.abstractmethod
    def __call__(self, a: Outputs) -> Outputs:
        """Return z = σ(a)."""

    @abc.abstractmethod
    def vjp(self, a: Outputs, g: Outputs) -> Outputs:
        """Return (∂z/∂a)ᵀ g: the gradient with respect to a, given that with respect to z."""

    def jvp(self, a: Outputs, v: Outputs) -> Outputs:
        """Return (∂z/∂a) v: how z moves when a moves by v."""
        raise NotImplementedError(f"second derivatives need {type(self).__name__}.jvp, which it does not define")

    def moved_vjp(self, a: Outputs, g: Outputs, v: Outputs) -> Outputs:
        """Return how (∂z/∂a)ᵀ g moves when a moves by v and g stays."""
        raise NotImplementedError(f"second derivatives need {type(self).__name__}.moved_vjp, which it does not define")


@dataclass(frozen=True)
class Elementwise(OutputMap):
    """z_i = σ(a_i) for an activation function σ, with (∂z/∂a)ᵀ g = σ'(a) ⊙ g."""

    activation: Activation

    @property
    def linear(self) -> bool:
        """Whether σ(a) = a."""
        return self.activation == activations.identity

    def __call__(self, a: Outputs) -> Outputs:
        """Return σ(a)."""
        return self.activation.h(a)

    def vjp(self, a: Outputs, g: Outputs) -> Outputs:
        """Return σ'(a) ⊙ g."""
        return self.activation.derivative(a) * g

    def jvp(self, a: Outputs, v: Outputs) -> Outputs:
        """Return σ'(a) ⊙ v."""
        return self.activation.derivative(a) * v

    def moved_vjp(self, a: Outputs, g: Outputs, v: Outputs) -> Outputs:
        """Return σ''(a) ⊙ v ⊙ g."""
        return self.activation.second_derivative(a) * v * g


@dataclass(frozen=True)
class Softmax(OutputMap):
    """z_j = exp(a_j) / Σ_k exp(a_k). Since ∂z_j/∂a_i = z_j (𝟙{i = j} − z_i), (∂z/∂a)ᵀ g = z ⊙ (g − ⟨g, z⟩)."""

    def __call__(self, a: Outputs) -> Outputs:
        """Return the softmax of each row."""
        return jax.nn.softmax(a, axis=-1)

    def vjp(self, a: Outputs, g: Outputs) -> Outputs:
        """Return z ⊙ (g − ⟨g, z⟩)."""
        z = self(a)
        return z * (g - jnp.sum(g * z, axis=-1, keepdims=True))

    def jvp(self, a: Outputs, v: Outputs) -> Outputs:
        """Return z ⊙ (v − ⟨v, z⟩): the Jacobian is symmetric."""
        return self.vjp(a, v)

    def moved_vjp(self, a: Outputs, g: Outputs, v: Outputs) -> Outputs:
        """Return u ⊙ (g − ⟨g, z⟩) − z ⟨g, u⟩, where u = z ⊙ (v − ⟨v, z⟩) is how z moves."""
        z, u = self(a), self.vjp(a, v)
        return u * (g - jnp.sum(g * z, axis=-1, keepdims=True)) - z * jnp.sum(g * u, axis=-1, keepdims=True)


@dataclass(frozen=True, init=False)
class GeneralRule(Likelihood):
    """An error E(z, y) of the outputs z = σ(a), with δ_i = σ'(a_i) ∂E/∂z_i, or with the full Jacobian of σ.

    Args:
        output: σ, as "softmax", an activation (or its name), or an `OutputMap` of your own; an unknown name is a
            ValueError.
        error: E, as a `Likelihood` whose argument `a` is z: `nll` is E and `delta` is ∂E/∂z, written by hand.
    """

    output: OutputMap
    error: Likelihood

    def __init__(self, output: str | Activation | OutputMap, error: Likelihood) -> None:
        if not isinstance(output, OutputMap):
            output = Softmax() if output == "softmax" else Elementwise(activations.get(output))
        object.__setattr__(self, "output", output)
        object.__setattr__(self, "error", error)

    def nll(self, a: Outputs, y: Targets, complete: bool = False) -> PerExample:
        """Return the error E(σ(a), y) of each example; see `Likelihood.nll`."""
        return self.error.nll(self.output(a), y, complete)

    def delta(self, a: Outputs, y: Targets) -> Outputs:
        """Return δ = (∂z/∂a)ᵀ ∂E/∂z; elementwise, δ_i = σ'(a_i) ∂E/∂z_i (slide "Backpropagation III")."""
        return self.output.vjp(a, self.error.delta(self.output(a), y))

    def hessian_product(self, a: Outputs, y: Targets, v: Outputs) -> Outputs:
        """Return how δ moves with a, through ∂E/∂z and through ∂z/∂a; elementwise, σ'² E'' v + σ'' E' v."""
        z = self.output(a)
        moved = self.error.hessian_product(z, y, self.output.jvp(a, v))
        return self.output.vjp(a, moved) + self.output.moved_vjp(a, self.error.delta(z, y), v)

    def fisher_product(self, a: Outputs, v: Outputs) -> Outputs:
        """Return Λ v = (∂z/∂a)ᵀ Λ_z (∂z/∂a) v; with squared error σ'² v / s²."""
        return self.output.vjp(a, self.error.fisher_product(self.output(a), self.output.jvp(a, v)))

    def fisher_root(self, a: Outputs) -> Float[Array, "*batch P R"]:
        """Return (∂z/∂a)ᵀ S_z."""
        columns = jnp.moveaxis(self.error.fisher_root(self.output(a)), -1, 0)
        return jnp.moveaxis(jax.vmap(lambda column: self.output.vjp(a, column))(columns), 0, -1)

    def mean(self, a: Outputs) -> Components:
        """Return the mean given z = σ(a)."""
        return self.error.mean(self.output(a))

    def variance(self, a: Outputs) -> Components:
        """Return the variance given z = σ(a)."""
        return self.error.variance(self.output(a))

    def sample(self, key: Key[Array, ""], a: Outputs) -> Shaped[Array, "..."]:
        """Draw targets given z = σ(a)."""
        return self.error.sample(key, self.output(a))

    def pre_activations(self, targets: int) -> int:
        """Return P as the error given z needs it."""
        return self.error.pre_activations(targets)

    def target_components(self, pre_activations: int) -> int:
        """Return K as the error given z has it."""
        return self.error.target_components(pre_activations)

    def linear_outputs(self, pre_activations: int) -> tuple[bool, ...]:
        """Linear are the outputs that the error calls linear, if the output map is the identity."""
        return tuple(linear and self.output.linear for linear in self.error.linear_outputs(pre_activations))

    def check_values(self, y: np.ndarray, name: str) -> None:
        """Raise ValueError if a target is not in the support of the error's density."""
        self.error.check_values(y, name)


@dataclass(frozen=True, init=False)
class SquaredError(GeneralRule):
    """The squared error of outputs that need not be linear: Gaussian noise with standard deviation s about z = σ(a).

        −ln p(y | a) = ‖y − σ(a)‖² / (2s²) + K ln(s√2π)        δ_i = σ'(a_i) (z_i − y_i) / s²

    and, with softmax outputs, δ = z ⊙ (g − ⟨g, z⟩) with g = (z − y)/s². The second term is dropped unless `complete`.
    Unlike with the cross-entropy, δ vanishes where outputs saturate, also at the wrong end. Targets are rows
    `(..., K)`, of classes one-hot. (Slide "Backpropagation III".)

    Args:
        output: as for `GeneralRule`.
        s: the noise's standard deviation, as in `Gaussian`.
    """

    def __init__(self, output: str | Activation | OutputMap = "logistic", s: ArrayLike = 1.0) -> None:
        super().__init__(output, Gaussian(s))
