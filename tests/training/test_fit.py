"""`fit` against plain readings: hand loops, closed forms, scikit-learn, recorded mini-batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jnn
from jnn import adam, fit, mlp, objectives, rprop, steepest_descent, stopping
from jnn.likelihoods import Bernoulli, Categorical, Gaussian, HeteroscedasticGaussian, Poisson

from .training_oracles import as_numpy, assert_close, recorded, recorder, squares, tanh_network

RNG = np.random.default_rng(20)
X = RNG.normal(size=(13, 3))
Y = np.stack([np.sin(X[:, 0]) + X[:, 1], X[:, 2] ** 2], axis=1)
V = RNG.integers(1, 4, 13).astype(float)
NETWORK = mlp([3, 4, 2])


# --- mini-batches: inputs are unit vectors, so the i-th weight's gradient shows how often example i counted


def batches(n, key, epochs, reduction="mean", weights=None, batch_size=None, validation=None, shuffle=True):
    """Counts `(epochs, steps, n)` of every example in every step, and the result."""
    trained = n if validation is None else n - round(validation * n)
    steps = -(-trained // min(batch_size or n, trained))
    result = fit(
        *(mlp([n, 1]), Gaussian(), np.eye(n), np.linspace(1, 2, n)[:, None]),
        key=key,
        epochs=epochs,
        batch_size=batch_size,
        shuffle=shuffle,
        optimizer=recorder(steps * epochs, rate=0.05),
        reduction=reduction,
        weights=weights,
        validation=validation,
    )
    w, g = recorded(result)
    b = np.asarray(result.state.optimizer[1][0]["b"])
    residual = w + b - np.linspace(1, 2, n)
    return (g / residual).reshape(epochs, steps, n), residual.reshape(epochs, steps, n), result


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(7, 3, [3, 3, 1]), (7, 1, [1] * 7), (6, 3, [3, 3]), (7, 6, [6, 1]), (7, 7, [7]), (7, 50, [7]), (7, None, [7])],
)
def test_every_example_counts_once_an_epoch(n, batch_size, sizes, key):
    counts, _, _ = batches(n, key, 3, batch_size=batch_size)
    np.testing.assert_array_equal((counts != 0).sum(1), 1)  # each example in exactly one step of each epoch
    np.testing.assert_array_equal((counts != 0).sum(2), [sizes] * 3)  # the smaller batch comes last
    for epoch in counts:  # unbiased: (n / |S|) / n each
        for step, size in zip(epoch, sizes, strict=True):
            np.testing.assert_allclose(step[step != 0], 1 / size, rtol=1e-12)


def test_weights_scale_and_the_sum_is_total_times_the_mean(key):
    v = np.array([1.0, 2, 3, 0.5, 1, 1, 2])
    mean, residual, result = batches(7, key, 2, weights=v, batch_size=3)
    total, _, _ = batches(7, key, 2, weights=v, batch_size=3, reduction="sum")
    for counts, scale in ((mean, 1 / v.sum()), (total, 1.0)):
        for epoch in counts:
            for step, size in zip(epoch, (3, 3, 1), strict=True):
                np.testing.assert_allclose(step, (step != 0) * v * scale * 7 / size, rtol=1e-11)
    # The reported error: each example's as it was met, once, weighted.
    met = (mean != 0) * v * 0.5 * residual**2
    np.testing.assert_allclose(result.history.train_error, met.sum((1, 2)) / v.sum(), rtol=1e-12)


def test_shuffling_differs_by_epoch_and_key_and_is_reproducible(key):
    order = lambda key: np.argmax(batches(12, key, 3, batch_size=1)[0], axis=2)  # noqa: E731
    first = order(key)
    assert len({tuple(epoch) for epoch in first}) == 3
    np.testing.assert_array_equal(first, order(key))
    assert not np.array_equal(first, order(jax.random.fold_in(key, 1)))


def test_without_shuffling_examples_come_as_they_are(key):
    counts, _, _ = batches(7, key, 2, batch_size=3, shuffle=False)
    for epoch in counts:
        assert [np.flatnonzero(step).tolist() for step in epoch] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(("batch_size", "sizes"), [(3, [3, 3, 2]), (None, [8]), (9, [8])])
def test_held_out_examples_are_never_trained_on(batch_size, sizes, key):
    counts, _, result = batches(11, key, 3, batch_size=batch_size, validation=0.25)
    held_out = result.state.held_out.numbers()
    assert len(held_out) == 3
    expected = np.ones(11, int)
    expected[held_out] = 0
    np.testing.assert_array_equal((counts != 0).sum(1), [expected] * 3)
    np.testing.assert_array_equal((counts != 0).sum(2), [sizes] * 3)
    for epoch in counts:
        for step, size in zip(epoch, sizes, strict=True):
            np.testing.assert_allclose(step[step != 0], 1 / size, rtol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_full_batch_steepest_descent_is_the_hand_loop(reduction, key):
    rate, momentum, decay = 0.1 if reduction == "mean" else 0.1 / V.sum(), 0.5, 0.7
    start = NETWORK.init(key, dtype=jnp.float64)
    result = fit(
        *(NETWORK, Gaussian(), X, Y),
        key=key,
        params=start,
        optimizer=steepest_descent(rate, momentum),
        epochs=30,
        batch_size=None,
        weights=V,
        weight_decay=decay,
        reduction=reduction,
    )
    params = as_numpy(start)
    step = jax.tree.map(np.zeros_like, params)
    errors = []
    for _ in range(30):
        error, _, gradient = squares(params, X, Y, V, decay)
        errors.append(error / V.sum())
        scale = 1 / V.sum() if reduction == "mean" else 1.0
        step = jax.tree.map(lambda g, s, scale=scale: -rate * scale * g + momentum * s, gradient, step)
        params = jax.tree.map(np.add, params, step)
    # 30 steps, each rounded differently by a few ulps: 1e-12.
    assert_close(list(result.params), params, 1e-12)
    np.testing.assert_allclose(result.history.train_error, errors, rtol=1e-12)
    assert int(result.epochs) == int(result.best_epoch) == 30
    assert result.stop_reason == "all 30 epochs were run"
    assert not result.diverged
    assert np.isnan(result.history.validation_error).all()
    assert np.isinf(result.best_validation_error)


@pytest.mark.parametrize("batch_size", [13, 14, 1000])
def test_a_batch_of_all_is_batch_learning(batch_size, key):
    run = functools.partial(fit, NETWORK, Gaussian(), X, Y, key=key, epochs=3)
    assert_close(run(batch_size=batch_size).params, run(batch_size=None).params, 0)


def test_weights_are_repetitions(key):
    repeated = np.repeat(np.arange(13), V.astype(int))
    train = functools.partial(fit, NETWORK, Gaussian(), key=key, epochs=20, batch_size=None, weight_decay=0.3)
    weighted = train(X, Y, weights=V, validation=(X[:5], Y[:5], V[:5]))
    own = np.repeat(np.arange(5), V[:5].astype(int))
    again = train(X[repeated], Y[repeated], validation=(X[own], Y[own]))
    assert_close(weighted.params, again.params, 1e-12)
    np.testing.assert_allclose(weighted.history.train_error, again.history.train_error, rtol=1e-12)
    np.testing.assert_allclose(weighted.history.validation_error, again.history.validation_error, rtol=1e-12)


# --- minimizers, against closed forms and scikit-learn


def minimize(network, likelihood, x, y, key, **settings):
    """Full batch L-BFGS to a gradient that is zero up to rounding."""
    rule = stopping.GradientNorm(1e-10)
    settings = {"epochs": 300, "batch_size": None, "optimizer": LBFGS, "stopping": rule} | settings
    result = fit(network, likelihood, x, y, key=key, **settings)
    assert result.stop_reason == settings["stopping"].reason
    return result.params[0]


LBFGS = optax.lbfgs()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_minimizer_is_ridge_regression(reduction, key):
    from sklearn.linear_model import Ridge

    network, decay = mlp([3, 2]), 1.7
    mask = objectives.all_weights_mask(network)
    # The sum's gradient is Σ v = 25 times as large, and so is its rounding.
    rule = stopping.GradientNorm(1e-10 if reduction == "mean" else 2.5e-9)
    found = minimize(
        *(network, Gaussian(), X, Y, key),
        weights=V,
        weight_decay=decay,
        mask=mask,
        reduction=reduction,
        stopping=rule,
        gradient="backprop" if reduction == "mean" else "autodiff",  # the line search differentiates either way
    )
    ridge = Ridge(alpha=decay, tol=1e-14).fit(X, Y, sample_weight=V)
    np.testing.assert_allclose(found["W"], ridge.coef_.T, rtol=1e-7)
    np.testing.assert_allclose(found["b"], ridge.intercept_, rtol=1e-7)
    # The normal equations, for an oracle without scikit-learn's conventions: minimize ½ Σ v r² + γ/2 ‖w‖².
    padded = np.column_stack([X, np.ones(13)])
    solution = np.linalg.solve(padded.T * V @ padded + decay * np.diag([1, 1, 1, 0]), padded.T * V @ Y)
    np.testing.assert_allclose(found["W"], solution[:3], rtol=1e-7)


def test_linear_outputs_are_spared_by_default(key):
    found = minimize(mlp([3, 2]), Gaussian(), X, Y, key, weight_decay=5.0)
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(13)]), Y)[0]
    np.testing.assert_allclose(found["W"], solution[:3], rtol=1e-7)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_minimizer_is_logistic_regression(classes, key):
    from sklearn.linear_model import LogisticRegression

    labels = np.arange(13) % classes
    decay = 0.8
    oracle = LogisticRegression(C=1 / decay, tol=1e-12, max_iter=10_000).fit(X, labels, sample_weight=V)
    if classes == 2:
        found = minimize(mlp([3, 1]), Bernoulli(), X, labels[:, None], key, weights=V, weight_decay=decay)
        np.testing.assert_allclose(found["W"], oracle.coef_.T, rtol=1e-6)
        np.testing.assert_allclose(found["b"], oracle.intercept_, rtol=1e-6)
    else:
        found = minimize(mlp([3, 3]), Categorical(), X, labels, key, weights=V, weight_decay=decay)
        np.testing.assert_allclose(found["W"], oracle.coef_.T, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 4, 12])
def test_the_minimizer_does_not_depend_on_the_batch_size(batch_size, key):
    """At the minimizer the gradients of an epoch, weighted by the batches' sizes, sum to zero; beside it not."""
    decay, network = 1.7, mlp([3, 2])
    mask = objectives.all_weights_mask(network)
    padded = np.column_stack([X, np.ones(13)])
    w = np.linalg.solve(padded.T * V @ padded + decay * np.diag([1, 1, 1, 0]), padded.T * V @ Y)
    rule = stopping.GradientNorm(1e-13)
    at = functools.partial(
        *(fit, network, Gaussian(), X, Y),
        key=key,
        epochs=2,
        batch_size=batch_size,
        optimizer=STANDING_STILL,
        weights=V,
        weight_decay=decay,
        mask=mask,
        stopping=rule,
    )
    result = at(params=({"W": w[:3], "b": w[3]},))
    assert int(result.epochs) == 1
    assert result.stop_reason == rule.reason
    assert int(at(params=({"W": w[:3], "b": w[3] + 1e-9},)).epochs) == 2


STANDING_STILL = optax.set_to_zero()


# --- optimizers and gradients


CHAIN = optax.chain(optax.clip_by_global_norm(0.3), optax.adam(0.05))
OPTIMIZERS = {
    "steepest_descent": steepest_descent(0.1, 0.9),
    "adam": adam(0.05),
    **{variant: rprop(0.05, variant=variant) for variant in ("Rprop+", "Rprop-", "iRprop+", "iRprop-")},
    "optax.sgd": optax.sgd(optax.cosine_decay_schedule(0.2, 10)),
    "optax.chain": CHAIN,
    "jnn in optax.chain": optax.chain(optax.add_decayed_weights(0.01), adam(0.05)),
    "optax.lbfgs": LBFGS,
    "plain": optax.scale(-0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_runs_as_in_a_hand_loop(name, key):
    optimizer = OPTIMIZERS[name]
    params = start = NETWORK.init(key, dtype=jnp.float64)
    result = fit(NETWORK, Gaussian(), X, Y, key=key, params=start, optimizer=optimizer, epochs=8, batch_size=None)

    def value(params):
        a = jnp.tanh(X @ params[0]["W"] + params[0]["b"][None, :]) @ params[1]["W"] + params[1]["b"][None, :]
        return 0.5 * jnp.sum((a - Y) ** 2) / 13

    update = optax.with_extra_args_support(optimizer).update

    @jax.jit
    def step(params, state):
        error, gradient = jax.value_and_grad(value)(params)
        changes, state = update(gradient, state, params, value=error, grad=gradient, value_fn=value)
        return optax.apply_updates(params, changes), state, error

    state, errors = optimizer.init(params), []
    for _ in range(8):
        params, state, error = step(params, state)
        errors.append(error)
    # Signs (Rprop) and line searches amplify rounding; over 8 steps nothing exceeds 1e-9.
    assert_close(result.params, params, 1e-9)
    np.testing.assert_allclose(result.history.train_error, errors, rtol=1e-9)
    assert errors[-1] < errors[0]


@pytest.mark.parametrize(
    ("likelihood", "network", "y"),
    [
        (Categorical(), mlp([3, 4, 4, 3], ["tanh", "relu"], shortcuts=True), np.arange(13) % 3),
        (HeteroscedasticGaussian(), mlp([3, 4, 4]), Y),
        (Poisson(), jnn.dag(3, 1, [(1, 4), (2, 4), (2, 5), (4, 5), (3, 6), (5, 6), (1, 6)]), np.arange(13)[:, None]),
    ],
    ids=["categorical", "heteroscedastic", "poisson-dag"],
)
def test_autodiff_is_backprop(likelihood, network, y, key):
    train = functools.partial(
        *(fit, network, likelihood, X, y),
        key=key,
        epochs=4,
        batch_size=5,
        optimizer=adam(0.01),
        weights=V,
        weight_decay=0.5,
        validation=(X[:4], y[:4]),
    )
    by_hand, automatic = train(gradient="backprop"), train(gradient="autodiff")
    assert_close(by_hand.last_params, automatic.last_params, 1e-9)
    np.testing.assert_allclose(by_hand.history.train_error, automatic.history.train_error, rtol=1e-9)
    np.testing.assert_allclose(by_hand.history.validation_error, automatic.history.validation_error, rtol=1e-9)


# --- dtypes and small cases


@pytest.mark.parametrize(
    ("x", "params", "expected"),
    [
        (np.float32, None, jnp.float32),
        (np.float64, None, jnp.float64),
        (np.int64, None, jnp.float32),
        (jnp.bfloat16, None, jnp.bfloat16),
        (np.float64, jnp.float32, jnp.float32),
        (np.float32, jnp.float16, jnp.float16),
    ],
)
def test_the_dtype_follows_params_then_x(x, params, expected, key):
    given = None if params is None else NETWORK.init(key, dtype=params)
    result = fit(
        *(NETWORK, Gaussian(), jnp.asarray(X > 0, x), Y),
        key=key,
        params=given,
        epochs=4,
        batch_size=5,
        weight_decay=0.1,
        validation=0.3,
        optimizer=adam(0.01),
        stopping=[stopping.Patience(9), stopping.GradientNorm(1e-9), stopping.ProgressQuotient()],
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype(expected)}
    assert result.history.train_error.dtype == expected
    assert result.history.train_error[-1] < result.history.train_error[0]


def test_float32_follows_float64(key):
    """Twelve steps of steepest descent, each rounded to 6e-8 of the weights: 1e-5 leaves room for conditioning."""
    start = NETWORK.init(key)
    train = functools.partial(fit, NETWORK, Gaussian(), key=key, optimizer=steepest_descent(0.1), epochs=4)
    narrow = train(X.astype(np.float32), Y.astype(np.float32), params=start, batch_size=5)
    wide = train(X, Y, params=jax.tree.map(lambda w: w.astype(jnp.float64), start), batch_size=5)
    assert_close(narrow.params, wide.params, 1e-5)


def test_float16_knows_how_many_examples_there_are(key):
    """70,000 is infinite in float16, and the 35,000 examples of a batch weigh less than its smallest normal number."""
    n = 70_000
    x, y = np.zeros((n, 1), np.float16), np.ones((n, 1), np.float16)
    zero = ({"W": np.zeros((1, 1), np.float16), "b": np.zeros(1, np.float16)},)
    result = fit(
        mlp([1, 1]),
        Gaussian(),
        x,
        y,
        key=key,
        params=zero,
        batch_size=35_000,
        epochs=1,
        optimizer=steepest_descent(0.5),
    )
    # Two steps with the gradient b − 1. The sum of a batch in float16 may be off by percents.
    np.testing.assert_allclose(result.params[0]["b"], 0.75, rtol=0.1)


def test_one_example(key):
    result = fit(NETWORK, Gaussian(), X[:1], Y[:1], key=key, epochs=200, optimizer=adam(0.05))
    z = tanh_network(as_numpy(result.params), X[:1])[-1]
    np.testing.assert_allclose(z, Y[:1], atol=1e-2)


def test_data_of_one_class(key):
    result = fit(
        mlp([3, 2]), Categorical(), X, np.ones(13, int), key=key, epochs=300, validation=0.3, optimizer=adam(0.1)
    )
    assert np.all(np.argmax(mlp([3, 2]).apply(result.params, jnp.asarray(X)), axis=1) == 1)


def test_online_learning_reaches_the_least_squares_solution(key):
    """Without noise all examples have one common minimizer, which online learning reaches exactly."""
    w = np.array([[1.0, -2], [0.5, 1], [3, 0]])
    result = fit(
        mlp([3, 2]), Gaussian(), X, X @ w + 1, key=key, batch_size=1, epochs=300, optimizer=steepest_descent(0.1)
    )
    np.testing.assert_allclose(result.params[0]["W"], w, atol=1e-10)
    np.testing.assert_allclose(result.params[0]["b"], 1, rtol=1e-10)
