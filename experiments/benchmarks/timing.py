"""Taking turns, so that whatever else the machine does falls on all alike; medians, and ratios round by round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")


@dataclass(frozen=True)
class Quartiles:
    """The middle half of some figures."""

    low: float
    median: float
    high: float


def quartiles(values: Sequence[float]) -> Quartiles:
    """With linear interpolation."""
    low, median, high = np.quantile(np.asarray(values, float), [0.25, 0.5, 0.75])
    return Quartiles(float(low), float(median), float(high))


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> Quartiles:
    """How many times longer they took than we did in the same round: the quartiles of these, over the rounds."""
    if len(theirs) != len(ours):
        raise ValueError(f"expected as many rounds of both, got {len(theirs)} and {len(ours)}")
    return quartiles([a / b for a, b in zip(theirs, ours, strict=True)])


def in_turn(
    contestants: Mapping[str, Callable[[int], T]],
    rounds: int,
    failed: Callable[[str, Exception], None],
    catch: type[Exception],
) -> dict[str, list[T]]:
    """Let everyone have a turn in every round, another one being the first each time; the seed is the round's number.

    Args:
        contestants: called with the seed.
        rounds: how many.
        failed: is told who raised what; whoever did takes no further part.
        catch: what may be raised.
    """
    found: dict[str, list[T]] = {name: [] for name in contestants}
    names = list(contestants)
    for round_ in range(rounds):
        start = round_ % max(1, len(names))
        for name in names[start:] + names[:start]:
            try:
                found[name].append(contestants[name](round_ + 1))
            except catch as why:
                failed(name, why)
                names = [other for other in names if other != name]
                del found[name]
    return found
