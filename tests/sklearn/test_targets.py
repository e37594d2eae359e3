"""What estimators learn of targets, and make of what members say of them: by hand, mostly without training."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning

from jnn import likelihoods
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Poisson, SquaredError
from jnn.sklearn import MLPClassifier, MLPRegressor
from jnn.sklearn.classifier import is_missing

RNG = np.random.default_rng(0)
Y = np.c_[RNG.normal(3, 2, size=20), RNG.normal(-50, 10, size=20)]
V = RNG.integers(1, 4, 20).astype(float)


# --- the regressor


def test_targets_are_rows_and_a_column_is_one_target() -> None:
    model = MLPRegressor()
    assert model._checked([1, 2, 3]).tolist() == [[1], [2], [3]]
    with pytest.warns(UserWarning, match="column-vector"):
        assert model._checked([[1], [2]]).tolist() == [[1], [2]]
    assert model._checked([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("weights", [None, V])
def test_targets_are_standardized_by_the_weighted_examples(weights) -> None:
    model = MLPRegressor()
    z, v = model._learned(Y, weights, "first", None)
    assert v is weights
    mean = np.average(Y, axis=0, weights=weights)
    scale = np.sqrt(np.average((Y - mean) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose(z, (Y - mean) / scale, rtol=1e-5, atol=1e-6)  # float32
    assert z.dtype == np.float32
    np.testing.assert_allclose(model._unit, scale, rtol=1e-12)
    assert (model.likelihood_, model.n_outputs_, model._flat, model.out_activation_) == (
        Gaussian(),
        2,
        False,
        "identity",
    )
    again, _ = model._learned(Y + 1, None, "part", None)  # as the first ones were
    np.testing.assert_allclose(again - z, np.broadcast_to(1 / scale, z.shape), rtol=1e-4)
    assert MLPRegressor(dtype="float64")._learned(Y, None, "first", None)[0].dtype == np.float64


@pytest.mark.parametrize("weights", [None, V])
def test_counts_are_in_units_of_their_weighted_mean(weights) -> None:
    y = np.c_[np.arange(20.0), np.zeros(20)]
    model = MLPRegressor(loss="poisson")
    z, _ = model._learned(y, weights, "first", None)
    mean = np.average(y[:, 0], weights=weights)
    np.testing.assert_allclose(z, y / [mean, 1], rtol=1e-6)
    assert (model.likelihood_, model.out_activation_, model._unit) == (Poisson(), "exp", 1.0)
    params = ({"W": np.ones((2, 3)), "b": np.ones(3)}, {"W": np.ones((3, 2)), "b": np.array([0.5, 2.0])})
    for of, sign in (("targets", 1), ("training", -1)):
        hidden, last = model._in_units(params, of=of)
        assert hidden is params[0]
        assert last["W"] is params[1]["W"]
        np.testing.assert_allclose(last["b"], [0.5 + sign * np.log(mean), 2], rtol=1e-12)
    assert MLPRegressor(loss="poisson")._learned(y[:, :1], None, "first", None)[0].shape == (20, 1)


@pytest.mark.parametrize(
    ("chosen", "scaled"),
    [
        ({}, True),
        ({"likelihood": Gaussian(0.5)}, True),
        ({"likelihood": HeteroscedasticGaussian()}, True),
        ({"likelihood": SquaredError("identity")}, True),
        ({"likelihood": SquaredError("tanh")}, False),
        ({"likelihood": Bernoulli()}, False),
        ({"likelihood": Poisson()}, False),
        ({"loss": "poisson"}, False),
        ({"standardize": False}, False),
        ({"standardize": False, "loss": "poisson"}, False),
    ],
)
def test_only_targets_of_linear_outputs_are_standardized(chosen, scaled) -> None:
    y = np.abs(Y[:, :1])
    model = MLPRegressor(**chosen)
    z, _ = model._learned(y, None, "first", None)
    assert (model._target_scaling is not None) == scaled
    assert model._flat
    if "likelihood" in chosen:
        assert model.likelihood_ == chosen["likelihood"]
    counts = isinstance(model.likelihood_, Poisson) and model.standardize
    assert bool(model._log_unit.any()) == counts
    if not scaled and not counts:
        np.testing.assert_allclose(z, y, rtol=1e-6)


@pytest.fixture(scope="module")
def measured():
    """Of several likelihoods: the estimator, and what it was measured by."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 2))
    y = np.c_[x[:, 0] + rng.normal(size=60), 20 * x[:, 1] + 100]
    chosen = {"Gaussian": {}, "learned": {"likelihood": HeteroscedasticGaussian()}, "Poisson": {"loss": "poisson"}}
    seen = {}

    class Watched(MLPRegressor):
        def _measure(self, z, y, held_out):
            seen[self.random_state] = z, y, held_out
            super()._measure(z, y, held_out)

    settings = {
        "hidden_layer_sizes": 3,
        "members": 2,
        "max_iter": 4,
        "early_stopping": True,
        "validation_fraction": 0.3,
    }
    made = {}
    for number, (name, more) in enumerate(chosen.items()):
        target = np.abs(np.round(y)) if name == "Poisson" else y
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = Watched(random_state=number, **settings, **more).fit(x, target)
        made[name] = model, x, target, *seen[number]
    return made


@pytest.mark.parametrize("name", ["Gaussian", "learned", "Poisson"])
def test_deviations_and_intervals_are_read_off_what_was_held_out(name, measured) -> None:
    model, x, y, z, _, held_out = measured[name]
    a = np.stack([model.network_.apply(jax.tree.map(lambda leaf, m=m: leaf[m], model.params_), z) for m in range(2)])
    a = a.astype(np.float64)
    unit = y.std(axis=0) if name != "Poisson" else np.ones(2)
    shift = y.mean(axis=0) if name != "Poisson" else np.zeros(2)
    of_y = {"Gaussian": a, "learned": a[..., :2], "Poisson": np.exp(a)}[name] * unit + shift
    within = {"Gaussian": 0 * a, "learned": np.exp(a[..., 2:]), "Poisson": np.exp(a)}[name] * unit**2
    away = np.concatenate([(of_y[m] - y)[rows] for m, rows in enumerate(held_out)])
    variance = within.mean(axis=0) + of_y.var(axis=0)
    if name == "Gaussian":
        np.testing.assert_allclose(model.noise_, np.sqrt(np.mean(away**2, axis=0)), rtol=1e-5)  # float32 inside
        leverages = model._of_the_seen()
        assert (leverages.noise_share < 1).all()
        sigma2 = model.noise_**2 * leverages.noise_share
        variance = variance + sigma2 * (1 + leverages(z))
        residuals = np.sort(leverages.residuals * unit / np.sqrt(sigma2), axis=0)
    else:
        assert model.noise_ is None
        deviations = np.concatenate([np.sqrt(within[m][rows]) for m, rows in enumerate(held_out)])
        residuals = np.sort(np.abs(away / deviations), axis=0)
    mean, deviation = model.predict(x, return_std=True)
    np.testing.assert_allclose(mean, of_y.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean, model.predict(x), rtol=1e-6)
    np.testing.assert_allclose(deviation, np.sqrt(variance), rtol=1e-4)
    assert len(residuals) == 36
    for coverage, place in ((0.9, 34), (0.5, 19), (36 / 37, 36)):  # the ⌈coverage · 37⌉-th
        low, high = model.predict_interval(x, coverage)
        half = residuals[place - 1] * deviation
        np.testing.assert_allclose(high, mean + half, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            low, np.maximum(mean - half, 0) if name == "Poisson" else mean - half, rtol=1e-4, atol=1e-4
        )
    assert name != "Poisson" or (model.predict_interval(x, 36 / 37)[0] == 0).any()
    np.testing.assert_array_equal(model.predict_interval(x), model.predict_interval(x, 0.9))
    with pytest.raises(ValueError, match="as 36 examples allow"):
        model.predict_interval(x, 36.01 / 37)


def test_noise_without_examples_held_out_is_that_of_all_and_all_members() -> None:
    x = RNG.normal(size=(30, 2))
    y = 5 * x[:, 0] + 7 * RNG.normal(size=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(solver="lbfgs", max_iter=3, members=2, hidden_layer_sizes=2, random_state=0).fit(x, y)
    z = model._prepared(x)
    a = [model.network_.apply(jax.tree.map(lambda leaf, m=m: jnp.asarray(leaf[m]), model.params_), z) for m in (0, 1)]
    each = np.array(a)[..., 0] * y.std() + y.mean()
    np.testing.assert_allclose(model.noise_, [np.sqrt(np.mean((each - y) ** 2))], rtol=1e-5)
    mean, deviation = model.predict(x, return_std=True)
    assert mean.shape == deviation.shape == (30,)
    np.testing.assert_allclose(deviation, np.sqrt(model.noise_[0] ** 2 + each.var(axis=0)), rtol=1e-5)


# --- the classifier


@pytest.mark.parametrize("label", [None, float("nan"), np.float32("nan"), pandas.NA, pandas.NaT])
def test_what_stands_for_a_missing_label(label) -> None:
    assert is_missing(label)
    assert not any(map(is_missing, ["", 0, False, "nan", "None", 2.5]))


def learned(y, weights=None, role="first", classes=None, **chosen):
    model = MLPClassifier(**chosen)
    return model, *model._learned(np.asarray(y), weights, role, classes)


def test_labels_become_what_their_likelihood_takes() -> None:
    model, y, weights = learned(["b", "a", "c", "a"])
    assert (model.likelihood_, model.n_outputs_, model.out_activation_) == (Categorical(), 3, "softmax")
    assert (y.tolist(), y.dtype, weights) == ([1, 0, 2, 0], np.int32, None)
    model, y, _ = learned(["b", "a", "b"])
    assert (model.likelihood_, model.n_outputs_, model.out_activation_) == (Bernoulli(), 1, "logistic")
    assert (y.tolist(), y.dtype) == ([[1], [0], [1]], np.float32)
    model, y, _ = learned([5, 5])
    assert (model.likelihood_, model.n_outputs_, model.classes_.tolist(), y.tolist()) == (
        Bernoulli(),
        1,
        [5],
        [[0], [0]],
    )
    for several in ([[0, 1, 1], [1, 0, 1]], [[0, 1], [1, 1]]):  # two labels are not two classes
        model, y, _ = learned(several)
        assert (model.likelihood_, model.out_activation_) == (Bernoulli(), "logistic")
        assert model.n_outputs_ == len(several[0])
        assert model.classes_.tolist() == list(range(len(several[0])))
        assert (y.tolist(), y.dtype) == (several, np.float32)
    own = likelihoods.SquaredError("softmax")
    assert learned([0, 1, 2], likelihood=own)[0].likelihood_ == own


def test_a_stream_knows_classes_that_its_first_part_lacks() -> None:
    model, y, _ = learned([3, 1], classes=np.array([1, 2, 3]))
    assert (model.classes_.tolist(), model.n_outputs_, y.tolist()) == ([1, 2, 3], 3, [2, 0])
    assert model._learned(np.array([2, 2]), None, "part", None)[0].tolist() == [1, 1]
    with pytest.raises(ValueError, match=r"classes \[4\] that are not in"):
        model._learned(np.array([2, 4]), None, "part", None)
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        model._learned(np.array([1, 2]), None, "again", None)
    assert model._learned(np.array([3, 2, 1]), None, "again", None)[0].tolist() == [2, 1, 0]


def test_weights_of_classes_and_of_examples_are_multiplied() -> None:
    y, chosen = [0, 1, 1, 2], {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}}
    assert learned(y, **chosen)[2].tolist() == [1, 3, 3, 0.5]
    assert learned(y, np.array([2.0, 1, 4, 2]), **chosen)[2].tolist() == [2, 3, 12, 1]
    np.testing.assert_allclose(learned(y, class_weight="balanced")[2], [4 / 3, 2 / 3, 2 / 3, 4 / 3])


def test_what_labels_may_be() -> None:
    model = MLPClassifier()
    assert model._checked([1, 2, 1]).tolist() == [1, 2, 1]
    with pytest.warns(UserWarning, match="column-vector"):
        assert model._checked([["a"], ["b"]]).tolist() == ["a", "b"]
    for several in (np.array([[0, 1], [1, 1]]), scipy.sparse.csr_matrix([[0, 1], [1, 1]])):
        assert model._checked(several).tolist() == [[0, 1], [1, 1]]
    assert model._checked(np.array(["a", "b"], object)).tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="contains NaN"):
        model._checked([1.0, np.nan])
    with pytest.raises(ValueError, match="1 labels are missing, the first in row 1"):
        model._checked(np.array(["a", None], object))


def said(model, logarithms, monkeypatch):
    """What it predicts where members' mean has these logarithms of probabilities."""
    found = np.asarray(logarithms)
    monkeypatch.setattr(model, "_predicted", lambda X, of: found, raising=False)
    return model.predict_log_proba(None), model.predict_proba(None), model.predict(None)


def test_probabilities_of_classes_are_normalized(monkeypatch) -> None:
    p = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    log_p, found, labels = said(learned(["a", "b", "c"])[0], np.log(0.99 * p), monkeypatch)
    np.testing.assert_allclose(found, p, rtol=1e-12)
    np.testing.assert_allclose(log_p, np.log(p), rtol=1e-12)
    assert labels.tolist() == ["b", "a"]
    p = np.array([[0.2, 0.8], [0.6, 0.4]])  # of the other class, then of the one
    _, found, labels = said(learned(["a", "b"])[0], np.log(p), monkeypatch)
    np.testing.assert_allclose(found, p, rtol=1e-12)
    assert labels.tolist() == ["b", "a"]
    # A likelihood of one output that says nothing of the other class.
    log_p, found, labels = said(learned(["a", "b"])[0], np.log([[0.8], [1e-30]]), monkeypatch)
    np.testing.assert_allclose(found, [[0.2, 0.8], [1, 1e-30]], rtol=1e-12)
    np.testing.assert_allclose(log_p[1], [-1e-30, np.log(1e-30)], rtol=1e-12, atol=1e-29)
    assert labels.tolist() == ["b", "a"]
    _, found, labels = said(learned(["a", "a"])[0], np.log([[0.2, 0.8], [0.6, 0.4]]), monkeypatch)
    assert (found.tolist(), labels.tolist()) == ([[1], [1]], ["a", "a"])


def test_labels_that_do_not_exclude_each_other_are_judged_one_by_one(monkeypatch) -> None:
    p = np.array([[0.2, 0.9, 0.5], [0.6, 0.4, 0.51]])
    both = np.log(np.concatenate([1 - p, p], axis=1))  # of 0, then of 1
    _, found, labels = said(learned([[0, 1, 1], [1, 0, 1]])[0], both, monkeypatch)
    np.testing.assert_allclose(found, p, rtol=1e-12)
    assert labels.tolist() == [[0, 1, 0], [1, 0, 1]]
    one = learned([[0], [1]])[0]  # a single label, in a matrix
    _, found, labels = said(one, both[:, [0, 3]], monkeypatch)
    np.testing.assert_allclose(found, p[:, :1], rtol=1e-12)
    assert labels.tolist() == [[0], [1]]
