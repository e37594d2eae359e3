"""Checkpoints of a training: what it takes to go on after a crash, a kill, a full disk, as if nothing had happened.

The arrays of a state are saved by Orbax: in the background, into a folder that gets its name when it is whole, the
newest few kept. Beside them stands what the problem is (`jnn.training.fingerprint`), so that no other goes on from it.
"""

import contextlib
import logging
import os
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jnn.optional import needed
from jnn.training.dividing import Division
from jnn.training.fingerprint import differences

T = TypeVar("T")


class CheckpointError(OSError):
    """A checkpoint could not be written, or not read."""


@dataclass(frozen=True)
class Checkpoints:
    """Where to keep what a training needs to go on, and how often: `fit(..., checkpoint=jnn.Checkpoints("run"))`.

    The same call again goes on from the newest one: after an exception, Ctrl-C, a kill, a crash, to the last bit as if
    nothing had been. Of a training that has ended it returns the result; with more `epochs` it goes on.

    Args:
        folder: for the checkpoints of this training alone; made if there is none.
        seconds: at least so long from one to the next; 0 writes one at every visit. The last one, at the end, is
            always written. What was learned after the newest is learned again.
        keep: how many of the newest to keep.

    Several processes write together, into a folder that all of them see, and as many or fewer go on from it.

    Needs orbax: `pip install 'jnn[checkpoints]'`.
    """

    folder: str | os.PathLike[str]
    seconds: float = 60.0
    keep: int = 3

    def __post_init__(self) -> None:
        if not (isinstance(self.seconds, (int, float)) and self.seconds >= 0):
            raise ValueError(f"expected seconds ≥ 0 from one checkpoint to the next, got {self.seconds!r}")
        if isinstance(self.keep, bool) or not isinstance(self.keep, int) or self.keep < 1:
            raise ValueError(f"expected to keep at least 1 checkpoint, got {self.keep!r}")


class Run:
    """The checkpoints of one training while it runs; of one without any, nothing."""

    def __init__(self, where: Checkpoints | None, problem: Mapping[str, str], writer: Any) -> None:
        self._where, self._problem, self._writer = where, dict(problem), writer
        self._written = time.monotonic()
        self._pending: tuple[int, Any] | None = None
        newest = None if writer is None else writer.latest
        self._whole = 0 if newest is None else newest.step  # the number of the newest that is known to be whole

    @property
    def wanted(self) -> bool:
        """Whether there are any."""
        return self._where is not None

    def due(self) -> bool:
        """Whether it is time for the next."""
        return self._where is not None and time.monotonic() - self._written >= self._where.seconds

    def latest(self) -> dict[str, Any] | None:
        """The arrays of the newest checkpoint, by their numbers among the leaves; None if there is none.

        Raises:
            ValueError: if it is one of another problem.
            CheckpointError: if it cannot be read.
        """
        if self._where is None or not self._whole:
            return None
        number = self._whole
        problem = self._read(number, lambda: self._writer.metadata(number).custom_metadata or {})
        if told := differences(problem, self._problem):
            raise ValueError(
                f"{self._where.folder} has checkpoints of another training; what differs: {told}. Pass what they were "
                "made with, or another folder"
            )
        return self._read(number, lambda: self._writer.load(number)["leaves"])

    def _read(self, number: int, reading: Callable[[], T]) -> T:
        assert self._where is not None
        try:
            return reading()
        except Exception as error:
            raise CheckpointError(
                f"the newest checkpoint in {self._where.folder}, number {number}, cannot be read ({_short(error)}); "
                "remove its folder to go on from the one before"
            ) from error

    def save(self, tree: Any, last: bool = False) -> None:
        """Write a checkpoint, in the background; the `last` one before this returns.

        Raises:
            CheckpointError: if it, or the one before, could not be written.
        """
        if self._where is None:
            return
        try:
            self._finish()
            number, leaves = self._whole + 1, {"leaves": dict(_leaves(tree))}
            self._pending = number, self._writer.save_async(number, leaves, custom_metadata=self._problem)
            if last:
                self._finish()
        except Exception as error:
            self._pending = None
            good = f"the last good one is number {self._whole}" if self._whole else "there is none before it"
            raise CheckpointError(
                f"a checkpoint could not be written to {self._where.folder} ({_short(error)}); {good}. Make room, or "
                "mend what is wrong there, and call again with the same arguments to go on"
            ) from error
        self._written = time.monotonic()

    def _finish(self) -> None:
        """Wait for the one that is being written."""
        if self._pending is not None:
            number, writing = self._pending
            writing.result()
            self._whole, self._pending = number, None


@contextlib.contextmanager
def opened(where: Checkpoints | None, problem: Any, division: Division | None) -> Iterator[Run]:
    """Within: the checkpoints of a training whose `problem()` this is."""
    if where is None:
        yield Run(None, {}, None)
        return
    if not isinstance(where, Checkpoints):
        raise TypeError(f"expected checkpoint as jnn.Checkpoints(folder), got {where!r}")
    if jax.process_count() > 1 and (division is None or not division.several_processes):
        raise ValueError(
            f"checkpoints are written by all {jax.process_count()} processes together: expected devices of all of "
            "them, as devices=jax.devices(); got those of this process alone"
        )
    described, log = problem(), logging.getLogger("absl")
    log.addFilter(_is_foreign)
    try:
        writer = _writer(where)
        try:
            yield Run(where, described, writer)
        finally:
            with contextlib.suppress(Exception):  # what was in work failed, as has been told, or is not the last
                writer.close()
    finally:
        log.removeFilter(_is_foreign)


def _is_foreign(record: logging.LogRecord) -> bool:
    """Whether a log's entry is not Orbax's: its pages about a failure are told as a `CheckpointError`."""
    return "orbax" not in record.pathname


def _writer(where: Checkpoints) -> Any:
    orbax = _orbax()
    folder = Path(where.folder).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = [name for name in os.listdir(folder) if not name.partition(".")[0].isdigit()]
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be used for checkpoints: {error}") from error
    if foreign:
        raise ValueError(f"expected a folder for checkpoints alone, but {folder} has {foreign[0]!r}; pass another one")
    newest = orbax.training.preservation_policies.LatestN(where.keep)
    return orbax.training.Checkpointer(folder, cleanup_tmp_directories=True, preservation_policy=newest)


def _orbax() -> types.ModuleType:
    needed("orbax.checkpoint", extra="checkpoints", what="checkpoints are written by orbax-checkpoint")
    from orbax.checkpoint import v1

    return v1


def _leaves(tree: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a tree by number, keys as numbers; but for empty ones, which cannot be written."""
    for number, leaf in enumerate(jax.tree.leaves(tree)):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if np.size(leaf):
            yield f"{number:05d}", np.asarray(leaf)


def restored(found: Mapping[str, Any], like: T, key_kind: Any) -> T:
    """A tree like one of shapes, with the leaves that were found; keys of the kind that `jax.random.key_impl` tells."""
    leaves, structure = jax.tree.flatten(like)

    def one(number: int, leaf: Any) -> Any:
        values = found.get(f"{number:05d}")
        if values is None:
            return jnp.zeros(leaf.shape, leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(values), impl=key_kind)
        return jax.device_put(values)

    return structure.unflatten([one(number, leaf) for number, leaf in enumerate(leaves)])


def _short(error: BaseException) -> str:
    """What went wrong, in a line."""
    words = f"{type(error).__name__}: {error}"
    if "No space left" in words:
        return "no space left on the device"
    return words.splitlines()[0][:200]
