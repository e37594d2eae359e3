"""What was interrupted goes on: nothing is checked twice, nothing is lost, and other versions are refused."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from experiments import gradcheck_upstream
from experiments.gradcheck_upstream import Result

ONE = ["--functions", "jax.nn.log1mexp", "--dtypes", "float32"]
COUNT = len(gradcheck_upstream.INPUTS)


class Fake:
    """A check that passes, counts its calls, and is interrupted at one of them."""

    def __init__(self, interrupted_at: int = 0) -> None:
        self.calls: list[tuple[str, str]] = []
        self.interrupted_at = interrupted_at

    def __call__(self, rule, inputs, dtype):
        self.calls.append((dtype, inputs))
        if len(self.calls) == self.interrupted_at:
            raise KeyboardInterrupt
        return Result(rule.name, rule.form, dtype, inputs, "pass", "")


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch):
    """Put a check in the place of the real one."""

    def put(check: Fake) -> Fake:
        monkeypatch.setattr(gradcheck_upstream, "examined", check)
        return check

    return put


def run(saved: Path, *more: str) -> int:
    return gradcheck_upstream.main([*ONE, "--out", str(saved), *more])


def test_an_interrupted_run_shows_its_part_and_goes_on(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved = tmp_path / "upstream.json"
    plant(Fake(interrupted_at=3))
    assert run(saved) == 130
    out, err = capsys.readouterr()
    assert "\n2 pass\n" in out
    assert "--resume goes on" in err
    rest = plant(Fake())
    assert run(saved, "--resume") == 0
    assert rest.calls == [("float32", inputs) for inputs in gradcheck_upstream.INPUTS[2:]]
    out, err = capsys.readouterr()
    assert f"\n{COUNT} pass\n" in out
    assert "interrupted" not in err
    assert len(json.loads(saved.read_text(encoding="utf-8"))["results"]) == COUNT
    assert not list(tmp_path.glob("*.part"))


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
    saved.write_text(json.dumps({**record, "optax": "0.0.1"}), encoding="utf-8")
    before = saved.read_bytes()
    assert run(saved, "--resume") == 2
    assert "choose another file" in capsys.readouterr().err
    assert saved.read_bytes() == before


def test_resume_needs_a_file_but_not_an_existing_one(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plant(Fake())
    assert gradcheck_upstream.main([*ONE, "--resume"]) == 2
    assert "--resume needs --out" in capsys.readouterr().err
    assert run(tmp_path / "new.json", "--resume") == 0


def test_what_lies_outside_of_the_domain_is_left_out():
    x = jnp.asarray([-1.0, 0.5, 2.0, -3.0, 4.0, 5.0], jnp.float32)
    (kept,) = gradcheck_upstream.in_domain(jnp.log, (x,)) or ()
    assert kept.tolist() == [0.5, 2.0, 4.0, 5.0]
    assert gradcheck_upstream.in_domain(jnp.log, (-jnp.abs(x),)) is None


def test_what_a_derivative_raises_is_a_result():
    def broken(x):
        @jax.custom_jvp
        def rule(x):
            return jnp.sin(x)

        @rule.defjvp
        def forward(primals, tangents):
            raise ZeroDivisionError("in the rule")

        return rule(x)

    rule = gradcheck_upstream.Rule("broken", "x", ("rule",), broken)
    result = gradcheck_upstream.examined(rule, "unit", "float32")
    assert result.verdict in ("fail", "error")
    assert "in the rule" in result.detail
