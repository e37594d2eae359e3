"""The gradients that JAX uses against the true ones, element by element, for every cotangent."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jnn.gradcheck.judgement.comparison import Comparison, typical_error
from jnn.gradcheck.judgement.findings import KEPT, Compared, Findings, compared, describe
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import directions, reference
from jnn.gradcheck.oracle.derivatives import COARSER
from jnn.gradcheck.oracle.implicit import Implicit
from jnn.gradcheck.oracle.numbers import EPS64, eps_of, largest, parts, reals
from jnn.gradcheck.oracle.sums import SINGLE
from jnn.gradcheck.report import Check

ROUNDING = "rounding of a careful implementation"
TRIES = 16
"""Simulations of rounding, where some of them take another branch."""


@dataclasses.dataclass(frozen=True)
class Reverse:
    """What reverse mode gave: the reference, the rule's gradients by probe (flat), and how they compare."""

    source: Any = None
    gradients: dict[int, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    compared: tuple[Compared, ...] = ()
    findings: Findings = dataclasses.field(default_factory=Findings)

    def of(self, path: str) -> list[Compared]:
        """The comparisons of one leaf."""
        return [c for c in self.compared if c.owner == path]

    def kept(self, path: str) -> list[tuple[int, Comparison]]:
        """(probe, comparison) of one leaf, of those whose arrays were kept."""
        return [(c.probe, c.comparison) for c in self.of(path) if c.comparison is not None and c.probe >= 0]


def run(setting: Setting) -> Reverse:
    """Compare vector-Jacobian products, or say why there are none."""
    if setting.reverse_error is not None:
        return Reverse()
    d, options = setting.derivatives, setting.options
    checks: list[Check] = []
    if options.residual is not None:
        source, why = _implicit(setting)
        checks.append(why)
    else:
        source, reasons = reference.choose(d, options.seed, list(setting.probes[0].values))
        if source is None:
            return Reverse(None, {}, (), Findings((Check("reference by element", "skipped", "; ".join(reasons)),)))
        if reasons:
            checks.append(Check("reverse mode of the primal", "skipped", "; ".join(reasons)))
    if source is None:
        return Reverse(None, {}, (), Findings(tuple(checks)))
    if setting.low_precision and setting.wide_error:
        checks.append(Check("rule in float64", "skipped", setting.wide_error))
    return _compared(setting, source, checks)


def by_differences(setting: Setting) -> Reverse:
    """The same with differences as the reference, whatever JAX can differentiate; no source if there are none."""
    try:
        source = reference.Differences(setting.derivatives, setting.options.seed)
        source.gradients(list(setting.probes[0].values))
    except Exception as error:  # too large, or the primal cannot be evaluated beside the point
        return Reverse(None, {}, (), Findings((Check("reference by element", "skipped", describe(error)),)))
    return _compared(setting, source, [])


def _compared(setting: Setting, source: Any, checks: list[Check]) -> Reverse:
    gradients: dict[int, list[np.ndarray]] = {}
    found: dict[int, list[Compared]] = {}
    # The first comes last: its arrays are kept, and should not lie beside those of the others.
    for k in [*range(1, len(setting.probes)), 0]:
        try:
            rule, made, unknown = _probe(setting, source, k)
        except Exception as error:  # a solver that gives up, say: that of the first cotangent did not
            if k == 0:
                raise
            why = f"with cotangent {setting.probes[k].name}: {describe(error)}"
            checks.append(Check("another cotangent", "inconclusive", why))
            continue
        if unknown and not any(c.name == ROUNDING for c in checks):
            checks.append(Check(ROUNDING, "skipped", unknown))
        if k == 0 or not setting.large:  # further ones are only compared
            gradients[k] = rule
        found[k] = []
        while made:
            leaf, comparison = made.pop(0)
            if not leaf.size:
                continue
            small = comparison.truth.size <= KEPT
            one = compared(leaf.path, leaf, k, setting.probes[k].name, comparison, keep=small or k == 0)
            if not small and k == 0 and not one.wrong.size and comparison.rule64 is not None:
                # What deviates by less than is allowed is as good as the truth, of which there is a copy already.
                one = dataclasses.replace(one, comparison=dataclasses.replace(comparison, rule64=comparison.truth))
            found[k].append(one)
            del comparison, one
    everything = tuple(c for k in range(len(setting.probes)) for c in found.get(k, []))
    return Reverse(source, gradients, everything, Findings(tuple(checks)))


def _implicit(setting: Setting) -> tuple[Any, Check]:
    name = "residual"
    assert setting.options.residual is not None
    try:
        source = Implicit(setting.derivatives, setting.options.seed, setting.options.residual)
        source.gradients(list(setting.probes[0].values))
    except ValueError:
        raise
    except Exception as error:  # a residual that cannot be evaluated, a singular Jacobian
        return None, Check(name, "inconclusive", describe(error))
    if source.undone > 1e-2:
        return source, Check(
            name, "inconclusive", f"the primal has not converged: its value is {source.undone:.1e} off the root"
        )
    return source, Check(name, "pass", f"the value is {source.undone:.1e} off the root, relative to its largest number")


def _probe(setting: Setting, source: Any, k: int) -> tuple[list[np.ndarray], list[tuple[Any, Comparison]], str]:
    """(the rule's flat gradients, (leaf, comparison) of every leaf, what could not be found out of rounding) for one
    cotangent.
    """
    d, probe = setting.derivatives, setting.probes[k]
    w = list(probe.values)
    y, g = setting.rule(k)
    natural = natural_scale(y, w)
    rule = [native(v) for v in g]
    del y, g  # here and below, arrays of large functions are let go of as soon as they can be
    truth = source.gradients(w)[1]
    rule64, unknown = None, ""
    if setting.promoted:
        try:
            rule64 = setting.rule64(w)[1]
        except Exception as error:  # a solver that is on the verge of giving up
            unknown = f"the rule cannot be evaluated in float64: {describe(error)}"
    noise: list[np.ndarray] = []
    # The first two cotangents tell the noise of dense gradients well enough; sparse ones are varied once.
    for round_ in range(1, (setting.variations if k < 2 else 1) + 1):
        try:
            change = source.gradients(w, round_)[1]
            again64 = setting.rule64(w, round_)[1] if rule64 is not None else None
        except Exception as error:
            unknown = unknown or f"it raises beside the point: {describe(error)}"
            continue
        differences_in_place(change, truth)
        if rule64 is not None and again64 is not None:
            differences_in_place(again64, rule64)
            for c, more in zip(change, again64, strict=True):
                np.add(c, more, out=c)
        del again64
        noise = [np.maximum(n, c, out=n) for n, c in zip(noise, change, strict=True)] if noise else change
        del change
    noise = noise or [np.zeros(t.shape) for t in truth]
    noise = [n.astype(np.float32) if n.size > KEPT and r.dtype != np.float64 else n
             for n, r in zip(noise, rule, strict=True)]  # fmt: skip
    if source.opaque:
        rule64 = None
    slack = source.uncertainty(w)
    made = []
    for j, leaf in enumerate(setting.problem.inputs):
        size = largest(native(d.lows[leaf.position]))
        scale = max(largest(truth[j]), natural / size if size else 0.0)
        made.append(
            Comparison(
                np.dtype(leaf.dtype), rule[j], None if rule64 is None else rule64[j], truth[j], noise[j], scale,
                slack=0.0 if slack is None else slack[j], coarse=setting.coarse, grain=setting.grain,
                tolerance=setting.options.tolerance,
            )
        )  # fmt: skip
    made = [_by_parts(setting, c, w, j, natural) for j, c in enumerate(made)]
    if setting.low_precision and any(c.arithmetic_wrong().any() for c in made):
        made, more = with_rounding(setting, made, w)
        unknown = unknown or more
    elif setting.grain > SINGLE and not any(c.formula_wrong().any() for c in made):
        # Nothing deviates: for the report to say what of a rule would be noticed (of a large one, nothing).
        if k == 0 and setting.has_rules and not setting.large:
            made, more = with_rounding(setting, made, w, needed=False)
            unknown = unknown or more
        else:
            made = [dataclasses.replace(c, granted=False) for c in made]
    return rule, list(zip(setting.problem.inputs, made, strict=True)), unknown


def native(value: Any) -> np.ndarray:
    """A flat real array: of a large one in float32 as it is, in float64 otherwise."""
    array = np.asarray(value)
    if array.dtype == np.float32 and array.size > KEPT:
        return array.ravel()
    return reals(array).ravel()


def differences_in_place(values: list[np.ndarray], others: Sequence[np.ndarray]) -> None:
    """Replace arrays by what they differ from others, 0 where that is not finite."""
    for k, (value, other) in enumerate(zip(values, others, strict=True)):
        with np.errstate(all="ignore"):
            changed = value if value.flags.writeable and value.base is None else value.copy()
            np.subtract(changed, other, out=changed)
            np.abs(changed, out=changed)
            values[k] = np.nan_to_num(changed, copy=False, nan=0.0, posinf=0.0)


def _by_parts(setting: Setting, c: Comparison, w: list[Any], leaf: int, natural: float) -> Comparison:
    """A gradient that is zero but for rounding is judged beside the terms that cancel in it.

    How large these are is told by what rounding every result of the rule in float64 changes, in units of its eps. It is
    asked for where the gradient is tiny beside the value, or (where the value is zero, too) beside its own noise.
    """
    top = largest(c.truth)
    beside_value = top <= 1e-9 * max(natural, c.scale)
    if not beside_value and top > 64 * largest(c.noise):
        return c
    if not np.any(c.rule):  # a start of an iteration, say, on which the result hardly depends
        return dataclasses.replace(c, parts_size=c.scale) if 0 < top <= 1e-9 * c.scale else c
    d = setting.derivatives

    def changed(program: Any) -> float:
        knobs = [reference.Knobs(np.float64(k), np.int32(0)) for k in range(1, reference.VARIATIONS + 1)]
        return max(largest(_beyond(program(d.highs, w, k)[1][leaf], center)) for k in knobs)

    try:
        center = c.rule64 if c.rule64 is not None else flats(d.rule64(d.highs, w, reference.plain_knobs())[1])[leaf]
        change = changed(d.rounded_in_float64)
        if not change or max(top, largest(center)) > 64 * change:  # one of the two is not zero at all
            return c
        # Rounding grows with its unit; the jump of a kink, or of a branch, does not.
        if not beside_value and changed(d.rounded_coarsely) < COARSER / 64 * change:
            return c
    except Exception:  # it cannot be evaluated in float64
        return c
    size = change / EPS64
    return dataclasses.replace(c, parts_size=size, scale=max(size, top))


def with_rounding(
    setting: Setting, made: Sequence[Comparison], w: list[Any], *, push: bool = False, needed: bool = True
) -> tuple[list[Comparison], str]:
    """Allow for rounding, where the floors alone do not explain what was seen (or, with `needed` false, in any case);
    and say what could not be found out.

    First what plain autodiff commits in the same dtypes, carefully evaluated, at the point and an ulp beside it; then
    what a faithful evaluation of the rule itself may commit, in float64 with the rounding of every result simulated (a
    compiler may fuse roundings away, a saved output may be less accurate than autodiff's own residuals, and where
    numbers are close rounding decides on a branch); then what JAX's own compiled autodiff commits, which sums in coarse
    dtypes: no excuse for a rule that does so itself. A leaf that is off by more than all this as a whole is allowed
    less.
    """
    d = setting.derivatives
    made = [dataclasses.replace(c, suspect=bool(setting.sums_coarsely)) for c in made]
    # Autodiff of a solver that has not converged says nothing about the implicit function, and that of a primal which
    # still holds the rule is the rule.
    points = _beside(setting) if setting.options.residual is None and not d.kept else []
    made, unknown = _beside_naive(made, lambda: d.naive_push if push else d.naive, points, w)
    # Where the formula is wrong, rounding is beside the point.
    if any(c.rule64 is not None for c in made) and (_unexplained(made) or not needed):
        made = _beside_rounded(setting, made, d.rounded_push if push else d.rounded, w)
    if unknown or setting.sums_coarsely:
        return [c.as_a_whole() for c in made], unknown
    stated = not needed and points and d.naive_sums_coarsely
    if stated or _unexplained(made) or any(map(_partly_wrong, made)):
        made, unknown = _beside_naive(made, lambda: d.compiled_naive_push if push else d.compiled_naive, points, w)
    return [c.as_a_whole() for c in made], unknown


def _unexplained(made: Sequence[Comparison]) -> bool:
    return any(c.coarsely_summed() or (c.arithmetic_wrong() & ~c.formula_wrong()).any() for c in made)


def _partly_wrong(c: Comparison) -> bool:
    """Whether the formula deviates in fewer than half of the elements: another branch may have been taken there."""
    return bool(0 < c.formula_wrong().sum() < 0.5 * c.present().sum())


def _beside_naive(
    made: Sequence[Comparison], naive: Callable[[], Callable[..., Any]], points: Sequence[list[Any]], w: list[Any]
) -> tuple[list[Comparison], str]:
    """With what autodiff of the primal is off; and why that is not known, if it is not."""
    try:
        values = [naive()(arrays, w)[1] for arrays in points]
    except Exception as error:  # the primal has no derivative of this kind, or none in these dtypes
        return list(made), f"that of autodiff is not known: {describe(error)}"
    for k, derivatives in enumerate(values):
        errors = [_beyond(v, c.truth) for c, v in zip(made, derivatives, strict=True)]
        # The points beside it tell what the function does with rounding of its arguments, not what rounding commits.
        careful = [max(c.careful, typical_error(e, c.present())) if k == 0 else c.careful
                   for c, e in zip(made, errors, strict=True)]  # fmt: skip
        made = [
            dataclasses.replace(c, naive=np.maximum(c.naive, e), careful=size)
            for c, e, size in zip(made, errors, careful, strict=True)
        ]
    return list(made), ""


def _beside_rounded(
    setting: Setting, made: Sequence[Comparison], rounded: Callable[..., Any], w: list[Any]
) -> list[Comparison]:
    centers = [c.truth if c.rule64 is None else c.rule64 for c in made]
    for k in range(1, TRIES + 1):
        if k > setting.variations and not _unexplained(made):
            break
        values = rounded(setting.derivatives.highs, w, reference.Knobs(np.float64(k), np.int32(0)))[1]
        errors = [_beyond(v, center) for v, center in zip(values, centers, strict=True)]
        made = [
            # Rounding is simulated with up to an ulp, and commits half of one.
            dataclasses.replace(c, rounding=np.maximum(c.rounding, e),
                                careful=max(c.careful, 0.5 * typical_error(e, c.present())))
            for c, e in zip(made, errors, strict=True)
        ]  # fmt: skip
        if k == setting.variations and not any(c.branches().any() for c in made):
            break
    return list(made)


def _beyond(value: Any, center: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.abs(reals(value).ravel() - center), nan=0.0, posinf=0.0)


def _beside(setting: Setting) -> list[list[Any]]:
    """The arguments, and the arguments changed by an ulp of their dtypes."""
    lows = setting.derivatives.lows
    points = [lows]
    for k in range(1, setting.variations + 1):
        point = list(lows)
        for leaf in setting.problem.inputs:
            at, eps = leaf.position, eps_of(leaf.dtype)
            point[at] = directions.varied([lows[at]], [leaf.path], setting.options.seed, k, eps)[0]
        points.append(point)
    return points


def natural_scale(y: Sequence[Any], w: Sequence[Any]) -> float:
    """The largest |w y|: a rule that reuses the rounded output commits eps of that, divided by |x|."""
    found = 0.0
    for a, b in zip(y, w, strict=True):
        a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
        for place in parts(a.size):
            with np.errstate(all="ignore"):
                product = np.asarray(a[place], np.complex128) * np.asarray(b[place], np.complex128)
                found = max(found, largest(np.abs(product)))
    return found if math.isfinite(found) else 0.0
