"""Mutations of a backward pass, made on its syntax tree: one change at one place."""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
    """One mutated backward pass; `what` is the changed expression, before and after."""

    kind: str
    what: str
    backward: Callable[..., Any]


def parsed(text: str) -> ast.expr:
    """One expression."""
    return ast.parse(text, mode="eval").body


def filled(text: str, **parts: ast.expr) -> ast.expr:
    """The expression `text` with the names of `parts` replaced."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return copy.deepcopy(parts[node.id]) if node.id in parts else node

    return Fill().visit(parsed(text))


def name_of(call: ast.Call) -> str:
    """The last part of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_number(node: ast.expr, kind: type) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is kind


def of_operation(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    """Changes of a sum, a difference, a product, a quotient, a power, or a matrix product."""
    left, right = node.left, node.right
    match node.op:
        case ast.Add():
            yield "sign", ast.BinOp(left, ast.Sub(), right)
            yield "dropped term", left
            yield "dropped term", right
        case ast.Sub():
            yield "sign", ast.BinOp(left, ast.Add(), right)
            yield "dropped term", left
            yield "dropped term", ast.UnaryOp(ast.USub(), right)
        case ast.Mult():
            yield "dropped term", left
            yield "dropped term", right
        case ast.Div():
            yield "factor", left
            yield "factor", ast.BinOp(left, ast.Mult(), right)
        case ast.Pow():
            yield "factor", left
        case ast.MatMult():
            yield "transposed", ast.BinOp(right, ast.MatMult(), left)
            for side in ("a", "b"):
                text = "coarsely(a) @ b" if side == "a" else "a @ coarsely(b)"
                yield "accumulation dtype", filled(text, a=left, b=right)


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
    match node:
        case ast.BinOp():
            yield from of_operation(node)
        case ast.Call():
            yield from of_call(node)
        case ast.keyword():
            for kind, value in of_keyword(node):
                yield kind, ast.keyword(node.arg, value)
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
            yield "sign", operand
        case ast.Attribute(attr="T", value=value):
            yield "transposed", value
        case ast.Constant(value=float(value)):
            yield "factor", ast.Constant(value * 1.05)
        case ast.Slice(lower=lower, upper=upper):
            for end, bound in (("lower", lower), ("upper", upper)):
                if bound is not None:
                    for text in ("x + 1", "x - 1"):
                        changed = {"lower": lower, "upper": upper, end: filled(text, x=bound)}
                        yield "border", ast.Slice(**changed)


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


class Replace:
    """One node replaced by another, in a copy of the tree."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def of(self, node: Any) -> Any:
        """The copy of a node, a list of nodes, or anything else that a node holds."""
        if node is self.old:
            return copy.deepcopy(self.new)
        if isinstance(node, list):
            return [self.of(part) for part in node]
        if not isinstance(node, ast.AST):
            return node
        return type(node)(**{name: self.of(value) for name, value in ast.iter_fields(node)})


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
        what = f"{ast.unparse(old)} → {ast.unparse(new)}" if not isinstance(old, ast.Slice) else sliced(old, new)
        text = ast.unparse(ast.fix_missing_locations(Replace(old, new).of(tree)))
        if text not in seen:
            seen.add(text)
            names: dict[str, Any] = {}
            exec(compile(text, f"<{kind} in {backward.__name__}>", "exec"), backward.__globals__, names)
            yield Mutant(kind, what, names[backward.__name__])


def sliced(old: ast.Slice, new: ast.AST) -> str:
    return f"[{ast.unparse(old)}] → [{ast.unparse(new)}]"


def only(tree: ast.Module) -> ast.FunctionDef:
    """The one function of a module."""
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    return function
