"""The host's visits to a running program: for Ctrl-C, callbacks, a progress bar, members that have ended."""

import contextlib
import functools
import signal
import threading
import time
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax

from jnn.optional import needed

SECONDS_BETWEEN_VISITS = 0.2
"""Soon enough for a person who waits, at no measurable cost."""

T = TypeVar("T")


class Pace:
    """How many epochs take the time between two visits; none known until something has been measured."""

    def __init__(self) -> None:
        self.epochs = 0

    def took(self, epochs: int, seconds: float) -> None:
        """Take the measure of some epochs. Whatever else took its time then, as compiling does, shortens the next."""
        if epochs > 0:
            self.epochs = max(1, int(SECONDS_BETWEEN_VISITS * epochs / max(seconds, 1e-9)))


@functools.lru_cache(maxsize=256)
def pace_of(program: Hashable) -> Pace:
    """The pace of a program, remembered from the last time: a visit costs a small network more than an epoch does."""
    return Pace()


def timed(
    advance: Callable[[int], T], epoch: Callable[[T], int], before: int, pace: Pace, chunk: int | None = None
) -> T:
    """Run a program for a chunk of epochs, and take the pace's measure."""
    begun = time.perf_counter()
    state = jax.block_until_ready(advance(chunk or pace.epochs or 1))
    pace.took(epoch(state) - before, time.perf_counter() - begun)
    return state


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within: the first Ctrl-C is remembered instead of raised; the second is raised."""
    before = signal.getsignal(signal.SIGINT)
    # Signals reach the main thread only; and what does not come from Python, or ignores Ctrl-C, stays in place.
    if threading.current_thread() is not threading.main_thread() or before in (None, signal.SIG_IGN):
        yield lambda: False
        return
    seen = False

    def remember(signum: int, frame: types.FrameType | None) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True

    signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


class Seen(NamedTuple):
    """What a bar shows: how many of the total have ended, how many are done counting parts, and what to say of it."""

    ended: int
    done: float
    said: str


Show = Callable[[Seen], None]


@contextlib.contextmanager
def bar(total: int, of: str, shown: bool) -> Iterator[Show | None]:
    """Within: a function that draws how far the work is; None if nothing is to be shown.

    Raises:
        ImportError: if a bar is wanted and rich is not installed.
    """
    if not shown:
        yield None
        return
    needed("rich.progress", extra="progress", what="progress=True draws its bar with rich")
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    count = TextColumn("{task.fields[ended]}/{task.total} " + of)
    columns = (count, BarColumn(bar_width=20), TimeRemainingColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns) as drawn:
        task = drawn.add_task("", total=total, ended=0, said="")

        def show(seen: Seen) -> None:
            # The last risks stay when nothing is in work any more.
            fields: dict[str, Any] = {"said": seen.said} if seen.said else {}
            drawn.update(task, completed=seen.done, ended=seen.ended, **fields)

        yield show


def risks(train: float | None, best: float | None, epoch: int | None = None) -> str:
    """Risks in the words of a bar; None where there is none."""
    said = "" if train is None else f"train {train:.4g}"
    if best is not None:
        said += f"  validation best {best:.4g}" + ("" if epoch is None else f" in {epoch}")
    return said
