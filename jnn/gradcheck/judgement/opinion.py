"""The second opinion: differences of the primal against the gradient under test, one direction a leaf.

A conflict here, where autodiff of the primal agrees with the gradient, means that both are wrong about the primal (a
custom primitive, a constant branch at a single point, a staircase that a rule sees through, a fault in JAX);
differences whose bars are wide decide nothing, and say so.
"""

from typing import Any

import numpy as np

from jnn.gradcheck.judgement.findings import Findings, LeafFinding, describe
from jnn.gradcheck.judgement.kinks import curve, stairs_note
from jnn.gradcheck.judgement.reverse import Reverse
from jnn.gradcheck.judgement.setting import Setting
from jnn.gradcheck.oracle import directions, reference
from jnn.gradcheck.oracle.differences import Slope
from jnn.gradcheck.oracle.numbers import parts, reals
from jnn.gradcheck.report import Check

MOST = 4
NAME = "differences"
THEMSELVES = "they are the reference"


def run(setting: Setting, reverse: Reverse, settled: Findings, spared: set[str]) -> Findings:
    """Differences along one random direction in each leaf (in all leaves at once, when there are many)."""
    if reverse.source is None or not reverse.gradients:
        return Findings((Check(NAME, "skipped", "no gradient to compare with"),))
    if setting.options.residual is not None:
        return Findings((Check(NAME, "skipped", "the residual decides, not what the solver left undone"),))
    if isinstance(reverse.source, reference.Differences):
        return Findings((Check(NAME, "skipped", THEMSELVES),))
    inputs, w = setting.problem.inputs, list(setting.probes[0].values)
    groups = [[j] for j in range(len(inputs))]
    if len(inputs) > MOST or setting.large:
        groups = [list(range(len(inputs)))]
    truth = [kept[0][1].truth if (kept := reverse.kept(i.path)) else np.zeros(0) for i in inputs]
    wide, text, outcome = 0, [], "pass"
    found: list[LeafFinding] = []
    for group in groups:
        path = ", ".join(inputs[j].path for j in group) if len(group) <= 2 else f"{len(group)} leaves"
        try:
            line = reference.Line(setting.derivatives, _direction(setting, group))
            line.unit = 1.0
            s = line.slope(w)
        except Exception as error:
            why = f"the primal could not be evaluated in float64: {describe(error)}"
            return Findings((Check(NAME, "skipped", why),))
        moved = [reals(d).ravel() for d in line.direction]
        expected = sum(paired(truth[j], moved[j], inputs[j].dtype) for j in group if truth[j].size)
        rule = sum(paired(reverse.gradients[0][j], moved[j], inputs[j].dtype) for j in group)
        steps = (curve(f"random direction in {path}", s, rule, expected),)
        verdict = _verdict(s, rule, sum(_room(reverse, inputs[j].path, moved[j]) for j in group), setting)
        note = ""
        if verdict == "fail" and all(settled.verdict(inputs[j].path) == "inconclusive" for j in group):
            verdict = "inconclusive"  # a primal that has not converged, say: it was looked at element by element
        if s.stairs:
            note = stairs_note(s)
            if verdict == "inconclusive":
                outcome = "inconclusive" if outcome != "fail" else outcome
                text.append(f"{path}: {note}")
        elif verdict == "inconclusive":
            wide += 1
        if verdict == "kink":
            outcome = "kink" if outcome == "pass" else outcome
            text.append(f"{path}: one-sided derivatives {s.left:.6g} and {s.right:.6g}")
            note = "a kink lies here: the one-sided derivatives differ"
        elif verdict == "fail" and not {inputs[j].path for j in group} & spared:
            outcome = "fail"
            text.append(f"{path}: differences say {s.estimate:.9g} ± {s.bar:.1g}, the gradient {rule:.9g}")
        elif verdict == "pass":
            text.append(f"{path}: {s.estimate:.9g} ± {s.bar:.1g}")
        mine = verdict if verdict == "kink" or (s.stairs and verdict != "pass") else "pass"
        found += [LeafFinding(inputs[j].path, mine, note, steps=steps) for j in group]
    if wide == len(groups):
        return Findings((Check(NAME, "skipped", "no step resolves the derivative here"),), tuple(found))
    return Findings((Check(NAME, outcome, "; ".join(text[:MOST])),), tuple(found))


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
        return "kink" if low - slack <= rule <= high + slack else "inconclusive"
    if not np.isfinite(rule) or not s.resolves(0.0):
        return "inconclusive"
    gap = abs(rule - s.estimate)
    if gap <= 4 * s.bar + room + 1e-9 * abs(s.estimate):
        return "pass"
    # Bars are estimates: only a deviation far outside of a narrow one refutes what autodiff confirmed.
    return "fail" if gap > 1e3 * s.bar + room and gap > 1e-3 * abs(s.estimate) else "inconclusive"


def _room(reverse: Reverse, path: str, moved: np.ndarray) -> float:
    """What the rule's derivative along a direction may be off by rounding."""
    kept = reverse.kept(path)
    if not kept:
        return 0.0
    total = 0.0
    for place in parts(moved.size):
        with np.errstate(all="ignore"):
            allowed = kept[0][1].at(place).allowed_arithmetic()
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
