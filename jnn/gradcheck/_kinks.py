"""What becomes of an element where the rule and autodiff of the primal disagree.

Autodiff is no judge at a kink, nor where its own value is not finite. Two witnesses are heard there:

- the primal's gradients at random points close by (all elements at once): where they jump however close the points
  are, the function has a kink, and any value between them is as good as another (a Clarke subgradient);
- one-sided differences along the element's own axis (for the worst elements and a few others): they also settle the
  elements whose reference is not finite.

A value in the hull of either is a kink; a value that differences confirm against autodiff is right; anything else is
wrong. Where autodiff has no finite value and the differences resolve nothing, the element is inconclusive.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jnn.gradcheck import _directions, _reference
from jnn.gradcheck._differences import Slope
from jnn.gradcheck._evidence import Dispute, LeafRecord
from jnn.gradcheck._first_order import FirstOrder
from jnn.gradcheck._judge import real_dtype, reals, tiny_of
from jnn.gradcheck.report import StepCurve

NEAR = (1e-7, 1e-10)
WITNESSES = 12
Hull = tuple[np.ndarray, np.ndarray]


def settle(order: FirstOrder, *, allow_nonfinite: bool = False) -> None:
    """Judge every leaf: set its verdict, notes and pattern-free outcome from its disputed elements."""
    disputed = sorted({d.probe for r in order.records for d in r.disputes})
    hulls = {k: _hull(order, k) for k in [*[k for k in disputed if k < 0][-2:], *[k for k in disputed if k >= 0][:3]]}
    names = {k: p.name for k, p in enumerate(order.probes)}
    names |= {-1 - n: f"tangent {name}" for n, name in enumerate(order.tangent_names)}
    for j, record in enumerate([*order.records, order.together]):
        verdicts: dict[str, list[tuple[Dispute, int]]] = {}
        for dispute in record.disputes:
            place = j if dispute.probe >= 0 else dispute.leaf.position
            for outcome, flat in _settled(order, record, dispute, place, hulls.get(dispute.probe), allow_nonfinite):
                verdicts.setdefault(outcome, []).append((dispute, flat))
                record.seen("reverse" if dispute.probe >= 0 else "forward", outcome)
        for verdict in ("fail", "inconclusive", "kink"):
            if verdict in verdicts:
                record.verdict = verdict
                record.show(verdicts[verdict], names)
                break
        if record.verdict == "kink":
            record.notes["at a kink: the value lies between the one-sided derivatives"] = None
        if record.verdict == "pass" and "pass" in verdicts:
            record.notes["differences confirm the value against autodiff of the primal"] = None
        if record.verdict == "pass" and record.compared and not verdicts and 0.5 < record.detectable < np.inf:
            _unresolved(order, record, j)


def _unresolved(order: FirstOrder, record: LeafRecord, leaf: int) -> None:
    """A leaf in which no error would be noticed: at a kink (a tie, say), or too ill-conditioned to be judged."""
    probe, c = record.compared[0]
    hull = _hull(order, probe)
    everywhere = np.arange(c.truth.size)
    if hull is not None and _inside(c, everywhere, hull[leaf])[c.truth != 0].all():
        record.verdict = "kink"
        record.notes["at a kink: the value lies between the one-sided derivatives"] = None
        return
    record.verdict = "inconclusive"
    record.notes["too ill-conditioned here: no error below 50% would be noticed"] = None


def _settled(
    order: FirstOrder, record: LeafRecord, dispute: Dispute, leaf: int, hull: list[Hull] | None, allow_nonfinite: bool
) -> list[tuple[str, int]]:
    """(outcome, flat element) of the elements that were looked at, a representative one for those settled together."""
    c, where = dispute.comparison, dispute.where
    finite = np.isfinite(c.rule[where])
    out = []
    if not finite.all():
        out.append((_nonfinite(record, dispute, where[~finite], allow_nonfinite), int(where[~finite][0])))
    where = where[finite]
    if not where.size:
        return out
    open_ = where
    if hull is not None:
        inside = _inside(c, where, hull[leaf])
        if inside.any():
            out.append(("kink", int(where[inside][0])))
        open_ = where[~inside]
    if not open_.size:
        return out
    return [*out, *_witnessed(order, record, dispute, leaf, open_)]


def _nonfinite(record: LeafRecord, dispute: Dispute, where: np.ndarray, allow_nonfinite: bool) -> str:
    truth = dispute.comparison.truth[where]
    largest = float(jnp.finfo(real_dtype(dispute.comparison.dtype)).max)
    with np.errstate(all="ignore"):
        if np.all(np.abs(truth) > largest) and np.all(np.isfinite(truth)):
            record.notes[f"the true gradient overflows {dispute.comparison.dtype.name}"] = None
            return "inconclusive"
    if allow_nonfinite and np.array_equal(truth, dispute.comparison.rule[where], equal_nan=True):
        return "allowed"
    kind = "NaN" if np.isnan(dispute.comparison.rule[where]).any() else "infinite"
    record.notes[f"{kind} in {where.size} elements"] = None
    return "fail"


def _hull(order: FirstOrder, probe: int) -> list[Hull] | None:
    """Per leaf, the range of the primal's gradients close by, where it does not shrink with the distance."""
    d = order.derivatives
    if probe < 0:
        derivative, w = d.free_truth_push, order.tangents[-1 - probe]
    elif not isinstance(order.source, _reference.Reverse) or order.source.opaque:
        return None
    else:
        derivative, w = d.free_truth, list(order.probes[probe].values)
    rounds = 1 if order.large else 3
    ranges = []
    try:
        for near in NEAR:
            found = []
            for k in range(rounds):
                for sign in (1.0, -1.0):
                    _, g = derivative(_moved(order, k, sign * near), w, _reference.plain_knobs())
                    found.append([reals(v).ravel() for v in g])
            with np.errstate(all="ignore"):
                ranges.append([(np.min(leaf, 0), np.max(leaf, 0)) for leaf in zip(*found, strict=True)])
    except Exception:  # the primal cannot be differentiated with its own decisions: no witness
        return None
    out = []
    for (low, high), (near_low, near_high) in zip(*ranges, strict=True):
        with np.errstate(all="ignore"):
            width, near_width = high - low, near_high - near_low
            size = np.maximum(np.abs(near_low), np.abs(near_high))
            real = (near_width > 0.5 * width) & (near_width > 1e-5 * size)
        # Where there is no jump the range is emptied, so that nothing lies inside.
        out.append((np.where(real, near_low, np.inf), np.where(real, near_high, -np.inf)))
    return out


def _moved(order: FirstOrder, k: int, distance: float) -> list[Any]:
    high = list(order.derivatives.highs)
    for leaf in order.problem.inputs:
        x = np.asarray(high[leaf.position])
        rng = _directions.generator(order.options.seed, f"near {k}", leaf.path)
        high[leaf.position] = x + distance * _reference.typical(x) * _directions.signed(rng, x.shape, x.dtype)
    return high


def _inside(c: Any, where: np.ndarray, hull: Hull) -> np.ndarray:
    low, high = hull[0][where], hull[1][where]
    value, slack = c.rule[where], c.allowed_arithmetic()[where]
    with np.errstate(all="ignore"):
        return (value >= low - slack) & (value <= high + slack) & (high > low)


def _witnessed(
    order: FirstOrder, record: LeafRecord, dispute: Dispute, leaf: int, open_: np.ndarray
) -> list[tuple[str, int]]:
    """Ask one-sided differences about the worst of the open elements and about some others."""
    c = dispute.comparison
    with np.errstate(all="ignore"):
        excess = np.abs(c.rule[open_] - c.truth[open_]) / c.allowed_arithmetic()[open_]
    by_size = open_[np.argsort(-np.where(np.isnan(excess), np.inf, excess), kind="stable")]
    rng = _directions.generator(order.options.seed, "witnesses", record.leaf.path)
    others = rng.permutation(by_size[WITNESSES // 2 :])[: WITNESSES // 2]
    out = []
    for flat in (*by_size[: WITNESSES // 2], *others):
        s = element_slope(order, leaf, int(flat), dispute.probe)
        name = dispute.leaf.path
        if s is None:
            return [*out, ("fail" if np.isfinite(c.truth[flat]) else "inconclusive", int(flat))]
        outcome = _by_differences(s, c, int(flat))
        if len(record.steps) < 4:
            record.steps.append(
                curve(f"{name}, flat element {int(flat)}", s, float(c.rule[flat]), float(c.truth[flat]))
            )
        out.append((outcome, int(flat)))
        if outcome == "fail":
            break
    return out


def _by_differences(s: Slope, c: Any, flat: int) -> str:
    rule, truth, slack = float(c.rule[flat]), float(c.truth[flat]), float(c.allowed_arithmetic()[flat])
    low, high = sorted((s.left, s.right))
    bars = 4 * max(s.left_bar, s.right_bar) + slack
    if s.kinked:
        return "kink" if low - bars <= rule <= high + bars else "fail"
    known = np.isfinite(truth)
    if not s.resolves(max(abs(rule), tiny_of(np.float64))) and 4 * s.bar > slack:
        return "fail" if known else "inconclusive"
    formula, arithmetic = c.relative()
    # The allowances are relative to the true value, which is the differences' here.
    near = 4 * s.bar + slack + arithmetic * abs(s.estimate)
    agrees = abs(rule - s.estimate) <= near
    refuted = not known or abs(truth - s.estimate) > near
    if c.rule64 is not None:
        allowed, rule64 = float(c.allowed_formula()[flat]), float(c.rule64[flat])
        close = 4 * s.bar + allowed + formula * abs(s.estimate)
        agrees = agrees and abs(rule64 - s.estimate) <= close
        # What autodiff says against the formula is judged as finely as the formula: a coarse dtype hides nothing there.
        refuted = refuted or (abs(rule64 - truth) > allowed and abs(truth - s.estimate) > close)
    return "pass" if agrees and refuted else "fail"


def element_slope(order: FirstOrder, leaf: int, flat: int, probe: int) -> Slope | None:
    """The derivative with respect to one (real) element of a leaf, by differences; None where they cannot be had.

    For a tangent (probe < 0) it is the derivative of one element of an output leaf along the tangent.
    """
    inputs = order.problem.inputs
    if probe < 0:
        weights = [np.zeros(o.shape, np.dtype(o.dtype)) for o in order.problem.outputs]
        is_complex = np.issubdtype(weights[leaf].dtype, np.complexfloating)
        weights[leaf].reshape(-1)[flat // 2 if is_complex else flat] = (1.0, -1j)[flat % 2] if is_complex else 1.0
        try:
            return _reference.Line(order.derivatives, order.tangents[-1 - probe], scaled=False).slope(weights)
        except Exception:  # as below
            return None
    is_complex = np.issubdtype(np.dtype(inputs[leaf].dtype), np.complexfloating)
    tangents = [np.zeros(i.shape, np.dtype(i.dtype)) for i in inputs]
    unit = (1.0, -1j)[flat % 2] if is_complex else 1.0
    tangents[leaf].reshape(-1)[flat // 2 if is_complex else flat] = unit
    try:
        return _reference.Line(order.derivatives, tangents).slope(order.probes[probe].values)
    except Exception:  # the primal cannot be evaluated in float64: there is no such witness
        return None


def curve(direction: str, s: Slope, rule: float, reference: float) -> StepCurve:
    """The data of the plot of the error by step size."""

    def away(value: float) -> tuple[float, ...]:
        size = abs(value) or 1.0
        return tuple(float(abs(c - value) / size) for c in s.central)

    numbers = (s.estimate, s.bar, s.left, s.right, rule, reference)
    return StepCurve(direction, s.steps, away(rule), away(reference), *map(float, numbers))
