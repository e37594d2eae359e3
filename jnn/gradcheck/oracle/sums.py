"""Which sums a program carries out in a dtype that is coarser than float32, and so with an error that grows.

A careful implementation accumulates in float32 at least, whatever the dtype of what it sums. JAX's own autodiff does
not always (the transpose of a broadcast sums in the dtype of the cotangent): what it commits is no fault of a rule.
What a rule writes down itself is.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnn.gradcheck.oracle import jaxprs

SINGLE = float(jnp.finfo(jnp.float32).eps)
TERMS = 8
"""So many terms may be added one by one in a coarse dtype: the places where one value is used, say."""
ADDS = {"add", "add_any", "sub"}
SUMS = {"reduce_sum", "cumsum", "reduce_window_sum", "scatter-add", "scatter_add"}
MOVES = {"reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "dynamic_slice", "rev", "pad"}
MOVES |= {"concatenate", "gather", "copy", "copy_p", "split", "select_n", "stack", "unstack"}


def is_coarse(aval: Any) -> bool:
    """Whether a value is real and coarser than float32."""
    dtype = getattr(aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and float(jnp.finfo(dtype).eps) > SINGLE


def long_additions(jaxpr: Any) -> set[int]:
    """The equations (by place) of an open jaxpr that add values in the same coarse dtype on their way to a sum of more
    than `TERMS` terms: sums in pairs, or written out.
    """
    terms: dict[Any, int] = {}
    steps = []
    for place, eqn in enumerate(jaxpr.eqns):
        adds = eqn.primitive.name in ADDS
        if not eqn.outvars or not is_coarse(eqn.outvars[0].aval) or not (adds or eqn.primitive.name in MOVES):
            continue
        read = [v for v in eqn.invars if not jaxprs.is_literal(v)]
        counts = [terms.get(v, 1) for v in read]
        terms.update((v, sum(counts) if adds else max(counts, default=1)) for v in eqn.outvars)
        steps.append((place, adds, read, eqn.outvars))
    found: set[int] = set()
    wanted: set[Any] = set()
    for place, adds, read, made in reversed(steps):
        if any(v in wanted for v in made) or (adds and terms[made[0]] > TERMS):
            wanted.update(read)
            found |= {place} if adds else set()
    return found


def _coarse(jaxpr: Any, stack: str, *, looped: bool) -> Iterator[tuple[str, str]]:
    """(what is summed, the name stack) of every coarse sum in a jaxpr and in those inside it."""
    inner, _ = jaxprs.opened(jaxpr)
    long = long_additions(inner)
    for place, eqn in enumerate(inner.eqns):
        name, within = eqn.primitive.name, f"{stack}/{eqn.source_info.name_stack}"
        if eqn.outvars and is_coarse(eqn.outvars[0].aval):
            inside = {e.primitive.name for e in jaxprs.all_equations_of(eqn)} if name == "reduce" else set()
            many = name in SUMS or bool(inside & ADDS)
            shapes = [getattr(v.aval, "shape", ()) for v in (*eqn.invars, *eqn.outvars)]
            size = max((int(np.prod(s, dtype=np.int64)) for s in shapes), default=0)
            if (many and size > TERMS) or place in long or (looped and name in ADDS):
                yield f"{name} {shapes}", within
        if name != "reduce" and name not in SUMS:
            for sub in jaxprs.subjaxprs(eqn):
                yield from _coarse(sub, within, looped=looped or name in ("scan", "while"))


def sums_coarsely(jaxpr: Any) -> bool:
    """Whether a program adds up many terms in a coarse dtype."""
    return any(True for _ in _coarse(jaxpr, "", looped=False))


def summed_by_rules(jaxpr: Any) -> tuple[str, ...]:
    """The coarse sums that the backward functions of custom_vjp calls in a jaxpr write down themselves.

    Sums of the primal, and those that JAX makes when a backward function differentiates something in turn, do not
    count: the latter are told by being transposed twice.
    """
    found: dict[str, None] = {}
    for eqn in jaxprs.all_equations(jaxpr):
        if jaxprs.RULES.get(eqn.primitive.name) != "custom_vjp":
            continue
        here = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
        there = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
        try:
            pulled = jax.make_jaxpr(lambda x, w, e=eqn: jax.vjp(lambda *a: jaxprs.bind(e, a), *x)[1](w))(here, there)
        except Exception:  # integers among its operands, an axis of a shard_map: it is looked at in another way
            continue
        primal = [what for what, _ in _coarse(jaxprs.body(eqn), "", looped=False)]
        for what, stack in _coarse(pulled, "", looped=False):
            if what in primal:
                primal.remove(what)
            elif stack.count("transpose(") < 2:
                found[what] = None
    return tuple(found)
