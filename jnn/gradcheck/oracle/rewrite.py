"""The free reference: the same function with every custom derivative rule replaced by its primal.

A jaxpr is interpreted under a new trace. A call of a `custom_jvp`, `custom_vjp` or `linear_call` function is replaced
by the equations of its primal, a primitive of another library by those of what evaluates it (its derivative is a rule
like any other), `stop_gradient` by the identity, a `custom_linear_solve` by its solver; calls (jit,
remat, ...) are inlined, and the bodies of scan, while, cond and shard_map (and so of pmap) are rewritten in turn. In a
Pallas kernel, which cannot be traced anew, the equations of the primals take the place of the calls. What JAX
differentiates afterwards is the plain primal. What is there only to print is left out. A rule in any other primitive
stays where it is, and is named: such a reference is no judge of that rule.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

from jnn.gradcheck.oracle import jaxprs


class Rewriting:
    """One rewriting: collects what was removed and what could not be."""

    def __init__(self, *, detach: bool = False, rules: bool = True, even: bool = False) -> None:
        self._detach, self._rules, self._even = detach, rules, even
        self._site = "the function itself"
        self.removed: dict[str, None] = {}
        self.kept: dict[str, None] = {}

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], *args: Any) -> list[Any]:
        """Evaluate an open jaxpr without its custom rules."""
        env = jaxprs.Environment(jaxpr, consts, args, lambda literal: literal.val)
        used = jaxprs.used_variables(jaxpr)
        for eqn in jaxpr.eqns:
            if not jaxprs.is_silent(eqn, used):
                env.write(eqn.outvars, self._equation(eqn, env.read(eqn.invars)))
        return env.read(jaxpr.outvars)

    def closed(self, jaxpr: Any) -> Callable[..., list[Any]]:
        """The rewritten jaxpr as a function of its arguments."""
        inner, consts = jaxprs.opened(jaxpr)
        return lambda *args: self.evaluate(inner, consts, *args)

    def _equation(self, eqn: Any, values: list[Any]) -> list[Any]:
        # Inside a call that JAX makes for the user there is no line of the user's: the caller's line stands for it.
        outer = self._site
        self._site = jaxprs.site(eqn) or outer
        try:
            return self._rewritten(eqn, values)
        finally:
            self._site = outer

    def _rewritten(self, eqn: Any, values: list[Any]) -> list[Any]:
        name = eqn.primitive.name
        if name in jaxprs.RULES and self._rules:
            self.removed[f"{jaxprs.RULES[name]} {jaxprs.rule_name(eqn)} at {self._site}"] = None
            return self.closed(jaxprs.body(eqn))(*values)
        if name in jaxprs.RULES:
            return jaxprs.bind(eqn, values)
        if name == "stop_gradient" and not self._detach:
            self.removed[f"stop_gradient at {self._site}"] = None
            return values
        if name == "abs" and self._even and jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
            return [lax.sign(values[0]) * values[0]]
        if name in jaxprs.INLINE:
            return self.closed(jaxprs.body(eqn))(*values)
        if name == "custom_linear_solve" and self._rules:
            self.removed[f"custom_linear_solve at {self._site}"] = None
            return self._linear_solve(eqn, values)
        if name == "custom_vmap_call":
            return self.closed(eqn.params["call"])(*values)
        if name == "scan":
            return self._scan(eqn, values)
        if name == "while":
            return self._while(eqn, values)
        if name == "cond":
            branches = [self.closed(branch) for branch in eqn.params["branches"]]
            return lax.switch(values[0], branches, *values[1:]) if len(branches) > 1 else branches[0](*values[1:])
        if name == "shard_map":
            return self._shard_map(eqn, values)
        if name == "pallas_call" and self._rules and jaxprs.has_rule(eqn.params["jaxpr"]):
            return self._pallas_call(eqn, values)
        foreign, refusal = jaxprs.expanded(eqn) if self._rules else (None, "")
        if refusal and all(any(jaxprs.is_inexact(v.aval.dtype) for v in side) for side in (eqn.invars, eqn.outvars)):
            self.kept[f"{name} at {self._site}: its derivative was left in place ({refusal})"] = None
        if foreign is not None:
            self.removed[f"primitive {name} at {self._site}"] = None
            return self.closed(foreign)(*values)
        if self._rules and any(map(jaxprs.has_rule, jaxprs.subjaxprs(eqn))):
            self.kept[f"{name} at {self._site}: a custom rule inside it was left in place"] = None
        return jaxprs.bind(eqn, values)

    def _linear_solve(self, eqn: Any, values: list[Any]) -> list[Any]:
        lengths, jaxprs = eqn.params["const_lengths"], eqn.params["jaxprs"]
        start = lengths.matvec + lengths.vecmat
        consts, rhs = values[start : start + lengths.solve], values[sum(lengths) :]
        return self.closed(jaxprs.solve)(*consts, *rhs)

    def _shard_map(self, eqn: Any, values: list[Any]) -> list[Any]:
        inner, consts = jaxprs.opened(eqn.params["jaxpr"])
        mapped = jaxprs.shard_mapped(eqn, lambda *args: self.evaluate(inner, consts, *args))
        return list(mapped(*values))

    def _pallas_call(self, eqn: Any, values: list[Any]) -> list[Any]:
        for e in jaxprs.all_equations(eqn.params["jaxpr"]):
            if e.primitive.name in jaxprs.RULES:
                self.removed[f"{jaxprs.RULES[e.primitive.name]} {jaxprs.rule_name(e)} in a kernel at {self._site}"] = (
                    None
                )
        inlined = jaxprs.inlined(eqn.params["jaxpr"])
        if jaxprs.has_rule(inlined):
            self.kept[f"pallas_call at {self._site}: a custom rule inside it was left in place"] = None
        return jaxprs.bind(eqn, values, jaxpr=inlined)

    def _scan(self, eqn: Any, values: list[Any]) -> list[Any]:
        n_consts, n_carry = jaxprs.scan_arity(eqn)
        consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
        step = self.closed(eqn.params["jaxpr"])

        def scanned(state: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
            out = step(*consts, *state, *x)
            return like(out[:n_carry], state), out[n_carry:]

        length, reverse, unroll = (eqn.params[k] for k in ("length", "reverse", "unroll"))
        carry = list(map(strong, carry))
        state, ys = lax.scan(scanned, carry, xs, length=length, reverse=reverse, unroll=unroll)
        return [*state, *ys]

    def _while(self, eqn: Any, values: list[Any]) -> list[Any]:
        n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        cond_consts, body_consts, carry = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]
        cond, body = self.closed(eqn.params["cond_jaxpr"]), self.closed(eqn.params["body_jaxpr"])
        carry = list(map(strong, carry))
        if eqn.params["cond_jaxpr"].out_avals[0].ndim:
            # The loop of a vmap: lanes end one by one. It stays as JAX made it, since only then can they be continued.
            state, traced = shapes(carry), jax.make_jaxpr
            rewritten = {
                "cond_jaxpr": traced(cond)(*shapes(cond_consts), *state),
                "body_jaxpr": traced(lambda *args: list(map(strong, body(*args))))(*shapes(body_consts), *state),
            }
            return jaxprs.bind(eqn, [*cond_consts, *body_consts, *carry], **rewritten)
        return lax.while_loop(
            lambda state: cond(*cond_consts, *state)[0],
            lambda state: list(map(strong, body(*body_consts, *state))),
            carry,
        )


def strong(value: Any) -> Any:
    """The value as an array without a weak type, so that a loop's carry keeps its type."""
    dtype = jax.typeof(value).dtype
    return value if jnp.issubdtype(dtype, jax.dtypes.extended) else lax.convert_element_type(value, dtype)


def shapes(values: Sequence[Any]) -> list[Any]:
    """The shapes and dtypes of arrays."""
    return [jax.ShapeDtypeStruct(jnp.shape(v), jax.typeof(v).dtype) for v in values]


def like(values: Sequence[Any], models: Sequence[Any]) -> list[Any]:
    """The values without weak types where their models have none."""
    return [strong(value) for value, _ in zip(values, models, strict=True)]


def advanced(running: Any, new: list[Any], old: list[Any]) -> list[Any]:
    """One iteration of a while loop: where its condition has an axis (vmap), lanes that have ended keep their state."""
    if not jnp.ndim(running):
        return new
    lanes = range(jnp.ndim(running))
    return [lax.select(lax.broadcast_in_dim(running, jnp.shape(n), lanes), n, o) for n, o in zip(new, old, strict=True)]


def silenced(jaxpr: Any) -> Any:
    """The closed jaxpr with its rules and without what only prints; itself where nothing prints."""
    noisy = jaxprs.SILENT | {"io_callback"}
    if not any(e.primitive.name in noisy for e in jaxprs.all_equations(jaxpr)):
        return jaxpr
    return _rewritten(Rewriting(detach=True, rules=False), jaxpr)


def silently(fun: Callable[..., Any], *args: Any) -> Any:
    """The result of a function, compiled, without what it only prints."""
    flat, tree = jax.tree_util.tree_flatten(args)
    jaxpr, shapes = jaxprs.trace(lambda *values: fun(*jax.tree_util.tree_unflatten(tree, values)), *flat)
    out = jax.jit(core.jaxpr_as_fun(silenced(jaxpr)))(*flat)
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(shapes), list(out))


def without_rules(jaxpr: Any, *, detach: bool = False) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
    """(closed jaxpr without custom rules, what was removed, what was kept); with `detach`, stop_gradients stay."""
    rewriting = Rewriting(detach=detach)
    rewritten = _rewritten(rewriting, jaxpr)
    return rewritten, tuple(rewriting.removed), tuple(rewriting.kept)


def evened(jaxpr: Any) -> Any:
    """The closed jaxpr with |x| written as an even function, whose derivative at 0 is 0.

    JAX's is 1 there, which is one of the values at a kink, but cancels no kink of another term: that of
    max(x, 0) + log(1 + exp(−|x|)), say, whose halves meet smoothly.
    """
    if not any(e.primitive.name == "abs" for e in jaxprs.all_equations(jaxpr)):
        return jaxpr
    return _traced(Rewriting(detach=True, rules=False, even=True), jaxpr)


REWRITTEN = {*jaxprs.RULES, *jaxprs.SILENT, *jaxprs.INLINE, "stop_gradient", "custom_linear_solve", "custom_vmap_call"}
REWRITTEN |= {"io_callback", "shard_map", "pallas_call"}


def _rewritten(rewriting: Rewriting, jaxpr: Any) -> Any:
    if not any(e.primitive.name in REWRITTEN or jaxprs.is_foreign(e) for e in jaxprs.all_equations(jaxpr)):
        return jaxpr
    return _traced(rewriting, jaxpr)


def _traced(rewriting: Rewriting, jaxpr: Any) -> Any:
    inner, consts = jaxprs.opened(jaxpr)
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in inner.invars]
    return jax.make_jaxpr(lambda *args: rewriting.evaluate(inner, consts, *args))(*shapes)
