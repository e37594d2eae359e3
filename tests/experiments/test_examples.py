"""Every example runs, and prints what its docstring says, to the numbers: those are of its full size."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "experiments" / "examples"


def said(text):
    """The words of some lines, with a mark where a number is."""
    return re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", text).split()


def promised(path):
    """What the docstring shows at its end."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").rsplit(":\n\n", 1)[1]


@pytest.fixture
def problem(tmp_path):
    """A file in Proben1's format: two classes, told by the first input."""
    x = np.random.default_rng(0).uniform(size=(60, 3))
    lines = ["bool_in=0", "real_in=3", "bool_out=2", "real_out=0", "training_examples=30", "validation_examples=15"]
    lines += ["test_examples=15", *(f"{a} {b} {c} {int(a > 0.5)} {int(a <= 0.5)}" for a, b, c in x)]
    (tmp_path / "cancer1.dt").write_text("\n".join(lines))
    return "cancer1.dt"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_prints_what_it_promises(path, tmp_path, problem, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "def test_" in path.read_text():
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "jnn.gradcheck.plugin"]
        run = subprocess.run([*command, str(path)], capture_output=True, text=True, cwd=EXAMPLES.parents[1])
        printed = run.stdout.splitlines()[-1].split(" in ")[0]
    else:
        monkeypatch.setattr(sys, "argv", [str(path), *[problem] * path.stem.startswith("proben1"), "--small"])
        with jax.numpy_rank_promotion("allow"):  # as it is for those who start from one
            runpy.run_path(str(path), run_name="__main__")
        printed = capsys.readouterr().out
    assert said(printed) == said(promised(path))


def test_they_are_short_and_listed():
    listed = (EXAMPLES.parent / "README.md").read_text()
    paths = sorted(EXAMPLES.glob("*.py"))
    assert 0 < len(paths) <= 10
    for path in paths:
        assert path.name in listed
        assert len(path.read_text().split('"""\n', 1)[1].splitlines()) <= 60, path.name
