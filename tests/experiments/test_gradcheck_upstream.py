"""What was interrupted goes on, what is missing is skipped with a line, what did not pass is printed with a reason."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments.gradcheck_upstream import __main__ as experiment, explained, scan
from experiments.gradcheck_upstream.__main__ import LIBRARIES, Result, Target
from experiments.gradcheck_upstream.explained import EXPLANATIONS, Explanation
from experiments.gradcheck_upstream.target import at, elementwise, vector

ONE = ["--libraries", "scan", "--functions", "jax.nn.log1mexp", "--inputs", "*float32"]
COUNT = len(scan.INPUTS)


class Fake:
    """A check that passes, counts its calls, and is interrupted at one of them."""

    def __init__(self, interrupted_at: int = 0, verdict: str = "pass") -> None:
        self.calls: list[str] = []
        self.interrupted_at = interrupted_at
        self.verdict = verdict

    def __call__(self, library, target, inputs):
        self.calls.append(inputs)
        if len(self.calls) == self.interrupted_at:
            raise KeyboardInterrupt
        return Result(library, target.name, inputs, self.verdict, "seen", 0.5)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch):
    """Put a check in the place of the real one."""

    def put(check: Fake) -> Fake:
        monkeypatch.setattr(experiment, "examined", check)
        return check

    return put


def run(saved: Path, *more: str) -> int:
    return experiment.main([*ONE, "--out", str(saved), *more])


def test_an_interrupted_run_shows_its_part_and_goes_on(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved = tmp_path / "upstream.json"
    plant(Fake(interrupted_at=3))
    assert run(saved) == 130
    out, err = capsys.readouterr()
    assert "\n2 pass\n" in out
    assert "--resume goes on" in err
    rest = plant(Fake())
    assert run(saved, "--resume") == 0
    assert rest.calls == [f"{inputs}, float32" for inputs in scan.INPUTS[2:]]
    out, err = capsys.readouterr()
    assert f"\n{COUNT} pass\n" in out
    assert "interrupted" not in err
    assert len(json.loads(saved.read_text(encoding="utf-8"))["results"]) == COUNT
    assert not list(tmp_path.glob("*.part"))


def test_at_most_so_many_inputs_are_tried(plant, tmp_path: Path):
    check = plant(Fake())
    assert run(tmp_path / "upstream.json", "--most", "2") == 0
    assert check.calls == [f"{inputs}, float32" for inputs in scan.INPUTS[:2]]


def test_without_resume_everything_is_checked_again(plant, tmp_path: Path):
    saved = tmp_path / "upstream.json"
    plant(Fake())
    assert run(saved) == 0
    again = plant(Fake())
    assert run(saved) == 0
    assert len(again.calls) == COUNT


def test_results_of_other_versions_are_refused(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved = tmp_path / "upstream.json"
    plant(Fake())
    assert run(saved) == 0
    record = json.loads(saved.read_text(encoding="utf-8"))
    record["versions"]["optax"] = "0.0.1"
    saved.write_text(json.dumps(record), encoding="utf-8")
    before = saved.read_bytes()
    assert run(saved, "--resume") == 2
    assert "choose another file" in capsys.readouterr().err
    assert saved.read_bytes() == before


def test_resume_needs_a_file_but_not_an_existing_one(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plant(Fake())
    assert experiment.main([*ONE, "--resume"]) == 2
    assert "--resume needs --out" in capsys.readouterr().err
    assert run(tmp_path / "new.json", "--resume") == 0


def test_a_missing_library_is_skipped_with_a_line(monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(LIBRARIES, "diffrax", "no-such-distribution")
    assert list(experiment.collected(["diffrax"], "*")) == []
    assert capsys.readouterr().err == "skipped: no-such-distribution is not installed\n"


def test_a_library_that_has_moved_a_name_is_skipped_with_a_line(monkeypatch, capsys: pytest.CaptureFixture[str]):
    def moved(library, pattern):
        raise AttributeError("module 'jax.nn' has no attribute 'gone'")

    monkeypatch.setattr(experiment, "targets_of", moved)
    assert list(experiment.collected(["jax"], "*")) == []
    assert capsys.readouterr().err.startswith("skipped: jax: AttributeError")


def test_what_did_not_pass_is_printed_with_its_reason(plant, monkeypatch, capsys: pytest.CaptureFixture[str]):
    plant(Fake(verdict="fail"))
    about = Explanation("jax.nn.log1mexp", "tiny*", "theirs", "not exact at 1e-6")
    monkeypatch.setattr(explained, "EXPLANATIONS", (about,))
    assert experiment.main(ONE) == 0
    out = capsys.readouterr().out
    assert "fail: jax.nn.log1mexp, tiny, float32: seen\n    theirs: not exact at 1e-6\n" in out
    assert out.count("\n    unexplained\n") == COUNT - 1
    assert f"| jax.nn.log1mexp | {COUNT} | fail ({COUNT}: " in out


def test_every_explanation_has_one_of_four_reasons():
    assert {e.whose for e in EXPLANATIONS} <= {"theirs", "no derivative", "deliberate", "ours"}
    assert len({(e.function, e.inputs) for e in EXPLANATIONS}) == len(EXPLANATIONS)


def test_every_library_of_the_table_has_its_list():
    folder = Path(experiment.__file__).parent
    assert {path.stem.removeprefix("in_") for path in folder.glob("in_*.py")} == set(LIBRARIES) - {"scan"}


def test_the_lists_of_jax_and_optax_name_each_function_once():
    for library in ("jax", "optax"):
        names = [target.name for target in experiment.targets_of(library, "*")]
        assert len(names) >= 30
        assert len(set(names)) == len(names)
        assert all(target.inputs for target in experiment.targets_of(library, "*"))


def test_what_lies_outside_of_the_domain_is_left_out():
    x = jnp.asarray([-1.0, 0.5, 2.0, -3.0, 4.0, 5.0], jnp.float32)
    (kept,) = scan.in_domain(jnp.log, (x,)) or ()
    assert kept.tolist() == [0.5, 2.0, 4.0, 5.0]
    assert scan.in_domain(jnp.log, (-jnp.abs(x),)) is None


def test_inputs_outside_of_the_domain_and_unsupported_ones_are_told_apart():
    outside = experiment.examined("jax", Target("log", jnp.log, at(negative=vector(-1.0))), "negative")
    assert outside.verdict == "outside"
    refused = experiment.examined("jax", Target("inv", jnp.linalg.inv, at(vector=vector(1.0))), "vector")
    assert refused.verdict == "unsupported"
    assert "inv" in refused.detail or "ndim" in refused.detail or "dim" in refused.detail


def test_elementwise_inputs_lie_within_their_ends():
    inputs = elementwise(1.0, 3.0)
    for make in inputs.values():
        (x,) = make()
        assert ((x > 1) & (x < 3)).all()


def test_what_a_derivative_raises_is_a_result():
    def broken(x):
        @jax.custom_jvp
        def rule(x):
            return jnp.sin(x)

        @rule.defjvp
        def forward(primals, tangents):
            raise ZeroDivisionError("in the rule")

        return rule(x)

    result = experiment.examined("jax", Target("broken", broken, at(normal=vector(1.0, 2.0))), "normal")
    assert result.verdict in ("fail", "error", "inconclusive")
    assert "in the rule" in result.detail


def test_a_wrong_and_a_right_function_are_told_apart():
    @jax.custom_vjp
    def doubled(x):
        return jnp.sin(x)

    doubled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g * jnp.cos(x),))
    inputs = at(normal=vector(0.3, 1.0))
    assert experiment.examined("jax", Target("wrong", doubled, inputs), "normal").verdict == "fail"
    assert experiment.examined("jax", Target("right", jnp.sin, inputs), "normal").verdict == "pass"
