"""What an experiment is, and what it hands back: tables, pictures and verdicts that are computed from them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, TypeVar, get_args

Item = TypeVar("Item")
Size = Literal["tiny", "quick", "full"]
Effort = SimpleNamespace
"""What a size can afford, by name: how many seeds, for how many epochs, and the like."""


def efforts(**numbers: tuple[Any, Any, Any]) -> dict[Size, Any]:
    """The effort of each size; of each number are given that for "tiny", for "quick" and for "full"."""
    values = zip(*numbers.values(), strict=True)
    return {
        size: Effort(**dict(zip(numbers, some, strict=True))) for size, some in zip(get_args(Size), values, strict=True)
    }


@dataclass(frozen=True)
class Verdict:
    """Whether a claim held here, and the figures that say so; `holds` is None if they do not suffice to tell."""

    claim: str
    holds: bool | None
    evidence: str


@dataclass(frozen=True)
class Table:
    """Rows of ready-made text; the first column names the row, the others are figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    @classmethod
    def of(
        cls, title: str, items: Iterable[Item], columns: Mapping[str, Callable[[Item], object]], note: str = ""
    ) -> "Table":
        """A row for each item; columns by their heads, each being what it tells of an item."""
        rows = [[str(cell(item)) for cell in columns.values()] for item in items]
        return cls(title, list(columns), rows, note)


@dataclass(frozen=True)
class Picture:
    """Panels (inline SVG, see `experiments.drawing`) that stand side by side where there is room."""

    title: str
    panels: Sequence[str]
    caption: str


@dataclass(frozen=True)
class Outcome:
    """What came out of an experiment; `interrupted` if only a part of it was run."""

    verdicts: Sequence[Verdict]
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    interrupted: bool = False


@dataclass
class Session:
    """How an experiment is to be run, and how it tells what it is doing.

    Attributes:
        seed: everything random derives from it.
        size: "tiny" to try out the code, "quick" for figures that mean something, "full" for narrow intervals.
        say: told what is being done now.
        stop_asked: whether Ctrl-C was pressed.
    """

    seed: int = 0
    size: Size = "quick"
    say: Callable[[str], None] = lambda _: None
    stop_asked: Callable[[], bool] = lambda: False
    interrupted: bool = field(default=False, init=False)

    def each(self, items: Iterable[Item], describe: Callable[[Item], str] = str) -> Iterator[Item]:
        """Go through `items`, telling about each; after Ctrl-C finish the present one and leave the others."""
        for place, item in enumerate(items):
            if place and self.stop_asked():
                self.interrupted = True
                return
            self.say(describe(item))
            yield item


@dataclass(frozen=True)
class Experiment:
    """A question to the lecture, and the code that answers it.

    Attributes:
        name: on the command line.
        title: a headline.
        question: what is asked.
        claim: what the lecture says, and on which slide.
        run: computes the answer.
        full_minutes: how long the full size takes on 2 cores, roughly.
    """

    name: str
    title: str
    question: str
    claim: str
    run: Callable[[Session], Outcome]
    full_minutes: float = 3.0
