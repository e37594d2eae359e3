"""`python -m jnn.gradcheck`: exit statuses, arguments from specifications and docstrings, errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn.gradcheck import _arguments
from jnn.gradcheck.__main__ import FAILED, PASSED, UNDECIDED, USAGE, main

KERNELS = '''
import jax
import jax.numpy as jnp


def rule(primal, backward):
    f = jax.custom_vjp(primal)
    f.defvjp(lambda *args: (primal(*args), args), lambda args, g: backward(g, *args))
    return f


right = rule(lambda x, w: jnp.sin(x) @ w, lambda g, x, w: (jnp.outer(g, w) * jnp.cos(x), jnp.sin(x).T @ g))
wrong = rule(lambda x, w: jnp.sin(x) @ w, lambda g, x, w: (jnp.outer(g, w) * jnp.cos(x), -jnp.sin(x).T @ g))


def loss(x, w, *, power=2):
    """A model's loss.

    >>> import kernels_under_test as kernels
    >>> x = jnp.full((2, 3), 0.5)
    >>> jax.grad(loss)(x, jnp.ones(3)).shape
    (2, 3)
    >>> float(kernels.loss(x, w=jnp.arange(3.0), power=3)) > 0
    True
    """
    return jnp.sum(wrong(x, w) ** power)


def embed(table, index, key):
    return table[index] * jax.random.normal(key, (4, 2))


def wide(x):
    assert x.dtype == jnp.float64
    return jnp.sin(x)


def badly_documented():
    """Nothing.

    >>> undefined_name(3)
    """


def never_called(x):
    """Nothing.

    >>> 1 + 1
    2
    """
    return x


class Layer:
    @staticmethod
    def apply(x):
        return jnp.tanh(x)

number = 3
'''


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    (tmp_path / "kernels_under_test.py").write_text(KERNELS, encoding="utf-8")
    (tmp_path / "breaks.py").write_text("raise RuntimeError('broken')\n", encoding="utf-8")
    (tmp_path / "lacks.py").write_text("import no_such_dependency\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("kernels_under_test", "breaks", "lacks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    sys.modules.pop("kernels_under_test", None)


TWO = ("--shapes", "f32[2,3] f32[3]")


@pytest.mark.parametrize(
    ("name", "options", "status", "said"),
    [
        ("right", (*TWO, "--json", "out.json", "--html", "out.html"), PASSED, "gradcheck PASS"),
        ("wrong", TWO, FAILED, "wrong in w (sign flipped)"),
        ("loss", ("--json", "out.json"), FAILED, "wrong in w"),
        ("loss", ("--rules",), FAILED, "custom_vjp <lambda>"),
        ("right", (*TWO, "--reference", "kernels_under_test:wrong", "--expected", "x"), FAILED, "declared"),
        ("embed", ("--shapes", "f32[10,2] i32[4]<10 key", "--seed", "3"), PASSED, "table"),
        ("wide", ("--shapes", "f64[3]", "--order", "2", "--scale", "0.1"), PASSED, "float64"),
        ("Layer.apply", ("--shapes", "bf16[3]"), PASSED, "bfloat16"),
    ],
)
def test_statuses(kernels, capsys, name, options, status, said):
    with jax.enable_x64(False):
        assert main([f"kernels_under_test:{name}", *options]) == status
        assert not jax.config.jax_enable_x64
    out = capsys.readouterr().out
    assert said in out
    if "--json" in options:
        saved = json.loads((kernels / "out.json").read_text(encoding="utf-8"))
        assert saved["verdict"] == {PASSED: "pass", FAILED: "fail"}[status]
        assert "written: out.json" in out
    if "--html" in options:
        assert (kernels / "out.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_kink_has_a_status_of_its_own(capsys):
    assert main(["jax.nn:relu", "--shapes", "f32[3]=0"]) == UNDECIDED
    assert "gradcheck KINK: relu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["kernels_under_test"], "expected MODULE:FUNCTION, for example jax.nn:gelu, got 'kernels_under_test'"),
        (["kernels_under_test.py:right"], "write kernels_under_test:right"),
        (["no_such_module:f"], "there is no module 'no_such_module'"),
        (["lacks:f"], "lacks imports 'no_such_dependency', which is not installed"),
        (["breaks:f"], "importing breaks raised RuntimeError: broken"),
        (["kernels_under_test:rigth"], "has no function 'rigth'; did you mean right?"),
        (["kernels_under_test:number"], "expected a function, but kernels_under_test:number is of type int"),
        (["kernels_under_test:wide"], "wide has no docstring example"),
        (["kernels_under_test:badly_documented"], "fails at 'undefined_name(3)': NameError"),
        (["kernels_under_test:never_called"], "no docstring example of never_called calls it with values"),
        (["kernels_under_test:right", "--shapes", "f32[3"], "got 'f32[3'; the dtypes are f16, bf16"),
        (["kernels_under_test:right", "--shapes", "float[3]"], "got 'float[3]'"),
        (["kernels_under_test:right", "--shapes", "f32[3]<4"], "expected < with integers"),
        (["kernels_under_test:right", "--shapes", "i32[3]<0"], "expected an upper end of at least 1"),
        (["kernels_under_test:right", "--shapes", "f32[3]=two"], "expected a number after =, got 'f32[3]=two'"),
        (["kernels_under_test:right", "--shapes", "f32[2,3] f32[4]"], "when called with float32[2, 3], float32[4]"),
        (["jax.numpy:sin", "--shapes", "f32[2]", "--expected", "y"], "cannot be checked at these arguments: expected"),
        (["kernels_under_test:right", "--rules", "--order", "2"], "expected --rules without --order"),
        (["jax.numpy:sin", "--shapes", "f32", "--json", "no/such/folder.json"], "cannot write no/such/folder.json"),
    ],
)
def test_usage_errors(kernels, capsys, arguments, said):
    assert main(arguments) == USAGE
    assert said in capsys.readouterr().err


def test_arguments_are_what_the_specifications_say():
    specs = _arguments.split("f32[3, 4]  bf16[2]>0 f16 i32[50]<3 u8[9] bool[40] c64[2] i32[3]=7 key key[2]")
    x, positive, scalar, integers, binary, flags, complexes, sevens, key, pair = _arguments.made(specs, 1, 10.0)
    assert (x.shape, x.dtype) == ((3, 4), jnp.float32)
    assert 3 < np.std(x) < 30
    assert positive.dtype == jnp.bfloat16
    assert (positive > 0).all()
    assert (scalar.shape, scalar.dtype) == ((), jnp.float16)
    assert set(integers.tolist()) == {0, 1, 2}
    assert set(binary.tolist()) <= {0, 1}
    assert set(flags.tolist()) == {False, True}
    assert (complexes.imag != 0).all()
    assert sevens.tolist() == [7, 7, 7]
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert pair.shape == (2,)
    # Another argument at the end changes none of the others; another seed changes them.
    assert (_arguments.made(specs[:1], 1, 10.0)[0] == x).all()
    assert (_arguments.made(specs[:1], 2, 10.0)[0] != x).all()


def test_arguments_of_a_docstring_example(kernels):
    import kernels_under_test

    args, kwargs = _arguments.from_docstring(kernels_under_test.loss)
    assert (args[0] == jnp.full((2, 3), 0.5)).all()
    assert kwargs.keys() == {"w", "power"}
    assert kwargs["power"] == 3
    assert kwargs["w"].tolist() == [0, 1, 2]


def test_help_and_status_of_the_program(kernels):
    def run(*arguments):
        root = Path(__file__).resolve().parents[2]
        environment = os.environ | {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "jnn.gradcheck", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=kernels, check=False)

    told = run("--help")
    assert told.returncode == 0
    assert all(f in told.stdout for f in ("--shapes", "i32[5]<10", "exit status", "--rules", "examples:"))
    # The module lies in the current folder.
    wrong = run("kernels_under_test:wrong", "--shapes", "f32[2,3] f32[3]")
    assert wrong.returncode == FAILED, wrong.stderr
    assert wrong.stderr == ""
