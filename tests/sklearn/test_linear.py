"""The linear model beside each member: that it is there in the right shares, and honest about what was held out."""

import jax
import numpy as np
import pytest
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV

import jnn
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from jnn.sklearn import MLPClassifier, MLPRegressor, linear

MEMBERS, N, D, SEEN = 3, 60, 4, 3
random = np.random.default_rng(0)
X = random.normal(size=(N, D)).astype(np.float32)
SCORES = X @ random.normal(size=(D, 3)) + random.gumbel(size=(N, 3))
LABELS = SCORES.argmax(axis=1)
WEIGHTS = random.uniform(0.5, 2, size=N)
WEIGHTS /= WEIGHTS.mean()
ROWS = np.stack([np.delete(np.arange(N), np.arange(N)[m::MEMBERS]) for m in range(MEMBERS)])
HELD_OUT = np.stack([np.arange(N)[m::MEMBERS] for m in range(MEMBERS)])


def members(network: jnn.networks.Layered) -> jnn.networks.Params:
    return jax.device_get(jax.vmap(network.init)(jax.random.split(jax.random.key(1), MEMBERS)))


def data(y: np.ndarray, weights: np.ndarray | None) -> dict[str, object]:
    return {"z": X, "columns": SEEN, "y": y, "weights": weights, "rows": ROWS, "held_out": HELD_OUT}


def outputs(network: jnn.networks.Layered, params: jnn.networks.Params) -> np.ndarray:
    return np.asarray(jax.vmap(lambda w: network.apply(w, X))(params), np.float64)


def losses(likelihood: object, z: np.ndarray, y: np.ndarray) -> np.ndarray:
    if isinstance(likelihood, Gaussian):
        return ((z - y) ** 2).sum(axis=1)
    if isinstance(likelihood, Categorical):
        return -special.log_softmax(z, axis=1)[np.arange(len(z)), y]
    return -special.log_expit(np.where(y > 0, z, -z)).sum(axis=1)


def linear_models(likelihood: object, y: np.ndarray) -> np.ndarray:
    """What scikit-learn's own models of each member's rows say of all, `(members, n, K)`."""
    x, v = X[:, :SEEN].astype(float), WEIGHTS
    if isinstance(likelihood, Gaussian):
        said = [[Ridge(penalty).fit(x[r], y[r], v[r]).predict(x).reshape(N, -1) for r in ROWS]
                for penalty in linear.PENALTIES]  # fmt: skip
        errors = [sum(losses(likelihood, one[r], y[r]) @ v[r] for one, r in zip(each, HELD_OUT, strict=True))
                  for each in said]  # fmt: skip
        return np.stack(said[np.argmin(errors)])
    # Much further than to the default tolerance, at which ours stop.
    if isinstance(likelihood, Categorical):
        return np.stack([LogisticRegression(tol=1e-6).fit(x[r], y[r], v[r]).predict_log_proba(x) for r in ROWS])
    columns = [[LogisticRegression(tol=1e-6).fit(x[r], c[r], v[r]).decision_function(x) for c in y.T] for r in ROWS]
    return np.moveaxis(np.array(columns), 1, 2)


@pytest.mark.parametrize(
    ("likelihood", "y"),
    [
        (Gaussian(), SCORES[:, :2]),
        (Bernoulli(), (SCORES[:, :1] > 0).astype(float)),
        (Bernoulli(), (SCORES > 0).astype(float)),
        (Categorical(), LABELS),
    ],
    ids=["Gaussian", "Bernoulli", "labels", "Categorical"],
)
def test_shares_are_those_of_the_lowest_error_on_what_was_held_out_as_far_as_is_certain(
    likelihood, y, monkeypatch
) -> None:
    monkeypatch.setattr(linear, "TOLERANCE", 1e-6)
    network = jnn.mlp([D, 5, 3 if y.ndim == 1 else y.shape[1]], "silu")
    params = members(network)
    if isinstance(likelihood, Gaussian):  # else linear models alone are the best
        y = y + 2 * outputs(network, params).mean(axis=0)
    new, (found,) = linear.beside(network, likelihood, [params], **data(y, 1e-3 * WEIGHTS))  # whose scale is no matter
    assert new.layers[-1].sources == (0, 1)
    a, b = outputs(network, params), linear_models(likelihood, y)

    weights = np.concatenate([WEIGHTS[r] for r in HELD_OUT])

    def of_each(shares: np.ndarray) -> np.ndarray:
        """What every example that was held out is weighted and off."""
        return weights * np.concatenate([losses(likelihood, shares[0] * p[r] + shares[1] * q[r], y[r])
                                         for p, q, r in zip(a, b, HELD_OUT, strict=True)])  # fmt: skip

    def error(shares: np.ndarray) -> float:
        return of_each(shares).sum() + (0.0 if isinstance(likelihood, Gaussian) else 5 * (sum(shares) - 1) ** 2)

    if isinstance(likelihood, Gaussian):  # α + β = 1
        beta = optimize.minimize_scalar(lambda w: error([1 - w, w]), bounds=(0, 1), method="bounded").x
        best = [1 - beta, beta]
    else:
        best = optimize.minimize(error, [0.5, 0.5], method="Nelder-Mead", bounds=[(0, None)] * 2, tol=1e-10).x
    assert best[1] > 0.1
    # On the way to them from the linear model alone, by differences of the error.
    of_part = lambda t: of_each(t * np.array(best) + (1 - t) * np.array([0, 1]))  # noqa: E731
    below, there, above = (of_part(t) for t in (0.999, 1, 1.001))
    part = 1 / (1 + 8 * np.sum(((above - below) / 2e-3) ** 2) / np.sum((above - 2 * there + below) / 1e-6) ** 2)
    assert 0.02 < part < 0.98, part
    best = part * np.array(best) + (1 - part) * np.array([0, 1])
    said, expected = outputs(new, found), best[0] * a + best[1] * b
    if isinstance(likelihood, Categorical):  # up to what soft-max does not see
        said, expected = (special.log_softmax(z, axis=-1) for z in (said, expected))
    np.testing.assert_allclose(said, expected, atol=2e-3)  # minimizers stop at about 1e-4 of a share


def test_others_stay_as_they_are() -> None:
    network = jnn.mlp([D, 5, 1])
    params = members(network)
    for likelihood, y in ((Poisson(), np.ones((N, 1))), (Bernoulli(), np.ones((N, 1)))):  # there is only one class
        assert linear.beside(network, likelihood, [params], **data(y, None)) == (network, [params])


@pytest.mark.parametrize("likelihood", [Bernoulli(), Categorical()])
def test_linear_models_of_classes_are_scikit_learns(likelihood) -> None:
    """Of each member, with unequal weights and a row that counts twice."""
    own = np.array([np.bincount(r, minlength=N) for r in ROWS]) * WEIGHTS
    own[0, ROWS[0][0]] *= 2
    y = (SCORES > 0).astype(float) if isinstance(likelihood, Bernoulli) else np.eye(3)[LABELS]
    found = linear._logistic(X.astype(float), y, own, likelihood)
    for m, v in enumerate(own):
        kept = v > 0
        labels = y.T if isinstance(likelihood, Bernoulli) else [LABELS]
        fits = [LogisticRegression(tol=1e-6).fit(X[kept], c[kept], v[kept]) for c in labels]
        expected = np.concatenate([fit.coef_ for fit in fits]).T
        # Both stop at a slope of 1e-3, or less; the error curves by about 0.1.
        np.testing.assert_allclose(found.A[m], expected, atol=0.02)
        np.testing.assert_allclose(found.c[m], np.concatenate([fit.intercept_ for fit in fits]), atol=0.02)


def test_a_class_that_a_member_has_not_seen_is_rare_to_it() -> None:
    target, seen = np.eye(4)[LABELS], np.where(LABELS == 2, 0.0, 1.0)
    found = linear._logistic(X.astype(float), target, np.stack([seen, 1 - seen]), Categorical())
    p = special.softmax(found(X), axis=2)
    assert p[seen > 0, 0, 2:].mean() < 1e-2
    assert p[seen == 0, 1, 2].mean() > 0.97  # the only class that the other has seen
    found = linear._logistic(X.astype(float), np.zeros((N, 1)), np.ones((1, N)), Bernoulli())
    assert special.expit(found(X)).mean() < 1e-2


def test_where_nothing_bends_the_default_is_as_good_as_the_linear_model() -> None:
    x = random.normal(size=(1200, 30))
    slopes = random.normal(size=30) * (np.arange(30) < 5)
    y = x @ slopes + 3 * random.normal(size=1200)
    (train, test), ours, theirs = np.split(np.arange(1200), [120]), MLPRegressor(random_state=0), RidgeCV()
    away = [np.mean((m.fit(x[train], y[train]).predict(x[test]) - x[test] @ slopes) ** 2) for m in (ours, theirs)]
    assert away[0] < 1.05 * away[1]


def test_where_targets_are_a_linear_function_no_penalty_is_in_the_way() -> None:
    x = random.normal(size=(300, 5))
    y = x @ [1, 2, 3, 4, 5]
    ours, theirs = MLPRegressor(random_state=0).fit(x[:150], y[:150]), Ridge(0.01).fit(x[:150], y[:150])
    away = [np.mean((model.predict(x[150:]) - y[150:]) ** 2) for model in (ours, theirs)]
    assert away[0] < away[1]


def test_what_is_held_out_is_held_out_from_the_linear_models_too() -> None:
    """With as many inputs as examples to a member, a linear model that had seen them would have no errors there."""
    x, y = random.normal(size=(64, 50)), random.normal(size=64)
    model = MLPRegressor(random_state=0, hidden_layer_sizes=2).fit(x, y)
    assert model.noise_[0] > 0.8 * y.std()


def test_training_goes_on_and_files_hold_it(tmp_path) -> None:
    x = X.astype(float)
    model = MLPClassifier(members=2, hidden_layer_sizes=(4, 3), random_state=0, warm_start=True).fit(x, LABELS)
    assert model.network_.layers[-1].sources == (0, 2)
    model.save(tmp_path / "model.safetensors")
    loaded = MLPClassifier.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))
    again = [m.fit(x, LABELS).predict_proba(x) for m in (model, loaded)]
    assert all(m.network_.layers[-1].sources == (0, 2) for m in (model, loaded))
    assert np.abs(again[0] - again[1]).max() < 0.5  # begun at the last and at the best weights
    with pytest.raises(ValueError, match="shortcuts"):
        model.set_params(shortcuts=True).fit(x, LABELS)
