"""The tangents that JAX uses against the true ones, element by element, for a tangent in each leaf and in all."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jnn.gradcheck.judgement.comparison import Comparison, grow
from jnn.gradcheck.judgement.findings import KEPT, Compared, Findings, compared, describe
from jnn.gradcheck.judgement.reverse import with_rounding
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import reference
from jnn.gradcheck.oracle.directions import Probe
from jnn.gradcheck.oracle.numbers import largest, reals
from jnn.gradcheck.oracle.sums import SINGLE
from jnn.gradcheck.report import Check

NAME = "forward mode"
TOGETHER = "all leaves"
"""The owner of comparisons along a tangent in all leaves."""


@dataclasses.dataclass(frozen=True)
class Forward:
    """What forward mode gave: the tangents that were used, what came out (flat), how that compares, whether the mode
    works at all, and what it was compared with.
    """

    tangents: tuple[Probe, ...] = ()
    pushed: tuple[list[np.ndarray], ...] = ()
    compared: tuple[Compared, ...] = ()
    works: bool = False
    kinds: tuple[str, ...] = ()
    findings: Findings = dataclasses.field(default_factory=Findings)


def run(setting: Setting, *, autodiff: bool = True) -> Forward:
    """Compare Jacobian-vector products, where the function has them; without `autodiff` with differences alone."""
    if "custom_vjp" in setting.kinds:
        return _skipped("a custom_vjp inside has no forward mode")
    if not setting.has_rules and setting.reverse_error is None:
        return _skipped("no rule of its own: both modes are JAX's")
    d, probes = setting.derivatives, setting.tangents()
    found: list[Compared] = []
    pushed: list[list[np.ndarray]] = []
    kinds: dict[str, None] = {}
    unknowns: dict[str, None] = {}
    for n, probe in enumerate(probes):
        v = list(probe.values)
        try:
            _, dy = d.rule_push(d.lows, v)
        except Exception as error:
            outcome = "fail" if setting.reverse_error is not None or "custom_jvp" in setting.kinds else "skipped"
            return Forward(findings=Findings((Check(NAME, outcome, describe(error)),)))
        pushed.append(flats(dy))
        try:
            made, kind, unknown = _probe(setting, v, pushed[-1], autodiff=autodiff)
        except Exception as error:
            why = f"no reference: {describe(error)}"
            return Forward(tuple(probes), findings=Findings((Check(NAME, "inconclusive", why),)))
        kinds[kind] = None
        unknowns |= dict.fromkeys([unknown] if unknown else [])
        moved = [leaf.path for leaf, t in zip(setting.problem.inputs, v, strict=True) if np.any(t)]
        owner = moved[0] if len(moved) == 1 else TOGETHER
        found += [
            compared(owner, leaf, -1 - n, f"tangent {probe.name}", c, keep=c.truth.size <= KEPT)
            for leaf, c in zip(setting.problem.outputs, made, strict=True)
            if leaf.size
        ]
    text = f"{len(probes)} tangent{'s' * (len(probes) != 1)}, element by element"
    if list(kinds) != ["autodiff"]:
        text += f", by {' and '.join(kinds)}"
    text += "".join(f"; of rounding, {unknown}" for unknown in unknowns)
    check = Check(NAME, "pass", text)
    return Forward(tuple(probes), tuple(pushed), tuple(found), True, tuple(kinds), Findings((check,)))


def _skipped(why: str) -> Forward:
    return Forward(findings=Findings((Check(NAME, "skipped", why),)))


def _probe(
    setting: Setting, v: list[Any], rule: list[np.ndarray], *, autodiff: bool
) -> tuple[list[Comparison], str, str]:
    """(the comparisons of the outputs, what they are with, what could not be found out of rounding)."""
    d, seed = setting.derivatives, setting.options.seed
    autodiff = autodiff and not d.kept and setting.options.residual is None
    if autodiff:
        try:
            d.truth_push(d.highs, v, reference.plain_knobs())
        except Exception:  # the primal has no forward mode: a callback, a kernel
            autodiff = False
    truth: list[np.ndarray] = []
    rule64: list[np.ndarray] | None = None
    wide = setting.low_precision and _widens(setting, v)
    noise = [np.zeros(r.shape) for r in rule]
    slacks: list[Any] = []
    if not autodiff:
        truth, slacks = reference.Line(d, v, scaled=False).tangents()
        if not all(np.all(np.isfinite(b)) for b in slacks):
            raise FloatingPointError("no step of differences resolves the tangent")
    for k in range(setting.variations + 1):
        high, knobs = reference.variation(d, seed, k)
        t = flats(d.truth_push(high, v, knobs)[1]) if autodiff else truth
        r64 = flats(d.rule64_push(high, v, knobs)[1]) if wide else None
        if k == 0:
            truth, rule64 = t, r64
            continue
        for j, n in enumerate(noise):
            grow(n, (truth[j], t[j]), (rule64[j], r64[j]) if r64 and rule64 else None)
    if autodiff:
        slacks = _loop_slack(setting, v, truth)
    if (autodiff and d.truth_push.opaque) or (wide and d.rule64_push.opaque):
        rule64 = None
    made = [
        Comparison(np.dtype(o.dtype), r, None if rule64 is None else rule64[j], truth[j], noise[j],
                   largest(truth[j]), slack=slacks[j], coarse=setting.coarse, grain=setting.grain,
                   tolerance=setting.options.tolerance)
        for j, (o, r) in enumerate(zip(setting.problem.outputs, rule, strict=True))
    ]  # fmt: skip
    unknown = ""
    if setting.low_precision and any(c.arithmetic_wrong().any() for c in made):
        made, unknown = with_rounding(setting, made, v, push=True)
    elif setting.grain > SINGLE:
        made = [dataclasses.replace(c, granted=False) for c in made]
    return made, "autodiff" if autodiff else "differences", unknown


def _widens(setting: Setting, v: Sequence[Any]) -> bool:
    d = setting.derivatives
    try:
        d.rule64_push(d.highs, v, reference.plain_knobs())
    except Exception:  # the rule holds something that cannot be evaluated in float64
        return False
    return True


def _loop_slack(setting: Setting, v: list[Any], truth: list[np.ndarray]) -> list[Any]:
    """What further iterations of convergent while loops change in the tangents."""
    slack: list[Any] = [0.0] * len(truth)
    if not setting.loops:
        return slack
    d = setting.derivatives
    here, _ = d.truth_push(d.highs, v, reference.plain_knobs())
    for extra in reference.FURTHER:
        knobs = reference.Knobs(np.float64(0), np.int32(extra))
        try:
            y, dy = d.truth_push(d.highs, v, knobs)
        except Exception:  # a solver that raises in iterations that it never reaches
            break
        change = max(reference.relative(reals(a), reals(b)) for a, b in zip(here, y, strict=True))
        if not all(np.all(np.isfinite(reals(a))) for a in (*y, *dy)) or change > 1e-2:
            continue
        for j, t in enumerate(dy):
            slack[j] = np.maximum(slack[j], 3 * np.abs(reals(t).ravel() - truth[j]) + 10 * change * np.abs(truth[j]))
    return slack
