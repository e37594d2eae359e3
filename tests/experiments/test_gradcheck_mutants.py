"""The mutants' experiment: its right rules are right, its mutations are what they say, and its table counts."""

import ast
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.gradcheck_mutants import __main__ as experiment
from experiments.gradcheck_mutants.mutate import KINDS, Mutant, mutants
from experiments.gradcheck_mutants.rules import RULES, SETTINGS, coarse_total, coarsely, ruled, total
from jnn import gradcheck

NAMES = [rule.name for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_every_rule_is_right(rule) -> None:
    """In float64 to rounding; in the other settings to a few roundings of the leaf's dtype."""
    everything = {setting: rule.arguments(setting) for setting in SETTINGS}
    weights = {setting: experiment.cotangents(rule, args)[0] for setting, args in everything.items()}

    def inexact(args):
        return [a for a in args if a is not None and jnp.issubdtype(a.dtype, jnp.inexact)]

    def exact(args, w):
        wide = tuple(a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.inexact) else a for a in args)
        out, back = jax.vjp(rule.primal, *wide)
        return inexact(back(w.astype(out.dtype)))

    # One program for all, since compiling is the whole cost.
    found, want = jax.jit(
        lambda: (
            {s: inexact(rule.backward(everything[s], weights[s])) for s in SETTINGS},
            {s: exact(everything[s], weights[s]) for s in SETTINGS},
        )
    )()
    for setting, args in everything.items():
        for leaf, got, right in zip(inexact(args), found[setting], want[setting], strict=True):
            assert got.dtype == leaf.dtype
            error = np.max(np.abs(np.asarray(got, np.float64) - np.asarray(right, np.float64)))
            assert error <= 64 * float(jnp.finfo(leaf.dtype).eps) * np.max(np.abs(right)), setting


def test_the_settings_have_the_dtypes_that_they_name() -> None:
    (dense,) = [rule for rule in RULES if rule.name == "dense"]
    dtypes = {setting: [a.dtype.name for a in dense.arguments(setting)] for setting in SETTINGS}
    assert dtypes == {
        "float32": ["float32"] * 3,
        "bfloat16 mixed": ["bfloat16", "float32", "float32"],
        "float64": ["float64"] * 3,
    }


def a_backward_pass(saved, g):
    x, y = saved
    return g * y - jnp.tanh(x), (2.0 * total(g, 0)) @ y.T


def texts(kind: str) -> set[str]:
    return {m.what for m in mutants(a_backward_pass) if m.kind == kind}


def test_the_mutations_are_what_they_say() -> None:
    assert {"g * y - jnp.tanh(x) → g * y + jnp.tanh(x)"} <= texts("sign")
    assert {"2.0 → 2.1", "g * y - jnp.tanh(x) → (g * y - jnp.tanh(x)) * 1.02"} <= texts("factor")
    assert {"g * y → g", "g * y → y", "g * y - jnp.tanh(x) → g * y"} <= texts("dropped term")
    assert {"y.T → y", "2.0 * total(g, 0) @ y.T → y.T @ (2.0 * total(g, 0))"} <= texts("transposed")
    assert {"jnp.tanh(x) → x", "x → y", "y → x"} <= texts("stale residual")
    assert texts("wrong axis") == {"total(g, 0) → total(g, 1)"}
    assert {"total(g, 0) → coarse_total(g, 0)"} <= texts("accumulation dtype")
    assert {"total(g, 0) → total(g[:-1], 0)"} <= texts("border")
    assert {m.kind for m in mutants(a_backward_pass)} == set(KINDS)


def test_each_mutant_changes_one_place_and_none_twice() -> None:
    found = list(mutants(a_backward_pass))
    assert len({(m.kind, m.what) for m in found}) >= len(found) - 4  # one text may stand at several places
    for mutant in found:
        before, after = (side.strip("[]") for side in mutant.what.split(" → "))
        for side in (before, after):
            ast.parse(f"x[{side}]" if ":" in side else side)


def test_a_mutant_is_a_function_that_can_be_called() -> None:
    saved = jnp.asarray([[0.5, -1.0], [2.0, 0.3]]), jnp.asarray([[1.0, 2.0], [0.5, 4.0]])
    (dropped,) = [m for m in mutants(a_backward_pass) if m.what == "g * y → g"]
    g = jnp.ones((2, 2))
    np.testing.assert_array_equal(dropped.backward(saved, g)[0], g - jnp.tanh(saved[0]))
    np.testing.assert_array_equal(dropped.backward(saved, g)[1], a_backward_pass(saved, g)[1])


def test_a_coarse_sum_is_coarse() -> None:
    x = jnp.ones((600, 1), jnp.float32)
    assert total(x, 0)[0] == 600
    assert coarse_total(x, 0)[0] == 256  # 257 is no number of bfloat16
    assert coarse_total(x.astype(jnp.float64) + 1e-9, 0)[0] == 600
    assert coarsely(jnp.float32(1.001)) == 1
    assert coarsely(jnp.float64(1 + 1e-9)) == 1


def test_changes_are_relative_to_the_element_or_to_the_median() -> None:
    right = [[np.asarray([1.0, 2.0, 400.0]), np.asarray([1.0])]]
    wrong = [[np.asarray([1.0, 2.0, 404.0]), np.asarray([1.0])]]
    assert experiment.relative_changes(right, wrong) == [pytest.approx(0.01), 0.0]
    assert experiment.relative_changes(right, [[np.asarray([1.2, 2.0, 400.0]), np.asarray([1.0])]])[0] == pytest.approx(
        0.1
    )
    assert experiment.relative_changes(right, [[np.asarray([np.nan, 2.0, 400.0]), np.asarray([1.0])]])[0] == np.inf


def test_mutants_that_raise_or_change_nothing_are_not_counted() -> None:
    (softmax,) = [rule for rule in RULES if rule.name == "softmax"]
    args = softmax.arguments("float32")
    change = experiment.changed(softmax, args)

    def raising(saved, g):
        raise ValueError("shapes")

    assert change(Mutant("sign", "", raising)) is None
    assert change(Mutant("sign", "", softmax.backward)) is None
    assert change(Mutant("sign", "", lambda saved, g: (jnp.zeros((2, 2)),))) is None
    doubled = change(Mutant("factor", "", lambda saved, g: (2 * softmax.backward(saved, g)[0],)))
    assert doubled == ([pytest.approx(1, rel=1e-6)], [pytest.approx(1, rel=1e-6)])


def test_the_kinds_take_turns() -> None:
    found = [Mutant(kind, str(i), lambda: None) for kind in KINDS[:3] for i in range(5)]
    chosen = experiment.spread(found, lambda mutant: ([1.0], [1.0]) if mutant.what != "0" else None, 7)
    assert Counter(m.kind for m, _ in chosen) == {KINDS[0]: 3, KINDS[1]: 2, KINDS[2]: 2}
    assert len(experiment.spread(found, lambda mutant: ([1.0], [1.0]) if mutant.what != "0" else None, 99)) == 12


def test_a_small_run_tells_its_mutants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "mutants.json"
    few = ["--rules", "softmax", "--settings", "float32", "--each", "4", "--out", str(saved)]
    assert experiment.main(few) == 0
    out = capsys.readouterr().out
    assert "mutants: 4, 4 of them beyond the stated resolution" in out
    assert "told: 4 of 4 (100.0%)" in out
    assert "missed" not in out
    results = json.loads(saved.read_text(encoding="utf-8"))["results"]
    assert [r["verdict"] for r in results] == ["pass", *["fail"] * 4]


LEAF = SimpleNamespace(detectable_element=1e-6, detectable_rounding=1e-5, detectable_rounding_element=1e-4)


class Fake:
    """A check that passes everything, counts its calls, and is interrupted at one of them."""

    def __init__(self, interrupted_at: int = 0) -> None:
        self.calls = 0
        self.interrupted_at = interrupted_at

    def __call__(self, fun, *args, **options):
        self.calls += 1
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        return SimpleNamespace(verdict="pass", leaves=[LEAF])


def run(saved: Path, *more: str) -> int:
    return experiment.main(["--rules", "softmax", "--settings", "float32", "--each", "3", "--out", str(saved), *more])


def test_what_is_missed_is_listed(monkeypatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(experiment.gradcheck, "check", Fake())
    assert run(tmp_path / "mutants.json") == 0
    out = capsys.readouterr().out
    assert "told: 0 of 3 (0.0%)" in out
    assert out.count("missed: softmax, float32, ") == 3


def test_arithmetic_is_judged_by_its_own_resolution() -> None:
    assert experiment.beyond([LEAF], ([1e-5], [0.0]), "sign") == pytest.approx(10)
    assert experiment.beyond([LEAF], ([1e-5], [0.0]), experiment.ARITHMETIC) == pytest.approx(0.1)
    assert experiment.beyond([LEAF], ([1e-5], [3e-5]), experiment.ARITHMETIC) == pytest.approx(3)
    assert experiment.beyond([LEAF, LEAF], ([0.0, 0.0], [0.0, 0.0]), "sign") == 0


def test_a_coarse_sum_is_wrong_beside_a_careful_one_of_the_same_terms() -> None:
    (norm,) = [rule for rule in RULES if rule.name == "rms_norm"]
    args = norm.arguments("bfloat16 mixed")
    (coarse,) = [m for m in mutants(norm.backward) if m.right is not None]
    assert coarse.what.startswith("total(g * v * r, 0) → coarse_total")
    (g,) = experiment.cotangents(norm, args)[:1]
    exact, careful, summed = (f(args, g)[1] for f in (norm.backward, coarse.right, coarse.backward))
    assert gradcheck.check(ruled(norm.primal, coarse.right), *args, power=False).verdict == "pass"
    assert np.any(np.asarray(careful) != np.asarray(exact))
    assert np.any(np.asarray(summed) != np.asarray(careful))


def test_an_interrupted_run_shows_its_part_and_goes_on(monkeypatch, tmp_path: Path, capsys) -> None:
    saved = tmp_path / "mutants.json"
    monkeypatch.setattr(experiment.gradcheck, "check", Fake(interrupted_at=3))
    assert run(saved) == 130
    out, err = capsys.readouterr()
    assert "mutants: 1, " in out
    assert "--resume goes on" in err
    rest = Fake()
    monkeypatch.setattr(experiment.gradcheck, "check", rest)
    assert run(saved, "--resume") == 0
    assert rest.calls == 3  # the right rule, and the two mutants that were not asked about
    assert "mutants: 3, " in capsys.readouterr().out


def test_results_of_another_jax_are_refused(monkeypatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "mutants.json"
    monkeypatch.setattr(experiment.gradcheck, "check", Fake())
    assert run(saved) == 0
    record = json.loads(saved.read_text(encoding="utf-8"))
    saved.write_text(json.dumps({**record, "jax": "0.0.1"}), encoding="utf-8")
    assert run(saved, "--resume") == 2
    assert "choose another" in capsys.readouterr().err
    assert experiment.main(["--resume"]) == 2
    assert "--resume needs --out" in capsys.readouterr().err


def test_an_unknown_rule_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert experiment.main(["--rules", "no_such_rule"]) == 2
    assert "rms_norm" in capsys.readouterr().err
