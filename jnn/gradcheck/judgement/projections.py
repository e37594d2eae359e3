"""A reference for functions that are too large for a Jacobian by columns and have no reverse mode.

The gradient g of ⟨w, f⟩ is compared with the derivative along random directions v of one leaf at a time, ⟨g, v⟩: by
forward mode where the primal has it, by differences where it has not. Where they differ, the leaf is halved until one
element is left. What was sampled is said in the report: an error is seen if it is larger than the rounding of a sum
over the leaf, not of its own element.
"""

from typing import Any

import numpy as np

from jnn.gradcheck.judgement.comparison import floors
from jnn.gradcheck.judgement.findings import Findings, LeafFinding, describe, element, worst_of
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import directions, reference
from jnn.gradcheck.oracle.numbers import eps_of, reals, ulp
from jnn.gradcheck.oracle.problem import Leaf
from jnn.gradcheck.report import Check, Element

ROUNDS = 3
NAME = "gradient along random directions"


def run(setting: Setting, *, autodiff: bool = True) -> tuple[dict[int, list[np.ndarray]], Findings]:
    """(the rule's gradients by probe, what comparing every leaf's gradient along random directions showed).

    Without `autodiff` differences are taken even where the primal has forward mode.
    """
    autodiff = autodiff and not setting.derivatives.kept
    gradients: dict[int, list[np.ndarray]] = {}
    kinds: set[str] = set()
    leaves: list[LeafFinding] = []
    for k in range(min(ROUNDS, len(setting.probes))):
        gradients[k] = flats(setting.rule(k)[1])
        for j, leaf in enumerate(setting.problem.inputs):
            rng = directions.generator(setting.options.seed, f"projection {k}", leaf.path)
            v = directions.signed(rng, leaf.shape, np.dtype(leaf.dtype))
            g = gradients[k][j]
            try:
                outcome, kind, _ = _along(setting, leaf, g, j, k, v, autodiff)
            except Exception as error:  # neither forward mode nor differences: the primal cannot be moved
                return gradients, Findings((Check(NAME, "inconclusive", describe(error)),))
            kinds.add(kind)
            note, worst = "", None
            if not np.all(np.isfinite(g)):
                outcome, note = "fail", "not finite"
            elif outcome == "fail":
                note, worst = _bisected(setting, leaf, g, j, k, v, autodiff)
            leaves.append(LeafFinding(leaf.path, outcome, note, worst, mode=NAME))
    total = sum(leaf.size for leaf in setting.problem.inputs)
    how = " and ".join(sorted(kinds))
    check = Check(NAME, worst_of(leaf.outcome for leaf in leaves), f"{ROUNDS} in each leaf, by {how}")
    return gradients, Findings(
        (check,), tuple(leaves), (f"{ROUNDS} random directions a leaf by {how}, of {total} elements",)
    )


def _along(
    setting: Setting,
    leaf: Leaf,
    gradient: np.ndarray,
    place: int,
    probe: int,
    v: np.ndarray,
    autodiff: bool,
) -> tuple[str, str, float]:
    """(outcome, kind of reference, deviation beside what is allowed) of one direction in one leaf."""
    d, w = setting.derivatives, setting.probes[probe].values
    size = reference.typical(np.asarray(d.highs[leaf.position]))
    tangents = [np.zeros(i.shape, np.dtype(i.dtype)) for i in setting.problem.inputs]
    tangents[place] = (v * size).astype(v.dtype)
    moved = reals(tangents[place]).ravel()
    if np.iscomplexobj(v):
        moved = moved * np.tile([1.0, -1.0], moved.size // 2)
    terms = gradient * moved
    got = float(terms.sum())
    f, eps = floors(leaf.dtype), max(eps_of(leaf.dtype), setting.grain)
    # Independent roundings of the terms add up like a random walk; the true terms are unknown, the rule's stand in.
    room = f.arithmetic * eps * float(np.sqrt(np.sum(terms**2))) + f.scaled * eps * abs(got)
    if not np.isfinite(got):
        return "fail", "differences", np.inf
    try:
        if not autodiff:
            raise NotImplementedError("differences are asked for")
        _, dy = d.truth_push(d.highs, tangents, reference.plain_knobs())
        expected = float(reference.flat_cotangent(w) @ np.concatenate(flats(dy)))
        kind = "forward-mode autodiff"
        bar = 0.0
        if d.truth_push.opaque or not np.isfinite(expected):
            raise FloatingPointError("not in float64")
    except Exception:  # no forward mode either
        s = reference.Line(d, tangents, scaled=False).slope(w)
        expected, bar, kind = s.estimate, 4 * s.bar, "differences"
        if s.kinked:
            return ("kink" if s.encloses(got) else "fail"), kind, 0.0 if s.encloses(got) else np.inf
        # Of many terms of either sign little may be left: it is beside their size that a bar is wide or narrow.
        if not s.resolves(float(np.sqrt(np.sum(terms**2)))) and abs(got - expected) <= room + bar:
            return "inconclusive", kind, 0.0
    excess = abs(got - expected) / (room + bar) if room + bar else 0.0
    return ("pass" if excess <= 1 else "fail"), kind, excess


def _bisected(
    setting: Setting,
    leaf: Leaf,
    gradient: np.ndarray,
    place: int,
    probe: int,
    v: np.ndarray,
    autodiff: bool,
) -> tuple[str, Element | None]:
    """Halve the direction until a single wrong element is left (or no half is wrong alone): (note, that element)."""
    at = np.arange(v.size)
    while at.size > 1:
        halves = np.array_split(at, 2)
        excesses = [_along(setting, leaf, gradient, place, probe, _only(v, h), autodiff)[2] for h in halves]
        if max(excesses) <= 1:
            break
        at = halves[int(np.argmax(excesses))]
    if at.size > 1:
        return f"deviates along a random direction in {at.size} elements, not in a single one", None
    flat = int(at[0]) * (2 if np.iscomplexobj(v) else 1)
    tangents: list[Any] = [np.zeros(i.shape, np.dtype(i.dtype)) for i in setting.problem.inputs]
    tangents[place].reshape(-1)[int(at[0])] = 1
    expected = reference.Line(setting.derivatives, tangents).slope(setting.probes[probe].values).estimate
    unit = float(ulp(np.array([expected]), leaf.dtype)[0])
    error = abs(float(gradient[flat]) - expected)
    return "", element(leaf, flat, gradient[flat], expected, error / unit, floors(leaf.dtype).arithmetic,
                       setting.probes[probe].name)  # fmt: skip


def _only(v: np.ndarray, at: np.ndarray) -> np.ndarray:
    out = np.zeros_like(v)
    out.reshape(-1)[at] = v.reshape(-1)[at]
    return out
