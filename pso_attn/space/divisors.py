"""Knobs that must divide another one, such as key/value heads the heads."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pso_attn.errors import ConfigurationError
from pso_attn.space.codec import Scale, scale_of
from pso_attn.space.constraints import FAILED
from pso_attn.space.layers import flatten
from pso_attn.space.ranges import Range, shown


@dataclass(frozen=True)
class Divisor:
    """`name` divides `target`, in each layer where either differs between layers."""

    name: str
    target: str

    @property
    def text(self) -> str:
        """The condition, as an expression."""
        return f"{self.target} % {self.name} == 0"

    def violation(self, settings: Mapping[str, Any]) -> float:
        """Return 0 where it divides or does not act, else the remainders' sum."""
        value = settings.get(self.name)
        rows = value if isinstance(value, list) else [value]
        total = 0.0
        for layer, row in enumerate(rows):
            number = self.number(settings, layer if isinstance(value, list) else None)
            for divisor in flatten(row):
                if number is not None and divisor is not None:
                    total += number % divisor if divisor else FAILED
        return total

    def number(self, settings: Mapping[str, Any], layer: int | None) -> int | None:
        """Return what must be divided in a layer, or in all of them; None if it is not set."""
        target = settings.get(self.target)
        if target is None:
            return None
        if isinstance(target, list) and layer is not None:
            target = target[layer]
        return math.gcd(*flatten(target))

    def lowered(self, value: Any, number: int | None, scale: Scale) -> Any:
        """Return the largest admitted divisor of `number` up to `value`; `value` if none is."""
        if number is None:
            return value
        below = (v for v in scale.values if 0 < v <= value and number % v == 0)  # type: ignore[operator]  # whole numbers
        return max(below, default=value)


def check_divisor(
    divisor: Divisor, ranges: Mapping[str, Range], held: Mapping[str, Any], where: str
) -> str:
    """Return what a person should hear of a divisor of which one side is searched, or nothing.

    ranges: what is searched; held: what is not. Raises ConfigurationError where no value of one
    side goes with any of the other.
    """
    ours, key = _values(divisor.name, ranges, held)
    theirs, target = _values(divisor.target, ranges, held)
    useless = [value for value in ours if all(number % value for number in theirs)]
    if len(useless) == len(ours):
        raise ConfigurationError(
            f"{where}: {key} is {_either(ours)}, which divides none of {target} = "
            f"{_either(theirs)}; choose a divisor"
        )
    if divisor.name not in ranges or not useless:
        return ""
    return (
        f"{divisor.name}: {_either(useless)} divides none of the {divisor.target} "
        f"{_either(theirs)} and is lowered to a divisor wherever it comes up"
    )


def _values(
    name: str, ranges: Mapping[str, Range], held: Mapping[str, Any]
) -> tuple[list[Any], str]:
    """Return the values that a knob may have, and its key in the file."""
    if name in ranges:
        return list(scale_of(ranges[name].knob).values), f"search.{name}"
    return list(dict.fromkeys(flatten(held[name]))), f"model.{name}"


def _either(values: list[Any]) -> str:
    *rest, last = (shown(value) for value in values)
    return f"{', '.join(rest)} or {last}" if rest else last
