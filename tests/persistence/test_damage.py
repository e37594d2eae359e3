"""Files that were changed, processes that were killed, disks that fail, and files of version 1."""

import os
import pathlib
import re
import subprocess
import sys

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jnn
from experiments import persistence_fuzz
from jnn import likelihoods, transforms
from jnn.likelihoods import OneHot
from jnn.persistence import Model, load, save

from .model_cases import assert_same, model

ROOT = pathlib.Path(__file__).parent.parent.parent


def test_damaged_files_are_refused():
    """300 of them; `python -m experiments.persistence_fuzz` tries 10,000."""
    result = persistence_fuzz.damage(300)
    assert result.refused == 300
    assert result.forged_refused > 0


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_killed_processes_lose_no_file():
    """4 of them; `python -m experiments.persistence_fuzz` kills 200."""
    command = [sys.executable, "-m", "experiments.persistence_fuzz", "--kills", "4", "--damages", "0"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert re.fullmatch(r"4 killed, \d of them while writing; 0 files lost\n", run.stdout), run.stdout + run.stderr


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function, error):
    path = tmp_path / "model.safetensors"
    save(path, model())

    def fail(*args):
        assert len(list(tmp_path.iterdir())) == 2  # the new one is beside the old one
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, function, fail)
        with pytest.raises(type(error)):
            save(path, model("sweep"))
    assert list(tmp_path.iterdir()) == [path]
    assert_same(load(path), model())


VERSION_1 = (
    b'0\x06\x00\x00\x00\x00\x00\x00{"__metadata__":{"jnn":"{\\"checksum\\":\\"1b9cb3d057c89e43df6f8e0b62e74289236c6c5'
    b'afd8578fa562199a424cea276\\",\\"format\\":1,\\"jnn\\":\\"0.1.0\\",\\"description\\":{\\"$\\":\\"model\\",\\"net'
    b'work\\":{\\"$\\":\\"dag\\",\\"inputs\\":2,\\"hidden\\":1,\\"outputs\\":2,\\"edges\\":{\\"$\\":\\"numpy\\",\\"ar'
    b'ray\\":\\"network.edges\\"},\\"activations\\":[{\\"$\\":\\"activation\\",\\"name\\":\\"softsign\\"}],\\"activat'
    b'ion\\":{\\"$\\":\\"numpy\\",\\"array\\":\\"network.activation\\"},\\"biased\\":{\\"$\\":\\"numpy\\",\\"array\\"'
    b':\\"network.biased\\"},\\"evaluation\\":\\"sweep\\"},\\"likelihood\\":{\\"$\\":\\"squared_error\\",\\"output\\"'
    b':{\\"$\\":\\"softmax\\"},\\"s\\":0.25},\\"params\\":{\\"w\\":{\\"$\\":\\"numpy\\",\\"array\\":\\"params.w\\"},'
    b'\\"b\\":{\\"$\\":\\"numpy\\",\\"array\\":\\"params.b\\"}},\\"transforms\\":{\\"$\\":\\"tuple\\",\\"items\\":[{'
    b'\\"$\\":\\"standardize\\",\\"mean\\":{\\"$\\":\\"jax\\",\\"array\\":\\"transforms.0.mean\\"},\\"scale\\":{\\"$'
    b'\\":\\"jax\\",\\"array\\":\\"transforms.0.scale\\"}}]},\\"target_transform\\":null,\\"encoding\\":{\\"$\\":\\"o'
    b'ne_hot\\",\\"classes\\":[\\"ja\\",\\"nein\\"],\\"dtype\\":{\\"$\\":\\"dtype\\",\\"name\\":\\"<U4\\"}},\\"extra'
    b'\\":{\\"curve\\":{\\"$\\":\\"tuple\\",\\"items\\":[0.1,null]},\\"seed\\":7}}}"},"network.edges":{"dtype":"I64",'
    b'"shape":[5,2],"data_offsets":[0,80]},"params.b":{"dtype":"F32","shape":[3],"data_offsets":[80,92]},"transforms.'
    b'0.mean":{"dtype":"F32","shape":[2],"data_offsets":[92,100]},"transforms.0.scale":{"dtype":"F32","shape":[2],"da'
    b'ta_offsets":[100,108]},"network.activation":{"dtype":"I32","shape":[1],"data_offsets":[108,112]},"params.w":{"d'
    b'type":"BF16","shape":[5],"data_offsets":[112,122]},"network.biased":{"dtype":"BOOL","shape":[3],"data_offsets":'
    b"[122,125]}}      \x01\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00"
    b"\x00\x03\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x03\x00"
    b"\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\xab\xaa\xaa>\x00\x00\x80?\x00\x00\x00\xc0\xcd\xcc\xcc=\x00\x00@@\x00\x00"
    b"\x00\x00\x00?\x00\x80@@\x08\x00\xc0\x7f\x01\x01\x01"
)


def golden():
    """What was saved as VERSION_1."""
    network = jnn.dag(2, 2, [(1, 3), (2, 3), (1, 4), (3, 4), (2, 5)], ["softsign"], evaluation="sweep")
    params = {"w": np.array([0.5, -0.0, 3, 2**-130, np.nan], ml_dtypes.bfloat16), "b": np.float32([1, 2, 1 / 3])}
    scale = transforms.Standardize(jnp.float32([1, -2]), jnp.float32([0.1, 3]))
    likelihood = likelihoods.SquaredError("softmax", 0.25)
    encoding = OneHot.fit(["ja", "nein"])
    return Model(network, likelihood, params, (scale,), encoding=encoding, extra={"curve": (0.1, None), "seed": 7})


def test_files_of_version_1_are_read_forever(tmp_path):
    path = tmp_path / "golden.safetensors"
    path.write_bytes(VERSION_1)
    assert_same(load(path), golden())


def test_version_1_is_written_as_ever(tmp_path):
    """If this fails on purpose, make a second constant of the new bytes, and keep reading the old ones."""
    path = tmp_path / "golden.safetensors"
    save(path, golden())
    version = re.search(rb'jnn\\":\\"([^"\\]*)', path.read_bytes())
    assert version is not None
    if version[1] == b"0.1.0":
        assert path.read_bytes() == VERSION_1
