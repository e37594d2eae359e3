"""First of all the same point twice: a function that is random, or depends on what happened before, has no derivative
that could be checked.
"""

import jax
import numpy as np
from jax.extend import core

from jnn.gradcheck.judgement.contract import same_program
from jnn.gradcheck.judgement.findings import Findings, LeafFinding, describe
from jnn.gradcheck.judgement.setting import Setting, flats
from jnn.gradcheck.oracle import jaxprs
from jnn.gradcheck.oracle.numbers import eps_of, largest
from jnn.gradcheck.oracle.rewrite import silenced
from jnn.gradcheck.report import Check

NAME = "the same value twice"
OUTSIDE = {"pure_callback", "io_callback", "ffi_call", "pallas_call", "rng_uniform", "infeed", "custom_partitioning"}
"""What JAX does not know to be a function of its operands alone."""


def run(setting: Setting) -> Findings:
    """Trace and evaluate the function at the same point twice; inconclusive where the values differ."""
    problem = setting.problem
    try:
        again, _ = jaxprs.trace(problem.flat, *problem.arrays)
    except Exception as error:
        return _undecided(setting, f"it cannot be traced a second time: {describe(error)}")
    one, two = silenced(problem.jaxpr), silenced(again)
    same = same_program(one, two)
    if same and not any(e.primitive.name in OUTSIDE for e in jaxprs.all_equations(problem.jaxpr)):
        return Findings((Check(NAME, "pass", "the same program, and nothing in it that could change"),))
    try:
        values = [flats(jax.jit(core.jaxpr_as_fun(p))(*problem.arrays)) for p in (one, two)]
    except Exception as error:  # it cannot be evaluated: what follows will say so in its own words
        return Findings((Check(NAME, "skipped", describe(error)),))
    for leaf, a, b in zip(problem.outputs, *values, strict=True):
        gap = largest(np.nan_to_num(np.abs(a - b), nan=0.0))
        # Two programs may round differently, one may not; a random number is another one altogether.
        room = 0.0 if same and not setting.large else 64 * max(eps_of(leaf.dtype), setting.grain) * largest(a)
        if gap > max(room, 64 * eps_of(leaf.dtype) * largest(a)) or not np.array_equal(np.isnan(a), np.isnan(b)):
            return _undecided(
                setting,
                f"{leaf.path} differs by up to {gap:.3g}: the function is random or depends on a hidden state",
            )
    return Findings((Check(NAME, "pass", "equal"),))


def _undecided(setting: Setting, why: str) -> Findings:
    leaves = tuple(
        LeafFinding(leaf.path, "inconclusive", "no function of its arguments") for leaf in setting.problem.inputs
    )
    return Findings((Check(NAME, "inconclusive", why),), leaves)
