"""The second opinion: differences of the primal against the gradient under test, one direction a leaf.

A conflict here, where autodiff of the primal agrees with the gradient, means that both are wrong about the primal (a
custom primitive, a fault in JAX); differences whose bars are wide decide nothing, and say so.
"""

from typing import Any

import numpy as np

from jnn.gradcheck import _directions, _reference
from jnn.gradcheck._differences import Slope
from jnn.gradcheck._evidence import describe
from jnn.gradcheck._first_order import FirstOrder
from jnn.gradcheck._judge import parts, reals
from jnn.gradcheck._kinks import curve
from jnn.gradcheck.report import Check

MOST = 4


def run(order: FirstOrder, spared: set[str]) -> Check:
    """Differences along one random direction in each leaf (in all leaves at once, when there are many)."""
    name = "differences"
    if order.source is None or not order.gradients:
        return Check(name, "skipped", "no gradient to compare with")
    if isinstance(order.source, _reference.Differences):
        return Check(name, "skipped", "they are the reference")
    inputs, w = order.problem.inputs, list(order.probes[0].values)
    groups = [[j] for j in range(len(inputs))]
    if len(inputs) > MOST or order.large:
        groups = [list(range(len(inputs)))]
    _, truth = order.source.gradients(w)
    wide, text, outcome = 0, [], "pass"
    for group in groups:
        tangents = [
            _directions.signed(
                _directions.generator(order.options.seed, "difference", leaf.path), leaf.shape, leaf.dtype
            )
            if j in group
            else np.zeros(leaf.shape, np.dtype(leaf.dtype))
            for j, leaf in enumerate(inputs)
        ]
        path = ", ".join(inputs[j].path for j in group) if len(group) <= 2 else f"{len(group)} leaves"
        try:
            line = _reference.Line(order.derivatives, tangents)
            line.unit = 1.0
            s = line.slope(w)
        except Exception as error:
            return Check(name, "skipped", f"the primal could not be evaluated in float64: {describe(error)}")
        moved = [reals(d).ravel() for d in line.direction]
        expected = sum(_paired(truth[j], moved[j], inputs[j].dtype) for j in group)
        rule = sum(_paired(order.gradients[0][j], moved[j], inputs[j].dtype) for j in group)
        found = curve(f"random direction in {path}", s, rule, expected)
        for j in group:
            order.records[j].steps.insert(0, found)
        verdict = _verdict(s, rule, sum(_room(order, j, moved[j]) for j in group))
        if verdict == "inconclusive":
            wide += 1
        elif verdict == "kink":
            outcome = "kink" if outcome == "pass" else outcome
            text.append(f"{path}: one-sided derivatives {s.left:.6g} and {s.right:.6g}")
            for j in group:
                if order.records[j].verdict == "pass":
                    order.records[j].verdict = "kink"
                    order.records[j].notes["a kink lies here: the one-sided derivatives differ"] = None
        elif verdict == "fail" and not {inputs[j].path for j in group} & spared:
            outcome = "fail"
            text.append(f"{path}: differences say {s.estimate:.9g} ± {s.bar:.1g}, the gradient {rule:.9g}")
        else:
            text.append(f"{path}: {s.estimate:.9g} ± {s.bar:.1g}")
    if wide == len(groups):
        return Check(name, "skipped", "no step resolves the derivative here")
    return Check(name, outcome, "; ".join(text[:MOST]))


def _verdict(s: Slope, rule: float, room: float) -> str:
    """What differences say about the rule's derivative along the direction, `room` being what it may be off."""
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


def _room(order: FirstOrder, leaf: int, moved: np.ndarray) -> float:
    """What the rule's derivative along a direction may be off by rounding."""
    compared = order.records[leaf].compared
    if not compared:
        return 0.0
    total = 0.0
    for place in parts(moved.size):
        with np.errstate(all="ignore"):
            allowed = compared[0][1].at(place).allowed_arithmetic()
            total += float(np.sum(np.nan_to_num(allowed * np.abs(moved[place]))))
    return total


def _paired(gradient: np.ndarray, direction: np.ndarray, dtype: Any) -> float:
    if np.issubdtype(np.dtype(dtype), np.complexfloating):
        direction = direction * np.tile([1.0, -1.0], direction.size // 2)
    total = 0.0
    for place in parts(direction.size):
        v = direction[place]
        with np.errstate(all="ignore"):
            total += float(np.sum(np.where(v != 0, gradient[place] * v, 0.0)))
    return total
