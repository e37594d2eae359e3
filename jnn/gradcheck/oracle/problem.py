"""A function to check, flattened: which leaves are differentiable, what they are called, and what comes out."""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnn.gradcheck.oracle import jaxprs


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


def named_leaves(tree: Any, name: str) -> list[tuple[str, Any]]:
    """(name, leaf) of every leaf of a tree."""
    return [(name + jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, float | complex) and not isinstance(leaf, np.generic)


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


def selected(argnums: int | Sequence[int] | None, count: int) -> frozenset[int] | None:
    """The places of the arguments that are to be differentiated; None for all that can be.

    Raises:
        TypeError: `argnums` is no integer, and no sequence of integers.
        ValueError: there is no such argument.
    """
    if argnums is None:
        return None
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    if not numbers or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
        raise TypeError(f"expected argnums to be an integer or some integers, got {argnums!r}")
    if any(not -count <= n < count for n in numbers):
        raise ValueError(f"expected argnums of the {count} positional arguments (0 to {count - 1}), got {argnums!r}")
    return frozenset(n % count for n in numbers)


class Problem:
    """`fun` at `args`, as a function of flat arrays.

    Attributes:
        arrays: copies of the array leaves of the arguments; Python integers, booleans, strings and functions are
            passed on as they are, and so are Python floats where the function does not take an array in their place.
        inputs: the floating leaves among them that are differentiated.
        outputs: the floating leaves of the result.
        jaxpr: the traced function, from `arrays` to the floating outputs.
        untouched: the names of Python numbers that were passed on as they are.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        args: Sequence[Any],
        names: Sequence[str] | None = None,
        argnums: int | Sequence[int] | None = None,
    ) -> None:
        if not callable(fun):
            raise TypeError(
                f"expected a function to check, got {type(fun).__name__}; pass the function, then its arguments"
            )
        self.fun = fun
        self.name = function_name(fun)
        self.untouched: tuple[str, ...] = ()
        leaves, self._tree = jax.tree_util.tree_flatten(tuple(args))
        names = list(names) if names is not None else _argument_names(fun, len(args))
        chosen = selected(argnums, len(args))
        owners = [k for k, arg in enumerate(args) for _ in jax.tree_util.tree_leaves(arg)]
        self._paths = [path for name, arg in zip(names, args, strict=True) for path, _ in named_leaves(arg, name)]
        _refuse_tracers(leaves, "the arguments")
        self._leaves = leaves
        wanted = [chosen is None or owner in chosen for owner in owners]
        numbers = [k for k, leaf in enumerate(leaves) if _is_number(leaf) and wanted[k]]
        try:
            self._trace([k for k, leaf in enumerate(leaves) if _is_array(leaf) or k in numbers], wanted)
        except Exception as error:
            if not numbers or isinstance(error, _Nothing):
                raise
            listed = ", ".join(self._paths[k] for k in numbers)
            try:
                self._trace([k for k, leaf in enumerate(leaves) if _is_array(leaf)], wanted)
            except _Nothing:
                raise TypeError(
                    f"expected arguments that can be differentiated, but {self.name} does not take an array in place "
                    f"of {listed}; choose others with argnums= ({type(error).__name__}: {_line(error)})"
                ) from error
            except Exception:
                raise error from None
            if chosen is not None:
                raise TypeError(
                    f"expected argnums of arguments that can be differentiated, but {self.name} does not take an array "
                    f"in place of {listed} ({type(error).__name__}: {_line(error)}); leave it out of argnums"
                ) from error
            self.untouched = tuple(self._paths[k] for k in numbers)

    def _trace(self, places: list[int], wanted: Sequence[bool]) -> None:
        self._places = places
        # Copies: a function may donate its arguments, and what is the user's stays as it is.
        self.arrays = [_copied(self._leaves[k]) for k in places]
        self.inputs = [
            Leaf(self._paths[k], place, a.shape, a.dtype)
            for place, (k, a) in enumerate(zip(places, self.arrays, strict=True))
            if jaxprs.is_inexact(a.dtype) and wanted[k]
        ]
        if not self.inputs:
            kinds = ", ".join(sorted({str(a.dtype) for a in self.arrays})) or "no array at all"
            raise _Nothing(
                f"expected at least one floating argument to differentiate, got {kinds}; pass floating arrays"
            )
        traced: list[Any] = []

        def flat(*arrays: Any) -> list[Any]:
            result = self.call(arrays)
            traced[:] = [jax.tree_util.tree_map(_form, result)]
            return [v for v in jax.tree_util.tree_leaves(result) if jaxprs.is_inexact(jax.typeof(v).dtype)]

        self.jaxpr, _ = jaxprs.trace(flat, *self.arrays)
        self._shape = traced[0]
        named = named_leaves(self._shape, "out")
        self._kept = [k for k, (_, s) in enumerate(named) if jaxprs.is_inexact(s.dtype)]
        self.outputs = [
            Leaf(named[k][0], place, tuple(named[k][1].shape), named[k][1].dtype) for place, k in enumerate(self._kept)
        ]
        if not self.outputs:
            raise _Nothing(
                f"expected {self.name} to return a floating array, got {self._shape}; nothing can be differentiated"
            )
        _refuse_tracers(jaxprs.constants(self.jaxpr), f"what {self.name} closes over")

    def arguments(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The user's arguments with their array leaves replaced."""
        leaves = list(self._leaves)
        for k, a in zip(self._places, arrays, strict=True):
            leaves[k] = a
        return jax.tree_util.tree_unflatten(self._tree, leaves)

    def call(self, arrays: Sequence[Any]) -> Any:
        """The user's function with its array leaves replaced."""
        return self.fun(*self.arguments(arrays))

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

    def array_names(self) -> list[str]:
        """The names of all array leaves."""
        return [self._paths[k] for k in self._places]

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
        for k, leaf in enumerate(self._leaves):
            if jaxprs.is_inexact(getattr(leaf, "dtype", np.dtype(bool))):
                filled[k] = np.zeros(np.shape(leaf), np.dtype(leaf.dtype))  # not among those of argnums
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


class _Nothing(ValueError):
    """There is nothing to differentiate."""


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:160]


def _form(value: Any) -> Any:
    return jax.ShapeDtypeStruct(jnp.shape(value), jax.typeof(value).dtype)


def _copied(value: Any) -> Any:
    if isinstance(value, jax.Array):
        return jnp.array(value, copy=True)
    return jnp.asarray(value)
