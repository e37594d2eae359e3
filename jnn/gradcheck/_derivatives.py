"""The derivatives that a check compares, each compiled once.

- `rule`: what JAX uses, in the function's own dtypes; `rule64`: the same program evaluated in float64.
- `naive`: autodiff of the primal without its rules, in the function's own dtypes.
- `truth`: the same in float64.

All are vector-Jacobian products (`pull`) or Jacobian-vector products (`push`) of flat functions.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jnn.gradcheck import _float64, _jaxprs
from jnn.gradcheck._float64 import Knobs, Program
from jnn.gradcheck._problem import Problem
from jnn.gradcheck._rewrite import without_rules

Arrays = list[Any]


def plain_knobs() -> Knobs:
    """The knobs that change nothing."""
    return Knobs(np.float64(0), np.int32(0))


QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # pyright: ignore[reportAttributeAccessIssue]
    QUICK["xla_cpu_use_fusion_emitters"] = False  # newer ones have one kind of emitters; of the two, these are quicker


def quick(size: int) -> Callable[[Callable[..., Any]], Any]:
    """A jit for oracles of small functions on CPU: compiled with fewer optimizations, since compiling is the cost."""
    if jax.default_backend() == "cpu" and size < 20_000:
        return functools.partial(jax.jit, compiler_options=QUICK)
    return jax.jit


class Derivatives:
    """Every derivative of one problem; `reference` is the problem whose primal is differentiated (often the same)."""

    def __init__(self, problem: Problem, reference: Problem) -> None:
        self.problem = problem
        self.reference = reference
        self.primal, self.removed, self.kept = without_rules(reference.jaxpr)
        self.quick = quick(sum(leaf.size for leaf in (*problem.inputs, *problem.outputs)))
        self.lows = list(problem.arrays)
        self.highs = _float64.highs(self.lows)

    # -- what JAX uses ------------------------------------------------------------------------------------------------

    def _pull(self, arrays: Sequence[Any], w: Sequence[Any]) -> tuple[Arrays, Arrays]:
        problem = self.problem
        y, back = jax.vjp(lambda *x: problem.flat(*problem.merged(arrays, x)), *problem.differentiable(arrays))
        return y, list(back(list(w)))

    def _push(self, arrays: Sequence[Any], v: Sequence[Any]) -> tuple[Arrays, Arrays]:
        problem = self.problem
        y, dy = jax.jvp(lambda *x: problem.flat(*problem.merged(arrays, x)), problem.differentiable(arrays), list(v))
        return list(y), list(dy)

    @functools.cached_property
    def rule(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """(outputs, gradients) of the function as it is, for a cotangent."""
        return jax.jit(self._pull)

    @functools.cached_property
    def rule_push(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """(outputs, their tangents) of the function as it is, for a tangent."""
        return jax.jit(self._push)

    @functools.cached_property
    def pull_jaxpr(self) -> Any:
        """The reverse-mode program of the function as it is."""
        return self.traced_anew()

    def traced_anew(self) -> Any:
        """The same, traced once more."""
        w = [jax.ShapeDtypeStruct(o.shape, o.dtype) for o in self.problem.outputs]
        return _jaxprs.trace(self._pull, self.lows, w)[0]

    @functools.cached_property
    def rule64(self) -> Program:
        """`rule` in float64: (highs, cotangent, knobs) -> (outputs, gradients)."""
        return self._rule64(self.pull_jaxpr)

    @functools.cached_property
    def rule64_push(self) -> Program:
        """`rule_push` in float64."""
        v = [jax.ShapeDtypeStruct(i.shape, i.dtype) for i in self.problem.inputs]
        return self._rule64(_jaxprs.trace(self._push, self.lows, v)[0])

    def _rule64(self, jaxpr: Any, *, rounded: float = 0.0) -> Program:
        run = _float64.oracle(without_rules(jaxpr)[0], rounded=rounded)
        n = len(self.problem.outputs)

        @self.quick
        def compiled(lows: Arrays, w: Arrays, high: Arrays, w64: Arrays, knobs: Knobs) -> tuple[Arrays, Arrays]:
            out = run([*lows, *w], [*high, *w64], knobs)
            return out[:n], out[n:]

        def call(high: Arrays, w: Arrays, knobs: Knobs, lows: Arrays | None = None) -> tuple[Any, tuple[str, ...]]:
            with jax.enable_x64(True):
                out = compiled(self.lows if lows is None else lows, w, high, _float64.highs(w), knobs)
            return out, run.opaque

        return Program(call)

    # -- what it should be --------------------------------------------------------------------------------------------

    def _naive_pull(self, arrays: Arrays, w: Arrays, primal: Any = None) -> tuple[Arrays, Arrays]:
        plain, problem = core.jaxpr_as_fun(self.primal if primal is None else primal), self.problem
        y, back = jax.vjp(lambda *x: plain(*problem.merged(arrays, x)), *problem.differentiable(arrays))
        return list(y), list(back(list(w)))

    def _naive_push(self, arrays: Arrays, v: Arrays) -> tuple[Arrays, Arrays]:
        plain, problem = core.jaxpr_as_fun(self.primal), self.problem
        y, dy = jax.jvp(lambda *x: plain(*problem.merged(arrays, x)), problem.differentiable(arrays), list(v))
        return list(y), list(dy)

    @functools.cached_property
    def naive(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """(outputs, gradients) of the primal without rules in the function's own dtypes, for arrays and a cotangent."""
        return jax.jit(self._naive_pull)

    @functools.cached_property
    def with_stop_gradient(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """`naive` of the primal without rules but with its stop_gradients."""
        detached, _, _ = without_rules(self.reference.jaxpr, detach=True)
        return jax.jit(functools.partial(self._naive_pull, primal=detached))

    @functools.cached_property
    def naive_push(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """(outputs, tangents) of the primal without rules in the function's own dtypes."""
        return jax.jit(self._naive_push)

    @property
    def _working_eps(self) -> float:
        """The eps of the coarsest dtype that goes in or comes out: what is coarser inside is the rule's own doing."""
        leaves = (*self.problem.inputs, *self.problem.outputs)
        return max(float(jnp.finfo(leaf.dtype).eps) for leaf in leaves)

    @functools.cached_property
    def rounded(self) -> Program:
        """`rule64` with the rounding of a faithful evaluation simulated."""
        return self._rule64(self.pull_jaxpr, rounded=self._working_eps)

    @functools.cached_property
    def rounded_push(self) -> Program:
        """`rule64_push` with the rounding of a faithful evaluation simulated."""
        v = [jax.ShapeDtypeStruct(i.shape, i.dtype) for i in self.problem.inputs]
        return self._rule64(_jaxprs.trace(self._push, self.lows, v)[0], rounded=self._working_eps)

    def _oracle(self, own: bool) -> tuple[Callable[..., Arrays], Program]:
        run, problem = _float64.oracle(self.primal, own=own), self.problem

        def primal(lows: Arrays, high: Arrays, x: Sequence[Any], knobs: Knobs) -> Arrays:
            return run(lows, problem.merged(high, x), knobs)

        return primal, run

    def _truth(self, own: bool, push: bool) -> Program:
        (primal, run), problem = self._oracle(own), self.problem

        @self.quick
        def compiled(lows: Arrays, high: Arrays, w64: Arrays, knobs: Knobs) -> tuple[Arrays, Arrays]:
            def fun(*x: Any) -> Arrays:
                return primal(lows, high, x, knobs)

            x = problem.differentiable(high)
            if push:
                y, dy = jax.jvp(fun, x, w64)
                return list(y), list(dy)
            y, back = jax.vjp(fun, *x)
            return y, list(back(w64))

        def call(high: Arrays, w: Arrays, knobs: Knobs) -> tuple[Any, tuple[str, ...]]:
            with jax.enable_x64(True):
                out = compiled(self.lows, high, _float64.highs(w), knobs)
            return out, run.opaque

        return Program(call)

    @functools.cached_property
    def truth(self) -> Program:
        """The primal's gradients in float64, along the branch that the function took: (highs, cotangent, knobs)."""
        return self._truth(own=False, push=False)

    @functools.cached_property
    def truth_push(self) -> Program:
        """The primal's tangents in float64, along the branch that the function took."""
        return self._truth(own=False, push=True)

    @functools.cached_property
    def free_truth(self) -> Program:
        """The primal's gradients in float64 with decisions made in float64, for points beside the given one."""
        return self._truth(own=True, push=False)

    @functools.cached_property
    def free_truth_push(self) -> Program:
        """The primal's tangents in float64 with decisions made in float64."""
        return self._truth(own=True, push=True)

    @functools.cached_property
    def primal64(self) -> Program:
        """The primal in float64 with decisions made in float64."""
        (primal, run), problem = self._oracle(True), self.problem

        @self.quick
        def compiled(lows: Arrays, high: Arrays) -> Arrays:
            return primal(lows, high, problem.differentiable(high), plain_knobs())

        def call(high: Arrays) -> tuple[Any, tuple[str, ...]]:
            with jax.enable_x64(True):
                out = compiled(self.lows, high)
            return out, run.opaque

        return Program(call)
