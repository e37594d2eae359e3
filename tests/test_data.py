"""Examples on disk: the rows as they were written, in an order that is a function of key and epoch, for training."""

import functools
import os
import resource
import tracemalloc

import jax
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

import jnn
from jnn import Checkpoints, adam, data, fit, mlp, transforms
from jnn.likelihoods import Categorical, Gaussian
from tests import typechecker

RNG = np.random.default_rng(16)
N, GROUP = 120, 10
X = RNG.normal(size=(N, 3)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int64)
V = np.linspace(0.5, 2, N)
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1], "label": LABELS, "c": X[:, 2], "v": V, "t": X[:, 0].astype(float)})


@pytest.fixture
def files(tmp_path):
    """A folder of two files, of seven and five groups."""
    for number, part in enumerate((TABLE.slice(0, 70), TABLE.slice(70))):
        pq.write_table(part, tmp_path / f"{number}.parquet", row_group_size=GROUP)
    return tmp_path


labelled = functools.partial(data.parquet, target="label", weights="v", columns=["a", "b", "c"])
train = functools.partial(
    fit, mlp([3, 4, 2]), Categorical(), key=jax.random.key(1), epochs=3, batch_size=8, optimizer=adam(0.02),
    rows_on_device=32,
)  # fmt: skip


def assert_equal(a, b):
    for left, right in zip(jax.tree.leaves((a.params, a.last_params)), jax.tree.leaves((b.params, b.last_params)),
                           strict=True):  # fmt: skip
        np.testing.assert_array_equal(left, right)


def test_rows_are_those_that_were_written(files):
    for given in (files, str(files / "*.parquet"), [files / "0.parquet", str(files / "1.parquet")]):
        read = labelled(given)
        numbers = RNG.integers(0, N, (4, 5))
        np.testing.assert_array_equal(read.x[numbers], X[numbers])
        np.testing.assert_array_equal(np.asarray(read.x), X)
        np.testing.assert_array_equal(read.y, LABELS)
        np.testing.assert_array_equal(read.weights, V)
    several = data.parquet(files, target=["t", "v"])
    assert several.x.columns == ("a", "b", "label", "c")
    assert several.y.shape == (N, 2)
    assert data.parquet(files / "0.parquet", target="t").y.shape == (70, 1)


def test_arrow_files(tmp_path):
    pyarrow.feather.write_feather(TABLE, tmp_path / "x.arrow", compression="uncompressed", chunksize=GROUP)
    read = data.arrow(tmp_path, target="label", weights="v")
    assert read.x.columns == ("a", "b", "c", "t")
    np.testing.assert_array_equal(np.asarray(read.x)[:, :3], X)


@pytest.mark.parametrize("out", [np.empty((4, 5, 3), np.float32), np.empty((4, 5, 3)), np.empty((3, 5, 4)).T[:, ::-1]])
def test_rows_are_read_into_any_array(files, out):
    read, numbers = labelled(files).x, RNG.integers(N, size=(4, 5))
    read.read(numbers, out)
    np.testing.assert_array_equal(out, X[numbers])


def test_an_order_takes_some_groups_at_a_time(files):
    read = labelled(files, memory=4 * GROUP * 3 * 4).x
    order = RNG.permutation(N)
    mixed = read.shuffled(order)
    np.testing.assert_array_equal(np.sort(mixed), np.arange(N))
    group = mixed // GROUP
    first, last = (np.array([some(np.flatnonzero(group == number)) for number in range(12)]) for some in (min, max))
    begun = [((first <= place) & (place <= last)).sum() for place in range(N)]
    assert max(begun) == 3  # as one more is being read
    assert np.mean(np.diff(group) != 0) > 0.5  # of three groups in turn, two thirds
    # A group's rows are spread over its time, in the order that was given.
    at = np.argsort(order)
    assert all(np.all(np.diff(at[mixed[group == number]]) > 0) for number in range(12))
    assert np.median(last - first) > 20
    np.testing.assert_array_equal(labelled(files).x.shuffled(order), order)  # there is room for all
    np.testing.assert_array_equal(read.shuffled(order[:0]), order[:0])
    some = order[:50]
    np.testing.assert_array_equal(np.sort(read.shuffled(some)), np.sort(some))
    read[mixed]
    assert len(read._there) == 4
    assert read._memory is not None
    assert read._memory.shape == (4 * GROUP, 3)


def test_training_is_that_on_the_same_rows_in_memory(files):
    """With room for all groups, in the same order, so to the last bit."""
    read = labelled(files)
    assert_equal(train(read.x, read.y, weights=read.weights, validation=0.2),
                 train(X, LABELS, weights=V, validation=0.2))  # fmt: skip
    scale = data.standardize(read.x)
    scaled = transforms.Standardize.apply(scale, X)
    assert_equal(train(data.Transformed(read.x, scale), read.y), train(scaled, LABELS))
    assert_equal(train(read.x, read.y, shuffle=False), train(X, LABELS, shuffle=False))
    with typechecker.off():  # without rows_on_device: from disk all the same
        settings = {"key": jax.random.key(1), "epochs": 3, "batch_size": 8}
        whole = fit(mlp([3, 4, 2]), Categorical(), read.x, read.y, **settings)
    assert_equal(whole, fit(mlp([3, 4, 2]), Categorical(), X, LABELS, rows_on_device=65_536, **settings))


def test_every_row_comes_once_an_epoch_on_any_number_of_devices(files, monkeypatch):
    taken = []
    original = data.Grouped.read

    def counted(self, numbers, out):
        taken.append(np.ravel(numbers))
        return original(self, numbers, out)

    few = 3 * GROUP * 3 * 4
    plain = train(labelled(files, memory=few).x, LABELS, epochs=2, rows_on_device=240)
    read = labelled(files, memory=few)
    monkeypatch.setattr(data.Grouped, "read", counted)
    taken.clear()
    divided = train(read.x, LABELS, epochs=2, rows_on_device=240, devices=jax.devices())
    for a, b in zip(jax.tree.leaves(plain.params), jax.tree.leaves(divided.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32, sums in another order
    numbers = np.concatenate(taken)[N:]  # after the look at all values
    assert len(numbers) == 2 * N
    first, second = np.array_split(numbers, 2)
    np.testing.assert_array_equal(np.sort(first), np.arange(N))
    assert (first != second).any()


def test_it_goes_on_within_an_epoch(files, tmp_path):
    def read():
        return labelled(files, memory=3 * GROUP * 3 * 4).x

    class Stopping(data.OnDisk):
        """A source of one's own, which fails once."""

        def __init__(self, left):
            self.rows, self.shape, self.dtype, self.left = read(), (N, 3), np.dtype(np.float32), left

        def __getitem__(self, numbers):
            self.left -= np.ndim(numbers) == 2
            if self.left == 0:
                raise OSError("the disk is gone")
            return self.rows[numbers]

        def fingerprint(self):
            return "mine"

    kept = Checkpoints(tmp_path / "run", seconds=0)
    whole = train(Stopping(-1), LABELS)
    for left in (3, 9, 14):
        with pytest.raises(OSError, match="the disk is gone"):
            train(Stopping(left), LABELS, checkpoint=kept)
    assert_equal(train(Stopping(-1), LABELS, checkpoint=kept), whole)
    other = data.Transformed(read(), data.standardize(X))
    with pytest.raises(ValueError, match="what differs: x "):
        train(other, LABELS, checkpoint=kept)


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_standardization_in_one_pass(scale, monkeypatch):
    monkeypatch.setattr(data, "BLOCK", 17 * 4 * 8)
    x = np.column_stack([scale * X.astype(float) + 3, np.full(N, 0.1)])
    found, expected = data.standardize(x), transforms.Standardize.fit(x)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-13, atol=1e-15 * scale)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-7 if scale < 1 else 1e-12)  # of 3 + 1e-8 z
    with pytest.raises(ValueError, match="NaN or infinite"):
        data.standardize(np.where(x > 2, np.nan, x))


def test_what_it_refuses(files, tmp_path):
    for call, told in (
        (lambda: labelled(tmp_path / "none"), "expected .parquet files, but there are none at"),
        (lambda: labelled(files, target="who"), "expected columns who in .*0.parquet, which has a, b, label"),
        (lambda: fit(mlp([3, 1]), Gaussian(), labelled(files).x, V[:, None], key=jax.random.key(0), batch_size=None),
         "taken in mini-batches"),
    ):  # fmt: skip
        with typechecker.off(), pytest.raises(ValueError, match=told):
            call()
    assert jnn.data is data


SECOND_FILES = {
    "other columns": (TABLE.drop_columns("b"), ValueError, "expected columns b in .*2.parquet, which has a, label, c"),
    "strings": (TABLE.set_column(0, "a", pa.array(["?"] * N)), TypeError, "column a, got string in .*2.parquet"),
    "a time": (TABLE.set_column(1, "b", pa.array(np.zeros(N, "M8[s]"))), TypeError, "column b, got timestamp"),
    "gaps": (TABLE.set_column(0, "a", pa.array([None] * 5 + [1.0] * (N - 5))), ValueError,
             "column a has 5 gaps in 120 rows of .*2.parquet; fill them"),
}  # fmt: skip


@pytest.mark.parametrize(("table", "kind", "told"), SECOND_FILES.values(), ids=SECOND_FILES)
def test_a_file_unlike_the_others_is_named(table, kind, told, files):
    pq.write_table(table, files / "2.parquet")
    with pytest.raises(kind, match=told):
        labelled(files).x[np.array([N])]


@pytest.mark.parametrize("content", [b"", b"no table at all"])
def test_a_file_that_is_none_is_named(content, files):
    (files / "2.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"2.parquet is not a whole .parquet file .*; write it again, or leave it out"):
        labelled(files)


def test_files_may_be_many_differ_in_order_and_be_without_rows(files):
    """More than can be open at once; the first, as Spark and pandas write it for no rows, without types."""
    pq.write_table(pa.table({name: pa.nulls(0) for name in TABLE.column_names}), files / "-.parquet")
    pq.write_table(TABLE.select(TABLE.column_names[::-1]), files / "2.parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 3, hard))
        read = labelled([files / "-.parquet", *[files / "2.parquet"] * 50])
        np.testing.assert_array_equal(np.asarray(read.x), np.tile(X, (50, 1)))
        np.testing.assert_array_equal(read.y, np.tile(LABELS, 50))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_drive_that_vanishes_is_told_and_training_goes_on_when_it_is_back(files, tmp_path):
    """In the same process, too: what had no time to be read has taken nobody's place in memory."""
    kept, few = Checkpoints(tmp_path / "run", seconds=0), 3 * GROUP * 3 * 4
    whole, read = train(labelled(files, memory=few).x, LABELS), labelled(files, memory=few)

    def vanish(seen):
        if seen.epoch == 1:
            (files / "1.parquet").rename(tmp_path / "away")

    with pytest.raises(OSError, match=r"1.parquet cannot be read any more"):
        train(read.x, LABELS, checkpoint=kept, callback=vanish)
    (tmp_path / "away").rename(files / "1.parquet")
    assert_equal(train(read.x, LABELS, checkpoint=kept), whole)
    np.testing.assert_array_equal(np.asarray(read.x), X)


def test_a_group_is_read_once_an_epoch(files, monkeypatch):
    """Though blocks reach from some groups into the next ones; those to validate on, once more."""
    read = labelled(files, memory=4 * GROUP * 3 * 4).x
    taken, original = [], data.Group.columns
    monkeypatch.setattr(data.Group, "columns", lambda group, names: taken.append(group) or original(group, names))
    numbers = read.shuffled(RNG.permutation(N))
    for some in np.array_split(numbers, 7):
        read[some]
    assert len(taken) == N // GROUP
    train(read, LABELS, epochs=1, validation=0.5)
    # Looked at once; then twelve for training, less those that are there yet, and twelve for validation.
    assert len(taken) <= 4 * N // GROUP


def test_putting_rows_in_order_takes_little_memory(tmp_path):
    """Since it is many rows that are on disk."""
    n = 1_000_000
    pq.write_table(pa.table({"a": np.zeros(n, np.float32), "t": np.zeros(n)}), tmp_path / "a.parquet", n // 50)
    read, order = data.parquet(tmp_path, target="t", memory=4 * n // 10).x, RNG.permutation(n)
    tracemalloc.start()
    read.shuffled(order)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Bytes a row: 8 of the order that is returned, 8 of the sort's own, 1 of what is sorted.
    assert peak < 20 * n + 64 * data.SORTED


def test_transformed_rows_are_known_by_the_files_and_the_transform(files, monkeypatch):
    """Without a pass over all rows before each training."""
    x, scale = labelled(files).x, data.standardize(X)
    one, same, other = (
        data.Transformed(x, own) for own in (scale, data.standardize(X), transforms.Standardize.fit(2 * X))
    )
    monkeypatch.setattr(data.Grouped, "__getitem__", lambda *_: pytest.fail("rows were read"))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


def test_blocks_are_as_long_as_memory_allows_and_a_row_at_least(monkeypatch):
    for size, rows in ((3 * 4 * 7, 7), (3 * 4 * 8 - 1, 7), (3 * 4 * N, N), (1, 1)):
        monkeypatch.setattr(data, "BLOCK", size)
        found = list(data.blocks(X))
        assert [len(block) for block in found] == [rows] * (N // rows) + [N % rows] * (N % rows > 0)
        np.testing.assert_array_equal(np.concatenate(found), X)
    assert [block.shape for block in data.blocks(np.empty((3, 0)))] == [(1, 0)] * 3


class Numbers(data.OnDisk):
    """What has rows by number, and nothing else."""

    def __init__(self, x):
        self.x, self.shape, self.dtype = x, x.shape, x.dtype

    def __getitem__(self, numbers):
        return self.x[numbers]


def test_what_has_rows_by_number_is_an_array(monkeypatch):
    own = Numbers(X)
    assert (len(own), own.ndim) == (N, 2)
    np.testing.assert_array_equal(np.asarray(own), X)
    assert np.asarray(own, np.float16).dtype == np.float16
    order = RNG.permutation(N)
    np.testing.assert_array_equal(own.shuffled(order), order)
    scaled = data.Transformed(X, data.standardize(X))
    np.testing.assert_array_equal(scaled.shuffled(order), order)
    assert (scaled.shape, scaled.dtype) == ((N, 3), np.float32)
    changed = X.copy()
    changed[-1, -1] += 1
    words = own.fingerprint()
    monkeypatch.setattr(data, "BLOCK", 100)  # in other blocks
    assert Numbers(X.copy()).fingerprint() == words
    others = (changed, X.astype(float), X.reshape(-1, 4))
    assert len({words, *(Numbers(x).fingerprint() for x in others)}) == 4
    assert data.Transformed(X, data.standardize(X)).fingerprint() == Numbers(np.asarray(scaled)).fingerprint()


def test_what_differs_by_rounding_alone_is_constant(monkeypatch):
    """By 5 and by 20 roundings of float32, about a mean of 1: the first is none."""
    monkeypatch.setattr(data, "BLOCK", 2 * 4 * 4)
    away = np.float32(np.finfo(np.float32).eps) * np.tile([[5, 20], [-5, -20]], (10, 1)).astype(np.float32)
    np.testing.assert_allclose(data.standardize(1 + away).scale, [1, 20 * np.finfo(np.float32).eps], rtol=1e-5)
    whole = data.standardize(np.array([[1, 7], [3, 7], [5, 7]]))
    np.testing.assert_allclose(whole.scale, [np.sqrt(8 / 3), 1], rtol=1e-15)
    np.testing.assert_allclose(whole.mean, [3, 7], rtol=1e-15)


def test_two_groups_are_kept_at_least_and_more_as_memory_allows(files):
    size = GROUP * 3 * 4
    for memory, kept in ((1, 2), (3 * size - 1, 2), (3 * size, 3), (100 * size, 100)):
        read = labelled(files, memory=memory).x
        assert read._most == kept
        np.testing.assert_array_equal(read[np.arange(N)[::-1]], X[::-1])
        assert len(read._there) == min(kept, 12)
    read = labelled(files, memory=2 * size).x
    for numbers in ([0], [GROUP], [0], [2 * GROUP]):
        read[np.array(numbers)]
    assert list(read._there) == [0, 2]  # what was used last stays


def test_groups_of_several_lengths_are_read_in_a_cachefuls_at_a_time(files, monkeypatch):
    monkeypatch.setattr(data, "TURNED", 4)
    pq.write_table(TABLE, files / "2.parquet", row_group_size=37)
    read = labelled(files, memory=1).x
    numbers = RNG.permutation(2 * N)
    np.testing.assert_array_equal(read[numbers], np.concatenate([X, X])[numbers])
    fingerprints = {labelled(files).x.fingerprint(), labelled(files, columns=["a", "b", "t"]).x.fingerprint(),
                    labelled(files, dtype=np.float64).x.fingerprint()}  # fmt: skip
    assert len(fingerprints) == 3
