"""The power of a check: would it have noticed this fault, at these values, with these probes?

Every mutation is applied to the gradients that the rule gave, and judged as they were; nothing is computed again,
except for the mutations that need the rule at another cotangent or at other arguments.
"""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from jnn.gradcheck.judgement.comparison import Comparison
from jnn.gradcheck.judgement.reverse import Reverse
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import directions
from jnn.gradcheck.report import Mutation

Change = Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


def _scaled(factor: float) -> Change:
    return lambda g, shape: factor * g


def _typical_element(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The element of median magnitude with its sign flipped."""
    out = g.copy()
    present = np.flatnonzero(g)
    if present.size:
        out[present[np.argsort(np.abs(g[present]))[present.size // 2]]] *= -1
    return out


def _turned(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) >= 2 and shape[-1] == shape[-2] and g.size == np.prod(shape):
        return np.swapaxes(g.reshape(shape), -1, -2).ravel()
    return g


def _without_last(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if not shape or shape[-1] < 2 or g.size != np.prod(shape):
        return g
    out = g.reshape(shape).copy()
    out[..., -1] = 0
    return out.ravel()


def _one_term(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if not shape or shape[0] < 2 or g.size != np.prod(shape):
        return g
    out = g.reshape(shape)
    return np.broadcast_to(out[:1], shape).ravel().copy()


MUTATIONS: dict[str, Change] = {
    "sign flipped": _scaled(-1.0),
    "factor 2": _scaled(2.0),
    "factor 1.1": _scaled(1.1),
    "factor 1.01": _scaled(1.01),
    "factor 1.001": _scaled(1.001),
    "dead leaf": _scaled(0.0),
    "sign of one element flipped": _typical_element,
    "transposed": _turned,
    "last index dropped": _without_last,
    "first row in all rows": _one_term,
    "absolute value": lambda g, shape: np.abs(g),
}


def mutations(setting: Setting, reverse: Reverse) -> tuple[Mutation, ...]:
    """Every mutation of every leaf, and whether it would have been noticed."""
    found = []
    elsewhere = _elsewhere(setting, reverse)
    for j, leaf in enumerate(setting.problem.inputs):
        kept = reverse.kept(leaf.path)
        if not kept or any(c.wrong().any() for _, c in kept):
            continue
        for name, change in MUTATIONS.items():
            changed = (
                (c, change(c.rule, leaf.shape), None if c.rule64 is None else change(c.rule64, leaf.shape))
                for _, c in kept
            )
            found.append(Mutation(name, leaf.path, _noticed(changed)))
        for name, gradients in elsewhere.items():
            pairs = [(c, gradients[k][j], None) for k, c in kept if k in gradients]
            found.append(Mutation(name, leaf.path, _noticed(pairs)))
    return tuple(found)


def _noticed(changed: Iterable[tuple[Comparison, np.ndarray, np.ndarray | None]]) -> bool | None:
    """Whether a change would fail in any of the comparisons; None where it changes nothing."""
    outcome: bool | None = None
    for c, rule, rule64 in changed:
        if dataclasses.replace(c, rule=rule, rule64=rule64).wrong().any():
            return True
        if not np.array_equal(rule, c.rule, equal_nan=True):
            outcome = False
    return outcome


def _elsewhere(setting: Setting, reverse: Reverse) -> dict[str, dict[int, list[np.ndarray]]]:
    """The rule's gradients for ones (a constant cotangent assumed) and at arguments 1% away (a stale residual)."""
    if setting.large or not reverse.gradients:
        return {}
    d = setting.derivatives
    moved = list(d.lows)
    for leaf in setting.problem.inputs:
        at = leaf.position
        moved[at] = directions.varied([d.lows[at]], [leaf.path], setting.options.seed, 7, 1e-2)[0]
    ones, stale = {}, {}
    for k, probe in enumerate(setting.probes[:2]):
        w = [np.asarray(np.sign(np.abs(v))).astype(v.dtype) for v in probe.values]
        ones[k] = flats(d.rule(d.lows, w)[1])
        stale[k] = flats(d.rule(moved, list(probe.values))[1])
    return {"cotangent taken to be one": ones, "residuals of arguments 1% away": stale}
