"""The experiment on weights and neurons: measures beside known functions, and verdicts that follow from effects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from experiments.lecture import weights_against_neurons as experiment
from experiments.lecture.weights_against_neurons import DECAYS, GRID, NETWORK, NEURONS, SIZES, Effects, Trained
from experiments.statistics import Estimate

X = GRID[:, 0].astype(np.float64)


@pytest.mark.parametrize(("f", "count"), [(X, 1), (X**2, 2), (np.cos(3 * np.pi * X), 6), (np.tanh(500 * X), 1)])
def test_pieces_of_known_functions(f: np.ndarray, count: int) -> None:
    assert experiment.pieces(f) == count
    assert experiment.pieces(f + 1e-8 * np.random.default_rng(0).normal(size=f.shape)) == count
    assert experiment.pieces(np.stack([f, -f])).tolist() == [count, count]


@pytest.mark.parametrize("k", [5 * np.pi, 20 * np.pi])
def test_roughness_of_a_sine_is_its_wave_number(k: float) -> None:
    assert experiment.roughness(np.sin(k * X)) == pytest.approx(k, rel=0.01)
    assert experiment.roughness(7 * X) == pytest.approx(0, abs=1e-6)


def test_neurons_that_are_absent_stay_absent() -> None:
    params = experiment.with_neurons(NETWORK.init(jax.random.key(0)), jnp.asarray(4))
    narrow = jnn.mlp([1, 4, 1])
    own = ({"W": params[0]["W"][:, :4], "b": params[0]["b"][:4]}, {"W": params[1]["W"][:4], "b": params[1]["b"]})
    np.testing.assert_allclose(NETWORK.apply(params, GRID), narrow.apply(own, GRID), atol=1e-5)
    trained = [
        jnn.fit(
            network,
            jnn.likelihoods.Gaussian(),
            GRID[::20],
            np.sin(4 * GRID[::20]),
            key=jax.random.key(1),
            optimizer=jnn.adam(0.03),
            epochs=30,
            batch_size=None,
            params=start,
            weight_decay=0.1,
        ).params
        for network, start in ((NETWORK, params), (narrow, own))
    ]
    assert not np.any(trained[0][0]["W"][:, 4:])
    assert not np.any(trained[0][1]["W"][4:])
    np.testing.assert_allclose(trained[0][0]["W"][:, :4], trained[1][0]["W"], rtol=1e-3)


def test_effects_are_those_that_were_put_in() -> None:
    """pieces = size² · √neurons."""
    neurons, sizes = (v.reshape(len(NEURONS), len(SIZES), 1, 1) for v in experiment.combinations(NEURONS, SIZES))
    f = sizes**2 * np.sqrt(neurons) * (1 + 0.01 * np.arange(5)[:, None])
    found = experiment.doublings(f, lambda f: f[..., 0], 0)
    assert (found.size.mean, found.neurons.mean) == pytest.approx((2, 0.5))
    assert experiment.random_verdict("pieces", found).holds is True
    swapped = Effects(found.neurons, found.size, Estimate(-1.5, 0.1, -1.6, -1.4))
    assert experiment.random_verdict("pieces", swapped).holds is False


@pytest.mark.parametrize(("by_size", "by_number", "holds"), [(1.0, 0.1, True), (0.1, 1.0, False)])
def test_the_verdict_on_trained_networks_follows_from_their_gaps(by_size: float, by_number: float, holds: bool) -> None:
    rng = np.random.default_rng(0)
    shape = (len(NEURONS), len(DECAYS), 10)
    size = np.exp(rng.normal(size=shape))
    number = np.log(np.array(NEURONS))[:, None, None]
    gap = by_size * np.log(size) + by_number * number + 0.1 * rng.normal(size=shape)
    found = experiment.ranks(Trained(size, np.zeros(shape), gap), 0)
    assert experiment.trained_verdict(found).holds is holds
