"""A progress bar, drawn at the host's visits."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

Show = Callable[[int, Any], None]
MISSING = "progress=True draws its bar with rich: pip install 'jnn[progress]'"


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
def count(total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Within: a function that takes how many of `total` members have ended, and draws it.

    Raises:
        ImportError: if it is wanted and rich is not installed.
    """
    if not shown:
        yield lambda done: None
        return
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        raise ImportError(MISSING) from None
    columns = (TextColumn("{task.completed}/{task.total} networks"), BarColumn(bar_width=20), TimeRemainingColumn())
    with Progress(*columns) as drawn:
        task = drawn.add_task("", total=total)
        yield lambda done: drawn.update(task, completed=done)
