"""Examples on disk, where arrays go: tables in Parquet and Arrow files, memory maps, whatever has numbered rows.

    data = jnn.data.parquet("rows/*.parquet", target="y")
    scale = jnn.data.standardize(data.x)
    jnn.fit(network, likelihood, jnn.data.Transformed(data.x, scale), data.y, key=key, batch_size=1000)

Inputs stay where they are, and `jnn.fit` reads the rows of the next mini-batches while the device works on others.
Which those are is a function of the key and the epoch alone. A file is read in groups of rows, as it was written: so
each epoch goes through the groups in a random order, some at a time, and mixes the rows of those; every row comes once.
"""

import abc
import functools
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


TURNED = 256
"""Rows that columns are made at once: as many as a processor's cache has room for."""


SORTED = 65_536
"""Numbers of rows that are put in order at once, since each takes some 50 bytes on the way."""


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

    def read(self, numbers: Numbers, out: np.ndarray) -> None:
        """The rows with these numbers, into an array `(*numbers.shape, d)`."""
        out[...] = self[numbers]

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
        rows = np.array([group.rows for group in groups])
        self._ends = np.cumsum(rows)
        self._starts, self._largest = self._ends - rows, int(rows.max())
        self.shape = (int(self._ends[-1]), len(columns))
        self._most = max(2, memory // (self._largest * len(columns) * self.dtype.itemsize))
        self._memory: np.ndarray | None = None  # `_most` places for a group's rows, one after another
        self._place, self._free = np.zeros(len(groups), int), list(range(min(self._most, len(groups))))
        self._there: OrderedDict[int, None] = OrderedDict()  # the groups in memory, those used last at the end

    def __getitem__(self, numbers: Numbers) -> np.ndarray:
        found = np.empty((*np.shape(numbers), self.shape[1]), self.dtype)
        self.read(numbers, found)
        return found

    def read(self, numbers: Numbers, out: np.ndarray) -> None:
        """The rows with these numbers, into an array, without more memory where that is a plain one of this dtype."""
        if out.dtype != self.dtype or not out.flags.c_contiguous:
            super().read(numbers, out)
            return
        flat, found = np.asarray(numbers).reshape(-1), out.reshape(-1, self.shape[1])
        some = max(1, self._largest // 2)  # of few groups, so that it shows soon which are not used any more
        for first in range(0, len(flat), some):
            self._fill(found[first : first + some], flat[first : first + some])

    def _fill(self, found: np.ndarray, numbers: Numbers) -> None:
        group = np.searchsorted(self._ends, numbers, side="right")
        needed, first = np.unique(group, return_index=True)
        needed = needed[np.argsort(first)]
        for begin in range(0, len(needed), self._most):
            some = needed[begin : begin + self._most].tolist()
            memory = self._with(some)
            where = self._place[group] * self._largest + numbers - self._starts[group]
            if len(some) == len(needed):
                np.take(memory, where, axis=0, out=found, mode="clip")
            else:
                own = np.flatnonzero(np.isin(group, some))
                found[own] = memory[where[own]]

    def _with(self, groups: list[int]) -> np.ndarray:
        """All places, when these groups, as many at most, have theirs."""
        if self._memory is None:
            self._memory = np.empty((len(self._free) * self._largest, self.shape[1]), self.dtype)
        for number in groups:
            if number in self._there:
                self._there.move_to_end(number)
        for number in groups:
            if number not in self._there:
                if not self._free:
                    self._free.append(int(self._place[self._there.popitem(last=False)[0]]))
                rows = self._memory[self._free[-1] * self._largest :][: self._groups[number].rows]
                self._read(rows, self._groups[number])
                self._place[number], self._there[number] = self._free.pop(), None
        return self._memory

    def _read(self, rows: np.ndarray, group: "Group") -> None:
        with np.errstate(over="ignore"):  # infinite values are told by row, where they come in
            columns = np.stack([column.astype(self.dtype, copy=False) for column in group.columns(self.columns)])
        for first in range(0, len(rows), TURNED):
            rows[first : first + TURNED] = columns[:, first : first + TURNED].T

    def shuffled(self, order: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
        """A few groups at a time, in the order in which they first occur; when one has ended, the next begins.

        At the turn t there are the groups t, ..., t + W − 1, so the k-th is spread evenly over turns up to the k-th,
        W of them but for the first and the last groups; quarters of turns are as the order was.
        """
        count, n = len(self._groups), len(order)
        parts = [slice(at, at + SORTED) for at in range(0, n, SORTED)]
        # Few bits take little memory, and NumPy sorts them by counting.
        kept = np.empty(n, np.min_scalar_type(4 * count))
        first = np.full(count, n)
        for part in reversed(parts):
            kept[part] = np.searchsorted(self._ends, order[part], side="right")
            # The last that is assigned stays: where a group is met first.
            first[kept[part][::-1]] = np.arange(part.start, min(part.stop, n))[::-1]
        k = np.empty(count, int)
        k[np.argsort(first, kind="stable")] = np.arange(count)
        together = min(count, max(1, self._most - 1))  # one more is being read
        begin, end = np.maximum(0, k - together + 1), np.minimum(k + 1, count - together + 1)
        for part in parts:
            group, numbers = kept[part].astype(int), np.arange(part.start, min(part.stop, n))
            kept[part] = 4 * begin[group] + numbers * 4 * (end - begin)[group] // n
        return order[np.argsort(kept, kind="stable")]

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
    """Some rows of a file: how many, and what reads some of their columns as one of Arrow's tables.

    The file is opened for each: of thousands of files not all can be open at once, and one on a drive that has vanished
    meanwhile is an error, where pages that are mapped would end the process.
    """

    file: Path
    rows: int
    read: Callable[[Sequence[str]], Any]

    def columns(self, names: Sequence[str]) -> list[np.ndarray]:
        """Some columns as numbers.

        Raises:
            ValueError: if one has gaps.
            OSError: if the file cannot be read any more.
        """
        try:
            table = self.read(names)
        except OSError as error:
            raise OSError(f"{self.file} cannot be read any more: {error}") from error
        return [self._numbers(table.column(name), name) for name in names]

    def _numbers(self, column: Any, name: str) -> np.ndarray:
        if column.null_count:
            raise ValueError(
                f"column {name} has {column.null_count} gaps in {self.rows} rows of {self.file}; fill them, or leave "
                "the column or the rows out"
            )
        return column.to_numpy() if hasattr(column, "chunks") else column.to_numpy(zero_copy_only=False)


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

    def opened(path: Path) -> _Opened:
        whole = pyarrow.parquet.read_metadata(path)

        def read(number: int, names: Sequence[str]) -> Any:
            with pyarrow.parquet.ParquetFile(path, metadata=whole) as file:
                return file.read_row_group(number, columns=list(names))

        return whole.schema.to_arrow_schema(), [whole.row_group(n).num_rows for n in range(whole.num_row_groups)], read

    return _data(files, "parquet", opened, target, weights, columns, dtype, memory)


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

    def opened(path: Path) -> _Opened:
        with pyarrow.memory_map(str(path)) as mapped:
            file = pyarrow.ipc.open_file(mapped)
            rows = [file.get_batch(number).num_rows for number in range(file.num_record_batches)]

        def read(number: int, names: Sequence[str]) -> Any:
            return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).get_batch(number).select(list(names))

        return file.schema, rows, read

    return _data(files, "arrow", opened, target, weights, columns, dtype, memory)


_Opened = tuple[Any, list[int], Callable[[int, Sequence[str]], Any]]
"""A file's schema, how many rows its groups have, and what reads columns of the group with a number."""


def _need_arrow() -> None:
    needed("pyarrow", extra="data", what="tables are read by pyarrow")


def _files(files: Any, ending: str) -> list[Path]:
    if isinstance(files, (str, os.PathLike)):
        folder = Path(files)
        found = (
            sorted(folder.glob(f"*.{ending}"))
            if folder.is_dir()
            else sorted(map(Path, glob.glob(str(files), recursive=True)))
        )
    else:
        found = [Path(file) for file in files]
    if not found or not all(path.is_file() for path in found):
        raise ValueError(f"expected .{ending} files, but there are none at {files!r}")
    return found


def _data(
    files: Any,
    ending: str,
    opened: Callable[[Path], _Opened],
    target: str | Sequence[str],
    weights: str | None,
    columns: Sequence[str] | None,
    dtype: Any,
    memory: int,
) -> Data:
    import pyarrow

    targets = [target] if isinstance(target, str) else list(target)
    others = [*targets, *([] if weights is None else [weights])]
    found, groups = _files(files, ending), []
    inputs = None if columns is None else list(columns)
    for path in found:
        try:
            schema, rows, read = opened(path)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(
                f"{path} is not a whole .{ending} file ({error}); write it again, or leave it out"
            ) from error
        if not any(rows):  # as is written for no results: often without types
            continue
        inputs = [name for name in schema.names if name not in others] if inputs is None else inputs
        if missing := [name for name in (*others, *inputs) if name not in schema.names]:
            raise ValueError(f"expected columns {', '.join(missing)} in {path}, which has {', '.join(schema.names)}")
        for name in (*others, *inputs):
            kind = schema.field(name).type
            if not any(
                of(kind) for of in (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean)
            ):
                raise TypeError(
                    f"expected numbers in column {name}, got {kind} in {path}; encode it first, or leave it out"
                )
        groups += [Group(path, n, functools.partial(read, number)) for number, n in enumerate(rows) if n]
    if not groups or not inputs:
        raise ValueError(f"expected rows and at least one column of inputs, got {len(groups)} groups of {inputs}")
    short = [np.concatenate(parts) for parts in zip(*(group.columns(others) for group in groups), strict=True)]
    y = np.stack(short[: len(targets)], axis=1)
    labels = len(targets) == 1 and np.issubdtype(y.dtype, np.integer)
    return Data(
        Grouped(found, groups, inputs, dtype, memory),
        y[:, 0] if labels else y.astype(dtype),
        None if weights is None else short[-1],
    )
