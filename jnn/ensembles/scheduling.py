"""Many members through few lanes: whoever stops makes room for the next.

A device works on a fixed number of lanes at once, in chunks of epochs. After each chunk the host takes out the members
that have ended and puts waiting ones in their lanes. So one compiled program serves any number of members, none of them
costs anything after its end, and the members in work can be few enough for a processor's cache.

Several devices get a thread each, and so do the cores of a CPU, each with lanes of its own: XLA splits the small
products of these networks over cores poorly or not at all.

Of several processes (hosts), each trains members of its own, which need nothing of the others. Now and then they meet,
to tell each other of a Ctrl-C and to save a checkpoint of all; at the end, each gets what the others have trained.
"""

import concurrent.futures
import functools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jnn.training import checkpoints, visiting
from jnn.training.dividing import Division, exchanged, together
from jnn.training.fitting import Callback, snapshot
from jnn.training.program import RUNNING, Member, Program, Shared, State, run_lanes, start_lanes
from jnn.training.structure import rounded_up
from jnn.training.visiting import Seen, Show

ENOUGH_WORK = 131_072
"""Numbers that an operation of a training step should touch on a CPU, to be worth starting."""
SECONDS_BETWEEN_LOOKS = 0.1
"""Of the main thread at the signals that came, while others work."""
SECONDS_BETWEEN_MEETINGS = 5.0
"""Of processes, where no checkpoint is due before. One waits for the others until their next visit: so not often."""


@dataclass(frozen=True)
class Work:
    """All members of an ensemble, on the host."""

    program: Program
    shared: Shared
    members: Member  # every array with a first axis over them
    states: State | None  # where to go on from, with that axis; None: to start
    begun: np.ndarray  # which members have a state there; the others are to start
    division: Division | None = None  # the devices of several processes; None: of this one alone

    @property
    def count(self) -> int:
        """How many members there are."""
        return len(self.members.key)

    @functools.cached_property
    def own(self) -> np.ndarray:
        """The numbers of those that this process trains."""
        if self.division is None:
            return np.arange(self.count)
        return np.arange(jax.process_index(), self.count, jax.process_count())


@dataclass
class Watch:
    """Who is to see all members after so many epochs, and whether it has asked to stop."""

    call: Callback
    every: int
    asked: bool = False


def lanes_for(work: Work, share: int, platform: str) -> int:
    """How many members to train at once on one device (or by one of a CPU's threads), which has `share` of them.

    On an accelerator all of them. On a CPU only so many that an operation has enough to do: more would leave the cache.
    Either way one of a few numbers, since each needs a program of its own; lanes that are too many rest.
    """
    if platform != "cpu":
        return max(8, 1 << (share - 1).bit_length()) if share <= 256 else rounded_up(share)
    program = work.program
    if program.curvature:
        return 1  # large matrices, and in a batch of members every attempt would compute G anew
    rows = program.batch_size or (len(work.shared.examples.x) if program.split == "none" else program.places[0])
    work_of_one = program.network.weight_count + rows * program.network.neurons
    most = max(1, ENOUGH_WORK // work_of_one)
    sizes = (1, 2, 4, 6, 8, most) if most < 32 else (most // 8, most // 4, most // 2, 3 * most // 4, most)
    return min(most, next(size for size in sizes if size >= min(share, most)))


def train(
    work: Work,
    devices: list[Any],
    lanes: int,
    show: Show | None,
    stopped: Callable[[], bool],
    saved: checkpoints.Run,
    watch: Watch | None = None,
) -> State:
    """Train all members; the states they ended in, with a member axis."""
    workers = [_Worker(work, device, lanes) for device in devices[: max(1, -(-len(work.own) // lanes))]]
    queue = _Queue(work, show, stopped, saved, set(map(id, workers)), watch)
    for worker in {id(w.device): w for w in workers}.values():
        worker.compile(more=len(work.own) > lanes * len(workers))
    if len(workers) == 1:
        workers[0].work_on(queue)
    else:
        x64 = jnp.result_type(float) == jnp.float64
        precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]

        def run(worker: _Worker) -> None:
            with jax.enable_x64(x64), jax.default_matmul_precision(precision):  # settings that belong to a thread
                worker.work_on(queue)

        with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
            futures = [pool.submit(run, worker) for worker in workers]
            try:
                # Look up now and then: a signal that reaches another thread does not end a wait without a timeout.
                running, failed = set(futures), False
                while running and not failed:
                    ended, running = concurrent.futures.wait(running, SECONDS_BETWEEN_LOOKS, "FIRST_EXCEPTION")
                    failed = any(future.exception() for future in ended)
            finally:
                queue.closed = True  # a second Ctrl-C, or an error in one of them: the others must end as well
            for future in futures:
                future.result()
    queue.wait()
    return queue.collected(workers[0])


class _Queue:
    """Members that wait, and the states of the others as far as they are known on the host."""

    def __init__(
        self,
        work: Work,
        show: Show | None,
        stopped: Callable[[], bool],
        saved: checkpoints.Run,
        workers: set[int],
        watch: Watch | None,
    ) -> None:
        self.closed = False  # whether all workers are to end
        self._lock = threading.Lock()
        self._division, self._own = work.division, work.own
        self._met, self._others = time.monotonic(), work.division is not None  # the last meeting; whether to meet again
        self._epochs = int(work.shared.epochs)
        self._begun = work.begun.copy()
        self._ended = np.zeros(work.count, bool)
        self._states: State | None = None
        if work.states is not None:
            states: State = jax.tree.map(np.copy, _with_room(_on_host(work.states), work.program.room))
            self._states, self._ended = states, self._begun & ~_running(states, self._epochs)
        elif work.division is not None:  # a process without members has none to know them by
            like = jax.eval_shape(functools.partial(start_lanes, work.program), work.shared, work.members)
            key = jax.eval_shape(jax.random.key_data, like.key)
            self._states = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like._replace(key=key))
        self._waiting = work.own[~self._ended[work.own]]
        self._changed = False
        self._part = np.zeros(work.count)
        self._show, self._stopped, self._saved, self._watch = show, stopped, saved, watch
        self._working = workers
        self._asked: set[int] = set()  # who has still to tell its members' states before they are saved

    @property
    def left(self) -> int:
        """How many members wait."""
        return len(self._waiting)

    def stopped(self) -> bool:
        """Whether workers should leave everything as it is."""
        return self.closed or self._stopped()

    def take(self, most: int) -> np.ndarray:
        """The next members in line; nobody once workers should end."""
        with self._lock:
            count = 0 if self.stopped() else most
            taken, self._waiting = self._waiting[:count], self._waiting[count:]
            return taken

    def put(self, numbers: np.ndarray, states: State, lanes: np.ndarray) -> None:
        """Take the states that members have ended in, which are in those lanes."""
        states = _on_host(states)
        with self._lock:
            self._keep(numbers, states, lanes)
            self._ended[numbers] = True

    def _keep(self, numbers: np.ndarray, states: State, lanes: np.ndarray) -> None:
        if self._states is None:
            self._states = jax.tree.map(lambda leaf: np.zeros((len(self._ended), *leaf.shape[1:]), leaf.dtype), states)

        def put(known: np.ndarray, new: np.ndarray) -> None:
            known[numbers] = new[lanes]

        jax.tree.map(put, self._states, states)
        self._begun[numbers] = self._changed = True

    def tell(self, worker: int, mine: np.ndarray, states: State) -> None:
        """Between two chunks: where a checkpoint is due, all workers tell how far they are, and the last one saves."""
        with self._lock:
            if not self._asked and self._due():
                self._asked = set(self._working)
            if worker in self._asked:
                lanes = np.flatnonzero(mine >= 0)
                self._keep(mine[lanes], _on_host(states), lanes)
                self._told(worker)

    @property
    def every(self) -> int | None:
        """After how many epochs somebody is to see the members; None if nobody is."""
        return None if self._watch is None else self._watch.every

    def watched(self, mine: np.ndarray, states: State) -> None:
        """Show all members, of which those in work are in these lanes, to who wants to see them; it may ask to stop."""
        if self._watch is not None:
            lanes = np.flatnonzero(mine >= 0)
            self._keep(mine[lanes], _on_host(states), lanes)
            assert self._states is not None
            self._watch.asked = bool(self._watch.call(snapshot(jax.tree.map(np.copy, self._states))))
            self.closed |= self._watch.asked

    def leave(self, worker: int) -> None:
        """A worker has no more to do."""
        with self._lock:
            self._working = self._working - {worker}
            if worker in self._asked:
                self._told(worker)

    def _told(self, worker: int) -> None:
        self._asked.discard(worker)
        if not self._asked:
            self._meet()

    def _due(self) -> bool:
        if self._division is None:
            return self._saved.due()
        return self._others and (self._saved.due() or time.monotonic() - self._met >= SECONDS_BETWEEN_MEETINGS)

    def _meet(self) -> None:
        """Decide with the other processes, if there are any, whether to save and whether to end."""
        stop, due, work = together(self._division, self._stopped(), self._saved.due(), bool(self._working))
        self._met, self._others = time.monotonic(), self._others and bool(work) and not stop
        self.closed |= bool(stop)
        if due:
            self.save()

    def wait(self) -> None:
        """With nothing more to do: meet the other processes until they have nothing either."""
        while self._others:
            self._meet()

    def save(self, last: bool = False) -> None:
        """Write a checkpoint of all members."""
        self._states, self._begun = exchanged(self._division, (self._states, self._begun))
        if self._saved.wanted:
            # A copy: it is written in the background, while members go on.
            self._saved.save((jax.tree.map(np.copy, self._states), self._begun.copy()), last)

    def report(self, mine: np.ndarray, states: State) -> None:
        """Show how far the members in a worker's lanes are; −1 for a lane without one."""
        if self._show is None:
            return
        lanes = np.flatnonzero(mine >= 0)
        with self._lock:
            self._part[mine[lanes]] = np.asarray(states.epoch)[lanes] / self._epochs
            ended = self._ended[self._own]
            done = np.where(ended, 1, self._part[self._own]).sum()
            self._show(Seen(int(ended.sum()), float(done), _risks(states, lanes)))

    def collected(self, worker: "_Worker") -> State:
        """The states of all members; of those never begun, the state before the first epoch."""
        while (missing := self._own[~self._ended[self._own]][: worker.lanes]).size:
            filled = np.pad(missing, (0, worker.lanes - missing.size), mode="edge")
            self.put(missing, worker.begin(filled)[1], np.arange(missing.size))
        if any(together(self._division, self._changed)):
            self.save(last=True)
        return worker.with_keys(jax.device_put(self._states))


class _Worker:
    """A device, or a thread of one, with its lanes."""

    def __init__(self, work: Work, device: Any, lanes: int) -> None:
        self.device, self.lanes = device, lanes
        self._program = work.program
        self._shared = jax.device_put(work.shared, device)
        self._members = _on_host(work.members)
        self._states = None if work.states is None else _with_room(_on_host(work.states), work.program.room)
        self._begun = work.begun
        self._key_kind = jax.random.key_impl(work.members.key)
        self._epochs = int(work.shared.epochs)
        self._pace = visiting.pace_of((work.program, work.shared.examples.x.shape, lanes))

    def begin(self, numbers: np.ndarray) -> tuple[Member, State]:
        """A member for each lane, and their states before the first epoch, or where they go on from."""

        def taken(tree: Any) -> Any:
            return self.with_keys(jax.device_put(jax.tree.map(lambda leaf: leaf[numbers], tree), self.device))

        members, begun = taken(self._members), self._begun[numbers]
        if self._states is None or not begun.any():
            return members, start_lanes(self._program, self._shared, members)
        states = taken(self._states)
        if not begun.all():
            states = _merged(begun, states, start_lanes(self._program, self._shared, members))
        return members, states

    def with_keys(self, tree: Any) -> Any:
        """Members or states with keys again in the place of numbers."""
        return tree._replace(key=jax.random.wrap_key_data(tree.key, impl=self._key_kind))

    def compile(self, more: bool) -> None:
        """Compile what is needed, without training; `more` members than lanes need more."""
        if self._pace.epochs:  # it has run before
            return
        members, states = self.begin(np.zeros(self.lanes, int))
        jax.block_until_ready(self._run(members, states, 0, 1))
        if more:
            _merged(np.zeros(self.lanes, bool), (members, states), (members, states))

    def work_on(self, queue: _Queue) -> None:
        """Train members from the queue until there are no more."""
        mine = np.full(self.lanes, -1)  # the member in each lane; −1 for none
        members: Any = None
        states: Any = None
        while True:
            free = np.flatnonzero(mine < 0)
            if len(fresh := queue.take(len(free))):
                new = np.zeros(self.lanes, bool)
                new[free[: len(fresh)]] = True
                mine[new] = fresh
                begun = self.begin(np.where(new, mine, fresh[0]))
                if states is not None:
                    members, states = _merged(new, begun, (members, states))
                else:  # lanes without a member rest
                    members, states = begun
                    epoch = np.where(new, np.asarray(states.epoch), self._epochs).astype(states.epoch.dtype)
                    states = states._replace(epoch=jax.device_put(epoch, self.device))
            if (mine < 0).all():
                queue.leave(id(self))
                return
            interrupted = queue.stopped()
            if not interrupted:
                fewest = -(-3 * self.lanes // 4) if queue.left else 1
                states = self._timed(members, states, fewest, queue.every)
                queue.watched(mine, states)
            ended = (mine >= 0) & (interrupted | ~_running(states, self._epochs))
            if ended.any():
                queue.put(mine[ended], states, np.flatnonzero(ended))
            queue.report(mine, states)
            mine[ended] = -1
            queue.tell(id(self), mine, states)

    def _run(self, members: Member, states: State, epochs: int, fewest: int) -> State:
        return run_lanes(self._program, self._shared, members, states, np.asarray(epochs, int), np.asarray(fewest, int))

    def _timed(self, members: Member, states: State, fewest: int, chunk: int | None) -> State:
        """A chunk of epochs, as many as take the time between two visits."""
        before = np.asarray(states.epoch)
        return visiting.timed(
            lambda epochs: self._run(members, states, epochs, fewest),
            lambda after: int(np.max(np.asarray(after.epoch) - before)),
            0,
            self._pace,
            chunk,
        )


def _running(states: State, epochs: int) -> np.ndarray:
    """Which members are to go on."""
    return np.asarray((np.asarray(states.code) == RUNNING) & (np.asarray(states.epoch) < epochs))


def _on_host(tree: Any) -> Any:
    """Members or states as NumPy arrays, numbers in the place of keys."""
    return jax.tree.map(np.asarray, tree._replace(key=jax.random.key_data(tree.key)))


def _with_room(states: State, room: int) -> State:
    """States with room in the record for the epochs to come."""

    def resized(values: np.ndarray) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, max(0, room - values.shape[1]))))[:, :room]

    return states._replace(record=jax.tree.map(resized, states.record))


def _risks(states: State, lanes: np.ndarray) -> str:
    """The mean over some lanes of the newest training risk, and of the lowest validation risk, in words."""
    newest = np.maximum(np.asarray(states.epoch)[lanes] - 1, 0)
    train = np.asarray(states.record.train_error)[lanes, newest]
    best = np.asarray(states.best.error)[lanes][np.asarray(states.best.validated)[lanes]]
    return visiting.risks(float(train.mean()) if len(lanes) else None, float(best.mean()) if len(best) else None)


def cpu_workers() -> int:
    """How many threads may run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@jax.jit
def _merged(new: Array, fresh: Any, old: Any) -> Any:
    """Fresh members in the lanes that are new."""

    def choose(f: Array, o: Array) -> Array:
        return jnp.where(jnp.reshape(new, (-1,) + (1,) * (f.ndim - 1)), f, o)

    return jax.tree.map(choose, fresh, old)
