"""On a GPU: the same training as on a CPU, and checks of derivatives that know its coarse products.

    JAX_PLATFORMS=cuda,cpu python -m pytest tests/test_gpu.py

Float64 leaves no room for differences but the order of sums; those grow with training, hence few epochs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from jnn import backprop, ensembles, gradcheck, likelihoods, stopping


def gpus() -> list[jax.Device]:
    try:
        return jax.devices("gpu")
    except RuntimeError:
        return []


pytestmark = pytest.mark.skipif(not gpus(), reason="no GPU that JAX can use here (JAX_PLATFORMS=cuda,cpu asks for one)")

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 8))
Y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(np.int32)
NETWORK = jnn.mlp([8, 20, 20, 2], "tanh", shortcuts=True)
train = functools.partial(
    jnn.fit, NETWORK, likelihoods.Categorical(), X, Y, epochs=15, validation=0.2, stopping=stopping.Patience(10)
)


def on(kind: str):
    return jax.default_device(jax.devices(kind)[0])


def close(a, b, rtol: float) -> None:
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol)


def test_training_is_the_cpus() -> None:
    with on("cpu"):
        expected = train(key=jax.random.key(0), gradient="autodiff")
    with on("gpu"):
        found = train(key=jax.random.key(0))
    assert {d.platform for leaf in jax.tree.leaves(found.params) for d in leaf.devices()} == {"gpu"}
    assert (found.epochs, found.best_epoch) == (expected.epochs, expected.best_epoch)
    close(found.params, expected.params, 1e-9)
    close(found.history.train_error, expected.history.train_error, 1e-9)


def test_members_are_the_networks_alone() -> None:
    keys = jax.random.split(jax.random.key(1), 5)
    ensemble = ensembles.fit(
        NETWORK,
        likelihoods.Categorical(),
        X,
        Y,
        key=keys,
        epochs=15,
        validation=0.2,
        stopping=stopping.Patience(10),
    )
    for i, key in enumerate(keys):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], ensemble.result.params), train(key=key).params, 1e-9)


def test_data_on_the_host_are_data_on_the_device() -> None:
    key = jax.random.key(2)
    close(train(key=key, rows_on_device=70).params, train(key=key).params, 1e-9)


def test_a_dag_is_its_mlp() -> None:
    dag, params = jnn.networks.as_dag(NETWORK, NETWORK.init(jax.random.key(3)))
    by_hand = backprop.value_and_grad(dag, likelihoods.Categorical())
    with on("cpu"):
        expected = by_hand(params, jnp.asarray(X), jnp.asarray(Y))
    with on("gpu"):
        close(by_hand(params, jnp.asarray(X), jnp.asarray(Y)), expected, 1e-11)


@pytest.mark.parametrize(("precision", "most"), [("highest", 1e-6), ("tensorfloat32", 2e-3), ("bfloat16", 2e-2)])
def test_the_precision_of_products_is_the_users(precision: str, most: float) -> None:
    """Rounding errors of inputs of 24, 11 and 8 bits; those of the coarser two are seen, too."""
    network = jnn.mlp([256, 256, 1], "identity")
    params = network.init(jax.random.key(4))
    x, y = (jnp.asarray(rng.normal(size=(512, size))) for size in (256, 1))
    gradient = backprop.value_and_grad(network, likelihoods.Gaussian())
    _, expected = gradient(params, x, y)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    with jax.default_matmul_precision(precision):
        _, found = gradient(single, x.astype(jnp.float32), y.astype(jnp.float32))
    a, b = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (found, expected))
    error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    assert error < most
    assert error > most / 1000


def product(wrong: float):
    @jax.custom_vjp
    def f(x, w):
        return jnp.tanh(x @ w)

    def forward(x, w):
        z = jnp.tanh(x @ w)
        return z, (x, w, z)

    def backward(residuals, g):
        x, w, z = residuals
        delta = g * (1 - z * z)
        return delta @ w.T, (1 + wrong) * (x.T @ delta)

    f.defvjp(forward, backward)
    return f


@pytest.mark.parametrize("precision", [None, "highest", "tensorfloat32", "bfloat16"])
def test_a_right_rule_passes_and_a_wrong_one_fails_in_any_precision(precision: str | None) -> None:
    x, w = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((64, 128), (128, 32)))
    with jax.default_matmul_precision(precision):
        right, wrong = gradcheck.check(product(0.0), x, w), gradcheck.check(product(0.1), x, w)
    assert right.verdict == "pass", str(right)
    assert wrong.verdict == "fail", str(wrong)
