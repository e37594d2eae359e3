"""Every public function of JAX and optax with a custom rule inside, at five kinds of input in two dtypes."""

import fnmatch
import importlib
import importlib.util
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.gradcheck_upstream.target import Make, OutsideError, Target, UnsupportedError

MODULES = (
    "jax.nn",
    "jax.numpy",
    "jax.numpy.linalg",
    "jax.scipy.special",
    "optax",
    "optax.losses",
    "optax.projections",
    "optax.perturbations",
)
INPUTS = ("unit", "normal", "large", "tiny", "special")
DTYPES = ("float32", "bfloat16")
SIZE = 6

# What each form of call is made of, in the order in which the forms are tried.
FORMS: dict[str, tuple[str, ...]] = {
    "x": ("vector",),
    "x, y": ("vector", "vector"),
    "n, x": ("order", "vector"),
    "x, y, z": ("vector",) * 3,
    "x, y, z, w": ("vector",) * 4,
    "A": ("matrix",),
    "A, labels": ("matrix", "labels"),
}
# Where the first form that can be traced is not the function's own; and arguments that have to be Python numbers.
FORM_OF = {"expn": "n, x"}
BOUND = {"scale_gradient": (2.0,)}


def argument(kind: str, inputs: str, dtype: Any, place: int) -> Any:
    """One sample argument; `place` makes those of one call differ, except for the ties of the special inputs."""
    rng = np.random.default_rng([INPUTS.index(inputs), place])
    if kind == "order":
        return jnp.asarray([1, 2, 3, 1, 2, 5], jnp.int32)
    if kind == "labels":
        return jnp.asarray([0, 2, 1], jnp.int32)
    shape = (3, 3) if kind == "matrix" else (SIZE,)
    if inputs == "unit":
        value = rng.uniform(0.05, 0.95, shape)
    elif inputs == "special":
        special = [0.0, 1.0, -1.0, 2.0, -3.0, 0.5, 0.0, 4.0, 1.0]
        value = np.asarray(special[: int(np.prod(shape))]).reshape(shape)
    else:
        value = rng.standard_normal(shape) * {"normal": 1.0, "large": 30.0, "tiny": 1e-6}[inputs]
    return jnp.asarray(value.astype(np.float32)).astype(dtype)


def arguments(form: str, inputs: str, dtype: Any) -> tuple:
    """The arguments of one call."""
    return tuple(argument(kind, inputs, dtype, place) for place, kind in enumerate(FORMS[form]))


def rules_inside(jaxpr: Any) -> Iterator[str]:
    """The names of the calls with custom rules in a jaxpr, at any depth."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name.startswith(("custom_jvp_call", "custom_vjp_call")):
            called = eqn.params.get("call_jaxpr") or eqn.params.get("fun_jaxpr")
            info = getattr(getattr(called, "jaxpr", called), "debug_info", None)
            yield getattr(info, "func_name", None) or eqn.primitive.name
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from rules_inside(inner)


def traced(fun: Callable[..., Any], form: str) -> tuple[str, ...] | None:
    """The rules in the program of one form of call; None where the function cannot be called so."""
    try:
        closed = jax.make_jaxpr(fun)(*arguments(form, "unit", jnp.float32))
    except Exception:  # any function, called with anything: whatever it raises says no more than "not so"
        return None
    return tuple(dict.fromkeys(rules_inside(closed.jaxpr)))


def is_function(value: Any) -> bool:
    """Whether a module's attribute can be called and is no class."""
    return callable(value) and not inspect.isclass(value) and not inspect.ismodule(value)


def _with(fun: Callable[..., Any], last: tuple) -> Callable[..., Any]:
    return lambda *args: fun(*args, *last)


def in_domain(fun: Callable[..., Any], args: tuple) -> tuple | None:
    """The arguments without the elements at which an elementwise function is not finite; None if nothing is left."""
    out = [np.asarray(leaf, np.complex128) for leaf in jax.tree.leaves(fun(*args))]
    finite = [np.isfinite(leaf) for leaf in out]
    if all(f.all() for f in finite):
        return args
    elementwise = all(f.shape == (SIZE,) for f in finite) and all(np.shape(a) in ((), (SIZE,)) for a in args)
    keep = np.logical_and.reduce(finite) if elementwise else np.zeros(SIZE, bool)
    if not keep.any():
        return None
    places = np.flatnonzero(keep)
    return tuple(a[places] if np.ndim(a) else a for a in args)


def sample(fun: Callable[..., Any], form: str, inputs: str, dtype: str) -> Make:
    """The arguments of one kind, within the domain of the function.

    Raises (when called):
        OutsideError: the value is finite nowhere.
        UnsupportedError: the function does not take this dtype.
    """

    def make() -> tuple:
        try:
            args = in_domain(fun, arguments(form, inputs, jnp.dtype(dtype)))
        except (TypeError, ValueError, NotImplementedError) as error:
            raise UnsupportedError(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error
        if args is None:
            raise OutsideError("the value is not finite")
        return args

    return make


def targets(pattern: str = "*") -> list[Target]:
    """Every public function of the modules in which a custom rule is called, each once."""
    found: list[Target] = []
    seen: set[int] = set()
    for module_name in MODULES:
        if importlib.util.find_spec(module_name.split(".")[0]) is None:
            continue
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue
        for name in sorted(n for n in dir(module) if not n.startswith("_")):
            fun = getattr(module, name)
            full = f"{module_name}.{name}"
            if not is_function(fun) or id(fun) in seen or not fnmatch.fnmatch(full, pattern):
                continue
            for form in [FORM_OF[name]] if name in FORM_OF else FORMS:
                called = _with(fun, BOUND[name]) if name in BOUND else fun
                rules = traced(called, form)
                if rules:
                    kinds = itertools.product(DTYPES, INPUTS)
                    inputs = {f"{kind}, {dtype}": sample(called, form, kind, dtype) for dtype, kind in kinds}
                    found.append(Target(f"{full}", called, inputs, rules))
                    seen.add(id(fun))
                    break
    return found
