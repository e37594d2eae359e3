"""Arguments for the command line: from specifications such as `f32[3,4]`, or from a function's docstring example."""

import ast
import doctest
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

DTYPES = {
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "c64": "complex64",
    "c128": "complex128",
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    "bool": "bool",
}
_SPEC = re.compile(r"(?P<kind>[a-z]+\d*)(\[(?P<shape>[\d,\s]*)\])?(?P<condition><\d+|>0|=\S+)?")
# Binary by default: valid as a label, a segment or an index wherever there are two of them.
_INTEGERS_BELOW = 2


class ArgumentError(ValueError):
    """The arguments cannot be made from what the command line or the docstring says."""


def split(text: str) -> list[str]:
    """The specifications in a text: separated by spaces, which may also stand inside the brackets."""
    return re.sub(r"\s+(?=[^\[\]]*\])", "", text).split()


def needs_x64(specs: list[str]) -> bool:
    """Whether one of them has 64 bits."""
    return any(re.match(r"(f64|i64|u64|c128)\b", spec) for spec in specs)


def made(specs: list[str], seed: int, scale: float) -> list[Any]:
    """One array a specification.

    Args:
        specs: such as `f32[3,4]` (Gaussian times scale), `f32[4]>0` (their magnitudes), `f32[2]=0` (all equal),
            `i32[5]<10` (uniform in [0, 10)), `bool[3]`, `key`.
        seed: of the numbers; each argument has its own stream, so that one more argument leaves the others as they are.
        scale: the standard deviation of the floating ones.

    Raises:
        ArgumentError: a specification cannot be read.
    """
    return [_array(spec, np.random.default_rng([seed, k]), scale) for k, spec in enumerate(specs)]


def _array(spec: str, rng: np.random.Generator, scale: float) -> Any:
    match = _SPEC.fullmatch(spec)
    kind = match["kind"] if match else None
    if match is None or (kind != "key" and kind not in DTYPES):
        raise ArgumentError(
            f"expected an argument such as f32[3,4], f32[4]>0, f32[2]=0, i32[5]<10, bool[3] or key, got {spec!r}; "
            f"the dtypes are {', '.join(DTYPES)}"
        )
    try:
        shape = tuple(int(n) for n in (match["shape"] or "").split(",") if n.strip())
    except ValueError:
        raise ArgumentError(f"expected a shape such as [3,4], got {spec!r}") from None
    condition = match["condition"] or ""
    if kind == "key":
        if condition:
            raise ArgumentError(f"expected key or key[n], got {spec!r}")
        key = jax.random.key(int(rng.integers(2**31)))
        return jax.random.split(key, shape) if shape else key
    dtype = jnp.dtype(DTYPES[kind])
    return jnp.asarray(np.asarray(_numbers(spec, condition, dtype, shape, rng, scale)).astype(dtype))


def _numbers(
    spec: str, condition: str, dtype: Any, shape: tuple[int, ...], rng: np.random.Generator, scale: float
) -> Any:
    floating = jnp.issubdtype(dtype, jnp.inexact)
    if condition.startswith("="):
        try:
            return np.full(shape, complex(condition[1:]) if dtype.kind == "c" else float(condition[1:]))
        except ValueError:
            raise ArgumentError(f"expected a number after =, got {spec!r}") from None
    if condition.startswith("<") == floating and condition:
        raise ArgumentError(
            f"expected < with integers (i32[5]<10) and >0 with floating dtypes (f32[4]>0), got {spec!r}"
        )
    if dtype.kind == "b":
        if condition:
            raise ArgumentError(f"expected bool[3] or bool[3]=1, got {spec!r}")
        return rng.random(shape) < 0.5
    if not floating:
        below = int(condition[1:]) if condition else _INTEGERS_BELOW
        if below < 1:
            raise ArgumentError(f"expected an upper end of at least 1, got {spec!r}")
        return rng.integers(0, below, size=shape)
    numbers = scale * rng.normal(size=shape)
    if dtype.kind == "c":
        return numbers + 1j * scale * rng.normal(size=shape)
    return np.abs(numbers) if condition else numbers


def from_docstring(fun: Callable[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the first call of `fun` in the examples of its docstring.

    The examples are run in order, as doctest would run them, with the function's module as their names, up to the first
    statement that calls the function with concrete values (a call under `jax.grad` sees tracers and does not count).

    Raises:
        ArgumentError: there is no such example, or one before it fails.
    """
    name = getattr(fun, "__name__", type(fun).__name__)
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(fun) or "")
    if not examples:
        raise ArgumentError(f'{name} has no docstring example (">>> {name}(...)"); give its arguments with --shapes')
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def recorded(*args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(leaf, Tracer) for leaf in jax.tree_util.tree_leaves((args, kwargs))):
            calls.append((args, kwargs))
        return fun(*args, **kwargs)

    module = sys.modules.get(getattr(fun, "__module__", None) or "")
    names = {**vars(module)} if module else {}
    names |= {name: fun, _RECORDER: lambda called: recorded if called is fun else called}
    for example in examples:
        try:
            tree = ast.fix_missing_locations(_Recorded().visit(ast.parse(example.source)))
            exec(compile(tree, f"<docstring of {name}>", "exec"), names)  # as doctest does
        except Exception as error:
            if not calls and example.exc_msg is None:
                raise ArgumentError(
                    f"the docstring example of {name} fails at {example.source.strip()!r}: "
                    f"{type(error).__name__}: {error}"
                ) from error
        if calls:
            return calls[0]
    raise ArgumentError(f"no docstring example of {name} calls it with values; give its arguments with --shapes")


_RECORDER = "__gradcheck_recorded__"


class _Recorded(ast.NodeTransformer):
    """Every f(...) becomes recorder(f)(...), whatever name f has; the recorder knows the function by identity."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.func = ast.Call(ast.Name(_RECORDER, ast.Load()), [node.func], [])
        return node
