"""What the parameters of JAX's equations mean, in every supported version, without private imports.

JAX 0.12 merged `ClosedJaxpr` into `Jaxpr` and replaced scan's `num_consts` and `num_carry` by trees; the functions here
read both forms from what cannot change: the shapes that go into an equation and into its body.
"""

import ast
import linecache
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core, source_info_util

HERE = str(Path(__file__).parent.parent)
RULES = {
    "custom_jvp_call": "custom_jvp",
    "custom_vjp_call": "custom_vjp",
    "custom_vjp_call_jaxpr": "custom_vjp",
    "call_hi_primitive": "custom primitive",
    "linear_call": "linear_call",
}
"""Calls that come with a derivative written by hand; `body` is their primal."""
SILENT = {"debug_callback", "debug_print"}
"""What prints, and returns nothing."""
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


def constants(jaxpr: Any) -> list[Any]:
    """What a traced function closes over."""
    return list(getattr(jaxpr, "consts", ()))


def body(eqn: Any) -> Any:
    """The jaxpr that a call-like equation (a custom rule's primal included) evaluates."""
    if "_prim" in eqn.params:  # newer JAX: a primitive with rules of its own, which expands into others
        prim = eqn.params["_prim"]
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
        unflatten, leaves = jax.tree_util.tree_unflatten, jax.tree_util.tree_leaves
        return jax.make_jaxpr(lambda *flat: leaves(prim.expand(*unflatten(prim.in_tree, flat))))(*shapes)
    for name in ("call_jaxpr", "jaxpr", "fun_jaxpr", "callee"):
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


def is_foreign(eqn: Any) -> bool:
    """Whether a primitive is of another library than JAX."""
    impl = getattr(eqn.primitive, "impl", None)
    module = getattr(getattr(impl, "func", impl), "__module__", None) or "jax"
    return eqn.primitive.name not in RULES and module.split(".")[0] not in ("jax", "jaxlib")


def expanded(eqn: Any) -> tuple[Any, str]:
    """The jaxpr of what evaluates a primitive of another library, or why it cannot be traced; (None, "") for JAX's."""
    if not is_foreign(eqn):
        return None, ""
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    try:
        return jax.make_jaxpr(lambda *args: eqn.primitive.impl(*args, **eqn.params))(*shapes), ""
    except Exception as error:  # code of another library: it looks at numbers, say, or has no such function
        return None, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:160]}"


def site(eqn: Any) -> str:
    """Where the user's code called this, as `file:line (function)`; empty where it was not the user's code."""
    place = source_info_util.summarize(eqn.source_info)
    return "" if place.startswith(HERE) else place


def rule_name(eqn: Any) -> str:
    """The name of the function that a custom rule belongs to."""
    if "_prim" in eqn.params:
        return type(eqn.params["_prim"]).__name__
    info = getattr(opened(body(eqn))[0], "debug_info", None)
    return (getattr(info, "func_src_info", None) or "unnamed").split(" at ")[0]


def parameter_names(eqn: Any, count: int) -> list[str]:
    """The names of the operands of a rule's call: its parameters, as far as each of them is one array."""
    info = getattr(opened(body(eqn))[0], "debug_info", None)
    names = [str(name) for name in getattr(info, "arg_names", None) or () if name]
    if len(names) != count:
        names = _written(getattr(info, "func_src_info", None) or "")
    return names if len(names) == count else [f"operand {k}" for k in range(count)]


def _written(where: str) -> list[str]:
    """The parameters of the function at `name at file:line`, read from its source."""
    match = re.fullmatch(r"(.+) at (.+):(\d+)", where)
    if match is None:
        return []
    try:
        tree = ast.parse("".join(linecache.getlines(match[2])))
    except (SyntaxError, ValueError):
        return []
    line = int(match[3])
    for node in ast.walk(tree):
        first = (
            min([getattr(node, "lineno", 0), *(d.lineno for d in getattr(node, "decorator_list", []))])
            if _is_function(node)
            else 0
        )
        if first == line and (isinstance(node, ast.Lambda) or getattr(node, "name", "") == match[1].split(".")[-1]):
            return [a.arg for a in (*node.args.posonlyargs, *node.args.args)]  # pyright: ignore[reportAttributeAccessIssue]
    return []


def _is_function(node: Any) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


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


def is_silent(eqn: Any, used: set[Any]) -> bool:
    """Whether an equation is there for its effect alone: a print, or a callback whose result nothing reads."""
    name = eqn.primitive.name
    return name in SILENT or (name == "io_callback" and not any(v in used for v in eqn.outvars))


def used_variables(jaxpr: Any) -> set[Any]:
    """The variables of an open jaxpr that an equation or an output reads."""
    atoms = [a for eqn in jaxpr.eqns for a in eqn.invars] + list(jaxpr.outvars)
    return {a for a in atoms if not is_literal(a)}


def has_rule(jaxpr: Any) -> bool:
    """Whether a custom rule is called anywhere inside."""
    return any(e.primitive.name in RULES for e in all_equations(jaxpr))


def all_equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a jaxpr and of the jaxprs inside it."""
    inner, _ = opened(jaxpr)
    for eqn in inner.eqns:
        yield eqn
        for sub in subjaxprs(eqn):
            yield from all_equations(sub)


def all_equations_of(eqn: Any) -> Iterator[Any]:
    """Every equation inside an equation."""
    for sub in subjaxprs(eqn):
        yield from all_equations(sub)


def has_loop_in_loop(jaxpr: Any) -> bool:
    """Whether a while loop is inside another one."""
    loops = (e for e in all_equations(jaxpr) if e.primitive.name == "while")
    return any(e.primitive.name == "while" for loop in loops for e in all_equations_of(loop))


def trace(fun: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
    """(closed jaxpr, structure of the result with the shapes) of a function that is traced anew, never from a cache."""
    return jax.make_jaxpr(lambda *a: fun(*a), return_shape=True)(*args)


def shard_mapped(eqn: Any, body: Callable[..., Any], in_specs: Any = None, out_specs: Any = None) -> Callable[..., Any]:
    """The shard_map of an equation around another body (and around other operands, with their specifications)."""
    p = eqn.params
    manual = p.get("newly_manual_axes", p.get("manual_axes"))
    return jax.shard_map(
        lambda *args: tuple(body(*args)),
        mesh=p["mesh"],
        in_specs=tuple(p["in_specs"] if in_specs is None else in_specs),
        out_specs=tuple(p["out_specs"] if out_specs is None else out_specs),
        axis_names=set(manual) if manual else set(),
        check_vma=p.get("check_vma", True),
    )


def inlined(jaxpr: Any) -> Any:
    """An open jaxpr with the equations of the primals in place of calls of rules; a rule with constants stays.

    It is made by renaming variables, not by tracing: the variables of a kernel are references, which cannot be traced
    from outside.
    """
    open_, _ = opened(jaxpr)
    eqns: list[Any] = []
    names: dict[Any, Any] = {}

    def copied(inner: Any, names: dict[Any, Any], *, outer: bool) -> None:
        def read(atom: Any) -> Any:
            return atom if is_literal(atom) else names.get(atom, atom)

        for eqn in inner.eqns:
            operands = [read(a) for a in eqn.invars]
            if eqn.primitive.name in RULES | dict.fromkeys(INLINE):
                primal, constants = opened(body(eqn))
                if not constants and not primal.constvars:
                    mine = dict(zip(primal.invars, operands, strict=True))
                    copied(primal, mine, outer=False)
                    results = [a if is_literal(a) else mine.get(a, a) for a in primal.outvars]
                    names.update(zip(eqn.outvars, results, strict=True))
                    continue
            fresh = eqn.outvars if outer else [core.Var(v.aval) for v in eqn.outvars]  # a body may be inlined twice
            names.update(zip(eqn.outvars, fresh, strict=True))
            params = {
                k: v.replace(jaxpr=inlined(v.jaxpr)) if is_jaxpr(v) and hasattr(v, "jaxpr") and has_rule(v) else v
                for k, v in eqn.params.items()
            }
            eqns.append(eqn.replace(invars=operands, outvars=list(fresh), params=params))

    copied(open_, names, outer=True)
    outvars = [a if is_literal(a) else names.get(a, a) for a in open_.outvars]
    return open_.replace(eqns=eqns, outvars=outvars)
