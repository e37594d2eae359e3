"""One change at one place of a syntax tree: what a mutant is. Which changes there are, say those who make them."""

import ast
import copy
from collections.abc import Iterator
from typing import Any


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

    def text(self, tree: ast.AST) -> str:
        """The text of the changed tree."""
        return ast.unparse(ast.fix_missing_locations(self.of(tree)))


def described(old: ast.AST, new: ast.AST) -> str:
    """The change in one line."""
    form = "[{}]" if isinstance(old, ast.Slice) else "{}"
    return f"{form.format(ast.unparse(old))} → {form.format(ast.unparse(new))}"


def of_arithmetic(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Changes of a sum, difference, product, quotient, power, sign, transpose or slice, with their kinds."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield "sign", ast.BinOp(left, ast.Sub(), right)
            yield "dropped term", left
            yield "dropped term", right
        case ast.BinOp(left, ast.Sub(), right):
            yield "sign", ast.BinOp(left, ast.Add(), right)
            yield "dropped term", left
            yield "dropped term", ast.UnaryOp(ast.USub(), right)
        case ast.BinOp(left, ast.Mult(), right):
            yield "dropped term", left
            yield "dropped term", right
        case ast.BinOp(left, ast.Div(), right):
            yield "factor", left
            yield "factor", ast.BinOp(left, ast.Mult(), right)
        case ast.BinOp(left, ast.Pow(), right):
            yield "factor", left
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield "sign", operand
        case ast.Attribute(value, "T"):
            yield "transposed", value
        case ast.Slice(lower, upper):
            for end, bound in (("lower", lower), ("upper", upper)):
                if bound is not None:
                    for text in ("x + 1", "x - 1"):
                        changed = {"lower": lower, "upper": upper, end: filled(text, x=bound)}
                        yield "border", ast.Slice(**changed)
