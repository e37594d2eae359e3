"""Kinks in several coordinates at once: a value that lies within each coordinate's range may still be no subgradient.

Of max(x, y) at x = y every pair (a, b) with a and b in [0, 1] is within the one-sided derivatives of its coordinates,
but only those with a + b = 1 are subgradients: along (1, 1) the function is smooth. So directions decide. For a
direction v, ⟨g, v⟩ must lie between the one-sided derivatives along v; tried are random directions, those along which
equal values stay equal, the gradient itself, and the one that separates it from the gradients close by.

Coordinates whose kinks have nothing to do with each other (the elements of a relu) are not put together: the sum of
convex and concave kinks is neither, and its one-sided derivatives bound nothing. Two coordinates belong together if a
step along both is not the sum of the steps along each.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from jnn.gradcheck.judgement.findings import Findings, LeafFinding
from jnn.gradcheck.judgement.reverse import Reverse
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import directions, reference
from jnn.gradcheck.oracle.numbers import reals
from jnn.gradcheck.report import Check

NAME = "joint kinks"
MOST = 12
"""Coordinates that are looked at pair by pair."""
RANDOM = 6
PROBES = 2
STEP = 2.0**-14


def run(setting: Setting, reverse: Reverse, settled: Findings, spared: set[str]) -> Findings:
    """Judge the gradient along directions, where several of its elements were found to be at a kink."""
    inputs = setting.problem.inputs
    at_kink = [leaf.path for leaf in inputs if settled.verdict(leaf.path) == "kink" and leaf.path not in spared]
    if not at_kink or not reverse.gradients:
        return Findings()
    if any(np.issubdtype(np.dtype(leaf.dtype), np.complexfloating) for leaf in inputs):
        return Findings((Check(NAME, "skipped", "complex arguments"),))
    disputed = [c.probe for c in reverse.compared if c.owner in at_kink and c.wrong.size and c.probe >= 0]
    fault, tried = None, 0
    for probe in list(dict.fromkeys([0, *disputed]))[:PROBES]:
        if probe not in reverse.gradients or fault is not None:
            continue
        try:
            line = _Lines(setting, reverse, probe, at_kink)
            fault = line.fault()
        except Exception as error:  # the primal cannot be evaluated beside the point
            why = f"the primal cannot be evaluated close by: {type(error).__name__}"
            return Findings((Check(NAME, "skipped", why),))
        tried += line.tried
    if fault is None:
        if not tried:
            return Findings((Check(NAME, "skipped", "no two coordinates have a kink in common"),))
        return Findings((Check(NAME, "pass", f"within the one-sided derivatives along {tried} directions"),))
    why, paths = fault
    note = "outside the subdifferential: " + why
    return Findings((Check(NAME, "fail", why),), tuple(LeafFinding(p, "fail", note) for p in paths))


@dataclasses.dataclass
class _Lines:
    """The primal along directions in the coordinates that were found to be at a kink, as one flat vector."""

    setting: Setting
    reverse: Reverse
    probe: int
    paths: list[str]
    tried: int = 0

    def __post_init__(self) -> None:
        s = self.setting
        inputs = s.problem.inputs
        self.sizes = [leaf.size for leaf in inputs]
        self.x = np.concatenate([reals(s.derivatives.highs[leaf.position]).ravel() for leaf in inputs])
        self.g = np.concatenate([g.ravel() for g in self.reverse.gradients[self.probe]])
        mask, room = np.zeros(self.x.size, bool), np.zeros(self.x.size)
        start = 0
        for leaf in inputs:
            here = slice(start, start + leaf.size)
            start += leaf.size
            for c in self.reverse.of(leaf.path):
                if c.probe != self.probe or c.comparison is None:
                    continue
                # At a kink the noise of the derivative is the kink itself.
                plain = dataclasses.replace(c.comparison, noise=np.zeros(leaf.size), naive=0.0, rounding=0.0)
                room[here] = np.nan_to_num(plain.allowed_arithmetic(), posinf=0.0)
                if leaf.path in self.paths:
                    mask[here.start + c.wrong] = True
                    mask[here] |= c.comparison.noise > 0.05 * np.maximum(
                        np.abs(c.comparison.truth), 1e-3 * c.comparison.scale
                    )
        self.room = room
        typical = np.abs(self.x[self.x != 0])
        self.scale = float(np.median(typical)) if typical.size else 1.0
        mask |= self._jumping() & np.repeat([leaf.path in self.paths for leaf in inputs], self.sizes)
        self.kinks = np.flatnonzero(mask & np.isfinite(self.g))
        self.weights = reference.flat_cotangent(s.probes[self.probe].values)
        self.here = self._value(np.zeros(self.x.size))

    def _jumping(self) -> np.ndarray:
        """Where the primal's gradients close by differ."""
        gradient = self._gradient()
        if gradient is None:
            return np.zeros(self.x.size, bool)
        rng = directions.generator(self.setting.options.seed, "jumps", "")
        near = []
        for _ in range(3):
            step = 1e-8 * self.scale * rng.normal(size=self.x.size)
            near += [gradient(step), gradient(-step)]
        found = np.array(near)
        top = float(np.max(np.abs(found[np.isfinite(found)]), initial=0.0))
        return np.all(np.isfinite(found), 0) & (np.ptp(found, axis=0) > 1e-3 * top)

    def _shifted(self, step: np.ndarray) -> list[Any]:
        s = self.setting
        high, parts = list(s.derivatives.highs), np.split(step, np.cumsum(self.sizes)[:-1])
        for leaf, part in zip(s.problem.inputs, parts, strict=True):
            high[leaf.position] = np.asarray(high[leaf.position]) + part.reshape(leaf.shape)
        return high

    def _value(self, step: np.ndarray) -> float:
        y = np.concatenate(flats(self.setting.derivatives.primal64(self._shifted(step))))
        return float(np.sum(np.where(self.weights != 0, self.weights * y, 0.0)))

    def _change(self, coordinates: dict[int, float]) -> float:
        step = np.zeros(self.x.size)
        for k, v in coordinates.items():
            step[k] = v
        return self._value(step) - self.here

    def fault(self) -> tuple[str, list[str]] | None:
        """What shows that the gradient is no subgradient, and in which leaves; None if nothing does."""
        if self.kinks.size < 2:
            return None
        for group in self._groups():
            for name, v in self._directions(group):
                self.tried += 1
                found = self._outside(v)
                if found is not None:
                    return f"along {name} it gives {found[0]:.6g}, the one-sided derivatives are {found[1]:.6g} and " \
                           f"{found[2]:.6g}", self._owners(group)  # fmt: skip
        return None

    def _owners(self, group: np.ndarray) -> list[str]:
        ends = np.cumsum(self.sizes)
        return [leaf.path for k, leaf in enumerate(self.setting.problem.inputs)
                if np.any((group < ends[k]) & (group >= ends[k] - self.sizes[k]))]  # fmt: skip

    def _groups(self) -> list[np.ndarray]:
        """The coordinates that belong together: among a few of them pair by pair, of which the rest is concluded."""
        order = np.argsort(-np.abs(self.g[self.kinks]), kind="stable")
        few = self.kinks[order][:MOST]
        if self.kinks.size > MOST:  # beside the largest one, those that have its value
            equal = self.kinks[self.x[self.kinks] == self.x[few[0]]]
            few = np.unique(np.concatenate([few[: MOST // 2], equal[: MOST // 2]]))
        h = STEP * self.scale
        single = {(k, s): self._change({int(k): s * h}) for k in few for s in (1.0, -1.0)}
        size = max(max(map(abs, single.values())), 1e-300)
        label = {int(k): int(k) for k in few}
        for a, i in enumerate(few):
            for j in few[a + 1 :]:
                # Of either sign: a hinge of x + y adds up along (1, 1), and does not along (1, −1).
                for s, t in itertools.product((1.0, -1.0), repeat=2):
                    both = self._change({int(i): s * h, int(j): t * h})
                    if abs(both - single[i, s] - single[j, t]) > 1e-3 * size:
                        old, new = label[int(j)], label[int(i)]
                        label = {k: new if v == old else v for k, v in label.items()}
                        break
        groups = [np.array([k for k, v in label.items() if v == name]) for name in dict.fromkeys(label.values())]
        groups = [g for g in groups if g.size > 1]
        if len(groups) == 1 and groups[0].size == few.size:
            return [self.kinks]
        return groups

    def _directions(self, group: np.ndarray) -> list[tuple[str, np.ndarray]]:
        rng = directions.generator(self.setting.options.seed, "joint kinks", "")
        values = self.x[group]
        unique, which = np.unique(values, return_inverse=True)

        def made(part: np.ndarray) -> np.ndarray:
            v = np.zeros(self.x.size)
            v[group] = part / (np.max(np.abs(part)) or 1.0)
            return v

        out = [("all of them together", made(np.ones(group.size)))]
        if np.any(self.g[group]):
            out.append(("the gradient itself", made(self.g[group])))
        for _ in range(2 if unique.size > 1 else 0):
            out.append(("a direction that keeps ties", made(rng.uniform(-1, 1, unique.size)[which])))
        out += [("a random direction", made(rng.normal(size=group.size))) for _ in range(RANDOM)]
        samples = self._samples(group)
        if samples is not None:
            away = self.g[group] - nearest(samples, self.g[group])
            if np.any(away):
                out.insert(1, ("the direction away from the gradients close by", made(away)))
        return out

    def _gradient(self) -> Callable[[np.ndarray], np.ndarray] | None:
        source, d = self.reverse.source, self.setting.derivatives
        if not isinstance(source, reference.Reverse) or source.opaque:
            return None
        w = list(self.setting.probes[self.probe].values)
        return lambda step: np.concatenate(flats(d.free_truth(self._shifted(step), w, reference.plain_knobs())[1]))

    def _samples(self, group: np.ndarray) -> np.ndarray | None:
        """Gradients close by, one a row, in the coordinates of a group."""
        gradient = self._gradient()
        if gradient is None:
            return None
        rng = directions.generator(self.setting.options.seed, "close by", "")
        rows = []
        for _ in range(8):
            step = np.zeros(self.x.size)
            step[group] = 1e-8 * self.scale * rng.normal(size=group.size)
            for sign in (1.0, -1.0):
                g = gradient(sign * step)[group]
                if np.all(np.isfinite(g)):
                    rows.append(g)
        return np.array(rows) if rows else None

    def _outside(self, v: np.ndarray) -> tuple[float, float, float] | None:
        """(⟨g, v⟩, the one-sided derivatives), if it lies outside of these and of all derivatives close by."""
        got = float(np.sum(np.where(v != 0, self.g * v, 0.0)))
        parts = np.split(self.scale * v, np.cumsum(self.sizes)[:-1])
        tangents = [p.reshape(leaf.shape) for p, leaf in zip(parts, self.setting.problem.inputs, strict=True)]
        line = reference.Line(self.setting.derivatives, tangents, scaled=False)
        line.unit = 1.0
        s = line.slope(self.setting.probes[self.probe].values).scaled(1 / self.scale)
        low, high = sorted((s.left, s.right))
        slack = (
            4 * max(s.left_bar, s.right_bar) + float(np.sum(self.room * np.abs(v))) + 1e-6 * max(abs(low), abs(high))
        )
        if (
            not np.isfinite(slack)
            or slack > 0.3 * max(abs(got), abs(low), abs(high))
            or low - slack <= got <= high + slack
        ):
            return None
        gradient = self._gradient()
        if gradient is not None:
            rng = directions.generator(self.setting.options.seed, "beside", "")
            for k in range(6):
                step = np.where(v != 0, v + (0.2 * rng.normal(size=v.size) if k > 1 else 0.0), 0.0)
                g = gradient((-1.0) ** k * 1e-8 * self.scale * step)
                along = float(np.sum(np.where(v != 0, g * v, 0.0)))
                if np.isfinite(along):
                    low, high = min(low, along), max(high, along)
        if low - slack <= got <= high + slack:
            return None
        return got, s.left, s.right


def nearest(rows: np.ndarray, point: np.ndarray, rounds: int = 300) -> np.ndarray:
    """The point of the convex hull of some rows that is nearest to a point (Frank and Wolfe's method, roughly)."""
    at = rows[int(np.argmin(np.sum((rows - point) ** 2, 1)))].astype(np.float64)
    for _ in range(rounds):
        toward = rows[int(np.argmin((rows - at) @ (at - point)))] - at
        length = float(toward @ toward)
        if not length:
            break
        step = float(np.clip(-(at - point) @ toward / length, 0.0, 1.0))
        if step <= 1e-12:
            break
        at = at + step * toward
    return at
