"""A trained network as one thing that predicts: transforms, network, likelihood and parameters, of one or of many.

    x (→ table) → transforms → network → likelihood → target_transform.undo

`ensembles`, `sklearn`, `persistence` and exported programs all predict through it.
"""

import contextlib
import functools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jnn.checks import one_number, real_array
from jnn.likelihoods import Likelihood, OneHot
from jnn.networks import Network, Params
from jnn.networks.base import leading_axes
from jnn.posterior import Posterior, moves_means, predictive
from jnn.tables import Table, is_table
from jnn.transforms import Standardize, Transform

Inputs = Num[Array | np.ndarray, "*batch d"] | Any
"""An array, or for a model with a table whatever that takes."""
Outputs = Float[Array | np.ndarray, "*batch K"]


class MismatchError(ValueError):
    """Network, parameters, likelihood and transforms do not fit each other."""


class Moments(NamedTuple):
    """Mean and variance of the target under the mixture of the members."""

    mean: Outputs
    variance: Outputs


SIZES = (16, 128, 1024, 16_384)
"""Numbers of rows that predictions are compiled for; of fewer than 16, XLA would sum in another order, and say another
last digit of a row by itself. More rows than the last are worked on one part after another, so that hidden layers stay
small; so are some thousands, which would fill only a small part of the last."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its parameters, and what stands before and behind it.

    NumPy arrays are standardized in float64 by NumPy, and give NumPy arrays; JAX arrays stay with JAX. With a `table`,
    tables of pandas, polars and Arrow go in as well; JAX arrays then are what it makes of them. In every case the
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
    table: Table | None = None  # how tables become the matrices that the transforms take
    # How sure the weights are, of each member if there are several (`jnn.laplace`); None: as if they were certain.
    posterior: Posterior | None = None

    def mean(self, x: Inputs) -> Outputs:
        """The prediction E[y | x] of raw inputs, in the units of the raw targets; for classes, their probabilities.

        An ensemble's is the mean over its members, 1/M Σ_m E[y | x; w_m]. Raises ValueError if `x`, one example `(d,)`
        or any batch of them, has not as many columns as the inputs.
        """
        if self._differ:
            return self._mean_of_each(x)
        if self.posterior is not None and moves_means(self.likelihood):
            return self.moments(x).mean
        return self._undone(self._predicted(_mean, x))

    def moments(self, x: Inputs) -> Moments:
        """Mean and variance of the mixture: the mean variance within members, plus the variance of their means.

            E[y] = 1/M Σ_m μ_m,   Var[y] = 1/M Σ_m σ_m² + 1/M Σ_m (μ_m − E[y])²

        With a posterior, a member's own variance σ_m² contains that of its weights, J Σ Jᵀ, which grows away from the
        data.

        Raises:
            ValueError: as `mean`; and if the targets' transform is no standardization.

        Source: Lakshminarayanan, Pritzel, Blundell, "Simple and scalable predictive uncertainty estimation using deep
        ensembles", NeurIPS 2017, section 2.4.
        """
        scale = self._target_scale()
        if self.posterior is None:
            found = self._predicted(_moments, x)
        else:
            means, variances = self.member_moments(x)
            mean = means.mean(axis=0)
            found = Moments(mean, variances.mean(axis=0) + ((means - mean[None]) ** 2).mean(axis=0))
        return Moments(self._undone(found.mean), found.variance * np.square(scale))

    def interval(self, x: Inputs, coverage: float = 0.95) -> tuple[Outputs, Outputs]:
        """The lower and the upper end of intervals that new targets fall into with the given probability.

        Quantiles of the mixture of the members' normal distributions, for Gaussian noise. Raises ValueError for other
        likelihoods, for a coverage that is not between 0 and 1, and as `moments`.
        """
        if moves_means(self.likelihood):
            raise ValueError(f"expected Gaussian noise, got {self.likelihood}; draw samples instead, or take moments")
        coverage = one_number("coverage", coverage, "between 0 and 1", lambda share: 0 < share < 1)
        self._target_scale()
        found = self.member_moments(x)
        means, variances = (np.asarray(leaf, np.float64) for leaf in found)
        ends = mixture_quantiles(means, np.sqrt(variances), ((1 - coverage) / 2, (1 + coverage) / 2))
        like = found[0].dtype
        lower, upper = (self._undone(end.astype(like)) for end in ends)
        return lower, upper

    def _target_scale(self) -> Any:
        """The scale of standardized targets; ValueError if they went through something else."""
        target = self.target_transform
        if target is not None and not isinstance(target, Standardize):
            raise ValueError(f"expected targets that were standardized or not transformed, got {target}")
        return 1.0 if target is None else target.scale

    def member_moments(self, x: Inputs) -> tuple[Any, Any]:
        """Mean and variance of the target given each member, on the scale that they were trained on."""
        if self.posterior is None:
            return self._predicted(_member_moments, x)
        posteriors = _flattened(self.posterior, len(self.members))
        return self._predicted(_posterior_moments, x, (self._members_first, posteriors))

    def log_probabilities(self, x: Inputs) -> Outputs:
        """ln 1/M Σ_m p_m of the classes' probabilities, from pre-activations: where p rounds to 0 or 1 as well.

        Of K labels that do not exclude each other there are 2K: of 0 for each label, then of 1.
        """
        return self._predicted(_log_probabilities, x)

    def member_means(self, x: Inputs) -> Float[Array | np.ndarray, "members *batch K"]:
        """E[y | x; w_m] of every member."""
        return self._undone(self._predicted(_member_means, x))

    def _predicted(self, compute: Any, x: Any, members: Any = None) -> Any:
        """`compute` on what the transforms make of `x`; what it returns has the rows on its axis −2."""
        if self.table is not None and (is_table(x) or (self.table.has_categories and not isinstance(x, jax.Array))):
            x = self.table.apply(x)
        members = self._members_first if members is None else members
        x = real_array(x, "x")
        if x.ndim == 0 or x.shape[-1] != self.inputs:
            raise ValueError(f"expected x of shape (..., {self.inputs}), one column for each input; got {x.shape}")
        if self._differ:
            raise ValueError("expected transforms that all members share; those of one member each have a mean only")
        z = x.reshape(-1, x.shape[-1])
        for transform in self.transforms:
            z = transform.apply(z)
        if isinstance(x, jax.Array):
            z = z if jnp.issubdtype(z.dtype, jnp.floating) else z.astype(self._dtype)
            inside = isinstance(z, jax.core.Tracer)  # of a program that is compiled as a whole
            compute = compute.__wrapped__ if inside else compute
            parts, wide = [compute(self.network, self.likelihood, members, z)], None
        else:
            with np.errstate(over="ignore"):
                z = np.asarray(z, self._dtype)
            size = SIZES[-1] if len(z) > SIZES[-1] // 4 else SIZES[-2]
            parts = [self._part(compute, z[n : n + size], members) for n in range(0, max(len(z), 1), size)]
            wide = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else np.float64

        def shaped(y: Any, *others: Any) -> Any:
            y = np.concatenate([y, *others], axis=-2) if others else y
            y = y if wide is None else y.astype(wide)
            return y if x.ndim == 2 else y.reshape(*y.shape[:-2], *x.shape[:-1], y.shape[-1])

        return jax.tree.map(shaped, *parts)

    def _part(self, compute: Callable[..., Any], z: np.ndarray, members: Any) -> Any:
        """Rows of zeros fill up a part that is smaller than one of the sizes."""
        missing = next(size for size in SIZES if len(z) <= size) - len(z)
        filled = np.concatenate([z, np.zeros((missing, z.shape[1]), z.dtype)]) if missing else z
        found = compute(self.network, self.likelihood, members, filled)
        return jax.tree.map(lambda y: np.asarray(y)[..., : len(z), :], found)

    def _mean_of_each(self, x: Any) -> Any:
        """For transforms that have the members' axes: one model a member, and the mean over them."""

        def one(params: Params, around: tuple[Any, ...]) -> Any:
            return Model(self.network, self.likelihood, params, around[:-1], around[-1]).mean(jnp.asarray(x))

        around = (*self.transforms, self.target_transform)
        axes = tuple(0 if t is not None and len(t.shape) > 1 else None for t in around)
        own = (_flattened(t, len(self.members)) if axis == 0 else t for t, axis in zip(around, axes, strict=True))
        return jax.vmap(one, in_axes=(0, axes))(self._members_first, tuple(own)).mean(axis=0)

    def _undone(self, y: Any) -> Any:
        return y if self.target_transform is None else self.target_transform.undo(y)

    @functools.cached_property
    def _differ(self) -> bool:
        """Whether a transform has the ensemble's axes, so that each member has its own."""
        return any(len(t.shape) > 1 for t in (*self.transforms, self.target_transform) if t is not None)

    def __str__(self) -> str:
        """What it takes, what it is, and what it says, in lines."""
        columns = [f"{self.inputs} columns"]
        if self.table is not None:
            named = zip(self.table.names or (f"column {n}" for n in range(self.inputs)), self.table.counts, strict=True)
            columns = [f"{name} ({count} categories)" if count else name for name, count in named]
        before = [", ".join(columns), *(type(transform).__name__ for transform in self.transforms)]
        after = [str(self.likelihood)]
        if self.target_transform is not None:
            after.append(f"{type(self.target_transform).__name__} undone")
        several = f"{int(np.prod(self.members))} members of" if self.members else "one network of"
        return "\n".join([" → ".join(before), several, str(self.network), " → ".join(after)])

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without what was computed from them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @functools.cached_property
    def _members_first(self) -> Params:
        """The parameters on the device, with one axis over the members."""
        members = len(self.members)  # before: what finds shapes only would be computed in the context below
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(self.params))
        # Else, inside of another program, what is cached would be a part of that.
        with contextlib.nullcontext() if traced else jax.ensure_compile_time_eval():
            return _flattened(self.params, members)

    @functools.cached_property
    def _dtype(self) -> Any:
        return jax.tree.leaves(self.params)[0].dtype

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
        """The parameters' own dtype; float64 where a column's mean is so large beside its spread that float32 would not
        tell its values apart to a thousandth of a standard deviation.
        """
        for transform in self.transforms:
            if isinstance(transform, Standardize):
                ratio = np.max(np.abs(np.asarray(transform.mean)) / np.asarray(transform.scale))
                if ratio * np.finfo(np.float32).eps > 1e-3:
                    return np.dtype(np.float64)
        return np.dtype(self._dtype)

    def check(self) -> None:
        """Raise MismatchError unless all parts fit each other (shapes and types; nothing is computed)."""
        kinds = {"network": Network, "likelihood": Likelihood, "target_transform": Transform | None}
        kinds |= {"encoding": OneHot | None, "extra": Mapping, "transforms": tuple, "table": Table | None}
        parts = [(name, getattr(self, name), kind) for name, kind in kinds.items()]
        if isinstance(self.transforms, tuple):
            parts += [(f"transforms[{n}]", transform, Transform) for n, transform in enumerate(self.transforms)]
        for name, value, kind in parts:
            if not isinstance(value, kind):
                got = type(value).__name__ + (f" of dtype {value.dtype}" if hasattr(value, "dtype") else "")
                raise MismatchError(f"expected {name} as {getattr(kind, '__name__', kind)}, got {got}")
        columns = self.inputs
        if self.table is not None and len(self.table.categories) != columns:
            raise MismatchError(f"expected a table of {columns} columns, got one of {len(self.table.categories)}")
        for n, transform in enumerate(self.transforms):
            columns = self._columns(f"transforms[{n}]", transform, columns, lambda t, x: t.apply(x))
        if columns != self.network.inputs:
            raise MismatchError(
                f"expected transforms to the network's {self.network.inputs} inputs, got {columns} columns"
            )
        try:
            mean = jax.eval_shape(self.likelihood.mean, _row(self.network.outputs))
        except (ValueError, TypeError) as error:
            raise MismatchError(f"the likelihood does not fit {self.network.outputs} outputs: {error}") from None
        if self.target_transform is not None:
            self._columns("target_transform", self.target_transform, mean.shape[-1], lambda t, z: t.undo(z))
        _ = self.members
        if self.posterior is not None:
            if not isinstance(self.posterior, Posterior):
                raise MismatchError(f"expected posterior as Posterior, got {type(self.posterior).__name__}")
            if np.shape(self.posterior.weight_decay) != self.members:
                raise MismatchError(
                    f"expected a posterior of the members {self.members}, as the parameters; got one of "
                    f"{np.shape(self.posterior.weight_decay)}"
                )

    def _columns(self, name: str, transform: Transform, columns: int, apply: Callable[..., Array]) -> int:
        """How many columns a transform makes of so many."""
        lead = transform.shape[:-1]
        if lead not in ((), self.members):
            raise MismatchError(
                f"expected {name} of one network, or of the ensemble {self.members}; its arrays have {lead} before "
                "the columns"
            )
        leaves, structure = jax.tree.flatten(transform)
        kinds = [bool if leaf.dtype == bool else jnp.float32 for leaf in leaves]
        own = [jax.ShapeDtypeStruct(leaf.shape[len(lead) :], k) for leaf, k in zip(leaves, kinds, strict=True)]
        try:
            result = jax.eval_shape(lambda leaves, x: apply(structure.unflatten(leaves), x), own, _row(columns))
        except (ValueError, TypeError) as error:
            raise MismatchError(f"{name} does not fit {columns} columns: {error}") from None
        return result.shape[-1]


# --- compiled: parameters with a first axis over the members, inputs as rows. Members one after another, since what all
# of them compute at once may not fit into memory.


def _average(network: Network, params: Params, z: Any, of: Callable[[Array], Array]) -> Array:
    """1/M Σ_m of(a_m)."""

    def add(total: Array, member: Params) -> tuple[Array, None]:
        return total + of(network.apply(member, z)), None

    first = jax.eval_shape(lambda p: of(network.apply(p, z)), jax.tree.map(lambda leaf: leaf[0], params))
    members = jax.tree.leaves(params)[0].shape[0]
    return jax.lax.scan(add, jnp.zeros(first.shape, first.dtype), params)[0] / members


@jax.jit(static_argnames=("network", "likelihood"))
def _mean(network: Network, likelihood: Likelihood, params: Params, z: Any) -> Array:
    return _average(network, params, z, likelihood.mean)


@jax.jit(static_argnames=("network", "likelihood"))
def _moments(network: Network, likelihood: Likelihood, params: Params, z: Any) -> Moments:
    mean = _average(network, params, z, likelihood.mean)
    variance = _average(network, params, z, lambda a: likelihood.variance(a) + (likelihood.mean(a) - mean) ** 2)
    return Moments(mean, variance)


@jax.jit(static_argnames=("network", "likelihood"))
def _log_probabilities(network: Network, likelihood: Likelihood, params: Params, z: Any) -> Array:
    each = jax.lax.map(lambda member: likelihood.log_probabilities(network.apply(member, z)), params)
    most = jnp.max(each, axis=0)
    return most + jnp.log1p(jnp.mean(jnp.expm1(each - most[None]), axis=0))


@jax.jit(static_argnames=("network", "likelihood"))
def _member_moments(network: Network, likelihood: Likelihood, params: Params, z: Any) -> tuple[Array, Array]:
    def one(member: Params) -> tuple[Array, Array]:
        a = network.apply(member, z)
        return likelihood.mean(a), likelihood.variance(a)

    return jax.lax.map(one, params)


@jax.jit(static_argnames=("network", "likelihood"))
def _posterior_moments(
    network: Network, likelihood: Likelihood, members: tuple[Params, Posterior], z: Any
) -> tuple[Array, Array]:
    """The members' means and variances, one row after another of a part, since each has its Jacobian."""

    def one(member: tuple[Params, Posterior]) -> tuple[Array, Array]:
        params, posterior = member
        each = functools.partial(predictive, network, likelihood, posterior, params)
        return jax.lax.map(each, jnp.asarray(z), batch_size=min(256, len(z)))

    return jax.lax.map(one, members)


def mixture_quantiles(
    means: np.ndarray, deviations: np.ndarray, probabilities: tuple[float, ...]
) -> tuple[np.ndarray, ...]:
    """Quantiles of equal mixtures, over the first axis, of normal distributions; by bisection, to float64."""
    normal = statistics.NormalDist()
    cdf = np.vectorize(math.erfc, otypes=[float])
    found = []
    for p in probabilities:
        z = normal.inv_cdf(p)
        each = means + z * deviations
        low, high = each.min(axis=0), each.max(axis=0)  # the mixture's quantile lies between its members'
        for _ in range(60 if len(means) > 1 else 0):
            middle = 0.5 * (low + high)
            below = 0.5 * cdf(-(middle - means) / (deviations * math.sqrt(2))).mean(axis=0)
            low, high = np.where(below < p, middle, low), np.where(below < p, high, middle)
        found.append(0.5 * (low + high))
    return tuple(found)


@jax.jit(static_argnames=("network", "likelihood"))
def _member_means(network: Network, likelihood: Likelihood, params: Params, z: Any) -> Array:
    return jax.lax.map(lambda member: likelihood.mean(network.apply(member, z)), params)


def _row(columns: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, columns), jnp.float32)


def _flattened(tree: Any, axes: int) -> Any:
    """The tree with the first axes of each array made one."""
    return jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *jnp.shape(leaf)[axes:])), tree)
