"""Every experiment at a tiny size: that it runs, and that what it says follows from what it found."""

import numpy as np
import pytest

from experiments import command_line, datasets, gradients, real_data, recipe, statistics
from experiments.experiment import Outcome, Session
from experiments.real_data import Comparison


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    return {name: e.run(Session(seed=3, size="tiny")) for name, e in command_line.EXPERIMENTS.items()}


def test_every_experiment_runs_and_says_something(outcomes: dict[str, Outcome]) -> None:
    for outcome in outcomes.values():
        assert outcome.verdicts
        assert all(v.claim and v.evidence for v in outcome.verdicts)
        assert outcome.pictures
        assert not outcome.interrupted
        for table in outcome.tables:
            assert table.rows
            assert all(len(row) == len(table.columns) for row in table.rows)


def test_every_data_set_is_in_every_table(outcomes: dict[str, Outcome]) -> None:
    titles = {datasets.SOURCES[name].title for name in recipe.EFFORTS["tiny"].names}
    for table in outcomes["real_data"].tables:
        assert {row[0].split(" (")[0] for row in table.rows} == titles
    leaves, differences = outcomes["gradients"].tables
    assert {row[0].split(",")[0] for row in leaves.rows} == titles | {"XOR"}
    assert {row[0] for row in differences.rows} == titles | {"XOR"}


def test_the_tiny_size_has_every_likelihood_and_the_others_every_data_set() -> None:
    likelihoods = {source.likelihood for source in datasets.SOURCES.values()}
    assert {datasets.SOURCES[name].likelihood for name in recipe.EFFORTS["tiny"].names} == likelihoods
    for size in ("quick", "full"):
        assert set(recipe.EFFORTS[size].names) == set(datasets.SOURCES)


def test_the_gradients_agree(outcomes: dict[str, Outcome]) -> None:
    assert [v.holds for v in outcomes["gradients"].verdicts] == [True, True, True]


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdicts would be others if a hand-written derivative were wrong by 1 in 10⁵."""
    right = gradients.backprop.value_and_grad

    def wrong(network, likelihood):
        by_hand = right(network, likelihood)

        def evaluate(*batch):
            value, (first, second) = by_hand(*batch)
            return value, (first, {**second, "b": second["b"] * (1 + 1e-5)})

        return evaluate

    problem = gradients.xor_problem(0)
    with monkeypatch.context() as patched:
        patched.setattr(gradients.backprop, "value_and_grad", wrong)
        found = [gradients.agreement(problem, weights_a_leaf=2, seed=0)]
    assert [verdict(found).holds for verdict in (gradients._exact, gradients._as_accurate, gradients._differences)] == [
        False,
        False,
        False,
    ]


def test_ulps_are_those_of_the_largest_entry() -> None:
    wide = {"hand-written": np.array([[1.0, -3.0]]), "autodiff": np.array([[1.0, -3.0]])}
    narrow = {
        "hand-written": np.array([[1 + 2**-22, -3.0]], np.float32),  # one spacing at 3 is 2^-22
        "autodiff": np.array([[1.0, -3 - 3 * 2**-22]], np.float32),
    }
    leaf = gradients.compare_leaf("W1", narrow, wide)
    assert leaf.ulps == {"hand-written": 1.0, "autodiff": 3.0}
    assert leaf.relative == 0


def comparison(jnn: list[float], linear: list[float], name: str = "iris") -> Comparison:
    data = datasets.split(name, splits=len(jnn), seed=0, examples=60)
    trained = recipe.Trained(data, None, None, None, 0.0, 0.0)  # type: ignore[arg-type]
    return Comparison(trained, {"jnn": np.array(jnn), "linear": np.array(linear)}, {})


@pytest.mark.parametrize(
    ("jnn", "holds"),
    [
        ([5.0, 5.1, 4.9, 5.0], True),
        ([9.0, 9.1, 8.9, 9.0], False),
        ([5.0, 25.0, 0.0, 9.0], None),
        ([6.0, 6.1, 5.9, 6.0], True),  # worse, but by less than the margin of 2 percentage points
    ],
)
def test_the_verdict_follows_from_the_errors(jnn: list[float], holds: bool | None) -> None:
    verdict = real_data.verdict([comparison(jnn, [5.0, 5.0, 5.0, 5.0])], "linear", "the linear model")
    assert verdict.holds is holds


def test_one_bad_data_set_refutes_the_verdict() -> None:
    good, bad = comparison([5.0, 5.1, 5.0], [5.0] * 3), comparison([0.9, 0.9, 0.91], [0.5] * 3, "diabetes")
    assert real_data.verdict([good, bad], "linear", "the linear model").holds is False


@pytest.mark.parametrize("name", datasets.SOURCES)
def test_splits_are_disjoint_stratified_and_standardized_by_the_training_part(name: str) -> None:
    data = datasets.split(name, splits=2, seed=1)
    x, _ = data.source.load(return_X_y=True)
    assert data.train.x.dtype == data.test.x.dtype == np.float32
    assert data.train.x.shape[1] + data.test.x.shape[1] == len(x)
    varies = data.train.x.std(axis=1) > 0
    # Means of up to 1,300 float32 numbers of size 1: errors of some 10⁻⁷ each, no more when summed.
    np.testing.assert_allclose(data.train.x.mean(axis=1, dtype=np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(data.train.x.std(axis=1, dtype=np.float64)[varies], 1, atol=1e-5)
    assert np.abs(data.test.x.mean(axis=1)[varies]).max() > 1e-3
    if data.source.classes:
        shares = [np.bincount(part.y[0]) / part.y.shape[1] for part in (data.train, data.test)]
        np.testing.assert_allclose(*shares, atol=1 / data.test.y.shape[1])
    # Both parts together are the data set again, shifted and scaled: nothing twice, nothing lost.
    together = np.sort(np.concatenate([data.train.x[0, :, -1], data.test.x[0, :, -1]]).astype(np.float64))
    assert np.corrcoef(together, np.sort(x[:, -1]))[0, 1] > 1 - 1e-6


def test_the_corrected_error_is_nadeau_and_bengios() -> None:
    estimate = statistics.over_splits([1.0, 2.0, 3.0, 4.0], train=75, test=25)
    assert estimate.mean == 2.5
    assert estimate.error == pytest.approx(np.sqrt((1 / 4 + 1 / 3) * np.var([1, 2, 3, 4], ddof=1)), rel=1e-12)
    assert estimate.high - estimate.mean == pytest.approx(3.182446305284263 * estimate.error, rel=1e-9)  # t table, 3 df


def test_share_has_wilsons_interval() -> None:
    estimate = statistics.share(0, 10)
    assert estimate.low == 0
    assert estimate.high == pytest.approx(1.959963984540054**2 / (10 + 1.959963984540054**2), rel=1e-9)


def test_an_interrupted_experiment_reports_what_is_done() -> None:
    session = Session(stop_asked=lambda: True)
    assert list(session.each([1, 2, 3])) == [1]
    assert session.interrupted
