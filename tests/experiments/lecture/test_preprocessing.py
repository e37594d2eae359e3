"""The experiment on preprocessing: condition numbers beside closed forms, and verdicts that follow from epochs."""

import jax
import jax.flatten_util
import numpy as np
import pytest

import jnn
from experiments.lecture import preprocessing
from experiments.lecture.preprocessing import KINDS, PROBLEMS, RATES, Found


def test_the_condition_number_is_that_of_the_hessian_that_autodiff_finds() -> None:
    x = np.random.default_rng(0).normal(1, 2, (40, 3))
    with jax.enable_x64(True):
        network = jnn.mlp([3, 1])
        params = network.init(jax.random.key(0), dtype=np.float64)
        flat, unflatten = jax.flatten_util.ravel_pytree(params)
        risk = jnn.objectives.objective(network, jnn.likelihoods.Gaussian(), reduction="sum")
        hessian = jax.hessian(lambda w: risk(unflatten(w), jax.numpy.asarray(x), jax.numpy.ones((40, 1))))(flat)
        eigenvalues = np.linalg.eigvalsh(np.asarray(hessian))
    assert preprocessing.condition(x[None])[0] == pytest.approx(eigenvalues[-1] / eigenvalues[0], rel=1e-9)


def test_a_linear_model_takes_as_many_epochs_as_said() -> None:
    """Steepest descent on ½(λ₁w₁² + λ₂w₂²) at the rate 2/(λ₁ + λ₂)."""
    eigenvalues, w, epochs = np.array([1.0, 25.0]), np.array([1.0, 1.0]), 0
    while np.linalg.norm(w) > np.sqrt(2) / 100:
        w, epochs = w - 2 / 26 * eigenvalues * w, epochs + 1
    assert epochs == np.ceil(preprocessing.linear_epochs(25.0))


def test_whitened_inputs_have_condition_number_1() -> None:
    x = np.stack([preprocessing.correlated(seed)[0] for seed in range(2)])
    kinds = preprocessing.inputs(x)
    np.testing.assert_allclose(preprocessing.condition(kinds["whitened"]), 1, rtol=1e-4)
    assert (preprocessing.condition(kinds["raw"]) > 50).all()


def found(epochs: dict[str, list[int]], condition: dict[str, float] | None = None) -> Found:
    """Networks that reach the target after so many epochs at the second rate, and never at the others."""
    target, seeds = PROBLEMS["wine"].target, len(epochs["raw"])
    risk = {}
    for kind, needed in epochs.items():
        risk[kind] = np.full((len(RATES), 2 * seeds, 100), 2 * target)
        for place, epoch in enumerate([*needed, *needed]):
            risk[kind][1, place, epoch:] = target / 2
    kappa = condition or {"raw": 100.0, "standardized": 10.0, "whitened": 1.0}
    wobble = 1 + 1e-4 * np.arange(2 * seeds)
    return Found(PROBLEMS["wine"], {kind: kappa[kind] * wobble for kind in KINDS}, risk)


def test_epochs_are_counted_at_the_best_rate() -> None:
    f = found({"raw": [30] * 5, "standardized": [10] * 5, "whitened": [100] * 5})
    assert [f.rate(kind) for kind in KINDS[:2]] == [1, 1]
    assert f.epochs("raw").tolist() == [30] * 5
    assert np.isinf(f.epochs("whitened")).all()


@pytest.mark.parametrize(("raw", "holds"), [([30] * 10, True), ([3] * 10, False), ([20] * 5 + [5] * 5, None)])
def test_the_verdict_follows_from_the_epochs(raw: list[int], holds: bool | None) -> None:
    f = found({"raw": raw, "standardized": [10] * 10, "whitened": [10] * 10})
    assert preprocessing.sooner(f, "standardized", "raw").holds is holds
    assert preprocessing.sooner(f, "whitened", "standardized").holds is None  # ties decide nothing


def test_a_surface_that_is_not_round_refutes_the_claim() -> None:
    epochs = {kind: [5] * 4 for kind in KINDS}
    assert preprocessing.rounder([found(epochs)]).holds is True
    assert preprocessing.rounder([found(epochs, {"raw": 9.0, "standardized": 9.0, "whitened": 1.5})]).holds is False
    assert preprocessing.rounder([found(epochs, {"raw": 9.0, "standardized": 10.0, "whitened": 1.0})]).holds is False
