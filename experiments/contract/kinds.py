"""What may come in the place of a good argument: the same numbers in another form, other numbers, or no numbers at all.

Good arrays hold small integers in float32, so that they stay the same in any dtype.
"""

import datetime
import decimal
import fractions
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas
import scipy.sparse


class Demand(Enum):
    """What is asked for. Training never returns parameters that are not finite, whatever is asked for."""

    SAME = "what good arguments give, or a clear error"
    ANY = "a result, or a clear error"
    REFUSED = "a clear error"


@dataclass(frozen=True)
class Kind:
    """A way to change an argument."""

    change: Callable[[Any], Any]
    demand: Demand
    shape: bool = False  # whether it is the shape that is wrong, which some functions do not mind
    extreme: bool = False  # whether numbers are so large, or none, that NaN may come of them


class _Duck:
    """Something that NumPy can take for an array."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._array.astype(dtype or self._array.dtype)


def _of_table(array: np.ndarray, table: Any, series: Any) -> Any:
    if array.ndim == 1:
        return series(array)
    return table({f"c{n}": column for n, column in enumerate(array.reshape(len(array), -1).T)})


def _polars(array: np.ndarray) -> Any:
    import polars

    return _of_table(array, polars.DataFrame, lambda values: polars.Series("c", values))


def _but_first(value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.result_type(array, np.float32))
        array.flat[: min(1, array.size)] = value
        return array

    return change


def _frozen(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _equal_column(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[..., :1] = 2
    return array


def _ragged(array: np.ndarray) -> Any:
    return [[1.0]] + [[1.0, 2.0]] * max(len(array) - 1, 1)


def _one_missing(array: np.ndarray) -> Any:
    table = _of_table(array, pandas.DataFrame, pandas.Series).astype("Float64")
    if array.ndim == 1:
        table.iloc[0] = pandas.NA
    else:
        table.iloc[0, 0] = pandas.NA
    return table


def _objects(value: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.full(array.shape, value, object)


def _of_dtype(dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array.astype(dtype)


SAME: Mapping[str, Callable[[np.ndarray], Any]] = {
    "as it is": lambda array: array,
    "list": lambda array: array.tolist(),
    "tuples": lambda array: tuple(tuple(row) if np.ndim(row) else row for row in array.tolist()),
    "big-endian": _of_dtype(">f8"),
    "big-endian integers": _of_dtype(">i4"),
    "Fortran's order": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=0)[::2],
    "reversed": lambda array: array[::-1].copy()[::-1],
    "read-only": _frozen,
    "float64": _of_dtype(np.float64),
    "float16": _of_dtype(np.float16),
    "bfloat16": _of_dtype(ml_dtypes.bfloat16),
    "long double": _of_dtype(np.longdouble),
    "int8": _of_dtype(np.int8),
    "int64": _of_dtype(np.int64),
    "jax": jnp.asarray,
    "jax int8": lambda array: jnp.asarray(array.astype(np.int8)),
    "jax float16": lambda array: jnp.asarray(array.astype(np.float16)),
    "objects that are numbers": _of_dtype(object),
    "decimals": np.vectorize(lambda value: decimal.Decimal(int(value)), otypes=[object]),
    "fractions": np.vectorize(lambda value: fractions.Fraction(int(value)), otypes=[object]),
    "pandas": lambda array: _of_table(array, pandas.DataFrame, pandas.Series),
    "pandas' own integers": lambda array: _of_table(array, pandas.DataFrame, pandas.Series).astype("Int64"),
    "pandas with an index": lambda array: _of_table(array, pandas.DataFrame, pandas.Series).iloc[::-1].iloc[::-1],
    "polars": _polars,
    "masked nowhere": np.ma.masked_array,
    "matrix": lambda array: array.view(np.matrix) if array.ndim == 2 else array,
    "memory view": lambda array: memoryview(np.ascontiguousarray(array)),  # pyright: ignore[reportArgumentType]
    "something with __array__": _Duck,
    "sparse": lambda array: scipy.sparse.csr_matrix(np.atleast_2d(array)),
    "sparse array": lambda array: scipy.sparse.coo_array(np.atleast_2d(array)),
    "numbers in words": lambda array: array.astype("U8"),
}
VALUES: Mapping[str, Callable[[np.ndarray], Any]] = {
    "booleans": lambda array: array > 0,
    "1e-30": lambda array: array * np.float32(1e-30),
    "subnormal": lambda array: array * np.float32(1e-42),
    "an equal column": _equal_column,
    "all zero": np.zeros_like,
    "all equal": lambda array: np.full_like(array, 2),
    "all different": lambda array: np.arange(array.size, dtype=np.float32).reshape(array.shape),
}
EXTREME: Mapping[str, Callable[[np.ndarray], Any]] = {
    "one NaN": _but_first(np.nan),
    "all NaN": lambda array: np.full(array.shape, np.nan, np.float32),
    "jax NaN": lambda array: jnp.full(array.shape, np.nan, np.float32),
    "one inf": _but_first(np.inf),
    "one −inf": _but_first(-np.inf),
    "1e30": lambda array: array * np.float32(1e30),
    "one 1e30": _but_first(1e30),
    "1e300": lambda array: array.astype(np.float64) * 1e300,
    "large integers": lambda array: array.astype(np.int64) * 2**60,
    "large unsigned": lambda array: np.full(array.shape, 2**64 - 1, np.uint64),
    "float16 at its end": lambda array: np.full(array.shape, 65504, np.float16),
    "one masked": lambda array: np.ma.masked_array(array, np.arange(array.size).reshape(array.shape) == 0),
    "one missing": _one_missing,
}
SHAPES: Mapping[str, Callable[[np.ndarray], Any]] = {
    "flat": np.ravel,
    "an axis before": lambda array: array[None],
    "an axis behind": lambda array: array[..., None],
    "a number": lambda array: float(array.flat[0]),
    "an array of no axis": lambda array: np.float32(array.flat[0]),
    "no rows": lambda array: array[:0],
    "no columns": lambda array: array[..., :0],
    "an empty list": lambda _: [],
    "one row": lambda array: array[:1],
    "a row fewer": lambda array: array[:-1],
    "one column": lambda array: array[..., :1],
    "a column more": lambda array: np.concatenate([array, array[..., :1]], axis=-1),
    "transposed": np.transpose,
}
NO_NUMBERS: Mapping[str, Callable[[np.ndarray], Any]] = {
    "complex": lambda array: array + 1j,
    "words": lambda array: np.full(array.shape, "a"),
    "bytes": lambda array: np.full(array.shape, b"a"),
    "objects": _objects(object()),
    "nothings": _objects(None),
    "objects of several kinds": lambda array: np.resize(np.array([1, "a", None], object), array.shape),
    "nothing": lambda _: None,
    "ragged": _ragged,
    "dates": lambda array: array.astype("datetime64[D]"),
    "durations": lambda array: array.astype("timedelta64[s]"),
    "a date": lambda _: datetime.datetime(2026, 11, 30),
    "a dictionary": lambda array: dict(enumerate(array)),
    "a set": lambda array: set(array.ravel().tolist()),
    "a generator": lambda array: (row for row in array),
    "a word": lambda _: "a",
    "a function": lambda _: len,
    "a class": lambda _: np.ndarray,
    "a record": lambda array: np.zeros(array.shape, [("a", np.float32)]),
}
ARRAYS: Mapping[str, Kind] = {
    **{name: Kind(change, Demand.SAME) for name, change in SAME.items()},
    **{name: Kind(change, Demand.ANY) for name, change in VALUES.items()},
    **{name: Kind(change, Demand.ANY, extreme=True) for name, change in EXTREME.items()},
    **{name: Kind(change, Demand.ANY, shape=True) for name, change in SHAPES.items()},
    **{name: Kind(change, Demand.REFUSED) for name, change in NO_NUMBERS.items()},
}


NUMBERS: Mapping[str, Kind] = {
    name: Kind(change, Demand.SAME if name in ("as it is", "float16", "an array of no axis", "jax") else Demand.ANY)
    for name, change in {
        "as it is": lambda value: value,
        "float16": lambda value: type(value)(np.float16(value)) if isinstance(value, float) else np.int8(value),
        "an array of no axis": np.asarray,
        "jax": jnp.asarray,
        "NaN": lambda _: float("nan"),
        "inf": lambda _: float("inf"),
        "−inf": lambda _: float("-inf"),
        "0": lambda value: type(value)(0),
        "−1": lambda value: type(value)(-1),
        "1e-30": lambda _: 1e-30,
        "1e30": lambda value: 1e30 if isinstance(value, float) else 1.5,
        "True": lambda _: True,
        "a word": str,
        "nothing": lambda _: None,
        "a list": lambda value: [value],
        "an array": lambda value: np.array([value]),
        "two": lambda value: np.array([value, value]),
        "complex": complex,
        "an object": lambda _: object(),
        "a decimal": lambda value: decimal.Decimal(str(value)),
    }.items()
}
KEYS: Mapping[str, Kind] = {
    "as it is": Kind(lambda key: key, Demand.SAME),
    "of another kind": Kind(lambda _: jax.random.key(0, impl="rbg"), Demand.ANY),
    "an old one": Kind(lambda _: jax.random.PRNGKey(0), Demand.REFUSED),
    "an old one of NumPy": Kind(lambda _: np.zeros(2, np.uint32), Demand.REFUSED),
    "a number": Kind(lambda _: 0, Demand.REFUSED),
    "nothing": Kind(lambda _: None, Demand.REFUSED),
    "many": Kind(lambda key: jax.random.split(key, 5).reshape(5, 1), Demand.REFUSED),
    "a generator of NumPy": Kind(lambda _: np.random.default_rng(0), Demand.REFUSED),
}


def _at_first_leaf(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(tree: Any) -> Any:
        leaves, structure = jax.tree.flatten(tree)
        return structure.unflatten([change(np.asarray(leaves[0])), *leaves[1:]])

    return changed


TREES: Mapping[str, Kind] = {
    **{
        f"{name} (of an array)": Kind(_at_first_leaf(kind.change), kind.demand, kind.shape, kind.extreme)
        for name, kind in ARRAYS.items()
        if name not in ("nothing", "a dictionary")
    },
    "shorter": Kind(lambda tree: dict([*tree.items()][:-1]) if isinstance(tree, dict) else tree[:-1], Demand.REFUSED),
    "as a list": Kind(lambda tree: list(tree), Demand.ANY),
    "nothing": Kind(lambda _: None, Demand.REFUSED),
    "flat": Kind(lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]), Demand.REFUSED),
    "within a dictionary": Kind(lambda tree: {"params": tree}, Demand.REFUSED),
}


def kinds_of(argument: Any) -> Mapping[str, Kind]:
    """What may become of an argument, by what it is."""
    if isinstance(argument, jax.Array) and jnp.issubdtype(argument.dtype, jax.dtypes.prng_key):
        return KEYS
    if isinstance(argument, np.ndarray):
        return ARRAYS
    return NUMBERS if isinstance(argument, (int, float)) else TREES
