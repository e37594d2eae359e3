"""`check` as a user meets it: verdicts, places, declarations, references, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend import core
from jax.interpreters import ad, mlir

from jnn import gradcheck
from jnn.gradcheck import check
from jnn.gradcheck.oracle import numerical

from .rules import dense, dense_backward, numbers, product, pulled, pushed, right_dense, right_product, wrong_product

X, Y = numbers(4, 3), numbers(4, 3, seed=1)


def outcome(report, name):
    (found,) = [c.outcome for c in report.checks if c.name == name]
    return found


def leaf(report, path):
    (found,) = [v for v in report.leaves if v.path == path]
    return found


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32, jnp.float16, jnp.bfloat16], ids=lambda d: d.dtype.name)
def test_right_and_wrong_in_every_dtype(dtype):
    x, y = X.astype(dtype), Y.astype(dtype)
    right, wrong = check(right_product, x, y), check(wrong_product, x, y)
    assert right.verdict == "pass", str(right)
    assert wrong.verdict == "fail", str(wrong)
    assert [v.verdict for v in wrong.leaves] == ["pass", "fail"]
    assert leaf(wrong, "y").pattern == "sign flipped"
    assert leaf(wrong, "y").wrong_share == 1.0


def test_mixed_tree_names_the_leaf_and_the_index():
    def loss(params, x):
        return right_dense(x, params["w"], params["layers"][0]).sum() + jnp.sum(
            params["scale"].astype(jnp.float32) ** 2
        )

    def wrong_backward(g, x, w, b):
        dx, dw, db = dense_backward(g, x, w, b)
        return dx, dw.at[2, 1].mul(1.01), db

    params = {"w": numbers(3, 5), "layers": [numbers(5, seed=2)], "scale": numbers(3, seed=3, dtype=jnp.bfloat16)}
    assert check(loss, params, X, power=False).verdict == "pass"
    wrong = pulled(dense, wrong_backward)

    def wrong_loss(params, x):
        return wrong(x, params["w"], params["layers"][0]).sum() + jnp.sum(params["scale"].astype(jnp.float32) ** 2)

    report = check(wrong_loss, params, X, power=False)
    assert report.verdict == "fail"
    assert [v.path for v in report.leaves if v.verdict == "fail"] == ["params['w']"]
    worst = leaf(report, "params['w']").worst
    assert (worst.path, worst.index) == ("params['w']", (2, 1))
    # 1% of the value, in ulps of float32 (an ulp is between 6e-8 and 1.2e-7 of it).
    assert 0.8e5 < worst.error_ulps < 1.7e5
    assert "a single element" in leaf(report, "params['w']").pattern
    with pytest.raises(gradcheck.GradientError, match=r"params\['w'\]"):
        report.raise_for_failure()


def test_one_wrong_entry_of_a_jacobian_with_many_outputs():
    def backward(g, x):
        d = g * jnp.cos(x)
        return (d.at[7].add(1e-4 * g[50]),)

    x = numbers(100)
    report = check(pulled(jnp.sin, backward), x, power=False)
    assert report.verdict == "fail"
    assert report.worst.index == (7,)


def test_integers_booleans_and_keys_are_not_differentiated():
    def fun(x, n, mask, key, power, mode):
        noise = jax.random.normal(key, x.shape, x.dtype)
        assert mode == "fast"
        return jnp.where(mask, x**power * n.astype(x.dtype), x) + noise, n * 2

    report = check(fun, X, np.arange(12).reshape(4, 3), X > 0, jax.random.key(0), 3, "fast", power=False)
    assert report.verdict == "pass"
    assert [v.path for v in report.leaves] == ["x"]


def test_forward_mode_is_checked_too():
    right = pushed(product, lambda a, t: jnp.cos(a[0]) * a[1] * t[0] + jnp.sin(a[0]) * t[1])
    assert outcome(check(right, X, Y, power=False), "forward mode") == "pass"
    assert outcome(check(right, X, Y, power=False), "adjoint identity") == "pass"
    # Right for non-negative tangents only; the sum of its parts is not transposable, so forward mode must find it.
    absolute = pushed(jnp.sin, lambda a, t: jnp.cos(a[0]) * jnp.abs(t[0]))
    assert check(absolute, X, power=False).verdict == "fail"


def test_order_two():
    def held(g, x):
        return (3 * g * x * lax.stop_gradient(x),)

    cube = lambda x: x**3  # noqa: E731
    right, wrong = pulled(cube, lambda g, x: (3 * g * x**2,)), pulled(cube, held)
    assert check(wrong, X, power=False).verdict == "pass"
    assert check(right, X, order=2, power=False).verdict == "pass"
    report = check(wrong, X, order=2, power=False)
    assert report.verdict == "fail"
    assert outcome(report, "order 2") == "fail"


def test_straight_through_is_reported_and_can_be_declared():
    rounded = pulled(lambda x: jnp.round(x), lambda g, x: (g,))

    def fun(x, y):
        return rounded(x) * y

    report = check(fun, X, Y, power=False)
    assert [v.verdict for v in report.leaves] == ["fail", "pass"]
    declared = check(fun, X, Y, expected="x", power=False)
    assert declared.verdict == "pass"
    assert leaf(declared, "x").expected
    assert "as declared" in declared.summary
    # A declaration that is no longer true fails, and so does one of a leaf that does not exist.
    stale = check(fun, X, Y, expected=["x", "y"], power=False)
    assert stale.verdict == "fail"
    assert leaf(stale, "y").verdict == "fail"
    with pytest.raises(ValueError, match="'z'"):
        check(fun, X, Y, expected="z")


def test_clipping_is_a_deviation_that_can_be_declared():
    clipped = pulled(jnp.sin, lambda g, x: (jnp.clip(g * jnp.cos(x), -0.1, 0.1),))
    assert check(clipped, X, power=False).verdict == "fail"
    assert check(clipped, X, expected="*", power=False).verdict == "pass"


def test_stop_gradient_is_a_deviation():
    def detached(x, y):
        return x * lax.stop_gradient(y)

    report = check(detached, X, Y, power=False)
    assert [v.verdict for v in report.leaves] == ["pass", "fail"]
    assert "dead leaf" in leaf(report, "y").pattern
    assert "stop_gradient" in report.summary
    assert check(detached, X, Y, expected="y", power=False).verdict == "pass"
    # One that changes nothing is none: the shift of a softmax.
    assert check(jax.nn.softmax, X, power=False).verdict == "pass"


def test_legitimate_zeros_pass():
    assert check(lambda x, unused: x**2, X, Y, power=False).verdict == "pass"
    assert check(lambda x: jnp.maximum(x - 100, 0), X, power=False).verdict == "pass"
    assert check(lambda x: jnp.floor(x), X, power=False).verdict == "pass"


def test_nan_and_infinity_fail_and_name_the_leaf():
    report = check(lambda x, y: jnp.where(x > 0, jnp.sqrt(x), 0) * y, jnp.abs(X).at[1, 2].set(-1), Y, power=False)
    assert [v.verdict for v in report.leaves] == ["fail", "pass"]
    assert "NaN in 1 elements" in leaf(report, "x").note
    assert leaf(report, "x").worst.index == (1, 2)
    report = check(jnp.sqrt, jnp.asarray([0.0, 1.0], jnp.float32), power=False)
    assert report.verdict == "fail"
    assert "infinite" in report.leaves[0].note
    allowed = check(jnp.sqrt, jnp.asarray([0.0, 1.0], jnp.float32), allow_nonfinite=True, power=False)
    assert allowed.verdict == "pass", str(allowed)


def test_a_rule_that_is_right_where_autodiff_is_not():
    def safe_norm(x):
        return jnp.sqrt(jnp.sum(x**2))

    def backward(g, x):
        n = safe_norm(x)
        return (jnp.where(n > 0, g * x / jnp.where(n > 0, n, 1), 0),)

    # Autodiff of the primal is NaN at 0; 0 lies between the one-sided derivatives −1 and 1.
    assert check(pulled(safe_norm, backward), jnp.zeros(3, jnp.float32), power=False).verdict == "kink"
    two = pulled(safe_norm, lambda g, x: (2 + 0 * x,))
    assert check(two, jnp.zeros(3, jnp.float32), power=False).verdict == "fail"


def test_a_while_loop_has_no_reverse_mode_but_a_rule():
    def root(a):
        return lax.while_loop(lambda s: jnp.any(jnp.abs(s * s - a) > 1e-6 * a), lambda s: (s + a / s) / 2, a)

    a = jnp.asarray([0.3, 2.0, 9.0], jnp.float32)
    right, wrong = (pulled(root, lambda g, a, k=k: (g * k / root(a),)) for k in (0.5, 0.6))
    good, bad = check(right, a, power=False), check(wrong, a, power=False)
    assert good.verdict == "pass"
    assert good.reference.startswith("forward-mode")
    assert bad.verdict == "fail"
    # Without a rule only forward mode exists.
    assert check(root, a, power=False).verdict == "pass"


def test_a_series_whose_lanes_end_one_by_one():
    # The series of exp(−c x) stops where float32 sees no change, each element at its own term: the derivative of what
    # was summed is less exact than the rule, and further terms tell by how much.
    def series(c, x):
        going = lambda s: jnp.abs(s[1]) > 1e-6 * jnp.abs(s[0])  # noqa: E731
        step = lambda s: (s[0] + s[1], -s[1] * c * x / s[2], s[2] + 1)  # noqa: E731
        return lax.while_loop(going, step, (jnp.ones_like(x), -c * x, jnp.full_like(x, 2.0)))[0]

    c, x = jnp.asarray([0.3, 2.0, 1.1, 0.05], jnp.float32), jnp.asarray([1.0, 0.7, 0.2, 0.4], jnp.float32)
    for factor, verdict in ((1.0, "pass"), (1.0001, "fail")):
        rule = pushed(jax.vmap(series), lambda a, t, k=factor: -k * jnp.exp(-a[0] * a[1]) * (a[1] * t[0] + a[0] * t[1]))
        report = check(rule, c, x, power=False)
        assert report.verdict == verdict, str(report)


def callback_sine(x):
    return jax.pure_callback(lambda v: np.sin(v), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_primal_without_derivative_is_checked_by_differences_or_a_reference(dtype):
    right, wrong = (pulled(callback_sine, lambda g, x, k=k: (k * g * jnp.cos(x),)) for k in (1.0, 1.1))
    x = X[0].astype(dtype)
    good = check(right, x, power=False)
    assert good.verdict == "pass", str(good)
    assert good.reference.startswith("differences")
    assert check(wrong, x, power=False).verdict == "fail"
    assert check(right, x, reference=jnp.sin, power=False).verdict == "pass"
    assert check(wrong, x, reference=jnp.sin, power=False).verdict == "fail"
    other = check(right, x, reference=lambda x: 2 * jnp.sin(x), power=False)
    assert outcome(other, "value with and without derivative") == "fail"


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_a_primitive_of_another_library_is_what_evaluates_it(factor):
    own = core.Primitive("cubed")
    own.def_impl(lambda x: x**3 + jnp.sin(x))
    own.def_abstract_eval(lambda x: x)
    mlir.register_lowering(own, mlir.lower_fun(own.impl, multiple_results=False))
    ad.primitive_jvps[own] = lambda x, v: (own.bind(*x), (3 * factor * x[0] ** 2 + jnp.cos(x[0])) * v[0])
    report = check(own.bind, jnp.float32([0.3, 1.2]), power=False)
    assert report.verdict == ("pass" if factor == 1 else "fail")
    assert any(r.startswith("primitive cubed") for r in report.removed)


def test_a_rule_that_raises_fails():
    def backward(g, x):
        return g, x

    report = check(pulled(jnp.sin, backward), X, power=False)
    assert report.verdict == "fail"
    assert outcome(report, "reverse mode") == "fail"


def test_complex_arguments():
    z = jnp.asarray([1 + 2j, 3 - 1j, -0.5j], jnp.complex64)
    assert check(pulled(lambda z: z**3, lambda g, z: (3 * g * z**2,)), z, power=False).verdict == "pass"
    wrong = check(pulled(lambda z: z**3, lambda g, z: (3 * g * jnp.conj(z) ** 2,)), z, power=False)
    assert wrong.verdict == "fail"
    assert check(lambda z: jnp.abs(z) ** 2, z, power=False).verdict == "pass"


def test_given_cotangents_and_snippet():
    report = check(wrong_product, X, Y, cotangents=jnp.ones((4, 3), jnp.float32), power=False)
    assert outcome(report, "reverse mode") == "fail"
    assert report.verdict == "fail"
    report = check(wrong_product, X, Y, power=False)
    names = {"fun": wrong_product, "args": (X, Y), "jax": jax, "gradcheck": gradcheck, "print": lambda *a: None}
    exec(report.snippet, names)
    assert float(names["got"]) == pytest.approx(report.worst.value, rel=1e-6)
    assert float(names["got"]) == pytest.approx(-report.worst.expected, rel=1e-5)
    with pytest.raises(ValueError, match="shapes"):
        check(right_product, X, Y, cotangents=jnp.ones(3))


def test_a_snippet_of_a_forward_rule():
    absolute = pushed(jnp.sin, lambda a, t: jnp.cos(a[0]) * jnp.abs(t[0]))
    report = check(absolute, X, power=False)
    assert outcome(report, "forward mode") == "fail"
    names = {"fun": absolute, "args": (X,), "jax": jax, "gradcheck": gradcheck, "print": lambda *a: None}
    exec(report.snippet, names)
    assert float(names["got"]) == pytest.approx(report.worst.value, rel=1e-6)
    assert float(names["got"]) != pytest.approx(report.worst.expected, rel=1e-3)


def test_the_modes_are_as_bad_as_their_leaves():
    assert outcome(check(wrong_product, X, Y, power=False), "reverse mode") == "fail"
    assert outcome(check(right_product, X, Y, power=False), "reverse mode") == "pass"
    # Declared deviations are none.
    assert outcome(check(wrong_product, X, Y, expected="y", power=False), "reverse mode") == "pass"
    relu = check(jax.nn.relu, jnp.asarray([-1.0, 0.0, 2.0], jnp.float32), power=False)
    assert relu.verdict == outcome(relu, "reverse mode") == outcome(relu, "forward mode") == "kink"


def test_a_leaf_of_which_nothing_was_compared_does_not_pass():
    report = check(callback_sine, X[0], power=False)
    assert report.verdict == "fail"
    assert report.leaves[0].verdict == "inconclusive"
    assert report.leaves[0].comparisons == 0
    assert "nothing could be compared" in report.leaves[0].note
    empty = check(lambda x, y: jnp.sin(x).sum() + y, jnp.zeros((0, 3), jnp.float32), X, power=False)
    assert empty.verdict == "pass"


def test_an_undecided_summary_says_what_was_seen():
    """Not only which cotangents showed it."""
    table = jnp.linspace(0, 2, 4097, dtype=jnp.float32)
    root = jax.custom_vjp(lambda y: table[jnp.searchsorted(table**2, y)])
    root.defvjp(lambda y: (root(y), root(y)), lambda r, g: (g / (2 * r),))
    assert "in y: the primal is piecewise constant at scale" in check(root, jnp.float32(2), power=False).summary
    calls = iter(range(100))
    assert "random or depends on a hidden state" in check(lambda x: x * next(calls), X, power=False).summary


def test_a_failure_says_what_was_seen():
    """Where no leaf is wrong, or no single element: not only the name of the check."""
    sine = pulled(jnp.sin, lambda g, x: (g * jnp.cos(x),))

    def looped(x):
        return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, sine(s[1])), (0, x))[1]

    report = check(jax.vmap(looped), X, power=False)
    assert report.verdict == "fail"
    assert "JAX cannot differentiate the function: ValueError: Reverse-mode" in report.summary
    assert "a custom_vjp inside has no forward mode" in report.summary
    # Right at the point, but the branch that is taken there joins nothing.
    guarded = check(lambda x: x * jnp.where(x != 0, jnp.abs(x), 1.0), jnp.zeros(3), power=False)
    assert guarded.verdict == "fail"
    assert "differences say" in guarded.summary
    assert not guarded.snippet


def test_a_gradient_that_raises_for_some_cotangents_is_told():
    """And so is the error inside of the callback, not that there was one."""

    def dense(g):
        if np.count_nonzero(g) == 1:
            raise RuntimeError("too sparse")
        return g

    def backward(g, x):
        return (jax.pure_callback(dense, jax.ShapeDtypeStruct(g.shape, g.dtype), g) * jnp.cos(x),)

    report = check(pulled(jnp.sin, backward), X[0], power=False)
    assert report.verdict == "inconclusive"
    assert "with cotangent only out[0]" in report.summary
    assert "RuntimeError: too sparse" in report.summary


def test_directions_are_finite_where_arguments_are_not():
    mask = jnp.asarray([-jnp.inf, 1.0, 2.0], jnp.float32)
    summed = pushed(lambda x: jnp.log(jnp.sum(jnp.exp(x))), lambda a, t: jnp.sum(jax.nn.softmax(a[0]) * t[0]))
    assert check(summed, mask, power=False).verdict == "pass"


def test_a_loop_that_counts_by_inequality_runs_on_and_ends():
    """Further iterations tell whether it converges; past its end, its own condition holds again, for ever."""

    def root(a):
        return lax.while_loop(lambda s: s[0] != 8, lambda s: (s[0] + 1, (s[1] + a / s[1]) / 2), (0, a))[1]

    for factor, verdict in ((0.5, "pass"), (0.6, "fail")):
        report = check(pulled(root, lambda g, a, k=factor: (g * k / root(a),)), jnp.float32(3.0), power=False)
        assert report.verdict == verdict


def test_errors_beside_a_refuted_reference_are_not_shown():
    """√(x²)⁴ at 0: autodiff of the primal is NaN there."""
    quartic = pulled(lambda x: jnp.sqrt(jnp.sum(x * x)) ** 4, lambda g, x: (4 * g * x * jnp.sum(x * x),))
    report = check(quartic, jnp.zeros(3), power=False)
    assert report.verdict == "pass"
    assert "differences confirm the value" in report.leaves[0].note
    assert report.leaves[0].wrong_share == 0
    assert report.leaves[0].worst is None
    tilted = pulled(lambda x: jnp.sqrt(jnp.sum(x * x)) ** 4, lambda g, x: (4 * g * x * jnp.sum(x * x) + 1e-6 * g,))
    assert check(tilted, jnp.zeros(3), power=False).verdict == "fail"


def test_the_hint_of_stop_gradient_in_a_loop_without_reverse_mode():
    """The steps of a solver, say, that are taken for given: the rule differentiates the rest of the loop."""

    def powers(x):
        return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * lax.stop_gradient(x)), (0, x))[1]

    attached = pulled(lambda x: jnp.sum(powers(x)), lambda g, x: (4 * g * x**3,))
    detached = pulled(lambda x: jnp.sum(powers(x)), lambda g, x: (g * x**3,))
    assert check(attached, X, power=False).verdict == "pass"
    report = check(detached, X, power=False)
    assert report.verdict == "fail"
    assert "stop_gradient: declare the leaf with expected=" in report.summary


def test_the_hint_of_stop_gradient_is_given_where_it_matters():
    # jax.nn.softmax stops the gradient of its shift, which changes no derivative.
    wrong = check(pulled(lambda x: jax.nn.softmax(x) * 2, lambda g, x: (g,)), X, power=False)
    assert wrong.verdict == "fail"
    assert any(removed.startswith("stop_gradient") for removed in wrong.removed)
    assert "stop_gradient" not in wrong.summary
    # Here it does, in the second of two wrong leaves; and the declaration that the hint asks for is taken.
    wrong_sine = pulled(jnp.sin, lambda g, x: (-g * jnp.cos(x),))
    both = check(lambda x, y: wrong_sine(x) * lax.stop_gradient(y), X, Y, power=False)
    assert [v.verdict for v in both.leaves] == ["fail", "fail"]
    assert "stop_gradient: declare the leaf with expected=" in both.summary
    declared = check(lambda x, y: wrong_sine(x) * lax.stop_gradient(y), X, Y, expected="y", power=False)
    assert [v.verdict for v in declared.leaves] == ["fail", "pass"]
    assert "stop_gradient" not in declared.summary


def test_an_error_where_zero_is_right_is_told_in_ulps_of_the_leaf():
    def backward(g, x):
        return (g * jnp.where(jnp.arange(3) > 0, jnp.cos(x), 1),)

    masked = pulled(lambda x: jnp.where(jnp.arange(3) > 0, jnp.sin(x), 0), backward)
    report = check(masked, X[0], power=False)
    assert report.worst.index == (0,)
    assert report.worst.of_largest
    # The error is of the size of the other elements: about 1/eps ulps of them, and allowed is what they are allowed.
    assert 1e5 < report.worst.error_ulps < 1e9
    assert report.worst.allowed_ulps < 1e3
    assert "ulps of the leaf's largest" in str(report)


def test_arguments_that_are_not_finite_are_named():
    report = check(right_product, X.at[0, 0].set(jnp.nan), Y, power=False)
    assert report.verdict == "fail"
    assert "the arguments themselves are not finite in x" in report.summary
    assert "not finite in x" not in check(wrong_product, X, Y, power=False).summary


@pytest.mark.parametrize("around", [jax.jit, jax.vmap, lambda f: jax.grad(lambda x: f(x).sum())])
def test_tracers_are_refused(around):
    def inside(x):
        check(right_product, x, x)
        return x

    def closed_over(x):
        check(lambda y: jnp.sum(x) * y, X[0])
        return x

    for fun in (inside, closed_over):
        with pytest.raises(TypeError, match="outside of jit, vmap and grad"):
            around(fun)(X)


def test_nondiff_argnums_and_trees():
    def power(n, x):
        return x["a"] ** n

    right, wrong = (jax.custom_vjp(power, nondiff_argnums=(0,)) for _ in range(2))
    right.defvjp(lambda n, x: (power(n, x), x), lambda n, x, g: ({"a": n * g * x["a"] ** (n - 1)},))
    wrong.defvjp(lambda n, x: (power(n, x), x), lambda n, x, g: ({"a": g * x["a"] ** (n - 1)},))
    assert check(right, 3, {"a": X}, power=False).verdict == "pass"
    report = check(wrong, 3, {"a": X}, power=False)
    assert [(v.path, v.pattern) for v in report.leaves] == [("x['a']", "factor 1/3")]


@pytest.mark.parametrize("most", [100, 50_000, 10_000_000])
def test_a_check_counts_its_work_and_gives_up(monkeypatch, most):
    def slow(x):
        return lax.while_loop(lambda s: s[0] < 5_000, lambda s: (s[0] + 1, s[1] * 1.0001), (0, x))[1]

    monkeypatch.setattr(numerical, "MOST", most)
    report = check(slow, jnp.float32(1.0), power=False)
    assert report.verdict == ("pass" if most == 10_000_000 else "inconclusive")
    if most < 10_000_000:
        assert f"more than {most:,} equations" in report.summary
        assert report.leaves[0].verdict == "inconclusive"


def test_an_interruption_is_passed_on_and_leaves_the_configuration():
    calls = []

    def fun(x):
        calls.append(None)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return jnp.sin(x)

    with jax.enable_x64(False), pytest.raises(KeyboardInterrupt):
        check(pulled(fun, lambda g, x: (g * jnp.cos(x),)), X)
    assert jnp.result_type(float) == jnp.float64  # as the tests set it
    assert len(calls) == 5


def test_errors_at_the_boundary():
    with pytest.raises(ValueError, match="tolerance"):
        check(jnp.sin, X, tolerance=-1.0)
    with pytest.raises(TypeError, match="seed"):
        check(jnp.sin, X, seed=jax.random.key(0))
    with pytest.raises(ValueError, match="return a floating array"):
        check(lambda x: None, X)
    with pytest.raises(ValueError, match="floating argument"):
        check(lambda n: n, np.arange(3))
    with pytest.raises(ValueError, match="return a floating array"):
        check(lambda x: x > 0, X)
    with pytest.raises(ValueError, match="order"):
        check(jnp.sin, X, order=3)
    with pytest.raises(ValueError, match="reference"):
        check(jnp.sin, X, reference=jnp.sum)


def test_tolerance_can_be_given():
    almost = pulled(jnp.sin, lambda g, x: (1.001 * g * jnp.cos(x),))
    assert check(almost, X, power=False).verdict == "fail"
    assert check(almost, X, tolerance=1e-2, power=False).verdict == "pass"
