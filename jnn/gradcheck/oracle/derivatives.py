"""The derivatives that a check compares, each traced once.

- `rule`: what JAX uses, compiled, in the function's own dtypes; `rule64`: the same program evaluated in float64.
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

from jnn.gradcheck.oracle import float64, jaxprs
from jnn.gradcheck.oracle.float64 import Knobs, Oracle, Program
from jnn.gradcheck.oracle.numbers import EPS64
from jnn.gradcheck.oracle.numerical import Plan
from jnn.gradcheck.oracle.problem import Problem
from jnn.gradcheck.oracle.rewrite import evened, silenced, without_rules
from jnn.gradcheck.oracle.sums import sums_coarsely

Arrays = list[Any]
COARSER = 2.0**12
"""A unit of rounding far above that of float64, in which kinks are still met only by chance."""
KEPT = 100_000
"""Numbers of which a copy in float64 is held."""


def plain_knobs() -> Knobs:
    """The knobs that change nothing."""
    return Knobs(np.float64(0), np.int32(0))


class Derivatives:
    """Every derivative of one problem.

    Args:
        problem: whose rule is used.
        reference: whose primal is differentiated (often the same problem).
        witness: whose primal is evaluated at points beside, for differences (the reference, unless given).
    """

    def __init__(self, problem: Problem, reference: Problem, witness: Problem | None = None) -> None:
        self.problem = problem
        self.reference = reference
        self.primal, self.removed, self.kept = without_rules(reference.jaxpr)
        self._witness = self.primal if witness is None else without_rules(witness.jaxpr)[0]
        self.lows = list(problem.arrays)
        self._highs = float64.highs(self.lows) if sum(a.size for a in self.lows) <= KEPT else None

    @property
    def highs(self) -> Arrays:
        """The arguments in float64; of large ones the copy is made anew, and not held."""
        return float64.highs(self.lows) if self._highs is None else list(self._highs)

    # -- what JAX uses ------------------------------------------------------------------------------------------------

    def pull(self, arrays: Sequence[Any], w: Sequence[Any]) -> tuple[Arrays, Arrays]:
        """(outputs, gradients) of the user's function itself, not compiled; it may consume the arrays."""
        problem = self.problem
        y, back = jax.vjp(lambda *x: problem.flat(*problem.merged(arrays, x)), *problem.differentiable(arrays))
        return y, list(back(list(w)))

    def _push(self, arrays: Sequence[Any], v: Sequence[Any]) -> tuple[Arrays, Arrays]:
        problem = self.problem
        y, dy = jax.jvp(lambda *x: problem.flat(*problem.merged(arrays, x)), problem.differentiable(arrays), list(v))
        return list(y), list(dy)

    def _as_is(self, jaxpr: Any) -> Callable[..., tuple[Arrays, Arrays]]:
        run, n = jax.jit(core.jaxpr_as_fun(jaxpr)), len(self.problem.outputs)

        def call(arrays: Sequence[Any], w: Sequence[Any]) -> tuple[Arrays, Arrays]:
            out = list(run(*arrays, *w))
            return out[:n], out[n:]

        return call

    @functools.cached_property
    def pull_jaxpr(self) -> Any:
        """The reverse-mode program of the function as it is, without what it prints."""
        return silenced(self.pull_as_traced)

    @functools.cached_property
    def pull_as_traced(self) -> Any:
        """The same with what it prints."""
        return self.traced_anew()

    def traced_anew(self) -> Any:
        """The same, traced once more."""
        return jaxprs.trace(self.pull, self.lows, self.cotangent_shapes())[0]

    def cotangent_shapes(self) -> Arrays:
        """The shapes and dtypes of the cotangents."""
        return [jax.ShapeDtypeStruct(o.shape, o.dtype) for o in self.problem.outputs]

    def tangent_shapes(self) -> Arrays:
        """The shapes and dtypes of the tangents."""
        return [jax.ShapeDtypeStruct(i.shape, i.dtype) for i in self.problem.inputs]

    @functools.cached_property
    def push_jaxpr(self) -> Any:
        """The forward-mode program of the function as it is, without what it prints."""
        return silenced(jaxprs.trace(self._push, self.lows, self.tangent_shapes())[0])

    @functools.cached_property
    def rule(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """(outputs, gradients) of the function as it is, for arrays and a cotangent."""
        return self._as_is(self.pull_jaxpr)

    @functools.cached_property
    def rule_push(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """(outputs, their tangents) of the function as it is, for arrays and a tangent."""
        return self._as_is(self.push_jaxpr)

    def alone(self, leaf: int) -> Any:
        """The reverse-mode program when one leaf alone is differentiated: (arrays, cotangents) -> its gradient."""
        problem, position = self.problem, self.problem.inputs[leaf].position

        def pull(arrays: Sequence[Any], w: Sequence[Any]) -> list[Any]:
            def one(x: Any) -> list[Any]:
                return problem.flat(*(x if k == position else a for k, a in enumerate(arrays)))

            return list(jax.vjp(one, arrays[position])[1](list(w)))

        return silenced(jaxprs.trace(pull, self.lows, self.cotangent_shapes())[0])

    @functools.cached_property
    def rule64(self) -> Program:
        """`rule` in float64: (highs, cotangent, knobs, lows) -> (outputs, gradients)."""
        return self.promoted(self.pull_jaxpr)

    @functools.cached_property
    def rule64_push(self) -> Program:
        """`rule_push` in float64."""
        return self.promoted(self.push_jaxpr)

    def promoted(self, jaxpr: Any, *, rounded: float = 0.0, turns: int = 0, free: bool = False) -> Program:
        """A program of arrays and cotangents (or tangents) in float64."""
        run = Oracle(without_rules(jaxpr)[0], rounded=rounded, turns=turns, free=free)
        n = len(self.problem.outputs)

        def wide(lows: Arrays, w: Arrays, high: Arrays, w64: Arrays, knobs: Knobs) -> tuple[Arrays, Arrays]:
            out = run([*lows, *w], [*high, *w64], knobs)
            return out[:n], out[n:]

        program = Program(wide, lambda: run.opaque)
        return _Called(lambda high, w, knobs, lows=None: program(
            self.lows if lows is None else lows, list(w), high, float64.highs(w), knobs), program)  # fmt: skip

    # -- what it should be --------------------------------------------------------------------------------------------

    def _naive_pull(self, arrays: Arrays, w: Arrays, primal: Any = None) -> tuple[Arrays, Arrays]:
        plain, problem = core.jaxpr_as_fun(self._evened if primal is None else primal), self.problem
        y, back = jax.vjp(lambda *x: plain(*problem.merged(arrays, x)), *problem.differentiable(arrays))
        return list(y), list(back(list(w)))

    def _naive_push(self, arrays: Arrays, v: Arrays, primal: Any = None) -> tuple[Arrays, Arrays]:
        plain, problem = core.jaxpr_as_fun(self._evened if primal is None else primal), self.problem
        y, dy = jax.jvp(lambda *x: plain(*problem.merged(arrays, x)), problem.differentiable(arrays), list(v))
        return list(y), list(dy)

    @functools.cached_property
    def _evened(self) -> Any:
        return evened(self.primal)

    @functools.cached_property
    def naive(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """(outputs, gradients) of the primal without rules in the function's own dtypes, for arrays and a cotangent.

        Every equation is rounded once, and sums are accumulated in float32 at least: what a careful implementation
        commits.
        """
        return self._carefully(self._naive_jaxpr)

    @functools.cached_property
    def _naive_jaxpr(self) -> Any:
        return jaxprs.trace(self._naive_pull, self.lows, self.cotangent_shapes())[0]

    @functools.cached_property
    def naive_sums_coarsely(self) -> bool:
        """Whether JAX's own reverse mode of the primal adds up many terms in a dtype coarser than float32."""
        return sums_coarsely(self._naive_jaxpr)

    @functools.cached_property
    def naive_push(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """(outputs, tangents) of the primal without rules in the function's own dtypes, as carefully."""
        return self._carefully(jaxprs.trace(self._naive_push, self.lows, self.tangent_shapes())[0])

    @functools.cached_property
    def compiled_naive(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """`naive` as JAX compiles it, which may take another branch where rounding makes a tie."""
        return jax.jit(self._naive_pull)

    @functools.cached_property
    def compiled_naive_push(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """`naive_push` as JAX compiles it."""
        return jax.jit(self._naive_push)

    def _carefully(self, jaxpr: Any) -> Callable[..., tuple[Arrays, Arrays]]:
        plan, n = Plan(jaxpr), len(self.problem.outputs)

        def call(arrays: Sequence[Any], w: Sequence[Any]) -> tuple[Arrays, Arrays]:
            out = plan(*arrays, *w)
            return out[:n], out[n:]

        return call

    @functools.cached_property
    def with_stop_gradient(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """`naive` of the primal without rules but with its stop_gradients."""
        return jax.jit(functools.partial(self._naive_pull, primal=self._detached))

    @functools.cached_property
    def with_stop_gradient_push(self) -> Callable[..., tuple[Arrays, Arrays]]:
        """`naive_push` of the same."""
        return jax.jit(functools.partial(self._naive_push, primal=self._detached))

    @functools.cached_property
    def _detached(self) -> Any:
        return without_rules(self.reference.jaxpr, detach=True)[0]

    @functools.cached_property
    def coarsest(self) -> float:
        """The eps of the coarsest dtype on the way of the primal: what is coarser is the rule's own doing."""
        dtypes = {leaf.dtype for leaf in (*self.problem.inputs, *self.problem.outputs)}
        for eqn in jaxprs.all_equations(self.primal):
            dtypes |= {v.aval.dtype for v in eqn.outvars if hasattr(v.aval, "dtype")}
        return max(float(jnp.finfo(dtype).eps) for dtype in dtypes if jaxprs.is_inexact(dtype))

    @functools.cached_property
    def rounded(self) -> Program:
        """`rule64` with the rounding of a faithful evaluation simulated, which decides where numbers are close."""
        return self.promoted(self.pull_jaxpr, rounded=self.coarsest, free=True)

    @functools.cached_property
    def rounded_in_float64(self) -> Program:
        """`rule64` with a further rounding of every result to float64."""
        return self.promoted(self.pull_jaxpr, rounded=EPS64)

    @functools.cached_property
    def rounded_coarsely(self) -> Program:
        """The same with a unit of rounding that is `COARSER` times as large."""
        return self.promoted(self.pull_jaxpr, rounded=COARSER * EPS64)

    @functools.cached_property
    def rounded_push(self) -> Program:
        """`rule64_push` with the rounding of a faithful evaluation simulated."""
        return self.promoted(self.push_jaxpr, rounded=self.coarsest, free=True)

    def truth_of(self, *, own: bool = False, push: bool = False, many: bool = False, turns: int = 0) -> Program:
        """The primal's derivative in float64: (highs, cotangent or tangent, knobs) -> (outputs, derivatives).

        Args:
            own: decide in float64, not as the function itself did (for points beside the given one).
            push: tangents, not gradients.
            many: as many tangents as a further, leading axis has, all in one evaluation.
            turns: further iterations of loops that only carry.
        """
        run, problem = Oracle(self.primal, own=own, turns=turns), self.problem
        vectors = self._vectors(self.primal) if own else []

        def derivative(lows: Arrays, high: Arrays, w64: Arrays, knobs: Knobs) -> tuple[Arrays, Arrays]:
            ties = [] if own else run.ties(lows)

            def fun(*x: Any) -> Arrays:
                return run(lows, problem.merged(high, x), knobs, vectors, ties)

            x = problem.differentiable(high)
            if many:
                return fun(*x), jax.vmap(lambda *v: jax.jvp(fun, x, list(v))[1])(*w64)
            if push:
                y, dy = jax.jvp(fun, x, w64)
                return list(y), list(dy)
            y, back = jax.vjp(fun, *x)
            return y, list(back(w64))

        program = Program(derivative, lambda: run.opaque)
        return _Called(lambda high, w, knobs: program(self.lows, high, float64.highs(w), knobs), program)

    def _vectors(self, jaxpr: Any) -> Arrays:
        """The eigenvectors (and the like) at the point itself, with the signs that they have in the function."""
        if not float64.has_gauge(jaxpr):
            return []
        run = Oracle(jaxpr)
        program = Program(lambda lows, high: run.vectors(lows, high))
        try:
            return program(self.lows, self.highs)
        except Exception:  # it cannot be evaluated in float64, which is found elsewhere
            return []

    @functools.cached_property
    def truth(self) -> Program:
        """The primal's gradients in float64, along the branch that the function took."""
        return self.truth_of()

    @functools.cached_property
    def truth_push(self) -> Program:
        """The primal's tangents in float64, along the branch that the function took."""
        return self.truth_of(push=True)

    @functools.cached_property
    def truth_pushes(self) -> Program:
        """`truth_push` of many tangents."""
        return self.truth_of(push=True, many=True)

    @functools.cached_property
    def free_truth(self) -> Program:
        """The primal's gradients in float64 with decisions made in float64, for points beside the given one."""
        return self.truth_of(own=True)

    @functools.cached_property
    def free_truth_push(self) -> Program:
        """The primal's tangents in float64 with decisions made in float64."""
        return self.truth_of(own=True, push=True)

    @functools.cached_property
    def primal64(self) -> Program:
        """The primal in float64 with decisions made in float64: highs -> outputs."""
        run = Oracle(self._witness, own=True)
        vectors = self._vectors(self._witness)

        def primal(lows: Arrays, high: Arrays) -> Arrays:
            return run(lows, high, plain_knobs(), vectors)

        program = Program(primal, lambda: run.opaque)
        return _Called(lambda high: program(self.lows, high), program)

    @functools.cached_property
    def rounded_primal64(self) -> Program:
        """`primal64` with a further rounding of every result to float64: highs, knobs -> outputs."""
        run = Oracle(self._witness, own=True, rounded=EPS64)
        vectors = self._vectors(self._witness)
        program = Program(lambda lows, high, knobs: run(lows, high, knobs, vectors), lambda: run.opaque)
        return _Called(lambda high, knobs: program(self.lows, high, knobs), program)


class _Called(Program):
    """A program behind a function that completes its arguments."""

    def __init__(self, call: Callable[..., Any], program: Program) -> None:
        super().__init__(call, lambda: program.opaque)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The program's result."""
        return self._fun(*args, **options)
