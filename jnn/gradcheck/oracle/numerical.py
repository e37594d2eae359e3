"""A jaxpr evaluated equation by equation in NumPy: what an oracle needs that runs a few times on small arrays.

Compiling a program costs a hundred milliseconds and more, running it once on small arrays a hundred microseconds: for
programs that run a few times, NumPy is the cheaper machine. Every equation is rounded once to its own dtype, and sums
of coarse dtypes are accumulated in float32: this is what a careful implementation commits, too. What NumPy does not
have (factorizations, convolutions, special functions, callbacks) is evaluated by JAX, equation by equation; loops of
many iterations are compiled after all.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jnn.gradcheck.oracle import jaxprs

LONG = 20_000
"""A loop is compiled as soon as it has evaluated, or is about to evaluate, so many equations altogether."""

MOST = 100_000_000
"""Equations that one check evaluates at most, those of compiled loops included: some 20 to 100 seconds on one core."""

_left: contextvars.ContextVar[list[int] | None] = contextvars.ContextVar("left", default=None)


class Exhausted(BaseException):
    """A check has done all the work that it may; no Exception, so that it is not taken for a primitive's refusal."""


@contextlib.contextmanager
def bounded(most: int) -> Iterator[None]:
    """Let what is evaluated inside take so many equations altogether; the clock is not asked.

    A while loop inside a compiled one counts as a single iteration: its own are not known.

    Raises:
        Exhausted: it would take more.
    """
    token = _left.set([most])
    try:
        yield
    finally:
        _left.reset(token)


def spend(equations: int) -> None:
    """Take the work off what is left."""
    left = _left.get()
    if left is not None:
        left[0] -= equations
        if left[0] < 0:
            raise Exhausted


Values = list[Any]
Step = Callable[[Values], Values]

PURE = {"scan", "while", "cond", "pure_callback", "debug_callback", "debug_print", *jaxprs.INLINE}
SMALL = {"scatter", "scatter-add", "scatter_add", "reduce", "custom_linear_solve"}
"""Primitives that hold a jaxpr only for their combiner; they are evaluated on their own."""

QUICK: dict[str, Any] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # pyright: ignore[reportAttributeAccessIssue]
    QUICK["xla_cpu_use_fusion_emitters"] = False  # newer ones have one kind of emitters; of the two, these are quicker


def quick(fun: Callable[..., Any]) -> Any:
    """`jax.jit` for programs that run once or twice: on CPU compiled with fewer optimizations."""
    if jax.default_backend() == "cpu":
        return jax.jit(fun, compiler_options=QUICK)
    return jax.jit(fun)


class Plan:
    """A jaxpr, ready to be evaluated: `plan(*args)` returns its outputs as NumPy arrays.

    Keys and what else NumPy cannot hold stay JAX arrays. Equations that no output depends on are left out, and values
    are let go of after their last use.

    Args:
        jaxpr: open or closed.
        consts: of an open one.
        wanted: by output, whether it is wanted; None is returned in place of the others.
    """

    def __init__(self, jaxpr: Any, consts: Sequence[Any] = (), wanted: Sequence[bool] | None = None) -> None:
        inner, found = jaxprs.opened(jaxpr, consts)
        self._inputs = [*inner.constvars, *inner.invars]
        self._consts = [held(c) for c in found]
        wanted = [True] * len(inner.outvars) if wanted is None else wanted
        self._outputs = [v if w else None for v, w in zip(inner.outvars, wanted, strict=True)]
        eqns, self._needed = live(inner, wanted)
        last: dict[Any, int] = {}
        for k, eqn in enumerate(eqns):
            last.update((v, k) for v in eqn.invars if not jaxprs.is_literal(v))
        kept = {v for v in self._outputs if v is not None and not jaxprs.is_literal(v)}
        self._eqns = []
        for k, eqn in enumerate(eqns):
            read = dict.fromkeys(v for v in eqn.invars if not jaxprs.is_literal(v))
            gone = [v for v in read if last[v] == k and v not in kept]
            gone += [v for v in eqn.outvars if v not in last and v not in kept]
            used = [v in last or v in kept for v in eqn.outvars]
            self._eqns.append((implementation(eqn, used), eqn.invars, eqn.outvars, gone))
        self.weight = sum(weight(eqn) for eqn in eqns)
        self.needed = [v in self._needed for v in inner.invars]

    def __call__(self, *args: Any) -> Values:
        """Evaluate on concrete arrays."""
        spend(len(self._eqns))
        values = [*self._consts, *args]
        env = {v: held(x) for v, x in zip(self._inputs, values, strict=True) if v in self._needed}
        del args, values

        def read(atom: Any) -> Any:
            return _literal(atom) if jaxprs.is_literal(atom) else env[atom]

        with np.errstate(all="ignore"):
            for run, invars, outvars, gone in self._eqns:
                env.update(zip(outvars, run([read(a) for a in invars]), strict=True))
                for v in gone:
                    env.pop(v, None)
        return [None if a is None else read(a) for a in self._outputs]


def live(jaxpr: Any, wanted: Sequence[bool]) -> tuple[list[Any], set[Any]]:
    """(the equations of an open jaxpr that the wanted outputs depend on, the variables that these read)."""
    needed = {v for v, w in zip(jaxpr.outvars, wanted, strict=True) if w and not jaxprs.is_literal(v)}
    kept = []
    for eqn in reversed(jaxpr.eqns):
        if any(v in needed for v in eqn.outvars) or (eqn.effects and eqn.primitive.name not in PURE):
            kept.append(eqn)
            needed |= {v for v in eqn.invars if not jaxprs.is_literal(v)}
    return kept[::-1], needed


def held(value: Any) -> Any:
    """A value as a NumPy array, or as it is where NumPy cannot hold it."""
    if isinstance(value, np.ndarray) or value is None:
        return value
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.extended):
        return value
    return np.asarray(value)


def _literal(atom: Any) -> np.ndarray:
    return np.asarray(atom.val, atom.aval.dtype)


def weight(eqn: Any, turns: int = 20) -> int:
    """How many equations an evaluation takes, if a while loop has so many turns."""
    inside = sum(weight(e, turns) for sub in jaxprs.subjaxprs(eqn) for e in jaxprs.opened(sub)[0].eqns)
    times = {"scan": int(eqn.params.get("length", 1)), "while": turns}
    return 1 + times.get(eqn.primitive.name, 1) * inside


def implementation(eqn: Any, used: Sequence[bool]) -> Step:
    """How one equation is evaluated, of whose outputs some are used."""
    name = eqn.primitive.name
    if name in jaxprs.RULES or name in jaxprs.INLINE:
        plan = Plan(jaxprs.body(eqn), wanted=used)
        return lambda values: plan(*values)
    if name in CONTROL:
        return CONTROL[name](eqn, used)
    extended = any(_extended(v.aval) for v in (*eqn.invars, *eqn.outvars))
    if name in SEVERAL and not extended:
        return _several(eqn, SEVERAL[name])
    made = ARRAYS.get(name)
    if made is None or extended:
        return _by_jax(eqn)
    dtype, params = np.dtype(eqn.outvars[0].aval.dtype), eqn.params
    slow = _by_jax(eqn)

    def run(values: Values) -> Values:
        try:
            out = made(params, *values)
        except (TypeError, ValueError, OverflowError):  # a dtype or a value that the function does not take
            return slow(values)
        return [out if out.__class__ is np.ndarray and out.dtype == dtype else np.asarray(out).astype(dtype)]

    return run


def _several(eqn: Any, made: Callable[..., Values]) -> Step:
    slow, params = _by_jax(eqn), eqn.params

    def run(values: Values) -> Values:
        try:
            return made(params, *values)
        except (TypeError, ValueError):
            return slow(values)

    return run


def _extended(aval: Any) -> bool:
    dtype = getattr(aval, "dtype", None)
    return dtype is None or jnp.issubdtype(dtype, jax.dtypes.extended) or dtype == jax.dtypes.float0


def _by_jax(eqn: Any) -> Step:
    if any(True for _ in jaxprs.subjaxprs(eqn)) and eqn.primitive.name not in SMALL:
        compiled, equations = quick(lambda values: jaxprs.bind(eqn, values)), weight(eqn, 1)

        def run(values: Values) -> Values:
            spend(equations)
            return [held(v) for v in compiled(values)]

        return run
    return lambda values: [held(v) for v in jaxprs.bind(eqn, [_arrayed(v) for v in values])]


def _arrayed(value: Any) -> Any:
    return jnp.asarray(value) if isinstance(value, np.ndarray) else value


# -- loops ------------------------------------------------------------------------------------------------------------


def _scan(eqn: Any, used: Sequence[bool]) -> Step:
    n_consts, n_carry = jaxprs.scan_arity(eqn)
    length, reverse = int(eqn.params["length"]), eqn.params["reverse"]
    extended = any(_extended(v.aval) for v in (*eqn.invars, *eqn.outvars))
    wanted = list(used)
    while True:  # a part of the carry that only unused parts depend on is not carried
        plan = Plan(eqn.params["jaxpr"], wanted=wanted) if not extended else None
        if plan is None or length * plan.weight > LONG:
            return _by_jax(eqn)
        more = [w or plan.needed[n_consts + k] for k, w in enumerate(wanted[:n_carry])] + wanted[n_carry:]
        if more == wanted:
            break
        wanted = more
    shapes = [(v.aval.shape, v.aval.dtype) if w else None
              for v, w in zip(eqn.outvars[n_carry:], wanted[n_carry:], strict=True)]  # fmt: skip

    compiled, done = _by_jax(eqn), [0]

    def run(values: Values) -> Values:
        done[0] += length * plan.weight
        if done[0] > LONG:
            return compiled(values)
        consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
        ys = [None if s is None else np.empty(*s) for s in shapes]
        for k in range(length - 1, -1, -1) if reverse else range(length):
            out = plan(*consts, *carry, *(x[k] for x in xs))
            carry = out[:n_carry]
            for y, value in zip(ys, out[n_carry:], strict=True):
                if y is not None:
                    y[k] = value
        return [*carry, *ys]

    return run


def _while(eqn: Any, used: Sequence[bool]) -> Step:
    n_cond, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    going, body = Plan(eqn.params["cond_jaxpr"]), Plan(eqn.params["body_jaxpr"])
    if jaxprs.opened(eqn.params["cond_jaxpr"])[0].outvars[0].aval.ndim or any(_extended(v.aval) for v in eqn.invars):
        return _by_jax(eqn)  # the loop of a vmap
    each, done = going.weight + body.weight, [0]
    rest = _in_parts(eqn)

    def run(values: Values) -> Values:
        cond, consts, state = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]
        while done[0] <= LONG:
            done[0] += each
            if not going(*cond, *state)[0]:
                return state
            state = body(*consts, *state)
        return rest(cond, consts, state)

    return run


def _in_parts(eqn: Any) -> Callable[[Values, Values, Values], Values]:
    """A while loop, compiled, that comes back after some iterations to have them counted."""
    going, body = (core.jaxpr_as_fun(eqn.params[name]) for name in ("cond_jaxpr", "body_jaxpr"))
    each = weight(eqn, 1)
    most = max(10 * LONG // each, 1)

    @quick
    def part(cond: Values, consts: Values, state: Values) -> tuple[Any, Values]:
        return jax.lax.while_loop(
            lambda s: (s[0] < most) & going(*cond, *s[1])[0],
            lambda s: (s[0] + 1, body(*consts, *s[1])),
            (0, state),
        )

    def run(cond: Values, consts: Values, state: Values) -> Values:
        count = most
        while count == most:
            count, state = part(cond, consts, state)
            count = int(count)
            spend(count * each)
        return [held(v) for v in state]

    return run


def _cond(eqn: Any, used: Sequence[bool]) -> Step:
    branches = [Plan(b, wanted=used) for b in eqn.params["branches"]]

    def run(values: Values) -> Values:
        return branches[int(np.clip(int(values[0]), 0, len(branches) - 1))](*values[1:])

    return run


CONTROL: dict[str, Callable[[Any, Sequence[bool]], Step]] = {"scan": _scan, "while": _while, "cond": _cond}


# -- arrays -----------------------------------------------------------------------------------------------------------


def _wider(x: np.ndarray) -> np.ndarray:
    """What sums are accumulated in: float32 at least."""
    return x.astype(np.float32) if x.dtype.itemsize < 4 and jnp.issubdtype(x.dtype, jnp.floating) else x


def _dot_general(p: dict[str, Any], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (ca, cb), (ba, bb) = p["dimension_numbers"]
    wanted = p.get("preferred_element_type")
    a, b = _wider(a), _wider(b)
    if wanted is not None and np.dtype(wanted).itemsize > a.dtype.itemsize:
        a, b = a.astype(wanted), b.astype(wanted)
    fa = [k for k in range(a.ndim) if k not in ca and k not in ba]
    fb = [k for k in range(b.ndim) if k not in cb and k not in bb]
    batch, inner = [a.shape[k] for k in ba], math.prod(a.shape[k] for k in ca)
    left = a.transpose(*ba, *fa, *ca).reshape(*batch, math.prod(a.shape[k] for k in fa), inner)
    right = b.transpose(*bb, *cb, *fb).reshape(*batch, inner, math.prod(b.shape[k] for k in fb))
    out = np.matmul(left, right)
    return out.reshape(*batch, *(a.shape[k] for k in fa), *(b.shape[k] for k in fb))


def _broadcast_in_dim(p: dict[str, Any], x: np.ndarray, *_: Any) -> np.ndarray:
    shape = [1] * len(p["shape"])
    for k, d in enumerate(p["broadcast_dimensions"]):
        shape[d] = x.shape[k]
    return np.broadcast_to(x.reshape(shape), p["shape"])


def _pad(p: dict[str, Any], x: np.ndarray, value: np.ndarray) -> np.ndarray:
    config = p["padding_config"]
    shape = [lo + hi + max(n + (n - 1) * inner, 0) for n, (lo, hi, inner) in zip(x.shape, config, strict=True)]
    spread = [max(n + (n - 1) * inner, 0) for n, (_, _, inner) in zip(x.shape, config, strict=True)]
    full = np.full(spread, value, x.dtype)
    full[tuple(slice(None, None, inner + 1) for *_, inner in config)] = x
    out = np.full(shape, value, x.dtype)
    source, target = [], []
    for n, (lo, hi, _) in zip(spread, config, strict=True):
        source.append(slice(max(-lo, 0), max(n - max(-hi, 0), max(-lo, 0))))
        target.append(slice(max(lo, 0), max(lo, 0) + source[-1].stop - source[-1].start))
    out[tuple(target)] = full[tuple(source)]
    return out


def _starts(operand: np.ndarray, sizes: Sequence[int], starts: Sequence[Any]) -> tuple[slice, ...]:
    at = [min(max(int(s), 0), n - size) for s, n, size in zip(starts, operand.shape, sizes, strict=True)]
    return tuple(slice(s, s + size) for s, size in zip(at, sizes, strict=True))


def _dynamic_slice(p: dict[str, Any], x: np.ndarray, *starts: Any) -> np.ndarray:
    return x[_starts(x, p["slice_sizes"], starts[: x.ndim])]


def _dynamic_update_slice(p: dict[str, Any], x: np.ndarray, update: np.ndarray, *starts: Any) -> np.ndarray:
    out = x.copy()
    out[_starts(x, update.shape, starts)] = update
    return out


def _mode(p: dict[str, Any]) -> str:
    return str(p["mode"]).rsplit(".", 1)[-1].lower()


def _windows(
    shape: Sequence[int], indices: np.ndarray, window: Sequence[int], start_map: Sequence[int], batch: Any
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """(by dimension of the operand the index of every element of every window, whether the window lies inside)."""
    lead, ndim = indices.shape[:-1], len(shape)
    bases = [np.zeros(lead, np.int64) for _ in shape]
    for k, d in enumerate(start_map):
        bases[d] = indices[..., k].astype(np.int64)
    for d, at in zip(*batch, strict=True):
        axis = [1] * len(lead)
        axis[at] = lead[at]
        bases[d] = np.broadcast_to(np.arange(lead[at]).reshape(axis), lead)
    inside = np.ones(lead, bool)
    for d in start_map:
        inside &= (bases[d] >= 0) & (bases[d] + window[d] <= shape[d])
    clipped = [np.clip(b, 0, max(n - w, 0)) for b, n, w in zip(bases, shape, window, strict=True)]
    places = []
    for d in range(ndim):
        offsets = [1] * ndim
        offsets[d] = window[d]
        places.append(clipped[d].reshape(*lead, *[1] * ndim) + np.arange(window[d]).reshape(offsets))
    full = (*lead, *window)
    return tuple(np.broadcast_to(p, full) for p in places), inside


def _gather(p: dict[str, Any], x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    d, window, mode = p["dimension_numbers"], p["slice_sizes"], _mode(p)
    batch = (getattr(d, "operand_batching_dims", ()), getattr(d, "start_indices_batching_dims", ()))
    places, inside = _windows(x.shape, indices, window, d.start_index_map, batch)
    out = x[places] if x.ndim else np.broadcast_to(x, indices.shape[:-1])
    lead = indices.ndim - 1
    if "fill" in mode:
        fill = p["fill_value"]
        if fill is None:
            kind = x.dtype
            fill = np.nan if jnp.issubdtype(kind, jnp.inexact) else _extreme(kind)
        out = np.where(inside.reshape(*inside.shape, *[1] * x.ndim), out, np.asarray(fill).astype(x.dtype))
    dropped = {*d.collapsed_slice_dims, *batch[0]}
    out = out.reshape(*indices.shape[:-1], *(n for k, n in enumerate(window) if k not in dropped))
    rank = out.ndim
    others = iter(range(lead))
    windows = iter(range(lead, rank))
    return out.transpose([next(windows) if k in d.offset_dims else next(others) for k in range(rank)])


def _extreme(dtype: np.dtype) -> int:
    if dtype.kind == "b":
        return 1
    info = np.iinfo(dtype)
    return int(info.min if info.min < 0 else info.max)


def _scatter(combine: str) -> Callable[..., np.ndarray]:
    def run(p: dict[str, Any], x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        d = p["dimension_numbers"]
        batch = (getattr(d, "operand_batching_dims", ()), getattr(d, "scatter_indices_batching_dims", ()))
        inserted = {*d.inserted_window_dims, *batch[0]}
        sizes = iter(updates.shape[k] for k in d.update_window_dims)
        window = [1 if k in inserted else next(sizes) for k in range(x.ndim)]
        clip = "clip" in _mode(p)
        places, inside = _windows(x.shape, indices, window, d.scatter_dims_to_operand_dims, batch)
        others = [k for k in range(updates.ndim) if k not in d.update_window_dims]
        moved = updates.transpose(*others, *d.update_window_dims).reshape(*indices.shape[:-1], *window)
        if not clip:
            places = tuple(q[inside] for q in places)
            moved = moved[inside]
        wide = _wider(x) if combine in ("add", "sub") else x
        out = wide.copy() if wide is x else wide
        moved = moved.astype(out.dtype)
        if combine == "set":
            out[places] = moved
        else:
            COMBINE[combine].at(out, places, moved)
        return out

    return run


COMBINE: dict[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def _reduced(fun: Callable[..., Any]) -> Callable[..., np.ndarray]:
    return lambda p, x, *_: fun(_wider(x), axis=tuple(p["axes"]))


def _arg(fun: Callable[..., Any]) -> Callable[..., np.ndarray]:
    return lambda p, x: fun(x, axis=p["axes"][0])


def _cumulated(fun: Any) -> Callable[..., np.ndarray]:
    def run(p: dict[str, Any], x: np.ndarray) -> np.ndarray:
        axis = p["axis"]
        turned = np.flip(x, axis) if p["reverse"] else x
        out = fun.accumulate(_wider(turned), axis=axis)
        return np.flip(out, axis) if p["reverse"] else out

    return run


def _integer_pow(p: dict[str, Any], x: np.ndarray) -> np.ndarray:
    y = int(p["y"])
    if y in (2, 3):
        return x * x if y == 2 else x * x * x
    if y == -1:
        return 1 / x
    if x.dtype.itemsize < 4:
        return np.power(x.astype(np.float32), np.float32(y))
    return np.power(x, x.dtype.type(y)) if np.issubdtype(x.dtype, np.inexact) else x**y


def _pow(p: dict[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.power(x, y.astype(x.dtype))


def _convert(p: dict[str, Any], x: np.ndarray) -> np.ndarray:
    wanted = np.dtype(p["new_dtype"])
    if np.issubdtype(x.dtype, np.complexfloating) and not np.issubdtype(wanted, np.complexfloating):
        x = np.real(x)
    return x.astype(wanted, copy=False)


def _select(p: dict[str, Any], which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    if len(cases) == 1:
        return cases[0]
    if which.dtype == bool:
        return np.where(which, cases[1], cases[0])
    out = cases[0]
    for k, case in enumerate(cases[1:], 1):
        out = np.where(which >= k, case, out)
    return out


def _logistic(x: np.ndarray) -> np.ndarray:
    return x.dtype.type(1) / (x.dtype.type(1) + np.exp(-x))


def _div(p: dict[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if np.issubdtype(x.dtype, np.integer):
        quotient = np.floor_divide(np.abs(x), np.abs(np.where(y == 0, 1, y)))
        return np.where(y == 0, -1, quotient * np.sign(x) * np.sign(y))
    return np.divide(x, y)


def _rem(p: dict[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.fmod(x, y)


def _round(p: dict[str, Any], x: np.ndarray) -> np.ndarray:
    if int(p["rounding_method"]) == 1:
        return np.rint(x)
    return np.trunc(x + np.copysign(x.dtype.type(0.5), x))


def _bitcast(p: dict[str, Any], x: np.ndarray) -> np.ndarray:
    wanted = np.dtype(p["new_dtype"])
    if wanted.itemsize != x.dtype.itemsize:
        return np.asarray(jax.lax.bitcast_convert_type(jnp.asarray(x), wanted))
    return np.ascontiguousarray(x).view(wanted).reshape(x.shape)


def _reshape(p: dict[str, Any], x: np.ndarray, *_: Any) -> np.ndarray:
    turned = x if p.get("dimensions") is None else x.transpose(p["dimensions"])
    return turned.reshape(p["new_sizes"])


def _iota(p: dict[str, Any], *_: Any) -> np.ndarray:
    shape, dimension = p["shape"], p["dimension"]
    line = [1] * len(shape)
    line[dimension] = shape[dimension]
    return np.broadcast_to(np.arange(shape[dimension]).astype(p["dtype"]).reshape(line), shape)


def _slice(p: dict[str, Any], x: np.ndarray) -> np.ndarray:
    strides = p["strides"] or (1,) * x.ndim
    return x[tuple(slice(*s) for s in zip(p["start_indices"], p["limit_indices"], strides, strict=True))]


def _same(p: dict[str, Any], x: np.ndarray, *_: Any) -> np.ndarray:
    return x


def _unary(fun: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p, x: fun(x)


def _binary(fun: Callable[..., Any]) -> Callable[..., Any]:
    return lambda p, x, y: fun(x, y)


def _elementwise(fun: Callable[[float], float]) -> Callable[..., np.ndarray]:
    return lambda x: np.array([fun(v) for v in x.ravel().tolist()], np.float64).reshape(x.shape)


def _sort(p: dict[str, Any], *operands: np.ndarray) -> Values:
    axis = p["dimension"]
    if p["num_keys"] != 1:
        order = np.lexsort(tuple(operands[k] for k in range(p["num_keys"] - 1, -1, -1)), axis=axis)
    elif len(operands) == 1:
        return [np.sort(operands[0], axis=axis, kind="stable")]
    else:
        order = np.argsort(operands[0], axis=axis, kind="stable")
    return [np.take_along_axis(v, order, axis) for v in operands]


def _top_k(p: dict[str, Any], x: np.ndarray) -> Values:
    axis = p.get("axis", x.ndim - 1)
    if np.isnan(x).any() or not x.all():
        raise ValueError("JAX puts NaN first, and 0 before −0")
    order = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    places = x.shape[axis] - 1 - np.take(order, np.arange(p["k"]), axis)
    return [np.take_along_axis(x, places, axis), places.astype(np.int32)]


_UNARY: dict[str, Callable[..., Any]] = {
    "neg": np.negative, "exp": np.exp, "log": np.log, "exp2": np.exp2, "log1p": np.log1p, "expm1": np.expm1,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "sqrt": np.sqrt, "rsqrt": lambda x: x.dtype.type(1) / np.sqrt(x), "abs": np.abs, "sign": np.sign,
    "floor": np.floor, "ceil": np.ceil, "square": np.square, "is_finite": np.isfinite, "logistic": _logistic,
    "real": np.real, "imag": np.imag, "conj": np.conj, "not": np.invert, "cbrt": np.cbrt,
    "erf": _elementwise(math.erf), "erfc": _elementwise(math.erfc), "lgamma": _elementwise(math.lgamma),
}  # fmt: skip
_BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
    "atan2": np.arctan2, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "complex": lambda x, y: x + 1j * y, "nextafter": np.nextafter,
}  # fmt: skip


def _shift(fun: Any) -> Callable[..., Any]:
    def run(p: dict[str, Any], x: np.ndarray, y: np.ndarray) -> np.ndarray:
        bits = 8 * x.dtype.itemsize
        out = fun(x, np.minimum(y, bits - 1).astype(x.dtype))
        return np.where(y < bits, out, 0)

    return run


def _logical_right(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    return np.right_shift(x.view(unsigned), y.view(unsigned)).view(x.dtype)


ARRAYS: dict[str, Callable[..., Any]] = {
    **{name: _unary(fun) for name, fun in _UNARY.items()},
    **{name: _binary(fun) for name, fun in _BINARY.items()},
    "div": _div,
    "rem": _rem,
    "pow": _pow,
    "integer_pow": _integer_pow,
    "round": _round,
    "clamp": lambda p, low, x, high: np.minimum(np.maximum(x, low), high),
    "select_n": _select,
    "convert_element_type": _convert,
    "bitcast_convert_type": _bitcast,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "transpose": lambda p, x: x.transpose(p["permutation"]),
    "squeeze": lambda p, x: x.reshape([n for k, n in enumerate(x.shape) if k not in set(p["dimensions"])]),
    "slice": _slice,
    "rev": lambda p, x: np.flip(x, tuple(p["dimensions"])),
    "tile": lambda p, x: np.tile(x, tuple(p["reps"])),
    "stack": lambda p, *values: np.stack(values, axis=p["axis"]),
    "concatenate": lambda p, *values: np.concatenate(values, axis=p["dimension"]),
    "pad": _pad,
    "iota": _iota,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "scatter": _scatter("set"),
    **{f"scatter{dash}{kind}": _scatter(kind) for kind in COMBINE for dash in "-_"},
    "dot_general": _dot_general,
    "reduce_sum": _reduced(np.sum),
    "reduce_prod": _reduced(np.prod),
    "reduce_max": _reduced(np.max),
    "reduce_min": _reduced(np.min),
    "reduce_and": _reduced(np.all),
    "reduce_or": _reduced(np.any),
    "argmax": _arg(np.argmax),
    "argmin": _arg(np.argmin),
    "cumsum": _cumulated(np.add),
    "cumprod": _cumulated(np.multiply),
    "cummax": _cumulated(np.maximum),
    "cummin": _cumulated(np.minimum),
    "cumlogsumexp": _cumulated(np.logaddexp),
    "shift_left": _shift(np.left_shift),
    "shift_right_logical": _shift(_logical_right),
    "shift_right_arithmetic": _shift(np.right_shift),
    **dict.fromkeys(
        ("copy", "copy_p", "name", "stop_gradient", "pvary", "sharding_constraint", "optimization_barrier_"), _same
    ),
}
"""By primitive, a function of its parameters and of NumPy arrays."""

SEVERAL: dict[str, Callable[..., Values]] = {
    "split": lambda p, x: np.split(x, np.cumsum(p["sizes"])[:-1], axis=p["axis"]),
    "sort": _sort,
    "top_k": _top_k,
    "unstack": lambda p, x: list(np.moveaxis(x, p["axis"], 0)),
}
"""The same of primitives with several results."""
