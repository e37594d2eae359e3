"""Two functions that return gradients, compared: no derivative is taken here, only values are judged."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jnn.gradcheck.judgement import patterns, verdict
from jnn.gradcheck.judgement.comparison import Comparison
from jnn.gradcheck.judgement.findings import compared, worst_of
from jnn.gradcheck.judgement.setting import Options, flats
from jnn.gradcheck.oracle import float64, jaxprs, products, reference
from jnn.gradcheck.oracle.derivatives import plain_knobs
from jnn.gradcheck.oracle.directions import signed, varied
from jnn.gradcheck.oracle.float64 import Knobs, Oracle, Program
from jnn.gradcheck.oracle.numbers import EPS64, eps_of, largest
from jnn.gradcheck.oracle.problem import Leaf, Problem, function_name, named_leaves
from jnn.gradcheck.oracle.rewrite import silenced, without_rules
from jnn.gradcheck.report import Check, Report

VARIATIONS = 3


class _Traced:
    """A function of JAX arrays, in its own dtypes and in float64."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.outputs, self.jaxpr = problem, problem.outputs, problem.jaxpr
        stripped, _, self.kept = without_rules(problem.jaxpr)
        self._low = jax.jit(core.jaxpr_as_fun(silenced(problem.jaxpr)))
        self._followed = Oracle(stripped)
        self._wide = Program(lambda lows, highs, knobs: self._followed(lows, highs, knobs))
        free = Oracle(stripped, own=True)
        self._free = Program(lambda lows, highs: free(lows, highs, None))
        # The dtypes that it computes in may be coarser than those that it returns.
        floats = [leaf.dtype for leaf in (*problem.inputs, *problem.outputs)]
        rounding = Oracle(stripped, rounded=max((eps_of(dtype) for dtype in floats), default=EPS64), free=True)
        self._rounded = Program(lambda lows, highs, knobs: rounding(lows, highs, knobs))

    def low(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """The values in the function's own dtypes."""
        return flats(self._low(*arrays))

    def wide(self, highs: list[Any], knobs: Knobs) -> list[np.ndarray]:
        """The values in float64, along the branch that was taken."""
        return flats(self._wide(self.problem.arrays, highs, knobs))

    def rounded(self, highs: list[Any], knobs: Knobs) -> list[np.ndarray]:
        """`wide`, with the rounding of a faithful evaluation simulated."""
        return flats(self._rounded(self.problem.arrays, highs, knobs))

    def free(self, highs: list[Any]) -> list[np.ndarray]:
        """The values in float64, with decisions made in float64."""
        return flats(self._free(self.problem.arrays, highs))

    @property
    def opaque(self) -> tuple[str, ...]:
        """What could not be evaluated in float64, after the first evaluation."""
        return self._followed.opaque


class _Plain:
    """A function of NumPy arrays, which cannot be traced: it is called with arrays of float64 instead."""

    jaxpr, kept, opaque = None, (), ()

    def __init__(self, fun: Callable[..., Any], args: Sequence[Any], arrays: Sequence[Any]) -> None:
        self._fun = fun
        self._leaves, self._tree = jax.tree_util.tree_flatten(tuple(args))
        self._places = [k for k, leaf in enumerate(self._leaves) if hasattr(leaf, "dtype")]
        named = [(path, np.asarray(v)) for path, v in named_leaves(self._called(arrays), "out")]
        self._kept = [k for k, (_, v) in enumerate(named) if jaxprs.is_inexact(v.dtype)]
        self.outputs = [Leaf(named[k][0], n, named[k][1].shape, named[k][1].dtype) for n, k in enumerate(self._kept)]

    def _called(self, arrays: Sequence[Any]) -> Any:
        leaves = list(self._leaves)
        for k, a in zip(self._places, arrays, strict=True):
            leaves[k] = np.array(a)  # a copy: the user's function may write into it
        return self._fun(*jax.tree_util.tree_unflatten(self._tree, leaves))

    def low(self, arrays: Sequence[Any]) -> list[np.ndarray]:
        """The values for arrays as they are."""
        out = jax.tree_util.tree_leaves(self._called(arrays))
        return flats([out[k] for k in self._kept])

    def wide(self, highs: list[Any], knobs: Knobs) -> list[np.ndarray]:
        """The values for arrays of float64."""
        return self.low([a if h is None else h for h, a in zip(highs, self._lows(), strict=True)])

    rounded = wide

    def free(self, highs: list[Any]) -> list[np.ndarray]:
        """The same."""
        return self.wide(highs, plain_knobs())

    def _lows(self) -> list[Any]:
        return [self._leaves[k] for k in self._places]


_Side = _Traced | _Plain
NOT_TRACEABLE = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError, TypeError, AttributeError)


def _side(fun: Callable[..., Any], args: Sequence[Any]) -> _Side:
    arrays = [leaf for leaf in jax.tree_util.tree_leaves(tuple(args)) if hasattr(leaf, "dtype")]
    try:
        return _Traced(Problem(fun, args))
    except NOT_TRACEABLE as error:
        if not callable(fun) or "traced ones in" in str(error):
            raise
        try:
            return _Plain(fun, args, [np.asarray(a) for a in arrays])
        except Exception:
            raise error from None


def compare(gradient: Callable[..., Any], other: Callable[..., Any], args: Sequence[Any], options: Options) -> Report:
    """The report of `jnn.gradcheck.compare`."""
    started = time.perf_counter()
    rule, truth = _side(gradient, args), _side(other, args)
    _same_structure(rule, truth)
    arrays = [jnp.asarray(v) for v in jax.tree_util.tree_leaves(tuple(args)) if hasattr(v, "dtype")]
    for side in (rule, truth):
        if isinstance(side, _Traced):
            arrays = side.problem.arrays
    paths = [f"argument {k}" for k in range(len(arrays))]
    floating = [k for k, a in enumerate(arrays) if jaxprs.is_inexact(a.dtype)]
    highs = float64.highs(arrays)
    low, low_other = rule.low(arrays), truth.low(arrays)
    wide, true = rule.wide(highs, plain_knobs()), truth.wide(highs, plain_knobs())
    noise = [np.zeros(t.shape) for t in true]
    naive = [_error(a, t) for a, t in zip(low_other, true, strict=True)]
    for k in range(1, VARIATIONS + 1):
        moved, knobs = varied(highs, paths, options.seed, k, 4 * EPS64), Knobs(np.float64(k), np.int32(0))
        a, b = rule.wide(moved, knobs), truth.wide(moved, knobs)
        beside = list(arrays)
        for at in floating:
            beside[at] = varied([beside[at]], [paths[at]], options.seed, k, eps_of(beside[at].dtype))[0]
        again = truth.low(beside)
        for j, t in enumerate(true):
            noise[j] = np.maximum(noise[j], _error(a[j], wide[j]) + _error(b[j], t))
            naive[j] = np.maximum(naive[j], _error(again[j], t))
    promoted = not (rule.opaque or truth.opaque)
    coarse = products.coarseness([s.jaxpr for s in (rule, truth) if s.jaxpr is not None])
    made = []
    for j, out in enumerate(rule.outputs):
        made.append(
            Comparison(np.dtype(out.dtype), low[j], wide[j] if promoted else None, true[j], noise[j], largest(true[j]),
                       naive[j], coarse=coarse, tolerance=options.tolerance)
        )  # fmt: skip
    # Where the formula is right, what a faithful evaluation of it may commit is no fault either.
    if promoted and any((c.arithmetic_wrong() & ~c.formula_wrong()).any() for c in made):
        for k in range(1, VARIATIONS + 1):
            simulated = rule.rounded(highs, Knobs(np.float64(k), np.int32(0)))
            made = [dataclasses.replace(c, rounding=np.maximum(c.rounding, _error(v, center)))
                    for c, v, center in zip(made, simulated, wide, strict=True)]  # fmt: skip
    hulls = _hulls(truth, highs, floating, options.seed) if any(c.wrong().any() for c in made) else None
    leaves = tuple(_leaf(out, c, None if hulls is None else hulls[j])
                   for j, (out, c) in enumerate(zip(rule.outputs, made, strict=True)))  # fmt: skip
    outcome = worst_of(leaf.verdict for leaf in leaves)
    checks = (Check("values", outcome, "element by element"),)
    return Report(
        function=f"{function_name(gradient)} beside {function_name(other)}", verdict=outcome, leaves=leaves,
        checks=checks, summary=verdict.summary(outcome, leaves, checks),
        reference=f"{function_name(other)}, in float64", not_rewritten=(*rule.kept, *truth.kept), seed=options.seed,
        environment=verdict.environment(), seconds=time.perf_counter() - started,
    )  # fmt: skip


def _same_structure(one: _Side, two: _Side) -> None:
    forms = [[(o.path, tuple(o.shape)) for o in side.outputs] for side in (one, two)]
    if forms[0] == forms[1]:
        return
    names = [[path for path, _ in form] for form in forms]
    what = "shapes" if names[0] == names[1] else "structure"
    shown = [", ".join(f"{path}{list(shape)}" for path, shape in form) for form in forms]
    raise ValueError(
        f"expected two gradients of the same {what}, with the same shapes, got {shown[0]} and {shown[1]}"
        if what == "structure"
        else f"expected two gradients of the same shapes, got {shown[0]} and {shown[1]}"
    )


def _error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.abs(a - b), nan=0.0, posinf=0.0)


def _hulls(truth: _Side, highs: list[Any], floating: list[int], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The range of the other gradient close by, where it jumps."""
    found = []
    for k in range(3):
        for sign in (1.0, -1.0):
            near = list(highs)
            for at in floating:
                x = np.asarray(near[at])
                rng = np.random.default_rng([seed, k, at])
                near[at] = x + sign * 1e-10 * reference.typical(x) * signed(rng, x.shape, x.dtype)
            found.append(truth.free(near))
    with np.errstate(all="ignore"):
        return [(np.min(leaf, 0), np.max(leaf, 0)) for leaf in zip(*found, strict=True)]


def _leaf(out: Leaf, c: Comparison, hull: tuple[np.ndarray, np.ndarray] | None) -> Any:
    found = compared(out.path, out, 0, "values", c, keep=True)
    where, outcome, note, pattern = found.wrong, "pass", "", ""
    if where.size:
        inside = np.zeros(where.shape, bool)
        if hull is not None:
            low, high, value = hull[0][where], hull[1][where], c.rule[where]
            with np.errstate(all="ignore"):
                slack = c.allowed_arithmetic()[where]
                jumps = high - low > 1e-5 * np.maximum(np.abs(low), np.abs(high))
                inside = jumps & (value >= low - slack) & (value <= high + slack)
        outcome = "kink" if inside.all() else "fail"
        note = "at a kink: the value lies between those close by" if outcome == "kink" else ""
        pattern = patterns.guess(c, out.shape) if outcome == "fail" else ""
    return verdict.evidence(out, found.measured, outcome, note, pattern)
