"""Mini-batches divided among devices: the same training, by one reduction a step."""

import functools
import re

import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jnn import adam, dag, fit, levenberg_marquardt, mlp, rprop, stopping
from jnn.likelihoods import Gaussian
from jnn.training import program
from jnn.training.dividing import AXIS, Division, summed
from tests import typechecker

from .training_oracles import assert_close

RNG = np.random.default_rng(9)
X = RNG.normal(size=(27, 3))
Y = np.sin(X[:, :1]) + X[:, 1:2]
NETWORK = mlp([3, 4, 1], shortcuts=True)
V = np.linspace(0.5, 2, 27)
TWO = jax.devices()
train = functools.partial(fit, NETWORK, Gaussian(), X, Y, epochs=5, batch_size=5, optimizer=adam(0.02))

SETTINGS = {
    "weights, a fraction held out, early stopping": {
        "weights": V, "validation": 0.3, "stopping": stopping.Patience(2), "weight_decay": 0.1,
    },
    "own validation, streamed": {"validation": (X[:9], Y[:9], V[:9]), "rows_on_device": 11},
    "streamed, with weights": {"validation": 0.3, "rows_on_device": 11, "weights": V},
    "Rprop on all examples": {"optimizer": rprop(), "batch_size": None, "weights": V},
    "Levenberg-Marquardt, whose matrix is summed": {
        "optimizer": levenberg_marquardt(), "batch_size": None, "weights": V, "weight_decay": 0.1, "validation": 0.3,
    },
    # With little damping, two steps by conjugate gradients carry an ulp of x to 1e-7, on one device as well.
    "Levenberg-Marquardt by products": {
        "optimizer": levenberg_marquardt(1.0, solver="cg"), "batch_size": None, "epochs": 3, "weight_decay": 0.1,
    },
    "L-BFGS, whose line search asks for more errors": {
        "optimizer": optax.lbfgs(linesearch=optax.scale_by_backtracking_linesearch(8)), "batch_size": None,
        "weight_decay": 0.1, "epochs": 3,
    },
    "autodiff, optax, a rule that asks for the gradient": {
        "gradient": "autodiff", "optimizer": optax.chain(optax.clip(1.0), optax.sgd(0.002, momentum=0.5)),
        "stopping": stopping.GradientNorm(1e-9), "reduction": "sum",
    },
    "online, where one device has nothing to do": {"batch_size": 1, "epochs": 2},
}  # fmt: skip


def assert_same(divided, whole, rtol=1e-12):
    """To the rounding of sums in another order."""
    assert_close((divided.params, divided.last_params), (whole.params, whole.last_params), rtol)
    for a, b in zip(divided.history, whole.history, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol)
    assert int(divided.best_epoch) == int(whole.best_epoch)
    assert str(divided.stop_reason) == str(whole.stop_reason)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_it_is_the_same_training(settings, key):
    assert_same(train(key=key, devices=TWO, **settings), train(key=key, **settings))


@pytest.mark.parametrize(("devices", "shards"), [(TWO, 4), (TWO[:1], 2)], ids=["two devices", "one"])
def test_by_shards_it_is_the_same_training(devices, shards, key):
    """Beside the same bits on any number of devices: the sums are the plain program's, to rounding."""
    assert_same(train(key=key, devices=devices, shards=shards, weights=V), train(key=key, weights=V))


def test_levenberg_marquardt_by_shards_has_the_same_bits_on_any_number_of_devices(key):
    run = functools.partial(
        train, key=key, optimizer=levenberg_marquardt(), batch_size=None, weight_decay=0.1, shards=4
    )
    one, two = run(devices=TWO[:1]), run(devices=TWO)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shards", [4, 8, 16])
def test_sums_of_shards_have_the_same_bits_on_any_number_of_devices(shards):
    """And are those of NumPy, added in pairs; float32, so that another order would show. Devices are vmapped lanes."""
    parts = RNG.normal(size=(shards, 3)).astype(np.float32)
    expected = parts
    while len(expected) > 1:
        expected = expected[::2] + expected[1::2]
    for count in (1, 2, 4, 8):
        if shards < 2 * count:
            continue
        division = Division(tuple(range(count)), shards)
        summing = jax.jit(jax.vmap(functools.partial(summed, division, lambda part: part), axis_name=AXIS))
        found = summing(parts.reshape(count, division.own, 3))
        np.testing.assert_array_equal(found, np.repeat(expected, count, axis=0))


def test_a_dag_too(key):
    network = dag(3, 1, [(1, 4), (2, 4), (3, 5), (4, 5), (1, 6), (4, 6), (5, 6)])
    of_dag = functools.partial(fit, network, Gaussian(), X, Y, key=key, epochs=3, batch_size=5)
    assert_same(of_dag(devices=TWO), of_dag())


@pytest.mark.parametrize(("batch_size", "settings"), [(5, {}), (None, {"validation": 0.3})])
def test_a_step_has_one_reduction_of_one_vector(batch_size, settings, key, monkeypatch):
    texts = []
    original = program.run

    def spied(*arguments):
        texts.append(original._plain.lower(*arguments).compile().as_text())
        return original(*arguments)

    monkeypatch.setattr(program, "run", spied)
    train(key=key, devices=TWO, batch_size=batch_size, epochs=1, weight_decay=0.1, **settings)
    reductions = re.findall(r"= (\S+) all-reduce(?:-start)?\(([^)]*)\)", texts[0])
    weights = NETWORK.weight_count
    sizes = [f"f64[{weights + 1}]", *["f64[2]"] * len(settings)]  # error and gradient; the validation's risk
    assert sorted(shape.split("{")[0] for shape, _ in reductions) == sorted(sizes)
    assert all("," not in operands for _, operands in reductions)
    assert not re.search(r"all-gather|all-to-all|collective-permute", texts[0])


def test_callbacks_and_resuming(key):
    seen = []
    begun = train(key=key, devices=TWO, callback=lambda now: seen.append(now.params) or now.epoch == 2)
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves((seen, begun)))
    assert_same(train(key=key, devices=TWO, resume=begun), train(key=key))


def test_one_device_is_the_plain_program_there(key):
    plain = train(key=key)
    there = fit(NETWORK, Gaussian(), jax.device_put(X, TWO[0]), Y, key=key, epochs=5, batch_size=5,
                optimizer=adam(0.02), devices=TWO[1:])  # fmt: skip
    assert {device for leaf in jax.tree.leaves(there.params) for device in leaf.devices()} == {TWO[1]}
    jax.tree.map(np.testing.assert_array_equal, there.params, plain.params)


def test_inputs_that_are_divided_already(key):
    mesh = Division(tuple(TWO)).mesh
    x, y = (jax.device_put(a[:26], NamedSharding(mesh, PartitionSpec("devices"))) for a in (X, Y))
    run = functools.partial(fit, NETWORK, Gaussian(), x, y, key=key, epochs=2, batch_size=5)
    with pytest.raises(ValueError, match=r"^x lies on 2 devices. To divide .* pass devices="):
        run()
    plain = fit(NETWORK, Gaussian(), X[:26], Y[:26], key=key, epochs=2, batch_size=5)
    assert_same(run(devices=TWO), plain)
    assert_same(run(devices=TWO[:1]), plain)


def test_what_it_refuses(key):
    for devices, shards, message in (
        ([], None, "at least one device"),
        (TWO[:1] * 2, None, "each device once"),
        (TWO, 2, "shards of at least two for each of the 2 devices, got 2"),
        (TWO, True, "shards of at least two"),
        (None, 6, "powers of two, .*; got 6 shards on 1 devices"),
    ):
        with pytest.raises(ValueError, match=message):
            train(key=key, devices=devices, shards=shards)
    for devices in ("cpu", TWO[0], [0]):
        with typechecker.off(), pytest.raises(TypeError, match=r"devices as a list, as in devices=jax.devices\(\)"):
            train(key=key, devices=devices)
    with pytest.raises(ValueError, match=r"devices needs a host .* Leave it out"):
        jax.jit(lambda key: train(key=key, devices=TWO).params)(key)
