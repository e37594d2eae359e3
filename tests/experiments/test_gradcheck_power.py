"""What was interrupted goes on: nothing is run twice, nothing is lost, and the table of a part says that it is one."""

import json
from pathlib import Path

import pytest

from experiments import gradcheck_power

CASES = ["--cases", "co[st]*_sign*"]  # two pairs: cos_sign, cotangent_sign


class Fake:
    """A tool that rejects what is called wrong, counts its calls, and is interrupted at one of them."""

    def __init__(self, interrupted_at: int = 0) -> None:
        self.calls = 0
        self.interrupted_at = interrupted_at

    def __call__(self, fun, case):
        self.calls += 1
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        return (gradcheck_power.REJECT if fun is case.wrong else gradcheck_power.ACCEPT), ""


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch):
    """Put a tool in the place of the one of this name, which is "installed"."""

    def put(tool: Fake) -> Fake:
        monkeypatch.setitem(gradcheck_power.TOOLS, "jnn", ("jnn", tool))
        return tool

    return put


def run(saved: Path, *more: str) -> int:
    return gradcheck_power.main(["--tools", "jnn", *CASES, "--out", str(saved), *more])


def test_an_interrupted_run_shows_its_part_and_goes_on(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved = tmp_path / "power.json"
    plant(Fake(interrupted_at=4))
    assert run(saved) == 130
    out, err = capsys.readouterr()
    assert "jnn | 1 of 1" in out  # the second pair lacks its wrong rule, and is not counted
    assert "--resume goes on" in err
    rest = plant(Fake())
    assert run(saved, "--resume") == 0
    assert rest.calls == 1
    out, err = capsys.readouterr()
    assert "jnn | 2 of 2 | 0 | 0 of 2" in out
    assert "interrupted" not in err
    assert not list(tmp_path.glob("*.part"))


def test_without_resume_everything_is_run_again(plant, tmp_path: Path):
    saved = tmp_path / "power.json"
    plant(Fake())
    assert run(saved) == 0
    again = plant(Fake())
    assert run(saved) == 0
    assert again.calls == 4


def test_the_tools_of_an_earlier_run_are_kept(plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved = tmp_path / "power.json"
    plant(Fake())
    assert run(saved) == 0
    monkeypatch.setitem(gradcheck_power.TOOLS, "jax", ("jax", Fake()))
    assert gradcheck_power.main(["--tools", "jax", *CASES, "--out", str(saved), "--resume"]) == 0
    assert set(json.loads(saved.read_text(encoding="utf-8"))["outcomes"]) == {"jnn", "jax"}


def test_results_of_other_settings_are_refused(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved = tmp_path / "power.json"
    tool = plant(Fake())
    assert run(saved) == 0
    record = json.loads(saved.read_text(encoding="utf-8"))
    saved.write_text(json.dumps({**record, "jax": "0.0.1"}), encoding="utf-8")
    before = saved.read_bytes()
    assert run(saved, "--resume") == 2
    assert "choose another file" in capsys.readouterr().err
    assert saved.read_bytes() == before
    assert tool.calls == 4


def test_resume_needs_a_file_but_not_an_existing_one(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    plant(Fake())
    assert gradcheck_power.main(["--tools", "jnn", *CASES, "--resume"]) == 2
    assert "--resume needs --out" in capsys.readouterr().err
    assert run(tmp_path / "new.json", "--resume") == 0


def test_a_tool_that_falls_over_is_counted_by_itself(plant, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def broken(fun, case):
        raise RuntimeError("no such function")

    plant(broken)
    assert run(tmp_path / "power.json") == 0
    assert "jnn | 0 of 2 | 0 | 0 of 2 | 0 of 0 | 0 | 4 |" in capsys.readouterr().out
