"""The contract that every derivative keeps, whatever it is the derivative of.

A pullback is linear in the cotangent (zero gives exactly zero, it is homogeneous and additive), it is the adjoint of
the pushforward, it is a function (repeated and traced anew it is the same), it returns the value that the function
returns without it, and it commutes with jit and vmap.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jnn.gradcheck import _directions, _float64, _jaxprs, _reference
from jnn.gradcheck._evidence import LeafRecord, describe
from jnn.gradcheck._first_order import FirstOrder
from jnn.gradcheck._judge import EPS64, eps_of, floors, grow, parts, reals, scaled_floor, tiny_of
from jnn.gradcheck._rewrite import without_rules
from jnn.gradcheck.report import Check

EAGER = 16


def run(order: FirstOrder, spared: set[str]) -> list[Check]:
    """All checks of the contract; leaves in `spared` (declared to deviate) are not held to it."""
    if order.reverse_error is not None or not order.gradients:
        return []
    parts: list[tuple[str, Callable[[FirstOrder, set[str]], tuple[str, str]]]] = [
        ("cotangent zero", _zero),
        ("homogeneous and additive", _linear),
        ("adjoint identity", _adjoint),
        ("value with and without derivative", _primal),
        ("repetition", _repetition),
        ("eager and jit", _eager),
        ("vmap and sum over a batch", _batched),
    ]
    checks = []
    for name, part in parts:
        try:
            outcome, why = part(order, spared)
        except Exception as error:  # a check that cannot run must not hide the others
            outcome, why = "skipped", describe(error)
        checks.append(Check(name, outcome, why))
    return checks


def _flats(values: Sequence[Any]) -> list[np.ndarray]:
    return [reals(v).ravel() for v in values]


def _blamed(order: FirstOrder, bad: Sequence[bool], spared: set[str], note: str) -> list[str]:
    names = []
    for record, wrong in zip(order.records, bad, strict=True):
        if wrong and record.leaf.path not in spared:
            _fail(record, note)
            names.append(record.leaf.path)
    return names


def _fail(record: LeafRecord, note: str) -> None:
    record.verdict = "fail"
    record.notes[note] = None


def _outcome(names: list[str], good: str) -> tuple[str, str]:
    return ("fail", "violated in " + ", ".join(names)) if names else ("pass", good)


def _zero(order: FirstOrder, spared: set[str]) -> tuple[str, str]:
    zeros = [np.zeros(o.shape, np.dtype(o.dtype)) for o in order.problem.outputs]
    _, g = order.derivatives.rule(order.derivatives.lows, zeros)
    # Where the gradient is not finite for any cotangent, 0 · inf is NaN here too: that is reported already.
    bad = [bool(np.any((v != 0) & np.isfinite(order.gradients[0][j]))) for j, v in enumerate(_flats(g))]
    return _outcome(_blamed(order, bad, spared, "a cotangent of zeros gives a non-zero gradient"), "exactly zero")


def _linear(order: FirstOrder, spared: set[str]) -> tuple[str, str]:
    d, lows = order.derivatives, order.derivatives.lows
    if len(order.probes) < 2 or 1 not in order.gradients:
        return "skipped", "only one cotangent was given"
    one, two = (order.probes[k].values for k in (0, 1))
    both = [(a + b).astype(a.dtype) for a, b in zip(one, two, strict=True)]
    # Sums of cotangents round; the second summand is what was really added.
    two = [(s - a).astype(a.dtype) for s, a in zip(both, one, strict=True)]
    g1 = order.gradients[0]
    scaled = _flats(d.rule(lows, [(-2 * a).astype(a.dtype) for a in one])[1])
    bad_scale = [_off(r, s, -2.0, [g]) for r, s, g in zip(order.records, scaled, g1, strict=True)]
    del scaled
    g2, summed = _flats(d.rule(lows, list(two))[1]), _flats(d.rule(lows, both)[1])
    bad_sum = [_off(r, s, 1.0, terms) for r, s, *terms in zip(order.records, summed, g1, g2, strict=True)]
    names = _blamed(order, bad_scale, spared, "not homogeneous in the cotangent")
    names += _blamed(order, bad_sum, spared, "not additive in the cotangent")
    return _outcome(list(dict.fromkeys(names)), "g(−2w) = −2g(w), g(v + w) = g(v) + g(w)")


def _off(record: LeafRecord, value: np.ndarray, factor: float, terms: Sequence[np.ndarray]) -> bool:
    """Whether a gradient differs from `factor` times the sum of others by more than rounding, where they are finite."""
    dtype = record.leaf.dtype
    slack = floors(dtype).arithmetic * eps_of(dtype)
    for place in parts(value.size):
        some = [t[place] for t in terms]
        with np.errstate(all="ignore"):
            allowed = sum(c.at(place).allowed_arithmetic() for _, c in record.compared[:2])
            room = 2 * allowed + slack * sum(np.abs(t) for t in some) + 16 * tiny_of(dtype)
            finite = np.logical_and.reduce([np.isfinite(t) for t in some])
            if np.any((np.abs(value[place] - factor * sum(some)) > room) & finite):
                return True
    return False


def _adjoint(order: FirstOrder, spared: set[str]) -> tuple[str, str]:
    if not order.tangents:
        return "skipped", "the function has no forward mode of its own"
    d, v, w = order.derivatives, order.tangents[0], list(order.probes[0].values)
    if order.promoted:
        knobs = _reference.plain_knobs()
        _, g = d.rule64(d.highs, w, knobs)
        _, dy = d.rule64_push(d.highs, v, knobs)
        eps = 2.0**20 * EPS64
    else:
        _, g = d.rule(d.lows, w)
        _, dy = d.rule_push(d.lows, v)
        coarsest = max(eps_of(leaf.dtype) for leaf in (*order.problem.inputs, *order.problem.outputs))
        eps = 256 * max(coarsest, order.coarse)
    forward, reverse = _products(w, dy), _products(v, g)
    gap = abs(forward.sum() - reverse.sum())
    size = np.abs(forward).sum() + np.abs(reverse).sum()
    noise = sum(float(np.sum(4 * c.noise * np.abs(t))) for t, c in _first_noise(order, v))
    if not np.isfinite(gap):
        return "skipped", "not finite"
    text = f"⟨w, Jv⟩ = {forward.sum():.9g}, ⟨Jᵀw, v⟩ = {reverse.sum():.9g}"
    if gap <= eps * size + noise or spared:
        return "pass", text
    return "fail", text


def _first_noise(order: FirstOrder, v: Sequence[np.ndarray]) -> list[tuple[np.ndarray, Any]]:
    return [(reals(t).ravel(), r.compared[0][1]) for t, r in zip(v, order.records, strict=True) if r.compared]


def _products(a: Sequence[Any], b: Sequence[Any]) -> np.ndarray:
    wide = [
        (np.asarray(x, np.complex128 if np.iscomplexobj(np.asarray(x)) else np.float64).ravel(), np.asarray(y).ravel())
        for x, y in zip(a, b, strict=True)
    ]
    return np.concatenate([(x * y).real.astype(np.float64) for x, y in wide])


def _primal(order: FirstOrder, spared: set[str]) -> tuple[str, str]:
    if order.source is None:
        return "skipped", "no reference to compare with"
    d, w = order.derivatives, list(order.probes[0].values)
    truth, _ = order.source.gradients(w)
    knobs = _reference.plain_knobs()
    promoted = order.promoted and not order.source.opaque
    value = _flats(d.rule64(d.highs, w, knobs)[0] if promoted else order.rule_gradients(0)[0])
    noise = [np.zeros(t.shape) for t in truth]
    for k in range(1, order.variations + 1):
        high, knobs = _reference.variation(d, order.options.seed, k)
        again = order.source.gradients(w, k)[0]
        again64 = _flats(d.rule64(high, w, knobs)[0]) if promoted else value
        for j, n in enumerate(noise):
            grow(n, (truth[j], again[j]), (value[j], again64[j]))
        del again, again64
    bad = []
    for leaf, t, v, n in zip(order.problem.outputs, truth, value, noise, strict=True):
        f, eps = floors(leaf.dtype), eps_of(leaf.dtype)
        finite = np.isfinite(t)
        scale = float(np.max(np.abs(t[finite]), initial=0.0))
        with np.errstate(all="ignore"):
            room = (f.formula if promoted else f.arithmetic) * eps * np.abs(t) + 4 * n
            room += (256 * EPS64 if promoted else scaled_floor(leaf.dtype, order.coarse)) * scale
            room += 4 * tiny_of(leaf.dtype)
            wrong = finite & ~(np.abs(v - t) <= room)
        if not promoted and order.low_precision and wrong.any():
            plain = _flats(jax.jit(core.jaxpr_as_fun(d.primal))(*d.lows))[len(bad)]
            with np.errstate(all="ignore"):
                wrong &= ~(np.abs(v - t) <= room + 8 * np.nan_to_num(np.abs(plain - t)))
        bad.append(leaf.path if wrong.any() else "")
    names = [name for name in bad if name]
    if names:
        return "fail", "the value under differentiation is another than the function's in " + ", ".join(names)
    return "pass", "equal"


def _repetition(order: FirstOrder, spared: set[str]) -> tuple[str, str]:
    again = _flats(order.rule_gradients(0)[1])
    bad = [not np.array_equal(a, b, equal_nan=True) for a, b in zip(again, order.gradients[0], strict=True)]
    if any(bad):
        far = [_beyond(order, j, a, order.gradients[0][j]) for j, a in enumerate(again)]
        names = _blamed(order, far, spared, "another gradient when it is computed again")
        return ("fail", "violated in " + ", ".join(names)) if names else ("pass", "equal up to rounding")
    first, second = order.derivatives.pull_jaxpr, order.derivatives.traced_anew()
    if _text(first) == _text(second):
        return "pass", "the same bits, and the same program when traced anew"
    out = core.jaxpr_as_fun(second)(*order.derivatives.lows, *order.probes[0].values)
    other = _flats(out[len(order.problem.outputs) :])
    far = [_beyond(order, j, a, order.gradients[0][j]) for j, a in enumerate(other)]
    names = _blamed(order, far, spared, "another gradient when it is traced again")
    return _outcome(names, "the same bits; traced anew, an equivalent program")


def _text(jaxpr: Any) -> str:
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


def _beyond(order: FirstOrder, j: int, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two evaluations of one leaf's gradient differ by more than rounding."""
    record = order.records[j]
    c = next((c for k, c in record.compared if k == 0), None)
    dtype = record.leaf.dtype
    room = 0.0 if c is None else 2 * c.allowed_arithmetic()
    with np.errstate(all="ignore"):
        room = room + floors(dtype).arithmetic * eps_of(dtype) * np.abs(b) + 16 * tiny_of(dtype)
        scale = float(np.max(np.abs(b[np.isfinite(b)]), initial=0.0))
        room = room + scaled_floor(dtype, order.coarse) * scale
        return bool(np.any(~(np.abs(a - b) <= room) & ~(np.isnan(a) & np.isnan(b)) & (a != b)))


def _eager(order: FirstOrder, spared: set[str]) -> tuple[str, str]:
    if not _has_rules(order):
        return "skipped", "no rule of its own"
    count = sum(1 for _ in _jaxprs.all_equations(order.derivatives.pull_jaxpr))
    if count > EAGER or order.large:
        return "skipped", f"{count} equations: evaluating them one by one would take too long"
    _, g = order.derivatives._pull(order.derivatives.lows, [jnp.asarray(v) for v in order.probes[0].values])
    far = [_beyond(order, j, a, order.gradients[0][j]) for j, a in enumerate(_flats(g))]
    return _outcome(_blamed(order, far, spared, "another gradient without jit"), "equal")


def _has_rules(order: FirstOrder) -> bool:
    return any(e.primitive.name in _jaxprs.RULES for e in _jaxprs.all_equations(order.problem.jaxpr))


def _batched(order: FirstOrder, spared: set[str]) -> tuple[str, str]:
    """The first leaf in a batch of two, the others shared: its gradients are the single ones, theirs the sums."""
    if not _has_rules(order):
        return "skipped", "no rule of its own: vmap is JAX's"
    if order.large:
        return "skipped", "large"
    problem, d = order.problem, order.derivatives
    first = problem.inputs[0]
    beside = _directions.varied([d.lows[first.position]], [first.path], order.options.seed, 99, 1e-3)[0]
    points = [d.lows, [beside if k == first.position else a for k, a in enumerate(d.lows)]]
    ws = [list(order.probes[k].values) for k in (0, min(1, len(order.probes) - 1))]
    stacked = [np.stack([a, b]) for a, b in zip(*ws, strict=True)]
    axes = [0 if k == first.position else None for k in range(len(d.lows))]
    lows = [np.stack([np.asarray(p[k]) for p in points]) if a == 0 else d.lows[k] for k, a in enumerate(axes)]

    def pull(arrays: Sequence[Any], w: Sequence[Any]) -> list[Any]:
        _, back = jax.vjp(
            lambda *x: jax.vmap(problem.flat, in_axes=tuple(axes))(*problem.merged(arrays, x)),
            *problem.differentiable(arrays),
        )
        return list(back(list(w)))

    # In float64 rounding is out of the way (a batched product may round differently); else as it is.
    wide = order.low_precision and order.promoted
    if wide:
        run_ = _float64.oracle(without_rules(_jaxprs.trace(pull, lows, stacked)[0])[0])
        both, highs = [*lows, *stacked], [_float64.highs(p) for p in points]
        with jax.enable_x64(True):
            batch = _flats(d.quick(lambda lo, hi: run_(lo, hi, None))(both, _float64.highs(both)))
        knobs = _reference.plain_knobs()
        single = [_flats(d.rule64(h, w, knobs, lows=p)[1]) for h, w, p in zip(highs, ws, points, strict=True)]
    else:
        batch = _flats(jax.jit(pull)(lows, stacked))
        single = [_flats(d.rule(p, w)[1]) for p, w in zip(points, ws, strict=True)]
    bad = []
    for j, record in enumerate(order.records):
        want = np.concatenate([s[j] for s in single]) if j == 0 else single[0][j] + single[1][j]
        size = np.concatenate([np.abs(s[j]) for s in single]) if j == 0 else np.abs(single[0][j]) + np.abs(single[1][j])
        noise = sum(c.noise for _, c in record.compared[:2])
        noise = np.tile(noise, 2) if j == 0 and np.ndim(noise) else noise
        f, eps = floors(record.leaf.dtype), eps_of(record.leaf.dtype)
        with np.errstate(all="ignore"):
            scale = float(np.max(size[np.isfinite(size)], initial=0.0))
            rel, flat = (
                (1e-9, 1e-12) if wide else (f.arithmetic * eps, 4 * scaled_floor(record.leaf.dtype, order.coarse))
            )
            room = rel * size + 16 * noise + flat * scale + tiny_of(record.leaf.dtype)
            bad.append(bool(np.any(~(np.abs(batch[j] - want) <= room) & np.isfinite(want))))
    names = _blamed(order, bad, spared, "another gradient under vmap")
    return _outcome(names, "the batched gradients are the single ones, those of shared leaves their sums")
