"""The training kernel, interpreted: its gradients are autodiff's, and it learns what jnn learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from experiments.benchmarks import fused
from jnn import gradcheck, likelihoods


def test_gradients_are_autodiffs() -> None:
    rng = np.random.default_rng(0)
    w = fused.Weights(*(jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((16, 4), (16,), (3, 16), (3,))))
    x = jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)
    y = jax.nn.one_hot(rng.integers(0, 3, 8), 3, dtype=jnp.float32)

    def loss(w, x, y):
        a = jnp.tanh(x @ w.w1.T + w.b1[None, :]) @ w.w2.T + w.b2[None, :]
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(a), axis=1))

    gradcheck.compare(fused.gradients, jax.grad(loss), w, x, y).raise_for_failure()


def test_it_learns_what_jnn_learns_from_the_same_batches() -> None:
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(96, 10)).astype(np.float32), rng.integers(0, 3, 96).astype(np.int32)
    network = jnn.mlp([10, 20, 3], "tanh")
    keys = jax.random.split(jax.random.key(0), 2)
    params = jax.vmap(lambda key: network.init(key, dtype=jnp.float32))(keys)
    order = jnp.tile(jnp.arange(96, dtype=jnp.int32).reshape(1, 3, fused.BATCH), (2, 2, 1))
    found = fused.unpadded(fused.train(fused.padded(params), *fused.examples(x, labels, 3), order, True), params)
    for i in range(2):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], params)
        settings = {
            "epochs": 2,
            "batch_size": fused.BATCH,
            "shuffle": False,
            "optimizer": jnn.adam(fused.LEARNING_RATE),
        }
        expected = jnn.fit(network, likelihoods.Categorical(), x, labels, key=keys[i], params=own, **settings)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected.params), strict=True):
            np.testing.assert_allclose(a[i], b, atol=1e-5)  # Adam's first steps divide by tiny moments, in float32


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there is a GPU, on which the command would measure")
def test_without_a_gpu_it_says_so(capsys) -> None:
    assert fused.main([]) == 2
    assert "GPU" in capsys.readouterr().err
