"""Tables against what they hold: one content as pandas, polars, Arrow and an array; and one-hot by scikit-learn."""

import datetime
import warnings
from decimal import Decimal
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder

from jnn.tables import Categories, ColumnError, Table, all_numbers, is_table
from jnn.transforms import Encode

pandas = pytest.importorskip("pandas", reason="needs pandas: pip install 'jnn[test]'")

CITY = ["Rome", None, "Oslo", "Rome", "Oslo", "Rome", "Oslo", "Bonn"]
FRAME = pandas.DataFrame(
    {
        "age": [30.0, 41.5, np.nan, 22, 35, 60, 18, 44],
        "city": CITY,
        "size": pandas.Categorical(["s", "m", "m", "s", "m", "m", "s", "s"]),
        "paid": [True, False, True, True, False, False, True, False],
        "count": pandas.array([1, None, 3, 4, 5, 6, 7, 8], dtype="Int64"),
    }
)
MATRIX = np.array(
    [
        [30.0, 41.5, np.nan, 22, 35, 60, 18, 44],
        [1, np.nan, 0, 1, 0, 1, 0, 2],  # Oslo, Rome, and one Bonn, which is rare
        [1, 0, 0, 1, 0, 0, 1, 1],
        [1, 0, 1, 1, 0, 0, 1, 0],
        [1, np.nan, 3, 4, 5, 6, 7, 8],
    ]
).T


def forms():
    """The same table as several packages have it."""
    yield "pandas", FRAME
    yield "objects", FRAME.assign(city=FRAME["city"].astype(object))
    arrow = pytest.importorskip("pyarrow").Table.from_pandas(FRAME)
    yield "Arrow", arrow
    polars = pytest.importorskip("polars")
    yield "polars", polars.from_pandas(FRAME)
    yield "polars, categories", polars.from_pandas(FRAME).with_columns(polars.col("city").cast(polars.Categorical))
    yield "array", FRAME.astype(object).to_numpy()


@pytest.mark.parametrize("number", range(6))
def test_all_forms_of_a_table_are_one_matrix(number):
    name, form = list(forms())[number]
    table = Table.fit(form)
    assert is_table(form) == (name != "array")
    assert table.names == (None if name == "array" else tuple(FRAME))
    assert table.counts == (0, 3, 2, 0, 0)
    np.testing.assert_array_equal(table.apply(form), MATRIX)
    np.testing.assert_array_equal(Table.fit(FRAME).apply(form), MATRIX)  # learned from another


def test_what_was_not_seen_is_rare_or_missing():
    table = Table.fit(FRAME)
    new = FRAME.iloc[:2].assign(city=["Lima", "Bonn"], size=["xl", None])
    np.testing.assert_array_equal(table.apply(new)[:, 1:3], [[2, np.nan], [2, np.nan]])


def test_three_of_a_kind_are_a_category_and_no_more_than_255_are():
    two = Categories.fit(["b"] * 3 + ["a"] * 2 + [None] * 9)
    assert (two.values, two.numbers, two.other, len(two)) == (("a", "b"), (1, 0), 1, 2)
    np.testing.assert_array_equal(two.apply(["b", "a", "?", None]), [0, 1, 1, np.nan])
    none_rare = Categories.fit(["b"] * 3 + ["a"] * 3)
    assert (none_rare.numbers, none_rare.other) == ((0, 1), -1)
    np.testing.assert_array_equal(none_rare.apply(["?", "b"]), [np.nan, 1])
    # The rarest go together, of equally rare ones the last: here 0 (three of it) and 256 beyond 255 with four.
    cells = [value for value in range(257) for _ in range(3 if value == 0 else 4)]
    many = Categories.fit(cells)
    assert (len(many), many.other) == (256, 255)
    assert many.numbers == (255, *range(255), 255)
    assert Categories.fit(cells[3:-4]).other == -1
    mixed = Categories.fit([*["1"] * 3, *[1] * 3, *[2.0] * 3])  # by type, then by value
    assert mixed.values == (2.0, 1, "1")


def test_no_column_need_hold_numbers():
    table = Table.fit(np.empty((0, 0)))
    assert table.apply(np.empty((0, 0))).shape == (0, 0)
    assert not Table.fit(np.ones((2, 1))).has_categories
    assert Table.fit(FRAME).has_categories
    assert Table.fit(np.ones((2, 1))).named(0) == "column 0"
    with pytest.raises(ColumnError, match=r"shape \(n, d\); got shape \(3,\)"):
        Table.fit(np.ones(3))
    numbers = (np.ones(2), np.ones(2, bool), FRAME[["age", "paid"]])
    assert all(all_numbers(x) for x in numbers)
    assert not any(all_numbers(x) for x in (np.array(["a"]), [1], FRAME))


def test_which_columns_hold_categories():
    x = np.array([[0, 1.5], [1, 2.5], [0, 1.5], [1, 2.5], [0, 2.5], [1, 1.5]])
    assert Table.fit(x).counts == (0, 0)
    for chosen in ([0], np.array([0]), [True, False]):
        table = Table.fit(x, chosen)
        assert table.counts == (2, 0)
        np.testing.assert_array_equal(table.apply(x), x)
    named = pandas.DataFrame(x, columns=["a", "b"])
    assert Table.fit(named, ["b"]).counts == (0, 2)
    np.testing.assert_array_equal(Table.fit(named, ["b"]).apply(named)[:, 1], x[:, 1] - 1.5)
    for wrong, said in (([2], "no such column"), (["c"], "no such"), ([True], "2 booleans"), ("all", "from_dtype")):
        with pytest.raises(ColumnError, match=said):
            Table.fit(named, wrong)


@pytest.mark.parametrize(
    "dates",
    [
        pandas.date_range("2026-01-01", periods=8),
        pandas.date_range("2026-01-01", periods=8).astype(str),
        ["1.2.2026"] * 8,
        [datetime.date(2026, 1, 1)] * 8,
        pandas.period_range("2026-01", periods=8, freq="M"),
    ],
)
@pytest.mark.parametrize("package", ["pandas", "polars", "pyarrow"])
def test_dates_are_refused_with_a_hint(dates, package):
    frame = pandas.DataFrame({"a": range(8), "when": dates})
    if package == "polars":
        frame = pytest.importorskip("polars").from_pandas(frame.astype({"when": str}))
    elif package == "pyarrow":
        frame = pytest.importorskip("pyarrow").table({"a": list(range(8)), "when": list(map(str, frame["when"]))})
    if "M" in str(getattr(dates, "dtype", "")) and package != "pandas":
        return  # a month as a string is a category like any other
    with pytest.raises(ColumnError, match=r"column 'when' holds dates.*days since the first"):
        Table.fit(frame)


def test_lengths_of_time_are_refused_with_a_hint_of_their_own():
    days = pandas.to_timedelta(range(8), unit="D")
    pyarrow = pytest.importorskip("pyarrow")
    objects = pandas.DataFrame({"lasted": days.to_pytimedelta().astype(object)})
    for frame in (pandas.DataFrame({"lasted": days}), objects, pyarrow.table({"lasted": list(days.to_pytimedelta())})):
        with pytest.raises(ColumnError, match=r"column 'lasted' holds lengths of time.*pandas.Timedelta"):
            Table.fit(frame)


def test_exact_numbers_are_numbers():
    """As they come from databases, and from Parquet files that these have written."""
    prices = [Decimal("1.25"), None, Decimal("3"), Decimal("2.5")]
    halves = [Fraction(1, 2), Fraction(3, 2), Fraction(1, 4), Fraction(0)]
    expected = [[1.25, 0.5], [np.nan, 1.5], [3, 0.25], [2.5, 0]]
    frame = pandas.DataFrame({"price": prices, "half": halves})
    assert Table.fit(frame).counts == (0, 0)
    np.testing.assert_array_equal(Table.fit(frame).apply(frame), expected)
    np.testing.assert_array_equal(Table.fit(frame.to_numpy()).apply(frame.to_numpy()), expected)
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"price": pyarrow.array(prices, pyarrow.decimal128(6, 2))})
    np.testing.assert_array_equal(Table.fit(table).apply(table)[:, 0], [1.25, np.nan, 3, 2.5])


def test_columns_are_named_in_errors():
    with pytest.raises(ColumnError, match="convert string to float: column 'city' has 'Rome' in row 0"):
        Table.fit(FRAME, None)
    with pytest.raises(ColumnError, match="column 1 has 'Rome'"):
        Table.fit(FRAME.astype(object).to_numpy(), None)
    with pytest.raises(TypeError, match="not 'dict', in column 'a'"):
        Table.fit(pandas.DataFrame({"a": [{}, 1]}))
    table = Table.fit(FRAME)
    with pytest.raises(ColumnError, match="'age' as column 0; got 'count'"):
        table.apply(FRAME[FRAME.columns[::-1]])
    with pytest.raises(ColumnError, match="5 columns, got 4"):
        table.apply(FRAME.drop(columns="age"))
    with pytest.raises(ColumnError, match="column 'age' has 'old' in row 0"):
        table.apply(FRAME.assign(age="old"))


def test_a_column_that_is_a_name_for_each_row_is_said_to_be_of_no_use():
    with pytest.warns(UserWarning, match="column 'id' is of no use: each of its 8 values is rare"):
        Table.fit(FRAME.assign(id=[f"row {n}" for n in range(8)]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Table.fit(FRAME)


# --- what becomes of it


def test_one_hot_is_scikit_learns():
    x = np.random.default_rng(0).integers(0, [3, 2, 5], (60, 3)).astype(float)
    ours = Encode.fit(x, (3, 2, 5)).apply(x)
    np.testing.assert_array_equal(ours, OneHotEncoder(drop="if_binary", sparse_output=False).fit_transform(x))


def test_gaps_become_the_median_and_a_column_that_tells_of_them():
    x = np.array([[1.0, 0, 7], [np.nan, 1, 7], [3, np.nan, 7], [9, 1, 7], [np.nan, 0, np.nan], [np.nan, 1, 7]])
    encode = Encode.fit(x, (0, 2, 0))
    assert encode.source == (0, 0, 1, 2)  # one gap in a column is not enough to be learned from
    expected = [[1, 0, 0, 7], [3, 1, 1, 7], [3, 0, 0.6, 7], [9, 0, 1, 7], [3, 1, 0, 7], [3, 1, 1, 7]]
    np.testing.assert_allclose(encode.apply(x), expected)
    np.testing.assert_allclose(jax.jit(lambda x: encode.apply(x))(jnp.asarray(x)), expected)
    np.testing.assert_allclose(encode.apply(x[0]), expected[0])
    several = np.array([[0, np.nan], [np.nan, 1], [np.nan, 1], [np.nan, 2], [1, 0]])
    both = Encode.fit(several, (2, 3)).apply(several)
    # Two categories and gaps are three; what is missing without that it was learned is the average of what is there.
    np.testing.assert_allclose(both[:2], [[1, 0, 0, 0.25, 0.5, 0.25], [0, 0, 1, 0, 1, 0]])


def test_gaps_that_are_always_together_need_one_column():
    x = np.where(np.arange(8)[:, None] < 3, np.nan, np.arange(16.0).reshape(8, 2))
    assert Encode.fit(x).source == (0, 0, 1)
    with pytest.raises(ValueError, match="2 columns"):
        Encode.fit(x).apply(x[:, :1])
    with pytest.raises(NotImplementedError):
        Encode.fit(x).undo(x)
