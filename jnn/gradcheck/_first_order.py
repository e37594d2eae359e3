"""The comparison itself: the derivatives that JAX uses against the truth, element by element, for every probe."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jnn.gradcheck import _directions, _jaxprs, _products, _reference
from jnn.gradcheck._derivatives import Derivatives
from jnn.gradcheck._directions import Probe
from jnn.gradcheck._evidence import LeafRecord, describe
from jnn.gradcheck._judge import EPS64, Comparison, eps_of, grow, parts, reals
from jnn.gradcheck._problem import Leaf, Problem
from jnn.gradcheck.report import Check


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user may set; nothing has to be."""

    seed: int = 0
    tolerance: float | None = None
    allow_nonfinite: bool = False
    cotangents: tuple[Any, ...] | None = None


class FirstOrder:
    """The first derivatives of one problem: `records` by input leaf, and the checks that were run."""

    def __init__(self, problem: Problem, reference: Problem, options: Options) -> None:
        self.problem, self.options = problem, options
        self.derivatives = Derivatives(problem, reference)
        self.records = [LeafRecord(leaf) for leaf in problem.inputs]
        self.together = LeafRecord(Leaf("all leaves", 0, (), problem.outputs[0].dtype))  # forward mode, jointly
        self.checks: list[Check] = []
        self.sampled: list[str] = []
        self.source: Any = None
        self.large = max(sum(i.size for i in problem.inputs), sum(o.size for o in problem.outputs)) > _directions.LARGE
        self.variations = 1 if self.large else _reference.VARIATIONS
        self.probes = _directions.cotangents(problem.outputs, options.seed, self.large)
        if options.cotangents is not None:
            given = tuple(np.asarray(c) for c in options.cotangents)
            self.probes = [Probe("given", given), *self.probes[:2]]
        dtypes = {
            v.aval.dtype for e in _jaxprs.all_equations(problem.jaxpr) for v in e.outvars if hasattr(v.aval, "dtype")
        }
        dtypes |= {leaf.dtype for leaf in (*problem.inputs, *problem.outputs)}
        self.low_precision = any(_jaxprs.is_inexact(d) and eps_of(d) > EPS64 for d in dtypes)
        self.promoted = self.low_precision
        self.gradients: dict[int, list[np.ndarray]] = {}
        self.calibration = ""
        self.tangents: list[list[np.ndarray]] = []
        self.tangent_names: list[str] = []
        self.reverse_error: Exception | None = None

    @functools.cached_property
    def coarse(self) -> float:
        """How coarse the matrix products are, of values and derivatives."""
        pull = () if self.reverse_error is not None else (self.derivatives.pull_jaxpr,)
        return _products.coarseness((self.problem.jaxpr, *pull))

    def rule_gradients(self, probe: int) -> tuple[list[Any], list[Any]]:
        """(outputs, gradients) as JAX computes them."""
        return self.derivatives.rule(self.derivatives.lows, list(self.probes[probe].values))

    def reverse(self) -> None:
        """Compare vector-Jacobian products, or say why there are none."""
        try:
            self.rule_gradients(0)
        except Exception as error:
            self.reverse_error = error
            return
        self.source, why = _reference.choose(self.derivatives, self.options.seed, list(self.probes[0].values))
        if self.source is None:
            self.checks.append(Check("reference by element", "skipped", "; ".join(why)))
            return
        if why:
            self.checks.append(Check("reverse mode of the primal", "skipped", "; ".join(why)))
        for k, probe in enumerate(self.probes):
            self._reverse_probe(k, probe)

    def _rule64(self, w: list[Any], k: int) -> list[np.ndarray] | None:
        if not self.promoted:
            return None
        high, knobs = _reference.variation(self.derivatives, self.options.seed, k)
        try:
            _, g = self.derivatives.rule64(high, w, knobs)
        except Exception as error:  # the rule holds something that cannot be evaluated in float64
            self.promoted = False
            self.checks.append(Check("rule in float64", "skipped", describe(error)))
            return None
        if self.derivatives.rule64.opaque:
            self.promoted = False
            self.checks.append(Check("rule in float64", "skipped", "; ".join(self.derivatives.rule64.opaque)))
            return None
        return [reals(v).ravel() for v in g]

    def _reverse_probe(self, k: int, probe: Probe) -> None:
        w = list(probe.values)
        y, g = self.rule_gradients(k)
        natural = _natural_scale(y, w)
        rule = [reals(v).ravel() for v in g]
        del y, g  # here and below, arrays of large functions are let go of as soon as they can be
        if k < 2 or not self.large:  # further ones are only compared
            self.gradients[k] = rule
        truth = self.source.gradients(w)[1]
        rule64 = self._rule64(w, 0)
        noise = [np.zeros(t.shape) for t in truth]
        for round_ in range(1, self.variations + 1):
            again, again64 = self.source.gradients(w, round_)[1], self._rule64(w, round_)
            for j, n in enumerate(noise):
                grow(n, (truth[j], again[j]), None if rule64 is None or again64 is None else (rule64[j], again64[j]))
            del again, again64
        if self.source.opaque:
            rule64 = None
        slack = self.source.uncertainty(w)
        made = []
        for j, record in enumerate(self.records):
            largest = float(np.max(np.abs(reals(self.derivatives.lows[record.leaf.position])), initial=0.0))
            scale = max(_largest(truth[j]), natural / largest if largest else 0.0)
            made.append(
                Comparison(
                    np.dtype(record.leaf.dtype), rule[j], None if rule64 is None else rule64[j], truth[j], noise[j],
                    scale, slack=0.0 if slack is None else slack[j], coarse=self.coarse,
                    tolerance=self.options.tolerance,
                )
            )  # fmt: skip
        if self.low_precision and any(c.arithmetic_wrong().any() for c in made):
            self._rounding(made, w)
        for record, comparison in zip(self.records, made, strict=True):
            record.add(k, probe.name, comparison)

    def _rounding(self, made: Sequence[Comparison], w: list[Any], *, push: bool = False) -> None:
        """Allow for rounding, where the floors alone do not explain what was seen.

        First what plain autodiff commits in the same dtype, at the point and an ulp beside it; then what a faithful
        evaluation of the rule itself may commit, in float64 with the rounding of every result simulated (a compiler
        may fuse roundings away, and a saved output may be less accurate than autodiff's own residuals).
        """
        d = self.derivatives
        naive, rounded = ("naive_push", "rounded_push") if push else ("naive", "rounded")

        def beyond(value: Any, center: np.ndarray) -> np.ndarray:
            with np.errstate(all="ignore"):
                return np.nan_to_num(np.abs(reals(value).ravel() - center), nan=0.0, posinf=0.0)

        try:
            for arrays in self._beside():
                for c, v in zip(made, getattr(d, naive)(arrays, w)[1], strict=True):
                    c.naive = np.maximum(c.naive, beyond(v, c.truth))
            # Where the formula is wrong, rounding is beside the point.
            if self.promoted and any((c.arithmetic_wrong() & ~c.formula_wrong()).any() for c in made):
                for k in range(1, self.variations + 1):
                    knobs = _reference.Knobs(np.float64(k), np.int32(0))
                    for c, v in zip(made, getattr(d, rounded)(d.highs, w, knobs)[1], strict=True):
                        c.rounding = np.maximum(c.rounding, beyond(v, c.rule64 if c.rule64 is not None else c.truth))
        except Exception as error:  # the primal has no derivative of this kind in JAX: nothing to calibrate with
            self.calibration = describe(error)

    def _beside(self) -> list[list[Any]]:
        """The arguments, and the arguments changed by an ulp of their dtypes."""
        lows = self.derivatives.lows
        points = [lows]
        for k in range(1, self.variations + 1):
            point = list(lows)
            for leaf in self.problem.inputs:
                eps = eps_of(leaf.dtype)
                point[leaf.position] = _directions.varied(
                    [lows[leaf.position]], [leaf.path], self.options.seed, k, eps
                )[0]
            points.append(point)
        return points

    def forward(self) -> None:
        """Compare Jacobian-vector products, where the function has them."""
        kinds = {_jaxprs.RULES.get(e.primitive.name) for e in _jaxprs.all_equations(self.problem.jaxpr)}
        if "custom_vjp" in kinds:
            self.checks.append(Check("forward mode", "skipped", "a custom_vjp inside has no forward mode"))
            return
        if "custom_jvp" not in kinds and self.reverse_error is None:
            self.checks.append(Check("forward mode", "skipped", "no rule of its own: both modes are JAX's"))
            return
        d = self.derivatives
        probes = tangents(self.problem, d.highs, self.options.seed, self.large)
        for n, probe in enumerate(probes):
            v = list(probe.values)
            self.tangents.append(v)
            self.tangent_names.append(probe.name)
            try:
                _, dy = d.rule_push(d.lows, v)
            except Exception as error:
                outcome = "fail" if self.reverse_error is not None or "custom_jvp" in kinds else "skipped"
                self.checks.append(Check("forward mode", outcome, describe(error)))
                return
            try:
                comparisons = self._forward_probe(v, [reals(t).ravel() for t in dy])
            except Exception as error:
                self.checks.append(Check("forward mode", "inconclusive", f"no reference: {describe(error)}"))
                return
            moved = [j for j, t in enumerate(v) if np.any(t)]
            owners = [self.records[moved[0]]] if len(moved) == 1 else [self.together]
            for leaf, made in zip(self.problem.outputs, comparisons, strict=True):
                for record in owners:
                    record.add(-1 - n, f"tangent {probe.name}", made, shown_as=leaf)
        self.checks.append(
            Check("forward mode", "pass", f"{len(probes)} tangent{'s' * (len(probes) != 1)}, element by element")
        )

    def _forward_probe(self, v: list[Any], rule: list[np.ndarray]) -> list[Comparison]:
        d, seed = self.derivatives, self.options.seed

        def flats(values: Sequence[Any]) -> list[np.ndarray]:
            return [reals(t).ravel() for t in values]

        truth: list[np.ndarray] = []
        rule64: list[np.ndarray] | None = None
        noise = [np.zeros(r.shape) for r in rule]
        for k in range(self.variations + 1):
            high, knobs = _reference.variation(d, seed, k)
            t = flats(d.truth_push(high, v, knobs)[1])
            r64 = flats(d.rule64_push(high, v, knobs)[1]) if self.promoted else None
            if k == 0:
                truth, rule64 = t, r64
                continue
            for j, n in enumerate(noise):
                grow(n, (truth[j], t[j]), (rule64[j], r64[j]) if r64 and rule64 else None)
        slack = self._loop_slack(v, truth)
        if d.truth_push.opaque or (self.promoted and d.rule64_push.opaque):
            rule64 = None
        made = [
            Comparison(np.dtype(o.dtype), r, None if rule64 is None else rule64[j], truth[j], noise[j],
                       _largest(truth[j]), slack=slack[j], coarse=self.coarse, tolerance=self.options.tolerance)
            for j, (o, r) in enumerate(zip(self.problem.outputs, rule, strict=True))
        ]  # fmt: skip
        if self.low_precision and any(c.arithmetic_wrong().any() for c in made):
            self._rounding(made, v, push=True)
        return made

    def _loop_slack(self, v: list[Any], truth: list[np.ndarray]) -> list[Any]:
        """What further iterations of convergent while loops change in the tangents."""
        slack: list[Any] = [0.0] * len(truth)
        if not any(e.primitive.name == "while" for e in _jaxprs.all_equations(self.derivatives.primal)):
            return slack
        here, _ = self.derivatives.truth_push(self.derivatives.highs, v, _reference.plain_knobs())
        for extra in (1, 20, 400):
            knobs = _reference.Knobs(np.float64(0), np.int32(extra))
            y, dy = self.derivatives.truth_push(self.derivatives.highs, v, knobs)
            change = max(_reference.relative(reals(a), reals(b)) for a, b in zip(here, y, strict=True))
            if not all(np.all(np.isfinite(reals(a))) for a in (*y, *dy)) or change > 1e-2:
                continue
            for j, t in enumerate(dy):
                slack[j] = np.maximum(
                    slack[j], 3 * np.abs(reals(t).ravel() - truth[j]) + 10 * change * np.abs(truth[j])
                )
        return slack

    def options_at_order_2(self) -> Options:
        """The same options without given cotangents, which are shaped like the outputs, not like the gradients."""
        return dataclasses.replace(self.options, cotangents=None)


def tangents(problem: Problem, highs: Sequence[Any], seed: int, large: bool) -> list[Probe]:
    """The tangents of a check of forward mode, each element scaled by the size of what it moves."""
    sizes = [_reference.typical(np.asarray(highs[leaf.position])) for leaf in problem.inputs]
    return [
        Probe(p.name, tuple((t * s).astype(t.dtype) for t, s in zip(p.values, sizes, strict=True)))
        for p in _directions.tangents(problem.inputs, seed, large)
    ]


def _largest(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(np.max(finite, initial=0.0))


def _natural_scale(y: Sequence[Any], w: Sequence[Any]) -> float:
    """The largest |w y|: a rule that reuses the rounded output commits eps of that, divided by |x|."""
    largest = 0.0
    for a, b in zip(y, w, strict=True):
        a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
        for place in parts(a.size):
            with np.errstate(all="ignore"):
                product = np.asarray(a[place], np.complex128) * np.asarray(b[place], np.complex128)
                largest = max(largest, _largest(np.asarray(np.abs(product))))
    return largest if math.isfinite(largest) else 0.0
