"""A guess at what is wrong with a gradient, from its values beside the true ones.

Each pattern is a way in which derivatives are got wrong by hand; the first that explains the values is named. A guess
is a hint to a reader, never part of the verdict.
"""

from fractions import Fraction

import numpy as np

from jnn.gradcheck.judgement.comparison import Comparison
from jnn.gradcheck.oracle.numbers import eps_of


def guess(comparison: Comparison, shape: tuple[int, ...], x: np.ndarray | None = None) -> str:
    """The pattern of a deviation, or an empty string.

    Args:
        comparison: the rule and the truth in one leaf under one probe, flat.
        shape: the leaf's shape.
        x: the leaf's values, flat, for patterns that depend on them.
    """
    rule, truth = comparison.shown()[0], comparison.truth
    formula = comparison.formula_wrong()
    wrong = formula | comparison.arithmetic_wrong()
    if not wrong.any():
        return ""
    if not np.isfinite(rule).all():
        return "not finite"
    if not np.isfinite(truth).all() or rule.size != int(np.prod(shape, dtype=np.int64)):
        return ""
    if comparison.rule64 is not None and not formula.any():
        return "precision lost: the formula is right in float64"
    near = _nearness(comparison)
    for pattern in (_dead, _factor, _transposed, _moved, _masked, _single, _border, _by_input, _detached, _offset):
        found = pattern(rule, truth, shape, wrong, near, x)
        if found:
            return found
    return ""


def _nearness(c: Comparison) -> float:
    # Half of the value, as 64 ulps of bfloat16 are, would make a sign of a factor, and a pattern of anything.
    return max(min(64 * eps_of(c.dtype), 0.05), 1e-4)


def _close(a: np.ndarray, b: np.ndarray, near: float) -> bool:
    size = float(np.max(np.abs(b), initial=0.0))
    return bool(np.max(np.abs(a - b), initial=0.0) <= near * size)


def _dead(rule, truth, shape, wrong, near, x) -> str:
    return "dead leaf: no gradient arrives" if not rule.any() and truth.any() else ""


def _ratio(rule: np.ndarray, truth: np.ndarray, near: float) -> float | None:
    """The factor c with rule = c · truth, if there is one."""
    denominator = float(truth @ truth)
    if not denominator:
        return None
    c = float(rule @ truth) / denominator
    return c if c and np.all(np.abs(rule - c * truth) <= near * abs(c) * np.max(np.abs(truth))) else None


def _factor(rule, truth, shape, wrong, near, x) -> str:
    at = wrong & (truth != 0)
    if at.sum() < 1 or (truth.size > 1 and at.sum() < 2):
        return ""
    c = _ratio(rule[at], truth[at], near)
    if c is None:
        return ""
    where = "" if wrong[truth != 0].all() else f" in {wrong.sum()} of {wrong.size} elements"
    if abs(c + 1) <= min(10 * near, 0.1):
        return "sign flipped" + where
    return f"factor {_number(c, near)}" + where


def _number(c: float, near: float) -> str:
    """A factor as a simple fraction, such as a forgotten 1/2 or 1/N leaves behind, else as a decimal."""
    fraction = Fraction(c).limit_denominator(12)
    exact = abs(float(fraction) - c) <= near * abs(c)
    simple = 0 < abs(fraction.numerator) <= 12 or fraction.denominator == 1
    return str(fraction) if exact and simple and fraction.numerator else f"{c:.4g}"


def _transposed(rule, truth, shape, wrong, near, x) -> str:
    if len(shape) >= 2 and shape[-1] == shape[-2] > 1:
        turned = np.swapaxes(truth.reshape(shape), -1, -2).ravel()
        if _close(rule, turned, near):
            return "transposed"
        if _close(rule, -turned, near):
            return "transposed and sign flipped"
    if len(shape) == 2 and _close(rule, truth.reshape(shape).T.ravel(), near):
        return "transposed, then reshaped"
    return ""


def _moved(rule, truth, shape, wrong, near, x) -> str:
    if truth.size > 20_000:
        return ""
    a, b = rule.reshape(shape), truth.reshape(shape)
    for axis, n in enumerate(shape):
        if n < 2:
            continue
        if _close(a, np.flip(b, axis), near):
            return f"reversed along axis {axis}"
        for shift in (1, -1):
            if _close(a, np.roll(b, shift, axis), near):
                return f"shifted by {shift} along axis {axis}"
        if n > 2 and _close(a, np.broadcast_to(b.mean(axis, keepdims=True), b.shape), near):
            return f"averaged over axis {axis}"
        if n > 2 and _close(a, np.broadcast_to(b.sum(axis, keepdims=True), b.shape), near):
            return f"summed over axis {axis}"
    return ""


def _masked(rule, truth, shape, wrong, near, x) -> str:
    at = wrong & (truth != 0)
    if at.any() and not rule[wrong].any():
        return f"zero in {wrong.sum()} of {wrong.size} elements{_region(wrong, shape)}"
    if wrong.any() and not truth[wrong].any():
        return f"not zero where it must be, in {wrong.sum()} of {wrong.size} elements{_region(wrong, shape)}"
    return ""


def _single(rule, truth, shape, wrong, near, x) -> str:
    if wrong.sum() == 1 and wrong.size > 4:
        return "a single element" + _region(wrong, shape)
    return ""


def _region(wrong: np.ndarray, shape: tuple[int, ...]) -> str:
    """Where a mask lies, if it lies at one end of an axis."""
    mask = wrong.reshape(shape)
    for axis, n in enumerate(shape):
        lines = np.flatnonzero(mask.any(tuple(k for k in range(mask.ndim) if k != axis)))
        if n >= 3 and lines.size and lines.size <= n / 2:
            if lines[0] == 0 and lines[-1] == lines.size - 1:
                return f", the first {lines.size} along axis {axis}"
            if lines[-1] == n - 1 and lines[0] == n - lines.size:
                return f", the last {lines.size} along axis {axis}"
            if lines[0] == 0 and lines[-1] == n - 1 and lines.size == 2:
                return f", both ends of axis {axis}"
    return ""


def _border(rule, truth, shape, wrong, near, x) -> str:
    region = _region(wrong, shape)
    return "border" + region if region and wrong.mean() <= 0.5 else ""


def _by_input(rule, truth, shape, wrong, near, x) -> str:
    if x is None or x.size != wrong.size or wrong.all():
        return ""
    for name, mask in (("negative", x < 0), ("positive", x > 0), ("zero", x == 0)):
        if np.array_equal(mask, wrong):
            return f"wrong where the input is {name}"
    size = np.abs(x)
    if size[wrong].min() > size[~wrong].max():
        return f"wrong where the input is large (beyond {size[~wrong].max():.3g})"
    if size[wrong].max() < size[~wrong].min():
        return f"wrong where the input is small (below {size[~wrong].min():.3g})"
    return ""


def _detached(rule, truth, shape, wrong, near, x) -> str:
    if rule.size > 2 and np.allclose(np.abs(rule), np.abs(rule[0]), rtol=near) and not np.allclose(truth, truth[0]):
        return "of one magnitude: it does not depend on the values"
    return ""


def _offset(rule, truth, shape, wrong, near, x) -> str:
    gap = rule - truth
    if gap.size < 3:
        return ""
    if np.all(np.abs(gap - gap[0]) <= near * np.max(np.abs(gap))):
        return f"a constant added ({gap[0]:.3g})"
    if x is not None and x.size == gap.size and np.any(x):
        c = _ratio(gap, x, near)
        if c is not None:
            return f"{c:.3g} times the input added"
    return ""
