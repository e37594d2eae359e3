"""Whatever comes, a function does what its user expects or says what it expected: see `experiments.contract`."""

import importlib
import inspect
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments.contract.functions import TAKE_NO_NUMBERS, Function, functions
from experiments.contract.judging import Case, judge
from experiments.contract.kinds import kinds_of

ROOT = pathlib.Path(__file__).parents[2]
MODULES = (
    "activations backprop curvature ensembles gradcheck laplace likelihoods networks objectives optimizers "
    "persistence plots schedules training training.stopping transforms"
)


def test_every_public_function_is_called_or_takes_no_numbers():
    known = {function.name for function in functions()} | set(TAKE_NO_NUMBERS)
    found: dict[int, str] = {}  # the shortest name of each
    for module in ["", *MODULES.split(" ")]:
        for name, value in vars(importlib.import_module(f"jnn.{module}".rstrip("."))).items():
            if inspect.isfunction(value) and value.__module__.startswith(f"jnn.{module}") and not name.startswith("_"):
                found.setdefault(id(value), f"{module}.{name}".lstrip("."))
    assert set(found.values()) - known == set()


def _run(*arguments):
    """In a process of its own: as users have it, without run-time types."""
    command = [sys.executable, "-m", "experiments.contract", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )


def test_a_thousand_generated_cases():
    run = _run("--cases", "1000")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1000 cases" in run.stdout
    assert " 0 faults" in run.stdout


@pytest.mark.slow
def test_every_change_of_a_single_argument():
    run = _run("--each")
    assert run.returncode == 0, run.stdout + run.stderr


FAULTY = {
    "x is no number, and is taken": lambda x: 0,
    "what was trained is not finite": lambda x: x * float("nan"),
    "not the library's own message": lambda x: x + "a",
    "good arguments are refused": lambda x: [][x],
    "another result than that of the same numbers": lambda x: float(isinstance(x, float)),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_faults_are_found(fault):
    """The judge is judged: by functions that are wrong in one way each."""

    def call(x):
        return np.asarray(FAULTY[fault](x))

    function = Function("wrong", call, {"x": 2.0}, trains="trained" in fault)
    outcomes = [judge(Case(function, {"x": kind}, "default")) for kind in kinds_of(2.0)]
    if "no number" in fault:
        array = Function("wrong", call, {"x": np.ones((2, 2), np.float32)})
        outcomes = [judge(Case(array, {"x": kind}, "default")) for kind in ("words", "complex")]
    assert any(fault in outcome.fault for outcome in outcomes)
