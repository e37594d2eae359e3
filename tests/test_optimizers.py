"""Steepest descent and Adam against optax and the lecture, and one conformance test for all learning rules."""

import functools
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnn import optimizers, schedules
from jnn.optimizers import adam, levenberg_marquardt, rprop, steepest_descent

from . import typechecker
from .optimizer_runs import run

VARIANTS = ("Rprop+", "Rprop-", "iRprop+", "iRprop-")
OPTIMIZERS = {
    "steepest_descent": steepest_descent,
    "momentum": functools.partial(steepest_descent, momentum=0.8),
    "adam": adam,
    **{variant: functools.partial(rprop, variant=variant) for variant in VARIANTS},
}
every_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


# --- conformance: everything exported


def test_the_table_covers_every_public_rule():
    public = {
        name
        for name, f in vars(optimizers).items()
        if inspect.isfunction(f) and f.__module__ == optimizers.__name__ and not name.startswith("_")
    }
    rules = {"steepest_descent", "adam", "rprop", "levenberg_marquardt"}  # the last, which sees more, has its own file
    assert public == {*rules, "is_elementwise", "takes_curvature", "parametrized"}


def test_only_these_rules_alone_are_known_to_be_elementwise():
    """What `fit` packs into one vector; a chain may hold anything, such as a norm over all weights."""
    for rule in (adam(), rprop(), steepest_descent(0.1, momentum=0.9)):
        assert optimizers.is_elementwise(rule)
        assert not optimizers.is_elementwise(optax.chain(optax.clip_by_global_norm(1.0), rule))
    assert not optimizers.is_elementwise(optax.lbfgs())


MIXED = {
    "layers": [{"w": jnp.ones((2, 3)), "b": jnp.ones(3, jnp.float32)}, (jnp.ones((), jnp.bfloat16),)],
    "none": None,
    "empty": jnp.ones((0, 2)),
    "half": jnp.ones(2, jnp.float16),
}


@every_optimizer
def test_protocol_and_stability(make):
    optimizer = make(0.1)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    traces = []

    @jax.jit
    def update(gradients, state, params, value):
        traces.append(None)
        return optimizer.update(gradients, state, params, value=value, something_else=None)

    def types(tree):
        return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)

    state, params = optimizer.init(MIXED), MIXED
    for t in range(3):
        updates, new = update(jax.tree.map(lambda w: 0.3 * w, params), state, params, jnp.float32(-t))
        assert types(updates) == types(params)
        assert types(new) == types(state)
        params, state = optax.apply_updates(params, updates), new
    assert len(traces) == 1
    # gradients of another dtype: updates take it, the state keeps its own
    narrow = jax.tree.map(lambda w: w.astype(jnp.float16), MIXED)
    wide = jax.tree.map(lambda w: w.astype(jnp.float64), MIXED)
    for gradients in (narrow, wide):
        updates, new = update(gradients, state, params, jnp.float32(0))
        assert types(updates) == types(gradients)
        assert types(new) == types(state)
    # Python numbers are weights, too
    state = optimizer.init({"w": 1.0})
    updates, new = optimizer.update({"w": 0.5}, state, value=1.0)
    assert types(new) == types(state)
    assert updates["w"] < 0


@every_optimizer
def test_state_is_at_least_float32(make):
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64):
        state = make(0.1).init(jnp.ones(2, dtype))
        arrays = [x for x in jax.tree.leaves(state) if x.shape]
        assert all(x.dtype == jnp.promote_types(dtype, jnp.float32) for x in arrays)


@every_optimizer
def test_chain_and_masked(make):
    w, g = jnp.array([1.0, -2.0]), jnp.array([0.5, -0.25])
    optimizer = make(0.1)
    chained = optax.chain(optax.scale(2.0), optimizer, optax.scale(1.0))
    updates, _ = chained.update(g, chained.init(w), w, value=1.0)
    expected, _ = optimizer.update(2 * g, optimizer.init(w), w, value=1.0)
    np.testing.assert_array_equal(updates, expected)
    masked = optax.masked(optimizer, {"train": True, "keep": False})
    params = {"train": w, "keep": jnp.arange(3)}
    updates, _ = masked.update({"train": 2 * g, "keep": jnp.arange(3)}, masked.init(params), params, value=1.0)
    np.testing.assert_array_equal(updates["train"], expected)
    np.testing.assert_array_equal(updates["keep"], jnp.arange(3))


HESSIAN = jnp.array([[2.0, 0.6, 0.0], [0.6, 1.0, 0.2], [0.0, 0.2, 0.3]])


def quadratic(w):
    return 0.5 * w @ HESSIAN @ w


def descend(optimizer, w, steps=60):
    def step(carry, _):
        w, state = carry
        value, g = jax.value_and_grad(quadratic)(w)
        updates, state = optimizer.update(g, state, w, value=value)
        return (optax.apply_updates(w, updates), state), value

    (w, _), values = jax.lax.scan(step, (w, optimizer.init(w)), None, length=steps)
    return w, values


@every_optimizer
def test_decreases_a_quadratic_and_vmaps_over_rates(make):
    w = jnp.array([1.0, -2.0, 1.5])
    rates = jnp.array([0.2, 0.1, 0.05])
    ws, values = jax.jit(jax.vmap(lambda rate: descend(make(rate), w)))(rates)
    assert (values[:, -1] < 0.2 * values[:, 0]).all()
    assert (values[0, -1] < 0.02 * values[0, 0]).all()
    for i, rate in enumerate(rates):
        one, trajectory = jax.jit(lambda rate=float(rate): descend(make(rate), w))()
        np.testing.assert_allclose(ws[i], one, rtol=1e-12)  # roundings, fused otherwise, over 60 steps
        np.testing.assert_allclose(values[i], trajectory, rtol=1e-12)


@every_optimizer
def test_zero_gradients_move_nothing(make):
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16, jnp.float16):
        updates = run(make(0.1), jnp.ones(3, dtype), jnp.zeros((4, 3), dtype))
        assert (updates == 0).all()


@every_optimizer
@pytest.mark.parametrize("leaf", [jnp.arange(3), jnp.ones(3, jnp.complex64), np.array([True])])
def test_refuses_other_leaves(make, leaf):
    with pytest.raises(TypeError, match=rf"expected weights .*got {leaf.dtype} at \['w'\]"):
        make(0.1).init({"v": jnp.ones(2), "w": leaf})
    state = make(0.1).init({"w": jnp.ones(leaf.shape)})
    with pytest.raises(TypeError, match=rf"expected gradients .*got {leaf.dtype} at \['w'\]"):
        make(0.1).update({"w": leaf}, state, value=0.0)


@every_optimizer
def test_nan_gradients_are_not_hidden(make):
    updates = run(make(0.1), jnp.ones(2), jnp.array([[1.0, 1.0], [jnp.nan, 1.0]]))
    assert np.isnan(updates[1, 0])
    assert np.isfinite(updates[:, 1]).all()


@every_optimizer
def test_optimizers_are_equal_by_value_and_pickle(make):
    assert make(0.1) == make(0.1) == make(learning_rate=0.1) == pickle.loads(pickle.dumps(make(0.1)))
    assert hash(make(0.1)) == hash(make(0.1))
    assert make(0.1) != make(0.2)
    assert make(1) == make(1.0) == make(np.float64(1))
    assert make(np.array([0.1, 0.2])) == make(jnp.array([0.1, 0.2])) != make(np.array([0.1, 0.3]))
    assert eval(repr(make(0.1)), {**vars(optimizers)}) == make(0.1)  # prints as it was written
    with pytest.raises(TypeError, match="got speed"):
        make(0.1).replace(speed=3.0)
    with pytest.raises(ValueError, match="expected learning_rate"):
        make(0.1).replace(learning_rate=-1.0)


@every_optimizer
def test_numbers_are_leaves_and_need_no_other_program(make):
    assert 0.1 in jax.tree.leaves(make(0.1))
    assert all(isinstance(leaf, float) for leaf in jax.tree.leaves(make(0.1)))
    traces = []

    @jax.jit
    def program(optimizer, w):
        traces.append(None)
        return optimizer.update(w, optimizer.init(w), w, value=0.0)[0]

    for rate in (0.1, 0.2, np.float64(0.3)):
        expected, _ = make(rate).update(jnp.ones(2), make(rate).init(jnp.ones(2)), jnp.ones(2), value=0.0)
        np.testing.assert_allclose(program(make(rate), jnp.ones(2)), expected, rtol=1e-7)
    assert len(traces) == 1


def test_schedules_are_structure_or_have_leaves():
    plain = optax.linear_schedule(0.1, 0.0, 5)
    assert adam(plain) == adam(plain) != adam(optax.linear_schedule(0.1, 0.0, 5))  # a function is equal to itself
    assert len(jax.tree.leaves(adam(plain))) == 3
    ours = adam(schedules.cosine(0.1, 5))
    assert ours == adam(schedules.cosine(0.1, 5)) == pickle.loads(pickle.dumps(ours)) != adam(schedules.cosine(0.2, 5))
    assert jax.tree.leaves(ours) == [0.1, 5, 0.0, 0.9, 0.999, 1e-8]
    assert len(jax.tree.leaves(adam(jax.tree_util.Partial(lambda rate, count: rate / (count + 1), 0.1)))) == 4


def test_defaults_given_or_not_are_equal():
    assert adam() == adam(1e-3, 0.9, 0.999, 1e-8)
    assert adam(1e-3, b2=0.999) == adam(learning_rate=1e-3)
    assert rprop() == rprop(0.0125, "iRprop+", 1.2, 0.5, 0.0, 50.0)
    assert levenberg_marquardt() == levenberg_marquardt(1e-2, None, 1e-7, 1e-7, 1e10)
    assert rprop() != rprop(variant="Rprop-")
    assert steepest_descent(0.1) == steepest_descent(0.1, momentum=0.0) != steepest_descent(0.1, momentum=0.1)
    assert steepest_descent(0.1, 0.9) == steepest_descent(0.1, 0.9, nesterov=False)
    assert adam() != 1e-3  # nor is it equal to what is no optimizer


def test_any_optimizer_can_have_its_numbers_as_leaves():
    made = optimizers.parametrized(optax.adamw, learning_rate=0.1, weight_decay=0.01, nesterov=True)
    assert jax.tree.leaves(made) == [0.1, 0.01]
    assert made.replace(learning_rate=0.2) == optimizers.parametrized(
        optax.adamw, learning_rate=0.2, weight_decay=0.01, nesterov=True
    )
    plain = optax.adamw(0.1, weight_decay=0.01, nesterov=True)
    w, g = jnp.array([1.0, -2.0]), jnp.array([0.5, -0.25])
    np.testing.assert_array_equal(made.update(g, made.init(w), w)[0], plain.update(g, plain.init(w), w)[0])
    with typechecker.off(), pytest.raises(TypeError, match="expected a function that makes an optimizer"):
        optimizers.parametrized(plain)


@pytest.mark.parametrize("nesterov", [False, True])
def test_nesterovs_momentum_is_optax_and_scikit_learns(nesterov, key):
    gradients = jax.random.normal(key, (20, 3))
    ours = run(steepest_descent(0.03, 0.9, nesterov), jnp.ones(3), gradients)
    theirs = run(optax.sgd(0.03, 0.9, nesterov=nesterov), jnp.ones(3), gradients)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)  # sums of 20 terms, in another order


def test_inject_hyperparams():
    optimizer = optax.inject_hyperparams(adam)(learning_rate=optax.linear_schedule(0.1, 0.2, 1))
    w = jnp.ones(1)
    state = optimizer.init(w)
    first, state = optimizer.update(w, state, w)
    second, _ = optimizer.update(w, state, w)
    np.testing.assert_allclose([first[0], second[0]], [-0.1, -0.2], rtol=1e-7)


BAD = [
    (steepest_descent, {"learning_rate": -0.1}, "learning_rate"),
    (steepest_descent, {"learning_rate": float("nan")}, "learning_rate"),
    (steepest_descent, {"learning_rate": jnp.array(-0.1)}, "learning_rate"),
    (steepest_descent, {"learning_rate": jnp.array([0.1, -0.2])}, "learning_rate"),
    (steepest_descent, {"learning_rate": 0.1, "momentum": -0.5}, "momentum"),
    (adam, {"learning_rate": -1}, "learning_rate"),
    (adam, {"learning_rate": float("inf")}, "learning_rate"),
    (adam, {"b1": 1.0}, r"b1 to be a number in \[0, 1\), got 1.0"),
    (adam, {"b1": -0.1}, "b1"),
    (adam, {"b2": 1}, "b2"),
    (adam, {"eps": 0.0}, "eps"),
    (rprop, {"learning_rate": 0.0}, "learning_rate"),
    (rprop, {"learning_rate": {"w": np.array([0.1, -0.1])}}, "learning_rate"),
    (rprop, {"eta_plus": 1.0}, "eta_plus"),
    (rprop, {"eta_minus": 1.0}, "eta_minus"),
    (rprop, {"eta_minus": 0.0}, "eta_minus"),
    (rprop, {"min_step": -1e-6}, "min_step"),
    (rprop, {"max_step": 0.0}, "max_step"),
    (rprop, {"min_step": 1.0, "max_step": 0.5}, "min_step ≤ max_step"),
    (levenberg_marquardt, {"damping": 0.0}, "damping"),
    (levenberg_marquardt, {"gradient_tolerance": -1e-9}, "gradient_tolerance"),
    (levenberg_marquardt, {"step_tolerance": -1e-9}, "step_tolerance"),
    (levenberg_marquardt, {"most_damping": 0.0}, "most_damping"),
]


@pytest.mark.parametrize(("make", "arguments", "message"), BAD)
def test_bad_values(make, arguments, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        make(**arguments)


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (steepest_descent, "learning_rate", 0.0),
        (adam, "learning_rate", 0.0),
        (adam, "b1", 0.0),
        (adam, "b2", 0.0),
        (adam, "b2", 1 - 1e-9),
        (adam, "eps", 1e-300),
        (rprop, "learning_rate", 1e-300),
        (rprop, "eta_plus", 1 + 1e-9),
        (rprop, "eta_minus", 1e-9),
        (rprop, "eta_minus", 1 - 1e-9),
        (rprop, "min_step", 50.0),
        (rprop, "max_step", 1e-300),
        (levenberg_marquardt, "damping", 1e-300),
        (levenberg_marquardt, "gradient_tolerance", 0.0),
        (levenberg_marquardt, "step_tolerance", 0.0),
        (levenberg_marquardt, "most_damping", 1e-300),
    ],
)
def test_values_that_are_just_allowed(make, name, value):
    assert make(**{name: value}).numbers[name] == value


def test_a_momentum_of_zero_is_none_only_where_it_is_known():
    """Of several members, or traced, one is 0 and others are not."""
    assert steepest_descent(0.1, 0).init(jnp.ones(2)).delta is None
    gradients = jnp.array([[1.0], [2.0]])
    for momenta in (jnp.array([0.0, 0.5]), np.array([0.0, 0.5])):
        found = jax.vmap(lambda mu: run(steepest_descent(0.1, mu), jnp.ones(1), gradients))(momenta)
        np.testing.assert_allclose(found[..., 0], [[-0.1, -0.2], [-0.1, -0.25]], rtol=1e-14)
    assert steepest_descent(0.1, np.zeros(())).init(jnp.ones(2)).delta is not None


def test_bad_kinds():
    unchecked = inspect.unwrap(adam), inspect.unwrap(rprop)  # without the tests' run-time type checks, as users have it
    for bad in ("0.1", None, True, 1j):
        with pytest.raises(TypeError, match="expected learning_rate"):
            unchecked[0](bad)
    with pytest.raises(ValueError, match=r"expected variant to be one of Rprop\+, Rprop-, iRprop\+, iRprop-, got"):
        unchecked[1](variant="irprop+")


# --- steepest descent


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_steepest_descent_is_sgd_at_a_constant_rate(momentum, dtype, key):
    params = {"w": jnp.ones((3, 2), dtype), "b": jnp.ones(2, dtype)}
    gradients = {"w": jax.random.normal(key, (50, 3, 2), dtype), "b": jax.random.normal(key, (50, 2), dtype)}
    ours = run(steepest_descent(0.03, momentum), params, gradients)
    theirs = run(optax.sgd(0.03, momentum or None), params, gradients)
    # Sums of 50 terms of alternating sign, of size 0.1, in another order: absolute.
    eps = float(jnp.finfo(dtype).eps)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2 * eps, atol=momentum * eps), ours, theirs)


def test_steepest_descent_without_momentum_is_sgd_under_schedules(key):
    schedule = optax.linear_schedule(0.1, 0.0, 9)
    gradients = jax.random.normal(key, (12, 3))
    ours, theirs = (run(make(schedule), jnp.ones(3), gradients) for make in (steepest_descent, optax.sgd))
    np.testing.assert_allclose(ours, theirs, rtol=1e-15)
    np.testing.assert_allclose(ours[0], -0.1 * gradients[0], rtol=1e-7)  # the first count is 0; float32 rates


def test_momentum_is_on_the_step_under_schedules(key):
    rates = np.array([0.1, 0.1, 0.02, 0.02, 0.0])
    gradients = np.asarray(jax.random.normal(key, (5, 3)))
    delta, expected = np.zeros(3), []
    for eta, g in zip(rates, gradients, strict=True):
        delta = -eta * g + 0.5 * delta
        expected.append(delta)
    schedule = lambda count: jnp.asarray(rates)[count]  # noqa: E731
    ours = run(steepest_descent(schedule, 0.5), jnp.ones(3), jnp.asarray(gradients))
    np.testing.assert_allclose(ours, expected, rtol=1e-14)
    assert (np.abs(ours[4]) > 0).all()  # optax.sgd would stand still at rate 0
    assert (run(optax.sgd(schedule, 0.5), jnp.ones(3), jnp.asarray(gradients))[4] == 0).all()


# --- Adam


def wild_gradients(key, steps, dtype):
    """Ordinary, zero, rare, tiny, huge and sign-changing gradients; squares that underflow, are subnormal, overflow."""
    exponents = np.log10(float(jnp.finfo(dtype).max)) * np.array([0.25, 0.45, 0.499, 0.52, 0.9])
    scales = 10.0 ** np.concatenate([[0.0], exponents, -exponents])
    keys = jax.random.split(key, 3)
    noise = np.asarray(jax.random.normal(keys[0], (steps, scales.size), float))
    signs = (-1.0) ** np.arange(steps)[:, None] * np.ones(3)
    rare = noise * (np.asarray(jax.random.uniform(keys[1], noise.shape)) < 0.05)
    everywhere = noise * 10.0 ** (np.asarray(jax.random.uniform(keys[2], noise.shape, minval=-1.0)) * exponents[2])
    tree = {"w": noise * scales, "rare": rare * scales, "b": (signs, jnp.zeros((steps, 2))), "any": everywhere}
    return jax.tree.map(lambda g: jnp.asarray(g, dtype), tree)


@pytest.mark.parametrize("rate", [1e-3, optax.cosine_decay_schedule(0.1, 900)], ids=["constant", "schedule"])
@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("arguments", [{}, {"b1": 0.0, "b2": 0.99, "eps": 1e-3}], ids=["default", "other"])
def test_adam_is_optax_adam(rate, dtype, arguments, key):
    gradients = wild_gradients(key, 1000, dtype)
    params = jax.tree.map(lambda g: g[0], gradients)
    ours, theirs = (run(make(rate, **arguments), params, gradients) for make in (adam, optax.adam))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.isfinite(a).all()
        if dtype == jnp.float64:
            np.testing.assert_allclose(a, b, rtol=1e-14, atol=0)
        else:
            np.testing.assert_array_max_ulp(np.asarray(a), np.asarray(b), maxulp=4)


def test_adam_is_optax_adam_without_x64():
    rate = optax.cosine_decay_schedule(0.1, 90)
    with jax.enable_x64(False):
        gradients = jax.tree.map(
            lambda g: jnp.asarray(g, jnp.float32), wild_gradients(jax.random.key(0), 100, "float32")
        )
        params = jax.tree.map(lambda g: g[0], gradients)
        ours, theirs = (run(make(rate), params, gradients) for make in (adam, optax.adam))
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_array_max_ulp(np.asarray(a), np.asarray(b), maxulp=4)


def test_adam_is_algorithm_1(key):
    alpha, b1, b2, eps = 0.01, 0.8, 0.95, 1e-6
    gradients = np.asarray(jax.random.normal(key, (40, 5)))
    m, v, expected = np.zeros(5), np.zeros(5), []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        expected.append(-alpha * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps))
    ours = run(adam(alpha, b1, b2, eps), jnp.ones(5), jnp.asarray(gradients))
    # absolute, roundings of the largest step: m cancels where gradients change sign
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-15 * alpha * 10)


def test_adam_hyperparameters_may_be_arrays():
    gradients = jnp.array([[1.0, -2.0], [0.5, 3.0], [0.1, 0.0]])
    expected = run(adam(0.1, 0.8, 0.9, 1e-6), jnp.ones(2), gradients)
    arrays = [jnp.asarray(x) for x in (0.1, 0.8, 0.9, 1e-6)]
    np.testing.assert_allclose(run(adam(*arrays), jnp.ones(2), gradients), expected, rtol=1e-14)
    traced = jax.jit(lambda *x: run(adam(*x), jnp.ones(2), gradients))(*arrays)
    np.testing.assert_allclose(traced, expected, rtol=1e-14)
    single = run(adam(*arrays), jnp.ones(2, jnp.float32), gradients.astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_adam_in_half_precision(dtype):
    # Constant gradients: every step is the rate, up to the rounding of the update. In the weights' own precision
    # β2 would be 1 in bfloat16, ε would be 0 and g² would overflow or vanish in float16.
    gradients = jnp.tile(jnp.array([1.0, -1e-4, 60000.0], dtype), (300, 1))
    updates = run(adam(2.0**-10), jnp.ones(3, dtype), gradients).astype(jnp.float64)
    signs = np.array([-1.0, 1.0, -1.0])
    np.testing.assert_allclose(updates, np.tile(signs * 2.0**-10, (300, 1)), rtol=float(jnp.finfo(dtype).eps))
