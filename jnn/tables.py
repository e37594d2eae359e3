"""Tables as matrices of numbers: columns by name, categories by number.

What a person has is a table of pandas, polars or Arrow, or an array, some of whose columns hold strings. `Table` makes
a matrix of it: numbers as they are, NaN for what is missing, and for categories their numbers. What becomes of those
inside of a network, `jnn.transforms.Encode` decides.

None of the packages is imported: tables are known by what they can do.
"""

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float

RARE, MOST = 3, 255
"""Categories with fewer examples than `RARE`, or beyond the `MOST` frequent, count as one."""

Chosen = str | Sequence[Any] | np.ndarray | None


class ColumnError(ValueError):
    """A column that cannot be used as it is; the message names it."""


@dataclass(frozen=True)
class Categories:
    """The categories of a column, and the number of each; rare ones have one number together."""

    values: tuple[Any, ...]
    numbers: tuple[int, ...]
    other: int  # the number of values that were not seen: that of the rare ones; −1: as of missing ones

    @classmethod
    def fit(cls, cells: Sequence[Any]) -> "Categories":
        """Find the categories of a column's cells; None stands for missing ones."""
        counts: dict[Any, int] = {}
        for cell in cells:
            if cell is not None:
                counts[cell] = counts.get(cell, 0) + 1
        ordered = sorted(counts, key=lambda value: (str(type(value)), value))
        frequent = sorted(ordered, key=lambda value: -counts[value])[:MOST]
        kept = {value for value in frequent if counts[value] >= RARE}
        number = {value: n for n, value in enumerate(value for value in ordered if value in kept)}
        other = len(kept) if len(kept) < len(ordered) else -1
        numbers = tuple(number.get(value, len(kept)) for value in ordered)
        return cls(tuple(ordered), numbers, other)

    def __len__(self) -> int:
        """How many numbers there are."""
        return len(set(self.numbers))

    def apply(self, cells: Sequence[Any]) -> Float[np.ndarray, "n"]:
        """The number of each cell; NaN for missing ones."""
        number = {value: float(n) for value, n in zip(self.values, self.numbers, strict=True)} | {None: math.nan}
        other = float(self.other) if self.other >= 0 else math.nan
        return np.array([number.get(cell, other) for cell in cells], np.float64)


@dataclass(frozen=True)
class Table:
    """How a table's columns become a matrix: names, if they have any, and the categories of those that have some."""

    names: tuple[str, ...] | None
    categories: tuple[Categories | None, ...]

    @classmethod
    def fit(cls, x: Any, categorical: Chosen = "from_dtype") -> "Table":
        """Learn which columns hold categories, and which.

        Args:
            x: a table of pandas, polars or Arrow, or an array `(n, d)`.
            categorical: "from_dtype": columns of categories and of strings; None: no column; else the columns' names or
                numbers, or a boolean for each.

        Raises:
            ColumnError: naming the column, for dates, and for strings where numbers are expected.

        Warns:
            UserWarning: naming the column, if it is of no use since nearly every row has a category of its own.
        """
        names, columns = _columns(x)
        chosen = _chosen(categorical, names, len(columns))
        found = []
        for n, column in enumerate(columns):
            where = _named(names, n)
            if chosen[n] if chosen is not None else _holds_categories(column, where):
                found.append(own := Categories.fit(_cells(column, where)))
                if len(own) == 1 < len(own.values):
                    warnings.warn(f"{where} is of no use: each of its {len(own.values)} values is rare", stacklevel=2)
            else:
                _numbers(column, where)
                found.append(None)
        return cls(names, tuple(found))

    def named(self, n: int) -> str:
        """A column in the words of errors."""
        return _named(self.names, n)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many categories each column has; 0 for numbers."""
        return tuple(0 if own is None else len(own) for own in self.categories)

    @property
    def has_categories(self) -> bool:
        """Whether any column holds categories."""
        return any(self.categories)

    def apply(self, x: Any) -> Float[np.ndarray, "n d"]:
        """The matrix of a table or an array with the same columns.

        Raises:
            ColumnError: for other columns, another order, and values that are not those of the column's kind.
        """
        names, columns = _columns(x)
        if len(columns) != len(self.categories):
            raise ColumnError(f"expected {len(self.categories)} columns, got {len(columns)}")
        if names is not None and self.names is not None and names != self.names:
            n = next(n for n, (new, old) in enumerate(zip(names, self.names, strict=True)) if new != old)
            raise ColumnError(
                f"expected the columns of training in their order, {self.names[n]!r} as column {n}; got {names[n]!r}: "
                "select them by name, table[list of names]"
            )
        made = [
            _numbers(column, _named(self.names, n)) if own is None else own.apply(_cells(column, _named(self.names, n)))
            for n, (column, own) in enumerate(zip(columns, self.categories, strict=True))
        ]
        return np.stack(made, axis=1) if made else np.empty((0, 0))


def is_table(x: Any) -> bool:
    """Whether it is a table of pandas, polars or Arrow."""
    return hasattr(x, "iloc") or hasattr(x, "get_columns") or hasattr(x, "column_names")


def column_names(x: Any) -> tuple[str, ...] | None:
    """A table's names; None for an array, and for names that are not strings."""
    names = getattr(x, "column_names", None)
    names = getattr(x, "columns", None) if names is None else names
    if names is None or not is_table(x) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def all_numbers(x: Any) -> bool:
    """Whether all columns' types are numbers and booleans."""
    if not is_table(x):
        return getattr(getattr(x, "dtype", None), "kind", "O") in ("b", "i", "u", "f")
    return all(_kind(dtype) == "number" for dtype in _dtypes(x))


def _dtypes(x: Any) -> list[Any]:
    if hasattr(x, "iloc"):
        return list(x.dtypes)
    return list(x.dtypes) if hasattr(x, "get_columns") else list(x.schema.types)


def _columns(x: Any) -> tuple[tuple[str, ...] | None, list[Any]]:
    """Names and columns, these as (kind, something that makes numbers, something that makes a list of cells)."""
    if hasattr(x, "iloc"):
        return column_names(x), [x.iloc[:, n] for n in range(x.shape[1])]
    if hasattr(x, "get_columns"):
        return column_names(x), x.get_columns()
    if hasattr(x, "column_names"):
        return column_names(x), list(x.columns)
    array = np.asarray(x) if hasattr(x, "dtype") else np.asarray(x, object)
    if array.ndim != 2:
        raise ColumnError(f"expected a table, or an array of shape (n, d); got shape {array.shape}")
    return None, list(array.T)


CODES = {"number": "biuf", "text": "OUST", "date": "mM"}
KINDS = {
    "number": r"u?int|float|double|bool|half|decimal|number",
    "category": r"category|categorical|enum|dictionary",
    "date": r"date|time|timestamp|duration|period|month_day_nano",
    "text": r"str|large_str|object|utf8|large_utf8",
}


def _kind(dtype: Any) -> str:
    """The kind of a column's type, of any package, by its name."""
    if isinstance(dtype, np.dtype):
        return next((kind for kind, codes in CODES.items() if dtype.kind in codes), "other")
    name = str(dtype).lower().strip("<>=|")
    return next((kind for kind, names in KINDS.items() if re.match(names, name)), "other")


def _dtype(column: Any) -> Any:
    return column.type if hasattr(column, "to_pylist") else column.dtype


def _named(names: tuple[str, ...] | None, n: int) -> str:
    return f"column {n}" if names is None else f"column {names[n]!r}"


def _chosen(categorical: Chosen, names: tuple[str, ...] | None, columns: int) -> list[bool] | None:
    """Which columns were chosen; None where their types are to decide."""
    if isinstance(categorical, str):
        if categorical != "from_dtype":
            raise ColumnError(f"expected categorical_features as 'from_dtype', None or a list, got {categorical!r}")
        return None
    values = np.asarray([] if categorical is None else categorical)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "biuUOT"):
        raise ColumnError(f"expected categorical_features as a list of names, numbers or booleans, got {categorical!r}")
    if values.dtype.kind == "b":
        if len(values) != columns:
            raise ColumnError(f"expected categorical_features with {columns} booleans, got {len(values)}")
        return values.tolist()
    known: dict[Any, int] = {n: n for n in range(columns)} | {name: n for n, name in enumerate(names or ())}
    if unknown := [value for value in values.tolist() if value not in known]:
        raise ColumnError(f"categorical_features has {unknown[0]!r}, but there is no such column")
    numbers = {known[value] for value in values.tolist()}
    return [n in numbers for n in range(columns)]


def _holds_categories(column: Any, where: str) -> bool:
    """Whether its type says so: categories, and strings; of objects whether any of them is a string."""
    kind = _kind(_dtype(column))
    if kind == "text":
        cells = _cells(column, where)
        texts = [cell for cell in cells if isinstance(cell, str)]
        if texts and all(DATE.match(text) for text in texts):
            raise _dates(where, "date", f"the first is {texts[0]!r}")
        return bool(texts)
    return kind == "category"


DATE = re.compile(r"\s*\d{4}-\d{1,2}-\d{1,2}([T ]|\s*$)|\s*\d{1,2}[./]\d{1,2}[./]\d{2,4}([T ]|\s*$)")
HINT = (
    ". Say what about them matters, as numbers: days since the first, the month, the weekday, the hour (pandas: "
    "days = pandas.to_datetime(column); (days - days.min()).dt.days, days.dt.month)"
)


def _dates(where: str, kind: Any, found: str) -> ColumnError:
    """What is said of a column of dates or of lengths of time, and what to do about it."""
    if re.search("timedelta|duration", str(kind).lower()):
        hint = ". Make numbers of them, in a unit that suits (pandas: column / pandas.Timedelta(days=1))"
        return ColumnError(f"{where} holds lengths of time, {found}{hint}")
    return ColumnError(f"{where} holds dates, {found}{HINT}")


def _cells(column: Any, where: str) -> list[Any]:
    """Plain values; None for what is missing."""
    to_list = next(name for name in ("to_pylist", "to_list", "tolist") if hasattr(column, name))
    values = getattr(column, to_list)()
    cells = [None if _is_missing(value) else value for value in values]
    cells = [float(cell) if isinstance(cell, Decimal | Fraction) else cell for cell in cells]
    for cell in cells:
        if cell is not None and not isinstance(cell, str | bytes | bool | int | float | np.generic):
            if _kind(type(cell).__name__) == "date":
                raise _dates(where, type(cell), f"the first is {cell!r}")
            # In the words in which scikit-learn's checks expect it.
            raise TypeError(f"argument must be a string or a number, not {type(cell).__name__!r}, in {where}")
    return [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]


def _is_missing(value: Any) -> bool:
    nan = isinstance(value, float) and value != value
    return nan or value is None or type(value).__name__ in ("NAType", "NaTType")


def _numbers(column: Any, where: str) -> Float[np.ndarray, "n"]:
    """A column as float64; NaN for what is missing."""
    dtype, kind = _dtype(column), _kind(_dtype(column))
    if kind == "date":
        raise _dates(where, dtype, f"of type {dtype}")
    if kind == "number" and isinstance(column, np.ndarray):
        return column.astype(np.float64)
    if kind == "number" and hasattr(column, "iloc"):
        return column.to_numpy(np.float64, na_value=np.nan)
    if kind == "number":  # of polars and Arrow
        return np.asarray(column.cast("float64") if hasattr(column, "to_pylist") else column.cast(float), np.float64)
    numbers = []
    for n, cell in enumerate(_cells(column, where)):
        if isinstance(cell, str | bytes):
            raise ColumnError(
                f"could not convert string to float: {where} has {cell!r} in row {n}. Name the column in "
                "categorical_features if it holds categories, or leave that to categorical_features='from_dtype'"
            )
        numbers.append(math.nan if cell is None else float(cell))
    return np.array(numbers, np.float64)
