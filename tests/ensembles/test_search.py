"""Cross-validation against ridge regression in closed form, and the one-standard-error rule by hand."""

import jax
import numpy as np
import optax
import pytest

from jnn import ensembles, mlp, optimizers
from jnn.ensembles import Search, search as search_module
from jnn.likelihoods import Gaussian

RNG = np.random.default_rng(8)
X = RNG.normal(size=(23, 4))
Y = X @ np.array([[1.0], [-2.0], [0.0], [0.5]]) + 0.5 * RNG.normal(size=(23, 1))


def ridge_scores(key, decays, folds):
    """½ (f − y)² on each held-out fold of the minimizer of ½ Σ (f − y)² + γ/2 ‖w‖², the bias not penalized."""
    rows, held_out = (np.asarray(r) for r in ensembles.k_fold(jax.random.split(key)[0], len(X), folds))
    design = np.hstack([X, np.ones((len(X), 1))])
    scores = np.empty((len(decays), folds))
    for i, decay in enumerate(decays):
        for j, (train, test) in enumerate(zip(rows, held_out, strict=True)):
            a, b = design[train[train >= 0]], Y[train[train >= 0]]
            w = np.linalg.solve(a.T @ a + decay * np.diag([1, 1, 1, 1, 0]), a.T @ b)
            other = test[test >= 0]
            scores[i, j] = np.mean(0.5 * (design[other] @ w - Y[other]) ** 2)
    return scores


def test_scores_are_those_of_ridge_regression(key):
    decays = [30.0, 3.0, 0.0]
    search = ensembles.cross_validate(
        mlp([4, 1]), Gaussian(), X, Y, key=key, folds=4, grid={"weight_decay": decays},
        mask=({"W": np.array(True), "b": np.array(False)},), optimizer=optax.lbfgs(), epochs=60, batch_size=None,
    )  # fmt: skip
    expected = ridge_scores(key, decays, 4)
    np.testing.assert_allclose(search.scores, expected, rtol=1e-6)
    assert search.best == {"weight_decay": decays[int(np.argmin(expected.mean(axis=1)))]}


def test_the_choices_and_the_table():
    scores = np.array([[5.0, 5.0, 5.0], [2.0, 2.2, 2.4], [1.0, 2.0, 3.0], [np.inf, 1.0, 1.0]])
    search = Search(tuple({"weight_decay": d} for d in (9.0, 3.0, 1.0, 0.0)), scores, np.full((4, 3), 7))
    np.testing.assert_allclose(search.mean[:3], [5, 2.2, 2])
    np.testing.assert_allclose(search.standard_error[:3], [0, 0.2 / np.sqrt(3), 1 / np.sqrt(3)])
    assert search.best == {"weight_decay": 1.0}
    assert search.simplest == {"weight_decay": 3.0}  # 2.2 ≤ 2 + 0.577
    lines = str(search).splitlines()
    assert lines[0].split() == ["weight_decay", "score", "±", "s.e.", "epochs"]
    assert "within one standard error" in lines[2]
    assert lines[3].endswith("best")


def test_networks_and_rates_in_one_grid(key):
    networks = [mlp([4, 2, 1]), mlp([4, 6, 1])]
    search = ensembles.cross_validate(
        None, Gaussian(), X, Y, key=key, folds=2, epochs=3, grid={"network": networks, "learning_rate": [0.01, 0.02]},
        optimizer=optimizers.parametrized(optax.sgd, learning_rate=0.1),
    )  # fmt: skip
    assert [setting["learning_rate"] for setting in search.settings] == [0.01, 0.02, 0.01, 0.02]
    assert search.scores.shape == (4, 2)
    assert "4-6-1" in str(search)


def test_bad_grids_are_told(key):
    with pytest.raises(ValueError, match="expected a grid with at least one value"):
        ensembles.cross_validate(mlp([4, 1]), Gaussian(), X, Y, key=key, grid={})
    with pytest.raises(ValueError, match="expected network either as the first argument or in the grid"):
        ensembles.cross_validate(None, Gaussian(), X, Y, key=key, grid={"weight_decay": [1.0]})
    with pytest.raises(ValueError, match="every setting diverged"):
        _ = Search(({"a": 1},), np.array([[np.inf, 1.0]]), np.ones((1, 2))).best


class _Enough(Exception):
    pass


def given_to(name, monkeypatch, call):
    """The arguments with which `call` gets to a function that it uses; it goes no further."""
    seen = {}

    def stop(*given, **named):
        seen.update(named, given=given)
        raise _Enough

    monkeypatch.setattr(search_module, name, stop)
    with pytest.raises(_Enough):
        call()
    return seen


def test_what_every_fold_of_every_setting_is_trained_with(key, monkeypatch):
    """The last name varies fastest, each setting stands once for each fold, and folds and keys are all settings'."""
    networks = [mlp([4, 1]), mlp([4, 2, 1])]
    grid = {"network": networks, "weight_decay": [0.1, 0.2], "b1": [0.5, 0.6]}
    named = given_to(
        "fit", monkeypatch, lambda: ensembles.cross_validate(None, Gaussian(), X, Y, key=key, folds=2, grid=grid)
    )
    assert named["given"][0] == [network for network in networks for _ in range(8)]
    np.testing.assert_array_equal(named["weight_decay"], np.tile(np.repeat([0.1, 0.2], 4), 2))
    assert named["optimizer"] == optimizers.adam(b1=np.tile(np.repeat([0.5, 0.6], 2), 4))
    fold_key, member_key = jax.random.split(key)
    rows, _ = ensembles.k_fold(fold_key, len(X), 2)
    np.testing.assert_array_equal(named["rows"], np.tile(rows, (8, 1)))
    expected = jax.random.key_data(jax.random.split(member_key, 2))
    np.testing.assert_array_equal(jax.random.key_data(named["key"]), np.tile(expected, (8, 1)))
    own = {"optimizer": optimizers.steepest_descent(0.3), "epochs": 7}
    named = given_to(
        "fit",
        monkeypatch,
        lambda: ensembles.cross_validate(networks[0], Gaussian(), X, Y, key=key, grid={"learning_rate": [1, 2]}, **own),
    )
    assert named["given"][0] is networks[0]
    assert named["optimizer"] == optimizers.steepest_descent(np.repeat([1.0, 2.0], 5))  # five folds
    assert named["epochs"] == 7
    assert "weight_decay" not in named


def test_folds_are_stratified_by_labels_alone(key, monkeypatch):
    for y, stratified in ((np.arange(23) % 3, True), (Y, False), (np.arange(23)[:, None] % 2, False)):
        named = given_to(
            "k_fold",
            monkeypatch,
            lambda y=y: ensembles.cross_validate(mlp([4, 3]), Gaussian(), X, y, key=key, grid={"weight_decay": [1.0]}),
        )
        classes = named["given"][3]
        assert (classes is not None) == stratified
        assert classes is None or classes.tolist() == y.tolist()


def test_of_equal_scores_without_a_spread_the_first_is_best_and_simplest():
    search = Search(({"a": 1}, {"a": 2}, {"a": 3}), np.array([[2.0, 2], [1, 1], [1, 1]]), np.ones((3, 2)))
    assert search.best == search.simplest == {"a": 2}
    diverged = Search(({"a": 1}, {"a": 2}), np.array([[np.inf, 0.0], [1, 3]]), np.ones((2, 2)))
    assert diverged.best == {"a": 2}
    assert np.isnan(diverged.standard_error[0])
