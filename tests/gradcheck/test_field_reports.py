"""What public bug reports brought to light: each stands for a kind of fault, and is tried with variants of its own."""

from functools import partial

import jax
import jax.experimental.pallas as pl
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_derivatives import linear_call
from jax.extend import core
from jax.interpreters import ad, batching, mlir
from jax.sharding import Mesh, PartitionSpec as P

from jnn import gradcheck
from jnn.gradcheck import check, check_rules, compare

from .rules import numbers, pulled, pushed

bf16, f16, f32 = jnp.bfloat16, jnp.float16, jnp.float32
X6 = numbers(6, seed=1)


def scaled_sine(k):
    return pulled(jnp.sin, lambda g, x: (k * g * jnp.cos(x),))


def outcomes(report):
    return {c.name: c.outcome for c in report.checks}


# -- mixed precision --------------------------------------------------------------------------------------------------


def dense(x, w, b):
    return x @ w.astype(x.dtype) + jnp.broadcast_to(b.astype(x.dtype), (x.shape[0], b.shape[0]))


def dense_rule(factor=1.0):
    def pull(g, x, w, b):
        dw = (x.T.astype(f32) @ g.astype(f32)) * f32(factor)
        return g @ w.astype(x.dtype).T, dw, g.astype(f32).sum(0)

    return pulled(dense, pull)


def layer_norm(x, gamma, beta):
    y = x.astype(f32)
    m = y.mean(-1, keepdims=True)
    y = (y - m) * lax.rsqrt(((y - m) ** 2).mean(-1, keepdims=True) + 1e-5)
    return (y * gamma[None] + beta[None]).astype(x.dtype)


def dense_args(dtype):
    return numbers(16, 8, seed=1).astype(dtype), numbers(8, 4, seed=2), numbers(4, seed=3)


MIXED = {
    "cast": lambda d: (lambda t: t.astype(d), numbers(64)),
    "cast there and back": lambda d: (lambda t: jnp.tanh(t.astype(d).astype(f32) * 1.7), numbers(64)),
    "dense": lambda d: (dense, *dense_args(d)),
    "dense by hand": lambda d: (dense_rule(), *dense_args(d)),
    "layer norm": lambda d: (layer_norm, numbers(6, 32).astype(d), 1 + 0.1 * numbers(32), numbers(32, seed=2)),
    "embedding": lambda d: (lambda e, i: e[i].astype(d) * d(1.5), numbers(50, 8), jnp.array([1, 4, 4, 7, 1, 49])),
    "loss": lambda d: (lambda x, w: jax.nn.gelu(x.astype(d) @ w.astype(d)).astype(f32).sum(), numbers(8, 16),
                       numbers(16, 4)),
    "bias added to activations": lambda d: (lambda x, b: x + b.astype(d)[None], numbers(200, 3).astype(d), numbers(3)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [bf16, f16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", MIXED)
def test_right_functions_of_mixed_precision_pass(name, dtype):
    report = check(*MIXED[name](dtype), power=False)
    assert report.verdict == "pass", str(report)


@pytest.mark.parametrize("dtype", [bf16, f16], ids=["bfloat16", "float16"])
def test_one_percent_in_a_float32_leaf_of_a_coarse_layer_fails(dtype):
    report = check(dense_rule(1.01), *dense_args(dtype), power=False)
    assert [leaf.verdict for leaf in report.leaves] == ["pass", "fail", "pass"]


def accumulated(coarse):
    """x + b with the bias's gradient summed in bfloat16 or float32."""

    def pull(g, x, b):
        summed = lax.scan(lambda s, u: (s + u, None), jnp.zeros(g.shape[1], bf16), g)[0]
        return g, summed.astype(f32) if coarse else g.astype(f32).sum(0)

    return pulled(lambda x, b: x + b.astype(bf16)[None], pull)


def test_low_precision_accumulation_fails_and_the_allowance_is_told():
    x, b = numbers(4096, 3).astype(bf16), numbers(3)
    wrong, right = check(accumulated(True), x, b, power=False), check(accumulated(False), x, b, power=False)
    assert wrong.verdict == "fail"
    assert wrong.leaves[1].verdict == "fail"
    assert wrong.leaves[1].pattern.startswith("precision lost")
    assert right.verdict == "pass", str(right)
    # What the formula may be off is one thing, what the arithmetic may be off another; both are told, the latter for
    # the leaf as a whole and, where that is coarser, for one element.
    leaf = right.leaves[1]
    assert leaf.detectable < leaf.detectable_rounding <= leaf.detectable_rounding_element < 0.05


@pytest.mark.parametrize("right", [False, True])
def test_a_float32_leaf_is_held_to_what_is_stated_of_it_as_a_whole(right):
    """Each element is off by less than is allowed to one, and all of them are told together."""

    def primal(x, w):
        return (x.astype(f32) * w[None]).astype(bf16)

    def pull(g, x, w):
        by_w = jnp.sum(g.astype(f32) * x.astype(f32), 0)
        return (g.astype(f32) * w[None]).astype(bf16), by_w if right else lax.reduce_precision(by_w, 8, 7)

    rule = pulled(primal, pull)
    args = numbers(64, 16).astype(bf16), 1 + 0.1 * numbers(16)
    report = check(rule, *args, power=False)
    leaf = report.leaves[1]
    assert leaf.verdict == ("pass" if right else "fail"), str(report)
    if right:  # rounding to bfloat16 is off by 1/1024, typically
        assert leaf.detectable_rounding < 2**-10 < leaf.detectable_rounding_element
        assert f"rounding {leaf.detectable_rounding:.1g}, of one element" in str(report)


def test_a_sum_that_is_exact_for_cotangents_of_few_digits_is_seen():
    """Five multiples of 1/64 add up in bfloat16 without an error; five numbers of all its digits do not."""
    x, b = numbers(5, 7).astype(bf16), numbers(7)

    def summed(coarse):
        def pull(g, x, b):
            total = g.astype(f32).sum(0)
            return g, lax.reduce_precision(total, 8, 7) if coarse else total

        return pulled(lambda x, b: (x.astype(f32) + b[None]).astype(bf16), pull)

    assert check(summed(False), x, b, power=False).verdict == "pass"
    assert check(summed(True), x, b, power=False).leaves[1].verdict == "fail"


def test_what_autodiff_itself_commits_is_part_of_what_is_stated():
    """JAX's own gradient by b is summed in bfloat16, and a rule that is no better is right: the report says so."""
    x, b = numbers(64, 7).astype(bf16), numbers(7)

    def summed(rounded):
        return pulled(lambda x, b: x + b.astype(bf16)[None], lambda g, x, b: (g, rounded(g.astype(f32).sum(0))))

    assert check(summed(lambda v: lax.reduce_precision(v, 8, 7)), x, b, power=False).verdict == "pass"
    assert 1e-3 < check(summed(lambda v: v), x, b, power=False).leaves[1].detectable_rounding < 0.1


@pytest.mark.parametrize("coarse", [False, True])
def test_a_cast_that_changes_nothing_excuses_nothing(coarse):
    """The cotangent is a bfloat16 number, and cast to bfloat16 once more: only the sum may round, of two elements."""
    x, b = numbers(512, 2).astype(bf16), numbers(2)

    def pull(g, x, b):
        rows = g.astype(f32).astype(bf16)
        if not coarse:
            return g, rows.astype(f32).sum(0)
        return g, lax.fori_loop(0, 512, lambda i, s: s + rows[i], jnp.zeros(2, bf16)).astype(f32)

    report = check(pulled(lambda x, b: x + b.astype(bf16)[None], pull), x, b, power=False)
    assert report.verdict == ("fail" if coarse else "pass"), str(report)


def in_pairs(t):
    while t.shape[0] > 1:
        t = t[0::2] + t[1::2]
    return t[0]


SUMS = {
    "lax.reduce": lambda t: lax.reduce(t, bf16(0), lax.add, (0,)),
    "cumsum": lambda t: jnp.cumsum(t, 0)[-1],
    "pairs": in_pairs,
    "scatter": lambda t: jnp.zeros_like(t[:1]).at[jnp.zeros(t.shape[0], int)].add(t)[0],
}
"""Sums in the dtype of the terms."""


def biased(summed):
    """x + b in bfloat16, with the bias's gradient summed in one way or another."""
    return pulled(lambda x, b: x + b.astype(bf16)[None], lambda g, x, b: (g, summed(g).astype(f32)))


@pytest.mark.parametrize("name", SUMS)
def test_coarse_sums_of_any_form_fail(name):
    x, b = numbers(1024, 8).astype(bf16), numbers(8)
    report = check(biased(SUMS[name]), x, b, power=False)
    assert report.verdict == "fail"
    assert [leaf.verdict for leaf in report.leaves] == ["pass", "fail"]


def recomputed(fun):
    """`fun` with the rule that differentiates it once more, as checkpoints do."""
    return pulled(fun, lambda g, *args: jax.vjp(fun, *args)[1](g))


@pytest.mark.parametrize("made", [lambda fun: fun, recomputed], ids=["no rule", "recomputed"])
def test_sums_that_jax_makes_are_no_fault_of_a_rule(made):
    """The transpose of a broadcast sums in the dtype of the cotangent, whoever asks for it."""

    def fun(x, b):
        return jax.nn.silu(x + b.astype(bf16)[None])

    report = check(made(fun), numbers(2048, 8).astype(bf16), numbers(8), power=False)
    assert report.verdict == "pass", str(report)


def test_a_relu_in_low_precision_takes_the_branch_that_rounding_decides():
    """Of 1,024 numbers some are zero in bfloat16, or of another sign than in float64."""
    x, w, b = numbers(128, 8, seed=1).astype(bf16), numbers(8, 8, seed=2), numbers(8, seed=3)

    def layer(factor):
        rule = pulled(lambda a: jnp.maximum(a, 0), lambda g, a: (jnp.where(a > 0, bf16(factor) * g, 0),))
        return lambda x, w, b: rule(x @ w.astype(bf16) + b.astype(bf16)[None])

    for fun in (lambda x, w, b: jax.nn.relu(x @ w.astype(bf16) + b.astype(bf16)[None]), layer(1.0)):
        report = check(fun, x, w, b, power=False)
        assert report.verdict == "pass", str(report)
    assert check(layer(1.25), x, w, b, power=False).verdict == "fail"


def test_few_rows_summed_in_low_precision_fail():
    """Of a scale, whose terms are rounded as well: so much may be off that single elements prove nothing."""

    def scaled(dtype):
        def pull(g, x, a):
            zero = jnp.zeros(a.shape, dtype)
            summed = lax.scan(lambda s, u: (s + u.astype(dtype), None), zero, g * x)[0]
            return g * a.astype(bf16)[None], summed.astype(f32)

        return pulled(lambda x, a: x * a.astype(bf16)[None], pull)

    x, a = numbers(512, 3).astype(bf16), numbers(3)
    assert [leaf.verdict for leaf in check(scaled(bf16), x, a, power=False).leaves] == ["pass", "fail"]
    right = check(scaled(f32), x, a, power=False)
    assert right.verdict == "pass", str(right)


# -- staircases and truncated solvers ---------------------------------------------------------------------------------


def bisected(turns, factor):
    """The root of r³ + r = y by bisection, with the rule of the implicit function theorem times a factor."""

    def halved(y):
        def turn(i, s):
            m = s.mean()
            return jnp.where(m**3 + m < y, jnp.stack([m, s[1]]), jnp.stack([s[0], m]))

        return lax.fori_loop(0, turns, turn, jnp.array([0.0, 4.0], f32)).mean()

    rule = jax.custom_vjp(halved)
    rule.defvjp(lambda y: (halved(y), halved(y)), lambda r, g: (factor * g / (3 * r**2 + 1),))
    return rule


@pytest.mark.parametrize("turns", [12, 18, 24, 28, 40])
def test_a_rule_that_sees_through_a_staircase_does_not_fail_and_a_dead_one_does_not_pass(turns):
    y = f32(5)
    right, dead, wrong = (check(bisected(turns, k), y, power=False) for k in (1.0, 0.0, 1.2))
    assert right.verdict == ("pass" if turns > 12 else "inconclusive"), str(right)
    assert dead.verdict in ("fail", "inconclusive"), str(dead)
    assert wrong.verdict in ("fail", "inconclusive"), str(wrong)
    if 18 <= turns <= 28:
        assert (
            "piecewise constant at scale" in right.leaves[0].note or turns == 28
        )  # at the smallest steps that are taken
        assert dead.verdict == wrong.verdict == "fail"


@pytest.mark.parametrize("factor", [1.0, 0.0, 1.3])
def test_a_table_that_is_looked_up(factor):
    grid = np.linspace(0, 4, 4097, dtype=np.float32)
    table = jnp.sin(grid)
    rule = pulled(lambda x: table[jnp.searchsorted(grid, x)], lambda g, x: (factor * g * jnp.cos(x),))
    verdict = check(rule, jnp.asarray([0.3, 1.1, 2.2, 3.3], f32), power=False).verdict
    assert verdict in (("pass", "inconclusive") if factor == 1.0 else ("fail", "inconclusive"))


def test_flat_functions_without_a_rule_of_their_own_keep_their_zero():
    x = jnp.asarray(np.linspace(0.1, 1000.3, 7), f32)
    assert check(lambda x: jnp.floor(x) * 2 + jax.nn.sigmoid(x), x, power=False).verdict == "pass"


def fixed_point(turns, factor):
    def solved(a):
        return lax.fori_loop(0, turns, lambda i, x: x - 0.4 * (x**3 + x - a), 0 * a)

    rule = jax.custom_vjp(solved)
    rule.defvjp(lambda a: (solved(a), solved(a)), lambda x, g: (factor * g / (3 * x**2 + 1),))
    return rule


def test_a_solver_that_has_not_converged_is_said_to_be_one():
    right, wrong = (check(fixed_point(8, k), f32(0.5), power=False) for k in (1.0, 2.0))
    assert right.verdict == "inconclusive", str(right)
    assert "the primal has not converged" in right.leaves[0].note
    assert wrong.verdict == "fail"
    assert check(fixed_point(60, 1.0), f32(0.5), power=False).verdict == "pass"


def residual(x, a):
    return x**3 + x - a


def bracketed(factor):
    """The same root, from a bracket that moves with y: within one of its steps the value has another slope, 1."""

    def primal(y):
        def turn(s):
            middle = (s[1] + s[2]) / 2
            low = middle**3 + middle < y
            return s[0] + 1, jnp.where(low, middle, s[1]), jnp.where(low, s[2], middle)

        s = lax.while_loop(lambda s: s[0] < 22, turn, (0, y - 4.3, y + 0.4))
        return (s[1] + s[2]) / 2

    return pulled(primal, lambda g, y: (factor * g / (3 * primal(y) ** 2 + 1),))


def test_a_bracket_that_moves_decides_nothing_against_the_rule():
    right, wrong = (check(bracketed(k), f32(3.3), power=False) for k in (1.0, 1.1))
    assert right.verdict == "inconclusive", str(right)
    assert "differences at larger steps agree with the rule" in right.leaves[0].note
    assert wrong.verdict in ("fail", "kink")


@pytest.mark.parametrize("made", [partial(fixed_point, 8), partial(bisected, 28), partial(bisected, 12)])
def test_a_residual_decides(made):
    a = f32(0.5) if made.func is fixed_point else f32(5)
    report = check(made(1.0), a, residual=residual, power=False)
    assert report.verdict == "pass", str(report)
    assert report.reference.startswith("the implicit function theorem")
    assert check(made(1.02), a, residual=residual, power=False).verdict == "fail"
    assert check(made(0.0), a, residual=residual, power=False).verdict == "fail"


def bessel(x):
    """J₀ by its series, until the terms are small."""

    def term(s):
        k, t, total = s
        t = -t * (x / 2) ** 2 / (k + 1) ** 2
        return k + 1, t, total + t

    start = (f32(0), jnp.ones_like(x), jnp.ones_like(x))
    return lax.while_loop(lambda s: jnp.any(jnp.abs(s[1]) > 1e-9), term, start)[2]


def bessel_slope(x):
    """−J₁, likewise."""

    def term(s):
        k, t, total = s
        t = -t * (x / 2) ** 2 / ((k + 1) * (k + 2))
        return k + 1, t, total + t

    start = (f32(0), x / 2, x / 2)
    return -lax.while_loop(lambda s: jnp.any(jnp.abs(s[1]) > 1e-9), term, start)[2]


@pytest.mark.parametrize("options", [{}, {"residual": lambda y, x: y - bessel(x)}], ids=["itself", "residual"])
def test_a_while_loop_without_reverse_mode(options):
    for factor, verdict in ((1.0, "pass"), (1.01, "fail")):
        rule = pushed(bessel, lambda args, tangents, k=factor: f32(k) * bessel_slope(*args) * tangents[0])
        report = check(rule, jnp.array([0.5, 1.0, 2.0], f32), power=False, **options)
        assert report.verdict == verdict, str(report)


def bessel_pushed(x):
    """The derivative by the primal's own recurrence."""
    return jax.jvp(bessel, (x,), (jnp.ones_like(x),))[1]


OWN_LOOPS = {
    "jvp of the primal": lambda k: pushed(bessel, lambda args, t: f32(k) * jax.jvp(bessel, args, t)[1]),
    "pushforward by its loop": lambda k: pushed(bessel, lambda args, t: f32(k) * bessel_pushed(*args) * t[0]),
    "pullback by its loop": lambda k: pulled(bessel, lambda g, x: (f32(k) * g * bessel_pushed(x),)),
    "pullback by another loop": lambda k: pulled(bessel, lambda g, x: (f32(k) * g * bessel_slope(x),)),
}


@pytest.mark.parametrize("name", OWN_LOOPS)
def test_order_two_of_a_derivative_with_a_loop_of_its_own(name):
    """Reverse mode over it there is none, and forward mode is."""
    x = jnp.array([2.5, 5.0, 10.0], f32)
    right = check(OWN_LOOPS[name](1.0), x, order=2, power=False)
    assert right.verdict == "pass", str(right)
    assert check(OWN_LOOPS[name](1.01), x, order=2, power=False).verdict == "fail"
    # The reference is of no use here, and what the recurrence amplifies is still no fault.
    report = check(OWN_LOOPS[name](1.0), x, residual=lambda y, x: y - bessel(x), power=False)
    assert report.verdict == "pass", str(report)


def test_order_two_that_does_not_exist_is_inconclusive():
    """A right gradient that JAX cannot differentiate."""
    shape = jax.ShapeDtypeStruct((3,), f32)
    rule = pulled(jnp.sin, lambda g, x: (g * jax.pure_callback(lambda v: np.cos(v), shape, x),))
    report = check(rule, jnp.array([0.2, 1.0, 2.0], f32), order=2, power=False)
    assert report.verdict == "inconclusive", str(report)
    assert "cannot be differentiated" in str(report)


def recurrence(x):
    """j₃ by the recurrence upward, which is unstable for small x."""
    first = jnp.sin(x) / x
    start = (first, first / x - jnp.cos(x) / x)
    return lax.fori_loop(1, 3, lambda k, s: (s[1], (2 * k + 1) / x * s[1] - s[0]), start)[1]


def test_an_unstable_recurrence_is_neither_wrong_nor_a_kink():
    """Rounding that it amplifies, also in float64, is neither a broken adjoint nor a one-sided derivative."""
    rule = pushed(recurrence, lambda args, t: jax.jvp(recurrence, args, t)[1])
    for x in (jnp.array([0.01, 0.1, 9.0], bf16), jnp.array([0.004, 0.1, 9.0], f32)):
        report = check(rule, x, power=False)
        assert report.verdict in ("pass", "inconclusive"), str(report)


def test_a_residual_of_several_unknowns():
    def solved(m, b):
        return jnp.linalg.solve(m, b)

    def pull(factor, g, m, b):
        lam = factor * jnp.linalg.solve(m.T, g)
        return -jnp.outer(lam, solved(m, b)), lam

    m, b = numbers(3, 3) + 4 * jnp.eye(3, dtype=f32), numbers(3)
    for factor, verdict in ((1.0, "pass"), (1.1, "fail")):
        rule = pulled(solved, partial(pull, factor))
        assert check(rule, m, b, residual=lambda y, m, b: m @ y - b, power=False).verdict == verdict
    with pytest.raises(ValueError, match="as many numbers"):
        check(pulled(solved, partial(pull, 1.0)), m, b, residual=lambda y, m, b: y[:2])
    with pytest.raises(ValueError, match="got both"):
        check(solved, m, b, residual=lambda y, m, b: m @ y - b, reference=solved)


def test_a_value_far_from_the_root_is_inconclusive():
    report = check(fixed_point(1, 1.0), f32(0.5), residual=residual, power=False)
    assert report.verdict == "inconclusive"
    assert "the primal has not converged" in report.summary


# -- rules inside primitives ------------------------------------------------------------------------------------------


def sharded(rule, devices, collective=False):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("d",))
    if collective:
        return jax.shard_map(lambda x: lax.psum(rule(x), "d"), mesh=mesh, in_specs=P("d"), out_specs=P())
    return jax.shard_map(rule, mesh=mesh, in_specs=P("d"), out_specs=P("d"))


def mapped(rule):
    return lambda x: jax.pmap(rule, devices=jax.devices()[:2])(x.reshape(2, -1))


def linear(k):
    return lambda x: linear_call(lambda r, x: x * r, lambda r, t: k * t * r, jnp.arange(1.0, 7.0, dtype=f32), x)


def in_a_kernel(k):
    """2 sin(x) in a Pallas kernel that calls a custom_jvp."""
    sine = pushed(jnp.sin, lambda a, t: k * t[0] * jnp.cos(a[0]))

    def kernel(x, o):
        o[...] = sine(x[...]) * 2

    return lambda x: pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


HIDING = {
    "shard_map": lambda k: sharded(scaled_sine(k), 1),
    "shard_map on two devices": lambda k: sharded(scaled_sine(k), 2),
    "shard_map with a sum": lambda k: sharded(scaled_sine(k), 2, collective=True),
    "jit of shard_map": lambda k: jax.jit(sharded(scaled_sine(k), 1)),
    "pmap": lambda k: mapped(scaled_sine(k)),
    "linear_call": linear,
    "pallas_call": in_a_kernel,
}


@pytest.mark.parametrize("name", HIDING)
def test_rules_inside_primitives_are_removed(name):
    right, wrong = (HIDING[name](k) for k in (1.0, 1.1))
    good = check(right, X6, power=False)
    assert good.verdict == "pass", str(good)
    assert good.removed
    assert not good.not_rewritten
    bad = check(wrong, X6, power=False)
    assert bad.verdict == "fail", str(bad)


@pytest.mark.parametrize("name", ["shard_map", "shard_map on two devices", "linear_call", "pallas_call"])
def test_rules_inside_primitives_are_found_in_a_loss(name):
    right, wrong = (HIDING[name](k) for k in (1.0, 1.1))
    good = check_rules(lambda x: jnp.sum(right(x) ** 2), X6)
    assert good.verdict == "pass", str(good)
    assert len(good.rules) == 1
    assert check_rules(lambda x: jnp.sum(wrong(x) ** 2), X6).verdict == "fail"


def made_for_its_dtype(dtype):
    """A solver of another library: a primitive that knows its dtype, and is linear in the last alone."""

    def solve(a, b):
        if a.dtype != dtype:
            raise ValueError("pytree does not match out_structure")
        return jnp.linalg.solve(a, b)

    def push(args, tangents):
        assert isinstance(tangents[0], ad.Zero)
        return primitive.bind(*args), primitive.bind(args[0], ad.instantiate_zeros(tangents[1]))

    def pull(g, a, b):
        return None, primitive.bind(a.T, g)

    primitive = core.Primitive("foreign_solve")
    primitive.def_impl(solve)
    primitive.def_abstract_eval(lambda a, b: b.update(shape=jax.eval_shape(solve, a, b).shape))
    mlir.register_lowering(primitive, mlir.lower_fun(solve, multiple_results=False))
    ad.primitive_jvps[primitive] = push
    ad.primitive_transposes[primitive] = pull
    return primitive


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.1, "fail")])
def test_a_primitive_that_insists_on_its_dtype(factor, verdict):
    primitive = made_for_its_dtype(np.dtype(f32))

    def solved(a, b):
        return primitive.bind(lax.stop_gradient(a), b)

    def pull(g, a, b):
        lam = f32(factor) * primitive.bind(a.T, g)
        return -jnp.outer(lam, solved(a, b)), lam

    a, b = numbers(3, 3) + 4 * jnp.eye(3, dtype=f32), numbers(3)
    report = check(pulled(solved, pull), a, b, power=False)
    assert report.verdict == verdict, str(report)
    # What evaluates it can be traced, and so be evaluated in float64.
    assert any(removed.startswith("primitive foreign_solve") for removed in report.removed)
    assert "not in float64" not in report.reference


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.1, "fail")])
def test_a_primitive_that_cannot_be_traced_keeps_its_rule_and_the_report_says_so(factor, verdict):
    def looked_at(x):
        return jnp.asarray(np.sin(np.asarray(x)))

    looked_at.__module__ = "another_library"
    primitive = core.Primitive("foreign_sine")
    primitive.def_impl(looked_at)
    primitive.def_abstract_eval(lambda x: x)
    mlir.register_lowering(primitive, mlir.lower_fun(jnp.sin, multiple_results=False))
    ad.defjvp(primitive, lambda t, x: factor * t * jnp.cos(x))
    batching.defvectorized(primitive)
    report = check(primitive.bind, X6, power=False)
    assert report.verdict == verdict, str(report)
    assert "foreign_sine at the function itself: its derivative was left in place (TracerArrayConv" in str(report)
    assert "differences" in report.reference


def test_what_cannot_be_removed_leaves_the_decision_to_differences(monkeypatch):
    from jnn.gradcheck.oracle import rewrite

    monkeypatch.setattr(rewrite.jaxprs, "inlined", lambda jaxpr: jaxpr)
    good, bad = (check(in_a_kernel(k), X6, power=False) for k in (1.0, 1.1))
    assert good.not_rewritten
    assert good.verdict == "pass"
    assert "differences" in str(good.checks)
    assert bad.verdict == "fail"


def cubic(a, b):
    def solve(f, x):
        return lax.fori_loop(0, 30, lambda i, x: x - f(x) / jax.grad(f)(x), x)

    return lax.custom_root(lambda x: a * x**3 + x - b, f32(1), solve, lambda g, y: y / g(f32(1.0)))


def test_a_variable_that_is_passed_several_times_is_one():
    report = check_rules(lambda a, b: cubic(a, b) ** 2, f32(0.7), f32(2))
    assert report.verdict == "pass", str(report)
    assert check(cubic, f32(0.7), f32(2), power=False).verdict == "pass"

    twice = pulled(lambda x, y: x * y, lambda g, x, y: (0 * g, 2 * g * x))
    assert check_rules(lambda x: jnp.sum(twice(x, x)), X6).verdict == "pass"
    assert check_rules(lambda x: jnp.sum(twice(x, 2 * x)), X6).verdict == "fail"


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.1, "fail")])
def test_the_transposed_solver_of_a_linear_solve(factor, verdict):
    m = numbers(3, 3) + 4 * jnp.eye(3, dtype=f32)

    def loss(b):
        def solve(matvec, b):
            return jnp.linalg.inv(m) @ b

        def transposed(vecmat, b):
            return factor * jnp.linalg.inv(m).T @ b

        return jnp.sum(lax.custom_linear_solve(lambda x: m @ x, b, solve, transposed) ** 2)

    assert check_rules(loss, numbers(3)).verdict == verdict
    assert check(loss, numbers(3), power=False).verdict == verdict


# -- decompositions, invariance ---------------------------------------------------------------------------------------

SQUARE, TALL = numbers(4, 4, seed=4), numbers(5, 3, seed=5)
GAUGED = {
    "|eigenvectors|": (lambda a: jnp.abs(jnp.linalg.eigh(a + a.T)[1]), SQUARE),
    "eigenvectors": (lambda a: jnp.linalg.eigh(a + a.T)[1], SQUARE),
    "projector": (lambda a: (lambda v: v[:, :1] @ v[:, :1].T)(jnp.linalg.eigh(a + a.T)[1]), SQUARE),
    "|singular vectors|": (lambda a: jnp.abs(jnp.linalg.svd(a, full_matrices=False)[0]), TALL),
    "singular vectors": (lambda a: [jnp.linalg.svd(a, full_matrices=False)[k] for k in (0, 2)], TALL),
    "qr": (lambda a: jnp.linalg.qr(a)[0], SQUARE),
}


@pytest.mark.parametrize("name", GAUGED)
def test_signs_of_vectors_are_those_of_the_function(name):
    fun, a = GAUGED[name]
    report = check(fun, a, power=False)
    assert report.verdict == "pass", str(report)


def attention(q, k, v, key_bias):
    scores = q @ (k + key_bias[None]).T / 2.0
    return jax.nn.softmax(scores) @ v


INVARIANT = {
    "shift of a softmax": (lambda x, b: jax.nn.softmax(x + b), numbers(6, 4), f32(0.3)),
    "no shift of a softmax": (lambda x, b: jax.nn.softmax(x + b), numbers(6, 4), f32(0.0)),
    "tiny shift": (lambda x, b: jax.nn.softmax(x + b), numbers(6, 4), f32(1e-8)),
    "key bias": (attention, numbers(6, 4), numbers(6, 4, seed=1), numbers(6, 4, seed=2), numbers(4, seed=3)),
    "bias before a norm": (lambda x, b: layer_norm(x + b, jnp.ones(8), jnp.zeros(8)), numbers(6, 8), f32(0.1)),
}


@pytest.mark.parametrize("dtype", [f32, bf16, jnp.float64], ids=lambda d: d.dtype.name)
@pytest.mark.parametrize("name", INVARIANT)
def test_gradients_that_are_zero_by_invariance(name, dtype):
    fun, *args = INVARIANT[name]
    report = check(fun, *(a.astype(dtype) for a in args))
    assert report.verdict == "pass", str(report)


@pytest.mark.parametrize("leak", [1e-3, 1e-2])
def test_a_leak_where_invariance_makes_zero_fails(leak):
    def pull(g, x, b):
        s = jax.nn.softmax(x + b)
        return s * (g - (s * g).sum(-1, keepdims=True)), leak * (g * s).sum()

    report = check(pulled(lambda x, b: jax.nn.softmax(x + b), pull), numbers(6, 4), f32(0.0), power=False)
    assert [leaf.verdict for leaf in report.leaves] == ["pass", "fail"]


# -- order 2 ----------------------------------------------------------------------------------------------------------


def sinc(second, made):
    """sin(x)/x with rules for its first and its second derivative; `second` is the latter at 0."""

    def value(x):
        safe = jnp.where(x == 0, 1, x)
        return jnp.where(x == 0, 1, jnp.sin(safe) / safe)

    def first(x):
        safe = jnp.where(x == 0, 1, x)
        return jnp.where(x == 0, 0, (jnp.cos(safe) * safe - jnp.sin(safe)) / safe**2)

    def slope(x):
        safe = jnp.where(x == 0, 1, x)
        away = (2 * jnp.sin(safe) - 2 * safe * jnp.cos(safe) - safe**2 * jnp.sin(safe)) / safe**3
        return jnp.where(x == 0, second, away)

    if made is pushed:
        derivative = pushed(first, lambda a, t: slope(a[0]) * t[0])
        return pushed(value, lambda a, t: derivative(a[0]) * t[0])
    derivative = pulled(first, lambda g, x: (g * slope(x),))
    return pulled(value, lambda g, x: (g * derivative(x),))


@pytest.mark.parametrize("made", [pushed, pulled])
def test_order_two_has_a_second_opinion(made):
    x = jnp.asarray([0.0, 0.5], f32)
    right, wrong = check(sinc(-1 / 3, made), x, order=2), check(sinc(0.0, made), x, order=2)
    assert right.verdict == "pass", str(right)
    assert wrong.verdict == "fail"
    assert outcomes(wrong)["order 2"] == "fail"
    assert check(sinc(0.0, made), x, power=False).verdict == "pass"


def root(a):
    return lax.while_loop(lambda s: jnp.any(jnp.abs(s * s - a) > 1e-6 * a), lambda s: (s + a / s) / 2, a)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.1, "fail")])
def test_order_two_of_a_while_loop(factor, verdict):
    halved = pulled(lambda r, g: g / (2 * r), lambda c, r, g: (-factor * c * g / (2 * r**2), c / (2 * r)))
    rule = jax.custom_vjp(root)
    rule.defvjp(lambda a: (rule(a), rule(a)), lambda r, g: (halved(r, g),))
    report = check(rule, jnp.asarray([0.5, 2.0, 3.0], f32), order=2, power=False)
    assert report.verdict == verdict, str(report)


# -- which arguments --------------------------------------------------------------------------------------------------


def symbolic(wrong):
    """x · y with a rule that looks at which of the two are differentiated."""

    def backward(saved, g):
        x, y, both = saved
        return g * y, g * x * (2.0 if wrong and not both else 1.0)

    rule = jax.custom_vjp(lambda x, y: x * y)
    rule.defvjp(
        lambda x, y: (x.value * y.value, (x.value, y.value, x.perturbed and y.perturbed)), backward, symbolic_zeros=True
    )
    return rule


def test_each_argument_alone():
    x, y = X6, X6 + 1
    assert check(symbolic(False), x, y, power=False).verdict == "pass"
    report = check(symbolic(True), x, y, power=False)
    assert report.verdict == "fail"
    assert outcomes(report)["each argument alone"] == "fail"
    assert [leaf.verdict for leaf in report.leaves] == ["pass", "fail"]


def test_argnums():
    x, y = X6, X6 + 1
    assert check(symbolic(True), x, y, argnums=1, power=False).verdict == "fail"
    only = check(symbolic(True), x, y, argnums=[0], power=False)
    assert only.verdict == "pass"
    assert [leaf.path for leaf in only.leaves] == ["x"]
    assert [leaf.path for leaf in check(symbolic(False), x, y, argnums=-1, power=False).leaves] == ["y"]
    for wrong, error in ((2, ValueError), ((), TypeError), ("x", TypeError), (True, ValueError)):
        with pytest.raises(error, match="argnums"):
            check(symbolic(False), x, y, argnums=wrong if wrong is not True else (5,))


def powered(a, x):
    return x**a


def test_python_numbers_in_static_slots_are_passed_on():
    rule = jax.custom_vjp(powered, nondiff_argnums=(0,))
    rule.defvjp(lambda a, x: (powered(a, x), x), lambda a, x, g: (a * g * x ** (a - 1),))
    x = jnp.abs(X6) + 1
    report = check(rule, 2.5, x, power=False)
    assert report.verdict == "pass", str(report)
    assert [leaf.path for leaf in report.leaves] == ["x"]
    assert any("a Python number" in s for s in report.sampled)
    assert check(rule, 2.5, x, argnums=1, power=False).verdict == "pass"
    with pytest.raises(TypeError, match="argnums"):
        check(rule, 2.5, x, argnums=0)
    assert check(lambda x, s: x * s if s > 0 else x, x, 0.5, power=False).verdict == "pass"
    # Where an array can take its place, it is differentiated, as jax.grad would.
    assert [leaf.path for leaf in check(lambda x, s: x * s, x, 0.5, power=False).leaves] == ["x", "s"]


# -- opaque primals ---------------------------------------------------------------------------------------------------


def tanh_kernel(x):
    def kernel(x, o):
        o[...] = jnp.tanh(x[...])

    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.1, "fail")])
def test_a_large_kernel_without_a_reference(factor, verdict):
    rule = pulled(tanh_kernel, lambda g, x: (factor * g * (1 - jnp.tanh(x) ** 2),))
    assert check(rule, numbers(32, 64), power=False).verdict == verdict


def callback(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.1, "fail")])
def test_a_custom_jvp_over_a_callback(factor, verdict):
    one = pushed(callback, lambda a, t: factor * jnp.cos(a[0]) * t[0])
    two = pushed(
        lambda x, y: callback(x) * y, lambda a, t: factor * jnp.cos(a[0]) * t[0] * a[1] + callback(a[0]) * t[1]
    )
    for report in (check(one, X6, power=False), check(two, X6, X6 + 1, power=False)):
        assert report.verdict == verdict, str(report)
        assert outcomes(report)["forward mode"] in (verdict, "pass")
        assert all(leaf.comparisons for leaf in report.leaves)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1.1, "fail")])
def test_functions_that_raise_in_iterations_that_they_never_reach(factor, verdict):
    def counted(i):
        if i > 60:
            raise RuntimeError("too many steps")
        return np.asarray(i)

    def solved(a):
        def turn(s):
            return jax.pure_callback(counted, jax.ShapeDtypeStruct((), jnp.int32), s[0]) + 1, (s[1] + a / s[1]) / 2

        return lax.while_loop(lambda s: jnp.abs(s[1] ** 2 - a) > 1e-6 * a, turn, (jnp.int32(0), a))[1]

    assert check(pulled(solved, lambda g, a: (factor * g / (2 * jnp.sqrt(a)),)), f32(2), power=False).verdict == verdict


def test_random_functions_are_inconclusive():
    rng = np.random.default_rng(0)
    draws = jax.ShapeDtypeStruct((3,), f32)
    for fun in (
        lambda x: x * jax.pure_callback(lambda: rng.normal(size=3).astype(np.float32), draws),
        lambda x: x * np.float32(rng.normal()),
        lambda x: x + 1e-3 * jnp.asarray(rng.normal(size=3), f32),
    ):
        report = check(fun, jnp.ones(3, f32))
        assert report.verdict == "inconclusive"
        assert "random or depends on a hidden state" in report.summary
        with pytest.raises(gradcheck.GradientError):
            report.raise_for_failure()
    assert check(lambda x: x * jax.random.normal(jax.random.key(0), (3,), f32), jnp.ones(3, f32)).verdict == "pass"


# -- the user's world -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fun", [jnp.sin, scaled_sine(1.0)], ids=["plain", "rule"])
def test_donated_arguments_are_copies(fun):
    x = jnp.asarray([0.3, 0.2], f32)
    donating = jax.jit(fun, donate_argnums=0)
    assert check(donating, x).verdict == "pass"
    check_rules(lambda x: jnp.sum(donating(x)), x)
    gradcheck.compare(lambda x: 2 * donating(x), lambda x: 2 * jnp.sin(x), x)
    assert not x.is_deleted()


def test_nothing_is_printed_and_no_callback_fires(capfd):
    calls = []

    def backward(g, x):
        jax.debug.callback(calls.append, 1)
        return (g * jnp.cos(x),)

    rule = pulled(jnp.sin, backward)

    def noisy(x):
        jax.debug.print("value {}", x)
        jax.debug.callback(calls.append, 0)
        jax.experimental.io_callback(calls.append, None, 2)
        return lax.scan(lambda c, _: (jax.debug.print("{}", c), rule(c))[1:] * 2, x, None, length=2)[0]

    report = check(noisy, X6, order=2)
    check_rules(lambda x: jnp.sum(noisy(x)), X6)
    jax.effects_barrier()
    assert report.verdict == "pass", str(report)
    assert calls == []
    assert capfd.readouterr() == ("", "")


def test_transfer_guards_and_other_settings():
    with jax.transfer_guard("disallow"), jax.numpy_dtype_promotion("strict"), jax.debug_nans(True):
        assert check(scaled_sine(1.0), X6).verdict == "pass"
        assert check_rules(lambda x: jnp.sum(scaled_sine(1.0)(x)), X6).verdict == "pass"


# -- comparing --------------------------------------------------------------------------------------------------------


def test_structure_is_compared():
    with pytest.raises(ValueError, match="structure"):
        compare(lambda x: {"a": x, "b": x}, lambda x: {"b": x, "c": x}, X6)
    with pytest.raises(ValueError, match="shapes"):
        compare(lambda x: {"a": x}, lambda x: {"a": x[:2]}, X6)
    assert compare(lambda x: (x, 2 * x), lambda x: [x, 2 * x], X6).verdict == "pass"


def test_numpy_functions_are_compared():
    x = np.asarray(X6)
    grad = jax.grad(lambda x: jnp.sum(jnp.sin(x)))
    assert compare(lambda x: np.cos(np.array(x)), grad, x).verdict == "pass"
    assert compare(grad, lambda x: np.cos(np.array(x)), x).verdict == "pass"
    assert compare(grad, lambda x: 1.001 * np.cos(np.array(x)), x).verdict == "fail"
    assert compare(lambda t: {"g": np.array(t["x"]) * 2}, lambda t: {"g": t["x"] * 2}, {"x": x}).verdict == "pass"


# -- joint kinks ------------------------------------------------------------------------------------------------------


def norm(x):
    return jnp.sqrt(jnp.sum(x**2))


def max_rule(shares):
    return pulled(lambda x: jnp.max(x), lambda g, x: (g * jnp.asarray(shares, x.dtype),))


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ([0, 1, 1, 0], "fail"),
        ([0, 0.3, 0.3, 0], "fail"),
        ([0, 1, 0, 0], "kink"),
        ([0, 0.3, 0.7, 0], "kink"),
        ([0, 0.5, 0.5, 0], "kink"),
        ([0, 1.2, -0.2, 0], "fail"),
    ],
)
def test_tied_maxima(shares, verdict):
    x = jnp.asarray([1.0, 3.0, 3.0, 2.0], f32)
    report = check(max_rule(shares), x, power=False)
    assert report.verdict == verdict, str(report)


@pytest.mark.parametrize(
    ("at_zero", "verdict"),
    [([0, 0, 0], "kink"), ([0.5, 0.5, 0.5], "kink"), ([0.9, 0.9, 0], "fail"), ([0.7, 0.7, 0.7], "fail")],
)
def test_a_norm_at_zero(at_zero, verdict):
    def pull(g, x):
        return (
            jnp.where(norm(x) == 0, g * jnp.asarray(at_zero, x.dtype), g * x / jnp.where(norm(x) == 0, 1, norm(x))),
        )

    report = check(pulled(norm, pull), jnp.zeros(3, f32), power=False)
    assert report.verdict == verdict, str(report)


def test_ties_of_what_is_computed():
    m = jnp.asarray([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.3, 0.1, -0.2], [0.1, 0.2, 0.3]], f32)
    x = jnp.asarray([2.0, 2.0, 3.0], f32)  # the first two rows give 7

    def rule(share):
        def pull(g, x):
            tied = (m @ x == jnp.max(m @ x)).astype(x.dtype)
            return (g * ((tied / (tied.sum() if share else 1)) @ m),)

        return pulled(lambda x: jnp.max(m @ x), pull)

    assert check(rule(True), x, power=False).verdict == "kink"
    assert check(rule(False), x, power=False).verdict == "fail"


def test_kinks_that_have_nothing_to_do_with_each_other_are_kinks():
    assert check(jax.nn.relu, jnp.asarray([0.0, 0.0, 1.0, 0.0, -1.0, 0.0], f32), power=False).verdict == "kink"
    pooled = lambda x: x.reshape(6, 2).max(1)  # noqa: E731
    x = jnp.repeat(jnp.arange(6, dtype=f32), 2)
    for shares, verdict in (([1.0, 0.0], "kink"), ([0.5, 0.5], "kink"), ([1.0, 1.0], "fail")):
        rule = pulled(pooled, lambda g, x, s=shares: ((g[:, None] * jnp.asarray([s], f32)).reshape(12),))
        assert check(rule, x, power=False).verdict == verdict


def test_ties_between_arguments():
    ones = jnp.ones(3, f32)
    for sign, verdict in ((-1, "kink"), (1, "fail")):
        rule = pulled(lambda x, y: jnp.abs(x - y), lambda g, x, y, s=sign: (g, s * g))
        assert check(rule, ones, ones, power=False).verdict == verdict


# -- what a reader is told --------------------------------------------------------------------------------------------


def scale_by(q, scale):
    return q * scale


def test_parameters_are_named_in_reports_of_rules():
    wrong = pulled(scale_by, lambda g, q, scale: (g * scale, -g * q))
    report = check_rules(lambda a, b: jnp.sum(wrong(a, b)), X6, X6 + 1)
    assert [leaf.path for leaf in report.rules[0].report.leaves] == ["q", "scale"]
    assert "wrong in scale" in str(report)
