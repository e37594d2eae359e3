"""The deviation that `MLPRegressor` predicts: h beside dense matrices, and wide where there are no examples."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from jnn import curvature
from jnn.sklearn import MLPRegressor
from jnn.sklearn.leverages import DECAYS, KEPT, MOST, Leverages, Seen

NETWORK = jnn.mlp([2, 3, 4, 2], "tanh", shortcuts=True)


def seen_by_two(n=30):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 2))
    y = np.stack([np.sin(2 * z[:, 0]), z[:, 1]], axis=1) + rng.normal(size=(n, 2))
    return Seen.of(z, y, np.stack([np.arange(8), np.r_[8:14, -1, -1]]), 2)


def test_h_and_noise_are_those_of_dense_matrices(key):
    """(G + γ)⁻¹ over the weights, by the curvature's Jacobian; the likelihood of the residuals, γ by γ."""
    seen, dispersion = seen_by_two(), 0.25
    assert seen.held_out.sum(axis=1).tolist() == [8, 6]
    params = jax.vmap(lambda k: NETWORK.init(k, dtype=jnp.float64))(jax.random.split(key, 2))
    found = Leverages(NETWORK, params, seen, dispersion)
    new = np.random.default_rng(1).normal(size=(5, 2))

    def of_member(number, gamma, x):
        own = jax.tree.map(lambda leaf: leaf[number], params)
        rows = [
            jnp.concatenate([leaf.reshape(len(z), 2, -1) for leaf in jax.tree.leaves(j)], axis=2)
            for z in (seen.z[~seen.held_out[number]], x)
            for j in [curvature.jacobian(NETWORK, own, jnp.asarray(z))]
        ]
        j = rows[0].reshape(-1, rows[0].shape[-1])
        inverse = np.linalg.inv(j.T @ j + gamma * np.eye(j.shape[1]))
        return np.einsum("nkp,pq,nkq->nk", rows[1], inverse, rows[1]), np.asarray(NETWORK.apply(own, x))

    expected = np.mean([of_member(m, found.weight_decay, new)[0] for m in range(2)], axis=0)
    # Jacobians squared over γ are some 1e5: what float64 leaves of a difference of such numbers.
    np.testing.assert_allclose(found(new), expected, rtol=1e-9, atol=1e-9)
    likelihoods, noises = [], []
    for gamma in DECAYS * dispersion:
        each = [(of_member(m, gamma, seen.z[out]), seen.y[out]) for m, out in enumerate(seen.held_out)]
        h = np.concatenate([h for (h, _), _ in each])
        squares = np.concatenate([(a - y) ** 2 for (_, a), y in each])
        noises.append(np.mean(squares / (1 + h), axis=0))
        variance = noises[-1] * (1 + h)
        likelihoods.append(-0.5 * np.sum(squares / variance + np.log(variance)))
    smallest = next(n for n, value in enumerate(likelihoods) if value >= max(likelihoods) - 1)
    assert found.weight_decay == pytest.approx(DECAYS[smallest] * dispersion)
    np.testing.assert_allclose(found.noise_share, noises[smallest] / np.mean(squares, axis=0), rtol=1e-9)


def test_a_part_stands_for_all_examples():
    rng = np.random.default_rng(0)
    n = 3 * KEPT
    z, y = rng.normal(size=(n, 1)), rng.normal(size=(n, 1))
    params = jax.tree.map(lambda leaf: leaf[None], jnn.mlp([1, 1]).init(jax.random.key(0), dtype=jnp.float64))
    seen = Seen.of(z, y, np.arange(MOST)[None], 1)
    assert seen.held_out.sum() == MOST  # all of them, and of the others a third
    assert KEPT <= len(seen.z) < KEPT + MOST
    assert seen.counts.tolist() == [n - MOST]
    part = Leverages(jnn.mlp([1, 1]), params, seen, 1.0)(np.array([[2.0]]))
    design = np.c_[z[MOST:], np.ones(n - MOST)]
    expected = np.array([2.0, 1.0]) @ np.linalg.inv(design.T @ design) @ np.array([2.0, 1.0])
    np.testing.assert_allclose(part, expected, rtol=0.2)  # by the second moment of 512: known to √(2/512), three times


@pytest.fixture(scope="module")
def with_a_gap():
    """Trained on [−1, −0.6] and [0.6, 1]. By the default recipe: where networks tell nothing that is certain, as two of
    ten neurons here, the linear model has most of the share, and it widens little.
    """
    rng = np.random.default_rng(0)
    x = np.where(rng.uniform(size=(80, 1)) < 0.5, -1, 1) * rng.uniform(0.6, 1, (80, 1))
    y = np.cos(4 * x[:, 0]) + 0.1 * rng.normal(size=80)
    return MLPRegressor(random_state=0).fit(x, y)


def test_deviations_widen_in_a_gap_and_beyond_the_data(with_a_gap):
    among, gap, beyond = ([[-0.8], [0.8]], [[0.0], [0.1]], [[-2.0], [2.0]])
    mean, near = with_a_gap.predict(among, return_std=True)
    np.testing.assert_array_equal(mean, with_a_gap.predict(among))
    for far in (gap, beyond):
        assert with_a_gap.predict(far, return_std=True)[1].min() > 1.5 * near.max()
    # Where there are examples, what h adds to the noise is what was taken from it.
    assert 0.7 < near.mean() / with_a_gap.noise_[0] < 1.5
    low, high = with_a_gap.predict_interval([[0.0], [0.8]])
    assert high[0] - low[0] > 1.5 * (high[1] - low[1])


def test_what_widens_is_kept_by_files_and_pickles(with_a_gap, tmp_path):
    x = np.linspace(-2, 2, 9)[:, None]
    expected = with_a_gap.predict(x, return_std=True)
    with_a_gap.save(tmp_path / "model")
    for again in (MLPRegressor.load(tmp_path / "model"), pickle.loads(pickle.dumps(with_a_gap))):
        np.testing.assert_array_equal(again.predict(x, return_std=True), expected)


def test_a_stream_does_not_widen():
    """Its last part would tell of gaps where earlier ones were."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 1))
    model = MLPRegressor(hidden_layer_sizes=5, random_state=0).partial_fit(x, x[:, 0])
    assert model._seen is None
    assert np.isfinite(model.predict(x, return_std=True)[1]).all()
