"""Exported models compute what `Model.mean` does, without jnn."""

import functools
import itertools
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jnn
from jnn import activations, likelihoods, persistence, transforms
from jnn.persistence import Model, export, export_onnx

from .. import typechecker
from .model_cases import LIKELIHOODS, NETWORKS, X, around, ensemble, model, whiten


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model"


@functools.cache
def exported():
    """Every network, likelihood and transform in some model, each with its predictions."""
    models = [
        *(model(name, before=before) for name, before in zip(itertools.cycle(NETWORKS), around())),
        *(ensemble(name) for name in ("chain", "sweep")),
        model(target_transform=whiten(2, 2), likelihood=likelihoods.Gaussian()),
        *(model("linear", likelihood) for likelihood in LIKELIHOODS),
    ]
    return [(saved, jax.jit(saved.mean)(X)) for saved in models]


def assert_close(got, expected):
    """To float32's rounding through a few layers: some hundred ulps of the largest value."""
    expected = np.asarray(expected)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


@pytest.fixture(autouse=True)
def _symbolic_sizes_are_no_integers():
    """So the run-time type checks would refuse them; users do not have these."""
    with typechecker.off():
        yield


def test_stablehlo_computes_the_mean(path):
    for saved, expected in exported()[2:8]:  # what follows are other likelihoods
        export(path, saved, platforms=["cpu"], dtype="float32")
        assert_close(jax.export.deserialize(bytearray(path.read_bytes())).call(X), expected)


@pytest.mark.parametrize("n", [1, 7])
def test_batches_of_any_size(path, n):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'jnn[onnx]'")
    saved, expected = exported()[2]
    export(path, saved, platforms=["cpu"], dtype="float32")
    assert_close(jax.export.deserialize(bytearray(path.read_bytes())).call(X[:n]), expected[:n])
    export_onnx(path, saved)
    assert_close(session(path).run(None, {"x": X[:n]})[0], expected[:n])


def test_stablehlo_runs_without_jnn(path):
    saved = model()
    export(path, saved, dtype="float32")
    code = f"""
import pathlib, sys
sys.modules["jnn"] = None  # any import of it fails
import jax, jax.export, numpy as np
program = jax.export.deserialize(bytearray(pathlib.Path({str(path)!r}).read_bytes()))
assert program.platforms == ("cpu", "cuda", "tpu")
print(np.asarray(program.call(np.full((3, 4), 5, np.float32)))[2].tolist())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    expected = saved.mean(np.full((3, 4), 5, np.float32))[2]
    np.testing.assert_allclose(eval(run.stdout or run.stderr), expected, rtol=1e-5)


def test_stablehlo_takes_code_of_ones_own_and_any_dtype(path):
    saved = model(jnn.mlp([4, 3, 2], (jnp.sin, jnp.cos)), before="none", dtype=jnp.float64)
    export(path, saved, platforms=["cpu"])
    program = jax.export.deserialize(bytearray(path.read_bytes()))
    np.testing.assert_allclose(program.call(X.astype(float)), saved.mean(X.astype(float)), rtol=1e-14)
    with pytest.raises(ValueError, match="float32"):
        program.call(X)


def session(path):
    """A runtime for the graph, where there is one."""
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'jnn[onnx]'")
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_onnx_computes_the_mean(path):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'jnn[onnx]'")
    for saved, expected in exported():
        export_onnx(path, saved)
        (got,) = session(path).run(["mean"], {"x": X})
        assert_close(got, expected)


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_onnx_has_every_activation(path, name):
    """z = h(a), also far out."""
    pytest.importorskip("onnx", reason="needs onnx: pip install 'jnn[onnx]'")
    one = ({"W": jnp.ones((1, 1), jnp.float32), "b": jnp.zeros(1, jnp.float32)},)
    saved = Model(jnn.mlp([1, 1]), likelihoods.SquaredError(name), one)
    export_onnx(path, saved)
    a = np.float32([-1000, -100, -20, -3, -1, -0.1, 0, 1e-3, 0.7, 1, 3, 6, 20, 100, 1000])[:, None]
    (got,) = session(path).run(None, {"x": a})
    # Absolute: onnxruntime's sigmoids are approximated to 1e-7, and their tails not to relative accuracy.
    np.testing.assert_allclose(got, jax.jit(saved.mean)(a), rtol=1e-6, atol=1e-6)


def test_onnx_squashes_what_is_far_out(path):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'jnn[onnx]'")
    eye = ({"W": jnp.eye(2, dtype=jnp.float32), "b": jnp.zeros(2, jnp.float32)},)
    squash = transforms.Squash(jnp.float32([3, transforms.FREE]))
    saved = Model(jnn.mlp([2, 2]), likelihoods.Gaussian(), eye, transforms=(squash,))
    export_onnx(path, saved)
    x = np.float32([[1, 1], [-4, 4], [1e10, 7], [1e30, -7], [-3e38, 0]])
    (got,) = session(path).run(None, {"x": x})
    np.testing.assert_allclose(got[:, 0], [1 / np.sqrt(1 + 1 / 9), -2.4, 3, 3, -3], rtol=1e-6)
    np.testing.assert_array_equal(got[:, 1], x[:, 1])


def test_onnx_puts_pieces_beside_the_columns(path):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'jnn[onnx]'")
    seen = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    for pieces, count in ((transforms.Pieces.fit(seen, multiple_of=4), 12), (transforms.Pieces.fit(seen[:9]), 2)):
        eye = ({"W": jnp.eye(count, dtype=jnp.float32), "b": jnp.zeros(count, jnp.float32)},)
        export_onnx(path, Model(jnn.mlp([count, count]), likelihoods.Gaussian(), eye, transforms=(pieces,)))
        x = np.float32([[0, 1], [-2, 0.5], [1e30, -1e30]])
        (got,) = session(path).run(None, {"x": x})
        np.testing.assert_allclose(got, pieces.apply(x), rtol=1e-6, atol=1e-7)


def test_onnx_of_wider_parameters_is_rounded(path):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'jnn[onnx]'")
    for dtype in (jnp.float64, jnp.bfloat16):
        saved = model(dtype=dtype)
        export_onnx(path, saved)
        (got,) = session(path).run(None, {"x": X})
        assert_close(got, jax.jit(saved.mean)(X).astype(np.float32))


def test_onnx_refuses_what_it_has_no_node_for(path):
    pytest.importorskip("onnx", reason="needs onnx: pip install 'jnn[onnx]'")

    class Own(likelihoods.Likelihood):
        nll = delta = lambda self, a, y: a
        mean = lambda self, a: a  # noqa: E731

    class Map(likelihoods.OutputMap):
        __call__ = vjp = lambda self, a, g=0: a

    cases = [
        (model(jnn.mlp([4, 3, 2], (jnp.sin, jnp.cos))), r"no node for the activation 'sin'; export\(...\) takes it"),
        (model(likelihood=Own()), "expected a likelihood of jnn's own, got Own"),
        (model(likelihood=likelihoods.GeneralRule(Map(), likelihoods.Gaussian())), "output map of jnn's own, got Map"),
    ]
    for saved, said in cases:
        with pytest.raises(persistence.UnsupportedError, match=said):
            export_onnx(path, saved)
        export(path, saved, platforms=["cpu"])
        assert path.exists()
        path.unlink()
