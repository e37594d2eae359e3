"""A reference for functions that are too large for a Jacobian by columns and have no reverse mode.

The gradient g of ⟨w, f⟩ is compared with the derivative along random directions v of one leaf at a time, ⟨g, v⟩: by
forward mode where the primal has it, by differences where it has not. Where they differ, the leaf is halved until one
element is left. What was sampled is said in the report: an error is seen if it is larger than the rounding of a sum
over the leaf, not of its own element.
"""

from typing import Any

import numpy as np

from jnn.gradcheck import _directions, _reference
from jnn.gradcheck._evidence import LeafRecord, describe, element
from jnn.gradcheck._first_order import FirstOrder
from jnn.gradcheck._judge import eps_of, floors, reals, ulp
from jnn.gradcheck.report import Check

ROUNDS = 3
NAME = "gradient along random directions"


def run(order: FirstOrder) -> Check:
    """Compare every leaf's gradient along random directions; sets the records' verdicts."""
    outcomes, kinds = set(), set()
    for k, probe in enumerate(order.probes[:ROUNDS]):
        _, g = order.rule_gradients(k)
        order.gradients[k] = [reals(v).ravel() for v in g]
        for j, record in enumerate(order.records):
            rng = _directions.generator(order.options.seed, f"projection {k}", record.leaf.path)
            v = _directions.signed(rng, record.leaf.shape, np.dtype(record.leaf.dtype))
            try:
                outcome, kind, _ = _along(order, record, j, k, v)
            except Exception as error:  # neither forward mode nor differences: the primal cannot be moved
                return Check(NAME, "inconclusive", describe(error))
            kinds.add(kind)
            outcomes.add(outcome)
            if outcome == "fail":
                _bisected(order, record, j, k, v)
            if outcome != "pass" and record.verdict != "fail":
                record.verdict = outcome
            record.comparisons += 1
        del probe
    total = sum(leaf.size for leaf in order.problem.inputs)
    order.sampled.append(f"{ROUNDS} random directions a leaf by {' and '.join(sorted(kinds))}, of {total} elements")
    worst = next((o for o in ("fail", "inconclusive", "kink") if o in outcomes), "pass")
    return Check(NAME, worst, f"{ROUNDS} in each leaf, by {' and '.join(sorted(kinds))}")


def _along(order: FirstOrder, record: LeafRecord, leaf: int, probe: int, v: np.ndarray) -> tuple[str, str, float]:
    """(outcome, kind of reference, deviation beside what is allowed) of one direction in one leaf."""
    d, w = order.derivatives, order.probes[probe].values
    size = _reference.typical(np.asarray(d.highs[record.leaf.position]))
    tangents = [np.zeros(i.shape, np.dtype(i.dtype)) for i in order.problem.inputs]
    tangents[leaf] = (v * size).astype(v.dtype)
    moved = reals(tangents[leaf]).ravel()
    if np.iscomplexobj(v):
        moved = moved * np.tile([1.0, -1.0], moved.size // 2)
    terms = order.gradients[probe][leaf] * moved
    got = float(terms.sum())
    f, eps = floors(record.leaf.dtype), eps_of(record.leaf.dtype)
    # Independent roundings of the terms add up like a random walk; the true terms are unknown, the rule's stand in.
    room = f.arithmetic * eps * float(np.sqrt(np.sum(terms**2))) + f.scaled * eps * abs(got)
    if not np.isfinite(got):
        record.notes["not finite"] = None
        return "fail", "differences", np.inf
    try:
        _, dy = d.truth_push(d.highs, tangents, _reference.plain_knobs())
        expected = float(_reference.flat_cotangent(w) @ np.concatenate([reals(t).ravel() for t in dy]))
        kind = "forward-mode autodiff"
        bar = 0.0
        if d.truth_push.opaque or not np.isfinite(expected):
            raise FloatingPointError("not in float64")
    except Exception:  # no forward mode either
        s = _reference.Line(d, tangents, scaled=False).slope(w)
        expected, bar, kind = s.estimate, 4 * s.bar, "differences"
        if s.kinked:
            return ("kink" if s.encloses(got) else "fail"), kind, 0.0 if s.encloses(got) else np.inf
        if not s.resolves(abs(got)) and abs(got - expected) <= room + bar:
            return "inconclusive", kind, 0.0
    excess = abs(got - expected) / (room + bar) if room + bar else 0.0
    return ("pass" if excess <= 1 else "fail"), kind, excess


def _bisected(order: FirstOrder, record: LeafRecord, leaf: int, probe: int, v: np.ndarray) -> None:
    """Halve the direction until a single wrong element is left (or no half is wrong alone), and report it."""
    at = np.arange(v.size)
    while at.size > 1:
        halves = np.array_split(at, 2)
        excesses = [_along(order, record, leaf, probe, _only(v, h))[2] for h in halves]
        if max(excesses) <= 1:
            break
        at = halves[int(np.argmax(excesses))]
    if at.size > 1:
        record.notes[f"deviates along a random direction in {at.size} elements, not in a single one"] = None
        return
    got = order.gradients[probe][leaf]
    is_complex = np.iscomplexobj(v)
    flat = int(at[0]) * (2 if is_complex else 1)
    expected = _single(order, leaf, int(at[0]), probe)
    unit = float(ulp(np.array([expected]), record.leaf.dtype)[0])
    error = abs(float(got[flat]) - expected)
    allowed = floors(record.leaf.dtype).arithmetic
    record.worst = element(
        record.leaf, flat, got[flat], expected, error / unit, allowed, order.probes[probe].name
    )  # fmt: skip


def _single(order: FirstOrder, leaf: int, flat: int, probe: int) -> float:
    tangents: list[Any] = [np.zeros(i.shape, np.dtype(i.dtype)) for i in order.problem.inputs]
    tangents[leaf].reshape(-1)[flat] = 1
    return _reference.Line(order.derivatives, tangents).slope(order.probes[probe].values).estimate


def _only(v: np.ndarray, at: np.ndarray) -> np.ndarray:
    out = np.zeros_like(v)
    out.reshape(-1)[at] = v.reshape(-1)[at]
    return out
