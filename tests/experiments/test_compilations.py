"""Other numbers compile nothing, other sizes seldom: a selection of what the command counts."""

import functools

import numpy as np
import pytest

import jnn
from experiments.benchmarks import compilations
from experiments.benchmarks.compilations import Found, Series
from jnn import likelihoods
from jnn.model import Model

CHOSEN = {
    "fit": {"learning rate", "weight decay", "patience", "GL's threshold", "tol", "validate_every", "seed"},
    "MLPClassifier, adam": {"learning rate", "β₁", "ε", "seed"},
    "MLPRegressor, sgd": {"momentum", "tol", "weight decay"},
}
"""Those of one kind have one program together, but for its first fit."""

EARLY = functools.partial(compilations.ESTIMATORS["MLPClassifier"], max_iter=2, early_stopping=True)


@pytest.mark.parametrize("of", CHOSEN)
def test_other_numbers_compile_nothing(of: str) -> None:
    chosen = [series for series in compilations.every_series(quick=True) if series.of == of]
    chosen = [series for series in chosen if series.what in CHOSEN[of]]
    assert {series.what for series in chosen} == CHOSEN[of]
    for series in chosen:
        assert series.bound == 0
        assert compilations.measure(series).training == 0, series.what


@pytest.mark.parametrize(
    ("what", "values", "fit"),
    [
        ("rows", (200, 201, 207, 208), lambda rows: compilations.by_fit(rows=rows)),
        ("epochs", (70, 100, 128), lambda epochs: compilations.by_fit(epochs=epochs)),
        ("members", (5, 6), compilations.by_ensemble),
        ("rows held out", (61, 64), lambda rows: EARLY(rows=rows)),
    ],
)
def test_sizes_share_programs_of_every_kind(what, values, fit) -> None:
    assert compilations.measure(Series("", what, values, fit)).all == 0


def test_what_is_compiled_is_counted() -> None:
    """Another structure is another program: a start and a run."""
    found = compilations.measure(
        Series("fit", "reduction", ("mean", "sum"), lambda reduction: compilations.by_fit(reduction=reduction))
    )
    assert found.training == 1 <= found.all
    assert not found.met


def test_the_table_tells_what_is_not_met() -> None:
    def fit(value: object) -> None:
        del value

    series = Series("fit", "rows", range(5), fit, bound=3, growth=30.0)
    found = [
        Found(series, 3, 9, 29.0),
        Found(series, 4, 9, 0.0),
        Found(series, 0, 9, 31.0),
        Found(series, 0, 0, np.nan),
    ]
    assert [one.met for one in found] == [True, False, False, True]
    rows = compilations.table(found).rows
    assert rows[0] == ("fit: rows", "4", "3", "3", "9", "29.0", "30")
    assert rows[1][0] == "fit: rows  (not met)"


def test_the_first_prediction_of_a_model_compiles_itself_and_the_layout_of_the_parameters() -> None:
    network = jnn.mlp([7, 5, 3], "sigmoid")  # of no other test
    sizes = [(7, 5), (5, 3)]
    params = tuple({"W": np.ones((2, m, n), np.float32), "b": np.ones((2, n), np.float32)} for m, n in sizes)
    model = Model(network, likelihoods.Categorical(), params)
    with compilations.compilations() as found:
        model.mean(np.ones((4, 7), np.float32))
    assert found["_mean"] == 1
    assert set(found) <= {"_mean", "reshape", "stage"}, found  # what finds the parameters' shapes computes nothing
