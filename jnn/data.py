"""Examples on disk, where arrays go: tables in Parquet and Arrow files, memory maps, whatever has numbered rows.

    data = jnn.data.parquet("rows/*.parquet", target="y")
    scale = jnn.data.standardize(data.x)
    jnn.fit(network, likelihood, jnn.data.Transformed(data.x, scale), data.y, key=key, batch_size=1000)

Inputs stay where they are, and `jnn.fit` reads the rows of the next mini-batches while the device works on others.
Which those are is a function of the key and the epoch alone. A file is read in groups of rows, as it was written: so
each epoch goes through the groups in a random order, some at a time, and mixes the rows of those; every row comes once.
"""

import abc
import glob
import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from jnn.optional import needed
from jnn.transforms import Standardize, Transform

Numbers = Int[np.ndarray, "..."]
BLOCK = 2**24
"""Bytes of rows that are looked at together in a pass over all of them."""


class OnDisk(abc.ABC):
    """Inputs that are read when they are needed: an array `(n, d)` as far as its rows go.

    A source of your own has `shape`, `dtype`, and rows by number: `rows[numbers]` is an array `(*numbers.shape, d)`.
    """

    shape: tuple[int, int]
    dtype: Any
    ndim = 2

    def __len__(self) -> int:
        """The number of rows."""
        return self.shape[0]

    @abc.abstractmethod
    def __getitem__(self, numbers: Numbers) -> np.ndarray:
        """The rows with these numbers."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it, in memory."""
        return self[np.arange(len(self))].astype(dtype or self.dtype, copy=False)

    def shuffled(self, order: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
        """A random order of some rows, as one that these rows are better read in; here, as it is."""
        return order

    def fingerprint(self) -> str:
        """Words that are others for other rows; here, a digest of all of them."""
        digest = hashlib.blake2b(digest_size=16)
        for block in blocks(self):
            digest.update(np.ascontiguousarray(block).tobytes())
        return f"{self.dtype} {self.shape} {digest.hexdigest()}"


def blocks(x: Any) -> Iterator[np.ndarray]:
    """The rows of an array or of `OnDisk`, some at a time."""
    rows = max(1, BLOCK // max(1, x.shape[1] * np.dtype(x.dtype).itemsize))
    for first in range(0, len(x), rows):
        last = min(first + rows, len(x))
        yield x[np.arange(first, last)] if isinstance(x, OnDisk) else x[first:last]


class Grouped(OnDisk):
    """The columns of tables in files that are read group by group; the groups used last stay in memory."""

    def __init__(
        self, files: Sequence[Path], groups: Sequence["Group"], columns: Sequence[str], dtype: Any, memory: int
    ):
        self.dtype, self.columns = np.dtype(dtype), tuple(columns)
        self._files, self._groups = tuple(files), tuple(groups)
        self._ends = np.cumsum([group.rows for group in groups])
        self.shape = (int(self._ends[-1]), len(columns))
        largest = max(group.rows for group in groups) * len(columns) * self.dtype.itemsize
        self._most = max(2, memory // largest)
        self._read: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getitem__(self, numbers: Numbers) -> np.ndarray:
        flat = np.asarray(numbers).reshape(-1)
        group = np.searchsorted(self._ends, flat, side="right")
        found = np.empty((len(flat), self.shape[1]), self.dtype)
        for number in np.unique(group):
            place = np.flatnonzero(group == number)
            found[place] = self._rows_of(int(number))[flat[place] - (self._ends[number] - self._groups[number].rows)]
        return found.reshape(*np.shape(numbers), self.shape[1])

    def _rows_of(self, number: int) -> np.ndarray:
        if number in self._read:
            self._read.move_to_end(number)
            return self._read[number]
        while len(self._read) >= self._most:
            self._read.popitem(last=False)
        table = self._groups[number].read(list(self.columns))
        rows = np.empty((self._groups[number].rows, self.shape[1]), self.dtype)
        for place, name in enumerate(self.columns):
            rows[:, place] = _numbers(table.column(name), name)
        self._read[number] = rows
        return rows

    def shuffled(self, order: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
        """Some groups at a time, in the order in which they first occur; within those, as it is."""
        count = len(self._groups)
        small = np.min_scalar_type(count)  # few bits take little memory, and NumPy sorts them by counting
        group = np.searchsorted(self._ends, order, side="right").astype(small)
        first = np.full(count, len(order))
        first[group[::-1]] = np.arange(len(order))[::-1]  # the last that is assigned stays: where a group is met first
        turn = np.empty(count, small)
        turn[np.argsort(first, kind="stable")] = np.arange(count) // max(1, self._most - 1)  # one is being read
        return order[np.argsort(turn[group], kind="stable")]

    def fingerprint(self) -> str:
        """The files' names, sizes and last bytes, where these formats describe what they hold; and the columns."""
        digest = hashlib.blake2b(repr((self.columns, self.dtype.str)).encode(), digest_size=16)
        for file in self._files:
            with open(file, "rb") as opened:
                size = opened.seek(0, os.SEEK_END)
                opened.seek(max(0, size - 65_536))
                digest.update(f"{file.name} {size}".encode() + opened.read())
        return f"{self.shape} {digest.hexdigest()}"


class Group(NamedTuple):
    """Some rows of a file: how many, and what reads some of their columns as one of Arrow's tables."""

    rows: int
    read: Callable[[list[str]], Any]


class Transformed(OnDisk):
    """Rows that go through a transform when they are read."""

    def __init__(self, rows: OnDisk | np.ndarray, transform: Transform) -> None:
        self.rows, self.transform, self.dtype = rows, transform, rows.dtype
        self.shape = (len(rows), self[np.zeros(1, int)].shape[1])

    def __getitem__(self, numbers: Numbers) -> np.ndarray:
        return np.asarray(self.transform.apply(np.asarray(self.rows[numbers])))

    def fingerprint(self) -> str:
        """The rows' own, if they have one, and the transform's numbers; else a digest of what comes of them."""
        if not isinstance(self.rows, OnDisk):
            return super().fingerprint()
        leaves, structure = jax.tree.flatten(self.transform)
        digest = hashlib.blake2b(str(structure).encode(), digest_size=16)
        for leaf in map(np.ascontiguousarray, leaves):
            digest.update(f"{leaf.dtype} {leaf.shape}".encode() + leaf.tobytes())
        return f"{self.rows.fingerprint()} {digest.hexdigest()}"

    def shuffled(self, order: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
        """As the rows are better read."""
        return self.rows.shuffled(order) if isinstance(self.rows, OnDisk) else order


class Data(NamedTuple):
    """Inputs on disk; targets and weights, which are short, in memory."""

    x: Grouped
    y: np.ndarray
    weights: np.ndarray | None


def standardize(x: OnDisk | np.ndarray) -> Standardize:
    """`transforms.Standardize.fit`, in one pass that never has all rows in memory.

    Means and squares of the blocks' deviations from them are put together by Chan, Golub, LeVeque, "Updating formulae
    and a pairwise algorithm for computing sample variances", 1979; in float64.
    """
    count, mean, squares = 0, np.zeros(x.shape[1]), np.zeros(x.shape[1])
    largest = np.zeros(x.shape[1])
    for block in blocks(x):
        block = np.asarray(block, np.float64)
        if not np.isfinite(block).all():
            raise ValueError("x has NaN or infinite values; remove or impute them before fitting a transform")
        own, n = block.mean(axis=0), len(block)
        squares += ((block - own) ** 2).sum(axis=0) + (own - mean) ** 2 * (count * n / (count + n))
        mean += (own - mean) * (n / (count + n))
        count += n
        largest = np.maximum(largest, np.abs(block).max(axis=0))
    scale = np.sqrt(squares / count)
    # As `transforms.Standardize`: what differs by rounding alone is constant.
    constant = scale <= 10 * np.finfo(x.dtype if np.issubdtype(x.dtype, np.floating) else float).eps * largest
    return Standardize(mean, np.where(constant, 1.0, scale))


def parquet(
    files: str | os.PathLike[str] | Sequence[Any],
    *,
    target: str | Sequence[str],
    weights: str | None = None,
    columns: Sequence[str] | None = None,
    dtype: Any = np.float32,
    memory: int = 2**28,
) -> Data:
    """A table in Parquet files.

    Args:
        files: a file, a folder of them, a pattern as `"rows/*.parquet"`, or a list of files, which are taken in order.
        target: the column with the targets, or several. One of integers becomes labels `(n,)`, others `(n, K)`.
        weights: a column that says how often each example counts.
        columns: the inputs; all others by default.
        dtype: of the inputs.
        memory: bytes that groups of rows may take while they wait; at least two groups are kept in any case.

    Raises:
        ValueError, TypeError: for files that are not there, columns that are missing, have gaps, or hold no numbers.
        ImportError: without pyarrow; `pip install 'jnn[data]'`.
    """
    _need_arrow()
    import pyarrow.parquet

    found, groups = _files(files, "parquet"), []
    for path in found:
        file = pyarrow.parquet.ParquetFile(path, memory_map=True)
        for number in range(file.num_row_groups):
            read = lambda names, file=file, number=number: file.read_row_group(number, columns=names)  # noqa: E731
            groups.append(Group(file.metadata.row_group(number).num_rows, read))
    schema = pyarrow.parquet.read_schema(found[0])
    return _data(found, groups, schema.names, target, weights, columns, dtype, memory)


def arrow(
    files: str | os.PathLike[str] | Sequence[Any],
    *,
    target: str | Sequence[str],
    weights: str | None = None,
    columns: Sequence[str] | None = None,
    dtype: Any = np.float32,
    memory: int = 2**28,
) -> Data:
    """A table in Arrow's own files (IPC, Feather version 2), memory-mapped; the arguments are those of `parquet`."""
    _need_arrow()
    import pyarrow

    found, groups, names = _files(files, "arrow"), [], []
    for path in found:
        file = pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
        names = names or file.schema.names
        for number in range(file.num_record_batches):
            read = lambda names, file=file, number=number: file.get_batch(number).select(names)  # noqa: E731
            groups.append(Group(file.get_batch(number).num_rows, read))
    return _data(found, groups, names, target, weights, columns, dtype, memory)


def _need_arrow() -> None:
    needed("pyarrow", extra="data", what="tables are read by pyarrow")


def _files(files: Any, ending: str) -> list[Path]:
    if isinstance(files, (str, os.PathLike)):
        folder = Path(files)
        found = sorted(folder.glob(f"*.{ending}")) if folder.is_dir() else sorted(map(Path, glob.glob(str(files))))
    else:
        found = [Path(file) for file in files]
    if not found or not all(path.is_file() for path in found):
        raise ValueError(f"expected .{ending} files, but there are none at {files!r}")
    return found


def _data(
    files: list[Path],
    groups: list[Group],
    names: Sequence[str],
    target: str | Sequence[str],
    weights: str | None,
    columns: Sequence[str] | None,
    dtype: Any,
    memory: int,
) -> Data:
    targets = [target] if isinstance(target, str) else list(target)
    others = [*targets, *([] if weights is None else [weights])]
    inputs = [name for name in names if name not in others] if columns is None else list(columns)
    if missing := [name for name in (*others, *inputs) if name not in names]:
        raise ValueError(f"expected columns {', '.join(missing)}; the files have {', '.join(names)}")
    groups = [group for group in groups if group.rows]
    if not groups or not inputs:
        raise ValueError(f"expected rows and at least one column of inputs, got {len(groups)} groups of {inputs}")
    tables = [group.read(others) for group in groups]
    short = {name: np.concatenate([_numbers(table.column(name), name) for table in tables]) for name in others}
    y = np.stack([short[name] for name in targets], axis=1)
    labels = len(targets) == 1 and np.issubdtype(y.dtype, np.integer)
    return Data(
        Grouped(files, groups, inputs, dtype, memory),
        y[:, 0] if labels else y.astype(dtype),
        None if weights is None else short[weights],
    )


def _numbers(column: Any, name: str) -> np.ndarray:
    """One of Arrow's columns as numbers."""
    if column.null_count:
        raise ValueError(f"column {name} has {column.null_count} gaps; fill them, or leave the column or the rows out")
    values = column.to_numpy() if hasattr(column, "chunks") else column.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "iufb":
        raise TypeError(f"expected numbers in column {name}, got {column.type}; encode it first, or leave it out")
    return values
