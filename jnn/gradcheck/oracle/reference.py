"""Where the true gradient comes from: reverse-mode autodiff of the primal in float64, else forward mode or differences.

Reverse mode gives all elements at once. Where the primal has no reverse mode (a while loop), its Jacobian is taken
column by column; where it has no derivative in JAX at all (a callback, a kernel), or where a rule could not be removed
from it, by differences of the primal. (Of an implicit function, given its residual: see `implicit`.)
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jnn.gradcheck.oracle import differences, jaxprs
from jnn.gradcheck.oracle.derivatives import Derivatives, plain_knobs
from jnn.gradcheck.oracle.directions import varied
from jnn.gradcheck.oracle.float64 import Knobs
from jnn.gradcheck.oracle.numbers import EPS64, eps_of, reals
from jnn.gradcheck.oracle.problem import Leaf

VARIATIONS = 3
FURTHER, INSIDE = (1, 20, 400), (-1, -20)
"""Iterations beyond the end of a while loop, to see whether it converges; the same of loops inside a loop."""
LARGEST_JACOBIAN = 1024
TOGETHER = 100_000
"""Numbers in and out of the columns of a Jacobian that are evaluated together."""
KEPT = 20_000
"""Outputs of so many numbers are kept for each step of a line; larger ones are computed again for each cotangent."""


class Unavailable(Exception):
    """No reference of this kind exists for the function."""


def variation(derivatives: Derivatives, seed: int, k: int) -> tuple[list[Any], Knobs]:
    """The k-th variation of the inputs by an ulp of float64 and of the inexact literals; the 0-th is none."""
    if k == 0:
        return derivatives.highs, plain_knobs()
    paths = [f"argument {j}" for j in range(len(derivatives.highs))]
    for leaf in derivatives.problem.inputs:
        paths[leaf.position] = leaf.path
    return varied(derivatives.highs, paths, seed, k, 4 * EPS64), Knobs(np.float64(k), np.int32(0))


class Reverse:
    """Reverse-mode autodiff of the primal in float64."""

    kind = "autodiff"

    def __init__(self, derivatives: Derivatives, seed: int) -> None:
        self._derivatives, self._seed = derivatives, seed

    def gradients(self, w: Sequence[Any], k: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(flat outputs, flat gradients) for a cotangent, under the k-th variation."""
        high, knobs = variation(self._derivatives, self._seed, k)
        y, g = self._derivatives.truth(high, list(w), knobs)
        return [reals(v).ravel() for v in y], [reals(v).ravel() for v in g]

    def uncertainty(self, w: Sequence[Any]) -> list[np.ndarray] | None:
        """What the reference itself may be off, beyond rounding."""
        return None

    @property
    def opaque(self) -> tuple[str, ...]:
        """The primitives that could not be evaluated in float64."""
        return self._derivatives.truth.opaque


def basis(leaf: Leaf) -> list[np.ndarray]:
    """The unit tangents of a leaf; for a complex leaf the real one and the imaginary one of each element."""
    out = []
    for i in range(leaf.size):
        for unit in (1.0, 1j) if np.issubdtype(np.dtype(leaf.dtype), np.complexfloating) else (1.0,):
            v = np.zeros(leaf.size, np.dtype(leaf.dtype))
            v[i] = unit
            out.append(v.reshape(leaf.shape))
    return out


class Columns:
    """The Jacobian column by column; subclasses say how a column is made."""

    kind = ""

    def __init__(self, derivatives: Derivatives, seed: int) -> None:
        self._derivatives, self._seed = derivatives, seed
        self._inputs, self._outputs = derivatives.problem.inputs, derivatives.problem.outputs
        self.total = sum(i.size for i in self._inputs)
        if self.total > LARGEST_JACOBIAN:
            raise Unavailable(f"{self.total} columns")

    def tangents(self) -> list[tuple[int, list[np.ndarray]]]:
        """(leaf, tangent) of every column."""
        zeros = [np.zeros(i.shape, np.dtype(i.dtype)) for i in self._inputs]
        return [(j, [*zeros[:j], v, *zeros[j + 1 :]]) for j, leaf in enumerate(self._inputs) for v in basis(leaf)]

    def by_leaf(self, numbers: Sequence[float]) -> list[np.ndarray]:
        """One number a column, as flat real gradients by leaf."""
        out, start = [], 0
        for leaf in self._inputs:
            is_complex = np.issubdtype(np.dtype(leaf.dtype), np.complexfloating)
            n = leaf.size * (2 if is_complex else 1)
            part = np.array(numbers[start : start + n])
            if is_complex:
                part[1::2] *= -1  # JAX pairs without conjugation: Re(g dz) for dz = i is −Im g
            out.append(part)
            start += n
        return out


class Forward(Columns):
    """Forward-mode autodiff of the primal in float64, for functions without reverse mode (while loops)."""

    kind = "forward-mode autodiff"

    def __init__(self, derivatives: Derivatives, seed: int) -> None:
        super().__init__(derivatives, seed)
        self._jacobians: dict[Any, tuple[list[np.ndarray], list[list[np.ndarray]]]] = {}
        self._batched = True
        try:
            self._jacobian(0, 0)
        except Exception:  # a primitive without a batching rule
            self._batched = False
            self._jacobian(0, 0)

    def _jacobian(self, k: int, extra: int) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
        if (k, extra) not in self._jacobians:
            high, knobs = variation(self._derivatives, self._seed, k)
            knobs = Knobs(knobs.phase, np.int32(extra))
            y, columns = self._together(high, knobs) if self._batched else self._in_turn(high, knobs)
            self._jacobians[k, extra] = [reals(o).ravel() for o in y], columns
            del high
        return self._jacobians[k, extra]

    def _together(self, high: list[Any], knobs: Knobs) -> tuple[list[Any], list[list[np.ndarray]]]:
        """The columns in one evaluation, which takes as many equations as one of them (or in a few such)."""
        tangents = [v for _, v in self.tangents()]
        count = len(tangents)
        most = max(1, min(count, TOGETHER // (self.total + sum(o.size for o in self._outputs))))
        y, columns = [], []
        for start in range(0, count, most):
            some = tangents[start : start + most]
            some += some[:1] * (most - len(some))  # always as many, for one program
            stacked = [np.stack(leaf) for leaf in zip(*some, strict=True)]
            y, dy = self._derivatives.truth_pushes(high, stacked, knobs)
            columns += [[np.asarray(d[i]) for d in dy] for i in range(min(most, count - start))]
        return y, columns

    def _in_turn(self, high: list[Any], knobs: Knobs) -> tuple[list[Any], list[list[np.ndarray]]]:
        y, columns = [], []
        for _, v in self.tangents():
            y, dy = self._derivatives.truth_push(high, v, knobs)
            columns.append([np.asarray(d) for d in dy])
        return y, columns

    def gradients(self, w: Sequence[Any], k: int = 0, extra: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(flat outputs, flat gradients) for a cotangent, under the k-th variation."""
        y, columns = self._jacobian(k, extra)
        wide = [np.asarray(v).astype(np.complex128 if np.iscomplexobj(v) else np.float64) for v in w]
        return y, self.by_leaf([sum(float(np.sum(a * d).real) for a, d in zip(wide, c, strict=True)) for c in columns])

    def uncertainty(self, w: Sequence[Any]) -> list[np.ndarray] | None:
        """What further iterations of the primal's while loops change: its own truncation error, if they converge."""
        y, g = self.gradients(w)
        bars = None
        nested = jaxprs.has_loop_in_loop(self._derivatives.primal)
        for turns in (FURTHER, INSIDE) if nested else (FURTHER,):
            for extra in turns:
                try:
                    further, longer = self.gradients(w, 0, extra)
                except Exception:  # a solver that raises in iterations that it never reaches
                    break
                if not all(np.all(np.isfinite(a)) for a in (*further, *longer)):
                    continue
                change = max((relative(a, b) for a, b in zip(y, further, strict=True)), default=0.0)
                if change > 1e-2:  # the loop counts rather than converges
                    continue
                found = [3 * np.abs(a - b) + 10 * change * np.abs(a) for a, b in zip(g, longer, strict=True)]
                bars = found if bars is None else [np.maximum(a, b) for a, b in zip(bars, found, strict=True)]
        return bars

    @property
    def opaque(self) -> tuple[str, ...]:
        """The primitives that could not be evaluated in float64."""
        return (self._derivatives.truth_pushes if self._batched else self._derivatives.truth_push).opaque


class Differences(Columns):
    """Differences of the primal, element by element, with their error bars as the reference's uncertainty."""

    kind = "differences"

    def __init__(self, derivatives: Derivatives, seed: int) -> None:
        super().__init__(derivatives, seed)
        if self.total > 128:
            raise Unavailable(f"{self.total} columns by differences")
        self._along = [Line(derivatives, v) for _, v in self.tangents()]
        self._latest: tuple[list[Any], list[differences.Slope]] = [], []

    def _slopes(self, w: Sequence[Any]) -> list[differences.Slope]:
        cotangents, slopes = self._latest
        if len(cotangents) != len(w) or any(a is not b for a, b in zip(cotangents, w, strict=True)):
            slopes = [line.slope(w) for line in self._along]
            self._latest = list(w), slopes
        return slopes

    def gradients(self, w: Sequence[Any], k: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(flat outputs, flat gradients) for a cotangent; there are no variations."""
        return self._along[0].here(), self.by_leaf([s.estimate for s in self._slopes(w)])

    def uncertainty(self, w: Sequence[Any]) -> list[np.ndarray] | None:
        """The error bars; at a kink, the distance to the farther one-sided derivative."""
        bars = [4 * s.bar + (abs(s.right - s.left) if s.kinked else 0.0) for s in self._slopes(w)]
        return [np.abs(b) for b in self.by_leaf(bars)]

    @property
    def opaque(self) -> tuple[str, ...]:
        """The primitives that could not be evaluated in float64."""
        return self._derivatives.primal64.opaque


def choose(derivatives: Derivatives, seed: int, w: Sequence[Any]) -> tuple[Any, list[str]]:
    """The best reference that the primal has, and why the better ones are not available."""
    why = []
    candidates: tuple[type, ...] = (Reverse, Forward, Differences)
    if derivatives.kept:  # what JAX differentiates still holds a rule under test: autodiff would be no second opinion
        why = [f"autodiff: {reason}" for reason in derivatives.kept]
        candidates = (Differences,)
    for candidate in candidates:
        try:
            reference = candidate(derivatives, seed)
            reference.gradients(w)
        except Exception as error:  # whatever JAX raises where it cannot differentiate the primal
            first = str(error).strip().splitlines()
            why.append(f"{candidate.kind}: {type(error).__name__}: {first[0][:160] if first else ''}")
            continue
        return reference, why
    return None, why


def typical(array: np.ndarray) -> np.ndarray:
    """The magnitude of each element, the leaf's typical one where it is zero or infinite (one, where all are)."""
    size = np.abs(array)
    known = (size > 0) & np.isfinite(size)
    return np.where(known, size, np.median(size[known]) if known.any() else 1.0)


class Line:
    """The primal in float64 along one direction: tangents times the typical size of their elements."""

    def __init__(self, derivatives: Derivatives, tangents: Sequence[np.ndarray], *, scaled: bool = True) -> None:
        problem = derivatives.problem
        self._derivatives = derivatives
        self._x = [np.asarray(derivatives.highs[leaf.position]) for leaf in problem.inputs]
        moved: list[Any] = [typical(x) if scaled else 1.0 for x in self._x]
        self.direction = [np.asarray(v).astype(x.dtype) * m for v, x, m in zip(tangents, self._x, moved, strict=True)]
        nonzero = [m[np.asarray(v) != 0] for v, m in zip(tangents, moved, strict=True) if np.any(v) and scaled]
        # A single element: undo the scale, so that the slope is the derivative with respect to the element.
        self.unit = float(nonzero[0][0]) if len(nonzero) == 1 and nonzero[0].size == 1 else 1.0
        self._memo: dict[float, np.ndarray] = {}
        self._shapes: list[int] = []

    def outputs(self, step: float) -> np.ndarray:
        """The flat real outputs at a step."""
        if step in self._memo:
            return self._memo[step]
        high = list(self._derivatives.highs)
        for leaf, x, d in zip(self._derivatives.problem.inputs, self._x, self.direction, strict=True):
            high[leaf.position] = x + step * d if step else x
        try:
            flat = [reals(y).ravel() for y in self._derivatives.primal64(high)]
        except Exception as error:  # a callback that refuses what lies beside the given point
            if step and self._shapes:
                return np.full(sum(self._shapes), np.nan)
            raise error
        self._shapes = [f.size for f in flat]
        values = flat[0] if len(flat) == 1 else np.concatenate(flat)
        if values.size <= KEPT:
            self._memo[step] = values
        return values

    def here(self) -> list[np.ndarray]:
        """The outputs at the point itself, by leaf."""
        return np.split(self.outputs(0.0), np.cumsum(self._shapes)[:-1])

    def precision(self) -> float:
        """The relative precision of the primal: coarser than float64 where a primitive had to keep its dtype."""
        self.outputs(0.0)
        if not self._derivatives.primal64.opaque:
            return EPS64
        return max(
            eps_of(leaf.dtype) for leaf in (*self._derivatives.problem.outputs, *self._derivatives.problem.inputs)
        )

    def slope(self, w: Sequence[Any]) -> differences.Slope:
        """The derivative of ⟨w, f⟩ along the line (with respect to the element, for a single one)."""
        return differences.slope(self.outputs, flat_cotangent(w), self.precision()).scaled(1.0 / self.unit)

    def rounding(self, w: Sequence[Any]) -> float:
        """What rounding every result on the way to float64 changes in ⟨w, f⟩ at the point."""
        d, here = self._derivatives, self.outputs(0.0)
        changes = [0.0]
        for k in range(1, VARIATIONS + 1):
            y = d.rounded_primal64(d.highs, Knobs(np.float64(k), np.int32(0)))
            change = np.concatenate([reals(v).ravel() for v in y]) - here
            changes.append(abs(float(np.sum(flat_cotangent(w) * change))))
        return max(changes)

    def tangents(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(derivative, error bar) of every real number that comes out, by output leaf."""
        found = differences.elementwise(self.outputs, self.precision())
        kinked = np.abs(found.right - found.left) > 4 * (found.right_bar + found.left_bar)
        bars = 4 * found.bar + np.where(kinked, np.abs(found.right - found.left), 0.0)
        cuts = np.cumsum(self._shapes)[:-1]
        return np.split(found.estimate, cuts), np.split(bars, cuts)


def flat_cotangent(w: Sequence[Any]) -> np.ndarray:
    """Cotangents as weights of the flat real outputs: Re(w dy) = Re w Re dy − Im w Im dy."""
    parts = []
    for v in w:
        flat = reals(v).ravel()
        if np.iscomplexobj(np.asarray(v)):
            flat = flat * np.tile([1.0, -1.0], flat.size // 2)
        parts.append(flat)
    return np.concatenate(parts)


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference beside the largest value."""
    size, gap = float(np.max(np.abs(a), initial=0.0)), float(np.max(np.abs(a - b), initial=0.0))
    return gap / size if size else (math.inf if gap else 0.0)
