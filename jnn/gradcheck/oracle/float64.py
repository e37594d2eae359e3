"""The float64 oracle: a jaxpr evaluated in float64, whatever its own dtypes are.

Every value that depends on a floating argument is carried twice: as the function itself computes it (`low`), and in
float64 (`high`). Hard casts, `preferred_element_type` and dtype parameters widen on the high side only. What the
function *decides* (comparisons, the larger of two numbers, the order of a sort, the number of iterations) is taken from
the low side, so that the oracle follows the branch that was really taken; what does not depend on the arguments
(constants, random draws) is computed in the original dtype and converted, hence the same to the last bit. With
`own=True` there is no low side: decisions are made in float64, as differences need them.

Derivatives are taken with respect to the high side alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnn.gradcheck.oracle import jaxprs
from jnn.gradcheck.oracle.numerical import Plan
from jnn.gradcheck.oracle.rewrite import advanced, strong
from jnn.gradcheck.oracle.sums import SINGLE, long_additions

COMPARISONS = {"lt", "le", "gt", "ge", "eq", "ne"}
CHOICES = {"max", "min", "clamp", "abs", "reduce_max", "reduce_min"}
"""What returns one of its operands (or elements), by a comparison."""
STEPS = {"floor", "ceil", "round", "sign", "nextafter"}
OPAQUE = {
    "random_gamma",
    "pure_callback",
    "io_callback",
    "ffi_call",
    "pallas_call",
    "run_state",
}
OPAQUE |= {"approx_top_k", "custom_partitioning", "select_and_scatter", "reduce_window", "infeed", "rng_uniform"}
# What moves numbers without rounding them.
EXACT = {"reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "dynamic_slice", "rev", "pad"}
EXACT |= {"dynamic_update_slice", "concatenate", "select_n", "gather", "neg", "abs", "max", "min", "clamp", "copy"}
EXACT |= {"reduce_max", "reduce_min", "cummax", "cummin", "real", "imag", "conj", "complex", "split", "copy_p", "name"}
EXACT |= {"stack", "unstack", "tile"}
# What makes numbers without rounding them.
MADE = {"iota", "convert_element_type", "bitcast_convert_type", "random_bits", "threefry2x32", "random_wrap", "sign"}
SPECIAL = {"convert_element_type", "sort", "top_k", "scan", "while", "cond", "shard_map"}
REFUSALS = (TypeError, ValueError, NotImplementedError, KeyError, AssertionError)
"""How a primitive says that it does not take a dtype."""
CONTINUED = 10_000
"""Iterations by which one while loop, run again by a scan around it, is continued at most, all together."""
# Decompositions whose vectors have a sign (a phase) that nothing fixes.
GAUGED = {"eigh", "svd", "eig"}
SCATTERS: dict[str, Callable[..., Any]] = {
    "scatter": lax.scatter,
    "scatter-add": lax.scatter_add,
    "scatter_add": lax.scatter_add,
    "scatter-sub": getattr(lax, "scatter_sub", lax.scatter_add),
    "scatter_sub": getattr(lax, "scatter_sub", lax.scatter_add),
    "scatter-mul": lax.scatter_mul,
    "scatter_mul": lax.scatter_mul,
    "scatter-min": lax.scatter_min,
    "scatter_min": lax.scatter_min,
    "scatter-max": lax.scatter_max,
    "scatter_max": lax.scatter_max,
}


class Dual(NamedTuple):
    """A value as the function computes it, and in float64; either may be absent."""

    low: Any
    high: Any


class Constant(Dual):
    """A value that depends on no floating argument but is rounded: an inexact literal, or computed from constants.

    It is what the function itself computes, to the last bit, except when literals vary.
    """


class Knobs(NamedTuple):
    """Traced numbers that vary an oracle without compiling it again.

    `phase` ≠ 0 perturbs every literal that is not exact in its dtype by up to half an ulp (a rule may carry other
    constants than the primal, each rounded), and, where rounding is simulated, every result by up to an ulp of its
    dtype; `extra` runs every while loop so many iterations beyond its end, but for those inside another while loop
    (their numbers would multiply); a negative one runs those inside another one so many iterations further, and no
    others.
    """

    phase: Any
    extra: Any


def wide(dtype: Any) -> Any:
    """The float64 or complex128 that a dtype widens to."""
    return jnp.complex128 if jnp.issubdtype(dtype, jnp.complexfloating) else jnp.float64


class Promotion:
    """One float64 evaluation; `opaque` names the primitives that had to run in their own dtype."""

    def __init__(
        self,
        *,
        own: bool = False,
        knobs: Knobs | None = None,
        rounded: float = 0.0,
        turns: int = 0,
        free: bool = False,
    ) -> None:
        self.own = own
        self.knobs = knobs
        self.turns = turns
        self.rounded = rounded if knobs is not None else 0.0
        self._free = free
        self._phase: Any = None if knobs is None else knobs.phase
        # Vectors whose sign is a matter of convention, in the order in which they are met outside of loops: those that
        # were found along the branch that was taken, or (with `own`) those whose signs are to be kept.
        self.vectors: list[Any] = []
        # Where numbers of which one is chosen are equal in float64, too, in the order in which they are met outside of
        # loops: found at the point itself, for evaluations beside it.
        self.ties: list[Any] = []
        self.finds_ties = False
        self._inside = 0
        self._repeats = 1.0
        self.opaque: dict[str, None] = {}
        self._literals = 0

    def evaluate(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Dual]) -> list[Dual]:
        """Evaluate an open jaxpr on duals."""
        env = jaxprs.Environment(jaxpr, [Dual(c, None) for c in consts], args, self._literal)
        used = jaxprs.used_variables(jaxpr)
        long = long_additions(jaxpr) if self.rounded > SINGLE else set()
        for place, eqn in enumerate(jaxpr.eqns):
            if jaxprs.is_silent(eqn, used):
                continue
            outer, self.rounded = self.rounded, min(self.rounded, SINGLE) if place in long else self.rounded
            out = self._equation(eqn, env.read(eqn.invars))
            self.rounded = outer
            env.write(eqn.outvars, out)
        return env.read(jaxpr.outvars)

    def closed(self, jaxpr: Any) -> Callable[[Sequence[Dual]], list[Dual]]:
        """A closed jaxpr as a function of duals."""
        inner, consts = jaxprs.opened(jaxpr)
        return lambda args: self.evaluate(inner, consts, args)

    def _literal(self, literal: Any) -> Dual:
        value, dtype = literal.val, literal.aval.dtype
        if self.knobs is None or not jnp.issubdtype(dtype, jnp.floating) or _exact(value, dtype):
            return Dual(value, None)
        return Constant(value, self._varied(jnp.float64(value), dtype))

    def _varied(self, value: Any, dtype: Any) -> Any:
        """A constant with a relative change of a quarter to half an ulp of its dtype, where literals vary."""
        self._literals += 1
        # A different, reproducible change for each literal, element and phase: multiples of the golden ratio (and, by
        # element, of the plastic number), modulo one, spread evenly. (A sine would do, but takes long to compile.)
        place = self._phase * (1.0 + 1.618033988749895 * self._literals)
        if value.ndim:
            place = place + 0.7548776662466927 * jnp.arange(value.size, dtype=jnp.float64).reshape(value.shape)
        wave = 2.0 * (place - jnp.floor(place)) - 1.0
        return value * (1 + 0.25 * float(jnp.finfo(dtype).eps) * jnp.sign(self._phase) * (jnp.sign(wave) + wave))

    def _constant(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        """An equation of constants: evaluated as it is, hence the same to the last bit, except when literals vary.

        What it computes is rounded. Of two right programs one may scale the data once, the other every term.
        """
        out = jaxprs.bind(eqn, [d.low for d in duals])
        rounds = eqn.primitive.name not in EXACT | MADE or any(isinstance(d, Constant) for d in duals)
        if self.knobs is None or not rounds:
            return [Dual(v, None) for v in out]
        floating = [jnp.issubdtype(v.aval.dtype, jnp.floating) for v in eqn.outvars]
        return [
            Constant(v, self._varied(lax.convert_element_type(v, jnp.float64), v.dtype)) if is_float else Dual(v, None)
            for v, is_float in zip(out, floating, strict=True)
        ]

    def _equation(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        name = eqn.primitive.name
        if all(d.high is None or isinstance(d, Constant) for d in duals):
            return self._constant(eqn, duals)
        if name in jaxprs.RULES or name in jaxprs.INLINE:
            return self.closed(jaxprs.body(eqn))(duals)
        if name in ("stop_gradient", "reduce_precision"):
            return [Dual(None if self.own else jaxprs.bind(eqn, [duals[0].low])[0], duals[0].high)]
        if name in SPECIAL:
            return getattr(self, "_" + name)(eqn, duals)
        return self._default(eqn, duals)

    def _lows(self, eqn: Any, duals: Sequence[Dual]) -> list[Any]:
        """The low side; where there is none, the high side cast down (differentiably)."""
        return [
            d.low if d.low is not None else lax.convert_element_type(d.high, a.aval.dtype)
            for d, a in zip(duals, eqn.invars, strict=True)
        ]

    def _highs(self, eqn: Any, duals: Sequence[Dual]) -> list[Any]:
        """The high side; what is not floating stays as it is."""
        return [_high(d, a.aval.dtype) for d, a in zip(duals, eqn.invars, strict=True)]

    def _default(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        name = eqn.primitive.name
        floating = [jaxprs.is_inexact(v.aval.dtype) for v in eqn.outvars]
        if name == "bitcast_convert_type" and not self.own and not any(floating):
            return [Dual(out, None) for out in jaxprs.bind(eqn, self._lows(eqn, duals))]
        if (
            name in OPAQUE
            or name == "bitcast_convert_type"
            or (name not in SCATTERS and name not in ("reduce",) and any(True for _ in jaxprs.subjaxprs(eqn)))
        ):
            return self._opaque(eqn, duals)
        if name in COMPARISONS and self._free:
            return [Dual(out, None) for out in jaxprs.bind(eqn, self._highs(eqn, duals))]
        low: list[Any] = [None] * len(floating) if self.own else jaxprs.bind(eqn, self._lows(eqn, duals))
        if not any(floating) and not self.own:
            return [Dual(out, None) for out in low]
        if name in STEPS and not self.own:
            return [Dual(out, _high(Dual(out, None), out.dtype)) for out in low]
        if name in SCATTERS:
            high = [self._scatter(eqn, self._highs(eqn, duals))]
        elif name == "reduce":
            high = self._generic_reduce(eqn, self._highs(eqn, duals))
        elif name in CHOICES and not (self.own or self._free) and eqn.invars[0].aval.dtype.kind != "c":
            high = [self._chosen(eqn, self._lows(eqn, duals), self._highs(eqn, duals))]
        else:
            try:
                high = jaxprs.bind(eqn, self._highs(eqn, duals), **_widened(eqn.params))
            except REFUSALS:  # a primitive of another library that insists on the dtypes it was made for
                return self._opaque(eqn, duals)
        if name in GAUGED:
            high = self._with_signs(name, low, high)
        if self.rounded and name not in EXACT:
            high = [self._round(h, v.aval.dtype) for h, v in zip(high, eqn.outvars, strict=True)]
        # The pivots of an LU factorization belong to the factors that they come with.
        decided = high if self.own or name == "lu" else low
        return [
            Dual(lo, hi) if is_float else Dual(de, None)
            for lo, hi, de, is_float in zip(low, high, decided, floating, strict=True)
        ]

    def _chosen(self, eqn: Any, low: list[Any], high: list[Any]) -> Any:
        """What one of `CHOICES` returns, chosen as the function itself did, on the low side.

        Numbers that only rounding made equal leave the choice open: the mean of them stands for it (a bound of clamp),
        and under variations one or the other. Where they are equal in float64 too, each has its half of the derivative:
        also where a variation makes them differ.
        """
        name, shape = eqn.primitive.name, eqn.outvars[0].aval.shape
        if not name.startswith("reduce"):  # scalars are broadcast by these
            low, high = ([jnp.broadcast_to(v, shape) for v in side] for side in (low, high))
        if name == "abs":
            tied = lax.select(high[0] == 0, 0.0 * high[0], lax.abs(high[0]))  # even, whatever JAX says at 0
            return self._first((low[0], -low[0]), (high[0], -high[0]), tied, 0.0 * high[0])
        if name in ("max", "min"):
            # At a tie JAX gives each half of the derivative.
            return self._first(low if name == "max" else low[::-1], high, 0.5 * (high[0] + high[1]))
        if name == "clamp":
            (low_bound, low_x, low_top), (bound, x, top) = low, high
            raised = self._first((low_x, low_bound), (x, bound), bound)
            return self._first((low_top, lax.max(low_x, low_bound)), (raised, top), top)
        axes, out = tuple(eqn.params["axes"]), jaxprs.bind(eqn, low)[0]
        these = low[0] == lax.expand_dims(out, axes)
        count = lax.reduce_sum(lax.convert_element_type(these, jnp.float64), axes)
        mean = lax.reduce_sum(lax.select(these, high[0], jnp.zeros_like(high[0])), axes) / count
        if self.knobs is None and not self.finds_ties:
            return mean
        top = lax.reduce_max(lax.select(these, high[0], jnp.full_like(high[0], -jnp.inf)), axes)
        bottom = lax.reduce_min(lax.select(these, high[0], jnp.full_like(high[0], jnp.inf)), axes)
        return self._open(mean, top, bottom)

    def _first(self, low: Sequence[Any], high: Sequence[Any], tied: Any, exact: Any = None) -> Any:
        """The first of two numbers where `low` falls, the second where it rises; `exact` where they are really equal
        (`tied`, unless given).
        """
        one, two = high
        if self.knobs is not None or self.finds_ties:
            tied = self._open(tied, one, two, exact)
        return lax.select(low[0] > low[1], one, lax.select(low[0] < low[1], two, tied))

    def _open(self, tied: Any, one: Any, two: Any, exact: Any = None) -> Any:
        """What stands for a choice between two numbers that rounding made equal, under the phase of the knobs."""
        if self.knobs is None:
            if not self._inside:
                self.ties.append(one == two)
            return tied
        odd = jnp.broadcast_to(self._phase % 2 == 1, one.shape)
        open_ = lax.select((self._phase == 0) | (one == two), tied, lax.select(odd, one, two))
        if self._inside or not self.ties:
            return open_
        return lax.select(self.ties.pop(0), tied if exact is None else exact, open_)

    def _with_signs(self, name: str, low: list[Any], high: list[Any]) -> list[Any]:
        if not self.own:
            high = _aligned(name, low, high)
            if not self._inside:
                self.vectors.append([lax.stop_gradient(h) for h in high])
            return high
        if self._inside or not self.vectors:
            return high
        return _aligned(name, self.vectors.pop(0), high)

    def _opaque(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        """Evaluate in the original dtype, through casts that can be differentiated."""
        self.opaque[f"{eqn.primitive.name} at {jaxprs.site(eqn)}"] = None
        cast = [
            d.low
            if d.high is None or not jaxprs.is_inexact(a.aval.dtype)
            else lax.convert_element_type(d.high, a.aval.dtype)
            for d, a in zip(duals, eqn.invars, strict=True)
        ]
        out = jaxprs.bind(eqn, cast)
        low = [None] * len(out) if self.own else jaxprs.bind(eqn, self._lows(eqn, duals))
        return [
            Dual(lo, lax.convert_element_type(o, wide(o.dtype)))
            if jaxprs.is_inexact(o.dtype)
            else Dual(o if self.own else lo, None)
            for lo, o in zip(low, out, strict=True)
        ]

    def _convert_element_type(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        source, target = eqn.invars[0].aval.dtype, eqn.params["new_dtype"]
        low, high = duals[0].low, duals[0].high
        if jnp.issubdtype(source, jnp.complexfloating) and not jnp.issubdtype(target, jnp.complexfloating):
            low, high = _real(low), _real(high)
        if not jaxprs.is_inexact(target):
            return [Dual(lax.convert_element_type(high if self.own else low, target), None)]
        low = None if self.own else lax.convert_element_type(low, target)
        if self.rounded and jnp.finfo(target).eps > jnp.finfo(source).eps:
            same = lax.convert_element_type(lax.convert_element_type(high, target), high.dtype) == high
            high = lax.select(same, high, self._round(high, target))  # a number of that dtype is not rounded
        return [Dual(low, high if high.dtype == wide(target) else lax.convert_element_type(high, wide(target)))]

    def _round(self, value: Any, dtype: Any) -> Any:
        """The value with a relative error of up to an ulp of `dtype`: pseudo-random, the same for the same value."""
        if not jnp.issubdtype(dtype, jnp.floating) or value.dtype != jnp.float64:
            return value
        self._literals += 1
        salt = np.uint64((0x9E3779B97F4A7C15 * self._literals) % 2**64)
        bits = lax.bitcast_convert_type(value, jnp.uint64) ^ (self._phase.astype(jnp.uint64) * salt)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        uniform = lax.convert_element_type(bits >> np.uint64(11), jnp.float64) * 2.0**-52 - 1.0
        return value * (1.0 + min(float(jnp.finfo(dtype).eps), self.rounded) * uniform)

    def _scatter(self, eqn: Any, values: list[Any]) -> Any:
        options = {k: eqn.params[k] for k in ("indices_are_sorted", "unique_indices", "mode")}
        return SCATTERS[eqn.primitive.name](*values, eqn.params["dimension_numbers"], **options)

    def _generic_reduce(self, eqn: Any, values: list[Any]) -> list[Any]:
        half = len(values) // 2
        inner, consts = jaxprs.opened(eqn.params["jaxpr"])
        own = Promotion(own=True)

        def computation(x: tuple[Any, ...], y: tuple[Any, ...]) -> tuple[Any, ...]:
            args = [Dual(None, v) if jaxprs.is_inexact(v.dtype) else Dual(v, None) for v in (*x, *y)]
            return tuple(d.low if d.high is None else d.high for d in own.evaluate(inner, consts, args))

        out = lax.reduce(tuple(values[:half]), tuple(values[half:]), computation, eqn.params["dimensions"])
        return list(out)

    def _sort(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        p = {k: eqn.params[k] for k in ("dimension", "is_stable", "num_keys")}
        axis = p["dimension"]
        keys = self._highs(eqn, duals) if self.own else self._lows(eqn, duals)
        order = lax.broadcasted_iota(jnp.int32, keys[0].shape, axis)
        *_, order = lax.sort((*keys, order), **p)
        return [_gathered(d, order, axis) for d in duals]

    def _top_k(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        key = duals[0].high if self.own else duals[0].low
        _, order = jaxprs.bind(eqn, [key])
        return [_gathered(duals[0], order, eqn.params.get("axis", key.ndim - 1)), Dual(order, None)]

    def _carried(self, dual: Dual, dtype: Any) -> Dual:
        """A loop's carry: with a high side whenever its dtype has one."""
        if not jaxprs.is_inexact(dtype):
            return Dual(strong(dual.low), None)
        return Dual(None if self.own else strong(dual.low), _high(dual, dtype))

    def _scan(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        n_consts, n_carry = jaxprs.scan_arity(eqn)
        dtypes = [v.aval.dtype for v in eqn.invars[n_consts : n_consts + n_carry]]
        carry = list(map(self._carried, duals[n_consts : n_consts + n_carry], dtypes))
        step = self._looped(eqn.params["jaxpr"], eqn.params["length"])
        literals = self._literals

        def scanned(state: list[Dual], x: list[Dual]) -> tuple[list[Dual], list[Dual]]:
            self._literals = literals  # JAX may trace the body more than once
            out = step([*duals[:n_consts], *state, *x])
            return list(map(self._carried, out[:n_carry], dtypes)), out[n_carry:]

        options = {k: eqn.params[k] for k in ("length", "reverse", "unroll")}
        if not duals[n_consts + n_carry :] and n_carry == len(eqn.outvars):
            options["length"] += self.turns  # a loop that only carries: it may go on
        state, ys = lax.scan(scanned, carry, duals[n_consts + n_carry :], **options)
        return [*state, *ys]

    def _looped(self, jaxpr: Any, length: float) -> Callable[[Sequence[Dual]], list[Dual]]:
        """The body of a loop. What a loop carries is accumulated in float32 at least, where rounding is simulated."""
        run = self.closed(jaxpr)

        def turn(args: Sequence[Dual]) -> list[Dual]:
            outer = self.rounded, self._repeats
            self.rounded, self._repeats = min(self.rounded, SINGLE), self._repeats * length
            self._inside += 1
            try:
                return run(args)
            finally:
                self.rounded, self._repeats = outer
                self._inside -= 1

        return turn

    def _shard_map(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        """Every value of the map beside its float64 twin, with the same specification."""
        inner, consts = jaxprs.opened(eqn.params["jaxpr"])
        dtypes = [v.aval.dtype for v in eqn.outvars]
        present = [[v is not None for v in d] for d in duals]
        in_specs = [s for s, has in zip(eqn.params["in_specs"], present, strict=True) for h in has if h]
        made = [
            Dual(None if self.own and jaxprs.is_inexact(t) else 0, 0 if jaxprs.is_inexact(t) else None) for t in dtypes
        ]
        out_specs = [s for s, d in zip(eqn.params["out_specs"], made, strict=True) for v in d if v is not None]

        def body(*flat: Any) -> list[Any]:
            values = iter(flat)
            args = [Dual(*(next(values) if h else None for h in has)) for has in present]
            self._inside += 1
            out = list(map(self._carried, self.evaluate(inner, consts, args), dtypes))
            self._inside -= 1
            return [v for d in out for v in d if v is not None]

        given = [v for d in duals for v in d if v is not None]
        results = iter(jaxprs.shard_mapped(eqn, body, in_specs, out_specs)(*given))
        return [Dual(*(None if v is None else next(results) for v in d)) for d in made]

    def _while(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        dtypes = [v.aval.dtype for v in eqn.invars[n_cond + n_body :]]
        carry = list(map(self._carried, duals[n_cond + n_body :], dtypes))
        going, body = self.closed(eqn.params["cond_jaxpr"]), self._looped(eqn.params["body_jaxpr"], math.inf)
        asked, nested = jnp.int32(0 if self.knobs is None else self.knobs.extra), math.isinf(self._repeats)
        extra = -asked if nested else jnp.minimum(asked, int(CONTINUED // max(self._repeats, 1.0)))

        def running(state: list[Dual]) -> Any:
            outer, self._free = self._free, False  # rounding that is simulated might keep it from ever ending
            self._inside += 1
            try:
                return going([*duals[:n_cond], *state])[0].low
            finally:
                self._free = outer
                self._inside -= 1

        # Once it has ended, its own condition is not asked any more: of one that counts to a number by `!=` it would
        # never end again.
        def unfinished(state: tuple[Any, list[Dual]]) -> Any:
            return ((state[0] == 0) & jnp.any(running(state[1]))) | (state[0] < extra)

        def iterate(state: tuple[Any, list[Dual]]) -> tuple[Any, list[Dual]]:
            done = (state[0] > 0) | ~jnp.any(running(state[1]))
            out = body([*duals[n_cond : n_cond + n_body], *state[1]])
            new, tree = jax.tree.flatten(list(map(self._carried, out, dtypes)))
            new = advanced(running(state[1]) | done, new, jax.tree.leaves(state[1]))
            return state[0] + done.astype(jnp.int32), jax.tree.unflatten(tree, new)

        return lax.while_loop(unfinished, iterate, (jnp.int32(0), carry))[1]

    def _cond(self, eqn: Any, duals: list[Dual]) -> list[Dual]:
        dtypes = [v.aval.dtype for v in eqn.outvars]

        def branch(jaxpr: Any) -> Callable[..., list[Dual]]:
            run = self.closed(jaxpr)

            def taken(*operands: Dual) -> list[Dual]:
                self._inside += 1
                try:
                    return list(map(self._carried, run(operands), dtypes))
                finally:
                    self._inside -= 1

            return taken

        return lax.switch(duals[0].low, [branch(j) for j in eqn.params["branches"]], *duals[1:])


def _real(value: Any) -> Any:
    return None if value is None else lax.real(value)


def _high(dual: Dual, dtype: Any) -> Any:
    if dual.high is not None:
        return dual.high
    return lax.convert_element_type(dual.low, wide(dtype)) if jaxprs.is_inexact(dtype) else dual.low


def _gathered(dual: Dual, order: Any, axis: int) -> Dual:
    return Dual(*(None if v is None else jnp.take_along_axis(v, order, axis, mode="promise_in_bounds") for v in dual))


def _aligned(name: str, low: list[Any], high: list[Any]) -> list[Any]:
    """The decomposition in float64 with the signs (phases) of its vectors those of the other one."""
    high = list(high)
    if name == "eig":
        # Its values come in no order: each of the other side's takes the nearest.
        order = jnp.argmin(jnp.abs(low[0][..., :, None] - lax.stop_gradient(high[0])[..., None, :]), -1)
        high[0] = jnp.take_along_axis(high[0], order, -1)
        for k in range(1, len(high)):
            high[k] = jnp.take_along_axis(high[k], order[..., None, :], -1) * _phase(low[k], high[k], order)
        return high
    if name == "svd":
        if len(high) == 3:
            u, v = high[1], high[2]
            m = min(u.shape[-1], v.shape[-2])
            phase = _phase(low[1], u)
            high[1] = u * phase
            mine = jnp.conj(jnp.swapaxes(phase, -1, -2))
            rest = jnp.ones((*mine.shape[:-2], v.shape[-2] - m, 1), mine.dtype)
            high[2] = v * jnp.concatenate([mine[..., :m, :], rest], -2)
        return high
    at = next(k for k, v in enumerate(high) if v.ndim == max(h.ndim for h in high))
    high[at] = high[at] * _phase(low[at], high[at])
    return high


def _phase(low: Any, high: Any, order: Any = None) -> Any:
    """By column, the factor of modulus one that turns the one set of vectors into the other."""
    fixed = lax.stop_gradient(high)
    if order is not None:
        fixed = jnp.take_along_axis(fixed, order[..., None, :], -1)
    along = jnp.sum(jnp.conj(fixed) * low, -2, keepdims=True)
    if not jnp.issubdtype(along.dtype, jnp.complexfloating):
        return jnp.where(along < 0, -1.0, 1.0)
    size = jnp.abs(along)
    return jnp.where(size > 0, along / jnp.where(size > 0, size, 1), 1)


def _widened(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters that name a floating dtype, or an algorithm made for one, made wide."""
    changed: dict[str, Any] = {}
    for name in ("dtype", "new_dtype", "preferred_element_type", "out_dtype"):
        if params.get(name) is not None and jaxprs.is_inexact(params[name]):
            changed[name] = np.dtype(wide(params[name]))
    precision = params.get("precision")
    if precision is not None and not _plain_precision(precision):
        changed["precision"] = None
    return changed


def _plain_precision(precision: Any) -> bool:
    parts = precision if isinstance(precision, tuple) else (precision,)
    return all(part is None or isinstance(part, lax.Precision) for part in parts)


def _exact(value: Any, dtype: Any) -> bool:
    """Whether a literal is (very likely) meant exactly: it needs three bits fewer than its dtype has."""
    mantissa, _ = math.frexp(float(value)) if math.isfinite(float(value)) else (0.0, 0)
    return (mantissa * 2.0 ** max(int(jnp.finfo(dtype).nmant) - 2, 1)).is_integer()


class Program:
    """A function that is evaluated in float64; `opaque` names what could not be widened, after the first call.

    It is traced at its first call, and evaluated equation by equation (see `numerical`).
    """

    def __init__(self, fun: Callable[..., Any], opaque: Callable[[], tuple[str, ...]] = lambda: ()) -> None:
        self._fun, self._names = fun, opaque
        self._plan: Any = None
        self._tree: Any = None

    @property
    def opaque(self) -> tuple[str, ...]:
        """The primitives that kept their dtypes."""
        return self._names()

    def __call__(self, *args: Any) -> Any:
        """The result, as NumPy arrays."""
        flat, tree = jax.tree_util.tree_flatten(args)
        with jax.enable_x64(True):
            if self._plan is None:
                fun = self._fun
                jaxpr, shapes = jaxprs.trace(lambda *values: fun(*jax.tree_util.tree_unflatten(tree, values)), *flat)
                self._plan = Plan(jaxpr)
                self._tree = jax.tree_util.tree_structure(shapes)
            return jax.tree_util.tree_unflatten(self._tree, self._plan(*flat))


class Oracle:
    """`oracle(lows, highs, knobs) -> outputs` in float64 for a closed jaxpr without custom rules; under x64.

    `lows` and `highs` are the flat arguments in the original dtypes and in float64 (None where not floating); the
    outputs are float64 where they are floating. With `rounded` the rounding of every result is simulated, in its own
    dtype but no coarser than `rounded` (for programs that are not differentiated any more), and with `free` it decides,
    too; loops that only carry run for `turns` more iterations. `opaque` names what could not be widened, after the
    first call.
    """

    def __init__(
        self, jaxpr: Any, *, own: bool = False, rounded: float = 0.0, turns: int = 0, free: bool = False
    ) -> None:
        self._inner, self._consts = jaxprs.opened(jaxpr)
        self._own = own
        self._options = {"rounded": rounded, "turns": turns, "free": free}
        self.opaque: tuple[str, ...] = ()

    def ties(self, lows: Sequence[Any]) -> list[Any]:
        """Where numbers of which one is chosen are equal in float64, too, at the point itself (traceable)."""
        if not any(e.primitive.name in CHOICES for e in jaxprs.all_equations(self._inner)):
            return []
        promotion = Promotion()
        promotion.finds_ties = True
        floating = [jaxprs.is_inexact(jax.typeof(lo).dtype) for lo in lows]
        args = [
            Dual(lo, lax.convert_element_type(lo, wide(jax.typeof(lo).dtype)) if f else None)
            for lo, f in zip(lows, floating, strict=True)
        ]
        promotion.evaluate(self._inner, self._consts, args)
        return promotion.ties

    def vectors(self, lows: Sequence[Any], highs: Sequence[Any]) -> list[Any]:
        """The vectors of decompositions whose sign is a matter of convention, as the function has them."""
        promotion = Promotion()
        args = [Dual(lo, hi) for lo, hi in zip(lows, highs, strict=True)]
        promotion.evaluate(self._inner, self._consts, args)
        return promotion.vectors

    def __call__(
        self,
        lows: Sequence[Any],
        highs: Sequence[Any],
        knobs: Knobs | None = None,
        vectors: Sequence[Any] = (),
        ties: Sequence[Any] = (),
    ) -> list[Any]:
        """The outputs, traceable and differentiable with respect to `highs`; `vectors` and `ties` are those of the
        methods so named.
        """
        own = self._own
        promotion = Promotion(own=own, knobs=knobs, **self._options)
        promotion.vectors, promotion.ties = list(vectors), list(ties)
        args = [
            Dual(lo, None) if hi is None else Dual(None if own else lo, hi) for lo, hi in zip(lows, highs, strict=True)
        ]
        out = promotion.evaluate(self._inner, self._consts, args)
        self.opaque = tuple(promotion.opaque)
        return [_high(d, v.aval.dtype) for d, v in zip(out, self._inner.outvars, strict=True)]


def has_gauge(jaxpr: Any) -> bool:
    """Whether a jaxpr holds a decomposition whose vectors have an arbitrary sign."""
    return any(e.primitive.name in GAUGED for e in jaxprs.all_equations(jaxpr))


def highs(lows: Sequence[Any]) -> list[Any]:
    """The float64 twins of concrete flat arguments; None where an argument is not floating."""
    dtypes = [jax.typeof(v).dtype for v in lows]
    return [
        np.asarray(v).astype(wide(dtype)) if jaxprs.is_inexact(dtype) else None
        for v, dtype in zip(lows, dtypes, strict=True)
    ]
