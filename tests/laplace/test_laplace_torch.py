"""Posteriors beside laplace-torch's (Daxberger et al., 2021).

The values were made by `made_by_laplace_torch.py`, with laplace-torch 0.3, curvlinops 3.0.1 and PyTorch 2.14.1, on
1 December 2026. Evidence there has the full normal density, and a prior precision α where ours has γ = α σ².
"""

import json
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jnn
from jnn import curvature, laplace, likelihoods

VALUES = json.loads((Path(__file__).parent / "laplace_torch.json").read_text())
NETWORK = jnn.mlp([2, 3, 2])
ALPHA, SIGMA = 0.7, 0.3


@pytest.mark.parametrize("structure", ["full", "kronecker"])
@pytest.mark.parametrize("case", ["regression", "classification"])
def test_posteriors_are_those_of_laplace_torch(case, structure):
    likelihood, noise = likelihoods.Gaussian(), SIGMA**2
    y = np.sin(2 * np.arange(1, 19)).reshape(9, 2)
    if case == "classification":
        likelihood, noise, y = likelihoods.Categorical(), 1.0, np.array([0, 1, 1, 0, 1, 0, 0, 0, 1])
    x = np.cos(np.arange(1, 19)).reshape(9, 2)
    new = jnp.array([[0.5, -0.5], [2.0, 1.0], [-3.0, 4.0]])
    like = NETWORK.init(jax.random.key(0), dtype=jnp.float64)
    params = ravel_pytree(like)[1](jnp.sin(jnp.arange(1.0, 18.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", laplace.NotConvergedWarning)  # its formulas hold anywhere
        posterior = laplace.fit(
            NETWORK, likelihood, params, x, y, weight_decay=ALPHA * noise, noise=noise, structure=structure
        )
    expected = VALUES[f"{case}, {'kron' if structure == 'kronecker' else 'full'}"]
    precision = np.linalg.inv(posterior.covariance(jnp.eye(17)))
    # The bound, 1e-10: both compute in float64.
    np.testing.assert_allclose(precision @ np.cos(np.arange(17)), expected["precision @ v"], rtol=1e-10)
    assert float(posterior.log_evidence) == pytest.approx(expected["evidence"], rel=1e-10)
    jacobians = jax.tree.leaves(curvature.jacobian(NETWORK, params, new))
    for j, covariance in zip(
        jnp.concatenate([leaf.reshape(3, 2, -1) for leaf in jacobians], axis=2), expected["covariance"], strict=True
    ):
        np.testing.assert_allclose(posterior.covariance(j), covariance, rtol=1e-10)
