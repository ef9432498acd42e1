"""Exact arithmetic on a written expression, without running it as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

__all__ = ["calculate"]

LONGEST = 200
"""Maximum characters of an expression."""
LARGEST = 4096
"""Maximum bits of a power."""
SIGNS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculate(expression: str) -> Fraction:
    """The value of numbers joined by + - * / ** and brackets; decimals are exact: 0.1 + 0.2 is 3/10.

    Raises:
        ValueError: It is something else, longer than `LONGEST`, divides by zero or has a power beyond `LARGEST`.
    """
    text = expression.strip().replace("×", "*").replace("÷", "/").replace("−", "-").replace("^", "**")  # noqa: RUF001
    if not text or len(text) > LONGEST:
        raise ValueError(f"an expression has 1 to {LONGEST} characters")
    try:
        return _value(ast.parse(text, mode="eval").body, text)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{expression.strip()!r} is no arithmetic expression") from error
    except ZeroDivisionError as error:
        raise ValueError("division by zero") from error


def _value(node: ast.expr, text: str) -> Fraction:
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return Fraction(ast.get_source_segment(text, node) or "")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, text)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, text)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, text), _value(right, text))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in SIGNS:
            return SIGNS[type(sign)](_value(left, text), _value(right, text))
    raise ValueError("only numbers, + - * / ** and brackets are accepted")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or bits * abs(exponent) > LARGEST:
        raise ValueError("a power has a whole exponent and a result of at most 1,000 digits")
    return base ** int(exponent)
