"""Two functions that return gradients, compared: no derivative is taken here, only values are judged."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jnn.gradcheck import _float64, _patterns, _products, _reference, _verdict
from jnn.gradcheck._derivatives import plain_knobs, quick
from jnn.gradcheck._directions import signed, varied
from jnn.gradcheck._evidence import LeafRecord
from jnn.gradcheck._first_order import Options
from jnn.gradcheck._float64 import Knobs
from jnn.gradcheck._judge import EPS64, Comparison, eps_of, reals
from jnn.gradcheck._problem import Leaf, Problem
from jnn.gradcheck._rewrite import without_rules
from jnn.gradcheck.report import Check, Report

VARIATIONS = 3


class _Side:
    """One of the two functions, in its own dtypes and in float64."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._low = jax.jit(problem.flat)
        jit = quick(sum(leaf.size for leaf in (*problem.inputs, *problem.outputs)))
        stripped, _, self.kept = without_rules(problem.jaxpr)
        self._followed, self._own = _float64.oracle(stripped), _float64.oracle(stripped, own=True)
        self._wide = jit(lambda lows, highs, knobs: self._followed(lows, highs, knobs))
        self._free = jit(lambda lows, highs: self._own(lows, highs, None))
        # The dtypes that it computes in may be coarser than those that it returns.
        floats = [leaf.dtype for leaf in (*problem.inputs, *problem.outputs)]
        rounding = _float64.oracle(stripped, rounded=max((eps_of(dtype) for dtype in floats), default=EPS64))
        self._rounded = jit(lambda lows, highs, knobs: rounding(lows, highs, knobs))

    def low(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        return [reals(v).ravel() for v in self._low(*arrays)]

    def wide(self, highs: list[Any], knobs: Knobs) -> list[np.ndarray]:
        with jax.enable_x64(True):
            return [reals(v).ravel() for v in self._wide(self.problem.arrays, highs, knobs)]

    def rounded(self, highs: list[Any], knobs: Knobs) -> list[np.ndarray]:
        """`wide`, with the rounding of a faithful evaluation simulated."""
        with jax.enable_x64(True):
            return [reals(v).ravel() for v in self._rounded(self.problem.arrays, highs, knobs)]

    def free(self, highs: list[Any]) -> list[np.ndarray]:
        with jax.enable_x64(True):
            return [reals(v).ravel() for v in self._free(self.problem.arrays, highs)]

    @property
    def opaque(self) -> tuple[str, ...]:
        return self._followed.opaque


def compare(gradient: Callable[..., Any], other: Callable[..., Any], args: Sequence[Any], options: Options) -> Report:
    """The report of `jnn.gradcheck.compare`."""
    started = time.perf_counter()
    one, two = Problem(gradient, args), Problem(other, args)
    shapes = [[(o.path, tuple(o.shape)) for o in p.outputs] for p in (one, two)]
    if [s for _, s in shapes[0]] != [s for _, s in shapes[1]]:
        raise ValueError(f"expected two gradients of the same shapes, got {shapes[0]} and {shapes[1]}")
    rule, truth = _Side(one), _Side(two)
    paths = [f"argument {k}" for k in range(len(one.arrays))]
    for leaf in one.inputs:
        paths[leaf.position] = leaf.path
    highs = _float64.highs(one.arrays)
    low, low_other = rule.low(one.arrays), truth.low(one.arrays)
    wide, true = rule.wide(highs, plain_knobs()), truth.wide(highs, plain_knobs())
    noise = [np.zeros(t.shape) for t in true]
    naive = [_error(a, t) for a, t in zip(low_other, true, strict=True)]
    for k in range(1, VARIATIONS + 1):
        moved, knobs = varied(highs, paths, options.seed, k, 4 * EPS64), Knobs(np.float64(k), np.int32(0))
        a, b = rule.wide(moved, knobs), truth.wide(moved, knobs)
        beside = list(one.arrays)
        for leaf in one.inputs:
            at = leaf.position
            beside[at] = varied([beside[at]], [leaf.path], options.seed, k, eps_of(leaf.dtype))[0]
        again = truth.low(beside)
        for j, t in enumerate(true):
            noise[j] = np.maximum(noise[j], _error(a[j], wide[j]) + _error(b[j], t))
            naive[j] = np.maximum(naive[j], _error(again[j], t))
    promoted = not (rule.opaque or truth.opaque)
    coarse = _products.coarseness((one.jaxpr, two.jaxpr))
    made = []
    for j, out in enumerate(one.outputs):
        scale = float(np.max(np.abs(true[j][np.isfinite(true[j])]), initial=0.0))
        made.append(
            Comparison(np.dtype(out.dtype), low[j], wide[j] if promoted else None, true[j], noise[j], scale, naive[j],
                       coarse=coarse, tolerance=options.tolerance)
        )  # fmt: skip
    # Where the formula is right, what a faithful evaluation of it may commit is no fault either.
    if promoted and any((c.arithmetic_wrong() & ~c.formula_wrong()).any() for c in made):
        for k in range(1, VARIATIONS + 1):
            simulated = rule.rounded(highs, Knobs(np.float64(k), np.int32(0)))
            for c, v, center in zip(made, simulated, wide, strict=True):
                c.rounding = np.maximum(c.rounding, _error(v, center))
    records = []
    for j, (out, comparison) in enumerate(zip(one.outputs, made, strict=True)):
        record = LeafRecord(Leaf(out.path, j, out.shape, out.dtype))
        record.add(0, "values", comparison)
        records.append(record)
    hulls = _hulls(truth, one, highs, options.seed) if any(r.disputes for r in records) else None
    for j, record in enumerate(records):
        _settle(record, None if hulls is None else hulls[j])
    leaves = tuple(r.evidence(False) for r in records)
    checks = (Check("values", "pass" if all(r.verdict == "pass" for r in records) else "fail", "element by element"),)
    if all(r.verdict != "fail" for r in records):
        checks = (Check("values", _verdict.overall(leaves, ()), "element by element"),)
    verdict = _verdict.overall(leaves, checks)
    return Report(
        function=f"{one.name} beside {two.name}", verdict=verdict, leaves=leaves, checks=checks,
        summary=_verdict.summary(verdict, leaves, checks), reference=f"{two.name}, in float64",
        not_rewritten=(*rule.kept, *truth.kept), seed=options.seed, environment=_verdict.environment(),
        seconds=time.perf_counter() - started,
    )  # fmt: skip


def _error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.abs(a - b), nan=0.0, posinf=0.0)


def _hulls(truth: _Side, problem: Problem, highs: list[Any], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The range of the other gradient close by, where it jumps."""
    found = []
    for k in range(3):
        for sign in (1.0, -1.0):
            near = list(highs)
            for leaf in problem.inputs:
                x = np.asarray(near[leaf.position])
                rng = np.random.default_rng([seed, k, leaf.position])
                near[leaf.position] = x + sign * 1e-10 * _reference.typical(x) * signed(rng, x.shape, x.dtype)
            found.append(truth.free(near))
    with np.errstate(all="ignore"):
        return [(np.min(leaf, 0), np.max(leaf, 0)) for leaf in zip(*found, strict=True)]


def _settle(record: LeafRecord, hull: tuple[np.ndarray, np.ndarray] | None) -> None:
    for dispute in record.disputes:
        c, where = dispute.comparison, dispute.where
        inside = np.zeros(where.shape, bool)
        if hull is not None:
            low, high, value = hull[0][where], hull[1][where], c.rule[where]
            with np.errstate(all="ignore"):
                slack = c.allowed_arithmetic()[where]
                jumps = high - low > 1e-5 * np.maximum(np.abs(low), np.abs(high))
                inside = jumps & (value >= low - slack) & (value <= high + slack)
        record.verdict = "kink" if inside.all() else "fail"
        if record.verdict == "kink":
            record.notes["at a kink: the value lies between those close by"] = None
        else:
            record.pattern = _patterns.guess(c, record.leaf.shape)
