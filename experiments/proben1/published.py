"""What the report published about the problems whose figures are at hand: its pivot networks and their results.

Prechelt 1994, the tables of linear networks and of pivot networks with and without shortcut connections.
"""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["linear", "pivot", "no shortcuts"]
KINDS: tuple[Kind, ...] = ("linear", "pivot", "no shortcuts")
RUNS = MappingProxyType({"linear": 10, "pivot": 60, "no shortcuts": 60})
"""How many runs each published mean is taken over."""


@dataclass(frozen=True)
class Sample:
    """Mean and standard deviation of so many runs."""

    mean: float
    deviation: float
    runs: int

    @property
    def error(self) -> float:
        """The mean's standard error."""
        return self.deviation / math.sqrt(self.runs)

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True)
class Figures:
    """Both test errors in percent, and the mean of the epochs trained."""

    squared: Sample
    wrong: Sample
    epochs: int


@dataclass(frozen=True)
class Row:
    """One problem: the pivot network's hidden layers, whether its outputs are linear, its weights, the results."""

    hidden: tuple[int, ...]
    linear_outputs: bool
    weights: int
    figures: MappingProxyType[Kind, Figures]


# Problem, hidden layers, outputs and weights of the pivot network; then, of the linear network, of the pivot network
# and of the same without shortcuts: test squared error and its deviation, test classification error and its
# deviation, epochs.
_TEXT = """
cancer1   4+2  linear   100 |  3.52 0.04  2.93 0.18 129 |  1.60 0.41  1.47 0.60 152 |  1.32 0.13  1.38 0.49 116
cancer2   8+4  linear   196 |  4.77 0.39  5.00 0.61  87 |  3.40 0.33  4.52 0.70  93 |  3.47 0.28  4.77 0.94  54
cancer3   16+8 linear   436 |  4.11 0.03  5.17 0.00 115 |  2.57 0.24  3.37 0.71  66 |  2.60 0.22  3.70 0.52  54
diabetes1 32   linear   370 | 17.22 0.06 25.83 0.56 209 | 17.30 1.91 24.57 3.53 196 | 16.99 0.91 24.10 1.91 201
diabetes2 16+8 linear   410 | 17.69 0.04 24.69 0.61 209 | 18.20 1.08 25.91 2.50 119 | 18.43 1.00 26.42 2.26 102
diabetes3 32   linear   370 | 16.50 0.05 22.92 0.35 214 | 16.68 0.67 23.06 1.91 307 | 16.48 1.16 22.59 2.23 251
gene1     4+2  linear  1115 |  9.92 0.01 13.64 0.10  47 | 10.72 0.31 15.05 0.89  46 |  8.66 1.28 16.67 3.75 124
gene2     4+2  sigmoid 1115 |  9.51 0.00 12.30 0.14  46 | 11.39 1.28 15.59 1.83 321 |  9.54 1.91 18.41 6.93 321
gene3     4+2  sigmoid 1115 | 10.61 0.01 15.41 0.13  42 | 12.14 0.95 17.79 1.73 435 | 10.84 1.93 21.82 7.53 262
glass1    16+8 linear   572 |  9.98 0.10 46.04 2.21 129 |  9.75 0.41 39.03 8.14  67 |  9.24 0.32 32.70 5.34  71
glass2    16+8 linear   572 | 10.34 0.15 55.28 1.27  34 | 10.27 0.40 55.60 2.83  29 | 10.09 0.28 55.57 3.70  30
glass3    16+8 linear   572 | 11.07 0.15 60.57 3.82 135 | 10.91 0.48 59.25 7.83  66 | 10.74 0.52 58.40 7.82  60
thyroid1  16+8 linear   794 |  3.84 0.01  6.56 0.00 104 |  1.31 0.55  2.32 0.67 491 |  1.28 0.12  2.38 0.35 377
thyroid2  8+4  linear   398 |  3.71 0.01  6.56 0.00  98 |  1.02 0.18  1.86 0.41 660 |  1.02 0.11  1.91 0.24 421
thyroid3  16+8 linear   794 |  4.02 0.00  7.23 0.02 114 |  1.16 0.16  2.09 0.31 598 |  1.26 0.14  2.27 0.32 324
"""


def _row(line: str) -> tuple[str, Row]:
    described, *parts = line.split("|")
    name, hidden, outputs, weights = described.split()
    figures = {}
    for kind, part in zip(KINDS, parts, strict=True):
        squared, deviation, wrong, wrong_deviation, epochs = map(float, part.split())
        samples = Sample(squared, deviation, RUNS[kind]), Sample(wrong, wrong_deviation, RUNS[kind])
        figures[kind] = Figures(*samples, int(epochs))
    layers = tuple(int(size) for size in hidden.split("+"))
    return name, Row(layers, outputs == "linear", int(weights), MappingProxyType(figures))


TABLE = MappingProxyType(dict(_row(line) for line in _TEXT.strip().splitlines()))
"""By the name of the problem."""
