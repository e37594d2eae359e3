"""Examples that stay on the host: the same training as with all of them on the device."""

import functools
import pathlib
import types

import jax
import numpy as np
import optax
import pytest

from jnn import adam, fit, mlp, stopping
from jnn.likelihoods import Categorical, Gaussian
from jnn.training import streaming
from jnn.training.program import Examples
from jnn.training.streaming import Source
from tests import typechecker

RNG = np.random.default_rng(5)
X = RNG.normal(size=(53, 3))
Y = np.sin(X[:, :1]) + X[:, 1:2]
LABELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)
NETWORK = mlp([3, 4, 1])
train = functools.partial(fit, NETWORK, Gaussian(), X, Y, epochs=4, batch_size=8, optimizer=adam(0.02))

SETTINGS = {
    "weights, in the given order": {"weights": np.linspace(0.5, 2, 53), "reduction": "sum", "shuffle": False},
    "own validation, every second epoch": {"validation": (X[:9], Y[:9]), "validate_every": 2},
    "a fraction held out, with weights": {"validation": 0.3, "weights": np.linspace(0.5, 2, 53)},
    "a rule that asks for the gradient": {"stopping": stopping.GradientNorm(1e-9), "weight_decay": 0.1},
    "optax": {"optimizer": optax.chain(optax.clip(1.0), optax.sgd(0.05, momentum=0.5))},
}


def assert_same(hosted, whole):
    """To a few ulps: validation risks are sums over blocks."""
    for a, b in zip(jax.tree.leaves(hosted.history), jax.tree.leaves(whole.history), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    for a, b in zip(jax.tree.leaves((hosted.params, hosted.last_params)),
                    jax.tree.leaves((whole.params, whole.last_params)), strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)
    assert int(hosted.epochs) == int(whole.epochs)
    assert int(hosted.best_epoch) == int(whole.best_epoch)
    assert str(hosted.stop_reason) == str(whole.stop_reason)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_it_is_the_same_training(settings, key):
    # 53 examples in batches of 8: the last has 5; two of them a block, and the last block has one.
    assert_same(train(key=key, rows_on_device=32, **settings), train(key=key, **settings))


def test_held_out_parts_are_stratified_alike(key):
    classify = functools.partial(fit, mlp([3, 4, 3]), Categorical(), X, key=key, epochs=3, batch_size=8, validation=0.2)
    whole = classify(LABELS)
    assert_same(classify(LABELS, rows_on_device=16), whole)
    one_hot = np.eye(3)[LABELS]
    assert_same(classify(one_hot, rows_on_device=16), classify(one_hot))


def test_no_more_than_asked_for_is_sent(key, monkeypatch):
    sent = []
    original = Source.rows

    def counted(self, program, numbers):
        sent.append(numbers)
        return original(self, program, numbers)

    monkeypatch.setattr(Source, "rows", counted)
    train(key=key, rows_on_device=35, validation=0.4)
    # 32 to train on, as four batches; 21 held out
    assert sum(len(np.unique(numbers)) for numbers in sent) == 4 * (32 + 21)
    assert max(numbers.size for numbers in sent) <= 35 // 2  # half is being worked on while the other half comes


@pytest.mark.parametrize(
    ("settings", "blocks"), [({}, "tttt"), ({"validation": 0.4}, "ttvv"), ({"validation": (X[:9], Y[:9])}, "tttt")]
)
def test_each_block_is_read_while_the_one_before_is_worked_on(settings, blocks, key, monkeypatch):
    """Over the ends of epochs, too, and no further; none is read that is not asked for."""
    events = []

    def told(where, name, letter):
        original = getattr(where, name)
        monkeypatch.setattr(where, name, lambda *given: events.append(letter) or original(*given))

    told(Source, "rows", "r")
    told(streaming, "_take", "t")
    if blocks.endswith("v"):
        told(streaming, "_risk", "v")
    told(streaming, "_end", ".")
    train(key=key, rows_on_device=32, epochs=3, callback=lambda seen: False, **settings)
    # Compiling asks for no block.
    assert "".join(events) == "r" + "".join("".join(f"{block}r" for block in blocks) + "." for _ in range(3))[:-2] + "."


def test_memory_mapped_files(tmp_path: pathlib.Path, key):
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    y = Y.astype(np.float32)
    settings = {"key": key, "epochs": 2, "batch_size": 8}
    with typechecker.off():  # a memory map is an array by inheritance
        result = fit(NETWORK, Gaussian(), mapped, y, rows_on_device=32, **settings)
    assert result.params[0]["W"].dtype == np.float32
    np.testing.assert_array_equal(
        result.params[0]["W"], fit(NETWORK, Gaussian(), X.astype(np.float32), y, **settings).params[0]["W"]
    )


def test_it_goes_on_where_it_was_interrupted(key):
    first = train(key=key, rows_on_device=32, callback=lambda seen: seen.epoch == 2)
    assert int(first.epochs) == 2
    assert_same(train(key=key, rows_on_device=32, resume=first), train(key=key))


# --- blocks, by hand


def source(rows_on_device, n=53, weights=None, dtype=np.float32):
    return Source(Examples(X[:n], LABELS[:n], weights), dtype, rows_on_device)


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 53)])
@pytest.mark.parametrize(("n", "rows_on_device", "a_block"), [(53, 35, 2), (53, 16, 1), (48, 35, 2), (17, 200, 12)])
@pytest.mark.parametrize("begin", [0, 2])
def test_blocks_hold_every_example_once_in_the_epochs_order(n, rows_on_device, a_block, begin, weights):
    """Mini-batches of 8, as many at once as half of the rows allow; the last is filled up by its last example."""
    program, order = types.SimpleNamespace(batch_size=8, division=None), RNG.permutation(n)
    own = source(rows_on_device, n, weights)
    assert own.half == rows_on_device // 2
    with typechecker.off():
        blocks = [jax.tree.map(np.copy, block) for block in own.blocks(program, order, begin)]
        batches = -(-n // 8)
        assert [int(block.first) for block in blocks] == list(own.firsts(program, n, begin))
    assert [int(block.first) for block in blocks] == list(range(begin, batches, a_block))
    assert [int(block.steps) for block in blocks] == [min(a_block, batches - int(b.first)) for b in blocks]
    for block in blocks:
        assert int(block.count) == n
        assert block.order is None
        x, y, v = block.examples
        assert (x.shape, y.shape, x.dtype, y.dtype) == ((a_block, 8, 3), (a_block, 8), np.float32, LABELS.dtype)
        place = int(block.first) * 8 + np.arange(a_block * 8)
        rows = order[np.minimum(place, n - 1)]
        np.testing.assert_array_equal(x.reshape(-1, 3), X[rows].astype(np.float32))
        np.testing.assert_array_equal(y.reshape(-1), LABELS[rows])
        if weights is None:
            assert v is None
        else:
            np.testing.assert_array_equal(v.reshape(-1), weights[rows].astype(np.float32))


@pytest.mark.parametrize(("count", "rows_on_device", "size"), [(21, 200, 22), (3, 200, 16), (21, 35, 17), (40, 35, 17)])
def test_blocks_to_validate_on_hold_every_number_once_in_order(count, rows_on_device, size):
    program, own = types.SimpleNamespace(batch_size=8, division=None), source(rows_on_device)
    numbers = RNG.permutation(53)[:count]
    assert own.validated_at_once(count) == size
    ordered = np.sort(numbers)
    with typechecker.off():
        blocks = [jax.tree.map(np.copy, block) for block in own.validation_blocks(program, numbers)]
    assert len(blocks) == -(-count // size)
    for number, block in enumerate(blocks):
        some = ordered[number * size : (number + 1) * size]
        assert (int(block.first), int(block.steps), int(block.count)) == (1, 1, len(some))
        rows = np.concatenate([some, np.full(size - len(some), some[-1])])
        np.testing.assert_array_equal(block.examples.x, X[rows][None].astype(np.float32))
        np.testing.assert_array_equal(block.examples.y, LABELS[rows][None])


def test_two_blocks_take_turns_in_memory():
    """A block is there until the second one after it is; each leaf begins where XLA on CPU need not copy it."""
    program = types.SimpleNamespace(batch_size=8, division=None)
    with typechecker.off():
        blocks = source(35, weights=np.linspace(0.5, 2, 53)).blocks(program, RNG.permutation(53))
        first = next(blocks)
        kept = jax.tree.map(np.copy, first)
        second = next(blocks)
        jax.tree.map(np.testing.assert_array_equal, first, kept)
        third = next(blocks)
    for old, other, new in zip(first.examples, second.examples, third.examples, strict=True):
        assert np.shares_memory(old, new)
        assert not np.shares_memory(other, new)
        assert [leaf.ctypes.data % 64 for leaf in (old, other, new)] == [0, 0, 0]
    leaves = [*first.examples, *second.examples]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(leaves) for b in leaves[:i])


UNALIGNED = np.frombuffer(b"-" + X.astype(np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)
INPUTS = {
    "as they are trained on": X.astype(np.float32),
    "column by column": np.asfortranarray(X.astype(np.float32)),
    "every second row": np.repeat(X.astype(np.float32), 2, axis=0)[::2],
    "of the other byte order": X.astype(">f4"),
    "of another width": X,
    "at odd addresses": UNALIGNED,
}


@pytest.mark.parametrize("x", INPUTS.values(), ids=INPUTS)
def test_rows_of_any_array_are_read_without_a_copy_of_all(x):
    numbers = RNG.permutation(53)[:24].reshape(3, 8)
    with typechecker.off():
        got = streaming._Buffers().take(x, numbers, np.dtype(np.float32))
    np.testing.assert_array_equal(got, X.astype(np.float32)[numbers])
    many = np.lib.stride_tricks.as_strided(x, (2**40, 3), (0, x.strides[1]))  # no memory holds a copy of it
    with typechecker.off():
        got = streaming._Buffers().take(many, numbers + 2**39, np.dtype(np.float32))
    np.testing.assert_array_equal(got, np.broadcast_to(X[0].astype(np.float32), (3, 8, 3)))


def test_two_mini_batches_are_room_enough(key):
    assert_same(train(key=key, rows_on_device=16, epochs=1), train(key=key, epochs=1))


def test_what_it_cannot_do(key):
    with pytest.raises(ValueError, match=r"at least two mini-batches, 16: .*; got 15"):
        train(key=key, rows_on_device=15)
    with pytest.raises(
        ValueError, match="are taken in mini-batches: expected a batch_size below the 53 examples, got None"
    ):
        train(key=key, rows_on_device=32, batch_size=None)
    with typechecker.off(), pytest.raises(ValueError, match=r"needs a host .* Leave it out"):
        jax.jit(lambda key: train(key=key, rows_on_device=32).params)(key)
    x = X.copy()
    x[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinite values .* in 1 rows, the first is row 7"):
        fit(NETWORK, Gaussian(), x, Y, key=key, batch_size=8, rows_on_device=32)
