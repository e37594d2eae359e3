"""What is saved comes back, in every bit and type."""

import enum
import inspect
import json
import os
import stat
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file

import jnn
from jnn import activations, likelihoods, networks, persistence, transforms
from jnn.likelihoods import OneHot
from jnn.persistence import Model, load, save
from jnn.persistence.codec import NAMES

from .. import typechecker
from .model_cases import EDGES, LIKELIHOODS, NETWORKS, X, around, assert_same, ensemble, model, params_of, standardize


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def through(path, saved, **settings):
    save(path, saved, **settings)
    return load(path, **settings)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_likelihood_and_transform(path, name):
    with typechecker.off():  # 180 files are quicker without
        for likelihood in LIKELIHOODS:
            for before in around():
                saved = model(name, likelihood, before)
                assert_same(through(path, saved), saved)


def test_what_is_loaded_predicts_the_same(path):
    saved = model("shortcuts")
    loaded = through(path, saved)
    np.testing.assert_array_equal(jax.jit(loaded.mean)(X), jax.jit(saved.mean)(X))


def test_every_activation(path):
    names = list(activations.ACTIVATIONS)
    assert_same(through(path, saved := model(jnn.mlp([4] * (len(names) + 2), names))), saved)
    for name in names:
        saved = model(likelihood=likelihoods.SquaredError(name))
        assert_same(through(path, saved), saved)


def test_everything_that_jnn_has_can_be_saved():
    for module, base in (
        (likelihoods, (likelihoods.Likelihood, likelihoods.OutputMap, OneHot)),
        (networks, (networks.Network,)),
        (transforms, (transforms.Transform,)),
    ):
        for cls in vars(module).values():
            if isinstance(cls, type) and issubclass(cls, base) and not inspect.isabstract(cls):
                assert cls in NAMES, f"add {cls.__name__} to jnn.persistence.kinds"


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_every_bit_pattern(path, dtype):
    """Signed zeros, subnormals, infinities, and NaNs with their payload and their sign."""
    bits = 8 * jnp.dtype(dtype).itemsize
    unsigned = np.dtype(f"uint{bits}")
    tiny, huge = jnp.finfo(dtype).smallest_subnormal, jnp.finfo(dtype).max
    known = np.array([0, tiny, huge, np.inf, np.nan, 1 / 3], jnp.dtype(dtype)).view(unsigned)
    payloads = known[4] | np.arange(1, 4, dtype=unsigned)
    signaling = known[3] + np.arange(1, 4, dtype=unsigned)
    every = np.concatenate([known, payloads, signaling])
    every = np.concatenate([every, every | unsigned.type(1 << (bits - 1))]).view(jnp.dtype(dtype))
    network = jnn.mlp([len(every), 1])
    for convert in (jnp.asarray, np.asarray):
        params = ({"W": convert(every[:, None]), "b": convert(every[:1])},)
        saved = Model(network, likelihoods.Gaussian(), params, extra={"all": convert(every)})
        loaded = through(path, saved)
        assert_same(loaded, saved)
        assert np.asarray(loaded.params[0]["W"]).view(unsigned).ravel().tolist() == every.view(unsigned).tolist()


def test_arrays_in_any_memory_order(path):
    network = jnn.mlp([3, 4])
    columns = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    strided, swapped = np.arange(8.0)[::2], np.arange(4.0).astype(">f8")
    saved = Model(network, likelihoods.Gaussian(), ({"W": columns, "b": strided},), extra={"swapped": swapped})
    loaded = through(path, saved)
    np.testing.assert_array_equal(loaded.params[0]["W"], columns)
    np.testing.assert_array_equal(loaded.params[0]["b"], strided)
    np.testing.assert_array_equal(loaded.extra["swapped"], swapped)
    loaded.params[0]["b"][:] = 0  # NumPy arrays are one's own


def test_ensembles(path):
    saved = ensemble()
    assert saved.members == (3,)
    loaded = through(path, saved)
    assert_same(loaded, saved)
    (own,), target, members = saved.transforms, saved.target_transform, []
    for m in range(3):
        z = (X - np.asarray(own.mean)[m]) / np.asarray(own.scale)[m]
        a = jax.jit(saved.network.apply)(jax.tree.map(lambda p, m=m: p[m], saved.params), z)
        members.append(np.asarray(jax.nn.softmax(a)) * np.asarray(target.scale)[m] + np.asarray(target.mean)[m])
    np.testing.assert_allclose(jax.jit(loaded.mean)(X), np.mean(members, axis=0), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(loaded.mean)(X[0]), np.mean(members, axis=0)[0], rtol=1e-5)
    folds = Model(saved.network, saved.likelihood, jax.tree.map(lambda p: jnp.stack([p, p]), saved.params))
    assert through(path, folds).members == (2, 3)
    assert jax.eval_shape(folds.mean, X).shape == (20, 2)


def test_mean_goes_from_raw_inputs_to_raw_targets():
    first, second = around()["both"]
    targets = standardize(2)
    saved = model("sweep", likelihoods.Gaussian(), target_transform=targets)
    expected = jax.jit(lambda x: targets.undo(saved.network.apply(saved.params, second.apply(first.apply(x)))))
    np.testing.assert_allclose(jax.jit(saved.mean)(X), expected(X), rtol=1e-6)
    assert saved.inputs == 4


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a", "\ud800", "Ωμέγα"],
        [3, 1, -(10**30)],
        [True, False],
        [0.5, -0.0, float("inf")],
        np.array([3, 1], np.uint8),
        np.array(["x", "yy"]),
        [(1, "a"), (2, "b")],
    ],
    ids=str,
)
def test_labels_of_any_type(path, labels):
    encoding = OneHot.fit(labels)
    loaded = through(path, model(encoding=encoding)).encoding
    assert loaded == encoding
    assert_same(loaded.classes, encoding.classes)
    assert loaded.dtype == encoding.dtype
    assert_same(loaded.labels(np.arange(len(encoding.classes))), encoding.labels(np.arange(len(encoding.classes))))


def test_anything_else_worth_keeping(path):
    extra = {
        "nothing": None,
        "numbers": [1, -0.0, float("nan"), float("-inf"), 1e-320, True],
        "nan with a payload": struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0],
        "nested": {"a.b": np.arange(3), "a": {"b": np.zeros((0, 2), np.int8)}, "$": "dollar", 1: ("one",)},
        "strings": np.array([["feature", "ß"], ["", "x"]], object),
        "fixed": np.array(["a", "bcd"]),
        "scalars": [np.float64(0.1), np.float32(0.1), np.complex64(2 + 1j), np.bool_(True), np.str_("x")],
        "keys": jax.random.split(jax.random.key(3), 2),
        "other generator": jax.random.key(3, impl="rbg"),
        "eight bits": jnp.ones(3, jnp.float8_e4m3fn),
        "jnn": [likelihoods.Poisson(), activations.tanh, NETWORKS["blocks"], OneHot.fit([1, 2]), np.dtype("M8[us]")],
    }
    loaded = through(path, model(extra=extra)).extra
    assert_same(loaded, extra)
    assert np.asarray(loaded["numbers"][1]).tobytes() == np.float64(-0.0).tobytes()


def test_extreme_networks(path):
    for network in (
        jnn.dag(1, 1, [(1, 2)]),
        jnn.dag(2, 3, [(1, 3), (2, 4), (1, 5)], evaluation="sweep"),
        jnn.networks.as_dag(NETWORKS["shortcuts"], params_of(NETWORKS["shortcuts"]))[0],
        networks.Layered(2, (networks.Layer(3, activations.tanh, (0,)), networks.Layer(1, activations.tanh, (0,)))),
    ):
        saved = Model(network, likelihoods.Gaussian(), params_of(network))
        assert_same(through(path, saved), saved)


def test_custom_objects_are_named_on_both_sides(path):
    pair = (jnp.sin, jnp.cos)

    class Laplace(likelihoods.Gaussian):
        """Of one's own."""

    network, own = jnn.mlp([4, 3, 2], hidden=pair), Laplace(2.0)
    encoding = OneHot.fit([Color.RED, Color.BLUE])
    custom = {"sine": pair, "laplace": own, "red": Color.RED, "blue": Color.BLUE}
    saved = Model(network, own, params_of(network), encoding=encoding)
    save(path, saved, custom=custom)
    assert_same(load(path, custom=custom), saved)
    with (
        typechecker.off(),
        pytest.raises(
            persistence.UnsupportedError, match=r"saved by the name 'sine': load\(path, custom=\{'sine': \.\.\.\}\)"
        ),
    ):
        load(path)


def test_the_file_is_plain_safetensors(path):
    saved = model("shortcuts")
    save(path, saved)
    arrays = load_file(path)
    assert sorted(arrays)[:3] == ["params.0.W", "params.0.b", "params.1.W"]
    np.testing.assert_array_equal(arrays["params.0.W"], saved.params[0]["W"])
    with safetensors.safe_open(path, "numpy") as file:
        described = json.loads(file.metadata()["jnn"])
    assert described["format"] == 1
    assert described["description"]["network"]["layers"][0]["activation"]["name"] == "tanh"
    first = path.read_bytes()
    save(path, saved)
    assert path.read_bytes() == first  # equal models make equal files


def test_large_graphs_are_arrays_not_text(path):
    rng = np.random.default_rng(0)
    edges = np.unique(np.sort(rng.integers(1, 3000, size=(30_000, 2)), axis=1), axis=0)
    edges = edges[(edges[:, 0] < edges[:, 1]) & (edges[:, 1] > 50) & (edges[:, 0] < 2990)]
    with pytest.warns(networks.UselessNeuronWarning):
        network = jnn.dag(50, 10, edges, neurons=3000, evaluation="sweep")
    saved = Model(network, likelihoods.Categorical(), params_of(network))
    assert_same(through(path, saved), saved)
    assert int.from_bytes(path.read_bytes()[:8], "little") < 2000


def test_nothing_is_warned_of_on_loading(path):
    with pytest.warns(networks.UselessNeuronWarning):
        network = jnn.dag(4, 2, [*EDGES[:7], (1, 9)], evaluation="sweep", neurons=10)
    saved = Model(network, likelihoods.Gaussian(), params_of(network))
    assert_same(through(path, saved), saved)


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
def test_permissions_and_links_stay(path, tmp_path):
    before = os.umask(0o027)
    try:
        save(path, model())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    link = tmp_path / "latest"
    link.symlink_to(path)
    save(link, model("sweep"))
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert_same(load(path), model("sweep"))
