"""The contract that every derivative keeps, whatever it is the derivative of.

A pullback is linear in the cotangent (zero gives exactly zero, it is homogeneous and additive), it is the adjoint of
the pushforward, it is a function (repeated and traced anew it is the same), it returns the value that the function
returns without it, it commutes with jit and vmap, and it does not depend on which other arguments are differentiated.
Where it can be, it is evaluated in float64 for this, in which the casts on its way change nothing.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jnn.gradcheck.judgement.comparison import floors, grow, scaled_floor
from jnn.gradcheck.judgement.findings import Findings, LeafFinding, describe
from jnn.gradcheck.judgement.forward import Forward
from jnn.gradcheck.judgement.reverse import Reverse, native
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import directions, float64, jaxprs, reference
from jnn.gradcheck.oracle.float64 import Oracle, Program
from jnn.gradcheck.oracle.implicit import Implicit
from jnn.gradcheck.oracle.numbers import EPS64, eps_of, largest, parts, tiny_of
from jnn.gradcheck.oracle.rewrite import silenced, without_rules
from jnn.gradcheck.report import Check

EAGER = 8
"""Equations that are evaluated one by one: JAX compiles each of them."""
WIDE = 1e-9
"""What two evaluations in float64 may differ, relative to their terms: far more than they round, far less than an
error in any dtype."""


def run(setting: Setting, reverse: Reverse, forward: Forward, spared: set[str]) -> Findings:
    """All checks of the contract; leaves in `spared` (declared to deviate) are not held to it."""
    if not reverse.gradients:
        return Findings()
    contract = _Contract(setting, reverse, forward, spared)
    stages: list[tuple[str, Callable[[], _Said]]] = [
        ("cotangent zero", contract.zero),
        ("homogeneous and additive", contract.linear),
        ("adjoint identity", contract.adjoint),
        ("value with and without derivative", contract.value),
        ("repetition", contract.repetition),
        ("eager and jit", contract.eager),
        ("vmap and sum over a batch", contract.batched),
        ("each argument alone", contract.alone),
    ]
    found = Findings()
    for name, stage in stages:
        try:
            said = stage()
        except Exception as error:  # a check that cannot run must not hide the others
            said = _Said("skipped", describe(error))
        leaves = tuple(LeafFinding(path, "fail", note) for path, note in said.blamed)
        found += Findings((Check(name, said.outcome, said.why),), leaves)
    return found


@dataclasses.dataclass(frozen=True)
class _Said:
    """The outcome of one check, and the leaves that it blames, each with a note."""

    outcome: str
    why: str
    blamed: tuple[tuple[str, str], ...] = ()


def _text(jaxpr: Any) -> str:
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


@dataclasses.dataclass(frozen=True)
class _Contract:
    setting: Setting
    reverse: Reverse
    forward: Forward
    spared: set[str]

    def _blame(self, good: str, *bad: tuple[Sequence[bool], str]) -> _Said:
        """The outcome of a check with, by note, which leaves broke it."""
        paths = [leaf.path for leaf in self.setting.problem.inputs]
        blamed = [
            (path, note)
            for wrong, note in bad
            for path, is_wrong in zip(paths, wrong, strict=True)
            if is_wrong and path not in self.spared
        ]
        if not blamed:
            return _Said("pass", good)
        return _Said("fail", "violated in " + ", ".join(dict.fromkeys(path for path, _ in blamed)), tuple(blamed))

    def _room(self, leaf: int, *terms: np.ndarray) -> Callable[[slice], Any]:
        """What a leaf's gradient may be off by rounding, in its own dtypes, by place."""
        s, record = self.setting, self.setting.problem.inputs[leaf]
        kept = [c for _, c in self.reverse.kept(record.path)[:2]]
        eps = max(eps_of(record.dtype), s.grain)
        slack = floors(record.dtype).arithmetic * eps
        flat = max(scaled_floor(record.dtype, s.coarse), 4 * s.grain) * max([largest(t) for t in terms], default=0.0)

        def room(place: slice) -> Any:
            allowed = sum(c.at(place).allowed_arithmetic() for c in kept)
            return 2 * allowed + slack * sum(np.abs(t[place]) for t in terms) + flat + 16 * tiny_of(record.dtype)

        return room

    def _differ(self, leaf: int, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether two evaluations of one leaf's gradient differ by more than rounding."""
        room = self._room(leaf, b)
        for place in parts(a.size):
            x, y = a[place], b[place]
            with np.errstate(all="ignore"):
                off = ~(np.abs(x - y) <= room(place)) & ~(np.isnan(x) & np.isnan(y)) & (x != y)
            if off.any():
                return True
        return False

    def zero(self) -> _Said:
        s = self.setting
        zeros = [np.zeros(o.shape, np.dtype(o.dtype)) for o in s.problem.outputs]
        _, g = s.derivatives.rule(s.derivatives.lows, zeros)
        first = self.reverse.gradients[0]
        # Where the gradient is not finite for any cotangent, 0 · inf is NaN here too: that is reported already.
        bad = [bool(np.any((native(v) != 0) & np.isfinite(first[j]))) for j, v in enumerate(g)]
        return self._blame("exactly zero", (bad, "a cotangent of zeros gives a non-zero gradient"))

    def linear(self) -> _Said:
        s = self.setting
        d, lows = s.derivatives, s.derivatives.lows
        if len(s.probes) < 2:
            return _Said("skipped", "only one cotangent was given")
        wide = s.promoted and not s.large  # of a large function in its own dtypes, which take less memory
        # Of few digits, so that the sum and the double are numbers of every dtype on the way.
        one, two = ([_short(a) for a in s.probes[k].values] for k in (0, 1))
        both = [(a + b).astype(a.dtype) for a, b in zip(one, two, strict=True)]
        turned = [(-2 * a).astype(a.dtype) for a in one]

        def off(value: np.ndarray, factor: float, terms: Sequence[np.ndarray], leaf: int) -> bool:
            room = self._room(leaf, *terms)
            for place in parts(value.size):
                some = [t[place] for t in terms]
                with np.errstate(all="ignore"):
                    if wide:
                        # Of a gradient that is zero but for rounding the scale is that of the terms that cancel in it.
                        scale = max(*map(largest, terms), *(c.scale for _, c in self._kept(leaf)))
                        rel, flat = self._wide(leaf)
                        allowed = rel * sum(np.abs(t) for t in some) + flat * scale
                        allowed = (
                            allowed + sum(4 * c.at(place).noise for _, c in self._kept(leaf)) + tiny_of(np.float64)
                        )
                    else:
                        allowed = room(place)
                    finite = np.logical_and.reduce([np.isfinite(t) for t in some])
                    if np.any((np.abs(value[place] - factor * sum(some)) > allowed) & finite):
                        return True
            return False

        def gradients(w: Sequence[Any]) -> list[np.ndarray]:
            return s.rule64(w)[1] if wide else [native(v) for v in d.rule(lows, list(w))[1]]

        g1 = gradients(one)
        scaled = gradients(turned)
        bad_scale = [off(v, -2.0, [g], j) for j, (v, g) in enumerate(zip(scaled, g1, strict=True))]
        del scaled
        g2, summed = gradients(two), gradients(both)
        bad_sum = [off(v, 1.0, [a, b], j) for j, (v, a, b) in enumerate(zip(summed, g1, g2, strict=True))]
        return self._blame(
            "g(−2w) = −2g(w), g(v + w) = g(v) + g(w)",
            (bad_scale, "not homogeneous in the cotangent"),
            (bad_sum, "not additive in the cotangent"),
        )

    def _wide(self, leaf: int) -> tuple[float, float]:
        """What two evaluations in float64 may differ, relative to their terms and to the leaf's scale.

        Where loops decide (a bisection), they do so in their own dtype, and another program of the same function, or
        the same one once its loops are compiled, rounds its decisions otherwise.
        """
        if not self.setting.loops:
            return WIDE, 1e-12
        dtype = self.setting.problem.inputs[leaf].dtype
        return max(WIDE, floors(dtype).formula * eps_of(dtype)), max(1e-12, scaled_floor(dtype, 0.0))

    def _kept(self, leaf: int) -> list[Any]:
        return self.reverse.kept(self.setting.problem.inputs[leaf].path)[:2]

    def adjoint(self) -> _Said:
        if not self.forward.works:
            return _Said("skipped", "the function has no forward mode of its own")
        s = self.setting
        d, v, w = s.derivatives, list(self.forward.tangents[0].values), list(s.probes[0].values)

        def both(k: int) -> tuple[np.ndarray, np.ndarray]:
            """The terms of ⟨w, Jv⟩ and of ⟨Jᵀw, v⟩ in float64, under the k-th variation."""
            high, knobs = reference.variation(d, s.options.seed, k)
            return _products(w, d.rule64_push(high, v, knobs)[1]), _products(v, d.rule64(high, w, knobs)[1])

        terms: tuple[np.ndarray, np.ndarray] | None = None
        if s.promoted:
            with contextlib.suppress(Exception):  # the pushforward holds something that cannot be evaluated in float64
                terms = both(0)
        wide = terms is not None
        forward, reverse = terms or (_products(w, d.rule_push(d.lows, v)[1]), _products(v, d.rule(d.lows, w)[1]))
        gap = abs(forward.sum() - reverse.sum())
        size = np.abs(forward).sum() + np.abs(reverse).sum()
        room = size * (2.0**20 * EPS64 if wide else 256 * max(s.grain, s.coarse))
        if wide and gap > room:  # of an ill-conditioned function, whose rounding is amplified on either way
            varied = [both(k) for k in range(1, reference.VARIATIONS + 1)]
            room += 8 * max(abs(a.sum() - forward.sum()) + abs(b.sum() - reverse.sum()) for a, b in varied)
        if not np.isfinite(gap):
            return _Said("skipped", "not finite")
        text = f"⟨w, Jv⟩ = {forward.sum():.9g}, ⟨Jᵀw, v⟩ = {reverse.sum():.9g}"
        return _Said("pass" if gap <= room or self.spared else "fail", text)

    def value(self) -> _Said:
        s, source = self.setting, self.reverse.source
        if source is None:
            return _Said("skipped", "no reference to compare with")
        d, w = s.derivatives, list(s.probes[0].values)
        # The value of an implicit function is the root: here it is the function's own that counts. And a large function
        # is looked at in its own dtypes, which take less memory.
        own = isinstance(source, Implicit) or s.large
        promoted = s.promoted and not source.opaque and not own
        value = s.rule64(w)[0] if promoted else [native(v) for v in s.rule(0)[0]]
        if own:
            program = silenced(s.problem.jaxpr if isinstance(source, Implicit) else d.primal)
            truth = [native(v) for v in jax.jit(core.jaxpr_as_fun(program))(*d.lows)]
        else:
            truth = source.gradients(w)[0]
        noise: list[Any] = [0.0 if own else np.zeros(t.shape) for t in truth]
        for k in range(1, s.variations + 1) if not own else ():
            again = source.gradients(w, k)[0]
            again64 = s.rule64(w, k)[0] if promoted else value
            for j, n in enumerate(noise):
                grow(n, (truth[j], again[j]), (value[j], again64[j]))
            del again, again64
        bad = []
        for leaf, t, v, n in zip(s.problem.outputs, truth, value, noise, strict=True):
            f, eps = floors(leaf.dtype), eps_of(leaf.dtype)
            finite = np.isfinite(t)
            scale = largest(t)
            with np.errstate(all="ignore"):
                room = (f.formula if promoted else f.arithmetic) * eps * np.abs(t) + 4 * n
                room += (256 * EPS64 if promoted else scaled_floor(leaf.dtype, s.coarse)) * scale
                room += 4 * tiny_of(leaf.dtype)
                wrong = finite & ~(np.abs(v - t) <= room)
            if not promoted and s.low_precision and wrong.any():
                plain = flats(jax.jit(core.jaxpr_as_fun(d.primal))(*d.lows))[len(bad)]
                with np.errstate(all="ignore"):
                    wrong &= ~(np.abs(v - t) <= room + 8 * np.nan_to_num(np.abs(plain - t)))
            bad.append(leaf.path if wrong.any() else "")
        names = [name for name in bad if name]
        if names:
            return _Said(
                "fail", "the value under differentiation is another than the function's in " + ", ".join(names)
            )
        return _Said("pass", "equal")

    def repetition(self) -> _Said:
        s, first = self.setting, self.reverse.gradients[0]
        again = [native(v) for v in s.rule(0)[1]]
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(again, first, strict=True)):
            bad = [self._differ(j, a, first[j]) for j, a in enumerate(again)]
            return self._blame("equal up to rounding", (bad, "another gradient when it is computed again"))
        del again
        d = s.derivatives
        one, two = d.pull_jaxpr, silenced(d.traced_anew())
        if same_program(one, two):
            return _Said("pass", "the same bits, and the same program when traced anew")
        out = jax.jit(core.jaxpr_as_fun(two))(*d.lows, *s.probes[0].values)
        other = flats(out[len(s.problem.outputs) :])
        bad = [self._differ(j, a, first[j]) for j, a in enumerate(other)]
        return self._blame(
            "the same bits; traced anew, an equivalent program", (bad, "another gradient when it is traced again")
        )

    def eager(self) -> _Said:
        s = self.setting
        if not s.has_rules:
            return _Said("skipped", "no rule of its own")
        count = sum(1 for _ in jaxprs.all_equations(s.derivatives.pull_jaxpr))
        if count > EAGER or s.large:
            return _Said("skipped", f"{count} equations: evaluating them one by one would take too long")
        if s.derivatives.pull_jaxpr is not s.derivatives.pull_as_traced:
            return _Said("skipped", "it would print")
        # Copies, since a function may donate its arguments.
        arrays = [jnp.array(a, copy=True) for a in s.derivatives.lows]
        _, g = s.derivatives.pull(arrays, [jnp.asarray(v) for v in s.probes[0].values])
        bad = [self._differ(j, a, self.reverse.gradients[0][j]) for j, a in enumerate(flats(g))]
        return self._blame("equal", (bad, "another gradient without jit"))

    def batched(self) -> _Said:
        """The first leaf in a batch of two, the others shared: its gradients are the single ones, theirs the sums."""
        s = self.setting
        if not s.has_rules:
            return _Said("skipped", "no rule of its own: vmap is JAX's")
        if s.large:
            return _Said("skipped", "large")
        problem, d = s.problem, s.derivatives
        first = problem.inputs[0]
        beside = directions.varied([d.lows[first.position]], [first.path], s.options.seed, 99, 1e-3)[0]
        points = [d.lows, [beside if k == first.position else a for k, a in enumerate(d.lows)]]
        ws = [list(s.probes[k].values) for k in (0, min(1, len(s.probes) - 1))]
        stacked = [np.stack([a, b]) for a, b in zip(*ws, strict=True)]
        axes = [0 if k == first.position else None for k in range(len(d.lows))]
        lows = [np.stack([np.asarray(p[k]) for p in points]) if a == 0 else d.lows[k] for k, a in enumerate(axes)]

        def pull(arrays: Sequence[Any], w: Sequence[Any]) -> list[Any]:
            _, back = jax.vjp(
                lambda *x: jax.vmap(problem.flat, in_axes=tuple(axes))(*problem.merged(arrays, x)),
                *problem.differentiable(arrays),
            )
            return list(back(list(w)))

        traced = silenced(jaxprs.trace(pull, lows, stacked)[0])
        # In float64 rounding is out of the way (a batched product may round differently); else as it is.
        wide, batch = s.promoted, []
        if wide:
            run = Oracle(without_rules(traced)[0])
            both = [*lows, *stacked]
            program = Program(lambda lo, hi: run(lo, hi, None), lambda: run.opaque)
            batch = flats(program(both, float64.highs(both)))
            wide = not program.opaque
        if wide:
            knobs = reference.plain_knobs()
            highs = [float64.highs(p) for p in points]
            single = [flats(d.rule64(h, w, knobs, p)[1]) for h, w, p in zip(highs, ws, points, strict=True)]
        else:
            batch = flats(jax.jit(core.jaxpr_as_fun(traced))(*lows, *stacked))
            single = [flats(d.rule(p, w)[1]) for p, w in zip(points, ws, strict=True)]
        bad = []
        for j, leaf in enumerate(problem.inputs):
            mine = [v[j] for v in single]
            want = np.concatenate(mine) if j == 0 else mine[0] + mine[1]
            size = np.concatenate([np.abs(v) for v in mine]) if j == 0 else np.abs(mine[0]) + np.abs(mine[1])
            noise = sum(c.noise for _, c in self._kept(j))
            noise = np.tile(noise, 2) if j == 0 and np.ndim(noise) else noise
            f, eps = floors(leaf.dtype), max(eps_of(leaf.dtype), s.grain)
            with np.errstate(all="ignore"):
                scale = max(largest(size), *(c.scale for _, c in self._kept(j)), 0.0)
                flat = 4 * max(scaled_floor(leaf.dtype, s.coarse), 4 * s.grain if s.grain > eps_of(leaf.dtype) else 0.0)
                rel, flat = self._wide(j) if wide else (f.arithmetic * eps, flat)
                room = rel * size + 16 * noise + flat * scale + tiny_of(leaf.dtype)
                bad.append(bool(np.any(~(np.abs(batch[j] - want) <= room) & np.isfinite(want))))
        return self._blame(
            "the batched gradients are the single ones, those of shared leaves their sums",
            (bad, "another gradient under vmap"),
        )

    def alone(self) -> _Said:
        """Each leaf differentiated without the others: a rule with symbolic zeros sees which are perturbed."""
        s = self.setting
        if not s.symbolic:
            return _Said("skipped", "no rule asks which arguments are differentiated")
        if len(s.problem.inputs) < 2:
            return _Said("skipped", "there is but one")
        d, w = s.derivatives, list(s.probes[0].values)
        bad = []
        for j, together in enumerate(self.reverse.gradients[0]):
            (alone,) = flats(jax.jit(core.jaxpr_as_fun(d.alone(j)))(*d.lows, *w))
            bad.append(self._differ(j, alone, together))
        return self._blame("the same gradient", (bad, "another gradient when no other argument is differentiated"))


def same_program(one: Any, two: Any) -> bool:
    """Whether two traced functions are the same, constants included."""
    mine, other = jaxprs.constants(one), jaxprs.constants(two)
    return len(mine) == len(other) and all(map(_equal, mine, other)) and _text(one) == _text(two)


def _short(values: np.ndarray) -> np.ndarray:
    """The values rounded to multiples of 1/64 of the power of two below the largest."""
    wide = values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)
    top = largest(np.abs(wide).ravel())
    unit = 2.0 ** (np.floor(np.log2(top)) - 6) if top else 1.0
    return (np.round(wide / unit) * unit).astype(values.dtype)


def _equal(a: Any, b: Any) -> bool:
    if getattr(a, "shape", None) != getattr(b, "shape", None):
        return False
    try:
        return bool(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=jnp.issubdtype(a.dtype, jnp.inexact)))
    except TypeError:  # keys
        return True


def _products(a: Sequence[Any], b: Sequence[Any]) -> np.ndarray:
    wide = [
        (np.asarray(x, np.complex128 if np.iscomplexobj(np.asarray(x)) else np.float64).ravel(), np.asarray(y).ravel())
        for x, y in zip(a, b, strict=True)
    ]
    return np.concatenate([(x * y).real.astype(np.float64) for x, y in wide])
