"""`fit` is one compiled program: for equal shapes and settings once; under `jit` and `vmap` the same as by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import adam, ensembles, fit, mlp, networks, optimizers, rprop, steepest_descent, stopping
from jnn.likelihoods import Gaussian
from jnn.training import problem, program

from .training_oracles import assert_close

RNG = np.random.default_rng(20)
X = RNG.normal(size=(13, 3))
Y = np.stack([np.sin(X[:, 0]) + X[:, 1], X[:, 2] ** 2], axis=1)
NETWORK = mlp([3, 4, 2])


def test_numbers_compile_nothing_and_sizes_little(key):
    def train(n=13, seed=0, decay=0.1, scale=1.0, patience=5, margin=0.0, rule=None, **more):
        x, y = np.resize(X[:, :2], (n, 2)), np.resize(Y[:, :1], (n, 1))
        fit(
            *(mlp([2, 3, 1]), Gaussian(), scale * x, y),
            key=jax.random.fold_in(key, seed),
            batch_size=4,
            weight_decay=decay,
            validation=0.2,
            stopping=rule or stopping.Patience(patience, margin),
            **{"optimizer": adam(0.01), "epochs": 7} | more,
        )
        return program.run.count(), program.start.count()

    once = train()  # 7 epochs, and 13 rows, of which a few are validated on
    for changed in (
        {"seed": 1}, {"decay": 0.2}, {"decay": jnp.float32(0.3)}, {"scale": 2.0}, {"patience": 2}, {"margin": 0.1},
        {"optimizer": adam(0.02, 0.8, 0.99, 1e-6)}, {"optimizer": adam(np.float32(0.5))},
        {"optimizer": adam(jnp.array(0.5))},
        {"validate_every": 3}, {"epochs": 50}, {"n": 12}, {"n": 60},
        {"callback": lambda seen: None, "callback_every": 2},
        {"initializer": networks.fan_in_normal},
    ):  # fmt: skip
        assert train(**changed) == once, changed
    assert train(epochs=65) == (once[0] + 1, once[1] + 1)  # the next size of a history
    assert train(n=321) == (once[0] + 2, once[1] + 2)  # the next size of the data
    other = train(rule=stopping.GeneralizationLoss(5.0))
    assert other == (once[0] + 3, once[1] + 3)  # another rule is another structure
    assert train(rule=stopping.GeneralizationLoss(3.0)) == other
    drawn = train(initializer=networks.uniform(0.1))
    assert train(initializer=networks.uniform(0.2)) == drawn
    plain = optax.scale(-0.01)
    again = train(optimizer=plain)
    assert train(optimizer=plain) == again
    made = train(optimizer=optimizers.parametrized(optax.sgd, learning_rate=0.1))
    assert train(optimizer=optimizers.parametrized(optax.sgd, learning_rate=0.2)) == made


@pytest.mark.parametrize("batch_size", [4, None])
def test_rows_that_fill_up_never_matter(batch_size, key, monkeypatch):
    """To rounding the same without them, and to the last bit whatever they hold."""
    train = functools.partial(
        *(fit, NETWORK, Gaussian(), X, Y), key=key, epochs=5, batch_size=batch_size, validation=0.3,
        optimizer=adam(0.05), weight_decay=0.1, weights=np.linspace(1, 2, 13),
    )  # fmt: skip
    plain = train()
    monkeypatch.setattr(problem, "rounded_up", lambda count, *_: count)
    assert_close(plain.params, train().params, 1e-12)
    monkeypatch.setattr(problem, "rounded_up", lambda count, *_: count + 50)
    filled = train()
    assert_close(plain.params, filled.params, 1e-12)
    pad = np.pad
    monkeypatch.setattr(np, "pad", lambda array, width, **_: pad(array, width, constant_values=7))
    for a, b in zip(jax.tree.leaves(filled.params), jax.tree.leaves(train().params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_debugging_nans_and_infs_works(key):
    """No marker in the state is NaN or infinite: with validation rarely, rules that wait, Rprop's first step."""
    with jax.debug_nans(True), jax.debug_infs(True):
        for optimizer in (adam(0.01), rprop()):
            result = fit(
                *(NETWORK, Gaussian(), X, Y), key=key, epochs=9, batch_size=None, optimizer=optimizer,
                validation=0.3, validate_every=4,
                stopping=[stopping.Patience(8), stopping.GeneralizationLoss(), stopping.TrainingProgress(1e-9),
                          stopping.ProgressQuotient(9.0)],
            )  # fmt: skip
            ensembles.fit(NETWORK, Gaussian(), X, Y, key=key, members=3, epochs=3, batch_size=5, optimizer=optimizer)
            assert int(result.epochs) == 9
        with pytest.raises(FloatingPointError, match=r"nan|inf"):
            fit(NETWORK, Gaussian(), X, Y, key=key, epochs=99, optimizer=steepest_descent(1e200))


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


def test_results_print_in_a_line(key):
    train = functools.partial(train_small, rate=0.2, validation=0.3, rules=stopping.Patience(2), epochs=40)
    one, several = train(key), jax.vmap(train)(jax.random.split(key, 4))
    best = f"validation risk {float(one.best_validation_error):.4g} in epoch {one.best_epoch}"
    assert repr(one) == f"FitResult({one.epochs} epochs, since {one.stop_reason}; {best})"
    epochs = np.asarray(several.epochs)
    assert repr(several).startswith(f"FitResult(4 members; {epochs.min()} to {epochs.max()} epochs; validation risk ")
    assert repr(jax.eval_shape(train, key)) == "FitResult(of values not known yet)"


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
