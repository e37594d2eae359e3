"""The judgement of one element: its error, and the error that a right rule may make there.

Two questions are kept apart.

- *Is the formula right?* The rule and the truth are both evaluated in float64, where rounding is out of the way. What
  may differ is what a right rule is entitled to: constants that are rounded in its dtype (every inexact literal is
  varied by half an ulp, and the change that this makes is allowed), and the noise of an ill-conditioned function (its
  inputs are varied by an ulp of float64, likewise).
- *Is the arithmetic right?* The rule in its own dtypes against the truth. What is allowed is a floor in ulps of the
  leaf's dtype plus, where that does not explain what was seen, a multiple of what a careful implementation commits in
  the dtypes on the way: plain autodiff of the primal, and a faithful evaluation of the rule, at the same place. Careful
  means that sums are accumulated in float32 at least.

Neither allowance grows with the number of elements. `SCALED` floors, relative to the leaf's largest gradient, say that
an element which is smaller than its largest neighbor by more than the dtype can tell apart is not resolved.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jnn.gradcheck.oracle.numbers import EPS64, PART, eps_of, parts, real_dtype, tiny_of, ulp


@dataclasses.dataclass(frozen=True)
class Floors:
    """Allowances in units of the dtype's eps: for the formula, for the arithmetic, and relative to the leaf's scale."""

    formula: float
    arithmetic: float
    scaled: float


FLOORS = {
    # float64 has no wider oracle: both sides round, in different orders.
    "float64": Floors(2.0**16, 2.0**16, 2.0**6),
    "float32": Floors(8.0, 32.0, 16.0),
    "float16": Floors(2.0, 16.0, 8.0),
    "bfloat16": Floors(1.0, 8.0, 4.0),
}


def floors(dtype: Any) -> Floors:
    """The floors of a dtype; the formats below 16 bits are judged like bfloat16 (their eps is larger)."""
    return FLOORS.get(real_dtype(dtype).name, FLOORS["bfloat16"])


def scaled_floor(dtype: Any, coarse: float) -> float:
    """The arithmetic's allowance relative to a leaf's scale; coarse products get what numbers of their spacing get."""
    return max(floors(dtype).scaled * eps_of(dtype), FLOORS["bfloat16"].scaled * coarse)


def grow(noise: np.ndarray, *changes: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Raise `noise` to the sum of the changes between pairs of arrays, where that is finite (in place, by parts)."""
    with np.errstate(all="ignore"):
        for place in parts(noise.size):
            change = sum(np.abs(pair[1][place] - pair[0][place]) for pair in changes if pair is not None)
            noise[place] = np.maximum(noise[place], np.nan_to_num(change, nan=0.0, posinf=0.0))


LUCK = 8.0
"""An element that was computed carefully may by luck be as little as an eighth off of what another one is."""
FEW = 3
"""So many elements have no luck together."""


def together(count: int, *, suspect: bool) -> float:
    """How many times a leaf of so many elements, computed carefully, may be off what another evaluation of it is; of a
    suspect one half the excess is enough.
    """
    excess = max(0.5, 4.0 / math.sqrt(count))
    return 1.0 + (0.5 * excess if suspect else excess)


def typical_error(error: np.ndarray, present: np.ndarray) -> float:
    """The median error of the elements that are present: a branch that was taken otherwise does not move it."""
    return float(np.median(error[present])) if present.any() else 0.0


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One leaf under one probe: all arrays are float64 and flat; the rule's float64 version may be absent.

    `noise` is the change of both float64 evaluations when their inputs and inexact literals are varied; `naive` is the
    error of plain autodiff in the same dtype, `rounding` the change of the rule in float64 when every result is
    rounded to the dtype (both zero until they are known), `careful` the error that is typical of the leaf in either;
    `scale` is the leaf's, `slack` what the truth may be off, `coarse` the spacing of the operands of matrix products,
    where it is wider than the dtype's; `grain` that of the coarsest dtype on the way; `parts_size` the size of the
    terms of a gradient that cancel by invariance (0: they do not); `suspect` whether a sum of many terms is written
    down in a coarse dtype; `ceiling` the most that `naive` and `rounding` allow; `granted` whether these are known, so
    that the comparison can say which error of rounding it would notice.
    """

    dtype: np.dtype
    rule: np.ndarray
    rule64: np.ndarray | None
    truth: np.ndarray
    noise: np.ndarray
    scale: float
    naive: np.ndarray | float = 0.0
    rounding: np.ndarray | float = 0.0
    slack: np.ndarray | float = 0.0
    coarse: float = 0.0
    grain: float = 0.0
    parts_size: float = 0.0
    tolerance: float | None = None
    careful: float = 0.0
    suspect: bool = False
    ceiling: float = np.inf
    granted: bool = True
    known: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def at(self, place: Any) -> "Comparison":
        """The comparison of the elements at `place` (a slice or indices) alone."""
        names = ("rule", "rule64", "truth", "noise", "naive", "rounding", "slack")
        arrays = {name: getattr(self, name) for name in names}
        return dataclasses.replace(self, **{name: v[place] if np.ndim(v) else v for name, v in arrays.items()})

    def parts(self) -> Iterator[tuple[slice, "Comparison"]]:
        """The comparison in parts of at most `PART` elements, and where each lies."""
        for place in parts(self.truth.size):
            yield place, self.at(place)

    def wrong(self) -> np.ndarray:
        """Where the formula or the arithmetic deviates."""
        found = np.zeros(self.truth.shape, bool)
        for place, part in self.parts():
            found[place] = part.formula_wrong() | part.arithmetic_wrong()
        return found

    def relative(self) -> tuple[float, float]:
        """The relative allowances: of the formula, of the arithmetic."""
        f, eps = floors(self.dtype), eps_of(self.dtype)
        formula = f.formula * eps if self.tolerance is None else self.tolerance
        return formula, max(f.arithmetic * eps, self.tolerance or 0.0)

    def _size(self) -> np.ndarray:
        """|truth|, zero where it is not finite."""
        return np.abs(np.where(np.isfinite(self.truth), self.truth, 0.0))

    def allowed_formula(self) -> np.ndarray:
        """What the rule in float64 may deviate."""
        return self._once("formula", self._allowed_formula)

    def allowed_arithmetic(self) -> np.ndarray:
        """What the rule in its own dtype may deviate."""
        return self._once("arithmetic", self._allowed_arithmetic)

    def _once(self, name: str, made: Callable[[], np.ndarray]) -> np.ndarray:
        """An array that is made once, unless it is large."""
        if self.truth.size > PART:
            return made()
        if name not in self.known:
            self.known[name] = made()
        return self.known[name]

    def _allowed_formula(self) -> np.ndarray:
        rel, _ = self.relative()
        with np.errstate(all="ignore"):
            allowed = rel * self._size() + 4 * self.noise + self.slack + 256 * EPS64 * self.scale
            # What is grossly off took another branch than the oracle (a tie that rounding made, say).
            other = np.maximum(self.naive, self.rounding)
            branched = np.nan_to_num(other * self.branches())
        return allowed + branched * (1 + 8 * eps_of(self.dtype)) + tiny_of(np.float64)

    def _allowed_arithmetic(self) -> np.ndarray:
        _, rel = self.relative()
        with np.errstate(all="ignore"):
            allowed = rel * self._size() + 4 * self.noise + self.slack
            allowed = allowed + scaled_floor(self.dtype, self.coarse) * self.scale
        rounding = np.minimum(LUCK * np.maximum(self.naive, self.rounding), self.ceiling)
        return allowed + rounding + 4 * tiny_of(self.dtype)

    def branches(self) -> np.ndarray:
        """Where an evaluation in the function's own dtypes is so far off that it must have taken another branch."""
        grain = max(eps_of(self.dtype), self.grain)
        with np.errstate(all="ignore"):
            gross = 64 * grain * self._size() + 8 * grain * self.scale
            return np.broadcast_to(np.maximum(self.naive, self.rounding) > gross, self.truth.shape)

    def present(self) -> np.ndarray:
        """Where the rule or the truth is not zero."""
        return (self.truth != 0) | (self.rule != 0)

    def coarsely_summed(self) -> bool:
        """Whether the leaf as a whole is off by more than careful rounding explains, though its formula is right.

        What single elements of a leaf commit is a matter of luck, and `LUCK` allows for it; what is typical of all of
        them is not, and tells a sum that is accumulated in a coarse dtype from a careful one. It is asked of leaves
        that are finer than what lies on the way to them: in others, accumulation and result round alike.
        """
        return self._judged_whole() and bool(self._beyond_rounding() > self._together())

    def _judged_whole(self) -> bool:
        return self.rule64 is not None and eps_of(self.dtype) < self.grain

    def as_a_whole(self) -> "Comparison":
        """The same, an element being allowed no more than what is typical of a careful leaf."""
        return dataclasses.replace(self, ceiling=self._together()) if self.coarsely_summed() else self

    def _beyond_rounding(self) -> float:
        with np.errstate(all="ignore"):
            rest = dataclasses.replace(self, ceiling=0.0).allowed_arithmetic()
            return typical_error(np.maximum(np.abs(self.rule - self.truth) - rest, 0.0), self.present())

    def _together(self) -> float:
        count = int(np.count_nonzero(self.present()))
        return together(count, suspect=self.suspect) * self.careful if count >= FEW else np.inf

    def formula_wrong(self) -> np.ndarray:
        """Where the formula deviates (a truth that is not finite decides nothing)."""
        return self._once("formula wrong", self._formula_wrong)

    def _formula_wrong(self) -> np.ndarray:
        if self.rule64 is None:
            return np.zeros(self.truth.shape, bool)
        with np.errstate(all="ignore"):
            return ~(np.abs(self.rule64 - self.truth) <= self.allowed_formula()) & np.isfinite(self.truth)

    def arithmetic_wrong(self) -> np.ndarray:
        """Where the rule in its own dtype deviates, is not finite, or has no finite truth beside it."""
        return self._once("arithmetic wrong", self._arithmetic_wrong)

    def _arithmetic_wrong(self) -> np.ndarray:
        with np.errstate(all="ignore"):
            return ~(np.abs(self.rule - self.truth) <= self.allowed_arithmetic())

    def shown(self) -> tuple[np.ndarray, np.ndarray]:
        """(the value to report, what it was allowed): the float64 version where only that one is off."""
        formula, arithmetic = self.formula_wrong(), self.arithmetic_wrong()
        if self.rule64 is None:
            return self.rule, self.allowed_arithmetic()
        only = formula & ~arithmetic
        return np.where(only, self.rule64, self.rule), np.where(
            formula | (self.allowed_formula() > self.allowed_arithmetic()),
            self.allowed_formula(),
            self.allowed_arithmetic(),
        )

    def unit(self) -> np.ndarray:
        """The ulp in which an element's error is told: of the true value, or of the leaf's largest (one, if all are
        zero) where the true value is zero or too small to be resolved beside it.
        """
        return ulp(np.where(self.small(), self._largest(), self.truth), self.dtype)

    def small(self) -> np.ndarray:
        """Where the true value is zero, or not resolved beside the leaf's largest."""
        return self._size() <= eps_of(self.dtype) * self._largest()

    def _largest(self) -> float:
        return self.scale if np.isfinite(self.scale) and self.scale > 0 else 1.0

    def resolution(self) -> np.ndarray:
        """The smallest relative error that would be noticed, by element; infinite where the truth is zero.

        Of a gradient that is zero by invariance it is relative to the terms that cancel.
        """
        return self._relative(self.allowed_arithmetic() if self.rule64 is None else self.allowed_formula())

    def precision(self) -> np.ndarray:
        """The same of an error of arithmetic: lost precision, coarse accumulation."""
        return self._relative(self.allowed_arithmetic())

    def precision_as_a_whole(self) -> float:
        """The smallest typical error of arithmetic, relative to a typical element, that a leaf which is judged as a
        whole would fail by; infinite for others.
        """
        if not self._judged_whole() or not self.present().any():
            return np.inf
        with np.errstate(all="ignore"):
            rest = dataclasses.replace(self, ceiling=0.0).allowed_arithmetic()
            size = np.maximum(np.abs(self.truth), self.parts_size)
        allowed, typical = (float(np.median(v[self.present()])) for v in (rest, size))
        return (allowed + self._together()) / typical if typical else np.inf

    def _relative(self, allowed: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            size = np.maximum(np.abs(self.truth), self.parts_size)
            return np.where(size != 0, allowed / size, np.inf)
