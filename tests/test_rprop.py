"""The four Rprops against a plain NumPy reading of the paper, and optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn.optimizers import rprop

from .optimizer_runs import run

VARIANTS = ("Rprop+", "Rprop-", "iRprop+", "iRprop-")


def paper(variant, gradients, errors, initial, eta_plus=1.2, eta_minus=0.5, min_step=0.0, max_step=50.0):
    """Igel and Hüsken's four algorithms, one weight at a time; returns all Δw and how often each branch was taken."""
    steps, weights = gradients.shape
    deltas, branches = np.zeros((steps, weights)), {"same": 0, "back": 0, "stay": 0, "changed": 0, "neither": 0}
    for i in range(weights):
        step, g_old, delta_old = initial[i], 0.0, 0.0
        for t in range(steps):
            g = gradients[t, i]
            if g_old * g > 0:
                branches["same"] += 1
                step = min(step * eta_plus, max_step)
                delta = -np.sign(g) * step
            elif g_old * g < 0:
                step = max(step * eta_minus, min_step)
                if variant == "Rprop-":
                    branches["changed"] += 1
                    delta = -np.sign(g) * step
                elif variant == "Rprop+" or (variant == "iRprop+" and errors[t] > errors[t - 1]):
                    branches["back"] += 1
                    delta, g = -delta_old, 0.0
                else:
                    branches["stay"] += 1
                    delta, g = 0.0, 0.0
            else:
                branches["neither"] += 1
                delta = -np.sign(g) * step
            deltas[t, i], g_old, delta_old = delta, g, delta
    return deltas, branches


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("bounds", [{}, {"min_step": 0.02, "max_step": 0.3}], ids=["default", "tight"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rprop_is_the_paper(variant, bounds, dtype, key):
    keys = jax.random.split(key, 3)
    drift = np.array([0.0, 0.5, 1.5, -1.5, 6.0, -6.0])  # from as many changes of sign as not to hardly any
    gradients = np.asarray(jax.random.normal(keys[0], (80, 6))) + drift
    gradients[np.asarray(jax.random.uniform(keys[1], (80, 6)) < 0.05)] = 0.0
    errors = np.array(jax.random.normal(keys[2], (80,)))
    errors[5:8] = errors[4]  # equal errors have not grown
    initial = np.linspace(0.05, 0.2, 6)
    expected, branches = paper(variant, gradients, errors, initial, **bounds)
    optimizer = rprop(jnp.asarray(initial), variant, **bounds)
    ours = run(optimizer, jnp.ones(6, dtype), jnp.asarray(gradients, dtype), jnp.asarray(errors))
    # one rounding per factor, 80 of them at most, and no sums
    np.testing.assert_allclose(ours, expected, rtol=80 * float(jnp.finfo(dtype).eps))
    reached = {"Rprop+": {"back"}, "Rprop-": {"changed"}, "iRprop+": {"back", "stay"}, "iRprop-": {"stay"}}[variant]
    assert {branch for branch, n in branches.items() if n > 10} == {"same", "neither"} | reached


def test_optax_rprop_computes_irprop_minus(key):
    # optax 0.2.8 computes iRprop-'s step sizes and steps, but applies each step one update late and drops it where the
    # sign changes meanwhile (google-deepmind/optax#1725): compared are the step sizes, which stand in its state.
    gradients = np.asarray(jax.random.normal(key, (60, 5))) + np.array([0.0, 0.0, 1.0, 1.0, 4.0])
    theirs, ours = optax.scale_by_rprop(0.1), rprop(0.1, "iRprop-", min_step=1e-6)
    goes_on = rprop(0.1, "Rprop-", min_step=1e-6)
    states = [rule.init(jnp.ones(5)) for rule in (theirs, ours, goes_on)]
    update = jax.jit(
        lambda g, states: [rule.update(g, s) for rule, s in zip((theirs, ours, goes_on), states, strict=True)]
    )
    differed = 0
    for g in gradients:
        results = update(jnp.asarray(g), states)
        states = [state for _, state in results]
        np.testing.assert_allclose(states[1].step, states[0].step_sizes, rtol=1e-14)
        np.testing.assert_allclose(results[1][0], -states[0].prev_updates, rtol=1e-14)
        differed += int(not np.allclose(states[2].step, states[1].step))
    assert differed > 20  # Rprop- adapts its steps after a change of sign, too


def test_rprop_sees_small_gradients():
    # their product underflows: signs decide, not products
    gradients = jnp.full((3, 1), 1e-200)
    np.testing.assert_allclose(run(rprop(1.0, "iRprop-"), jnp.ones(1), gradients)[:, 0], [-1.0, -1.2, -1.44])


def test_irprop_plus_needs_the_error():
    w = jnp.ones(2)
    optimizer = rprop(0.1)
    state = optimizer.init(w)
    with pytest.raises(ValueError, match=r"got no value; call update\(gradients, state, params, value=error\)"):
        optimizer.update(w, state, w)
    with pytest.raises(ValueError, match=r"a scalar.*got shape \(2,\)"):
        optimizer.update(w, state, w, value=w)
    traced = []

    def later(w):
        updates = optax.chain(optimizer).update(w, (state,), w)
        traced.append(updates)
        return updates

    with pytest.raises(ValueError, match="got no value"):
        jax.jit(later)(w)
    assert not traced
    for variant in ("Rprop+", "Rprop-", "iRprop-"):
        rprop(0.1, variant).update(w, rprop(0.1, variant).init(w), w)


def test_initial_steps_per_weight(key):
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3, jnp.float32)}
    draws = jax.tree.map(lambda w: jax.random.uniform(key, w.shape, w.dtype, 0.005, 0.02), params)

    def first(initial):
        optimizer = rprop(initial)
        return optimizer.update(params, optimizer.init(params), value=0.0)[0]

    expected = jax.tree.map(jnp.negative, draws)
    for given in (draws, lambda params: draws, jax.tree.map(np.asarray, draws)):
        jax.tree.map(np.testing.assert_array_equal, first(given), expected)
    mixed = first({"w": 0.1, "b": draws["b"]})
    np.testing.assert_array_equal(mixed["w"], -0.1)
    np.testing.assert_array_equal(mixed["b"], expected["b"])
    np.testing.assert_array_equal(first(lambda params: 0.3)["w"], -0.3)
    # a draw for each of several networks: the optimizer is made inside
    steps = jax.vmap(lambda key: first(jax.tree.map(lambda w: jax.random.uniform(key, w.shape, w.dtype), params)))(
        jax.random.split(key, 4)
    )
    assert len(np.unique(steps["w"])) == 4 * 6


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ({"w": 0.1}, "as one number or as a tree like the weights"),
        ({"w": jnp.ones((3, 2)), "b": 0.1}, r"weights' shape \(2, 3\) or one number at \['w'\], got shape \(3, 2\)"),
        (optax.linear_schedule(0.1, 0.0, 5), None),
        (lambda params: {"w": -1.0, "b": 1.0}, "initial steps > 0"),
        (lambda params: [0.1, 0.1], "rprop has no schedule: a function is called with the weights"),
    ],
)
def test_initial_steps_that_do_not_fit(initial, message):
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    if message is None:  # a schedule cannot take weights
        with pytest.raises((TypeError, ValueError)):
            rprop(initial).init(params)
        return
    with pytest.raises(ValueError, match=message):
        rprop(initial).init(params)


def test_initial_steps_of_weights_that_are_one_array():
    with pytest.raises(ValueError, match=r"\(2, 3\) or one number at the only leaf, got shape \(3, 2\)"):
        rprop(jnp.ones((3, 2))).init(jnp.ones((2, 3)))


def test_one_array_of_initial_steps_is_not_for_each_of_several_weights():
    with pytest.raises(ValueError, match="as one number or as a tree like the weights"):
        rprop(jnp.ones(3)).init({"v": jnp.ones(3), "w": jnp.ones(3)})


@pytest.mark.parametrize("name", ["min_step", "max_step"])
def test_either_bound_may_be_traced(name):
    """Then nobody knows which is larger."""
    steps = jax.jit(lambda bound: rprop(0.1, **{name: bound}).init(jnp.ones(2)).step)(1.0)
    np.testing.assert_array_equal(steps, 0.1)


def test_the_error_is_one_number():
    with pytest.raises(ValueError, match=r"got shape \(2,\); call update"):
        rprop(0.1).update(jnp.ones(2), rprop(0.1).init(jnp.ones(2)), value=jnp.ones(2))
