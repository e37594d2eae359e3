"""What the parameters of JAX's equations mean, in every supported version, without private imports.

JAX 0.12 merged `ClosedJaxpr` into `Jaxpr` and replaced scan's `num_consts` and `num_carry` by trees; the functions here
read both forms from what cannot change: the shapes that go into an equation and into its body.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core, source_info_util

HERE = str(Path(__file__).parent)
RULES = {
    "custom_jvp_call": "custom_jvp",
    "custom_vjp_call": "custom_vjp",
    "custom_vjp_call_jaxpr": "custom_vjp",
    "call_hi_primitive": "custom primitive",
}
INLINE = {"jit", "pjit", "closed_call", "core_call", "core_closed_call", "call", "eval_jaxpr"}
INLINE |= {"remat", "remat2", "checkpoint"}


def is_jaxpr(value: Any) -> bool:
    """Whether a parameter is a jaxpr, closed or open."""
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)  # pyright: ignore[reportPrivateImportUsage]


def opened(jaxpr: Any, consts: Sequence[Any] = ()) -> tuple[Any, Sequence[Any]]:
    """The open jaxpr and its constants."""
    if isinstance(jaxpr, core.ClosedJaxpr) and hasattr(jaxpr, "jaxpr"):  # pyright: ignore[reportPrivateImportUsage]
        inner = jaxpr.jaxpr
        return inner, list(jaxpr.consts) if inner.constvars else []
    return jaxpr, consts


def body(eqn: Any) -> Any:
    """The jaxpr that a call-like equation (a custom rule's primal included) evaluates."""
    if "_prim" in eqn.params:  # newer JAX: a primitive with rules of its own, which expands into others
        prim = eqn.params["_prim"]
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
        unflatten, leaves = jax.tree_util.tree_unflatten, jax.tree_util.tree_leaves
        return jax.make_jaxpr(lambda *flat: leaves(prim.expand(*unflatten(prim.in_tree, flat))))(*shapes)
    for name in ("call_jaxpr", "jaxpr", "fun_jaxpr"):
        if name in eqn.params:
            return eqn.params[name]
    raise KeyError(f"no jaxpr in the parameters of {eqn.primitive}: {sorted(eqn.params)}")


def subjaxprs(eqn: Any) -> Iterator[Any]:
    """Every jaxpr among an equation's parameters, tuples of them included."""
    for value in eqn.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if is_jaxpr(item):
                yield item


def scan_arity(eqn: Any) -> tuple[int, int]:
    """(number of constants, number of carries) of a scan."""
    inner, _ = opened(eqn.params["jaxpr"])
    xs = sum(v.aval.ndim != b.aval.ndim for v, b in zip(eqn.invars, inner.invars, strict=True))
    ys = sum(v.aval.ndim != b.aval.ndim for v, b in zip(eqn.outvars, inner.outvars, strict=True))
    carry = len(eqn.outvars) - ys
    return len(eqn.invars) - xs - carry, carry


def is_literal(atom: Any) -> bool:
    """Whether an input of an equation is a literal, not a variable."""
    return isinstance(atom, core.Literal)


def is_inexact(dtype: Any) -> bool:
    """Whether a dtype is floating or complex (keys and float0 are not)."""
    return jnp.issubdtype(dtype, jnp.inexact)


def bind(eqn: Any, values: Sequence[Any], **changed: Any) -> list[Any]:
    """Evaluate one equation on `values`, with some parameters changed."""
    params = eqn.primitive.get_bind_params({**eqn.params, **changed})
    subfuns, params = params if isinstance(params, tuple) else ((), params)  # older and newer JAX
    out = eqn.primitive.bind(*subfuns, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def site(eqn: Any) -> str:
    """Where the user's code called this, as `file:line (function)`; empty where it was not the user's code."""
    place = source_info_util.summarize(eqn.source_info)
    return "" if place.startswith(HERE) else place


def rule_name(eqn: Any) -> str:
    """The name of the function that a custom rule belongs to."""
    if "_prim" in eqn.params:
        return type(eqn.params["_prim"]).__name__
    inner, _ = opened(body(eqn))
    info = getattr(inner, "debug_info", None)
    return (getattr(info, "func_src_info", None) or "unnamed").split(" at ")[0]


class Environment:
    """The values of a jaxpr's variables while it is interpreted."""

    def __init__(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], literal: Callable[[Any], Any]) -> None:
        self._values: dict[Any, Any] = {}
        self._literal = literal
        self.write(jaxpr.constvars, consts)
        self.write(jaxpr.invars, args)

    def read(self, atoms: Sequence[Any]) -> list[Any]:
        """The values of variables and literals."""
        return [self._literal(a) if is_literal(a) else self._values[a] for a in atoms]

    def write(self, variables: Sequence[Any], values: Sequence[Any]) -> None:
        """Set the values of variables."""
        self._values.update(zip(variables, values, strict=True))


def all_equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a jaxpr and of the jaxprs inside it."""
    inner, _ = opened(jaxpr)
    for eqn in inner.eqns:
        yield eqn
        for sub in subjaxprs(eqn):
            yield from all_equations(sub)


def trace(fun: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """(closed jaxpr, structure of the result with the shapes) of a function that is traced anew, never from a cache."""
    return jax.make_jaxpr(lambda *a: fun(*a), return_shape=True)(*args)
