"""Every error says what was expected, what came, and what to do."""

import datetime
import decimal
import enum
import fractions
import importlib.util
import io
import json
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save_file

import jnn
from experiments.persistence_fuzz import forged
from jnn import likelihoods, persistence
from jnn.activations import Activation
from jnn.likelihoods import OneHot
from jnn.persistence import Model, export, export_onnx, load, save
from jnn.persistence.kinds import KINDS

from .. import typechecker
from .model_cases import NETWORKS, assert_same, model, params_of, standardize, whiten


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture(autouse=True)
def _as_users_run_it():
    with typechecker.off():
        yield


# --- Reading what `save` did not write


def zipped():
    buffer = io.BytesIO()
    np.savez(buffer, w=np.ones(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "got an empty file"),
        (pickle.dumps({"w": 1}), "as a pickle does"),
        (
            b"<!DOCTYPE html><title>Not found</title>",
            "39 bytes that begin with b'<!DOCTYPE html><', as a web page does",
        ),
        (zipped(), "as a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (bytes(1000), "1,000 bytes"),
        (b"x", "1 bytes that begin with b'x'$"),
    ],
)
def test_foreign_files(path, data, said):
    path.write_bytes(data)
    with pytest.raises(persistence.ForeignFileError, match=said) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: expected a file that jnn.persistence.save wrote; got ")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_another_program(path, metadata):
    save_file({"w": np.ones(3)}, path, metadata=metadata)
    with pytest.raises(persistence.ForeignFileError, match=r"another program; read its arrays with safetensors.numpy"):
        load(path)


def test_what_is_no_file(path, tmp_path):
    with pytest.raises(persistence.MissingFileError, match="found nothing there; check the path") as caught:
        load(path)
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(persistence.ForeignFileError, match="found a folder"):
        load(tmp_path)
    with pytest.raises(persistence.MissingFileError, match="create it first"):
        save(tmp_path / "no" / "folder.safetensors", model())
    with pytest.raises(persistence.PersistenceError, match="is a folder; choose another name"):
        save(tmp_path, model())


# --- Reading what was changed since


def rewritten(data, **changes):
    """The file with another description, and the checksum that belongs to it."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    entry = json.loads(header["__metadata__"]["jnn"])
    for name, value in changes.items():
        if callable(value):
            value(entry[name])
        else:
            entry[name] = value
    header["__metadata__"]["jnn"] = json.dumps(entry, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode()
    return forged(len(text).to_bytes(8, "little") + text + data[8 + length :])


def test_truncated_and_changed(path):
    save(path, model())
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(persistence.DamagedFileError, match=r"not whole \(.*\): it was cut off or changed; use another"):
        load(path)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(persistence.DamagedFileError, match=r"checksum is not that of its content.*save again"):
        load(path)


def test_a_newer_file(path):
    save(path, model())
    data = path.read_bytes()
    path.write_bytes(rewritten(data, format=2, jnn="9.1"))
    with pytest.raises(
        persistence.NewerFileError, match=r"format 1 or older; got format 2, written by jnn 9\.1: update"
    ):
        load(path)
    path.write_bytes(rewritten(data, description=lambda d: d["likelihood"].update({"$": "student_t"})))
    with pytest.raises(persistence.NewerFileError, match=r"kind 'student_t', unknown to this jnn: update jnn"):
        load(path)
    path.write_bytes(
        rewritten(data, description=lambda d: d["network"]["layers"][0]["activation"].update(name="snake"))
    )
    with pytest.raises(persistence.NewerFileError, match="activation 'snake'"):
        load(path)


SENSELESS = {
    "no model": lambda d: d.update({"$": "poisson"}),
    "a part missing": lambda d: d.pop("likelihood"),
    "a part too many": lambda d: d.update(surprise=1),
    "no likelihood": lambda d: d.update(likelihood=3),
    "a network that reads ahead": lambda d: d["network"]["layers"][0].update(reads=[1]),
    "a network that reads nothing": lambda d: d["network"]["layers"][0].update(reads=[]),
    "a network without layers": lambda d: d["network"].update(layers=[]),
    "no activation": lambda d: d["network"]["layers"][0].update(activation=None),
    "another size": lambda d: d["network"]["layers"][0].update(size=7),
    "an endless size": lambda d: d["network"]["layers"][0].update(size=10**30),
    "a name that would be imported": lambda d: d["likelihood"].update({"$": "os.system"}),
    "an unknown array": lambda d: d["params"]["items"][0]["W"].update(array="params.9.W"),
    "an array twice": lambda d: d["params"]["items"][0]["W"].update(array="params.1.W"),
    "an array that nothing uses": lambda d: d.update(transforms={"$": "tuple", "items": []}),
    "a transform of another size": lambda d: d["transforms"]["items"][0]["mean"].update(array="params.0.b"),
    "an unbuildable number": lambda d: d["extra"].update(x={"$": "float", "bits": "00"}),
    "an impossible optimizer": lambda d: d["extra"].update(
        x={"$": "optimizer", "rule": "adam", "arguments": {"surprise": 1}}
    ),
    "a dtype with code": lambda d: d["extra"].update(x={"$": "dtype", "name": "__import__('os')"}),
    "an impossible likelihood": lambda d: d.update(likelihood={"$": "gaussian", "s": -1.0}),
}


@pytest.mark.parametrize("what", SENSELESS)
def test_a_description_that_makes_no_sense_with_a_right_checksum(path, what):
    save(path, model(before="standardize"))
    path.write_bytes(rewritten(path.read_bytes(), description=SENSELESS[what]))
    with pytest.raises(persistence.PersistenceError):
        load(path)


def test_an_endless_nesting(path):
    save(path, model(extra={"x": "deep"}))
    data = path.read_bytes()
    deep = data.replace(rb"\"deep\"", b"[" * 100_000 + b"]" * 100_000)
    length = int.from_bytes(data[:8], "little") + len(deep) - len(data)
    path.write_bytes(forged(length.to_bytes(8, "little") + deep[8:]))
    with pytest.raises(persistence.DamagedFileError):
        load(path)


@pytest.mark.parametrize("name", ["edges", "biased", "activation"])
def test_a_general_network_that_cannot_be(path, name):
    save(path, model("sweep", before="none"))
    other = {"edges": "biased", "biased": "edges", "activation": "biased"}[name]

    def exchange(described):
        network = described["network"]
        network[name], network[other] = network[other], network[name]

    path.write_bytes(rewritten(path.read_bytes(), description=exchange))
    with pytest.raises(persistence.DamagedFileError, match="not one that jnn writes"):
        load(path)


def test_edges_that_no_network_has():
    general = KINDS["dag"].fields(NETWORKS["sweep"])
    assert KINDS["dag"].build(**general) == NETWORKS["sweep"]
    edges = general["edges"]
    for broken in (edges[::-1], edges[:, ::-1], edges - 1, edges + 1, edges.repeat(2, axis=0), edges[:, 0]):
        with pytest.raises(ValueError, match="no feed-forward network"):
            KINDS["dag"].build(**general | {"edges": np.ascontiguousarray(broken)})


def test_no_silent_rounding(path):
    saved = model(dtype=jnp.float64, before="none")
    save(path, saved)
    with jax.enable_x64(False):
        with pytest.raises(
            persistence.PrecisionError, match=r"params\.0\.W is of float64.*jax_enable_x64.*enable_x64\("
        ):
            load(path)
        with jax.enable_x64(True):
            assert_same(load(path), saved)
        on_host = jax.tree.map(np.asarray, saved.params)
        exact = Model(saved.network, saved.likelihood, on_host)
        save(path, exact)
        assert_same(load(path), exact)
        with pytest.raises(persistence.PrecisionError, match='pass dtype="float32", or turn it on'):
            export(path, exact)


# --- Writing what does not fit, or cannot be written


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params": 3}, "expected params of the structure"),
        ({"network": jnn.mlp([4, 6, 2])}, r"expected params\[0\]\['W'\] of shape \(4, 6\).*got \(4, 5\)"),
        ({"network": jnn.mlp([3, 5, 2])}, r"of shape \(3, 5\) after any axes of an ensemble, as .*got \(4, 5\)"),
        ({"network": "mlp"}, "expected network as Network, got str"),
        ({"likelihood": "gaussian"}, "expected likelihood as Likelihood, got str"),
        ({"likelihood": jnn.fit}, "expected likelihood as Likelihood, got function"),
        ({"transforms": standardize()}, "expected transforms as tuple, got Standardize"),
        ({"transforms": (standardize(3),)}, "4 inputs, got 3 columns"),
        ({"transforms": (standardize(), whiten(3, 3))}, r"transforms\[1\] does not"),
        ({"target_transform": standardize()}, "target_transform does not fit 2 columns"),
        ({"encoding": ["a", "b"]}, "expected encoding as "),
        ({"extra": [1]}, "expected extra as Mapping, got list"),
    ],
)
def test_parts_that_do_not_fit(path, change, said):
    network = jnn.mlp([4, 5, 2])
    parts = {"network": network, "likelihood": likelihoods.Categorical(), "params": params_of(network)}
    for write in (save, export, export_onnx):
        with pytest.raises(persistence.MismatchError, match=said):
            write(path, Model(**parts | change))
    assert not path.exists()


def test_parameters_that_do_not_fit(path):
    network = jnn.mlp([4, 5, 2])
    first, second = params_of(network)
    for params, said in [
        (({**first, "b": first["b"].astype(int)}, second), "array of floating-point numbers, got .* of dtype int64"),
        ((first, {**second, "b": jnp.zeros((3, 2))}), r"params\[1\]\['b'\] of shape \(2,\).*got \(3, 2\)"),
        (([first, second]), "expected params of the structure"),
        ((first, {**second, "b": 0.0}), "got float"),
    ]:
        with pytest.raises(persistence.MismatchError, match=said):
            save(path, Model(network, likelihoods.Categorical(), params))
    odd = jnn.mlp([4, 3])
    with pytest.raises(
        persistence.MismatchError, match="does not fit 3 outputs: HeteroscedasticGaussian: expected an even"
    ):
        save(path, Model(odd, likelihoods.HeteroscedasticGaussian(), params_of(odd)))
    stacked = standardize(4, 3)
    with pytest.raises(
        persistence.MismatchError, match=r"of one network, or of the ensemble \(\); its arrays have \(3,\)"
    ):
        save(path, Model(network, likelihoods.Categorical(), (first, second), (stacked,)))


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (
            lambda: model(jnn.mlp([4, 3, 2], (jnp.sin, jnp.cos))),
            r"'sin' is one of your own.*custom=\{'sin': activation\}",
        ),
        (
            lambda: model(jnn.mlp([4, 3, 2], Activation("tanh", jnp.sin, jnp.cos))),
            "'tanh' is one of your own, and a file holds no code",
        ),
        (
            lambda: model(encoding=OneHot.fit([Color.RED, Color.BLUE])),
            r"encoding\.classes\.0 is of the type .*Color.*custom=",
        ),
        (lambda: model(extra={"optimizer": optax.adam(0.1)}), r"extra\.optimizer is of the type"),
        (lambda: model(encoding=OneHot.fit([b"x", b"y"])), r"encoding\.classes\.0 is of the type builtins\.bytes"),
        (lambda: model(encoding=OneHot.fit([datetime.date(2024, 2, 29)])), r"of the type datetime\.date.*or strings"),
        (lambda: model(extra={"x": datetime.datetime(2024, 2, 29)}), r"extra\.x is of the type datetime\.datetime"),
        (lambda: model(extra={"x": datetime.timedelta(1)}), r"extra\.x is of the type datetime\.timedelta"),
        (lambda: model(extra={"x": decimal.Decimal("1.10")}), r"extra\.x is of the type decimal\.Decimal"),
        (lambda: model(extra={"x": fractions.Fraction(1, 3)}), r"extra\.x is of the type fractions\.Fraction"),
        (lambda: model(extra={"x": 2 + 1j}), r"extra\.x is of the type builtins\.complex"),
        (lambda: model(extra={"x": np.array(["2024-01-01"], "M8[D]")}), r"extra\.x is an array of datetime64\[D\]"),
        (lambda: model(extra={"z": np.ones(2, complex)}), "extra.z is an array of complex128"),
        (lambda: model(extra={"z": np.zeros(2, "i4,f8")}), "extra.z is an array of"),
        (lambda: model(extra={"z": np.ma.array([1, 2], mask=[True, False])}), "MaskedArray"),
        (lambda: model(extra={"text": "x" * 60_000_000}), "keep long lists of numbers as NumPy arrays"),
        (lambda: params_of(NETWORKS["chain"]), "expected a Model, got tuple; write save.* keep that with orbax"),
    ],
)
def test_what_a_file_cannot_hold(path, saved, said):
    path.write_bytes(b"old")
    with pytest.raises(persistence.UnsupportedError, match=said):
        save(path, saved())
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_saving_while_tracing(path):
    network = NETWORKS["chain"]
    with pytest.raises(persistence.UnsupportedError, match="outside of jit"):
        jax.jit(lambda p: save(path, Model(network, likelihoods.Gaussian(), p)))(params_of(network))


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("safetensors", "persistence", lambda path: save(path, model())),
        ("safetensors", "persistence", load),
        ("onnx", "onnx", lambda path: export_onnx(path, model())),
        ("flatbuffers", "export", lambda path: export(path, model())),
    ],
)
def test_packages_that_are_not_installed(path, monkeypatch, package, extra, call):
    save(path, model())
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(ImportError, match=re.escape(f"{package}, which is not installed: pip install 'jnn[{extra}]'")):
        call(path)


def test_one_hierarchy():
    for error in vars(persistence).values():
        if isinstance(error, type) and issubclass(error, Exception) and error is not persistence.MismatchError:
            assert issubclass(error, persistence.PersistenceError)
            assert issubclass(error, ValueError)
