"""What becomes of an element where the rule and autodiff of the primal disagree.

Autodiff is no judge at a kink, nor where its own value is not finite. Two witnesses are heard there:

- the primal's gradients at random points close by (all elements at once): where they jump however close the points
  are, the function has a kink, and any value between them is as good as another (a Clarke subgradient);
- one-sided differences along the element's own axis (for the worst elements and a few others): they also settle the
  elements whose reference is not finite.

A value in the hull of either is a kink (of one coordinate; see `joint` for several at once); a value that differences
confirm against autodiff is right; anything else is wrong. Where autodiff has no finite value and the differences
resolve nothing, the element is inconclusive, and so is a deviation that goes away when the primal's loops run on: such
a primal has not converged. (Where it is the rule's own loop that had to run on, its solver stops early: a deviation of
more than `EARLY` is an error.)
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jnn.gradcheck.judgement.findings import Compared, Findings, LeafFinding, excess_of, told
from jnn.gradcheck.judgement.forward import TOGETHER, Forward
from jnn.gradcheck.judgement.reverse import Reverse
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import directions, jaxprs, reference
from jnn.gradcheck.oracle.differences import RATIO, Slope
from jnn.gradcheck.oracle.numbers import real_dtype, tiny_of
from jnn.gradcheck.report import StepCurve

NEAR = (1e-7, 1e-10)
ROUNDS, MORE = 3, 16
"""Pairs of points close by; and where nothing else would decide."""
WITNESSES = 12
TURNS, INSIDE = (1, 20), (-1, -20)
"""Further iterations of loops that only carry; the same of loops inside a loop (see `float64.Knobs`)."""
EARLY = 1e-4
"""Relative to the leaf's largest gradient: what a solver leaves undone that stops at 1e-6 of its residual."""
AT_KINK = "at a kink: the value lies between the one-sided derivatives"
Hull = tuple[np.ndarray, np.ndarray]


def settle(setting: Setting, reverse: Reverse, forward: Forward) -> Findings:
    """Judge the elements that deviate, leaf by leaf."""
    everything = [*reverse.compared, *forward.compared]
    disputed = sorted({c.probe for c in everything if c.wrong.size})
    hulls: dict[int, list[Hull] | None] = {}
    for k in [*[k for k in disputed if k < 0][-2:], *[k for k in disputed if k >= 0][:3]]:
        hulls[k] = _hull(setting, reverse, forward, k)
    found: list[LeafFinding] = []
    for owner in [*(leaf.path for leaf in setting.problem.inputs), TOGETHER]:
        mine = [c for c in everything if c.owner == owner]
        found += _leaf(setting, reverse, forward, owner, mine, hulls)
    return Findings((), tuple(found))


def _leaf(
    setting: Setting, reverse: Reverse, forward: Forward, owner: str, mine: list[Compared],
    hulls: dict[int, list[Hull] | None],
) -> list[LeafFinding]:  # fmt: skip
    by_outcome: dict[tuple[str, str], list[tuple[Compared, int]]] = {}
    notes: dict[str, None] = {}
    steps: list[StepCurve] = []
    for c in mine:
        if c.wrong.size and c.comparison is not None:
            one = _Dispute(setting, reverse, forward, c, hulls.get(c.probe))
            for outcome, flat in one.settled():
                by_outcome.setdefault((c.mode, outcome), []).append((c, flat))
            notes |= one.notes
            steps += one.steps
    found = []
    for (mode, outcome), places in by_outcome.items():
        note = {"kink": AT_KINK, "pass": "differences confirm the value against autodiff of the primal"}.get(
            outcome, ""
        )
        found.append(LeafFinding(owner, outcome, note, _worst(places), mode=mode))
    if notes or steps:
        worst = next((o for o in ("fail", "inconclusive") if any(k[1] == o for k in by_outcome)), "pass")
        found += [LeafFinding(owner, worst if k == 0 else "pass", n) for k, n in enumerate(notes)]
        found.append(LeafFinding(owner, steps=tuple(steps[:4])))
    resolution = min((c.measured.detectable for c in mine), default=np.inf)
    kept = [c for c in mine if c.comparison is not None and c.probe >= 0]
    if kept and not by_outcome and 0.5 < resolution < np.inf:
        found.append(_unresolved(setting, reverse, forward, owner, kept[0]))
    return found


def _worst(places: list[tuple[Compared, int]]) -> Any:
    best = max(places, key=lambda p: excess_of(p[0].comparison, p[1]))  # pyright: ignore[reportArgumentType]
    return told(best[0].comparison, best[1], best[0].shown, best[0].name)  # pyright: ignore[reportArgumentType]


def _unresolved(setting: Setting, reverse: Reverse, forward: Forward, owner: str, c: Compared) -> LeafFinding:
    """A leaf in which no error would be noticed: at a kink (a tie, say), or too ill-conditioned to be judged."""
    assert c.comparison is not None
    # Along no single axis the kink may show (the middle one of three equal numbers), and a range that is drawn from few
    # points may miss a branch.
    hull = _hull(setting, reverse, forward, c.probe, MORE)
    place = [leaf.path for leaf in setting.problem.inputs].index(owner)
    everywhere = np.arange(c.comparison.truth.size)
    if hull is not None and _inside(c.comparison, everywhere, hull[place])[c.comparison.truth != 0].all():
        return LeafFinding(owner, "kink", AT_KINK)
    return LeafFinding(owner, "inconclusive", "too ill-conditioned here: no error below 50% would be noticed")


class _Dispute:
    """The elements of one comparison that deviate, and what was noted and measured while they were settled."""

    def __init__(
        self, setting: Setting, reverse: Reverse, forward: Forward, compared: Compared, hull: list[Hull] | None
    ) -> None:
        assert compared.comparison is not None
        self.setting, self.reverse, self.forward = setting, reverse, forward
        self.compared, self.comparison, self.hull = compared, compared.comparison, hull
        leaves = setting.problem.inputs if compared.probe >= 0 else setting.problem.outputs
        self.place = [leaf.path for leaf in leaves].index(compared.shown.path)
        self.notes: dict[str, None] = {}
        self.steps: list[StepCurve] = []

    def settled(self) -> list[tuple[str, int]]:
        """(outcome, flat element) of those that were looked at, a representative one for those settled together."""
        c, where = self.comparison, self.compared.wrong
        finite = np.isfinite(c.rule[where])
        out = []
        if not finite.all():
            out.append((self._nonfinite(where[~finite]), int(where[~finite][0])))
        where = where[finite]
        if where.size and self.hull is not None:
            inside = _inside(c, where, self.hull[self.place])
            if inside.any():
                out.append(("kink", int(where[inside][0])))
            where = where[~inside]
        if not where.size:
            return out
        told = self._witnessed(where)
        if any(outcome == "fail" for outcome, _ in told):
            failing = self._gone_on(where)
            told = [(failing if outcome == "fail" else outcome, flat) for outcome, flat in told]
        return [*out, *told]

    def _nonfinite(self, where: np.ndarray) -> str:
        c = self.comparison
        truth = c.truth[where]
        greatest = float(jnp.finfo(real_dtype(c.dtype)).max)
        with np.errstate(all="ignore"):
            if np.all(np.abs(truth) > greatest) and np.all(np.isfinite(truth)):
                self.notes[f"the true gradient overflows {c.dtype.name}"] = None
                return "inconclusive"
        if self.setting.options.allow_nonfinite and np.array_equal(truth, c.rule[where], equal_nan=True):
            return "allowed"
        kind = "NaN" if np.isnan(c.rule[where]).any() else "infinite"
        self.notes[f"{kind} in {where.size} elements"] = None
        return "fail"

    def _witnessed(self, open_: np.ndarray) -> list[tuple[str, int]]:
        """Ask one-sided differences about the worst of the open elements and about some others."""
        c = self.comparison
        if self.setting.options.residual is not None:  # which decides: the primal itself may not have converged
            return [("fail", int(open_[0]))]
        with np.errstate(all="ignore"):
            excess = np.abs(c.rule[open_] - c.truth[open_]) / c.allowed_arithmetic()[open_]
        by_size = open_[np.argsort(-np.where(np.isnan(excess), np.inf, excess), kind="stable")]
        rng = directions.generator(self.setting.options.seed, "witnesses", self.compared.owner)
        others = rng.permutation(by_size[WITNESSES // 2 :])[: WITNESSES // 2]
        out = []
        for flat in map(int, (*by_size[: WITNESSES // 2], *others)):
            s = element_slope(self.setting, self.forward, self.place, flat, self.compared.probe)
            if s is None:
                return [*out, ("fail" if np.isfinite(c.truth[flat]) else "inconclusive", flat)]
            outcome = _by_differences(s, c, flat, self.setting.loops)
            if s.stairs:
                self.notes[stairs_note(s)] = None
            if outcome in ("fail", "kink") and self.setting.loops and _on_teeth(s, float(c.rule[flat])):
                self.notes["the primal's loop has not converged: differences at larger steps agree with the rule"] = (
                    None
                )
                outcome = "inconclusive"
            if len(self.steps) < 4:
                name = f"{self.compared.shown.path}, flat element {flat}"
                self.steps.append(curve(name, s, float(c.rule[flat]), float(c.truth[flat])))
            out.append((outcome, flat))
            if outcome == "fail":
                break
        return out

    def _gone_on(self, where: np.ndarray) -> str:
        """What a failure is where loops run on: inconclusive, if the deviation goes away while the value of the primal
        hardly changes.
        """
        if not self.setting.loops or self.compared.probe < 0 or self.setting.options.residual is not None:
            return "fail"
        c, w = self.comparison, list(self.setting.probes[self.compared.probe].values)
        if c.rule64 is None and self.setting.wide_error:
            return "fail"
        here, _ = self.reverse.source.gradients(w)
        nested = jaxprs.has_loop_in_loop(self.setting.derivatives.primal)
        for turns in TURNS + (INSIDE if nested else ()):
            try:
                y, g = _further(self.setting, self.reverse.source, w, turns)
                rule = self._rule_further(w, turns)
            except Exception:  # there is no such loop, or it raises when it runs on
                return "fail"
            change = _changed(here, y)
            if change > 1e-2 and not self._settles(w, turns, y, change):  # the loop counts rather than converges
                continue
            further = g[self.place][where]
            with np.errstate(all="ignore"):
                gap = np.abs(c.rule - c.truth)[where]
                closer = np.abs(rule[where] - further) <= 0.1 * gap
                still = np.abs(further - c.truth[where]) < 0.1 * gap
            if change == 0 or not closer.all() or not np.any(further):
                continue
            off = float(np.max(gap)) / c.scale
            if still.all() and change < 1e-2 * off:
                self.notes[
                    f"the rule's own loop stops early: run on by {abs(turns)}, it agrees (tolerance= says what is good "
                    "enough)"
                ] = None
                return "fail" if off > EARLY else "inconclusive"
            self.notes[
                f"the primal has not converged: its loop, run on by {abs(turns)}, changes its value by "
                f"{change:.1e}, and its derivative and the rule's agree then"
            ] = None
            return "inconclusive"
        return "fail"

    def _settles(self, w: list[Any], turns: int, y: list[np.ndarray], change: float) -> bool:
        """Whether as many turns again change hardly anything: far from the end, but on the way to it."""
        try:
            return _changed(y, _further(self.setting, self.reverse.source, w, 2 * turns)[0]) <= 1e-3 * min(change, 1.0)
        except Exception:  # it raises when it runs on
            return False

    def _rule_further(self, w: list[Any], turns: int) -> np.ndarray:
        d = self.setting.derivatives
        program = d.promoted(d.pull_jaxpr, turns=max(turns, 0))
        knobs = reference.Knobs(np.float64(0), np.int32(turns))
        return flats(program(d.highs, w, knobs)[1])[self.place]


def _changed(one: list[np.ndarray], two: list[np.ndarray]) -> float:
    return max((reference.relative(a, b) for a, b in zip(one, two, strict=True)), default=0.0)


def _further(setting: Setting, source: Any, w: list[Any], turns: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if isinstance(source, reference.Forward):
        return source.gradients(w, 0, turns)
    d = setting.derivatives
    y, g = d.truth_of(turns=max(turns, 0))(d.highs, w, reference.plain_knobs())
    return flats(y), flats(g)


def stairs_note(s: Slope) -> str:
    """What is said of a primal that is piecewise constant."""
    return (
        f"the primal is piecewise constant at scale {s.stairs:.0e} of its arguments: its own derivative is zero "
        "almost everywhere, and differences at larger steps decide"
    )


def _hull(setting: Setting, reverse: Reverse, forward: Forward, probe: int, rounds: int = ROUNDS) -> list[Hull] | None:
    """Per leaf, the range of the primal's gradients close by, where it does not shrink with the distance."""
    d = setting.derivatives
    if setting.options.residual is not None or d.kept:
        return None
    if probe < 0:
        derivative, w = d.free_truth_push, list(forward.tangents[-1 - probe].values)
    elif not isinstance(reverse.source, reference.Reverse) or reverse.source.opaque:
        return None
    else:
        derivative, w = d.free_truth, list(setting.probes[probe].values)
    rounds = 1 if setting.large else rounds
    ranges = []
    try:
        for near in NEAR:
            low, high = None, None
            for k in range(rounds):
                for sign in (1.0, -1.0):
                    g = flats(derivative(_moved(setting, k, sign * near), w, reference.plain_knobs())[1])
                    low = g if low is None else [np.minimum(a, b) for a, b in zip(low, g, strict=True)]
                    high = g if high is None else [np.maximum(a, b) for a, b in zip(high, g, strict=True)]
            ranges.append(list(zip(low or [], high or [], strict=True)))
    except Exception:  # the primal cannot be differentiated with its own decisions: no witness
        return None
    out = []
    for (low, high), (near_low, near_high) in zip(*ranges, strict=True):
        with np.errstate(all="ignore"):
            width, near_width = high - low, near_high - near_low
            size = np.maximum(np.abs(near_low), np.abs(near_high))
            # A width that grows as the points come closer is rounding, not a jump.
            real = (near_width > 0.5 * width) & (near_width < 4 * width) & (near_width > 1e-5 * size)
        # Where there is no jump the range is emptied, so that nothing lies inside.
        out.append((np.where(real, near_low, np.inf), np.where(real, near_high, -np.inf)))
    return out


def _moved(setting: Setting, k: int, distance: float) -> list[Any]:
    high = list(setting.derivatives.highs)
    for leaf in setting.problem.inputs:
        x = np.asarray(high[leaf.position])
        rng = directions.generator(setting.options.seed, f"near {k}", leaf.path)
        high[leaf.position] = x + distance * reference.typical(x) * directions.signed(rng, x.shape, x.dtype)
    return high


def _inside(c: Any, where: np.ndarray, hull: Hull) -> np.ndarray:
    low, high = hull[0][where], hull[1][where]
    value, slack = c.rule[where], c.allowed_arithmetic()[where]
    with np.errstate(all="ignore"):
        return (value >= low - slack) & (value <= high + slack) & (high > low)


def _by_differences(s: Slope, c: Any, flat: int, loops: bool) -> str:
    rule, truth, slack = float(c.rule[flat]), float(c.truth[flat]), float(c.allowed_arithmetic()[flat])
    low, high = sorted((s.left, s.right))
    bars = 4 * max(s.left_bar, s.right_bar) + slack
    if s.kinked and not s.stairs:
        return "kink" if low - bars <= rule <= high + bars else "fail"
    known = np.isfinite(truth)
    if not s.resolves(max(abs(rule), tiny_of(np.float64))) and 4 * s.bar > slack:
        if s.stairs:
            return "inconclusive"
        return "fail" if known else "inconclusive"
    formula, arithmetic = c.relative()
    # The allowances are relative to the true value, which is the differences' here.
    near = 4 * s.bar + slack + arithmetic * abs(s.estimate)
    agrees = abs(rule - s.estimate) <= near
    refuted = not known or abs(truth - s.estimate) > near
    if c.rule64 is not None:
        allowed, rule64 = float(c.allowed_formula()[flat]), float(c.rule64[flat])
        close = 4 * s.bar + allowed + formula * abs(s.estimate)
        if loops:
            # Also in float64 a loop decides as it did in its own dtype: a root that was bracketed in float32 is known
            # to that, and the rule that is evaluated there is as well.
            close = max(close, near)
        agrees = agrees and abs(rule64 - s.estimate) <= close
        # What autodiff says against the formula is judged as finely as the formula: a coarse dtype hides nothing there.
        refuted = refuted or (abs(rule64 - truth) > allowed and abs(truth - s.estimate) > close)
    return "pass" if agrees and refuted else "fail"


def _on_teeth(s: Slope, rule: float) -> bool:
    """Whether differences at the three largest steps agree with the rule, and with each other, to a hundredth, though
    those at smaller steps do not: a bisection, say, whose bracket moves with its arguments.
    """
    central = np.array(s.central[:3])
    refined = central[1:] + (central[1:] - central[:-1]) / (RATIO**2 - 1)
    with np.errstate(all="ignore"):
        within = float(np.median(s.central[-5:]))
        size = max(abs(rule), abs(within))
        return bool(np.all(np.abs(refined - rule) <= 1e-2 * size) and abs(within - rule) > 4e-2 * size)


def element_slope(setting: Setting, forward: Forward, leaf: int, flat: int, probe: int) -> Slope | None:
    """The derivative with respect to one (real) element of a leaf, by differences; None where they cannot be had.

    For a tangent (probe < 0) it is the derivative of one element of an output leaf along the tangent.
    """
    inputs = setting.problem.inputs
    if probe < 0:
        weights = [np.zeros(o.shape, np.dtype(o.dtype)) for o in setting.problem.outputs]
        is_complex = np.issubdtype(weights[leaf].dtype, np.complexfloating)
        weights[leaf].reshape(-1)[flat // 2 if is_complex else flat] = (1.0, -1j)[flat % 2] if is_complex else 1.0
        try:
            return reference.Line(setting.derivatives, forward.tangents[-1 - probe].values, scaled=False).slope(weights)
        except Exception:  # as below
            return None
    is_complex = np.issubdtype(np.dtype(inputs[leaf].dtype), np.complexfloating)
    tangents = [np.zeros(i.shape, np.dtype(i.dtype)) for i in inputs]
    unit = (1.0, -1j)[flat % 2] if is_complex else 1.0
    tangents[leaf].reshape(-1)[flat // 2 if is_complex else flat] = unit
    try:
        return reference.Line(setting.derivatives, tangents).slope(setting.probes[probe].values)
    except Exception:  # the primal cannot be evaluated in float64: there is no such witness
        return None


def curve(direction: str, s: Slope, rule: float, reference: float) -> StepCurve:
    """The data of the plot of the error by step size."""

    def away(value: float) -> tuple[float, ...]:
        size = abs(value) or 1.0
        return tuple(float(abs(c - value) / size) for c in s.central)

    numbers = (s.estimate, s.bar, s.left, s.right, rule, reference)
    return StepCurve(direction, s.steps, away(rule), away(reference), *map(float, numbers))
