"""The public functions `check`, `compare` and `check_rules`, and those that a report's snippet uses."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jnn.gradcheck.judgement import side_by_side, verdict
from jnn.gradcheck.judgement.examine import examine, quietly
from jnn.gradcheck.judgement.rules import rules_of, visits_of
from jnn.gradcheck.judgement.setting import Options, Setting
from jnn.gradcheck.oracle.problem import Problem
from jnn.gradcheck.report import Report


def check(
    fun: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] | None = None,
    order: int = 1,
    reference: Callable[..., Any] | None = None,
    residual: Callable[..., Any] | None = None,
    expected: str | Sequence[str] = (),
    seed: int = 0,
    cotangents: Any = None,
    tolerance: float | None = None,
    allow_nonfinite: bool = False,
    power: bool = True,
) -> Report:
    """Check the derivatives that JAX will use for `fun` at `args`, element by element, against those of its primal.

    The rule's `Jᵀw` (and `Jv`, where forward mode exists) is compared with autodiff of the same function with all
    custom rules replaced by their primals, evaluated in float64; differences with error bars are the second opinion.

    Args:
        fun: any function of pytrees of arrays that returns a pytree of arrays.
        args: where to check it. Integer, boolean and key arrays are not differentiated; Python integers, booleans and
            strings are passed on as they are, and so is a Python float that the function does not take an array for.
            They are copied first: a function may donate its arguments.
        argnums: the positional arguments to differentiate, as in `jax.grad`; all that can be, unless given. All of
            them are differentiated together, and each alone where a rule asks which are.
        order: 1, or 2 to check the derivative of the gradient as well (Hessian-vector products and their symmetry),
            against autodiff of the primal and differences of the gradient.
        reference: a function that returns the same as `fun` and that JAX can differentiate, where the primal of `fun`
            cannot be (a kernel call) or should not be trusted.
        residual: of an implicit function y = fun(*args), the function F with F(y, *args) = 0 that defines it, which
            returns as many numbers as y has. The reference is then the implicit function theorem in float64,
            dy/dx = −(∂F/∂y)⁻¹ ∂F/∂x, at the root that is closest to what `fun` returned.
        expected: names (or patterns with * and ?) of leaves that are meant to deviate from the primal's derivative: a
            straight-through estimator, clipping, stop_gradient. A declared leaf that does not deviate fails.
        seed: of the random directions; each leaf has its own, derived from its name.
        cotangents: a cotangent to check with, shaped like the (floating part of the) result; random ones are used too.
        tolerance: a relative tolerance to use instead of the calibrated one; none is needed for a right verdict.
        allow_nonfinite: accept a gradient that is infinite or NaN where the primal's is the same.
        power: whether to mutate the rule and report what the check would have missed.

    Returns:
        The report; look at its `verdict`, print it, or call `raise_for_failure()`.

    Raises:
        TypeError: `fun` is not callable, the arguments are traced (the check is called inside jit, vmap or grad), or
            `argnums` names an argument that the function takes no array for.
        ValueError: nothing is differentiable, `order` is neither 1 nor 2, a declared leaf or an argument does not
            exist, a reference and a residual are given both, or the residual does not fit the result.

    Example:
        >>> import jax.numpy as jnp
        >>> from jnn import gradcheck
        >>> gradcheck.check(jnp.tanh, jnp.float32(0.3)).verdict
        'pass'
    """
    started = time.perf_counter()
    _settings(seed, tolerance)
    if order not in (1, 2):
        raise ValueError(f"expected order 1 or 2, got {order!r}; higher derivatives are not checked")
    if reference is not None and residual is not None:
        raise ValueError("expected a reference or a residual, got both; a residual needs no reference")
    with quietly():
        problem = Problem(fun, args, argnums=argnums)
        plain = problem if reference is None else Problem(reference, args, argnums=argnums)
        _same_outputs(problem, plain)
        spared = verdict.declared(problem, expected)
        given = None if cotangents is None else _given(problem, cotangents)
        options = Options(seed, tolerance, allow_nonfinite, given, residual)
        report = examine(problem, plain, options, order=order, spared=spared, power_too=power)
    return dataclasses.replace(report, seconds=time.perf_counter() - started)


def compare(
    gradient: Callable[..., Any],
    other: Callable[..., Any],
    *args: Any,
    seed: int = 0,
    tolerance: float | None = None,
) -> Report:
    """Compare two functions that return gradients, element by element, in float64 and in their own dtypes.

    Args:
        gradient: the one under test (hand-written, say).
        other: the one to compare with (autodiff, say); must return arrays of the same names and shapes. Either may be
            a function of NumPy arrays, which is called with arrays of float64 as well.
        args: what both are called with.
        seed: of the variations of the arguments.
        tolerance: a relative tolerance to use instead of the calibrated one.

    Returns:
        A report whose leaves are those of the result.

    Raises:
        TypeError: one of them is not callable.
        ValueError: they return different structures or shapes.
    """
    _settings(seed, tolerance)
    with quietly():
        return side_by_side.compare(gradient, other, args, Options(seed, tolerance))


def check_rules(
    fun: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] | None = None,
    seed: int = 0,
    cotangents: Any = None,
    tolerance: float | None = None,
    power: bool = False,
    most: int = 32,
) -> Report:
    """Check every custom rule that is called inside `fun`, on the values and cotangents that really reach it.

    Args:
        fun: a model's loss, say.
        args: where to evaluate it.
        argnums: the positional arguments that may hold arrays to differentiate; all, unless given.
        seed: of the random directions that are used beside the real cotangents.
        cotangents: the cotangent of the result; one for a scalar loss, random signed numbers otherwise.
        tolerance: a relative tolerance to use instead of the calibrated one.
        power: whether to mutate each rule too.
        most: how many calls are checked at most; the report says when there were more.

    Returns:
        A report whose `rules` hold one report a call, with the rule's name and call site; its verdict is the worst.

    Raises:
        TypeError: `fun` is not callable.
        ValueError: nothing is differentiable.
    """
    started = time.perf_counter()
    _settings(seed, tolerance)
    with quietly():
        problem = Problem(fun, args, argnums=argnums)
        given = None if cotangents is None else _given(problem, cotangents)
        report = rules_of(problem, Options(seed, tolerance, cotangents=given), power=power, most=most)
    return dataclasses.replace(report, seconds=time.perf_counter() - started)


def cotangent(fun: Callable[..., Any], *args: Any, probe: str = "random 1", seed: int = 0) -> Any:
    """The cotangent that `check` uses under a probe's name, shaped like the result of `fun` (a report's snippet)."""
    problem = Problem(fun, args)
    probes = {p.name: p for p in Setting(problem, problem, Options(seed)).probes}
    if probe not in probes:
        raise ValueError(f"expected one of the probes {', '.join(probes)}, got {probe!r}")
    return problem.unflattened(probes[probe].values)


def tangent(fun: Callable[..., Any], *args: Any, probe: str = "all leaves", seed: int = 0) -> Any:
    """The tangents that `check` uses under a probe's name, shaped like the arguments (a report's snippet)."""
    problem = Problem(fun, args)
    probes = {p.name: p for p in Setting(problem, problem, Options(seed)).tangents()}
    if probe not in probes:
        raise ValueError(f"expected one of the probes {', '.join(probes)}, got {probe!r}")
    return problem.moved(probes[probe].values)


def rule_call(fun: Callable[..., Any], *args: Any, call: int = 0, cotangents: Any = None, seed: int = 0) -> Any:
    """(rule, operands, cotangents) of one call that `check_rules` looks at (a report's snippet).

    The rule is a function of flat operands, for `check`, `jax.vjp` or a debugger; its cotangents are None where none
    reaches it.
    """
    problem = Problem(fun, args)
    given = None if cotangents is None else _given(problem, cotangents)
    visits = visits_of(problem, Options(seed, cotangents=given))
    if not 0 <= call < len(visits):
        raise ValueError(f"expected a call from 0 to {len(visits) - 1}, got {call}")
    return visits[call]


def leaf(fun: Callable[..., Any], args: Sequence[Any], gradients: Any, path: str) -> Any:
    """The part of `gradients` (shaped like `args`) that a report calls `path`."""
    problem = Problem(fun, args)
    return jax.tree_util.tree_leaves(gradients, is_leaf=lambda g: g is None)[problem.place(path)]


def _settings(seed: int, tolerance: float | None) -> None:
    if tolerance is not None and not 0 < tolerance < 1:
        raise ValueError(
            f"expected a relative tolerance between 0 and 1, got {tolerance!r}; without one the calibrated one is used"
        )
    if not isinstance(seed, int):
        raise TypeError(f"expected an integer as seed, got {seed!r}; keys are made from it by leaf")


def _given(problem: Problem, cotangents: Any) -> tuple[Any, ...]:
    leaves = jax.tree_util.tree_leaves(cotangents)
    if len(leaves) != len(problem.outputs):
        leaves = [v for v in leaves if getattr(v, "dtype", None) != jax.dtypes.float0]
    shapes = [np.shape(v) for v in leaves]
    if shapes != [tuple(o.shape) for o in problem.outputs]:
        want = [tuple(o.shape) for o in problem.outputs]
        raise ValueError(f"expected cotangents of the shapes {want}, got {shapes}")
    return tuple(np.asarray(v).astype(o.dtype) for v, o in zip(leaves, problem.outputs, strict=True))


def _same_outputs(problem: Problem, plain: Problem) -> None:
    got, want = ([tuple(o.shape) for o in p.outputs] for p in (plain, problem))
    if got != want:
        raise ValueError(
            f"expected a reference that returns shapes {want}, got {got}; it must return what the function does"
        )
