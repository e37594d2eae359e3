"""Mini-batches divided among devices: the same training, by one reduction a step."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jnn import adam, dag, fit, levenberg_marquardt, mlp, rprop, stopping
from jnn.likelihoods import Gaussian
from jnn.training import program
from jnn.training.dividing import (
    AXIS,
    Division,
    check_alike,
    divided,
    exchanged,
    gathered,
    here,
    listed,
    part,
    places,
    summed,
    together,
)
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


# --- parts, by hand


@pytest.mark.parametrize(
    ("devices", "shards", "parts", "own"), [(2, None, 2, 1), (4, None, 4, 1), (2, 8, 8, 4), (1, 2, 2, 2)]
)
@pytest.mark.parametrize("size", [1, 5, 8, 11])
def test_every_place_is_worked_on_once_and_what_fills_up_is_the_last(devices, shards, parts, own, size):
    """Devices as vmapped lanes; a place beyond the last is there, but no example is."""
    division = Division(tuple(range(devices)), shards)
    assert (division.parts, division.own) == (parts, own)
    each = -(-size // parts)
    found = jax.vmap(lambda _: places(division, size), axis_name=AXIS)(jnp.arange(devices))
    np.testing.assert_array_equal(found, np.arange(parts * each).reshape(devices, own, each))
    values = np.arange(size) * 10.0
    held = jax.vmap(lambda _: part(division, jnp.asarray(values)), axis_name=AXIS)(jnp.arange(devices))
    np.testing.assert_array_equal(held, np.minimum(np.asarray(found), size - 1) * 10)
    batches = np.arange(3 * size).reshape(3, size)
    cut = division.cut(batches)
    assert cut.shape == (3, parts, each)
    wide = cut.reshape(3, -1)
    np.testing.assert_array_equal(wide[:, :size], batches)
    np.testing.assert_array_equal(wide[:, size:], np.broadcast_to(batches[:, -1:], wide[:, size:].shape))


def test_without_a_division_everything_is_here():
    np.testing.assert_array_equal(places(None, 5), np.arange(5))
    np.testing.assert_array_equal(part(None, jnp.arange(5)), np.arange(5))
    assert summed(None, lambda examples: examples + 1, 3) == 4
    assert together(None, 3, 1) == (3, 1)
    assert exchanged(None, "as it is") == "as it is"


def test_sums_keep_every_leaf_in_its_place():
    """A tree of several shapes, which goes through one vector."""
    division = Division((0, 1))
    evaluate = lambda rows: {"a": jnp.sum(rows), "b": (rows.T @ rows, jnp.max(rows))}  # noqa: E731
    rows = RNG.normal(size=(2, 1, 3, 2))
    found = jax.vmap(functools.partial(summed, division, evaluate), axis_name=AXIS)(jnp.asarray(rows))
    expected = jax.tree.map(lambda *leaves: sum(leaves), *(evaluate(jnp.asarray(own[0])) for own in rows))
    for lane in range(2):
        jax.tree.map(lambda f, e, lane=lane: np.testing.assert_allclose(f[lane], e, rtol=1e-14), found, expected)


def test_rows_are_spread_over_the_devices_part_by_part():
    division = Division(tuple(TWO))
    numbers = np.array([[[0, 1], [2, 2]], [[3, 4], [5, 5]]])  # (steps, parts, places)
    x = RNG.normal(size=(6, 3))
    found = division.spread(lambda some: x[some], numbers, x)
    np.testing.assert_array_equal(found, x[numbers])
    assert [shard.data.shape for shard in found.addressable_shards] == [(2, 1, 2, 3)] * 2
    whole = division.everywhere({"x": x})["x"]
    assert [shard.data.shape for shard in whole.addressable_shards] == [(6, 3)] * 2
    np.testing.assert_array_equal(here({"x": whole})["x"], x)
    assert len(here(whole).devices()) == 1
    assert not division.several_processes


def test_inputs_that_lie_on_several_devices_are_gathered():
    spread = Division(tuple(TWO)).everywhere(jnp.arange(4.0))
    one = jax.device_put(jnp.arange(3.0), TWO[0])
    given = {"x": spread, "y": (one, np.arange(2)), "none": None}
    for division, device in ((Division(tuple(TWO)), None), (None, TWO[1])):
        found = gathered(given, division, device)
        np.testing.assert_array_equal(found["x"], np.arange(4.0))
        assert len(found["x"].devices()) == 1
        np.testing.assert_array_equal(found["y"][0], np.arange(3.0))
        assert found["y"][0].devices() == {TWO[0] if device is None else device}
        assert found["y"][1] is given["y"][1]
        assert found["none"] is None
    with pytest.raises(ValueError, match="x lies on 2 devices"):
        gathered(given, None)


def test_which_divisions_arguments_ask_for():
    assert divided(None, None) is None
    assert divided(TWO[:1], None) is None
    assert divided(TWO, None) == Division(tuple(TWO))
    assert divided(None, 2) == divided(TWO[:1], 2) == Division(tuple(TWO[:1]), 2)
    with typechecker.off():
        assert divided(TWO, np.int64(4)) == Division(tuple(TWO), 4)
        assert listed(TWO) == listed(np.array(TWO)) == tuple(TWO)
    for devices, shards in ((TWO, 3), (TWO[:1], 1), (TWO, 12), (TWO[:1], 6)):
        with pytest.raises(ValueError, match="expected shards"):
            divided(devices, shards)


# --- several processes, one after another


class _Sent(Exception):
    pass


def processes(monkeypatch, count, call):
    """What `call` returns in each of so many processes; whatever they send, all of them send, before one goes on."""
    from jax.experimental import multihost_utils

    monkeypatch.setattr(jax, "process_count", lambda: count)
    rounds: list[list[np.ndarray]] = []
    while True:
        results, sent = [], []
        for number in range(count):
            known = iter(rounds)

            def gather(value, known=known):
                for messages in known:
                    return np.stack(messages)
                raise _Sent(value)

            monkeypatch.setattr(multihost_utils, "process_allgather", gather)
            monkeypatch.setattr(jax, "process_index", lambda number=number: number)
            try:
                results.append(call(number))
            except _Sent as message:
                sent.append(np.asarray(message.args[0]))
        if not sent:
            return results
        rounds.append(sent)


def over(count):
    return Division(tuple(types.SimpleNamespace(process_index=number) for number in range(count)))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("rows", [3, 6, 7])
def test_each_process_gets_the_rows_of_all(count, rows, monkeypatch):
    """To the last bit, in arrays of any dtype and shape that may be written to."""
    whole = {
        "w": RNG.normal(size=(rows, 2, 3)).astype(np.float32),
        "n": np.arange(rows),
        "b": np.arange(rows) % 2 == 0,
        "e": RNG.normal(size=(rows, 1)),
    }

    def own(number):
        mine = np.arange(rows) % count == number
        return exchanged(over(count), jax.tree.map(lambda leaf: np.where(
            mine.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, np.zeros((), leaf.dtype)), whole))  # fmt: skip

    for found in processes(monkeypatch, count, own):
        for name, leaf in whole.items():
            assert found[name].dtype == leaf.dtype
            np.testing.assert_array_equal(found[name], leaf)
            found[name][0] = 0


def test_the_largest_value_of_any_process_counts_for_all(monkeypatch):
    values = [(0, 5), (1, 2), (0, 7)]
    found = processes(monkeypatch, 3, lambda number: together(over(3), *values[number]))
    assert found == [(1, 7)] * 3


def test_processes_with_other_problems_are_told_which_part_differs(monkeypatch):
    alike = {"x": "1", "y": "2"}

    def said(problems):
        def call(number):
            try:
                check_alike(over(2), problems[number])
            except ValueError as error:
                return str(error).split(". Rows")[0]
            return None

        return processes(monkeypatch, 2, call)

    assert said([alike, dict(alike)]) == [None, None]
    expected = "expected the same call in every process, but y differ"
    assert said([alike, alike | {"y": "3"}]) == [expected] * 2
    assert said([alike | {"y": "3"}, alike]) == [expected] * 2


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
