"""Many members through few lanes: whoever stops makes room for the next.

A device works on a fixed number of lanes at once, in chunks of epochs. After each chunk the host takes out the members
that have ended and puts waiting ones in their lanes. So one compiled program serves any number of members, none of them
costs anything after its end, and the members in work can be few enough for a processor's cache.

The processors' cores are kept busy by threads, each with lanes of its own: XLA on CPU splits the small products of
these networks over cores poorly or not at all. Several devices get a thread each.
"""

import concurrent.futures
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jnn.networks import Dag, Layered, Network
from jnn.training.pacing import pace_of
from jnn.training.program import RUNNING, Data, Settings, State, run_lanes, start
from jnn.training.progress import Seen

ENOUGH_WORK = 131_072
"""Numbers that an operation of a training step should touch on a CPU, to be worth starting."""


@dataclass(frozen=True)
class Members:
    """All members of an ensemble: how they differ, on the host.

    `axes` tells which of the data have a member axis (0) and which are common to all (None); `initial` are their first
    parameters, or None if they are to be drawn.
    """

    settings: Settings
    axes: Data
    data: Data
    keys: Array
    initial: Any

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.keys)

    def some(self, numbers: np.ndarray, device: Any, common: Data) -> tuple[Data, Array, Any]:
        """The data, keys and first parameters of some members, on a device that has the common data."""

        def take(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)[numbers], device), tree)

        data = Data._make(
            shared if axis is None else take(own)
            for axis, own, shared in zip(self.axes, self.data, common, strict=True)
        )
        return data, jax.device_put(self.keys[numbers], device), take(self.initial)

    def common(self, device: Any) -> Data:
        """What all members share, on a device."""
        return Data._make(
            jax.device_put(value, device) if axis is None else None
            for axis, value in zip(self.axes, self.data, strict=True)
        )


def lanes_for(network: Network, rows_in_step: int, members: int, device: Any) -> int:
    """How many members to train at once on one device (or by one of a CPU's threads).

    On an accelerator all of them. On a CPU only so many that an operation has enough to do: more would leave the cache.
    """
    if device.platform != "cpu":
        return members
    neurons = network.hidden + network.outputs if isinstance(network, Dag) else sum(cast(Layered, network).sizes[1:])
    work = network.weight_count + rows_in_step * neurons
    return int(min(members, max(1, ENOUGH_WORK // work)))


def train(
    members: Members, devices: list[Any], lanes: int, show: Callable[[Seen], None] | None, stopped: Callable[[], bool]
) -> State:
    """Train all members; the states they ended in, with a member axis.

    Args:
        members: who.
        devices: one for each worker; the same one may occur several times.
        lanes: how many members a worker trains at once.
        show: called between chunks with how far the members are; or None.
        stopped: asked between chunks whether to leave everything as it is.
    """
    workers = [_Worker(members, device, min(lanes, members.count)) for device in devices[: -(-members.count // lanes)]]
    if len(workers) == 1 and workers[0].lanes == members.count:
        return workers[0].all_at_once(show, stopped)
    queue = _Queue(members, show, stopped)
    for worker in {id(w.device): w for w in workers}.values():
        worker.compile(more=members.count > lanes * len(workers))
    if len(workers) == 1:
        workers[0].work(queue)
    else:
        context = _ThreadsContext()
        with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
            futures = [pool.submit(context.run, worker.work, queue) for worker in workers]
            try:
                concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_EXCEPTION)
            finally:
                queue.close()  # a second Ctrl-C, or an error in one of them: the others must end as well
            for future in futures:
                future.result()
    return queue.collected(workers[0])


class _ThreadsContext:
    """The settings of JAX that belong to a thread, carried over to others."""

    def __init__(self) -> None:
        self._x64 = jnp.result_type(float) == jnp.float64
        self._precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]

    def run(self, work: Callable[[Any], None], argument: Any) -> None:
        with jax.enable_x64(self._x64), jax.default_matmul_precision(self._precision):
            work(argument)


class _Queue:
    """Members that wait, and the states of those that have ended, on the host."""

    def __init__(self, members: Members, show: Callable[[Seen], None] | None, stopped: Callable[[], bool]) -> None:
        self._lock = threading.Lock()
        self._waiting: Iterator[int] = iter(range(members.count))
        self._members = members.count
        self._epochs = members.settings.epochs
        self._ended = np.zeros(members.count, bool)
        self._part = np.zeros(members.count)
        self._leaves: list[np.ndarray] | None = None
        self._structure: Any = None
        self._show = show
        self._stopped = stopped
        self._closed = False
        self.left = members.count

    def close(self) -> None:
        """Tell all workers to end."""
        self._closed = True

    def stopped(self) -> bool:
        """Whether workers should leave everything as it is."""
        return self._closed or self._stopped()

    def take(self, most: int) -> list[int]:
        """The next members in line."""
        with self._lock:
            taken = [number for _, number in zip(range(most), self._waiting, strict=False)]
            self.left -= len(taken)
            return taken

    def put(self, numbers: np.ndarray, states: State, lanes: np.ndarray) -> None:
        """Keep the states of members, which are in those lanes."""
        leaves, structure = jax.tree.flatten(states._replace(key=jax.random.key_data(states.key)))
        arrays = [np.asarray(leaf) for leaf in leaves]
        with self._lock:
            if self._leaves is None:
                self._leaves = [np.empty((self._members, *a.shape[1:]), a.dtype) for a in arrays]
                self._structure = structure
            for kept, array in zip(self._leaves, arrays, strict=True):
                kept[numbers] = array[lanes]
            self._ended[numbers] = True

    def report(self, mine: np.ndarray, states: State) -> None:
        """Show how far the members in a worker's lanes are; −1 for a lane without one."""
        if self._show is None:
            return
        lanes = np.flatnonzero(mine >= 0)
        with self._lock:
            self._part[mine[lanes]] = np.asarray(states.epoch)[lanes] / self._epochs
            done = np.where(self._ended, 1, self._part).sum()
            self._show(Seen(int(self._ended.sum()), float(done), *_risks(states, lanes)))

    def collected(self, worker: "_Worker") -> State:
        """The states of all members; of those never begun, the state before the first epoch."""
        while (missing := np.flatnonzero(~self._ended)[: worker.lanes]).size:
            _, states = worker.begin(worker.padded(missing))
            self.put(missing, states, np.arange(missing.size))
        states: State = jax.tree.unflatten(self._structure, [jnp.asarray(leaf) for leaf in self._leaves or ()])
        return states._replace(key=jax.random.wrap_key_data(states.key, impl=jax.random.key_impl(worker.members.keys)))


class _Worker:
    """A device, or a thread of one, with its lanes."""

    def __init__(self, members: Members, device: Any, lanes: int) -> None:
        self.members, self.device, self.lanes = members, device, lanes
        self._common = members.common(device)
        self._pace = pace_of((members.settings, members.data.x.shape, lanes))

    def begin(self, numbers: np.ndarray) -> tuple[Data, State]:
        """The data of some members, and their states before the first epoch."""
        data, keys, initial = self.members.some(numbers, self.device, self._common)
        return data, start_lanes(self.members.settings, self.members.axes, data, keys, initial)

    def padded(self, numbers: np.ndarray) -> np.ndarray:
        """As many numbers as there are lanes; the first one again for lanes without a member."""
        return np.concatenate([numbers, np.full(self.lanes - len(numbers), numbers[0])]).astype(int)

    def compile(self, more: bool) -> None:
        """Compile what is needed, without training; `more` members than lanes need more."""
        data, states = self.begin(np.zeros(self.lanes, int))
        self._run(data, states, 0, 1)
        if more:
            _merged(np.zeros(self.lanes, bool), (self._own(data), states), (self._own(data), states))

    def all_at_once(self, show: Callable[[Seen], None] | None, stopped: Callable[[], bool]) -> State:
        """Train everybody in a lane of his own; nothing comes back to the host but who has ended."""
        data, states = self.begin(np.arange(self.lanes))
        while not stopped():
            states = self._timed(data, states, 1)
            ended = ~self._are_running(states)
            if show is not None:
                part = np.where(ended, 1, np.asarray(states.epoch) / self.members.settings.epochs)
                show(Seen(int(ended.sum()), float(part.sum()), *_risks(states, np.arange(self.lanes))))
            if ended.all():
                break
        return states

    def work(self, queue: _Queue) -> None:
        """Train members from the queue until there are no more."""
        mine = np.full(self.lanes, -1)
        mine[: len(first)] = first if (first := queue.take(self.lanes)) else -1
        if not first:
            return
        data, states = self.begin(np.where(mine >= 0, mine, first[0]))
        if (mine < 0).any():  # lanes without a member rest
            epoch = np.where(mine < 0, self.members.settings.epochs, np.asarray(states.epoch))
            states = states._replace(epoch=jax.device_put(epoch, self.device))
        while (mine >= 0).any():
            interrupted = queue.stopped()
            if not interrupted:
                fewest = -(-3 * self.lanes // 4) if queue.left else 1
                states = self._timed(data, states, fewest)
            ended = (mine >= 0) & (interrupted | ~self._are_running(states))
            if ended.any():
                queue.put(mine[ended], states, np.flatnonzero(ended))
            queue.report(mine, states)
            if not ended.any():
                continue
            mine[ended] = -1
            if interrupted or not (fresh := queue.take(int((mine < 0).sum()))):
                continue
            places = np.flatnonzero(mine < 0)[: len(fresh)]
            mine[places] = fresh
            new = np.zeros(self.lanes, bool)
            new[places] = True
            own, begun = self.begin(np.where(new, mine, fresh[0]))
            merged, states = _merged(new, (self._own(own), begun), (self._own(data), states))
            data = Data._make(
                d if axis is None else m for axis, d, m in zip(self.members.axes, data, merged, strict=True)
            )

    def _are_running(self, states: State) -> np.ndarray:
        return (np.asarray(states.code) == RUNNING) & (np.asarray(states.epoch) < self.members.settings.epochs)

    def _own(self, data: Data) -> Data:
        """The data that have a member axis."""
        return Data._make(d if axis is not None else None for axis, d in zip(self.members.axes, data, strict=True))

    def _run(self, data: Data, states: State, epochs: int, fewest: int) -> State:
        settings, axes = self.members.settings, self.members.axes
        return run_lanes(settings, axes, data, states, jnp.asarray(epochs), jnp.asarray(fewest))

    def _timed(self, data: Data, states: State, fewest: int) -> State:
        """A chunk of epochs, as many as take the time between two visits."""
        begun = time.perf_counter()
        before = np.asarray(states.epoch)
        states = jax.block_until_ready(self._run(data, states, self._pace.epochs, fewest))
        done = int(np.max(np.asarray(states.epoch) - before))
        self._pace.took(done, time.perf_counter() - begun)
        return states


def _risks(states: State, lanes: np.ndarray) -> tuple[float, float]:
    """The mean over some lanes of the newest training risk, and of the lowest validation risk; NaN if there is none."""
    newest = np.maximum(np.asarray(states.epoch)[lanes] - 1, 0)
    train, best = np.asarray(states.train_error)[lanes, newest], np.asarray(states.best_error)[lanes]
    seen = np.isfinite(best)
    return float(train.mean()) if len(lanes) else math.nan, float(best[seen].mean()) if seen.any() else math.nan


def cpu_workers() -> int:
    """How many threads may run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@jax.jit(static_argnames=("settings", "axes"))
def start_lanes(settings: Settings, axes: Data, data: Data, keys: Array, initial: Any) -> State:
    """Members before their first epoch; `initial` are their parameters, or None to draw them."""

    def one(data: Data, key: Array, params: Any) -> State:
        return start(settings, data, key, params)

    return jax.vmap(one, in_axes=(axes, 0, None if initial is None else 0))(data, keys, initial)


@jax.jit
def _merged(new: Array, fresh: Any, old: Any) -> Any:
    """Fresh members in the lanes that are new."""

    def choose(f: Array, o: Array) -> Array:
        return jnp.where(jnp.reshape(new, (-1,) + (1,) * (f.ndim - 1)), f, o)

    return jax.tree.map(choose, fresh, old)
