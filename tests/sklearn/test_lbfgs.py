"""L-BFGS on a network without hidden neurons, which is logistic regression: beside scikit-learn's, member by member."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

import jnn
from jnn.likelihoods import Bernoulli
from jnn.sklearn import lbfgs
from jnn.training.program import FIRST_RULE, RUNNING
from tests import typechecker

RNG = np.random.default_rng(5)
N, D, MEMBERS, ALPHA = 37, 3, 2, 0.7
X = RNG.normal(size=(N, D))
Y = (X[:, :1] + RNG.logistic(size=(N, 1)) > 0.3).astype(float)
WEIGHTS = RNG.integers(1, 4, N).astype(float)
NETWORK = jnn.mlp([D, 1])


def fitted(weights=None, params=None, epochs=200, evaluations=1000, tol=1e-9, x=X):
    settings = {"weight_decay": ALPHA, "epochs": epochs}
    plan = types.SimpleNamespace(members=MEMBERS, tol=tol, settings=settings)
    with typechecker.off():
        return lbfgs.fit(
            NETWORK, Bernoulli(), x, Y.astype(x.dtype), weights, plan,
            key=jax.random.key(3), params=params, evaluations=evaluations,
        )  # fmt: skip


def loss(w, b, v):
    z = X @ w + b
    return (v @ (np.logaddexp(0, z) - Y * z)[:, 0] + ALPHA / 2 * np.sum(w**2)) / v.sum()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_minimum_is_scikit_learns(weights) -> None:
    v = np.ones(N) if weights is None else weights
    oracle = LogisticRegression(C=1 / ALPHA, tol=1e-10).fit(X, Y[:, 0], v)
    found = fitted(weights)
    for m in range(MEMBERS):
        w, b = found.params[0]["W"][m], found.params[0]["b"][m]
        np.testing.assert_allclose(w, oracle.coef_.T, atol=1e-6)  # of a slope of 1e-9, by a curvature of about 0.1
        np.testing.assert_allclose(b, oracle.intercept_, atol=1e-6)
        curve = found.history.train_error[m][: found.epochs[m]]
        assert np.all(np.diff(curve) < 1e-14)  # but for roundings
        assert curve[-1] == pytest.approx(loss(w, b, v), rel=1e-12)
        assert np.isnan(found.history.train_error[m][found.epochs[m] :]).all()
    assert not np.array_equal(found.history.train_error[0][:1], found.history.train_error[1][:1])  # of other weights
    assert np.isnan(found.history.validation_error).all()
    assert found.state.code.tolist() == [FIRST_RULE] * MEMBERS
    assert found.limit == max(found.epochs) == found.history.train_error.shape[1]


def test_it_begins_with_what_is_given_and_ends_where_it_is_told() -> None:
    best = fitted().params
    ended = fitted(params=best, tol=1e-4)
    assert ended.epochs.tolist() == [1, 1]  # there was nothing to do
    for leaf, old in zip(jax.tree.leaves(ended.params), jax.tree.leaves(best), strict=True):
        np.testing.assert_array_equal(leaf, old)
    far = jax.tree.map(lambda leaf: leaf + np.array([3.0, -3.0]).reshape(2, *[1] * (leaf.ndim - 1)), best)
    two = fitted(params=far, epochs=2)
    assert two.epochs.tolist() == [2, 2]
    assert two.state.code.tolist() == [RUNNING] * 2
    risks = two.history.train_error
    for m, sign in enumerate((3.0, -3.0)):
        first = loss(best[0]["W"][m] + sign, best[0]["b"][m] + sign, np.ones(N))
        assert first > risks[m, 0] > risks[m, 1]
    assert fitted(params=far, evaluations=1).state.code.tolist() == [RUNNING] * 2
    assert fitted(params=far, tol=10.0).epochs.tolist() == [1, 1]
    # Float32 ends where its roundings begin, and stays float32.
    narrow = fitted(x=X.astype(np.float32), tol=0.0)
    assert {leaf.dtype for leaf in jax.tree.leaves(narrow.params)} == {np.dtype(np.float32)}
    assert narrow.state.code.tolist() == [FIRST_RULE] * 2
    np.testing.assert_allclose(special.expit(X @ narrow.params[0]["W"][0] + narrow.params[0]["b"][0]),
                               special.expit(X @ best[0]["W"][0] + best[0]["b"][0]), atol=5e-3)  # fmt: skip


def test_members_are_drawn_from_keys_of_their_own() -> None:
    drawn = lbfgs._drawn(NETWORK, jax.random.key(3), 3, np.dtype(np.float32))
    for m, key in enumerate(jax.random.split(jax.random.key(3), 3)):
        jax.tree.map(
            lambda leaf, own, m=m: np.testing.assert_allclose(leaf[m], own, rtol=1e-6), drawn,
            NETWORK.init(key, dtype=jnp.float32),
        )  # fmt: skip
