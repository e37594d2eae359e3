"""The second opinion: differences of the primal against the derivative under test, one direction a leaf.

A conflict here, where autodiff of the primal agrees with the gradient, means that both are wrong about the primal (a
custom primitive, a constant branch at a single point, a staircase that a rule sees through, a fault in JAX);
differences whose bars are wide decide nothing, and say so.
"""

import dataclasses
from typing import Any

import numpy as np

from jnn.gradcheck.judgement.comparison import Comparison
from jnn.gradcheck.judgement.findings import Findings, LeafFinding, describe
from jnn.gradcheck.judgement.forward import Forward
from jnn.gradcheck.judgement.kinks import curve, stairs_note
from jnn.gradcheck.judgement.reverse import Reverse
from jnn.gradcheck.judgement.setting import Setting
from jnn.gradcheck.oracle import directions, reference
from jnn.gradcheck.oracle.differences import Slope
from jnn.gradcheck.oracle.numbers import parts, reals
from jnn.gradcheck.report import Check

MOST = 4
NAME = "differences"
SEAM = 1e-3
"""Relative: what solvers that stop at 1e-3, as jaxopt's and ott's do by default, leave undone of their slopes."""
THEMSELVES = "they are the reference"


@dataclasses.dataclass(frozen=True)
class _Along:
    """One direction: the leaves that it moves, the primal along it, the derivative of ⟨w, f⟩ that is under test and the
    reference's, and what the former may be off by rounding.
    """

    leaves: tuple[str, ...]
    line: reference.Line
    rule: float
    expected: float
    room: float

    @property
    def name(self) -> str:
        """The leaves, in words."""
        return ", ".join(self.leaves) if len(self.leaves) <= 2 else f"{len(self.leaves)} leaves"


def run(setting: Setting, reverse: Reverse, forward: Forward, settled: Findings, spared: set[str]) -> Findings:
    """Differences along one random direction in each leaf (in all leaves at once, when there are many), beside the
    gradient; along the tangents, where there is forward mode only.
    """
    if setting.options.residual is not None:
        return Findings((Check(NAME, "skipped", "the residual decides, not what the solver left undone"),))
    if isinstance(reverse.source, reference.Differences) or "differences" in forward.kinds:
        return Findings((Check(NAME, "skipped", THEMSELVES),))
    try:
        if reverse.source is not None and reverse.gradients:
            along = _backward(setting, reverse)
        elif setting.reverse_error is not None and forward.works:
            along = _ahead(setting, forward)
        else:
            return Findings((Check(NAME, "skipped", "no gradient to compare with"),))
        slopes = [one.line.slope(list(setting.probes[0].values)) for one in along]
    except Exception as error:
        why = f"the primal could not be evaluated in float64: {describe(error)}"
        return Findings((Check(NAME, "skipped", why),))
    wide, text, outcome = 0, [], "pass"
    found: list[LeafFinding] = []
    for one, s in zip(along, slopes, strict=True):
        steps = (curve(f"random direction in {one.name}", s, one.rule, one.expected),)
        verdict = _verdict(s, one.rule, one.room, setting)
        note = ""
        if verdict == "fail":
            room, unknown = _rounding(one, setting)
            if abs(one.rule - s.estimate) * s.steps[0] <= room:
                verdict = "inconclusive"  # what cancels in the primal is lost at every step: the bars cannot show it
            text += [unknown] if unknown else []
        if verdict == "fail" and all(settled.verdict(path) == "inconclusive" for path in one.leaves):
            verdict = "inconclusive"  # a primal that has not converged, say: it was looked at element by element
        if s.stairs:
            note = stairs_note(s)
            if verdict == "inconclusive":
                outcome = "inconclusive" if outcome != "fail" else outcome
                text.append(f"{one.name}: {note}")
        elif verdict == "inconclusive":
            wide += 1
        if verdict == "kink":
            outcome = "kink" if outcome == "pass" else outcome
            text.append(f"{one.name}: one-sided derivatives {s.left:.6g} and {s.right:.6g}")
            note = "a kink lies here: the one-sided derivatives differ"
        elif verdict == "fail" and not set(one.leaves) & spared:
            outcome = "fail"
            text.append(f"{one.name}: differences say {s.estimate:.9g} ± {s.bar:.1g}, the gradient {one.rule:.9g}")
        elif verdict == "pass":
            text.append(f"{one.name}: {s.estimate:.9g} ± {s.bar:.1g}")
        mine = verdict if verdict == "kink" or (s.stairs and verdict != "pass") else "pass"
        found += [LeafFinding(path, mine, note, steps=steps) for path in one.leaves]
    if wide == len(along):
        return Findings((Check(NAME, "skipped", "no step resolves the derivative here"),), tuple(found))
    return Findings((Check(NAME, outcome, "; ".join(text[:MOST])),), tuple(found))


def _backward(setting: Setting, reverse: Reverse) -> list[_Along]:
    inputs = setting.problem.inputs
    groups = [[j] for j in range(len(inputs))]
    if len(inputs) > MOST or setting.large:
        groups = [list(range(len(inputs)))]
    truth = [kept[0][1].truth if (kept := reverse.kept(i.path)) else np.zeros(0) for i in inputs]
    out = []
    for group in groups:
        line = reference.Line(setting.derivatives, _direction(setting, group))
        line.unit = 1.0
        moved = [reals(d).ravel() for d in line.direction]
        expected = sum(paired(truth[j], moved[j], inputs[j].dtype) for j in group if truth[j].size)
        rule = sum(paired(reverse.gradients[0][j], moved[j], inputs[j].dtype) for j in group)
        kept = [(reverse.kept(inputs[j].path), moved[j]) for j in group]
        room = sum(_room(mine[0][1], v) for mine, v in kept if mine)
        out.append(_Along(tuple(inputs[j].path for j in group), line, rule, expected, room))
    return out


def _ahead(setting: Setting, forward: Forward) -> list[_Along]:
    inputs, outputs = setting.problem.inputs, setting.problem.outputs
    weights = [reals(v).ravel() for v in setting.probes[0].values]
    out = []
    for n, (probe, pushed) in enumerate(zip(forward.tangents, forward.pushed, strict=True)):
        mine = {c.shown.path: c.comparison for c in forward.compared if c.probe == -1 - n}
        rule = expected = room = 0.0
        for leaf, v, dy in zip(outputs, weights, pushed, strict=True):
            rule += paired(dy, v, leaf.dtype)
            comparison = mine.get(leaf.path)
            if comparison is not None:
                expected += paired(comparison.truth, v, leaf.dtype)
                room += _room(comparison, v)
        moved = tuple(leaf.path for leaf, t in zip(inputs, probe.values, strict=True) if np.any(t))
        line = reference.Line(setting.derivatives, probe.values, scaled=False)
        line.unit = 1.0
        out.append(_Along(moved, line, rule, expected, room))
    return out


def _direction(setting: Setting, group: list[int]) -> list[np.ndarray]:
    return [
        directions.signed(directions.generator(setting.options.seed, "difference", leaf.path), leaf.shape, leaf.dtype)
        if j in group
        else np.zeros(leaf.shape, np.dtype(leaf.dtype))
        for j, leaf in enumerate(setting.problem.inputs)
    ]


def _verdict(s: Slope, rule: float, room: float, setting: Setting) -> str:
    """What differences say about the rule's derivative along the direction, `room` being what it may be off."""
    if s.stairs:
        # Of a function without rules the zero is JAX's own; of a rule for a staircase it is not believed.
        if not setting.stepping:
            return "pass"
        gap = abs(rule - s.estimate)
        if gap > 4 * s.bar + room:
            return "fail"
        return "pass" if s.resolves(abs(rule)) else "inconclusive"
    if s.kinked:
        slack = 4 * max(s.left_bar, s.right_bar) + room
        low, high = sorted((s.left, s.right))
        if not low - slack <= rule <= high + slack:
            return "inconclusive"
        # On its two sides a solver may take another number of iterations.
        return "pass" if setting.loops and high - low <= SEAM * max(abs(low), abs(high)) else "kink"
    if not np.isfinite(rule) or not s.resolves(0.0):
        return "inconclusive"
    gap = abs(rule - s.estimate)
    if gap <= 4 * s.bar + room + 1e-9 * abs(s.estimate):
        return "pass"
    # Bars are estimates: only a deviation far outside of a narrow one refutes what autodiff confirmed.
    return "fail" if gap > 1e3 * s.bar + room and gap > 1e-3 * abs(s.estimate) else "inconclusive"


def _rounding(one: _Along, setting: Setting) -> tuple[float, str]:
    """What rounding changes in the primal, and why that is not known, if it is not."""
    try:
        return one.line.rounding(list(setting.probes[0].values)), ""
    except Exception as error:  # a callback that refuses what lies beside the given point
        return 0.0, f"what rounding changes in the primal is not known: {describe(error)}"


def _room(comparison: Comparison, moved: np.ndarray) -> float:
    """What the rule's derivative along a direction may be off by rounding."""
    total = 0.0
    for place in parts(moved.size):
        with np.errstate(all="ignore"):
            allowed = comparison.at(place).allowed_arithmetic()
            total += float(np.sum(np.nan_to_num(allowed * np.abs(moved[place]))))
    return total


def paired(gradient: np.ndarray, direction: np.ndarray, dtype: Any) -> float:
    """⟨gradient, direction⟩ of flat real arrays, as JAX pairs complex ones."""
    if np.issubdtype(np.dtype(dtype), np.complexfloating):
        direction = direction * np.tile([1.0, -1.0], direction.size // 2)
    total = 0.0
    for place in parts(direction.size):
        v = direction[place]
        with np.errstate(all="ignore"):
            total += float(np.sum(np.where(v != 0, gradient[place] * v, 0.0)))
    return total
