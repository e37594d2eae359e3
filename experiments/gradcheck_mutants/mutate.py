"""Mutations of a backward pass, made on its syntax tree: one change at one place."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from experiments.mutation import Replace, described, filled, name_of, of_arithmetic, parsed

KINDS = (
    "sign",
    "factor",
    "dropped term",
    "transposed",
    "stale residual",
    "wrong axis",
    "accumulation dtype",
    "border",
)

# Functions whose argument stands for what was saved before they were applied.
ACTIVATIONS = {"tanh", "sigmoid", "softmax_of", "exp", "rsqrt", "cos", "sin"}


@dataclass(frozen=True)
class Mutant:
    """One mutated backward pass; `what` is the changed expression, before and after.

    `right` is what is right beside it, where that is not the rule itself: the sum of the same rounded terms in float32.
    """

    kind: str
    what: str
    backward: Callable[..., Any]
    right: Callable[..., Any] | None = None


def of_product(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    """Changes of a matrix product."""
    left, right = node.left, node.right
    yield "transposed", ast.BinOp(right, ast.MatMult(), left)
    for side in ("coarsely(a) @ b", "a @ coarsely(b)"):
        yield "accumulation dtype", filled(side, a=left, b=right)


def of_call(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Changes of a reduction or of an activation."""
    name = name_of(node)
    if name == "total":
        axis = node.args[1]
        assert isinstance(axis, ast.Constant)
        yield "wrong axis", filled(f"total(x, {0 if axis.value else 1})", x=node.args[0])
        yield "accumulation dtype", filled(f"coarse_total(x, {axis.value})", x=node.args[0])
        yield "border", filled(f"total(x[1:], {axis.value})", x=node.args[0])
        yield "border", filled(f"total(x[:-1], {axis.value})", x=node.args[0])
    if name in ("sum", "mean") and node.keywords:
        yield "factor", filled("jnp.sum(x)" if name == "mean" else "jnp.mean(x)", x=node.args[0])
        yield "accumulation dtype", filled("coarsely(x)", x=node)
    if name in ACTIVATIONS and len(node.args) == 1:
        yield "stale residual", node.args[0]


def of_keyword(node: ast.keyword) -> Iterator[tuple[str, ast.expr]]:
    if node.arg == "axis" and isinstance(node.value, (ast.Constant, ast.UnaryOp)):
        axis = ast.literal_eval(node.value)
        yield "wrong axis", parsed("0" if axis in (-1, 1) else "-1")


def of_leaf(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """Changes of a returned cotangent."""
    for kind, text in (
        ("sign", "-x"),
        ("factor", "2 * x"),
        ("factor", "x * 1.1"),
        ("factor", "x * 1.02"),
        ("factor", "x * 1.001"),
        ("factor", "0 * x"),
        ("transposed", "jnp.swapaxes(x, -1, -2)"),
        ("transposed", "jnp.flip(x)"),
        ("border", "jnp.asarray(x).at[..., -1].set(0)"),
        ("border", "jnp.asarray(x).at[0].set(0)"),
        ("border", "jnp.roll(x, 1)"),
        ("accumulation dtype", "coarsely(x)"),
        ("sign", "jnp.abs(x)"),
    ):
        yield kind, filled(text, x=node)


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every change of one node, with its kind."""
    yield from of_arithmetic(node)
    match node:
        case ast.BinOp(op=ast.MatMult()):
            yield from of_product(node)
        case ast.Call():
            yield from of_call(node)
        case ast.keyword():
            for kind, value in of_keyword(node):
                yield kind, ast.keyword(node.arg, value)
        case ast.Constant(value=float(value)):
            yield "factor", ast.Constant(value * 1.05)


def residuals(function: ast.FunctionDef) -> list[str]:
    """The names that the backward pass unpacks from what was saved."""
    first = function.body[0]
    assert isinstance(first, ast.Assign)
    assert isinstance(first.targets[0], ast.Tuple)
    return [name.id for name in first.targets[0].elts if isinstance(name, ast.Name)]


def stale(function: ast.FunctionDef) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """A residual read for its neighbour, once."""
    names = [name for name in residuals(function) if name != "_"]
    neighbours = dict(zip(names, names[1:] + names[:1], strict=True))
    for node in ast.walk(ast.Module(function.body[1:], [])):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            other = neighbours.get(node.id, node.id)
            if other != node.id:
                yield "stale residual", node, ast.Name(other, ast.Load())


def sites(function: ast.FunctionDef) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """Every (kind, node, what it becomes) in a backward pass."""
    for node in ast.walk(ast.Module(function.body[1:], [])):
        for kind, new in changes(node):
            yield kind, node, new
        if isinstance(node, ast.Return):
            assert isinstance(node.value, ast.Tuple)
            for leaf in node.value.elts:
                if not (isinstance(leaf, ast.Constant) and leaf.value is None):
                    for kind, new in of_leaf(leaf):
                        yield kind, leaf, new
    yield from stale(function)


def mutants(backward: Callable[..., Any]) -> Iterator[Mutant]:
    """Every mutant of a backward pass, in the order of its text; some will raise, and some will change nothing."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(backward)))
    seen = {ast.unparse(tree)}
    for kind, old, new in list(sites(only(tree))):
        text = Replace(old, new).text(tree)
        if text not in seen:
            seen.add(text)
            careful = text.replace("coarse_total(", "careful_total(")
            yield Mutant(
                kind,
                described(old, new),
                _defined(text, backward),
                _defined(careful, backward) if careful != text else None,
            )


def _defined(text: str, backward: Callable[..., Any]) -> Callable[..., Any]:
    """The function of that text in the place of `backward`."""
    names: dict[str, Any] = {}
    exec(compile(text, f"<mutant of {backward.__name__}>", "exec"), backward.__globals__, names)
    return names[backward.__name__]


def only(tree: ast.Module) -> ast.FunctionDef:
    """The one function of a module."""
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    return function
