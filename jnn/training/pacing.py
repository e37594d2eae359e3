"""How long a compiled program runs before the host looks in: for Ctrl-C, a progress bar, members that have ended."""

import functools
from collections.abc import Hashable

SECONDS_BETWEEN_VISITS = 0.2
"""Soon enough for a person who waits, at no measurable cost."""


class Pace:
    """How many epochs take the time between two visits; one until something has been measured."""

    def __init__(self) -> None:
        self.epochs = 1

    def took(self, epochs: int, seconds: float) -> None:
        """Take the measure of some epochs. Whatever else took its time then, as compiling does, shortens the next."""
        each = max(seconds / max(epochs, 1), 1e-9)
        self.epochs = max(1, int(SECONDS_BETWEEN_VISITS / each))


@functools.lru_cache(maxsize=256)
def pace_of(program: Hashable) -> Pace:
    """The pace of a program, remembered from the last time: a visit costs a small network more than an epoch does.

    Args:
        program: whatever it was compiled for.
    """
    return Pace()
