"""One function examined: the stages in turn, and their findings folded into a report."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jnn.gradcheck.judgement import (
    contract,
    deterministic,
    forward,
    joint,
    kinks,
    opinion,
    patterns,
    power,
    projections,
    reverse,
    second,
    verdict,
)
from jnn.gradcheck.judgement.findings import Compared, Findings, describe, worst_of
from jnn.gradcheck.judgement.forward import TOGETHER, Forward
from jnn.gradcheck.judgement.reverse import Reverse
from jnn.gradcheck.judgement.setting import Options, Setting, flats
from jnn.gradcheck.oracle import numerical, reference
from jnn.gradcheck.oracle.numbers import reals
from jnn.gradcheck.oracle.problem import Leaf, Problem
from jnn.gradcheck.report import Check, LeafEvidence, Report

PROBES_NAMED = 4
DETACHED = 4
"""Elements that are asked whether a stop_gradient made them what they are."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Leave the user's settings out of it.

    Numbers that are not finite are evidence here, at which neither NumPy nor JAX may stop; and moving arrays to and
    from the device is what a check does.
    """
    with np.errstate(all="ignore"), jax.debug_nans(False), jax.debug_infs(False), jax.transfer_guard("allow"):
        yield


def examine(
    problem: Problem,
    plain: Problem,
    options: Options,
    *,
    order: int = 1,
    spared: set[str] | None = None,
    power_too: bool = True,
) -> Report:
    """The report on one problem; `plain` is the one whose primal is the reference (the same, usually)."""
    try:
        with numerical.bounded(numerical.MOST):
            return _examined(Setting(problem, plain, options), order, spared or set(), power_too)
    except numerical.Exhausted:
        setting = Setting(problem, plain, options)
        work = Check("work", "inconclusive", f"more than {numerical.MOST:,} equations would have to be evaluated")
        return _folded(setting, Reverse(), Forward(), Findings((work,)), (), order, spared or set())


def _examined(setting: Setting, order: int, spared: set[str], power_too: bool) -> Report:
    options = setting.options
    found = deterministic.run(setting)
    backward, ahead = Reverse(), Forward()
    settled = Findings()
    if worst_of(c.outcome for c in found.checks) == "pass":
        backward = reverse.run(setting)
        if setting.reverse_error is None and backward.source is None and options.residual is None:
            gradients, projected = projections.run(setting)
            backward = Reverse(None, gradients, (), backward.findings + projected)
        ahead = forward.run(setting)
        settled = kinks.settle(setting, backward, ahead)
        second_opinion = opinion.run(setting, backward, ahead, settled, spared)
        found += _modes(setting, backward, ahead, settled, spared) + settled
        found += joint.run(setting, backward, settled + second_opinion, spared)
        found += contract.run(setting, backward, ahead, spared) + second_opinion
        if order == 2:
            found += second.run(setting, ahead, spared)
    mutations = power.mutations(setting, backward) if power_too and backward.gradients else ()
    return _folded(setting, backward, ahead, found, mutations, order, spared)


def _modes(setting: Setting, backward: Reverse, ahead: Forward, settled: Findings, spared: set[str]) -> Findings:
    """One check a mode, as bad as its comparisons, before the other checks of the two stages."""
    checks = [*backward.findings.checks, *ahead.findings.checks]
    at = next((k for k, c in enumerate(checks) if c.name == forward.NAME), None)
    if at is not None and checks[at].outcome == "pass":
        checks[at] = _mode("forward", checks[at].why, ahead.compared, settled, spared)
    if setting.reverse_error is not None:
        why = describe(setting.reverse_error)
        if not ahead.works:
            why = f"JAX cannot differentiate the function: {why}"
            why += "".join(f"; forward mode: {c.why}" for c in checks if c.name == forward.NAME)
        checks.insert(0, Check("reverse mode", "skipped" if ahead.works else "fail", why))
    elif backward.gradients:
        probes = ", ".join(p.name for p in setting.probes[:PROBES_NAMED])
        more = ", ..." if len(setting.probes) > PROBES_NAMED else ""
        count = f"{len(setting.probes)} cotangent{'s' * (len(setting.probes) != 1)}: {probes}{more}"
        checks.insert(0, _mode("reverse", count, backward.compared, settled, spared))
    return Findings(tuple(checks), backward.findings.leaves + ahead.findings.leaves, backward.findings.sampled)


def _mode(mode: str, ran: str, compared: tuple[Compared, ...], settled: Findings, spared: set[str]) -> Check:
    mine = [leaf for leaf in settled.leaves if leaf.mode == mode and leaf.path not in spared]
    if spared:
        mine = [leaf for leaf in mine if leaf.path != TOGETHER]
    outcome = worst_of(leaf.outcome for leaf in mine)
    if outcome == "pass":
        return Check(f"{mode} mode", "pass", ran)
    together = next((leaf for leaf in mine if leaf.path == TOGETHER and leaf.outcome == outcome), None)
    if together is not None and together.worst is not None:
        return Check(f"{mode} mode", outcome, str(together.worst))
    bad = ", ".join(dict.fromkeys(leaf.path for leaf in mine if leaf.outcome == outcome))
    return Check(f"{mode} mode", outcome, f"{bad}; {ran}")


def _folded(
    setting: Setting, backward: Reverse, ahead: Forward, found: Findings, mutations: tuple, order: int, spared: set[str]
) -> Report:
    problem, d = setting.problem, setting.derivatives
    leaves = tuple(_leaf(setting, leaf, backward, ahead, found, spared) for leaf in problem.inputs)
    outcome = verdict.overall(leaves, found.checks)
    hints = []
    if _detached(setting, backward, leaves, spared):
        hints.append("the function calls stop_gradient: declare the leaf with expected= if that is meant")
    broken = [i.path for i in problem.inputs if not np.all(np.isfinite(reals(d.lows[i.position])))]
    if broken:
        hints.append(f"the arguments themselves are not finite in {', '.join(broken)}")
    bad = [leaf.worst for leaf in leaves if leaf.worst is not None and leaf.worst.wrong and leaf.verdict == outcome]
    sampled = [*found.sampled, *(f"{p}: a Python number, passed on as it is" for p in problem.untouched)]
    return Report(
        function=problem.name,
        verdict=outcome,
        summary=verdict.summary(outcome, leaves, found.checks, hints),
        leaves=leaves,
        checks=found.checks,
        mutations=mutations,
        reference=_reference(setting, backward, ahead),
        removed=d.removed,
        not_rewritten=d.kept,
        sampled=tuple(sampled),
        seed=setting.options.seed,
        order=order,
        snippet=verdict.snippet(problem, bad[0] if bad else None, setting.options.seed),
        environment=verdict.environment(),
    )


def _leaf(
    setting: Setting, leaf: Leaf, backward: Reverse, ahead: Forward, found: Findings, spared: set[str]
) -> LeafEvidence:
    """Everything that was said of one leaf."""
    said = found.of(leaf.path)
    compared = [*backward.of(leaf.path), *(c for c in ahead.compared if c.owner == leaf.path)]
    measured = [c.measured for c in compared]
    projected = sum(s.mode == projections.NAME for s in said)
    count = sum(m.elements for m in measured) + projected
    notes = dict.fromkeys(s.note for s in said if s.note)
    outcome = found.verdict(leaf.path)
    if not count and leaf.size:
        notes[verdict.NOTHING] = None
        outcome = worst_of([outcome, "inconclusive"])
    if any(m.worst is not None and c.comparison is not None and c.comparison.parts_size for c, m in
           zip(compared, measured, strict=True)):  # fmt: skip
        size = max(c.comparison.parts_size for c in compared if c.comparison is not None)
        notes[f"zero but for rounding: judged beside the terms that cancel in it, of size {size:.1e}"] = None
    pattern = _pattern(setting, leaf, compared) if outcome == "fail" else ""
    if leaf.path in spared:
        deviates = any(c.wrong.size for c in compared) or (projected and outcome == "fail")
        if deviates:
            outcome = "pass"
            notes["deviates from the primal's derivative, as declared"] = None
        elif outcome == "pass":
            outcome = "fail"
            notes["declared to deviate, but it agrees with the primal's derivative: drop the declaration"] = None
    shown = [s.worst for s in said if s.worst is not None and s.outcome == found.verdict(leaf.path)]
    telling = measured
    if found.verdict(leaf.path) == "pass":  # where differences refuted the reference, errors beside it say nothing
        shown, telling = [], [m for m in measured if not m.wrong_share]
    most = max(telling, key=lambda m: m.excess, default=None)
    plotted = [m.errors for m in telling if m.excess > 1] or [m.errors for m in telling]
    ulps = [m.median_ulps for m in telling if not np.isnan(m.median_ulps)]
    typical = [m.typical for m in measured if not np.isnan(m.typical)]
    return LeafEvidence(
        path=leaf.path,
        shape=tuple(int(n) for n in leaf.shape),
        dtype=np.dtype(leaf.dtype).name,
        verdict=outcome,
        comparisons=count,
        wrong_share=max((m.wrong_share for m in telling), default=0.0),
        worst=shown[0] if shown else most.worst if most is not None else None,
        median_ulps=float(np.median(ulps)) if ulps else np.nan,
        pattern=pattern,
        note="; ".join(notes),
        expected=leaf.path in spared,
        detectable=min((m.detectable for m in measured), default=np.inf),
        detectable_element=float(np.median(typical)) if typical else np.inf,
        # Of the first cotangent, for which it is known what rounding would be allowed.
        detectable_rounding=measured[0].precision if measured else np.inf,
        detectable_rounding_element=measured[0].precision_element if measured else np.inf,
        errors=plotted[0] if plotted else None,
        steps=tuple(step for s in reversed(said) for step in s.steps),
    )


def _pattern(setting: Setting, leaf: Leaf, compared: list[Compared]) -> str:
    x = reals(setting.derivatives.lows[leaf.position]).ravel()
    for c in compared:
        if c.probe >= 0 and c.wrong.size and c.comparison is not None:
            return patterns.guess(c.comparison, leaf.shape, x)
    return ""


def _detached(setting: Setting, backward: Reverse, leaves: tuple[LeafEvidence, ...], spared: set[str]) -> bool:
    """Whether a deviation that is not declared comes from the function's stop_gradients (most change nothing)."""
    d = setting.derivatives
    if not any(r.startswith("stop_gradient") for r in d.removed):
        return False
    for j, leaf in enumerate(leaves):
        if leaf.verdict != "fail" or leaf.path in spared:
            continue
        dispute = next((c for c in backward.of(leaf.path) if c.wrong.size and c.comparison is not None), None)
        if dispute is None or dispute.comparison is None:
            continue
        wrong = dispute.wrong[:DETACHED]
        try:
            kept = _with_stop_gradient(setting, j, wrong, list(setting.probes[dispute.probe].values))
        except Exception:  # the function has no such derivative: no hint, then
            return False
        c = dispute.comparison.at(wrong)
        if np.any(np.abs(kept - c.truth) > c.allowed_arithmetic()):
            return True
    return False


def _with_stop_gradient(setting: Setting, leaf: int, places: np.ndarray, w: list[Any]) -> np.ndarray:
    """Elements of a leaf's gradient where the stop_gradients of the primal are left in place."""
    d, inputs = setting.derivatives, setting.problem.inputs
    try:
        return reals(d.with_stop_gradient(d.lows, w)[1][leaf]).ravel()[places]
    except ValueError:  # a while loop has no reverse mode: column by column
        columns = reference.basis(inputs[leaf])
        zeros = [np.zeros(i.shape, np.dtype(i.dtype)) for i in inputs]
        pushed = [d.with_stop_gradient_push(d.lows, [*zeros[:leaf], columns[p], *zeros[leaf + 1 :]])[1] for p in places]
        weights = reference.flat_cotangent(w)
        return np.array([float(np.sum(weights * np.concatenate(flats(dy)))) for dy in pushed])


def _reference(setting: Setting, backward: Reverse, ahead: Forward) -> str:
    source = backward.source
    if source is None and not ahead.compared:
        return "none" if not backward.gradients else "derivatives along random directions"
    kind = "forward-mode autodiff" if source is None else source.kind
    what = "the reference that was given" if setting.given else "its primal without custom rules"
    if setting.options.residual is not None:
        what = "the residual that was given"
    text = f"{kind} of {what}, in float64"
    if source is not None and source.opaque:
        text += "; not in float64: " + ", ".join(source.opaque)
    return text
