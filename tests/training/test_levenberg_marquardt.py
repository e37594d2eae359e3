"""`jnn.levenberg_marquardt` in `fit` and `ensembles.fit`, against a loop in NumPy and against exact solutions."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jnn
from jnn import ensembles, likelihoods, networks, objectives, optimizers
from jnn.training import NoGradientWarning, stopping

NETWORK = jnn.mlp([2, 4, 1])
GAUSSIAN = likelihoods.Gaussian()


def data(key, n=24):
    x = jax.random.normal(key, (n, 2))
    return x, jnp.sin(2 * x[:, :1]) + 0.5 * x[:, 1:]


def fit(x, y, key, network=NETWORK, likelihood=GAUSSIAN, **settings):
    settings = {"optimizer": jnn.levenberg_marquardt(), "epochs": 30, **settings}
    return jnn.fit(network, likelihood, x, y, key=key, **settings)


def test_it_takes_the_steps_of_a_loop_in_numpy(key):
    """Residuals and Jacobian by autodiff, normal equations, Nielsen's rule; weight decay of all weights."""
    x, y = data(key)
    params = NETWORK.init(key, weights=networks.nguyen_widrow, dtype=jnp.float64)
    flat, unravel = ravel_pytree(params)
    gamma, n = 0.01, len(x)
    residuals = jax.jit(lambda w: (NETWORK.apply(unravel(w), x) - y)[:, 0])
    jacobian = jax.jit(jax.jacfwd(lambda w: (NETWORK.apply(unravel(w), x) - y)[:, 0]))

    def objective(w):
        return (0.5 * np.sum(np.square(residuals(w))) + 0.5 * gamma * w @ w) / n

    w, damping, growth, errors = np.asarray(flat), None, 2.0, []
    for _ in range(12):
        r, J = np.asarray(residuals(w)), np.asarray(jacobian(w))
        errors.append(0.5 * np.sum(r * r) / n)
        g, G = (J.T @ r + gamma * w) / n, (J.T @ J + gamma * np.eye(len(w))) / n
        damping = 1e-2 * G.diagonal().max() if damping is None else damping
        d = -np.linalg.solve(G + damping * np.eye(len(w)), g)
        ratio = (objective(w) - objective(w + d)) / (-g @ d - 0.5 * d @ G @ d)
        if ratio > 0:
            w, damping, growth = w + d, damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0
        else:
            damping, growth = damping * growth, 2 * growth
    result = fit(x, y, key, params=params, weight_decay=gamma, epochs=12)
    # Twelve steps, each of which a badly conditioned solution carries on.
    np.testing.assert_allclose(ravel_pytree(result.params)[0], w, rtol=0, atol=1e-8)
    np.testing.assert_allclose(result.history.train_error, errors, rtol=1e-8)


class Squares:
    """½ ‖r(w)‖² and its Gauss-Newton matrix, by autodiff of the residuals."""

    def __init__(self, residuals):
        self.residuals, self.jacobian = residuals, jax.jacfwd(residuals)

    def value(self, w):
        return 0.5 * jnp.sum(jnp.square(self.residuals(w)))

    def matrix(self, w):
        return self.jacobian(w).T @ self.jacobian(w)

    def product(self, w, v):
        return self.jacobian(w).T @ (self.jacobian(w) @ v)

    def attempt(self, optimizer, state, w):
        """The step (0 if it was not taken), and the state after it."""
        given = {"value": self.value(w), "value_fn": self.value, "gauss_newton_fn": self}
        return optimizer.update(self.jacobian(w).T @ self.residuals(w), state, w, **given)


ROSENBROCK = Squares(lambda w: jnp.stack([10 * (w[1] - w[0] ** 2), 1 - w[0]]))


def test_each_attempt_is_nielsens_on_a_valley_where_many_fail():
    """What it keeps between attempts, and what `fit` stops by: by the formulas, in NumPy."""
    optimizer = jnn.levenberg_marquardt(1e-8)
    attempt = jax.jit(lambda state, w: ROSENBROCK.attempt(optimizer, state, w))
    w, state = jnp.array([-1.2, 1.0]), optimizer.init(jnp.zeros(2))
    damping, growth, failed = None, 2.0, 0
    for _ in range(25):
        r = np.array([10 * (w[1] - w[0] ** 2), 1 - w[0]])
        J = np.array([[-20 * w[0], 10], [-1, 0]])
        g, G = J.T @ r, J.T @ J
        scale = G.diagonal().max()
        lam = 1e-8 * scale if damping is None else max(damping, 4 * np.finfo(float).eps * scale)
        d = -np.linalg.solve(G + lam * np.eye(2), g)
        gained = float(ROSENBROCK.value(w) - ROSENBROCK.value(w + d))
        if gained > 0:
            rho = gained / (-g @ d - 0.5 * d @ G @ d)
            damping, growth, taken = lam * max(1 / 3, 1 - (2 * rho - 1) ** 3), 2.0, d
        else:
            damping, growth, taken, failed = lam * growth, 2 * growth, np.zeros(2), failed + 1
        step, state = attempt(state, w)
        expected = [*taken, damping, growth, damping / scale, np.linalg.norm(d) / np.linalg.norm(w), np.abs(g).max()]
        found = [*step, state.damping, state.growth, state.relative_damping, state.step, state.gradient]
        # The gain is a difference of the objective's values, known to 1e-16 of it, and rho³ triples what is lost.
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
        assert bool(state.moved) == (gained > 0)
        w = w + step
    assert 3 < failed < 20


def test_conjugate_gradients_along_an_eigenvector_are_exact():
    """G g = 4 g: λ = 0.01 · 4 in units of the curvature along g, and d = −g / 4.04 after one of their steps."""
    bowl = Squares(lambda w: jnp.array([2.0, 3.0]) * w)
    optimizer = jnn.levenberg_marquardt(1e-2, solver="cg")
    w = jnp.array([5.0, 0.0])
    step, state = bowl.attempt(optimizer, optimizer.init(w), w)
    np.testing.assert_allclose(step, [-20 / 4.04, 0], rtol=1e-12)
    assert state.matrix is None
    # A quadratic is predicted exactly, and so a third of the damping is left.
    np.testing.assert_allclose([state.damping, state.relative_damping], [0.04 / 3, 0.01 / 3], rtol=1e-9)
    flat = bowl.attempt(optimizer, state, jnp.zeros(2))[1]  # no gradient: nothing to gain, nothing that is no number
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(flat))
    assert not flat.moved


def test_edges_of_the_damping_and_of_what_is_told():
    optimizer, bowl = jnn.levenberg_marquardt(), Squares(lambda w: 1e-2 * w)
    w = jnp.array([1.0, 1.0])
    first = optimizer.init(w)
    eps, most = np.finfo(float).eps, np.finfo(float).max
    # As small as rounding allows, and a third after a step.
    _, small = bowl.attempt(optimizer, first._replace(damping=jnp.asarray(1e-300)), w)
    np.testing.assert_allclose([small.damping, small.relative_damping], [4e-4 * eps / 3, 4 * eps / 3], rtol=1e-6)
    # Where nothing is gained, no step is taken; factors end at 2⁶⁰, dampings at the largest number.
    level = Squares(lambda w: 1e-2 * w)
    level.value = lambda w: jnp.zeros(())
    for growth, after in ((2.0**58, 2.0**59), (2.0**59, 2.0**60), (2.0**60, 2.0**60)):
        step, state = level.attempt(optimizer, first._replace(growth=jnp.asarray(growth)), w)
        np.testing.assert_array_equal(step, 0)
        assert (float(state.growth), bool(state.moved)) == (after, False)
    _, state = level.attempt(optimizer, first._replace(damping=jnp.asarray(most)), w)
    assert float(state.damping) == most
    # Without curvature the relative damping is as large as can be; of weights that are 0 no step is none.
    nothing = Squares(lambda w: 0 * w)
    _, state = nothing.attempt(optimizer, first, w)
    assert float(state.relative_damping) == most
    assert np.isfinite(float(state.damping))
    _, state = bowl.attempt(optimizer, first, jnp.zeros(2))
    assert float(state.step) == 0


def test_a_step_that_is_no_number_is_not_taken_whatever_is_gained():
    """As of a matrix that has no decomposition, where the objective does not depend on a weight that is lost."""
    saddle = Squares(lambda w: w)
    saddle.matrix, saddle.value = lambda w: jnp.diag(jnp.array([1.0, -1.0])), lambda w: jnp.nan_to_num(w[0] * 0 - 1.0)
    optimizer, w = jnn.levenberg_marquardt(), jnp.array([1.0, 2.0])
    given = {"value": jnp.asarray(1.0), "value_fn": saddle.value, "gauss_newton_fn": saddle}
    step, state = optimizer.update(w, optimizer.init(w), w, **given)
    np.testing.assert_array_equal(step, 0)
    assert not state.moved


def test_which_solver_is_chosen_by_the_number_of_weights():
    def has_matrix(solver, count):
        params = {"w": jax.ShapeDtypeStruct((count - 1,), jnp.float32), "b": jax.ShapeDtypeStruct((), jnp.float32)}
        return jax.eval_shape(jnn.levenberg_marquardt(solver=solver).init, params).matrix is not None

    assert [has_matrix(None, count) for count in (3000, 3001)] == [True, False]
    assert has_matrix("cholesky", 3001)
    assert not has_matrix("cg", 3)


LIKELIHOODS = {
    "Gaussian": GAUSSIAN,
    "learned variance": likelihoods.HeteroscedasticGaussian(),
    "Categorical": likelihoods.Categorical(),
    "Poisson": likelihoods.Poisson(),
    "squared error of logistic outputs": likelihoods.SquaredError("logistic"),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("learned variance", "Categorical") else pytest.mark.slow)
        for name in LIKELIHOODS
    ],
)
def test_with_decay_it_ends_in_a_minimum_whatever_the_likelihood(name, key):
    likelihood, gamma = LIKELIHOODS[name], 2.0
    network = jnn.mlp([2, 4, 2])
    x, _ = data(key)
    y = likelihood.sample(key, jnp.concatenate([jnp.sin(2 * x[:, :1]), 0.3 * x[:, 1:]], axis=1))
    result = fit(x, y, key, network, likelihood, weight_decay=gamma, epochs=500)
    mask = objectives.every_weight_mask(network)
    objective = jax.jit(objectives.objective(network, likelihood, weight_decay=gamma, mask=mask))
    gradient = jax.jit(jax.grad(objective))(result.params, x, y)
    # Where residuals stay large, it converges linearly: G is not the Hessian.
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient)) < 1e-5


def test_the_record_of_the_objective_never_rises(key):
    x, y = data(key)
    # No decay: the objective is the error. With hardly any damping at first, so that some steps must fail.
    result = fit(x, y, key, optimizer=jnn.levenberg_marquardt(1e-8), initializer=networks.nguyen_widrow)
    errors = result.history.train_error[: int(result.epochs)]
    assert (np.diff(errors) <= 0).all()
    assert (np.diff(errors) == 0).any()
    assert errors[-1] < 1e-3 * errors[0]


def test_linear_least_squares_are_solved_exactly(key):
    network = jnn.mlp([2, 1])
    x, y = data(key)
    result = fit(x, y, key, network, weight_decay=0.5)
    design = np.concatenate([np.asarray(x), np.ones((len(x), 1))], axis=1)
    expected = np.linalg.solve(design.T @ design + 0.5 * np.eye(3), design.T @ np.asarray(y))
    # Stopped by a gradient of 1e-7; float64.
    np.testing.assert_allclose(
        np.concatenate([result.params[0]["W"], result.params[0]["b"][None]]), expected, atol=1e-6
    )
    assert result.stop_reason == "no element of the gradient exceeds 1e-07"
    assert int(result.epochs) < 20


def test_why_it_stopped_is_told(key):
    x, y = data(key)
    settings = {"initializer": networks.nguyen_widrow, "epochs": 200}
    no = {"gradient_tolerance": 0, "step_tolerance": 0}
    result = fit(x, y, key, optimizer=jnn.levenberg_marquardt(step_tolerance=1e-2), **settings)
    assert result.stop_reason == "the step fell to 0.01 of the weights"
    # At the minimum of a linear model, where nothing can be gained, steps fail until the damping is too large.
    linear, limited = jnn.mlp([2, 1]), jnn.levenberg_marquardt(**no, most_damping=1e6)
    result = fit(x, y, key, linear, optimizer=limited, **settings | {"initializer": networks.fan_in_normal})
    assert result.stop_reason == (
        "no step lowered the objective, down to a damping of 1e+06 times the largest curvature"
    )
    own = fit(x, y, key, stopping=stopping.Patience(1, min_delta=1e9, monitor="train"), **settings)
    assert own.stop_reason.startswith("the train risk did not fall")


def test_members_are_trained_as_alone_and_stop_by_themselves(key):
    x, y = data(key)
    keys = jax.random.split(key, 3)
    settings = {"initializer": networks.nguyen_widrow, "epochs": 25, "validation": 0.25}
    settings["stopping"] = stopping.Patience(5)
    several = ensembles.fit(
        NETWORK, GAUSSIAN, x, y, key=keys, optimizer=jnn.levenberg_marquardt(np.array([1e-2, 1e-1, 1.0])), **settings
    )
    for number, damping in enumerate([1e-2, 1e-1, 1.0]):
        alone = fit(x, y, keys[number], optimizer=jnn.levenberg_marquardt(damping), **settings)
        assert int(several.result.epochs[number]) == int(alone.epochs)
        assert several.result.stop_reason[number] == alone.stop_reason
        for member, own in zip(jax.tree.leaves(several.params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(member[number], own, rtol=0, atol=1e-7)  # equal to rounding, carried on


def test_conjugate_gradients_find_the_same_minimum(key):
    x, y = data(key)
    settings = {"initializer": networks.nguyen_widrow, "weight_decay": 0.05, "epochs": 100}
    exact = fit(x, y, key, **settings)
    products = fit(x, y, key, optimizer=jnn.levenberg_marquardt(solver="cg"), **settings)
    assert products.state.optimizer.matrix is None
    for a, b in zip(jax.tree.leaves(exact.params), jax.tree.leaves(products.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def test_examples_count_by_their_weights_and_others_not_at_all(key):
    x, y = data(key)
    settings = {"initializer": networks.nguyen_widrow, "epochs": 6, "weight_decay": 0.1}
    repeated = fit(jnp.concatenate([x[:12], x[:12]]), jnp.concatenate([y[:12], y[:12]]), key, **settings)
    weighted = fit(x, y, key, weights=jnp.where(jnp.arange(24) < 12, 2.0, 0.0), **settings)
    for a, b in zip(jax.tree.leaves(repeated.params), jax.tree.leaves(weighted.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_float32_gets_as_far_as_float32_gets(key):
    x, y = (jnp.asarray(leaf, jnp.float32) for leaf in data(key))
    result = fit(x, y, key, initializer=networks.nguyen_widrow, epochs=60)
    errors = np.asarray(result.history.train_error[: int(result.epochs)])
    assert errors.dtype == np.float32
    assert np.isfinite(errors).all()
    assert (np.diff(errors) <= 0).all()
    assert errors[-1] < 1e-3 * errors[0]


@pytest.mark.parametrize("hidden", ["relu", "step"])
def test_dead_neurons_and_singular_matrices_give_no_nan(hidden, key):
    """Fewer examples than weights, neurons that are never active, or through which no gradient passes."""
    x, y = data(key, n=5)
    network = jnn.mlp([2, 4, 1], hidden)
    params = network.init(key, bias=-50.0, dtype=jnp.float64)
    with pytest.warns(NoGradientWarning) if hidden == "step" else np.errstate():
        result = fit(x, y, key, network, params=params)
    assert not result.diverged
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(result.params))
    # The outputs' bias is all that can be learned.
    np.testing.assert_allclose(network.apply(result.params, x), np.full((5, 1), np.mean(y)), atol=1e-5)


def test_networks_of_several_widths_keep_to_their_own_weights(key):
    x, y = data(key)
    several = ensembles.fit(
        [jnn.mlp([2, 2, 1]), NETWORK], GAUSSIAN, x, y, key=key, optimizer=jnn.levenberg_marquardt(), epochs=5
    )
    narrow = jax.tree.map(lambda leaf: leaf[0], several.params)
    assert float(jnp.abs(narrow[0]["W"][:, 2:]).max()) == 0
    assert float(jnp.abs(narrow[1]["W"][2:]).max()) == 0


# --- what it asks for


def test_what_does_not_go_with_it_is_refused(key):
    x, y = data(key)
    with pytest.raises(ValueError, match="takes all examples in every step, got batch_size=8"):
        fit(x, y, key, batch_size=8)
    with pytest.raises(ValueError, match="needs all weights to decay if any do, but the mask spares some"):
        fit(x, y, key, weight_decay=0.1, mask=objectives.decay_mask(NETWORK, GAUSSIAN))
    with pytest.raises(
        ValueError, match=r"takes all examples in every step: leave rows_on_device out, .* x = np.asarray"
    ):
        fit(x, y, key, rows_on_device=8)
    optimizer = jnn.levenberg_marquardt()
    params = NETWORK.init(key)
    with pytest.raises(ValueError, match="expected params, value, value_fn and gauss_newton_fn"):
        optimizer.update(params, optimizer.init(params), params)
    with pytest.raises(ValueError, match='expected solver as "cholesky", "cg" or None'):
        inspect.unwrap(jnn.levenberg_marquardt)(solver="lu")
    with pytest.raises(ValueError, match="expected damping to be a number > 0"):
        jnn.levenberg_marquardt(0.0)


def test_it_is_an_optimizer_like_the_others():
    optimizer = jnn.levenberg_marquardt(damping=0.5)
    assert optimizer == pickle.loads(pickle.dumps(optimizer))
    assert optimizer.replace(damping=0.1).numbers["damping"] == 0.1
    assert repr(optimizer).startswith("levenberg_marquardt(damping=0.5,")
    assert optimizers.takes_curvature(optimizer)
    assert not optimizers.is_elementwise(optimizer)
    big = {"w": jnp.zeros(optimizers.MOST_FOR_CHOLESKY + 1)}
    assert optimizer.init(big).matrix is None


# --- the first weights


def test_nguyen_widrow(key):
    network = jnn.mlp([3, 6, 5, 2], ["tanh", "logistic"])
    first, second, last = network.init(key, weights=networks.nguyen_widrow, dtype=jnp.float64)
    for layer, fan_in, size, gain in ((first, 3, 6, 1), (second, 6, 5, 2)):
        reach = gain * 0.7 * size ** (1 / fan_in)
        np.testing.assert_allclose(np.linalg.norm(layer["W"], axis=0), reach, rtol=1e-12)
        np.testing.assert_allclose(np.abs(layer["b"]), np.abs(np.linspace(-reach, reach, size)), atol=1e-12)
    np.testing.assert_array_equal(last["b"], 0)
    assert networks.nguyen_widrow == pickle.loads(pickle.dumps(networks.nguyen_widrow))
    with pytest.raises(ValueError, match="build the network with mlp"):
        networks.as_dag(network, (first, second, last))[0].init(key, weights=networks.nguyen_widrow)
