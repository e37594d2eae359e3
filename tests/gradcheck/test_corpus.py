"""The corpus through the engine, and before that the corpus itself: each wrong rule is wrong, each twin is right."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gradcheck_power
from experiments.gradcheck_upstream import __main__ as gradcheck_upstream
from jnn import gradcheck

from .corpus import CASES, HARD, PAIRS, UNDECIDABLE, Case

NAMES = [case.name for case in CASES]

# A few pairs of each kind for the runs in other configurations.
SAMPLE = tuple(
    case
    for case in PAIRS
    if case.name
    in {
        "silu_factor_1e-3",
        "softmax_dropped_term",
        "layer_norm_residual_bf16",
        "attention_bf16_delta",
        "conv_even_padding",
        "cotangent_zero_not_zero",
        "leaf_3e-6_of_projection",
        "exp_second_order",
        "other_primal_value",
        "cholesky_half_diagonal",
        "logaddexp_weights",
    }
)


def in_turn(cases: Sequence[Case]) -> list[Any]:
    """As parameters. Each compiles programs of its own: only the sample and every fourth other run by default."""
    return [
        pytest.param(case, id=case.name, marks=() if case in SAMPLE or number % 4 == 0 else pytest.mark.slow)
        for number, case in enumerate(cases)
    ]


def inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def outputs(fun: Callable, args: tuple) -> tuple[list, Callable]:
    """The floating leaves of the arguments, and the function from them to the list of floating outputs."""
    leaves, tree = jax.tree.flatten(args)
    places = [i for i, leaf in enumerate(leaves) if inexact(leaf)]

    def of_values(values: list) -> list:
        full = list(leaves)
        for i, value in zip(places, values, strict=True):
            full[i] = value
        return [leaf for leaf in jax.tree.leaves(fun(*jax.tree.unflatten(tree, full))) if inexact(leaf)]

    return [leaves[i] for i in places], of_values


def random_like(shapes: list, seed: int) -> list:
    """Standard normal numbers in the dtypes of `shapes`."""
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(s.shape), s.dtype) for s in shapes]


def cast(values: list, like: list) -> list:
    return [v.astype(s.dtype) for v, s in zip(values, like, strict=True)]


def by_vjp(f: Callable, values: list, weights: list, tangents: list) -> list:
    out, back = jax.vjp(f, values)
    return back(cast(weights, out))[0]


def by_jvp(f: Callable, values: list, weights: list, tangents: list) -> list:
    return jax.jvp(f, (values,), (cast(tangents, values),))[1]


def by_order2(f: Callable, values: list, weights: list, tangents: list) -> list:
    """The Hessian-vector product of ⟨weights, f⟩."""
    first = jax.grad(lambda vs: sum(jnp.vdot(w, y) for w, y in zip(weights, f(vs), strict=True)))
    return jax.vjp(first, values)[1](cast(tangents, values))[0]


def by_vmap(f: Callable, values: list, weights: list, tangents: list) -> list:
    """The gradients of three examples, by vmap."""
    stacked = [jnp.stack([v, v * 0.5, v + 1]) for v in values]
    return jax.vmap(jax.grad(lambda vs: sum(jnp.sum(jnp.sin(y)) for y in f(vs))))(stacked)


def by_primal(f: Callable, values: list, weights: list, tangents: list) -> list:
    """The value that is returned when it is differentiated."""
    return jax.vjp(f, values)[0]


def by_one_alone(f: Callable, values: list, weights: list, tangents: list) -> list:
    """The gradients by one leaf at a time, the others not perturbed."""

    def alone(i: int) -> Any:
        out, back = jax.vjp(lambda v: f([*values[:i], v, *values[i + 1 :]]), values[i])
        return back(cast(weights, out))[0]

    return [alone(i) for i in range(len(values))]


DERIVATIVES = {
    "alone": by_one_alone,
    "vjp": by_vjp,
    "jvp": by_jvp,
    "order2": by_order2,
    "vmap": by_vmap,
    "primal": by_primal,
}


class Variant(NamedTuple):
    """A function of a case, and whether it is evaluated with float64 in place of every floating dtype."""

    fun: Callable
    double: bool = False


def evaluate(variants: dict[str, Variant], args: tuple, how: str) -> dict[str, tuple[list, list, list]]:
    """By variant the value, the derivative that `how` names, and the gradient.

    These are hundreds of small programs that run once. Compiling them is the whole cost, so those of one case are
    compiled as one, and the compiler is told to be quick.
    """

    def one(fun: Callable, values: list) -> tuple[list, list, list]:
        _, f = outputs(fun, args)
        weights, tangents = random_like(jax.eval_shape(f, values), 1), random_like(values, 2)
        # The gradient itself matters only where the mistake is elsewhere.
        gradient = by_vjp(f, values, weights, tangents) if how in ("order2", "vmap", "alone") else []
        return f(values), DERIVATIVES[how](f, values, weights, tangents), gradient

    @jax.jit
    def run(values: dict[str, list]) -> dict[str, tuple[list, list, list]]:
        return {name: one(variant.fun, values[name]) for name, variant in variants.items()}

    plain, _ = outputs(variants["right"].fun, args)
    wide = [v.astype(jnp.float64) for v in plain]
    return run({name: wide if variant.double else plain for name, variant in variants.items()})


def eps(args: tuple, out: list) -> float:
    """The unit of rounding of the coarsest dtype among the floating arguments and outputs."""
    return max(float(jnp.finfo(v.dtype).eps) for v in [*filter(inexact, jax.tree.leaves(args)), *out])


def distance(got: list, want: list, together: bool = False) -> float:
    """The largest error of a leaf over the largest magnitude in it; infinite when an error is not finite.

    `together`: over the largest magnitude in all leaves, for those that are zero by cancellation.
    """
    worst = 0.0
    if together:
        got, want = ([np.concatenate([np.ravel(np.asarray(v, np.float64)) for v in leaves])] for leaves in (got, want))
    for a, b in zip(got, want, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.size:
            error, size = float(np.max(np.abs(a - b))), float(np.max(np.abs(b)))
            worst = max(worst, error / size if size else error) if np.isfinite(error) else np.inf
    return worst


def clearly_different(got: list, want: list) -> bool:
    """Whether a leaf differs by more than 50 roundings of its own dtype (10, where that is a coarse one)."""

    def enough(a: Any, b: Any) -> bool:
        unit = float(jnp.finfo(b.dtype).eps)
        return distance([a], [b]) > (50 if unit < 1e-4 else 10) * unit

    return any(enough(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("case", in_turn(CASES))
def test_the_case_is_what_it_says(case: Case) -> None:
    """The right function agrees with rule-free autodiff in float64, and the wrong one with neither."""
    args = case.args()
    variants = {"right": Variant(case.right)}
    if case.self_test is not None:
        variants["oracle"] = Variant(case.primal or case.right, double=True)
    if case.wrong is not None:
        variants["wrong"] = Variant(case.wrong)
    found = evaluate(variants, args, case.how)
    value, right, gradient = found["right"]
    unit = eps(args, value)
    if case.self_test is not None:
        oracle_value, oracle, _ = found["oracle"]
        assert distance(right, oracle, case.family == "zero by invariance") <= case.self_test * unit
        if case.primal is not None:  # another formula, of the same function
            assert distance(value, oracle_value) <= max(case.self_test * unit, 2e-3)
    if case.wrong is not None:
        wrong_value, wrong, wrong_gradient = found["wrong"]
        assert clearly_different(wrong, right)
        # The two have the same primal; and where the mistake is not in the gradient, the same gradient.
        assert distance(wrong_value, value) <= 4 * unit
        assert distance(wrong_gradient, gradient) <= 4 * unit


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_dtypes_do_not_depend_on_x64(case: Case) -> None:
    """No array of float64 or int64 enters, and none but scalars appears inside: the corpus is the same without x64."""
    args = case.args()
    for leaf in jax.tree.leaves(args):
        assert getattr(leaf, "dtype", None) not in (np.float64, np.int64)
    for fun in filter(None, (case.right, case.wrong)):
        values, f = outputs(fun, args)
        jaxpr = jax.make_jaxpr(f)(values)
        assert not re.search(r"f64\[\d", str(jaxpr))
        assert all(aval.dtype != np.float64 for aval in jaxpr.out_avals)


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(PAIRS) >= 156 + 80
    assert len(HARD) >= 155 + 60
    assert [name for name, n in Counter(NAMES).items() if n > 1] == []
    assert all(case.note for case in CASES)
    assert all(case.wrong is not None for case in PAIRS)
    assert all(case.wrong is None for case in HARD)


def program(case: Case) -> str:
    """The case's function (of a pair, the wrong one) and its derivative as a program, without names and addresses."""
    _, f = outputs(case.wrong or case.right, args := case.args())
    values = [leaf for leaf in jax.tree.leaves(args) if inexact(leaf)]
    weights, tangents = random_like(jax.eval_shape(f, values), 1), random_like(values, 2)
    how = case.how if case.how in ("jvp", "order2", "alone") else "vjp"

    def both(values: list) -> tuple[list, list]:
        return f(values), DERIVATIVES[how](f, values, weights, tangents)

    result = jax.eval_shape(lambda: (case.wrong or case.right)(*args))
    return re.sub(r"0x[0-9a-f]+|name=\w+", "", f"{jax.make_jaxpr(both)(values)} {result} {args}")


@pytest.mark.slow
def test_no_case_is_a_copy_of_another() -> None:
    programs = {case.name: program(case) for case in CASES}
    found = Counter(programs.values())
    assert [name for name, text in programs.items() if found[text] > 1] == []


# What the engine says.

MAY_BE_INCONCLUSIVE: dict[str, str] = {
    "table_inverse_slope": "a staircase of steps of 1/4096 is what the primal is: its slope is a matter of scale",
    "golden_section_inverse": "golden sections know their argument to the root of the rounding only",
}
"""Right functions of which the engine may say that it cannot tell, each with the reason: at most five."""


def report_of(fun: Callable, case: Case, args: tuple) -> gradcheck.Report:
    # Its own power is not asked for: it doubles the time, and says nothing about the verdict.
    return gradcheck.check(fun, *args, order=case.order, power=False, **case.check_kwargs)


@pytest.mark.parametrize("case", in_turn(CASES))
def test_a_right_function_does_not_fail(case: Case) -> None:
    report = report_of(case.right, case, case.args())
    assert report.verdict in case.allowed, f"{case.note}\n{report}"


@pytest.mark.parametrize("case", in_turn(PAIRS))
def test_a_wrong_rule_fails(case: Case) -> None:
    report = report_of(case.wrong, case, case.args())
    assert report.verdict in case.caught, f"{case.note}\n{report}"


@pytest.mark.parametrize("case", UNDECIDABLE, ids=[case.name for case in UNDECIDABLE])
def test_what_cannot_be_decided_is_said_to_be(case: Case) -> None:
    report = report_of(case.right, case, case.args())
    assert report.verdict in case.allowed, f"{case.note}\n{report}"
    assert case.note in str(report)


def test_the_callers_arrays_outlive_the_check() -> None:
    (case,) = (case for case in HARD if case.name == "donated_both")
    args = case.args()
    report_of(case.right, case, args)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(args))


def test_at_most_five_right_functions_may_be_inconclusive() -> None:
    """Where a right one may be, its wrong twin may be too, and must not pass."""
    named = {case.name for case in CASES if "inconclusive" in case.allowed}
    assert named == set(MAY_BE_INCONCLUSIVE)
    assert len(named) <= 5
    for case in PAIRS:
        assert case.caught == ({"fail", "inconclusive"} if case.name in named else {"fail"})


@pytest.mark.parametrize("case", SAMPLE, ids=[case.name for case in SAMPLE])
def test_the_verdicts_are_the_same_without_x64(case: Case) -> None:
    with jax.enable_x64(False):
        assert report_of(case.right, case, case.args()).verdict in case.allowed
        assert report_of(case.wrong, case, case.args()).verdict == "fail"


@pytest.mark.parametrize("case", SAMPLE, ids=[case.name for case in SAMPLE])
def test_the_verdicts_are_the_same_in_float64(case: Case) -> None:
    """The same pairs with float64 in place of every float32 argument; what is bfloat16 inside them stays so."""
    args = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, case.args())
    assert report_of(case.right, case, args).verdict in case.allowed
    assert report_of(case.wrong, case, args).verdict == "fail"


def test_the_experiment_counts_what_the_tools_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "power.json"
    assert (
        gradcheck_power.main(["--tools", "jnn", "jax", "--cases", "co[st]*_sign*", "--list", "--out", str(saved)]) == 0
    )
    assert "jnn | 2 of 2" in capsys.readouterr().out
    record = json.loads(saved.read_text(encoding="utf-8"))
    assert set(record["outcomes"]["jnn"]) == {"cos_sign", "cotangent_sign"}
    assert record["outcomes"]["jax"]["cos_sign"]["wrong"]["verdict"] == "reject"


def test_the_experiment_says_where_it_expects_the_corpus(tmp_path: Path) -> None:
    with pytest.raises(gradcheck_power.NotFoundError, match="run this from a checkout"):
        gradcheck_power.load_corpus(tmp_path / "corpus" / "__init__.py")


def test_the_upstream_experiment_finds_and_checks_a_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "upstream.json"
    few = ["--libraries", "scan", "--functions", "jax.nn.log1mexp", "--inputs", "unit, float32", "--out", str(saved)]
    assert gradcheck_upstream.main(few) == 0
    assert "functions: 1 of 1 distributions" in capsys.readouterr().out
    (result,) = json.loads(saved.read_text(encoding="utf-8"))["results"]
    assert (result["function"], result["verdict"]) == ("jax.nn.log1mexp", "pass")


def test_the_upstream_experiment_says_that_nothing_matches(capsys: pytest.CaptureFixture[str]) -> None:
    assert gradcheck_upstream.main(["--libraries", "scan", "--functions", "jax.nn.no_such_function"]) == 2
    assert "no_such_function" in capsys.readouterr().err
