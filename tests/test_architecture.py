"""The shape of the package: what imports what, what it exports, and that what it shows in its texts is true."""

import ast
import doctest
import importlib
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import jnn

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "jnn"

# From the bottom up: a module imports only from those before it.
ORDER = [
    "checks",
    "optional",
    "compilation",
    "activations",
    "likelihoods",
    "networks",
    "tables",
    "transforms",
    "objectives",
    "backprop",
    "curvature",
    "posterior",
    "model",
    "schedules",
    "optimizers",
    "gradcheck",
    "data",
    "training",
    "ensembles",
    "laplace",
    "persistence",
    "sklearn",
    "plots",
    "__main__",
]
INDEPENDENT = {"compilation", "optimizers", "gradcheck"}  # know nothing of the rest, but for checks


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path):
    """The names of jnn's modules that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("jnn.")}
        if isinstance(node, ast.ImportFrom) and node.module == "jnn":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jnn."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_below(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert own in ORDER, f"{own} has no place in the order"
    allowed = {own, "checks"} if own in INDEPENDENT else {*ORDER[: ORDER.index(own)], own}
    assert imported(path) <= allowed


def test_no_private_jax():
    for path in [*modules(), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("jax._src") for name in names), path
            if isinstance(node, ast.ImportFrom):
                assert node.module != "__future__", f"{path}: jaxtyping needs real annotations"


FIXED = [
    "mlp",
    "dag",
    "fit",
    "adam",
    "steepest_descent",
    "rprop",
    "backprop.value_and_grad",
    "likelihoods.Gaussian",
    "likelihoods.Bernoulli",
    "likelihoods.Categorical",
    "likelihoods.Poisson",
    "gradcheck.check",
    "gradcheck.compare",
]


@pytest.mark.parametrize("name", FIXED)
def test_fixed_names(name):
    found = jnn
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


@pytest.mark.parametrize("name", [info.name for info in pkgutil.walk_packages([str(PACKAGE)], "jnn.")])
def test_public_things_are_documented(name):
    if "__main__" in name:
        return
    module = importlib.import_module(name)
    assert module.__doc__, name
    for key, value in vars(module).items():
        if not key.startswith("_") and callable(value) and getattr(value, "__module__", None) == name:
            assert value.__doc__, f"{name}.{key}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstring_examples(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    if name.endswith("__main__"):
        return
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def readme_blocks():
    """(code, printed) of each python block of the READMEs that is followed by a text block with its output."""
    text = "".join(path.read_text() for path in (ROOT / "README.md", *sorted(PACKAGE.rglob("README.md"))))
    return re.findall(r"```python\n((?:(?!```).)*?)```\s*```text\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(readme_blocks())))
def test_readme_examples_print_what_the_readme_shows(number, tmp_path):
    """To the digits shown; run in a fresh process, with the settings that a reader has."""
    code, printed = readme_blocks()[number]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found, expected = run.stdout.split(), printed.split()
    assert len(found) == len(expected), run.stdout
    number_like = re.compile(r"^[-+(\[]*\d+(\.\d*)?(e[-+]?\d+)?[%,;:)\]]*$")
    for f, e in zip(found, expected, strict=True):
        if number_like.match(e) and number_like.match(f):
            f, e = (re.sub(r"[%,;:()\[\]]", "", t) for t in (f, e))
            # Training runs through float32 sums whose order differs between processors and versions of XLA.
            assert float(f) == pytest.approx(float(e), rel=0.05, abs=0.005), (f, e)
        else:
            assert f == e


def test_readme_map_names_functions_and_tests_that_exist():
    """Each row of the equation map: `jnn...` resolves, and the file and test function are there."""
    table = (PACKAGE / "README.md").read_text().split("## Every equation")[1].split("\n## ")[0]
    rows = re.findall(r"^\|.*`jnn\..*\|\s*$", table, flags=re.MULTILINE)
    assert len(rows) >= 25
    for row in rows:
        for name in re.findall(r"`(jnn\.[\w.]+)`", row):
            found = jnn
            for part in name.split(".")[1:]:
                found = getattr(found, part)
        tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert tests, row
        for file, function in tests:
            assert re.search(rf"^def {function}\b", (ROOT / file).read_text(), flags=re.MULTILINE), (file, function)
