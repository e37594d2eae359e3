"""What a likelihood is: the part of the model behind the pre-activations of the output neurons.

From the density p(y | a) of the target y everything else follows: the error of an example E = −ln p(y | a), its
derivative δ = ∂E/∂a with which backpropagation starts, its second derivatives ∂δ/∂a, whose expectation is the Fisher
information Λ = E[δδᵀ | a], the prediction E[y | a], and samples.

Rows: `a` is `(..., P)`, targets are `(..., K)`, and errors are `(...)`, one number per example (the objective sums and
weights them). P = K unless a class says otherwise. Results have the dtype of `a`.
"""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Float, Key, Shaped

from jnn.checks import floats, one_key, real_array
from jnn.likelihoods.targets import as_targets, check_shape, converted

Outputs = Float[Array, "*batch P"]
Components = Float[Array, "*batch K"]
PerExample = Float[Array, "*batch"]
Targets = Shaped[ArrayLike, "..."]


class Likelihood(abc.ABC):
    """A density p(y | a) of the target y given the output neurons' pre-activations a.

    Subclasses are frozen dataclasses: hashable, and equal if their fields are, so that they can be static arguments of
    `jax.jit`. A subclass must define `nll`, `delta` and `mean`; it should define `sample` and `variance`, and, for what
    needs second derivatives (`jnn.curvature`), `hessian_product`, `fisher_product` and `fisher_root`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Every method of a subclass is given arrays, whatever its user passes."""
        super().__init_subclass__(**options)
        for name in ("nll", "delta", "mean", "variance", "decide"):
            if name in vars(cls):
                setattr(cls, name, _of_arrays(vars(cls)[name]))
        if "sample" in vars(cls):
            cls.sample = _of_key_and_arrays(cls.sample)

    @abc.abstractmethod
    def nll(self, a: Outputs, y: Targets, complete: bool = False) -> PerExample:
        """Return the error of each example, its negative log-likelihood −ln p(y | a).

        Raises ValueError if the shapes do not fit. (Values are not checked here: see `check_targets`.)

        Args:
            a: pre-activations, `(..., P)`.
            y: targets, `(..., K)`; integers and booleans are converted to the dtype of `a`.
            complete: whether to keep the terms in which no `a` occurs, and which do not matter for learning.
        """

    @abc.abstractmethod
    def delta(self, a: Outputs, y: Targets) -> Outputs:
        """Return δ = ∂(−ln p(y | a))/∂a, derived by hand; arguments and errors as for `nll`."""

    @abc.abstractmethod
    def mean(self, a: Outputs) -> Components:
        """Return the prediction E[y | a]; for classes, their probabilities."""

    def log_probabilities(self, a: Outputs) -> Float[Array, "*batch C"]:
        """Return the logarithms of the classes' probabilities, from `a`; here ln E[y | a], for what has no better form.

        Those of K labels that do not exclude each other are 2K: of 0 for each label, then of 1.
        """
        return jnp.log(self.mean(a))

    def hessian_product(self, a: Outputs, y: Targets, v: Outputs) -> Outputs:
        """Return (∂δ/∂a) v, what becomes of δ when a moves by v; arguments and errors as for `nll`."""
        raise NotImplementedError(self._lacks("hessian_product"))

    def fisher_product(self, a: Outputs, v: Outputs) -> Outputs:
        """Return Λ v, with the Fisher information Λ = E[δδᵀ | a] = E[∂δ/∂a | a]: never indefinite, and free of y."""
        raise NotImplementedError(self._lacks("fisher_product"))

    def fisher_root(self, a: Outputs) -> Float[Array, "*batch P R"]:
        """Return a root S of Λ = S Sᵀ, with R ≤ P columns."""
        raise NotImplementedError(self._lacks("fisher_root"))

    def variance(self, a: Outputs) -> Components:
        """Return the variance of each component of y given a."""
        raise NotImplementedError(self._lacks("variance"))

    def sample(self, key: Key[Array, ""], a: Outputs) -> Shaped[Array, "..."]:
        """Draw one target per example from p(y | a), in a form that `nll` accepts."""
        raise NotImplementedError(self._lacks("sample"))

    def _lacks(self, name: str) -> str:
        return f"{type(self).__name__} does not define {name}, which this needs; see jnn.likelihoods.Likelihood.{name}"

    def pre_activations(self, targets: int) -> int:
        """Return P, the number of output neurons needed for K target components (for classes, K is their number)."""
        return targets

    def target_components(self, pre_activations: int) -> int:
        """Return K, the number of target components that P output neurons describe."""
        return pre_activations

    def linear_outputs(self, pre_activations: int) -> tuple[bool, ...]:
        """Say of each output neuron whether it is linear, σ(a) = a; weight decay spares the weights of those."""
        return (False,) * pre_activations

    def check_targets(self, y: ArrayLike | Sequence, pre_activations: int) -> Array:
        """Check targets `(..., K)` on the host, before training, and return them in JAX's precision.

        Raises ValueError if there are no targets, or their shape or a value does not fit P = `pre_activations` outputs,
        and TypeError if they are not numbers. Of a traced value (inside `jax.jit` or `jax.vmap`) only shape and dtype
        can be checked.
        """
        name = f"{type(self).__name__} targets"
        y = as_targets(y, name)
        check_shape(y, self.target_components(pre_activations), name)
        if isinstance(y, np.ndarray):  # else a tracer
            self.check_values(y, name)
        return converted(y, name)

    def check_values(self, y: np.ndarray, name: str) -> None:  # noqa: B027  (any finite number may be a support)
        """Raise ValueError if a target lies outside the support (part of `check_targets`; here any number will do)."""


def _pre_activations(a: Any) -> Array:
    a = floats(a, "pre-activations")
    if a.ndim == 0 or a.shape[-1] == 0:
        raise ValueError(f"expected pre-activations of shape (..., P), a row for each example; got {a.shape}")
    return a


def _of_arrays(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, a: Any, *y: Any, **named: Any) -> Any:
        if "y" in named:
            y = (named.pop("y"),)
        return method(self, _pre_activations(a), *(real_array(y[0], "targets"), *y[1:]) if y else (), **named)

    return call


def _of_key_and_arrays(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, key: Any, a: Any) -> Any:
        return method(self, one_key(key), _pre_activations(a))

    return call


def paired(a: Array, y: ArrayLike, components: int | None = None) -> tuple[Array, Array]:
    """Return `a` and the targets in its dtype, or raise ValueError unless y has shape `(*batch, components)`.

    Shapes must match exactly: broadcasting `(n,)` against `(n, 1)` would silently compare each example with all others.
    """
    a = jnp.asarray(a)
    expected = a.shape if components is None else (*a.shape[:-1], components)
    if jnp.shape(y) != expected:
        raise ValueError(
            f"expected targets of shape {expected} for pre-activations of shape {a.shape}, got {jnp.shape(y)}; "
            "reshape the targets so that each row belongs to one example"
        )
    return a, floats(y, "targets").astype(a.dtype)


def diagonal(values: Float[Array, "*batch P"]) -> Float[Array, "*batch P P"]:
    """The diagonal matrices with these values."""
    place = np.eye(values.shape[-1], dtype=bool)
    return jnp.where(place, values[..., :, None], jnp.zeros((), values.dtype))


def at_least_float32(a: Array) -> Array:
    """Return `a`, in float32 if it was narrower: uniform numbers of 8 or 11 bits would make poor samples."""
    return a.astype(np.promote_types(a.dtype, np.float32))
