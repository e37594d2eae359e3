"""Everything that belongs to a trained network, from raw inputs to predictions."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jnn.likelihoods import Likelihood, OneHot
from jnn.networks import Network, Params
from jnn.persistence.errors import MismatchError
from jnn.transforms import Transform


@dataclass(frozen=True, eq=False)
class Model:
    """What `save` writes and `load` returns: a network with its parameters, and what stands before and behind it.

        x → transforms → network → likelihood.mean → target_transform.undo

    Attributes:
        network: the static description.
        likelihood: what becomes of the outputs' pre-activations.
        params: as `network.init` makes them. Leading axes, the same in all arrays, are members of an ensemble, as
            `jax.vmap` of `init` or of `fit` stacks them.
        transforms: what raw inputs go through before the network, in this order; () if it takes them as they are.
            A transform may have the ensemble's leading axes, too: then each member has its own.
        target_transform: what the targets went through before training.
        encoding: the class labels, if the network classifies.
        extra: anything else worth keeping, by name: `None`, numbers, strings, dates, arrays, lists, tuples and
            dictionaries of them, and jnn's own objects. They come back as they were, types included.
    """

    network: Network
    likelihood: Likelihood
    params: Params
    transforms: tuple[Transform, ...] = ()
    target_transform: Transform | None = None
    encoding: OneHot | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def members(self) -> tuple[int, ...]:
        """The ensemble's axes: () for a single network, (M,) for M of them.

        Raises:
            MismatchError: if the parameters are not those of the network.
        """
        expected = _expected(self.network)
        if jax.tree.structure(self.params) != jax.tree.structure(expected):
            raise MismatchError(
                f"expected parameters of the structure {jax.tree.structure(expected)}, as the network's init makes "
                f"them; got {jax.tree.structure(self.params)}"
            )
        members = None
        for (path, leaf), shape in zip(
            jax.tree.leaves_with_path(self.params), (e.shape for e in jax.tree.leaves(expected)), strict=True
        ):
            name = f"params{jax.tree_util.keystr(path)}"
            if not isinstance(leaf, jax.Array | np.ndarray) or not jnp.issubdtype(leaf.dtype, jnp.floating):
                raise MismatchError(f"expected {name} as an array of floating-point numbers, got {_kind(leaf)}")
            lead, own = leaf.shape[: leaf.ndim - len(shape)], leaf.shape[max(leaf.ndim - len(shape), 0) :]
            if own != shape or (members is not None and lead != members):
                wanted = shape if members is None else (*members, *shape)
                raise MismatchError(
                    f"expected {name} of shape {wanted}{' after any axes of an ensemble' * (members is None)}, "
                    f"as the network has it; got {leaf.shape}"
                )
            members = lead
        return members or ()

    def mean(self, x: Num[Array | np.ndarray, "*batch d"]) -> Float[Array, "*batch K"]:
        """The prediction E[y | x] of raw inputs, in the units of the raw targets; for classes, their probabilities.

        An ensemble's is the mean over its members.

        Args:
            x: one example `(d,)`, or any batch of them.

        Raises:
            ValueError: if `x` has not as many columns as the inputs.
        """
        x = jnp.asarray(x)
        if not self.members:
            return self._mean(self.params, self.transforms, self.target_transform, x)
        count = len(self.members)
        around = (*self.transforms, self.target_transform)
        axes = [None if t is None or len(t.shape) == 1 else 0 for t in around]  # of one network, or each its own
        *transforms, target = (
            t if axis is None else _flattened(t, count) for t, axis in zip(around, axes, strict=True)
        )
        each = jax.vmap(self._mean, in_axes=(0, tuple(axes[:-1]), axes[-1], None))
        return each(_flattened(self.params, count), tuple(transforms), target, x).mean(axis=0)

    def _mean(self, params: Params, transforms: tuple[Any, ...], target: Any, x: Array) -> Array:
        for transform in transforms:
            x = transform.apply(x)
        mean = self.likelihood.mean(self.network.apply(params, x))
        return mean if target is None else target.undo(mean)

    def check(self) -> None:
        """Raise MismatchError unless all parts fit each other (shapes and types; nothing is computed)."""
        for name, value, kind in [
            ("network", self.network, Network),
            ("likelihood", self.likelihood, Likelihood),
            ("target_transform", self.target_transform, Transform | None),
            ("encoding", self.encoding, OneHot | None),
            ("extra", self.extra, Mapping),
            ("transforms", self.transforms, tuple),
        ]:
            _require(name, value, kind)
        for n, transform in enumerate(self.transforms):
            _require(f"transforms[{n}]", transform, Transform)
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

    @property
    def inputs(self) -> int:
        """The number of columns that raw inputs have."""
        return self.transforms[0].shape[-1] if self.transforms else self.network.inputs

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


@functools.lru_cache(maxsize=128)
def _expected(network: Network) -> Params:
    """The shapes of the network's parameters, in their structure."""
    return jax.eval_shape(lambda: network.init(jax.random.key(0)))


def _row(columns: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, columns), jnp.float32)


def _require(name: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind):
        raise MismatchError(f"expected {name} as {getattr(kind, '__name__', kind)}, got {_kind(value)}")


def _flattened(tree: Any, axes: int) -> Any:
    """The tree with the first axes of each array made one."""
    return jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, *leaf.shape[axes:])), tree)


def _kind(value: Any) -> str:
    dtype = f" of dtype {value.dtype}" if hasattr(value, "dtype") else ""
    return f"{type(value).__name__}{dtype}"
