"""A function to check, flattened: which leaves are differentiable, what they are called, and what comes out."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnn.gradcheck import _jaxprs


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A floating leaf of the arguments or of the outputs: its name, and its place among all leaves."""

    path: str
    position: int
    shape: tuple[int, ...]
    dtype: Any

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


def _argument_names(fun: Callable[..., Any], n: int) -> list[str]:
    """The names of the parameters of `fun` that the first n positional arguments go to, else args[k]."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in kinds]
    return [names[k] if k < len(names) else f"args[{k}]" for k in range(n)]


def _named_leaves(tree: Any, name: str) -> list[tuple[str, Any]]:
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex) and not isinstance(leaf, bool)


def _refuse_tracers(values: Sequence[Any], where: str) -> None:
    if any(isinstance(value, Tracer) for value in values):
        raise TypeError(
            f"expected arrays with values, got traced ones in {where}; a check looks at numbers: call it outside of "
            "jit, vmap and grad, on the function that is inside"
        )


def function_name(fun: Callable[..., Any]) -> str:
    """What to call a function in a report."""
    inner = getattr(fun, "func", fun)  # functools.partial
    return getattr(inner, "__qualname__", None) or getattr(inner, "__name__", None) or type(inner).__name__


class Problem:
    """`fun` at `args`, as a function of flat arrays.

    Attributes:
        arrays: the array leaves of the arguments; Python integers, booleans, strings and functions are closed over.
        inputs: the floating leaves among them, those that are differentiated.
        outputs: the floating leaves of the result.
        jaxpr: the traced function, from `arrays` to the floating outputs.
    """

    def __init__(self, fun: Callable[..., Any], args: Sequence[Any], names: Sequence[str] | None = None) -> None:
        if not callable(fun):
            raise TypeError(
                f"expected a function to check, got {type(fun).__name__}; pass the function, then its arguments"
            )
        self.fun = fun
        self.name = function_name(fun)
        leaves, self._tree = jax.tree_util.tree_flatten(tuple(args))
        names = list(names) if names is not None else _argument_names(fun, len(args))
        paths = [path for name, arg in zip(names, args, strict=True) for path, _ in _named_leaves(arg, name)]
        _refuse_tracers(leaves, "the arguments")
        self._leaves = leaves
        self._places = [k for k, leaf in enumerate(leaves) if _is_array(leaf)]
        self.arrays = [a if isinstance(a, jax.Array) else jnp.asarray(a) for a in (leaves[k] for k in self._places)]
        self.inputs = [
            Leaf(paths[k], place, a.shape, a.dtype)
            for place, (k, a) in enumerate(zip(self._places, self.arrays, strict=True))
            if _jaxprs.is_inexact(a.dtype)
        ]
        if not self.inputs:
            kinds = ", ".join(sorted({str(a.dtype) for a in self.arrays})) or "no array at all"
            raise ValueError(
                f"expected at least one floating argument to differentiate, got {kinds}; pass floating arrays"
            )
        shapes = jax.eval_shape(lambda *arrays: self.call(arrays), *self.arrays)
        named = _named_leaves(shapes, "out")
        self._shape = shapes
        self._kept = [k for k, (_, s) in enumerate(named) if hasattr(s, "dtype") and _jaxprs.is_inexact(s.dtype)]
        self.outputs = [
            Leaf(named[k][0], place, named[k][1].shape, named[k][1].dtype) for place, k in enumerate(self._kept)
        ]
        if not self.outputs:
            raise ValueError(
                f"expected {self.name} to return a floating array, got {shapes}; nothing can be differentiated"
            )
        self.jaxpr, _ = _jaxprs.trace(self.flat, *self.arrays)
        _refuse_tracers(self.jaxpr.consts, f"what {self.name} closes over")

    def call(self, arrays: Sequence[Any]) -> Any:
        """The user's function with its array leaves replaced."""
        leaves = list(self._leaves)
        for k, a in zip(self._places, arrays, strict=True):
            leaves[k] = a
        return self.fun(*jax.tree_util.tree_unflatten(self._tree, leaves))

    def flat(self, *arrays: Any) -> list[Any]:
        """From the array leaves to the floating outputs."""
        out = jax.tree_util.tree_leaves(self.call(arrays))
        return [out[k] for k in self._kept]

    def merged(self, arrays: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """The arrays with the differentiable ones replaced."""
        merged = list(arrays)
        for leaf, value in zip(self.inputs, values, strict=True):
            merged[leaf.position] = value
        return merged

    def differentiable(self, arrays: Sequence[Any]) -> list[Any]:
        """The differentiable ones among the arrays."""
        return [arrays[leaf.position] for leaf in self.inputs]

    def unflattened(self, values: Sequence[Any]) -> Any:
        """Values of the floating outputs in the structure of the result, with float0 zeros for the others."""
        leaves, tree = jax.tree_util.tree_flatten(self._shape)
        filled: list[Any] = [np.zeros(leaf.shape, jax.dtypes.float0) for leaf in leaves]
        for k, value in zip(self._kept, values, strict=True):
            filled[k] = value
        return jax.tree_util.tree_unflatten(tree, filled)

    def moved(self, tangents: Sequence[Any]) -> tuple[Any, ...]:
        """Tangents of the floating inputs in the structure of the arguments, with float0 zeros for the others."""
        filled: list[Any] = [np.zeros(np.shape(leaf), jax.dtypes.float0) for leaf in self._leaves]
        for leaf, tangent in zip(self.inputs, tangents, strict=True):
            filled[self._places[leaf.position]] = tangent
        return jax.tree_util.tree_unflatten(self._tree, filled)

    def output_place(self, path: str) -> int:
        """The place of a floating output, by its name, among all leaves of the result."""
        return self._kept[next(k for k, leaf in enumerate(self.outputs) if leaf.path == path)]

    def place(self, path: str) -> int:
        """The place of a leaf, by its name, among all leaves of the arguments."""
        for leaf in self.inputs:
            if leaf.path == path:
                return self._places[leaf.position]
        raise ValueError(f"expected one of the leaves {', '.join(i.path for i in self.inputs)}, got {path!r}")
