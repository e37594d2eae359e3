"""`fit` is one compiled program: for equal shapes and settings once; under `jit` and `vmap` the same as by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import adam, fit, mlp, stopping
from jnn.likelihoods import Gaussian
from jnn.training import program

from .training_oracles import assert_close

RNG = np.random.default_rng(20)
X = RNG.normal(size=(13, 3))
Y = np.stack([np.sin(X[:, 0]) + X[:, 1], X[:, 2] ** 2], axis=1)
NETWORK = mlp([3, 4, 2])


def test_equal_shapes_and_settings_compile_once(key):
    x, y = X[:, :2], Y[:, :1]

    def train(seed=0, rate=0.01, decay=0.1, scale=1.0, **more):
        fit(
            *(mlp([2, 3, 1]), Gaussian(), scale * x, y),
            key=jax.random.fold_in(key, seed),
            optimizer=more.pop("optimizer", None) or adam(rate),
            epochs=7,
            batch_size=4,
            weight_decay=decay,
            validation=0.2,
            stopping=stopping.Patience(5),
            **more,
        )
        return program.run._cache_size(), program.start._cache_size()

    once = train()
    assert train(seed=1) == once
    assert train(decay=0.2) == once
    assert train(decay=jnp.float32(0.3)) == once
    assert train(scale=2.0) == once
    assert train(callback=lambda seen: None, callback_every=2) == once
    assert train(rate=0.02) == (once[0] + 1, once[1] + 1)  # the rate is part of the optimizer
    plain = optax.scale(-0.01)
    again = train(optimizer=plain)
    assert train(optimizer=plain) == again


def train_small(key, rate=0.05, decay=0.1, x=X, y=Y, validation=None, rules=None, epochs=6):
    return fit(
        *(NETWORK, Gaussian(), x, y),
        key=key,
        optimizer=adam(rate),
        epochs=epochs,
        batch_size=5,
        weight_decay=decay,
        validation=validation,
        stopping=rules,
    )


def assert_same_results(batched, each, rtol=1e-11):
    """Batched matrix products round differently by a few ulps; 6 epochs of Adam let that grow to less than 1e-11."""
    for number, one in enumerate(each):
        member = jax.tree.map(lambda leaf, number=number: leaf[number], batched)
        assert_close(member.params, one.params, rtol)
        np.testing.assert_allclose(member.history.train_error, one.history.train_error, rtol=rtol)
        np.testing.assert_allclose(member.history.validation_error, one.history.validation_error, rtol=rtol)
        for name in ("epochs", "best_epoch", "code"):
            assert int(getattr(member, name)) == int(getattr(one, name))
    assert list(batched.stop_reason) == [one.stop_reason for one in each]


def test_vmap_over_keys_with_early_stopping_is_a_loop(key):
    keys = jax.random.split(key, 4)
    train = functools.partial(train_small, rate=0.2, validation=0.3, rules=stopping.Patience(2), epochs=40)
    each = [train(k) for k in keys]
    assert len({int(one.epochs) for one in each}) > 1  # each member stops by itself
    assert_same_results(jax.vmap(train)(keys), each, 1e-9)


def test_vmap_over_rates_and_decays_is_a_loop(key):
    decays = np.array([0.01, 0.3])
    batched = jax.vmap(lambda decay: train_small(key, decay=decay))(decays)
    assert_same_results(batched, [train_small(key, decay=float(decay)) for decay in decays])

    # The rate hides in a closure of optax's.
    def train(rate):
        return fit(NETWORK, Gaussian(), X, Y, key=key, optimizer=optax.adam(rate), epochs=6, batch_size=5)

    rates = jnp.array([0.01, 0.1])
    assert_same_results(jax.vmap(train)(rates), [train(rate) for rate in rates])


def test_vmap_over_folds_is_a_loop(key):
    rows = np.arange(12).reshape(3, 4)
    rest = np.stack([np.setdiff1d(np.arange(12), held) for held in rows])
    fold = lambda rows, rest: train_small(key, x=X[rest], y=Y[rest], validation=(X[rows], Y[rows]))  # noqa: E731
    traced = lambda rows, rest: train_small(  # noqa: E731
        key, x=jnp.asarray(X)[rest], y=jnp.asarray(Y)[rest], validation=(jnp.asarray(X)[rows], jnp.asarray(Y)[rows])
    )
    assert_same_results(jax.vmap(traced)(rows, rest), [fold(*pair) for pair in zip(rows, rest, strict=True)])


def test_jit_of_fit_is_fit(key):
    inside = jax.jit(lambda k, x: train_small(k, x=x, validation=0.3))(key, X)
    assert_close(inside.params, train_small(key, validation=0.3).params, 1e-11)
    assert inside.stop_reason == "all 6 epochs were run"

    def ask(k):
        assert train_small(k).stop_reason

    with pytest.raises(ValueError, match="stop_reason needs values"):
        jax.jit(ask)(key)
