"""What a mutant of a module is: one change at one place, of kinds of mistakes that people make.

Left alone is what is no arithmetic: what guards an error and says it (the table of inputs, `experiments.contract`, is
theirs), annotations, decorators, docstrings, representations, and arguments that only say how to compute.
"""

import ast
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from experiments.mutation import Replace, described, filled, name_of, of_arithmetic

ORDERS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
OPPOSITES = {ast.Eq: ast.NotEq, ast.Is: ast.IsNot, ast.In: ast.NotIn}
OPPOSITES |= {other: one for one, other in OPPOSITES.items()}
PAIRS = ("minimum maximum", "min max", "sum mean", "any all", "argmin argmax", "floor ceil", "sqrt square", "exp expm1",
         "log log1p", "zeros ones", "zeros_like ones_like")  # fmt: skip
TWINS = {one: other for pair in PAIRS for one, other in (pair.split(), pair.split()[::-1])}
"""Functions that are mistaken for each other."""
UNORDERED = {"isinstance", "issubclass", "hasattr", "getattr", "cast", "replace", "partial", "zip", "setattr"}
UNORDERED |= {"vdot", "promote_types", *TWINS}
"""Functions whose two arguments nobody swaps, or which do not mind."""
FORGOTTEN = {"cumsum", "negative", "softplus", "stop_gradient", "swapaxes", "tanh", "_where_biased", *TWINS} - {
    "zeros",
    "ones",
}
"""Functions that are left out of a formula."""
HOW = {"stacklevel", "strict", "keepdims", "unroll", "precision", "compiler_options", "metadata", "repr", "copy"}
"""Arguments that only say how to compute."""


@dataclass(frozen=True)
class Mutant:
    """One changed module: in the function `where`, the `number`th place at which `what` is the change."""

    module: str
    where: str
    kind: str
    what: str
    number: int
    line: int

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What stays when lines move."""
        return self.module, self.where, self.what, self.number


def of_node(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every change of one node, with its kind."""
    yield from of_arithmetic(node)
    match node:
        case ast.BinOp(left, ast.Mult(), right):
            yield "factor", ast.BinOp(left, ast.Div(), right)
        case ast.BinOp(left, ast.Sub(), right):
            yield "sign", ast.BinOp(right, ast.Sub(), left)
        case ast.BinOp(left, ast.Pow(), right):
            yield "off by one", ast.BinOp(left, ast.Pow(), ast.BinOp(right, ast.Add(), ast.Constant(1)))
        case ast.BinOp(left, ast.FloorDiv(), right):
            yield "off by one", ast.BinOp(node, ast.Add(), ast.Constant(1))
        case ast.BinOp(left, ast.BitAnd() | ast.BitOr() | ast.Mod() | ast.BitXor(), right):
            yield "dropped term", left
            yield "dropped term", right
        case ast.AugAssign(target, ast.Add(), value):
            yield "sign", ast.AugAssign(target, ast.Sub(), value)
            yield "dropped term", ast.Pass()
        case ast.UnaryOp(ast.Not() | ast.Invert(), operand):
            yield "condition", operand
        case ast.BoolOp(operator, values):
            yield "condition", ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            yield "dropped term", values[0] if len(values) == 2 else ast.BoolOp(operator, values[:-1])
            yield "dropped term", values[1] if len(values) == 2 else ast.BoolOp(operator, values[1:])
        case ast.Compare(left, [operator], others):
            other = ORDERS.get(type(operator)) or OPPOSITES.get(type(operator))
            if other is not None:
                yield "comparison", ast.Compare(left, [other()], others)
        case ast.IfExp(_, body, orelse):
            yield "condition", body
            yield "condition", orelse
        case ast.Constant(value):
            yield from of_constant(value)
        case ast.keyword("axis", ast.Constant() | ast.UnaryOp() as value):
            yield "axis", ast.keyword("axis", ast.Constant(0 if ast.literal_eval(value) else -1))
        case ast.Call():
            yield from of_call(node)


def of_constant(value: object) -> Iterator[tuple[str, ast.AST]]:
    """Another number; a larger whole one is a size that somebody chose, and one more or less is no mistake."""
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int) and value <= 4:
        yield "off by one", ast.Constant(value + 1)
        if value:
            yield "off by one", ast.Constant(value - 1)
    elif isinstance(value, int):
        yield "constant", ast.Constant(2 * value)
    elif isinstance(value, float):
        yield "constant", ast.Constant(2 * value if value else 1.0)


def of_call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    """Another function, swapped arguments, a range that begins or ends beside it."""
    name, arguments = name_of(node), node.args
    if name in TWINS and isinstance(node.func, ast.Attribute):
        yield "another function", ast.Call(ast.Attribute(node.func.value, TWINS[name]), arguments, node.keywords)
    elif name in TWINS and isinstance(node.func, ast.Name):
        yield "another function", ast.Call(ast.Name(TWINS[name]), arguments, node.keywords)
    if name in FORGOTTEN and arguments and not node.keywords:
        yield "dropped call", arguments[0]
    match node.func:
        case ast.Attribute(ast.Subscript(ast.Attribute(base, "at")), "add" | "set" | "multiply"):
            yield "dropped term", base
    if name == "where" and len(arguments) == 3:
        condition, yes, no = arguments
        yield "swapped", ast.Call(node.func, [condition, no, yes], node.keywords)
        yield "condition", yes
        yield "condition", no
    if name == "range" and len(arguments) < 3:
        yield "off by one", ast.Call(node.func, [*arguments[:-1], filled("x - 1", x=arguments[-1])], [])
        if len(arguments) == 2:
            yield "off by one", ast.Call(node.func, [filled("x + 1", x=arguments[0]), arguments[1]], [])
    plain = all(isinstance(a, (ast.Name, ast.Attribute, ast.Subscript, ast.BinOp)) for a in arguments)
    if len(arguments) == 2 and plain and name not in UNORDERED:
        yield "swapped", ast.Call(node.func, arguments[::-1], node.keywords)


def guards(node: ast.AST) -> bool:
    """Whether an `if` only raises or warns."""
    words = (ast.Raise, ast.Assert)
    return isinstance(node, ast.If) and all(
        isinstance(part, words) or "warn" in ast.unparse(part).split("(")[0] for part in node.body
    )


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a node in which there is arithmetic."""
    match node:
        case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom():
            return
        case ast.FunctionDef(name=name) if name in ("__repr__", "__str__", "describe"):
            return
        case ast.FunctionDef(args=args, body=body):
            yield from [default for default in (*args.defaults, *args.kw_defaults) if default is not None]
            yield from body
        case ast.ClassDef(body=body):
            yield from body
        case ast.AnnAssign(value=value):
            yield from [value] if value is not None else []
        case ast.keyword(arg=arg) if arg in HOW:
            return
        case ast.Call(func=func) if "warn" in ast.unparse(func):
            return
        case ast.If(test=test, body=body, orelse=orelse):
            yield from orelse if guards(node) else (test, *body, *orelse)
        case _:
            yield from ast.iter_child_nodes(node)


def signless(node: ast.AST) -> ast.AST | None:
    """What is squared here, or has its sign taken away: its own is of no matter."""
    match node:
        case ast.Call(args=[argument]) if name_of(node) in ("square", "abs"):
            return argument
        case ast.BinOp(argument, ast.Pow(), ast.Constant(2)):
            return argument
    return None


def turned(old: ast.AST, new: ast.AST) -> bool:
    """Whether it is the old one with another sign."""
    if isinstance(old, ast.UnaryOp):
        return isinstance(old.op, ast.USub) and new is old.operand
    return isinstance(old, ast.BinOp) and isinstance(new, ast.BinOp) and new.left is old.right


def sites(node: ast.AST, where: str, without_sign: bool = False) -> Iterator[tuple[str, str, ast.AST, ast.AST]]:
    """Every (function, kind, node, what it becomes) in a node."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        where = f"{where}.{node.name}".lstrip(".")
    alias = not where and isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)  # of types
    for kind, new in () if alias else of_node(node):
        if not (without_sign and turned(node, new)):
            yield where, kind, node, new
    for part in parts(node):
        yield from sites(part, where, part is signless(node))


Made = tuple[Mutant, Callable[[], str]]
"""A mutant, and the text that it makes of its module."""


def mutants(path: Path, module: str) -> Iterator[Made]:
    """The mutants of a module, in the order of its text."""
    tree, met = ast.parse(path.read_text()), Counter[tuple[str, str]]()
    for where, kind, old, new in sites(tree, ""):
        what = described(old, new)
        met[where, what] += 1
        mutant = Mutant(module, where, kind, what, met[where, what], getattr(old, "lineno", 0))
        yield mutant, functools.partial(Replace(old, new).text, tree)


def planted(path: Path, module: str, faults: Iterable[tuple[str, str]]) -> Iterator[Made]:
    """Mistakes in more than one place, written down: one text in place of another.

    Raises:
        ValueError: the text is not there once, as after a change of the module.
    """
    text = path.read_text()
    for old, new in faults:
        if text.count(old) != 1 or old == new:
            raise ValueError(f"{module}: expected {old!r} once, to plant a fault; it is there {text.count(old)} times")
        line = text[: text.index(old)].count("\n") + 1
        yield Mutant(module, "", "planted", f"{old} → {new}", 1, line), functools.partial(text.replace, old, new)
