"""What scikit-learn's own tests ask of its perceptrons, asked of these in other words.

Where these differ on purpose, the README's table "What differs on purpose" says it, and why.
"""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import roc_auc_score

from jnn.sklearn import MLPClassifier, MLPRegressor

BOTH = pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
X, Y = load_digits(n_class=3, return_X_y=True)
X, Y = X[:120] / 16, Y[:120]
TWO = Y < 2
X2, Y2 = X[TWO][:72], Y[TWO][:72]
ONE = {"members": 1, "hidden_layer_sizes": 8, "random_state": 1}


def quiet(estimator, *data, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*data, **more)


def test_more_decay_makes_smaller_weights() -> None:
    small, large = (quiet(MLPClassifier(alpha=a, max_iter=60, **ONE), X2, Y2) for a in (0.0, 10.0))
    for free, bound in zip(small.coefs_, large.coefs_, strict=True):
        assert np.abs(bound).sum() < np.abs(free).sum()


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize(("x", "y"), [(X2, Y2), (X, Y)], ids=["two", "three"])
def test_lbfgs_fits_the_training_examples(activation, x, y) -> None:
    model = quiet(MLPClassifier(solver="lbfgs", activation=activation, max_iter=150, **ONE), x, y)
    assert model.score(x, y) > 0.95
    assert (model.predict_proba(x).argmax(axis=1) == model.predict(x)).all()
    assert model.n_iter_ <= 150
    assert len(model.loss_curve_) == model.n_iter_


@pytest.mark.parametrize("max_fun", [1, 8])
def test_max_fun_bounds_lbfgs(max_fun) -> None:
    with pytest.warns(ConvergenceWarning, match="max"):
        model = MLPClassifier(solver="lbfgs", max_fun=max_fun, tol=0, **ONE).fit(X2, Y2)
    assert model.n_iter_ <= max_fun


def test_several_labels_and_several_targets() -> None:
    x, labels = make_multilabel_classification(n_samples=50, n_features=10, random_state=0)
    model = quiet(MLPClassifier(solver="lbfgs", members=1, hidden_layer_sizes=30, random_state=0), x, labels)
    probabilities = model.predict_proba(x)
    assert probabilities.shape == labels.shape
    np.testing.assert_array_equal(probabilities > 0.5, labels)
    assert np.abs(probabilities.sum(axis=1) - 1).max() > 0.1  # labels do not exclude each other
    np.testing.assert_array_equal(model.predict(x), labels)
    x, y = make_regression(n_samples=100, n_features=10, n_targets=3, random_state=11)
    model = quiet(MLPRegressor(solver="lbfgs", members=1, hidden_layer_sizes=30, random_state=1), x, y)
    assert model.score(x, y) > 0.9
    assert model.predict(x).shape == y.shape


def test_a_stream_learns_what_fit_does() -> None:
    settings = {"solver": "sgd", "learning_rate_init": 0.2, "tol": 0, "n_iter_no_change": np.inf, **ONE}
    whole = quiet(MLPClassifier(max_iter=60, **settings), X, Y)
    stream = MLPClassifier(**settings)
    for _ in range(60):
        stream.partial_fit(X, Y, classes=[0, 1, 2])
    np.testing.assert_array_equal(stream.predict(X), whole.predict(X))
    assert stream.n_iter_ == 60 == len(stream.loss_curve_)
    assert stream.t_ == 60 * len(X) == whole.t_
    assert stream.loss_curve_[-1] < 0.2 * stream.loss_curve_[0]


def test_a_stream_keeps_adams_moments() -> None:
    """With new moments at each call, Adam's first step is always ±α: the loss would fall otherwise."""
    settings = {"alpha": 0.0, "batch_size": len(X), "shuffle": False, "n_iter_no_change": np.inf, **ONE}
    whole = quiet(MLPClassifier(max_iter=30, **settings), X, Y)
    stream = MLPClassifier(**settings)
    for _ in range(30):
        stream.partial_fit(X, Y, classes=np.unique(Y))
    np.testing.assert_allclose(stream.loss_curve_, whole.loss_curve_, rtol=1e-3)  # float32, 30 steps


def test_streams_need_to_know_the_classes() -> None:
    with pytest.raises(ValueError, match="classes must be passed"):
        MLPClassifier(**ONE).partial_fit(X2, Y2)
    model = MLPClassifier(**ONE).partial_fit([[1.0], [2.0], [3.0]], ["a", "b", "c"], classes=["a", "b", "c", "d"])
    model.partial_fit([[4.0]], ["d"])
    assert model.predict_proba([[1.0]]).shape == (1, 4)
    assert set(model.classes_) == {"a", "b", "c", "d"}
    with pytest.raises(ValueError, match="not the same"):
        model.partial_fit([[4.0]], ["d"], classes=["c", "d"])
    with pytest.raises(ValueError, match="not in"):
        model.partial_fit([[4.0]], ["e"])


@BOTH
def test_streams_are_not_for_every_setting(kind) -> None:
    assert not hasattr(kind(solver="lbfgs"), "partial_fit")
    assert hasattr(kind(), "partial_fit")
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping=True"):
        kind(early_stopping=True, **ONE).partial_fit(X2, Y2)


def test_a_pickled_model_goes_on_learning() -> None:
    settings = {**ONE, "learning_rate_init": 0.05}
    model = quiet(MLPRegressor(max_iter=200, **settings), [[2.0]], [4.0])
    model = pickle.loads(pickle.dumps(model))
    for _ in range(200):
        model.partial_fit([[2.0]], [1.0])
    assert model.predict([[2.0]])[0] == pytest.approx(1.0, rel=1e-2)


def test_numbers_that_are_too_large_are_refused() -> None:
    x = np.finfo(np.float64).max * np.random.default_rng(0).uniform(size=(10, 2))
    with pytest.raises(ValueError, match="may contain large values"):
        MLPRegressor(standardize=False, **ONE).fit(x, np.arange(10.0))
    # Standardized they are numbers as any others.
    model, small = (quiet(MLPRegressor(**ONE), scale, np.arange(10.0)) for scale in (x, x / x.max()))
    np.testing.assert_allclose(model.predict(x), small.predict(x / x.max()), rtol=1e-4)


def test_probabilities_and_their_logarithms() -> None:
    model = quiet(MLPClassifier(max_iter=200, **ONE), X2, Y2)
    p = model.predict_proba(X2)
    assert p.shape == (len(X2), 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(model.predict_log_proba(X2), np.log(p))
    assert roc_auc_score(Y2, p[:, 1]) == 1.0


def test_shuffling_matters_and_repeats() -> None:
    settings = {"max_iter": 2, "batch_size": 8, **ONE}
    first, again, sorted_ = (
        quiet(MLPClassifier(shuffle=shuffle, **settings), X2, Y2).coefs_[0] for shuffle in (True, True, False)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, sorted_)


@pytest.mark.parametrize("form", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_sparse_inputs_are_the_same_as_dense_ones(form) -> None:
    dense = quiet(MLPClassifier(max_iter=20, **ONE), X2, Y2)
    sparse = quiet(MLPClassifier(max_iter=20, **ONE), form(X2), Y2)
    np.testing.assert_array_equal(sparse.predict_proba(form(X2)), dense.predict_proba(X2))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_tolerance_ends_training(solver) -> None:
    model = MLPClassifier(solver=solver, tol=0.5, max_iter=300, **ONE).fit(X2, Y2)
    assert model.n_iter_ < 300
    endless = quiet(MLPClassifier(solver=solver, tol=0.5, max_iter=300, n_iter_no_change=np.inf, **ONE), X2, Y2)
    assert endless.n_iter_ == 300


def test_adaptive_rates_end_later_than_constant_ones() -> None:
    settings = {"solver": "sgd", "tol": 0.5, "max_iter": 300, **ONE}
    constant, adaptive = (MLPClassifier(learning_rate=r, **settings).fit(X2, Y2) for r in ("constant", "adaptive"))
    assert constant.n_iter_ < adaptive.n_iter_ < 300


@BOTH
def test_early_stopping_says_what_it_saw(kind) -> None:
    model = kind(tol=0.2, max_iter=300, solver="sgd", early_stopping=True, **ONE).fit(X2, Y2)
    assert model.n_iter_ < 300
    assert model.best_loss_ is None
    assert len(model.validation_scores_) == model.n_iter_
    assert max(model.validation_scores_) == model.best_validation_score_
    assert model.best_validation_score_ + 0.2 > model.validation_scores_[-1]
    model = kind(tol=0.2, max_iter=300, solver="sgd", early_stopping=False, **ONE).fit(X2, Y2)
    assert model.validation_scores_ is None
    assert model.best_validation_score_ is None
    assert model.best_loss_ == pytest.approx(min(model.loss_curve_))


def test_held_out_parts_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="The validation set is too small"):
        MLPRegressor(early_stopping=True).fit([[1.0], [2.0]], [1.0, 2.0])
    x = np.arange(40.0)[:, None]
    with pytest.raises(ValueError, match=r"only 1 member.*\['lonely'\]"):
        MLPClassifier(early_stopping=True).fit(x, ["many"] * 39 + ["lonely"])


def test_warm_starts() -> None:
    x, y = load_iris(return_X_y=True)
    settings = {"warm_start": True, "solver": "sgd", "tol": 0, **ONE}
    model = MLPClassifier(max_iter=3, **settings)
    losses = [quiet(model, x, y).loss_ for _ in range(3)]
    assert model.n_iter_ == 3
    assert losses == sorted(losses, reverse=True)
    cold = quiet(MLPClassifier(max_iter=3, **{**settings, "warm_start": False}), x, y)
    assert cold.loss_ == losses[0]
    with pytest.raises(ValueError, match=r"Previously got \[0 1 2\], `y` has \[0 1\]"):
        model.fit(x, np.arange(150) // 75)


@BOTH
def test_running_out_of_iterations_is_told(kind) -> None:
    with pytest.warns(ConvergenceWarning):
        kind(max_iter=3, **ONE).fit(X2, Y2)


def test_labels_of_any_type() -> None:
    for labels in (np.array(["zero", "one"])[Y2], np.array(["zero", "one"], object)[Y2], Y2 == 1, Y2 * 3.0):
        model = quiet(MLPClassifier(max_iter=200, early_stopping=True, **ONE), X2, labels)
        assert set(model.predict(X2)) == set(labels.tolist())
        assert model.score(X2, labels) > 0.9


@BOTH
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_follow_the_inputs(kind, dtype) -> None:
    model = quiet(kind(max_iter=5, **ONE), X2.astype(dtype), Y2)
    assert {w.dtype for w in (*model.coefs_, *model.intercepts_)} == {np.dtype(dtype)}
    if kind is MLPRegressor:
        assert model.predict(X2.astype(dtype)).dtype == dtype


def test_divergence_is_not_a_crash() -> None:
    """The last good hypothesis is kept; scikit-learn's has NaN in it."""
    x, y = load_iris(return_X_y=True)
    model = MLPRegressor(activation="identity", solver="sgd", learning_rate_init=1e4, max_iter=20, **ONE)
    quiet(model, x, y)
    assert np.isfinite(model.predict(x)).all()


@BOTH
def test_weights_of_one_are_no_weights(kind) -> None:
    settings = {"max_iter": 20, "early_stopping": True, "batch_size": 10, **ONE}
    plain = quiet(kind(**settings), X2, Y2)
    weighted = quiet(kind(**settings), X2, Y2, sample_weight=np.ones(len(X2)))
    np.testing.assert_allclose(weighted.predict(X2), plain.predict(X2), rtol=1e-4)  # other sums, in float32


def test_without_hidden_layers_poisson_is_the_generalized_linear_model() -> None:
    x = np.linspace(0, 1, 100)[:, None]
    y = np.random.default_rng(0).poisson(np.exp(x[:, 0] + 1))
    glm = PoissonRegressor(alpha=0, tol=1e-7).fit(x, y)
    settings = {"activation": "identity", "alpha": 0, "solver": "lbfgs", "tol": 1e-7, **ONE}
    model = MLPRegressor("poisson", **settings).fit(x, y)
    np.testing.assert_allclose(model.predict(x), glm.predict(x), rtol=1e-4)
    other = MLPRegressor("squared_error", **settings).fit(x, y)
    assert not np.allclose(other.predict(x), glm.predict(x), rtol=1e-4)
