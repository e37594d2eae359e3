"""The mutants: what they are on a module of a few lines, that tests tell them, and a sample of the library's."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.mutants import __main__ as command
from experiments.mutants.changes import mutants, planted
from experiments.mutants.selections import EQUIVALENT, TESTS

ROOT = Path(__file__).parents[2]
MODULE = '''"""Doc 1 + 1."""
LIMIT = 0.5

def f(a: "1 + 1", b=2):
    """Doc 2 * 2."""
    if b < 0:
        raise ValueError(f"{b + 1}")
    return sum(a[1:]) if a is not None else -b * LIMIT
'''


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "module.py").write_text(MODULE)
    return tmp_path / "module.py"


def test_the_mutants_of_a_module(module: Path) -> None:
    found = {mutant.what: text() for mutant, text in mutants(module, "module.py")}
    assert set(found) == {
        "0.5 → 1.0", "2 → 3", "2 → 1", "-b * LIMIT → -b", "-b * LIMIT → LIMIT", "-b * LIMIT → -b / LIMIT", "-b → b",
        "sum(a[1:]) if a is not None else -b * LIMIT → sum(a[1:])",
        "sum(a[1:]) if a is not None else -b * LIMIT → -b * LIMIT", "a is not None → a is None",
        "[1:] → [1 + 1:]", "[1:] → [1 - 1:]", "1 → 2", "1 → 0", "sum(a[1:]) → mean(a[1:])", "sum(a[1:]) → a[1:]",
    }  # fmt: skip
    for text in found.values():
        assert ast.unparse(ast.parse(text)) == text != ast.unparse(ast.parse(MODULE))
        assert "1 + 1'" in text  # neither the annotation
        assert "if b < 0" in text  # nor what guards an error


def test_what_is_squared_keeps_its_sign(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def f(a, b):\n    return abs(a - b) * (b - a) ** 2 * (a - b) ** 3 * abs(-a)\n")
    signs = {mutant.what for mutant, _ in mutants(tmp_path / "module.py", "module.py") if mutant.kind == "sign"}
    assert signs == {"a - b → a + b", "a - b → b - a", "b - a → b + a"}
    reversed_at = [mutant.number for mutant, _ in mutants(tmp_path / "module.py", "") if mutant.what == "a - b → b - a"]
    assert reversed_at == [1]


def test_a_planted_fault_has_to_be_there(module: Path) -> None:
    ((mutant, text),) = planted(module, "module.py", [("-b * LIMIT", "-LIMIT")])
    assert mutant.line == 8
    assert text() == MODULE.replace("-b * LIMIT", "-LIMIT")
    with pytest.raises(ValueError, match="it is there 2 times"):
        list(planted(module, "module.py", [("LIMIT", "c")]))


def test_all_modules_have_mutants_and_what_is_excused_is_one_of_them() -> None:
    found = [mutant for mutant, _ in command.every()]
    assert {mutant.module for mutant in found} == set(TESTS)
    known = {
        (mutant.module, mutant.where, what)
        for mutant in found
        for what in (mutant.what, "*", f"{mutant.what} #{mutant.number}")
    }
    assert set(EQUIVALENT) <= known
    for tests in TESTS.values():
        assert all((ROOT / path).exists() for path in tests.split())


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "experiments.mutants", *arguments], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.slow
def test_a_fault_is_told_and_results_are_taken_up_again(tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    words = ["--only", "objectives.py:penalty.squares: dropped", "--jobs", "2", "--out", str(out)]
    first = run(*words)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "mutants killed (100.0%" in first.stdout
    again = run(*words)
    assert again.stdout == first.stdout
    assert len(out.read_text().splitlines()) == len(set(out.read_text().splitlines())) > 1


@pytest.mark.slow
def test_of_a_sample_95_percent_are_killed() -> None:
    found = run("--sample", "60", "--seed", "17", "--jobs", "2")
    assert found.returncode == 0, found.stdout
