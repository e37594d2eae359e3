"""What is examined: a problem, its reference, the directions to look along, and the programs that are compared."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jnn.gradcheck.judgement.findings import describe
from jnn.gradcheck.oracle import directions, jaxprs, products, reference
from jnn.gradcheck.oracle.derivatives import Derivatives
from jnn.gradcheck.oracle.directions import Probe
from jnn.gradcheck.oracle.numbers import EPS64, eps_of, reals
from jnn.gradcheck.oracle.problem import Problem
from jnn.gradcheck.oracle.sums import summed_by_rules

STEPPING = {"floor", "ceil", "round", "sign", "lt", "le", "gt", "ge", "eq", "argmax", "argmin", "while", "scan"}
"""What a piecewise constant function is made of."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user may set; nothing has to be."""

    seed: int = 0
    tolerance: float | None = None
    allow_nonfinite: bool = False
    cotangents: tuple[Any, ...] | None = None
    residual: Callable[..., Any] | None = None


class Setting:
    """One examination; nothing in it changes, though its programs are made when they are first needed."""

    def __init__(self, problem: Problem, plain: Problem, options: Options, witness: Problem | None = None) -> None:
        self.problem, self.options = problem, options
        self.derivatives = Derivatives(problem, plain, witness)
        self.given = plain is not problem
        self.large = is_large(problem)
        self.variations = 1 if self.large else reference.VARIATIONS
        probes = directions.cotangents(problem.outputs, options.seed, self.large, self.derivatives.coarsest)
        if options.cotangents is not None:
            probes = [Probe("given", tuple(map(np.asarray, options.cotangents))), *probes[:2]]
        self.probes = tuple(probes)
        dtypes = {v.aval.dtype for e in jaxprs.all_equations(problem.jaxpr) for v in e.outvars
                  if hasattr(v.aval, "dtype")}  # fmt: skip
        dtypes |= {leaf.dtype for leaf in (*problem.inputs, *problem.outputs)}
        self.low_precision = any(jaxprs.is_inexact(d) and eps_of(d) > EPS64 for d in dtypes)
        rules = [e for e in jaxprs.all_equations(problem.jaxpr) if e.primitive.name in jaxprs.RULES]
        self.kinds = frozenset(jaxprs.RULES[e.primitive.name] for e in rules)
        self.symbolic = any(e.params.get("symbolic_zeros") for e in rules)
        self.stepping = any(_steps(jaxprs.body(e)) for e in rules)
        self.loops = any(e.primitive.name in ("scan", "while") for e in jaxprs.all_equations(self.derivatives.primal))

    @property
    def has_rules(self) -> bool:
        """Whether the function calls a custom rule."""
        return bool(self.kinds)

    @functools.cached_property
    def reverse_error(self) -> Exception | None:
        """Why the function has no reverse mode, if it has none."""
        try:
            self.derivatives.rule(self.derivatives.lows, list(self.probes[0].values))
        except Exception as error:
            return error
        return None

    @functools.cached_property
    def wide_error(self) -> str:
        """Why the rule cannot be evaluated in float64; empty where it can be (or need not be)."""
        d = self.derivatives
        try:
            d.rule64(d.highs, list(self.probes[0].values), reference.plain_knobs())
        except Exception as error:  # the rule holds something that cannot be evaluated in float64
            return describe(error)
        return "; ".join(d.rule64.opaque)

    @functools.cached_property
    def promoted(self) -> bool:
        """Whether the rule is judged in float64 as well."""
        return self.low_precision and self.reverse_error is None and not self.wide_error

    @functools.cached_property
    def sums_coarsely(self) -> tuple[str, ...]:
        """The sums of many terms that rules write down in a dtype coarser than float32."""
        return summed_by_rules(self.problem.jaxpr) if self.low_precision else ()

    @functools.cached_property
    def coarse(self) -> float:
        """How coarse the matrix products are, of values and derivatives."""
        pull = () if self.reverse_error is not None else (self.derivatives.pull_jaxpr,)
        return products.coarseness((self.problem.jaxpr, *pull))

    @property
    def grain(self) -> float:
        """The eps of the coarsest dtype on the way."""
        return self.derivatives.coarsest

    def rule(self, probe: int) -> tuple[list[Any], list[Any]]:
        """(outputs, gradients) as JAX computes them."""
        return self.derivatives.rule(self.derivatives.lows, list(self.probes[probe].values))

    def rule64(self, w: Sequence[Any], k: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """(outputs, gradients) of the rule in float64, flat, under the k-th variation."""
        high, knobs = reference.variation(self.derivatives, self.options.seed, k)
        y, g = self.derivatives.rule64(high, w, knobs)
        return flats(y), flats(g)

    def tangents(self) -> list[Probe]:
        """The tangents of a check of forward mode, each element scaled by the size of what it moves."""
        return tangents(self.problem, self.derivatives.highs, self.options.seed, self.large, self.grain)


def tangents(problem: Problem, highs: Sequence[Any], seed: int, large: bool, grain: float) -> list[Probe]:
    """As `Setting.tangents`."""
    sizes = [reference.typical(np.asarray(highs[leaf.position])) for leaf in problem.inputs]
    return [
        Probe(p.name, tuple(np.asarray(t * s, t.dtype) for t, s in zip(p.values, sizes, strict=True)))
        for p in directions.tangents(problem.inputs, seed, large, grain)
    ]


def is_large(problem: Problem) -> bool:
    """Whether fewer directions are looked along, because each is large."""
    size = max(sum(i.size for i in problem.inputs), sum(o.size for o in problem.outputs))
    return size > directions.LARGE


def flats(values: Sequence[Any]) -> list[np.ndarray]:
    """Arrays as flat real ones of float64."""
    return [reals(v).ravel() for v in values]


def _steps(jaxpr: Any) -> bool:
    opaque = {"pure_callback", "io_callback", "pallas_call", "ffi_call"}
    return any(e.primitive.name in STEPPING | opaque for e in jaxprs.all_equations(jaxpr))
