"""Who the members are, what each trains on, and how they are lined up: by hand, hardly anything compiled."""

import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnn import adam, mlp, stopping
from jnn.ensembles import scheduling
from jnn.ensembles.fitting import _checked_rows, _members, _size_of_part
from jnn.ensembles.scheduling import Work, _merged, _Queue, _risks, _running, _with_room, _Worker
from jnn.ensembles.widths import places, widest
from jnn.training.observers import Best, Recorded
from jnn.training.program import State
from jnn.training.structure import rounded_up

from .. import typechecker

NETWORK = mlp([2, 3, 1])
KEY = jax.random.key(5)


@pytest.mark.parametrize(
    "told",
    [
        {"members": 3},
        {"network": [NETWORK] * 3},
        {"key": jax.random.split(KEY, 3)},
        {"weights": np.ones((3, 9))},
        {"rows": np.ones((3, 4), int)},
        {"held_out": np.ones((3, 2), int)},
        {"optimizer": adam(np.ones(3))},
        {"optimizer": adam(0.1, b1=jnp.full(3, 0.5))},
        {"stopping": stopping.Patience(np.arange(1, 4))},
        {"stopping": [stopping.Patience(2), stopping.GradientNorm(np.ones(3))]},
        {"weight_decay": np.ones(3)},
        {"params": jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), NETWORK.init(KEY))},
    ],
    ids=lambda told: next(iter(told)),
)
def test_whatever_has_one_entry_for_each_member_tells_their_number(told) -> None:
    given = {"network": NETWORK, "key": KEY, "members": None, "params": None} | told
    varied = {name: given.pop(name, None) for name in ("weights", "rows", "held_out")}
    settings = {name: given.pop(name) for name in ("optimizer", "stopping", "weight_decay") if name in given}
    networks, keys = _members(given["network"], given["key"], given["members"], given["params"], varied, settings)
    assert networks == (NETWORK,) * 3
    expected = told.get("key", jax.random.split(KEY, 3))
    np.testing.assert_array_equal(jax.random.key_data(keys), jax.random.key_data(expected))


def test_one_weight_for_each_example_tells_nothing() -> None:
    varied = {"weights": np.ones(9), "rows": None, "held_out": None}
    assert len(_members(NETWORK, KEY, 2, None, varied, {"weight_decay": np.ones(())})[1]) == 2
    with pytest.raises(ValueError, match="expected the number of members"):
        _members(NETWORK, KEY, None, None, varied, {})


# --- rows


@pytest.mark.parametrize(
    ("name", "whole", "size"), [("rows", False, 256), ("rows", True, 4), ("held_out", False, 16), ("held_out", True, 4)]
)
def test_rows_that_are_there_come_first_and_the_last_fills_up(name, whole, size) -> None:
    """In mini-batches as many places as there are examples to draw from; where all are worked on, hardly more."""
    given = np.array([[3, -1, 5, 0], [-1, -1, 7, -2], [1, 1, 1, 2]])
    rows = _checked_rows(given, name, 9, whole)
    np.testing.assert_array_equal(rows.count, [3, 1, 4])
    for own, expected in zip(np.asarray(rows.index), ([3, 5, 0], [7], [1, 1, 1, 2]), strict=True):
        np.testing.assert_array_equal(own, [*expected, *[expected[-1]] * (size - len(expected))])
    assert rows.index.dtype == np.int32
    assert _checked_rows(None, name, 9, whole) is None
    largest = _checked_rows(np.array([[8]]), name, 9, whole)  # the last example's number
    assert (int(largest.index[0, 0]), int(largest.count[0])) == (8, 1)
    many = _checked_rows(np.tile(np.arange(9), (1, 40)), "rows", 9, False)  # some of them forty times
    assert many.index.shape == (1, rounded_up(360))


def test_sizes_of_parts_are_halves_of_halves() -> None:
    """The smallest of n, ⌈n/2⌉, ⌈n/4⌉, ... that holds the part, and sixteen."""
    for size in (256, 320, 1000, 17):
        halves = [size]
        while halves[-1] > 1:
            halves.append(-(-halves[-1] // 2))
        for most in range(1, size + 1, 7):
            assert _size_of_part(most, size) == min(h for h in halves if h >= max(most, min(16, size)))
    assert _size_of_part(300, 256) == 320


# --- widths


def test_a_narrow_networks_weights_stand_first_in_each_block_of_the_widest() -> None:
    one, other = mlp([2, 3, 4, 1], shortcuts=True), mlp([2, 5, 2, 1], shortcuts=True)
    wide = widest([one, other])
    assert wide == mlp([2, 5, 4, 1], shortcuts=True)
    assert widest([one, one]) is one
    for network, hidden in ((one, (3, 4)), (other, (5, 2))):
        first, second, last = places(network, wide)
        np.testing.assert_array_equal(first["W"][0], [0, 1])
        np.testing.assert_array_equal(first["W"][1], np.arange(hidden[0]))
        np.testing.assert_array_equal(first["b"][0], np.arange(hidden[0]))
        np.testing.assert_array_equal(second["W"][0], [0, 1, *(2 + np.arange(hidden[0]))])
        np.testing.assert_array_equal(last["W"][0], [0, 1, *(2 + np.arange(hidden[0])), *(7 + np.arange(hidden[1]))])
        np.testing.assert_array_equal(last["W"][1], [0])


# --- the queue


def states(epochs, codes=None, room=10, validated=None):
    epochs = np.asarray(epochs)
    n = len(epochs)
    risks = 10.0 * np.arange(n)[:, None] + np.arange(room)
    known = np.zeros(n, bool) if validated is None else np.asarray(validated)
    best = Best({"w": np.ones((n, 2))}, 0.5 + np.arange(n), epochs, known)
    record = Recorded(risks, risks + 100, np.ones((n, room), bool))
    code = np.zeros(n, int) if codes is None else np.asarray(codes)
    keys = jax.random.split(KEY, n)
    return State({"w": np.arange(2.0 * n).reshape(n, 2)}, None, keys, epochs, code, record, best, (), None, None)


def queue(count=5, shown=None, stop=lambda: False, begun=None, known=None, saved=None, watch=None):
    work = types.SimpleNamespace(
        count=count,
        own=np.arange(count),
        division=None,
        begun=np.zeros(count, bool) if begun is None else np.asarray(begun),
        states=known,
        shared=types.SimpleNamespace(epochs=10),
        program=types.SimpleNamespace(room=10),
    )
    saved = saved or types.SimpleNamespace(due=lambda: False, wanted=False)
    with typechecker.off():
        return _Queue(work, shown, stop, saved, {1, 2}, watch)


def test_members_are_taken_in_their_order_until_workers_are_to_end() -> None:
    stop = []
    line = queue(stop=lambda: bool(stop))
    assert (line.left, line.take(2).tolist(), line.left) == (5, [0, 1], 3)
    assert (line.take(0).tolist(), line.take(9).tolist(), line.left) == ([], [2, 3, 4], 0)
    line = queue()
    line.closed = True
    assert (line.take(2).tolist(), line.left, line.stopped()) == ([], 5, True)
    line = queue(stop=lambda: bool(stop))
    stop.append(1)
    assert (line.take(2).tolist(), line.left, line.stopped()) == ([], 5, True)


def test_who_had_ended_before_does_not_wait() -> None:
    """By a rule, or after the most epochs; but for members that had not begun, whatever their states hold."""
    known = states([10, 3, 9, 10, 0], [0, 2, 0, 0, 0], room=3)
    line = queue(begun=[True, True, True, False, True], known=known)
    assert line.take(9).tolist() == [2, 3, 4]
    np.testing.assert_array_equal(_running(known, 10), [False, False, True, False, True])


def test_states_are_kept_where_their_members_are_and_the_bar_shows_them() -> None:
    seen = []
    line = queue(shown=seen.append)
    line.take(2)
    two = states([4, 9, 6], validated=[True, False, True])
    mine = np.array([1, -1, 0])  # lanes, one of them without a member
    line.report(mine, two)
    # 0.4 and 0.6 of ten epochs
    assert (seen[-1].ended, seen[-1].done) == (0, pytest.approx(1.0))
    line.put(np.array([1]), two, np.array([0]))
    line.report(np.array([-1, -1, 0]), two)
    assert (seen[-1].ended, seen[-1].done) == (1, pytest.approx(1.6))
    np.testing.assert_array_equal(line._states.params["w"], [[0, 0], [0, 1], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(line._states.epoch, [0, 4, 0, 0, 0])
    np.testing.assert_array_equal(line._begun, [False, True, False, False, False])
    queue().report(mine, two)  # nobody looks


def test_risks_are_the_means_of_the_newest_and_of_the_lowest() -> None:
    two = states([4, 0, 2], validated=[True, False, True])
    # Of epochs 4 and 2: 3 and 21; lowest 0.5 and 2.5. Before the first epoch, what stands in its place.
    assert _risks(two, np.array([0, 2])) == "train 12  validation best 1.5"
    assert _risks(two, np.array([1])) == "train 10"
    assert _risks(two, np.array([], int)) == ""


def test_a_checkpoint_is_saved_when_every_worker_has_told_how_far_it_is() -> None:
    saved = []
    store = types.SimpleNamespace(due=lambda: True, wanted=True, save=lambda found, last: saved.append((found, last)))
    line = queue(saved=store)
    line.tell(1, np.array([0, -1]), states([4, 5]))
    assert not saved
    line.tell(1, np.array([0, -1]), states([6, 5]))  # it has told
    line.tell(2, np.array([-1, 3]), states([7, 8]))
    (((found, begun), last),) = saved
    np.testing.assert_array_equal(found.epoch, [4, 0, 0, 8, 0])
    np.testing.assert_array_equal(begun, [True, False, False, True, False])
    assert last is False
    line.leave(2)  # who has no more to do is not waited for
    line.tell(1, np.array([0, 2]), states([7, 1]))
    assert len(saved) == 2
    np.testing.assert_array_equal(saved[1][0][0].epoch, [7, 0, 1, 8, 0])
    line.tell(1, np.array([0, 2]), states([8, 2]))
    assert len(saved) == 3


def test_who_watches_sees_all_members_and_may_ask_to_stop() -> None:
    seen = []
    watch = scheduling.Watch(lambda snapshot: seen.append(snapshot) or len(seen) > 1, every=3)
    line = queue(count=2, watch=watch)
    assert line.every == 3
    assert queue().every is None
    line.watched(np.array([0, 1]), states([4, 2]))
    assert not line.stopped()
    line.watched(np.array([0, 1]), states([6, 4]))
    assert line.stopped()
    assert watch.asked
    np.testing.assert_array_equal(seen[0].epoch, [4, 2])
    np.testing.assert_array_equal(seen[1].epoch, [6, 4])


def test_records_get_room_for_the_epochs_to_come() -> None:
    two = states([3, 3], room=3)
    for room in (2, 3, 5):
        found = np.asarray(_with_room(two, room).record.train_error)
        assert found.shape == (2, room)
        np.testing.assert_array_equal(found[:, :3], np.asarray(two.record.train_error)[:, :room])
        assert (found[:, 3:] == 0).all()


def test_fresh_members_take_the_lanes_that_are_new() -> None:
    fresh, old = {"w": jnp.ones((3, 2)), "n": jnp.arange(3)}, {"w": jnp.zeros((3, 2)), "n": jnp.full(3, 9)}
    found = _merged(jnp.array([True, False, True]), fresh, old)
    np.testing.assert_array_equal(found["w"], [[1, 1], [0, 0], [1, 1]])
    np.testing.assert_array_equal(found["n"], [0, 9, 2])


def test_of_several_processes_each_has_every_so_many_of_the_members(monkeypatch) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    members = types.SimpleNamespace(key=np.zeros(8))
    with typechecker.off():
        alone = Work(None, None, members, None, None)
        assert (alone.count, alone.own.tolist()) == (8, list(range(8)))
        assert Work(None, None, members, None, None, division=object()).own.tolist() == [1, 4, 7]


class Lanes:
    """What `_Worker.work_on` needs: each member trains for as many epochs as its number says, one more at a time."""

    _epochs, device = 10, None

    def __init__(self, lanes, needed):
        self.lanes, self.needed, self.fewest, self.chunks = lanes, np.asarray(needed), [], set()
        self.running = []

    def begin(self, numbers):
        assert len(numbers) == self.lanes
        none = jnp.zeros(self.lanes, int)
        return {"number": jnp.asarray(numbers)}, Trained(jnp.asarray(numbers), none, none)

    def _timed(self, members, states, fewest, chunk):
        self.fewest.append(fewest)
        self.running.append(int(_running(states, self._epochs).sum()))
        self.chunks.add(chunk)
        np.testing.assert_array_equal(members["number"], states.member)
        epoch = np.asarray(states.epoch) + _running(states, self._epochs)
        code = np.where(epoch >= self.needed[np.asarray(states.member)], 1, 0)
        return states._replace(epoch=jnp.asarray(epoch), code=jnp.asarray(code))


class Trained(NamedTuple):
    member: jax.Array
    epoch: jax.Array
    code: jax.Array


class Waiting:
    """A queue that writes down what it is told."""

    every = 3

    def __init__(self, count, stop_after=10**6):
        self.left, self.next, self.count, self.visits, self.stop_after = count, 0, count, 0, stop_after
        self.found, self.seen, self.told = {}, [], []

    def take(self, most):
        some = np.arange(self.next, min(self.next + most, self.count))
        self.next += len(some)
        self.left -= len(some)
        return some

    def stopped(self):
        self.visits += 1
        return self.visits > self.stop_after

    def put(self, members, states, lanes):
        assert not set(members.tolist()) & set(self.found)
        np.testing.assert_array_equal(np.asarray(states.member)[lanes], members)
        self.found |= dict(zip(members.tolist(), np.asarray(states.epoch)[lanes].tolist(), strict=True))

    def watched(self, mine, states):
        self.seen.append(mine[mine >= 0].tolist())
        np.testing.assert_array_equal(np.asarray(states.member)[mine >= 0], mine[mine >= 0])

    def report(self, mine, states):
        assert set(self.found) & set(mine.tolist()) <= set(mine[mine >= 0].tolist())

    def tell(self, worker, mine, states):
        self.told.append((worker, mine[mine >= 0].tolist()))

    def leave(self, worker):
        self.left_by = worker


def worked_on(lanes, needed, **more):
    worker, queue = Lanes(lanes, needed), Waiting(len(needed), **more)
    with typechecker.off():
        _Worker.work_on(worker, queue)
    assert queue.left_by == id(worker)
    assert {who for who, _ in queue.told} == {id(worker)}
    return worker, queue


def test_lanes_take_the_next_member_where_one_has_ended() -> None:
    needed = [2, 5, 1, 3, 99]
    worker, queue = worked_on(2, needed)
    assert queue.found == dict(enumerate([2, 5, 1, 3, 10]))  # the last until all epochs have gone by
    # By hand: 0 ends after two epochs, and 2 takes its lane for one, then 3 for three, while 1 ends after five.
    in_work = [[0, 1]] * 2 + [[2, 1]] + [[3, 1]] * 2 + [[3, 4]] + [[4]] * 9
    assert queue.seen == in_work
    # As many lanes may rest until somebody looks as three quarters leave, but none where nobody waits for one.
    assert worker.fewest == [2] * 5 + [1] * 10
    assert worker.chunks == {3}
    told = [lanes for _, lanes in queue.told]
    assert told == [[0, 1], [1], [1], [3, 1], [3], [4], *[[4]] * 8, []]


def test_lanes_without_a_member_rest() -> None:
    worker, queue = worked_on(4, [2, 3])
    assert queue.found == {0: 2, 1: 3}
    assert queue.seen == [[0, 1], [0, 1], [1]]
    assert worker.fewest == [1] * 3
    assert worker.running == [2, 2, 1]
    assert worked_on(4, [1] * 6)[0].fewest == [3, 1]
    assert worked_on(8, [1] * 9)[0].fewest == [6, 1]
    assert worked_on(3, [2])[1].found == {0: 2}


def test_what_is_interrupted_is_left_as_it_is() -> None:
    worker, queue = worked_on(2, [5, 2, 5], stop_after=3)
    assert queue.found == {0: 3, 1: 2, 2: 1}
    assert len(worker.fewest) == len(queue.seen) == 3
