"""A trained network as one thing that predicts: transforms, network, likelihood and parameters, of one or of many.

    x → transforms → network → likelihood → target_transform.undo

`ensembles`, `sklearn`, `persistence` and exported programs all predict through it.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jnn.likelihoods import Likelihood, OneHot
from jnn.networks import Network, Params
from jnn.networks.base import leading_axes
from jnn.transforms import Standardize, Transform

Inputs = Num[Array | np.ndarray, "*batch d"]
Outputs = Float[Array | np.ndarray, "*batch K"]


class MismatchError(ValueError):
    """Network, parameters, likelihood and transforms do not fit each other."""


class Moments(NamedTuple):
    """Mean and variance of the target under the mixture of the members."""

    mean: Outputs
    variance: Outputs


SIZES = (1, 32, 1024, 16_384)
"""Numbers of rows that predictions are compiled for. More rows than the last are worked on one part after another, so
that hidden layers stay small."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its parameters, and what stands before and behind it.

    NumPy arrays are standardized in float64 by NumPy, and give NumPy arrays; JAX arrays stay with JAX. Either way the
    network runs as a compiled program, of which there is one for each of a few numbers of rows.
    """

    network: Network
    likelihood: Likelihood
    # Leading axes, the same in all arrays, are members of an ensemble, as `jax.vmap` of `init` or of `fit` stacks them.
    params: Params
    # What raw inputs go through before the network, in this order. A transform may have the ensemble's leading axes,
    # too: then each member has its own.
    transforms: tuple[Transform, ...] = ()
    target_transform: Transform | None = None  # what the targets went through before training
    encoding: OneHot | None = None  # the class labels, if the network classifies
    # Anything else worth keeping, by name: `None`, numbers, strings, arrays, lists, tuples and dictionaries of them,
    # and jnn's own objects. They are saved and come back as they were, types included.
    extra: Mapping[str, Any] = field(default_factory=dict)

    # --- predictions

    def mean(self, x: Inputs) -> Outputs:
        """The prediction E[y | x] of raw inputs, in the units of the raw targets; for classes, their probabilities.

        An ensemble's is the mean over its members, 1/M Σ_m E[y | x; w_m]. Raises ValueError if `x`, one example `(d,)`
        or any batch of them, has not as many columns as the inputs.
        """
        return self._predicted(_mean, x, lambda undo, mean: undo(mean))

    def moments(self, x: Inputs) -> Moments:
        """Mean and variance of the mixture: the mean variance within members, plus the variance of their means.

            E[y] = 1/M Σ_m μ_m,   Var[y] = 1/M Σ_m σ_m² + 1/M Σ_m (μ_m − E[y])²

        Raises:
            ValueError: as `mean`; and if the targets' transform is no standardization.

        Source: Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive uncertainty estimation using deep
        ensembles", NeurIPS 2017, section 2.4.
        """
        target = self.target_transform
        if target is not None and not isinstance(target, Standardize):
            raise ValueError(f"expected targets that were standardized or not transformed, got {target}")
        scale = 1.0 if target is None else np.square(target.scale)
        return self._predicted(_moments, x, lambda undo, both: Moments(undo(both.mean), both.variance * scale))

    def member_means(self, x: Inputs) -> Float[Array | np.ndarray, "members *batch K"]:
        """E[y | x; w_m] of every member."""
        return self._predicted(_member_means, x, lambda undo, mean: undo(mean), first=1)

    def _predicted(self, compute: Any, x: Any, finish: Callable[..., Any], first: int = 0) -> Any:
        """`compute` on what the transforms make of `x`, and what `finish` makes of that; rows stand on axis `first`."""
        if not isinstance(x, jax.Array):
            x = np.asarray(x)
        if x.ndim == 0 or x.shape[-1] != self.inputs:
            raise ValueError(f"expected x of shape (..., {self.inputs}), one column for each input; got {x.shape}")
        undo = (lambda y: y) if self.target_transform is None else self.target_transform.undo
        around = (*self.transforms, self.target_transform)
        if any(len(transform.shape) > 1 for transform in around if transform is not None):
            return self._each_its_own(compute, x, finish)
        z = x.reshape(-1, x.shape[-1])
        for transform in self.transforms:
            z = transform.apply(z)
        batch = x.shape[:-1]
        if isinstance(x, jax.Array):
            z = z if jnp.issubdtype(z.dtype, jnp.floating) else z.astype(self._dtype)
            inside = isinstance(z, jax.core.Tracer)  # of a program that is compiled as a whole
            compute = compute.__wrapped__ if inside else compute
            found = compute(self.network, self.likelihood, self._members_first, z)
        else:
            with np.errstate(over="ignore"):
                found = self._by_parts(compute, np.asarray(z, self._dtype), first)
            wide = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else np.float64
            found = jax.tree.map(lambda y: y.astype(wide), found)
        found = finish(undo, found)
        return jax.tree.map(lambda y: y.reshape(*y.shape[:first], *batch, y.shape[-1]), found)

    def _by_parts(self, compute: Callable[..., Any], z: np.ndarray, first: int) -> Any:
        """Rows of zeros fill up a part that is smaller than one of the sizes."""
        parts = []
        for start in range(0, max(len(z), 1), SIZES[-1]):
            part = z[start : start + SIZES[-1]]
            missing = next(size for size in SIZES if len(part) <= size) - len(part)
            filled = np.pad(part, ((0, missing), (0, 0))) if missing else part
            found = compute(self.network, self.likelihood, self._members_first, filled)
            rows = (slice(None),) * first + (slice(len(part)),)
            parts.append(jax.tree.map(lambda y, rows=rows: np.asarray(y)[rows], found))
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *ys: np.concatenate(ys, axis=first), *parts)

    def _each_its_own(self, compute: Callable[..., Any], x: Any, finish: Callable[..., Any]) -> Any:
        """For transforms that have the members' axes: one model a member, and the mean over them."""
        if compute is not _mean:
            raise ValueError("expected transforms that all members share; those of one member each have a mean only")

        def one(params: Params, transforms: Any, target: Any) -> Any:
            model = Model(self.network, self.likelihood, params, transforms, target)
            return model.mean(jnp.asarray(x))

        count = len(self.members)
        around = (*self.transforms, self.target_transform)
        axes = [None if t is None or len(t.shape) == 1 else 0 for t in around]
        *own, target = (
            t if axis is None else _flattened(jax.tree.map(jnp.asarray, t), count)
            for t, axis in zip(around, axes, strict=True)
        )
        each = jax.vmap(one, in_axes=(0, tuple(axes[:-1]), axes[-1]))
        return each(self._members_first, tuple(own), target).mean(axis=0)

    @functools.cached_property
    def _members_first(self) -> Params:
        """The parameters on the device, with one axis over the members."""
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self.params))
        # Else, inside of another program, what is cached would be a part of that.
        with contextlib.nullcontext() if traced else jax.ensure_compile_time_eval():
            return _flattened(jax.tree.map(jnp.asarray, self.params), len(self.members))

    @property
    def _dtype(self) -> Any:
        return jax.tree.leaves(self.params)[0].dtype

    # --- what fits what

    @functools.cached_property
    def members(self) -> tuple[int, ...]:
        """The ensemble's axes: () for one network, (M,) for M of them; MismatchError if the parameters do not fit."""
        try:
            return leading_axes(self.network, self.params)
        except (ValueError, TypeError) as error:
            raise MismatchError(str(error)) from None

    @property
    def inputs(self) -> int:
        """The number of columns that raw inputs have."""
        return self.transforms[0].shape[-1] if self.transforms else self.network.inputs

    @property
    def input_dtype(self) -> Any:
        """The parameters' own dtype.

        Or float64 where a column's mean is so large beside its spread that float32 would not tell its values apart to a
        thousandth of a standard deviation.
        """
        for transform in self.transforms[:1]:
            if isinstance(transform, Standardize):
                ratio = np.max(np.abs(np.asarray(transform.mean)) / np.asarray(transform.scale))
                if ratio * np.finfo(np.float32).eps > 1e-3:
                    return np.dtype(np.float64)
        return np.dtype(self._dtype)

    def check(self) -> None:
        """Raise MismatchError unless all parts fit each other (shapes and types; nothing is computed)."""
        each = self.transforms if isinstance(self.transforms, tuple) else ()
        for name, value, kind in [
            ("network", self.network, Network),
            ("likelihood", self.likelihood, Likelihood),
            ("target_transform", self.target_transform, Transform | None),
            ("encoding", self.encoding, OneHot | None),
            ("extra", self.extra, Mapping),
            ("transforms", self.transforms, tuple),
            *((f"transforms[{n}]", transform, Transform) for n, transform in enumerate(each)),
        ]:
            if not isinstance(value, kind):
                got = type(value).__name__ + (f" of dtype {value.dtype}" if hasattr(value, "dtype") else "")
                raise MismatchError(f"expected {name} as {getattr(kind, '__name__', kind)}, got {got}")
        columns = self.inputs
        for n, transform in enumerate(self.transforms):
            columns = self._columns(f"transforms[{n}]", transform, columns, lambda t, x: t.apply(x))
        if columns != self.network.inputs:
            raise MismatchError(
                f"expected transforms that give the network's {self.network.inputs} inputs, got {columns} columns"
            )
        try:
            mean = jax.eval_shape(self.likelihood.mean, _row(self.network.outputs))
        except (ValueError, TypeError) as error:
            raise MismatchError(f"the likelihood does not fit {self.network.outputs} outputs: {error}") from None
        if self.target_transform is not None:
            self._columns("target_transform", self.target_transform, mean.shape[-1], lambda t, z: t.undo(z))
        _ = self.members

    def _columns(self, name: str, transform: Transform, columns: int, apply: Callable[..., Array]) -> int:
        """How many columns a transform makes of so many."""
        lead = transform.shape[:-1]
        if lead not in ((), self.members):
            raise MismatchError(
                f"expected {name} of one network, or of the ensemble {self.members}; its arrays have {lead} before "
                "the columns"
            )
        leaves, structure = jax.tree.flatten(transform)
        own = [jax.ShapeDtypeStruct(leaf.shape[len(lead) :], jnp.float32) for leaf in leaves]
        try:
            result = jax.eval_shape(lambda leaves, x: apply(structure.unflatten(leaves), x), own, _row(columns))
        except (ValueError, TypeError) as error:
            raise MismatchError(f"{name} does not fit {columns} columns: {error}") from None
        return result.shape[-1]


# --- compiled: parameters with a first axis over the members, inputs as rows. Members one after another, since what all
# of them compute at once may not fit into memory.


@jax.jit(static_argnames=("network", "likelihood"))
def _mean(network: Network, likelihood: Likelihood, params: Params, z: Any) -> Array:
    first = jax.eval_shape(lambda p: likelihood.mean(network.apply(p, z)), jax.tree.map(lambda leaf: leaf[0], params))
    members = jax.tree.leaves(params)[0].shape[0]

    def add(total: Array, member: Params) -> tuple[Array, None]:
        return total + likelihood.mean(network.apply(member, z)), None

    return jax.lax.scan(add, jnp.zeros(first.shape, first.dtype), params)[0] / members


@jax.jit(static_argnames=("network", "likelihood"))
def _moments(network: Network, likelihood: Likelihood, params: Params, z: Any) -> Moments:
    mean = _mean(network, likelihood, params, z)
    members = jax.tree.leaves(params)[0].shape[0]

    def add(total: Array, member: Params) -> tuple[Array, None]:
        a = network.apply(member, z)
        return total + likelihood.variance(a) + (likelihood.mean(a) - mean) ** 2, None

    return Moments(mean, jax.lax.scan(add, jnp.zeros_like(mean), params)[0] / members)


@jax.jit(static_argnames=("network", "likelihood"))
def _member_means(network: Network, likelihood: Likelihood, params: Params, z: Any) -> Array:
    return jax.lax.map(lambda member: likelihood.mean(network.apply(member, z)), params)


def _row(columns: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, columns), jnp.float32)


def _flattened(tree: Any, axes: int) -> Any:
    """The tree with the first axes of each array made one."""
    return jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *leaf.shape[axes:])), tree)
