"""What these estimators have beyond scikit-learn's."""

import contextlib
import pickle
import subprocess
import sys
import warnings

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import AdaBoostClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError, UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.validation import check_is_fitted

import jnn
from jnn import likelihoods, persistence, transforms
from jnn.ensembles import scheduling
from jnn.sklearn import MLPClassifier, MLPRegressor
from jnn.sklearn.recipe import make_plan
from jnn.training import visiting
from jnn.training.program import run_lanes, start_lanes
from jnn.training.structure import COARSE, FINE, rounded_up

X, Y = load_wine(return_X_y=True)
XR, YR = load_diabetes(return_X_y=True)
SMALL = {"members": 2, "hidden_layer_sizes": 8, "random_state": 0}


def quiet(estimator, *data, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(*data, **more)


@pytest.fixture(scope="module")
def classifier() -> MLPClassifier:
    return MLPClassifier(**SMALL).fit(X, Y)


@pytest.fixture(scope="module")
def regressor() -> MLPRegressor:
    return MLPRegressor(**SMALL).fit(XR, YR)


def test_predictions_are_those_of_jnns_own_functions(classifier: MLPClassifier) -> None:
    z = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    squash = transforms.Squash.fit(z)
    assert (squash.bound < transforms.FREE).sum() == 1  # magnesium has a value beyond four standard deviations
    z = transforms.Pieces.fit(squash.apply(z)).apply(squash.apply(z))
    each = jax.vmap(lambda w: jax.nn.softmax(classifier.network_.apply(w, z)))(classifier.params_)
    np.testing.assert_allclose(classifier.predict_proba(X), each.mean(axis=0), atol=1e-6)  # float32


def test_checkpoints_of_folds_lie_beside_each_other(tmp_path, monkeypatch) -> None:
    """The same cross-validation again trains nothing; one with other parameters begins beside it."""
    model = MLPClassifier(**SMALL, checkpoint=tmp_path)
    scores = cross_val_score(model, X, Y, cv=2)
    assert len(list(tmp_path.iterdir())) == 2
    trained: list[np.ndarray] = []

    def counted(program, shared, members, states, epochs, fewest):
        if epochs:
            trained.append(states.epoch)
        return run_lanes(program, shared, members, states, epochs, fewest)

    monkeypatch.setattr(scheduling, "run_lanes", counted)
    np.testing.assert_array_equal(cross_val_score(model, X, Y, cv=2), scores)
    assert not trained
    np.testing.assert_array_equal(cross_val_score(MLPClassifier(**SMALL), X, Y, cv=2), scores)
    assert trained
    quiet(MLPClassifier(**SMALL | {"random_state": 1}, checkpoint=jnn.Checkpoints(tmp_path, keep=1)), X, Y)
    assert len(list(tmp_path.iterdir())) == 3
    for wrong, told in (
        ({"random_state": None}, "needs random_state, a number"),
        ({"solver": "lbfgs"}, "solver='lbfgs' keeps no checkpoints"),
    ):
        with pytest.raises(ValueError, match=told):
            MLPClassifier(**SMALL | wrong, checkpoint=tmp_path).fit(X, Y)
    with pytest.raises(ValueError, match=r"partial_fit keeps no checkpoints.*set_params\(checkpoint=None\)"):
        model.partial_fit(X, Y, classes=[0, 1, 2])


def test_every_member_holds_out_another_fold(classifier: MLPClassifier) -> None:
    assert classifier.n_members_ == 2
    assert classifier.best_iteration_.shape == (2,)
    assert len(classifier.validation_curve_) == classifier.n_iter_ == len(classifier.loss_curve_)


@pytest.mark.parametrize("shortcuts", [False, True])
def test_folded_weights_take_raw_inputs(shortcuts: bool) -> None:
    model = MLPRegressor(members=1, hidden_layer_sizes=(4, 3), shortcuts=shortcuts, random_state=0).fit(XR, YR)
    layers = [XR]
    for number, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        read = np.concatenate(layers, axis=1) if shortcuts else layers[-1]
        a = read @ w + b
        layers.append(a / (1 + np.exp(-a)) if number < 2 else a)
    scaled = layers[-1][:, 0] * YR.std() + YR.mean()
    np.testing.assert_allclose(model.predict(XR), scaled, rtol=1e-4)  # float32 inside


def test_a_large_mean_loses_nothing() -> None:
    """In float32 these inputs would all be equal."""
    far = MLPRegressor(**SMALL).fit(XR + 1e7, YR).predict(XR + 1e7)
    near = MLPRegressor(**SMALL).fit(XR, YR).predict(XR)
    # x + 1e7 in float64 is rounded to 2e-9, where a standard deviation is 0.05.
    np.testing.assert_allclose(far, near, rtol=1e-3)


def test_the_deviation_covers_the_targets() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (600, 1))
    y = np.sin(2 * x[:, 0]) + 0.3 * rng.normal(size=600)
    mean, deviation = MLPRegressor(**SMALL).fit(x[:400], y[:400]).predict(x[400:], return_std=True)
    # Of 200 targets a share of 0.954 ± 0.015 lies within two standard deviations.
    assert 0.90 < np.mean(np.abs(y[400:] - mean) < 2 * deviation) <= 1
    assert 0.25 < deviation.mean() < 0.45


def test_intervals_cover_what_is_asked(tmp_path) -> None:
    """Noise that is not normal; where its width is learned, everywhere alike."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (900, 1))
    width = np.where(x[:, 0] > 0, 1.0, 0.2)
    y = np.sin(2 * x[:, 0]) + width * (rng.exponential(size=900) - 1)
    train, test = slice(0, 400), slice(400, 900)
    plain = MLPRegressor(**SMALL).fit(x[train], y[train])
    learned = MLPRegressor(likelihood=likelihoods.HeteroscedasticGaussian(), **SMALL).fit(x[train], y[train])
    for model in (plain, learned):
        for asked in (0.5, 0.9):
            lower, upper = model.predict_interval(x[test], asked)
            # Of 500 targets, and as many as 400 residuals know: three standard errors of each.
            assert np.mean((lower <= y[test]) & (y[test] <= upper)) == pytest.approx(asked, abs=0.1)
    reach = upper - lower
    assert reach[x[test][:, 0] > 0.3].mean() > 2 * reach[x[test][:, 0] < -0.3].mean()
    again = _saved(plain, tmp_path)
    np.testing.assert_array_equal(again.predict_interval(x, 0.9), plain.predict_interval(x, 0.9))
    for wrong in (0.0, 1.0, 0.999):
        with pytest.raises(ValueError, match=r"between 0 and 0\.9975, as 400 examples allow"):
            plain.predict_interval(x, wrong)


def test_intervals_of_counts_and_of_several_targets() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    y = rng.poisson(20 * np.exp(0.5 * x[:, 0]))
    counts = MLPRegressor(loss="poisson", **SMALL).fit(x[:300], y[:300])
    lower, upper = counts.predict_interval(x[300:], 0.8)
    assert np.mean((lower <= y[300:]) & (y[300:] <= upper)) == pytest.approx(0.8, abs=0.1)
    assert (lower >= 0).all()
    both = np.stack([x[:, 0] + rng.normal(size=600), 100 * rng.normal(size=600)], axis=1)
    lower, upper = MLPRegressor(**SMALL).fit(x, both).predict_interval(x, 0.9)
    assert lower.shape == (600, 2)
    np.testing.assert_allclose((upper - lower).mean(axis=0) / [3.3, 330], 1, atol=0.15)  # 2 · 1.645 σ
    with pytest.raises(ValueError, match="no examples were held out"):
        quiet(MLPRegressor(max_iter=2, hidden_layer_sizes=8), x, y).predict_interval(x)


def test_a_variance_that_is_learned() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 1))
    y = np.where(x[:, 0] > 0, 1.0, 0.1) * rng.normal(size=400)
    model = MLPRegressor(likelihood=likelihoods.HeteroscedasticGaussian(), **SMALL).fit(x, y)
    _, deviation = model.predict([[-0.7], [0.7]], return_std=True)
    assert deviation[1] > 3 * deviation[0]


def test_examples_of_ones_own_for_validation() -> None:
    model = MLPClassifier(early_stopping=True, max_iter=30, tol=0.5, **SMALL)
    model.fit(X[::2], Y[::2], X_val=X[1::2], y_val=Y[1::2])
    assert len(model.validation_curve_) == model.n_iter_
    with pytest.raises(ValueError, match="both X_val and y_val"):
        model.fit(X, Y, X_val=X)
    for chosen, said in (({"solver": "lbfgs"}, "does not validate"), ({"early_stopping": False}, "=False was given")):
        with pytest.raises(ValueError, match=said):
            MLPClassifier(**SMALL, **chosen).fit(X, Y, X_val=X, y_val=Y)
    with pytest.raises(ValueError, match="features"):
        model.fit(X, Y, X_val=X[:, :3], y_val=Y)
    one = MLPClassifier(**{**SMALL, "members": 1}).fit(X, Y, X_val=X, y_val=Y)
    risk = -np.log(one.predict_proba(X)[np.arange(len(Y)), Y]).mean()
    assert risk == pytest.approx(-one.best_validation_score_, rel=1e-3)  # of the same examples, in float32


def test_weights_of_classes() -> None:
    y = np.random.default_rng(0).permutation(Y)  # nothing to learn but how frequent classes are
    heavy = MLPClassifier(class_weight={0: 1, 1: 1, 2: 10}, **SMALL).fit(X, y).predict_proba(X)
    plain = MLPClassifier(**SMALL).fit(X, y).predict_proba(X)
    assert plain[:, 2].mean() < 0.4 < 0.6 < heavy[:, 2].mean()


def test_any_optimizer_and_activation() -> None:
    model = MLPClassifier(
        activation=["tanh", "relu"],
        optimizer=optax.adamw(0.01),
        max_iter=30,
        tol=0,
        n_iter_no_change=np.inf,
        members=1,
        hidden_layer_sizes=(8, 8),
    )
    with pytest.warns(UserWarning, match="maximum"):
        assert model.fit(X, Y).score(X, Y) > 0.9


def test_files_give_back_the_same_estimator(classifier: MLPClassifier, regressor: MLPRegressor, tmp_path) -> None:
    for model, x in ((classifier, X), (regressor, XR)):
        model.save(tmp_path / "model.safetensors")
        loaded = type(model).load(tmp_path / "model.safetensors")
        np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
        assert loaded.get_params() == model.get_params()
        assert loaded.loss_curve_ == model.loss_curve_
    np.testing.assert_array_equal(loaded.predict(XR, return_std=True), regressor.predict(XR, return_std=True))
    with pytest.raises(persistence.ForeignFileError, match="expected a saved MLPClassifier, found MLPRegressor"):
        MLPClassifier.load(tmp_path / "model.safetensors")
    plain = persistence.load(tmp_path / "model.safetensors")  # without the estimator: jnn's own model
    np.testing.assert_allclose(plain.mean(XR.astype(np.float32))[:, 0], regressor.predict(XR), rtol=1e-3)


def test_only_classifying_ensembles_squash_and_only_heavy_tails() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.standard_t(1.5, size=200), rng.uniform(size=200)], axis=1)
    y = (x[:, 0] > 0).astype(int)
    fast = {"hidden_layer_sizes": 4, "random_state": 0}
    ensemble = MLPClassifier(members=2, **fast).fit(x, y)
    assert ensemble._transforms[3].bound.tolist() == [3.0, transforms.FREE]
    # However far out, an input is no further than the bound, and what is said of it says no more than that.
    far = ensemble.predict_proba([[1e5, 0.5], [1e30, 0.5]])
    np.testing.assert_allclose(far[0], far[1], atol=1e-6)
    for other in (MLPClassifier(members=1, **fast), MLPRegressor(members=2, **fast), MLPClassifier(**fast, max_iter=2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            assert len(other.fit(x, y)._transforms) == 3
    assert MLPClassifier(members=2, **fast, standardize=False).fit(x, y)._transforms[1:] == ()


def test_squashed_inputs_go_into_the_file(tmp_path) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_t(1.5, size=(200, 2))
    model = MLPClassifier(**SMALL).fit(x, (x[:, 0] > 0).astype(int))
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(
        MLPClassifier.load(tmp_path / "model.safetensors").predict_proba(x), model.predict_proba(x)
    )
    plain = persistence.load(tmp_path / "model.safetensors")
    assert [type(t) for t in plain.transforms] == [
        transforms.Encode,
        transforms.Standardize,
        transforms.Clip,
        transforms.Squash,
        transforms.Pieces,
    ]
    np.testing.assert_allclose(plain.mean(x.astype(np.float32))[:, 0], model.predict_proba(x)[:, 1], atol=1e-5)


def test_a_model_of_it_computes_the_same(classifier: MLPClassifier, regressor: MLPRegressor) -> None:
    np.testing.assert_allclose(classifier.as_model().mean(X.astype(np.float32)), classifier.predict_proba(X), atol=1e-5)
    mean = regressor.as_model().mean(XR.astype(np.float32))
    np.testing.assert_allclose(mean[:, 0], regressor.predict(XR), rtol=1e-3)  # standardized in float32
    with pytest.raises(NotFittedError):
        MLPRegressor().as_model()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_optimizers_are_pickled_and_saved_and_others_named(tmp_path) -> None:
    """Whatever can be fitted can be pickled, and saved, unless it is code."""
    for optimizer in (jnn.adam(0.01, b1=0.8), jnn.steepest_descent(jnn.schedules.cosine(0.1, 90), 0.9), jnn.rprop()):
        model = MLPClassifier(**SMALL, optimizer=optimizer, max_iter=2).fit(X, Y)
        for again in (pickle.loads(pickle.dumps(model)), _saved(model, tmp_path)):
            np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
            assert again.optimizer == optimizer
    model.set_params(optimizer=optax.adam(0.01)).fit(X, Y)
    with pytest.raises(persistence.UnsupportedError, match="optimizer"):
        model.save(tmp_path / "model.safetensors")


def _saved(model, folder):
    model.save(folder / "model.safetensors")
    return type(model).load(folder / "model.safetensors")


@pytest.mark.parametrize("streamed", [False, True])
def test_divergence_is_said_and_the_last_good_weights_kept(streamed) -> None:
    model = MLPRegressor(solver="sgd", learning_rate_init=1e6, hidden_layer_sizes=8, random_state=0)
    train = model.partial_fit if streamed else model.fit
    with pytest.warns(ConvergenceWarning, match="1 of 1 networks diverged"):
        train(XR, YR)
    assert np.isfinite(model.predict(XR)).all()


def test_ctrl_c_before_the_first_epoch_leaves_an_unfitted_estimator(monkeypatch) -> None:
    monkeypatch.setattr(visiting, "interruptible", lambda: contextlib.nullcontext(lambda: True))
    for train in (lambda m: m.fit(X, Y), lambda m: m.partial_fit(X, Y, classes=[0, 1, 2])):
        model = MLPClassifier(**SMALL)
        with pytest.raises(KeyboardInterrupt, match="before its first epoch"):
            train(model)
        with pytest.raises(NotFittedError):
            check_is_fitted(model)
        assert vars(model) == vars(MLPClassifier(**SMALL))


def test_seconds_of_unix_time_lose_nothing_on_the_way_to_a_file_or_a_graph(tmp_path) -> None:
    """In float32 a minute in 2026 is one number; what is saved or exported predicts what the estimator predicts."""
    onnxruntime = pytest.importorskip("onnxruntime")
    seconds = 1.78e9 + np.linspace(0, 60, 200)
    x = np.stack([seconds, np.linspace(-1, 1, 200)], axis=1)
    y = np.sin(seconds / 10)
    model = MLPRegressor(random_state=0).fit(x, y)
    assert model.score(x, y) > 0.98
    predicted = model.predict(x)
    model.save(tmp_path / "m.safetensors")
    persistence.export_onnx(tmp_path / "m.onnx", model.as_model())
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert session.get_inputs()[0].type == "tensor(double)"
    for found in (
        model.as_model().mean(x), persistence.load(tmp_path / "m.safetensors").mean(x),
        MLPRegressor.load(tmp_path / "m.safetensors").predict(x)[:, None], session.run(None, {"x": x})[0],
    ):  # fmt: skip
        np.testing.assert_allclose(np.asarray(found)[:, 0], predicted, atol=1e-5)
    program = jax.export.deserialize(_exported(tmp_path, model.as_model()))
    np.testing.assert_allclose(np.asarray(program.call(x))[:, 0], predicted, atol=1e-5)


def _exported(folder, model):
    persistence.export(folder / "m.stablehlo", model)
    return bytearray((folder / "m.stablehlo").read_bytes())


# --- what public bug reports brought to light


@pytest.mark.parametrize("chosen", [{}, {"solver": "lbfgs", "max_iter": 30}, {"solver": "sgd", "max_iter": 5}])
def test_the_scale_of_weights_does_not_set_the_regularization(chosen) -> None:
    """Unless alpha is given: then it stands beside the sum of the weighted errors."""
    v = np.random.default_rng(0).uniform(0.5, 2, len(X))

    def proba(scale: float, **more) -> np.ndarray:
        model = quiet(MLPClassifier(**SMALL, **chosen, **more), X, Y, sample_weight=scale * v)
        return model.predict_proba(X)

    for scale in (1 / v.sum(), 1e6, 1e-30):
        np.testing.assert_allclose(proba(scale), proba(1.0), atol=2e-3)  # one rounding of a weight, grown in training
    assert np.abs(proba(1e-3, alpha=1.0) - proba(1.0, alpha=1.0)).max() > 0.02


def test_weights_as_boosting_gives_them() -> None:
    boosted = AdaBoostClassifier(MLPClassifier(**SMALL), n_estimators=3, random_state=0).fit(X, Y)
    assert boosted.score(X, Y) > 0.97


def test_log_probabilities_of_two_classes_have_all_their_digits() -> None:
    y = (Y == 0).astype(int)
    model = quiet(MLPClassifier(members=1, hidden_layer_sizes=8, alpha=0, max_iter=400, learning_rate_init=0.1), X, y)
    z = X.astype(float)
    for transform in model._transforms:
        z = transform.apply(z)
    a = np.asarray(model.network_.apply(jax.tree.map(lambda leaf: leaf[0], model.params_), z.astype(np.float32)))
    a = a.astype(np.float64)  # of which float32's 1 − p would leave nothing from 17 on
    assert np.abs(a).max() > 17
    expected = -np.logaddexp(0, np.concatenate([a, -a], axis=1))
    np.testing.assert_allclose(model.predict_log_proba(X), expected, rtol=2e-5)  # float32's a, twice
    np.testing.assert_allclose(model.predict_proba(X), np.exp(expected), rtol=1e-3)
    ensemble = MLPClassifier(**SMALL).fit(X, y)
    np.testing.assert_allclose(np.exp(ensemble.predict_log_proba(X)), ensemble.predict_proba(X), rtol=1e-6)  # float32
    np.testing.assert_allclose(ensemble.predict_proba(X)[:, 1], ensemble.as_model().mean(X)[:, 0], rtol=1e-5)


def test_log_probabilities_of_likelihoods_of_ones_own() -> None:
    y = (Y == 0).astype(int)
    squared = MLPClassifier(**SMALL, likelihood=likelihoods.SquaredError("logistic")).fit(X, y)
    p = squared.predict_proba(X)
    np.testing.assert_allclose(p[:, 1], squared.as_model().mean(X)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_what_looks_for_nan_and_infinity_finds_none(classifier: MLPClassifier) -> None:
    """Neither stands for "not yet" or "no bound" anywhere."""
    with jax.debug_nans(True), jax.debug_infs(True):
        model = MLPClassifier(**SMALL).fit(X, Y)
        (squash,) = (t for t in model._transforms if isinstance(t, transforms.Squash))
        assert (squash.bound == transforms.FREE).any()  # magnesium alone is squashed
        p = model.as_model().mean(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(p, classifier.predict_proba(X), atol=1e-5)


def test_rates_with_their_exposure_are_counts() -> None:
    rng = np.random.default_rng(0)
    x, exposure = rng.normal(size=(400, 2)), rng.uniform(0.1, 5, 400)
    rate = np.exp(0.3 + 0.5 * x[:, 0])
    y = rng.poisson(rate * exposure) / exposure
    model = MLPRegressor(loss="poisson", **SMALL).fit(x, y, sample_weight=exposure)
    # Of 1,300 counts in all; without weights, or with a network that knows nothing, it is 0.12 and 0.40.
    assert np.abs(np.log(model.predict(x) / rate)).mean() < 0.1
    with pytest.raises(ValueError, match=r"counts or rates ≥ 0, got y\[3, 0\] = .* \(1 such of 400\)"):
        model.fit(x, np.where(np.arange(400) == 3, -1, y))


@pytest.mark.parametrize("unit", [1e-4, 1e6])
def test_counts_of_a_million(unit, tmp_path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    rate = unit * np.exp(0.3 + 0.5 * x[:, 0])
    y = rng.poisson(rate) if unit > 1 else rate
    model = MLPRegressor(loss="poisson", **SMALL).fit(x, y)
    assert model.score(x, y) > 0.99
    # Within members the variance is the rate; what they differ by comes on top.
    mean, deviation = model.predict(x, return_std=True)
    assert (deviation > 0.999 * np.sqrt(mean)).all()
    again = _saved(model, tmp_path)
    np.testing.assert_array_equal(again.predict(x), mean)
    for leaf, old in zip(jax.tree.leaves(again._last), jax.tree.leaves(model.params_), strict=True):
        assert np.abs(leaf - old).max() in (0, pytest.approx(np.abs(np.log(y.mean())), rel=1e-5))


def test_a_column_without_counts_has_no_unit() -> None:
    y = np.stack([XR[:, 0] - XR[:, 0].min(), np.zeros(len(XR))], axis=1)
    model = MLPRegressor(loss="poisson", **SMALL).fit(XR, y)
    np.testing.assert_allclose(np.exp(model._log_unit), [y[:, 0].mean(), 1])
    assert model.predict(XR)[:, 1].max() < 0.05


def test_missing_labels_are_counted() -> None:
    names = np.array(["a", "b", "c"], object)[Y]
    for missing in (np.nan, None, pytest.importorskip("pandas").NA):
        with pytest.raises(ValueError, match="59 labels are missing, the first in row 0"):
            MLPClassifier(**SMALL).fit(X, np.where(Y == 0, missing, names))


@pytest.mark.parametrize("members", [1, 2])
def test_a_column_constant_in_training_is_ignored(members) -> None:
    x = np.concatenate([XR, np.full((len(XR), 1), 3.7)], axis=1)
    model = MLPRegressor(**{**SMALL, "members": members}).fit(x, YR)
    other = x.copy()
    other[:, -1] = 1000
    np.testing.assert_array_equal(model.predict(other), model.predict(x))


def test_inputs_far_outside_say_what_the_outskirts_say(regressor: MLPRegressor) -> None:
    """Half of its range beyond either end; with two columns out there, and in a model on its own, too."""
    low, high = XR.min(axis=0), XR.max(axis=0)
    edge = np.where(np.arange(10) < 2, high + (high - low) / 2, XR[0])
    for far in (10.0, 1e30, 1e300):
        x = np.where(np.arange(10) < 2, far, XR[0])[None]
        np.testing.assert_allclose(regressor.predict(x), regressor.predict(edge[None]), rtol=1e-5)
        np.testing.assert_allclose(regressor.as_model().mean(x)[:, 0], regressor.predict(x), rtol=1e-6)
    assert YR.min() - np.ptp(YR) < regressor.predict(edge[None]) < YR.max() + np.ptp(YR)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_a_warm_start_cannot_change_is_said() -> None:
    model = MLPClassifier(**SMALL, warm_start=True, activation="tanh", max_iter=2).fit(X, Y)
    for name, value in {
        "hidden_layer_sizes": (8, 8), "activation": "relu", "shortcuts": True, "members": 3,
        "likelihood": likelihoods.GeneralRule("softmax", likelihoods.Gaussian()),
    }.items():  # fmt: skip
        old = getattr(model, name)
        with pytest.raises(ValueError, match=f"{name}=.* is not what training began with"):
            model.set_params(**{name: value}).fit(X, Y)
        model.set_params(**{name: old}).fit(X, Y)
    model.set_params(hidden_layer_sizes="auto").partial_fit(X, Y)  # no wish, and so as it was


def test_a_solver_that_ignores_early_stopping_says_so() -> None:
    with pytest.warns(UserWarning, match="early_stopping=True has no effect"):
        MLPClassifier(solver="lbfgs", early_stopping=True, hidden_layer_sizes=4).fit(X, Y)


def test_ctrl_c_keeps_what_was_learned_and_ends_a_cross_validation(monkeypatch) -> None:
    fits, timed = [], visiting.timed

    def once_trained(*arguments):
        fits[-1] = True
        return timed(*arguments)

    def new_fit():
        fits.append(False)
        return contextlib.nullcontext(lambda: fits[-1])

    monkeypatch.setattr(visiting, "interruptible", new_fit)
    monkeypatch.setattr(visiting, "timed", once_trained)
    model = MLPClassifier(**SMALL)
    with pytest.raises(KeyboardInterrupt, match=r"after \d+ epochs; what was learned is kept"):
        model.fit(X, Y)
    assert 1 <= model.n_iter_ < 100
    assert model.predict(X).shape == Y.shape
    with pytest.raises(KeyboardInterrupt):
        cross_val_score(MLPClassifier(**SMALL), X, Y)
    assert len(fits) == 2  # not those of later folds


@pytest.mark.parametrize("members", [1, 3])
def test_a_callback_sees_every_epoch_and_may_end_training(members: int) -> None:
    seen = []

    def callback(snapshot: jnn.training.Snapshot) -> bool:
        seen.append(snapshot)
        return bool(snapshot.epoch.max() >= 5)

    given = SMALL | {"members": members}
    model = MLPClassifier(**given).fit(X, Y, callback=callback)
    assert model.n_iter_ == len(seen) == 5
    for curve, found in (
        (model.loss_curve_, [s.train_error for s in seen]),
        (model.validation_curve_, [s.validation_error for s in seen]),
    ):
        assert np.shape(found) == (5, members)
        np.testing.assert_allclose(curve, np.mean(found, axis=1), rtol=1e-6)  # float32's
    whole = MLPClassifier(**given).fit(X, Y)
    np.testing.assert_allclose(whole.loss_curve_[:5], model.loss_curve_, rtol=1e-4)  # other sums in float32
    assert whole.n_iter_ > 5


def test_what_a_callback_raises_leaves_the_estimator_as_it_was(regressor: MLPRegressor) -> None:
    def fail(snapshot: jnn.training.Snapshot) -> None:
        raise RuntimeError("of the callback's own")

    model = MLPRegressor(**SMALL)
    with pytest.raises(RuntimeError, match="of the callback's own"):
        model.fit(XR, YR, callback=fail)
    with pytest.raises(NotFittedError):
        model.predict(XR)
    pipeline = make_pipeline(MinMaxScaler(), model).fit(XR, YR, mlpregressor__callback=lambda seen: None)
    assert pipeline[-1].n_iter_ == model.n_iter_ > 0
    with pytest.raises(ValueError, match="lbfgs"):
        MLPRegressor(solver="lbfgs").fit(XR, YR, callback=fail)


def test_weights_are_routed_to_fit_and_score() -> None:
    """scikit-learn's metadata routing, through a pipeline and a cross-validation."""
    weights = np.random.default_rng(0).uniform(0.2, 3, size=len(YR))
    folds = KFold(2)
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPRegressor(**SMALL).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(MinMaxScaler(), model)
        found = cross_validate(pipeline, XR, YR, cv=folds, params={"sample_weight": weights}, return_estimator=True)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            cross_validate(MLPRegressor(**SMALL), XR, YR, cv=folds, params={"sample_weight": weights})
    for (train, test), fitted, score in zip(folds.split(XR), found["estimator"], found["test_score"], strict=True):
        scaler = MinMaxScaler().fit(XR[train])
        alone = MLPRegressor(**SMALL).fit(scaler.transform(XR[train]), YR[train], weights[train])
        np.testing.assert_array_equal(fitted.predict(XR[test]), alone.predict(scaler.transform(XR[test])))
        assert score == alone.score(scaler.transform(XR[test]), YR[test], weights[test])
        assert score != alone.score(scaler.transform(XR[test]), YR[test])
        unweighted = MLPRegressor(**SMALL).fit(scaler.transform(XR[train]), YR[train])
        assert np.abs(unweighted.predict(scaler.transform(XR[test])) - fitted.predict(XR[test])).max() > 1


def test_in_a_pipeline_and_a_grid() -> None:
    grid = GridSearchCV(
        make_pipeline(MinMaxScaler(), MLPClassifier(**SMALL)), {"mlpclassifier__alpha": [0.1, 10.0]}, cv=3
    )
    assert grid.fit(X, Y).score(X, Y) > 0.9


def test_sizes_are_few_and_not_much_too_large() -> None:
    for n in range(1, 5000):
        assert n <= rounded_up(n, COARSE) <= n * 9 / 8 + 1
        assert n <= rounded_up(n, FINE) < 1.03 * n
    assert len({rounded_up(n) for n in range(200, 250)}) <= 5
    assert len({rounded_up(n) for n in range(1000, 1201)}) <= 5


def test_new_numbers_and_nearly_as_many_examples_compile_nothing() -> None:
    def fitted(kind=MLPClassifier, n=150, **changes) -> tuple[int, int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            kind(**{**SMALL, "max_iter": 3, **changes}).fit(X[:n], Y[:n])
        return run_lanes.count(), start_lanes.count()

    for solver in ({"solver": "adam"}, {"solver": "sgd", "batch_size": 50}):
        once = fitted(**solver)
        for changed in (
            {"learning_rate_init": 0.3}, {"alpha": 2.0}, {"beta_1": 0.5}, {"beta_2": 0.9}, {"epsilon": 1e-3},
            {"momentum": 0.3}, {"tol": 0.1}, {"n_iter_no_change": 3}, {"random_state": 5}, {"max_iter": 50},
        ):  # fmt: skip
            assert fitted(**solver, **changed) == once, changed
    recipe = fitted(max_iter="auto")
    assert fitted(max_iter="auto", n=147, learning_rate_init=0.1) == recipe


@pytest.mark.parametrize("n", [200, 1000])
def test_nearly_as_many_examples_have_one_of_two_batch_sizes(n: int) -> None:
    plans = [make_plan(MLPClassifier().get_params(), n + more, own_validation=False) for more in range(n // 4)]
    assert len({plan.settings["batch_size"] for plan in plans}) == 2


@pytest.mark.parametrize(("n", "batch_size"), [(292, 32), (308, 27)])
def test_full_batches_are_preferred(n: int, batch_size: int) -> None:
    trained = n - n // 8
    assert trained % batch_size == 0
    assert make_plan(MLPClassifier().get_params(), n, own_validation=False).settings["batch_size"] == batch_size


def test_an_array_that_needs_no_checks_is_still_told_from_others(classifier: MLPClassifier) -> None:
    for wrong, said in ((X[:, :3], "features"), (X[:0], "0 sample"), (X[0], "2D array"), (X + 1j, "Complex")):
        with pytest.raises(ValueError, match=said):
            classifier.predict(wrong)
    np.testing.assert_array_equal(classifier.predict_proba(X.astype(">f8")), classifier.predict_proba(X))
    whole = np.round(X).astype(int)
    np.testing.assert_array_equal(classifier.predict_proba(whole), classifier.predict_proba(whole.astype(float)))


def test_noise_is_in_the_targets_units() -> None:
    one, thousand = (MLPRegressor(**SMALL).fit(XR, factor * YR) for factor in (1, 1000))
    np.testing.assert_allclose(thousand.noise_, 1000 * one.noise_, rtol=1e-3)  # float32
    deviation, wide = (model.predict(XR, return_std=True)[1] for model in (one, thousand))
    np.testing.assert_allclose(wide, 1000 * deviation, rtol=1e-3)
    assert (deviation >= one.noise_ * np.sqrt(one._leverages.noise_share)).all()
    assert 0.5 < one.noise_[0] / np.std(YR - one.predict(XR)) < 3


@pytest.mark.parametrize("n", [12, 50, 150, 241, 1000])
@pytest.mark.parametrize("members", [1, 4])
def test_the_recipes_rate_ends_with_the_last_step(n: int, members: int) -> None:
    """The examples that there are decide it, not the size that they are filled up to."""
    plan = make_plan(MLPClassifier(members=members).get_params(), n, own_validation=False)
    trained = n - n // members if members > 1 else n - (round(0.1 * n) if n >= 20 else 0)
    steps = plan.settings["epochs"] * -(-trained // plan.settings["batch_size"])
    assert float(plan.settings["optimizer"].numbers["learning_rate"].updates) == steps


def test_inverse_scaling_is_scikit_learns() -> None:
    """η / (t + 1)^p with t the examples seen, changed at the ends of epochs."""
    chosen = {
        "solver": "sgd",
        "learning_rate": "invscaling",
        "learning_rate_init": 0.2,
        "momentum": 0,
        "batch_size": 50,
    }
    plan = make_plan(MLPClassifier(**chosen).get_params(), 150, own_validation=False)
    state, steps = plan.settings["optimizer"].init(1.0), []
    for _ in range(9):
        step, state = plan.settings["optimizer"].update(jnp.ones(()), state)
        steps.append(-float(step))
    expected = np.repeat(0.2 / np.sqrt([1, 151, 301]), 3)
    np.testing.assert_allclose(steps, expected, rtol=1e-6)


def test_a_class_of_one_example_is_no_obstacle() -> None:
    y = Y.copy()
    y[0] = 3
    for members in (1, 2):
        model = MLPClassifier(**{**SMALL, "members": members}).fit(X, y)
        assert model.predict_proba(X).shape == (len(X), 4)


def test_a_stream_has_a_deviation_too() -> None:
    model = MLPRegressor(members=1, hidden_layer_sizes=8, random_state=0, learning_rate_init=0.01)
    for _ in range(40):
        model.partial_fit(XR, YR)
    mean, deviation = model.predict(XR, return_std=True)
    assert deviation.mean() == pytest.approx(np.sqrt(np.mean((mean - YR) ** 2)), rel=1e-3)  # one member: all noise


WRONG = [
    ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes"),
    ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes"),
    ({"activation": "sine"}, "sine"),
    ({"solver": "newton"}, "solver"),
    ({"alpha": -1}, "alpha"),
    ({"alpha": float("nan")}, "alpha"),
    ({"batch_size": 0}, "batch_size"),
    ({"learning_rate": "fast"}, "learning_rate"),
    ({"learning_rate_init": 0}, "learning_rate_init"),
    ({"max_iter": 1.5}, "max_iter"),
    ({"max_iter": True}, "max_iter"),
    ({"momentum": 2}, "momentum"),
    ({"early_stopping": "yes"}, "early_stopping"),
    ({"validation_fraction": 1}, "validation_fraction"),
    ({"beta_1": 1}, "beta_1"),
    ({"epsilon": 0}, "epsilon"),
    ({"n_iter_no_change": 0}, "n_iter_no_change"),
    ({"members": 0}, "members"),
    ({"shuffle": "no"}, "shuffle"),
    ({"optimizer": "adam"}, "optimizer"),
    ({"dtype": "float8"}, "dtype"),
]


@pytest.mark.parametrize(("wrong", "named"), WRONG)
def test_wrong_parameters_are_named(wrong, named) -> None:
    with pytest.raises(ValueError, match=named):
        MLPClassifier(**{**SMALL, **wrong}).fit(X, Y)


def test_wrong_data_are_named() -> None:
    with pytest.raises(ValueError, match=r"infinity .*: column 3, row 7"):
        MLPClassifier(**SMALL).fit(np.where(np.arange(X.size).reshape(X.shape) == 7 * X.shape[1] + 3, np.inf, X), Y)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        MLPClassifier(**SMALL).fit(X, Y[:-1])
    with pytest.raises(ValueError, match="≥ 0"):
        MLPClassifier(**SMALL).fit(X, Y, sample_weight=-np.ones(len(X)))
    with pytest.raises(ValueError, match="non-zero"):
        MLPClassifier(**SMALL).fit(X, Y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier(**SMALL).fit(X, X[:, 0])
    with pytest.raises(AttributeError, match="ensemble of 2"):
        _ = MLPClassifier(**SMALL).fit(X, Y).coefs_


def test_the_plan_of_the_recipe() -> None:
    plan = make_plan(MLPClassifier().get_params(), 1024, own_validation=False)
    assert plan.validation == "folds"
    assert plan.members == 8
    assert plan.recipe
    tiny = make_plan(MLPClassifier().get_params(), 10, own_validation=False)
    assert tiny.validation is None  # nothing to spare
    as_there = make_plan(MLPClassifier(max_iter=200).get_params(), 1024, own_validation=False)
    assert as_there.validation is None
    assert not as_there.recipe


def test_what_is_missing_is_said() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import jnn; import jnn.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'jnn[sklearn]'" in done.stderr


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_tolerance_is_about_targets_as_they_are() -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    y = np.sin(3 * x[:, 0])
    settings = {"max_iter": 300, "n_iter_no_change": 3, "hidden_layer_sizes": 8, "random_state": 0}
    # y times 64 has 4096 times the loss: the same tolerance then is a stricter one.
    epochs = {
        (scale, tol): MLPRegressor(tol=tol, **settings).fit(x, scale * y).n_iter_
        for scale, tol in ((1, 0.01), (64, 0.01 * 4096), (64, 0.01))
    }
    assert epochs[1, 0.01] == epochs[64, 0.01 * 4096] < epochs[64, 0.01]


def test_levenberg_marquardt_fits_a_smooth_curve_in_a_few_steps() -> None:
    x = np.linspace(-1, 1, 41)[:, None]
    y = np.sin(np.pi * x[:, 0])
    settings = {"hidden_layer_sizes": 5, "activation": "tanh", "alpha": 0, "max_iter": 60, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPRegressor(solver="lm", **settings).fit(x, y)
    assert model.score(x, y) > 0.99999
    assert (np.diff(model.loss_curve_) <= 0).all()
    assert not hasattr(model, "partial_fit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        own = MLPRegressor(optimizer=jnn.levenberg_marquardt(), **settings).fit(x, y)
    np.testing.assert_array_equal(own.predict(x), model.predict(x))
    stopped = MLPRegressor(solver="lm", **settings | {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 200})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert stopped.fit(x, y).validation_scores_ is not None
