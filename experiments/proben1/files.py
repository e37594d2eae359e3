"""Reading Proben1's data files: seven header lines, then one example a line, inputs first, outputs last.

    bool_in=0
    real_in=9
    bool_out=2
    real_out=0
    training_examples=350
    validation_examples=175
    test_examples=174
    0.2 0.1 0.1 0.1 0.2 0.1 0.2 0.1 0.1 1 0
    ...

All values are encoded and scaled already, and used as they stand. In file order the examples are those for training,
then those for validation, then those for testing; the variants 1, 2, 3 of a problem are three orders of the same data.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

HEADER = ("bool_in", "real_in", "bool_out", "real_out", "training_examples", "validation_examples", "test_examples")
PARTS = HEADER[4:]
SHOWN = 60
"""How many characters of a wrong line an error message repeats."""


LARGEST = float(np.finfo(np.float32).max)


class MalformedFile(ValueError):
    """A data file that is not as it should be: which file, which line, what was expected, what was there."""


class Part(NamedTuple):
    """Examples as rows: inputs `(n, d)`, targets `(n, K)`, float32."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class Problem:
    """One data file.

    Attributes:
        name: the file's, without its ending.
        classes: whether the outputs are classes, 1 of K, or one Boolean; else they are numbers to approximate, also
            where the header calls them Booleans and there are others (the archive's `hearta` files).
        train, validation, test: the file's own split.
    """

    name: str
    classes: bool
    train: Part
    validation: Part
    test: Part

    @property
    def inputs(self) -> int:
        """d."""
        return self.train.x.shape[1]

    @property
    def outputs(self) -> int:
        """K."""
        return self.train.y.shape[1]


def read(path: Path) -> Problem:
    """Read a `.dt` file.

    Raises:
        MalformedFile: it is not in the format; the message names file, line, what was expected and what was there.
        OSError: it cannot be opened.

    Warns of outputs that are declared as Booleans, and are none.
    """
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    sizes = _header(path, lines)
    inputs, outputs = sizes["bool_in"] + sizes["real_in"], sizes["bool_out"] + sizes["real_out"]
    classes = sizes["real_out"] == 0
    counts = [sizes[part] for part in PARTS]
    written = f"{sum(counts)} examples ({' + '.join(map(str, counts))}, as the header says)"

    rows: list[list[float]] = []
    line_of: list[int] = []
    for number, line in enumerate(lines[len(HEADER) :], start=len(HEADER) + 1):
        if not line.strip():
            continue
        if len(rows) == sum(counts):
            _wrong(path, number, f"the end of the file after {written}", "another line")
        row = _numbers(path, number, line, inputs, outputs)
        rows.append(row)
        line_of.append(number)
    if len(rows) < sum(counts):
        _wrong(path, len(lines), written, f"only {len(rows)} before the file ends")
    values = np.array(rows, np.float32)
    others = ~np.isin(values[:, inputs:], (0, 1)).all(axis=1)
    if classes and others.any():
        first = line_of[int(others.argmax())]
        shown = " ".join(f"{value:g}" for value in values[others.argmax(), inputs:])
        told = f"{path}, line {first}: the header declares Boolean outputs, here is {shown}"
        warnings.warn(f"{told}; all outputs are taken as numbers to approximate", stacklevel=2)
        classes = False
    if classes and outputs > 1:
        for number, row in zip(line_of, rows, strict=True):
            _check_class(path, number, row[inputs:])
    parts = np.split(values, np.cumsum(counts)[:-1])
    return Problem(path.stem, classes, *(Part(part[:, :inputs], part[:, inputs:]) for part in parts))


def _header(path: Path, lines: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for number, name in enumerate(HEADER, start=1):
        if number > len(lines):
            _wrong(path, number, f'"{name}=" and a number', "the end of the file")
        found = re.fullmatch(rf"\s*{name}\s*=\s*([0-9]+)\s*", lines[number - 1])
        if found is None:
            _wrong(path, number, f'"{name}=" and a number', _quoted(lines[number - 1]))
        sizes[name] = int(found[1])
        if name in PARTS and not sizes[name]:
            _wrong(path, number, "at least one example in each part", _quoted(lines[number - 1]))
    for kind, one, other in (("input", "bool_in", "real_in"), ("output", "bool_out", "real_out")):
        if sizes[one] + sizes[other] == 0:
            _wrong(path, 1 + HEADER.index(other), f"at least one {kind}", f"{one}=0 and {other}=0")
    return sizes


def _numbers(path: Path, number: int, line: str, inputs: int, outputs: int) -> list[float]:
    words = line.split()
    if len(words) != inputs + outputs:
        expected = f"{inputs + outputs} numbers ({inputs} inputs and {outputs} outputs, as the header says)"
        _wrong(path, number, expected, f"{len(words)}")
    row: list[float] = []
    for place, word in enumerate(words, start=1):
        value = _number(word)
        if value is None:
            _wrong(path, number, f"a number as value {place}", _quoted(word))
        row.append(value)
    return row


def _number(word: str) -> float | None:
    """A number that float32 can hold, or None."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if abs(value) <= LARGEST and "_" not in word else None


def _check_class(path: Path, number: int, outputs: Sequence[float]) -> None:
    """Several Boolean outputs are classes, of which one is the example's."""
    if sum(outputs) != 1:
        shown = " ".join(f"{value:g}" for value in outputs)
        _wrong(path, number, "classes as 1 of K, a single 1 among the outputs", _quoted(shown))


def _quoted(text: str) -> str:
    text = text.strip()
    return f'"{text}"' if len(text) <= SHOWN else f'"{text[:SHOWN]}…"'


def _wrong(path: Path, number: int, expected: str, got: str) -> NoReturn:
    raise MalformedFile(f"{path}, line {number}: expected {expected}; got {got}.")
