"""A progress bar, drawn at the host's visits."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Show = Callable[[int, Any], None]
MISSING = "progress=True draws its bar with rich: pip install 'jnn[progress]'"


class Seen(NamedTuple):
    """Of many networks: how many have ended, how many are done counting parts, and the mean risks of those in work."""

    ended: int
    done: float
    train: float
    validation: float


@contextlib.contextmanager
def bar(epochs: int, shown: bool) -> Iterator[Show]:
    """Within: a function that takes the epochs done and the state, and draws them.

    Raises:
        ImportError: if a bar is wanted and rich is not installed.
    """
    if not shown:
        yield lambda done, state: None
        return
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        raise ImportError(MISSING) from None
    columns = (
        TextColumn("{task.completed}/{task.total}"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("train {task.fields[train]}{task.fields[validation]}"),
    )
    with Progress(*columns) as drawn:
        task = drawn.add_task("", total=epochs, train="", validation="")

        def show(done: int, state: Any) -> None:
            best = float(state.best_error)
            validation = f"  validation best {best:.4g} in {int(state.best_epoch)}" if best != float("inf") else ""
            train = f"{float(state.train_error[done - 1]):.4g}"
            drawn.update(task, completed=done, train=train, validation=validation)

        yield show


@contextlib.contextmanager
def count(total: int, shown: bool) -> Iterator[Callable[[Seen], None] | None]:
    """Within: a function that draws how far `total` networks are; or None if nothing is to be shown.

    Raises:
        ImportError: if it is wanted and rich is not installed.
    """
    if not shown:
        yield None
        return
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        raise ImportError(MISSING) from None
    columns = (
        TextColumn("{task.fields[ended]}/{task.total} networks"),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.fields[risks]}"),
    )
    with Progress(*columns) as drawn:
        task = drawn.add_task("", total=total, ended=0, risks="")

        def show(seen: Seen) -> None:
            risks = "" if math.isnan(seen.train) else f"train {seen.train:.4g}"
            risks += "" if math.isnan(seen.validation) else f"  validation best {seen.validation:.4g}"
            # The last networks' risks stay when nobody is in work any more.
            fields: dict[str, Any] = {"risks": risks} if risks else {}
            drawn.update(task, completed=seen.done, ended=seen.ended, **fields)

        yield show
