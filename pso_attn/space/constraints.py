"""Constraints: expressions that are parsed into a small language and measured, never `eval`-ed.

comparison   amount by which it fails: a <= b gives a - b, a == b gives |a - b|
and, all     the sum of their parts' amounts
or, any      the least of their parts' amounts
the rest     1 where it fails (in, not, labels); a strict comparison that ties gives 1e-9
"""

import ast
import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pso_attn.errors import ConstraintError, nearest
from pso_attn.space.layers import flatten

MAX_CHARACTERS, MAX_DEPTH, MAX_EXPONENT = 500, 50, 64
TIE, FAILED = 1e-9, 1.0

_LITERALS = {"true": True, "false": False}
_FUNCTIONS = ("min", "max", "all", "any", "abs", "sum", "len")
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,  # in floats: an integer power may not end
}
_REDUCTIONS: Mapping[str, Callable[[list[Any]], Any]] = {"min": min, "max": max, "sum": sum}
_ALLOWED = (
    ast.Constant | ast.Name | ast.Load | ast.List | ast.Tuple | ast.Call | ast.Compare
    | ast.BoolOp | ast.And | ast.Or | ast.UnaryOp | ast.Not | ast.USub | ast.BinOp
    | ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod | ast.Pow
    | ast.Eq | ast.NotEq | ast.Lt | ast.LtE | ast.Gt | ast.GtE | ast.In | ast.NotIn
)  # fmt: skip


@dataclass(frozen=True)
class Constraint:
    """One condition over knobs, `parameters` and `flops`, as `parse` accepted it."""

    text: str
    tree: ast.expr

    @cached_property
    def names(self) -> frozenset[str]:
        """What must have a value before it can be measured."""
        return frozenset(name for name in _names(self.tree) if name not in _LITERALS)

    def violation(self, values: Mapping[str, Any]) -> float:
        """Return 0 where it holds, else by how much it fails (> 0).

        values: by name; a list where a knob differs between layers or heads. What cannot be
        computed there, such as a division by zero, does not hold. Raises ConstraintError for
        what makes no sense for any values, such as arithmetic on text.
        """
        try:
            amount = _violation(self.tree, values)
        except (ArithmeticError, ValueError):
            return FAILED
        except ConstraintError as error:
            raise ConstraintError(f'constraint "{self.text}" {error}') from None
        return float(amount)


def parse(text: str, known: Collection[str]) -> Constraint:
    """Return the constraint that `text` writes down.

    known: the names that it may use. Raises ConstraintError for what is too long, too deep or
    does not parse, for syntax outside the small language, and for unknown names.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConstraintError(
            f'constraint "{text[:40]}…" has {len(text)} characters; expected at most '
            f"{MAX_CHARACTERS}: split it into several expressions"
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it nests too deeply"
        raise ConstraintError(
            f'constraint "{text}" does not parse ({reason}); expected a condition such as '
            '"heads * head_dim <= d_model"'
        ) from None
    try:
        _check(tree, depth=0)
    except ConstraintError as error:
        raise ConstraintError(f'constraint "{text}" {error}') from None
    constraint = Constraint(text, tree)
    for name in sorted(constraint.names):
        if name not in known:
            raise ConstraintError(
                f'constraint "{text}": {name} is neither a knob nor a figure that is known '
                f"before training{nearest(name, known)}"
            )
    return constraint


def _check(node: ast.AST, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ConstraintError(f"nests deeper than {MAX_DEPTH} levels; split it")
    if isinstance(node, ast.Constant) and not isinstance(node.value, bool | int | float | str):
        raise ConstraintError(f"has {_syntax(node)}; expected numbers, text in quotes and names")
    if not isinstance(node, _ALLOWED):
        raise ConstraintError(
            f"uses {_syntax(node)}, which is not allowed; expected names, numbers, + - * / // % "
            f"**, comparisons, and, or, not, in, and {', '.join(_FUNCTIONS)}"
        )
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else _syntax(node.func)
        if name not in _FUNCTIONS or node.keywords or not node.args:
            raise ConstraintError(
                f"calls {name}; expected one of {', '.join(_FUNCTIONS)}, with plain arguments"
            )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        _check_exponent(node.right)
    for child in ast.iter_child_nodes(node):
        _check(child, depth + 1)


def _check_exponent(node: ast.expr) -> None:
    for part in ast.walk(node):
        is_power = isinstance(part, ast.Pow)
        number = part.value if isinstance(part, ast.Constant) else None
        is_large = isinstance(number, int | float) and abs(number) > MAX_EXPONENT
        if is_power or is_large:
            raise ConstraintError(
                f'raises to "{ast.unparse(node)}"; expected an exponent without powers and of at '
                f"most {MAX_EXPONENT}"
            )


def _syntax(node: ast.AST) -> str:
    return f'"{ast.unparse(node)}"' if isinstance(node, ast.expr) else type(node).__name__


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    for child in node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node):
        yield from _names(child)


def _violation(node: ast.expr, values: Mapping[str, Any]) -> float:
    match node:
        case ast.BoolOp(op=ast.And(), values=parts):
            return sum(_violation(part, values) for part in parts)
        case ast.BoolOp(op=ast.Or(), values=parts):
            return min(_contained(part, values) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return 0.0 if _violation(operand, values) else FAILED
        case ast.Compare():
            return _comparison(node, values, spread=False)[0]
        case ast.Call(func=ast.Name(id="all"), args=args):
            return sum(amount for arg in args for amount in _amounts(arg, values))
        case ast.Call(func=ast.Name(id="any"), args=args):
            amounts = [amount for arg in args for amount in _amounts(arg, values)]
            return min(amounts, default=FAILED)
    return _truth(_value(node, values), node)


def _contained(node: ast.expr, values: Mapping[str, Any]) -> float:
    """Return a branch's amount; one that cannot be computed fails, and leaves the others."""
    try:
        return _violation(node, values)
    except (ArithmeticError, ValueError):
        return FAILED


def _amounts(node: ast.expr, values: Mapping[str, Any]) -> list[float]:
    """Return one amount for each entry of what all() or any() is given."""
    if isinstance(node, ast.Compare):
        return _comparison(node, values, spread=True)
    if isinstance(node, ast.List | ast.Tuple):
        return [_violation(item, values) for item in node.elts]
    return [_truth(item, node) for item in flatten(_value(node, values))]


def _truth(value: Any, node: ast.expr) -> float:
    if not isinstance(value, bool):
        raise ConstraintError(f"takes {_syntax(node)} for a condition; compare it with something")
    return 0.0 if value else FAILED


def _comparison(node: ast.Compare, values: Mapping[str, Any], spread: bool) -> list[float]:
    """Return the amount of a chain of comparisons; with `spread`, one for each entry."""
    operands = [_value(operand, values) for operand in (node.left, *node.comparators)]
    total = [0.0]
    for op, left, right in zip(node.ops, operands, operands[1:], strict=False):
        members = isinstance(op, ast.In | ast.NotIn)
        if members and not isinstance(right, list):
            raise ConstraintError("looks for something in what is not a list; write [a, b, …]")
        if not spread and (isinstance(left, list) or (isinstance(right, list) and not members)):
            raise ConstraintError(
                "compares a value that differs between layers or heads; "
                "say which with min(), max() or all()"
            )
        rights = [list(flatten(right))] if members else list(flatten(right))
        amounts = [_gap(op, a, b) for a, b in _paired(list(flatten(left)), rights)]
        total = [a + b for a, b in _paired(total, amounts)]
    return total


def _paired(left: list[Any], right: list[Any]) -> list[tuple[Any, Any]]:
    length = len(right) if len(left) == 1 else len(left)
    if len(right) not in (1, length):
        raise ConstraintError(f"compares {len(left)} entries with {len(right)}")
    stretched = (side * length if len(side) == 1 else side for side in (left, right))
    return list(zip(*stretched, strict=True))


def _gap(op: ast.cmpop, a: Any, b: Any) -> float:
    """Return by how much one comparison fails."""
    match op:
        case ast.In() | ast.NotIn():
            return FAILED if (a in b) == isinstance(op, ast.NotIn) else 0.0
        case ast.NotEq():
            return FAILED if a == b else 0.0
        case ast.Eq() if isinstance(a, str) or isinstance(b, str):
            return 0.0 if a == b else FAILED
        case ast.Gt() | ast.GtE():
            a, b = b, a
    difference = _number(a) - _number(b)
    if isinstance(op, ast.Eq):
        difference = abs(difference)
    if difference < 0 or (difference == 0 and not isinstance(op, ast.Lt | ast.Gt)):
        return 0.0
    amount = float(difference)
    return max(amount, TIE) if math.isfinite(amount) else FAILED


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return _LITERALS[name] if name in _LITERALS else values[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item, values) for item in items]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(_value(operand, values))
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _number(_value(left, values)), _number(_value(right, values))
            return _ARITHMETIC[type(op)](a, b)
        case ast.Call(func=ast.Name(id="len"), args=[ast.expr() as arg]):
            return len(_list(_value(arg, values)))
        case ast.Call(func=ast.Name(id="abs"), args=[ast.expr() as arg]):
            return abs(_number(_value(arg, values)))
        case ast.Call(func=ast.Name(id="min" | "max" | "sum" as name), args=args):
            numbers = [_number(item) for arg in args for item in flatten(_value(arg, values))]
            return _REDUCTIONS[name](numbers)
        case ast.Call(func=ast.Name(id="len" | "abs" as name)):
            raise ConstraintError(f"gives {name}() several arguments; expected one")
    return _violation(node, values) == 0


def _number(value: Any) -> Any:
    if not isinstance(value, bool | int | float):
        what = "a list" if isinstance(value, list) else f'"{value}"'
        raise ConstraintError(
            f"computes with {what}; expected a number (a knob that differs between layers or "
            "heads needs min(), max(), sum() or all())"
        )
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConstraintError("takes len() of what is not a list; write the value itself")
    return value
