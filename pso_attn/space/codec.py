"""One coordinate: a knob's values on the unit interval.

What is discrete lies in bins, equal ones unless it is an integer on a log scale; what is not
lies on a line. Decoded floats carry ten significant digits, so that a stored position decodes
to the same settings with any mathematics library, and people can read them.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from pso_attn.space.knob import Knob
from pso_attn.types import Array, Scalar

DIGITS = 10
Path = tuple[str, int | None, int | None]  # base name, layer, head


@dataclass(frozen=True)
class Line:
    """A continuous range, both ends included, evenly or on a log scale."""

    low: float
    high: float
    log: bool = False
    levels: ClassVar[int] = 0
    values: ClassVar[Sequence[Scalar]] = ()

    @cached_property
    def _ends(self) -> tuple[float, float, int]:
        """Start and span of the scale, and the decimals kept on an even one."""
        if self.log:
            return math.log(self.low), math.log(self.high) - math.log(self.low), 0
        largest = max(abs(self.low), abs(self.high))
        return self.low, self.high - self.low, DIGITS - 1 - math.floor(math.log10(largest))

    def value(self, x: float) -> float:
        """Return the value at x in [0, 1]."""
        start, span, decimals = self._ends
        raw = start + span * x
        rounded = float(f"{math.exp(raw):.{DIGITS}g}") if self.log else round(raw, decimals)
        return min(max(rounded, self.low), self.high)

    def point(self, value: float) -> float:
        """Return the x at which `value` lies."""
        start, span, _ = self._ends
        x = ((math.log(value) if self.log else value) - start) / span
        return min(max(x, 0.0), 1.0)

    def admits(self, value: Any) -> bool:
        """Tell whether `value` is a number in the range."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and bool(self.low <= value <= self.high)

    def nearest(self, value: float) -> float:
        """Return the admitted value nearest to a number."""
        return min(max(float(value), self.low), self.high)

    def snap(self, x: Array) -> Array:
        """Return `x`: every point of a line is its own."""
        return x


@dataclass(frozen=True)
class Bins:
    """Discrete values in equal bins."""

    values: Sequence[Any]

    @property
    def levels(self) -> int:
        """How many values there are."""
        return len(self.values)

    def value(self, x: float) -> Scalar:
        """Return the value whose bin holds x in [0, 1]."""
        levels = len(self.values)
        value: Scalar = self.values[min(int(x * levels), levels - 1)]
        return value

    def point(self, value: Scalar) -> float:
        """Return the centre of a value's bin."""
        return (self.values.index(value) + 0.5) / self.levels

    def admits(self, value: Any) -> bool:
        """Tell whether `value` is one of the values; true and 1 are not the same."""
        if isinstance(self.values, range):  # too long to look through
            return not isinstance(value, bool) and value in self.values
        return any(
            value == own and isinstance(value, bool) == isinstance(own, bool)
            for own in self.values
        )

    def nearest(self, value: float) -> Scalar:
        """Return the admitted value nearest to a number; the values must be numbers."""
        values = self.values
        if isinstance(values, range):  # too long to look through
            index = round((value - values.start) / values.step)
            return values[min(max(index, 0), len(values) - 1)]
        nearest: Scalar = min(values, key=lambda admitted: abs(admitted - value))
        return nearest

    def snap(self, x: Array) -> Array:
        """Return the centres of the bins that hold `x`, of any shape."""
        return (np.minimum(np.floor(x * self.levels), self.levels - 1) + 0.5) / self.levels


@dataclass(frozen=True)
class LogBins(Bins):
    """Integers low … high > 0; each has [k − ½, k + ½] of the log scale as its bin."""

    values: range

    @property
    def levels(self) -> int:
        """How many values there are, or as many as an index can count."""
        return min(self.values[-1] - self.values[0] + 1, sys.maxsize)

    def nearest(self, value: float) -> int:
        """Return the integer of the range nearest to a number."""
        low, high = self.values[0], self.values[-1]
        return min(max(low + round(value - low), low), high)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        start = math.log(self.values[0] - 0.5)
        return start, math.log(self.values[-1] + 0.5) - start

    def value(self, x: float) -> int:
        """Return the integer whose bin holds x in [0, 1]."""
        start, span = self._ends
        nearest = math.floor(math.exp(start + span * x) + 0.5)
        return min(max(nearest, self.values[0]), self.values[-1])

    def point(self, value: Any) -> float:
        """Return the centre of an integer's bin."""
        start, span = self._ends
        return ((math.log(value - 0.5) + math.log(value + 0.5)) / 2 - start) / span

    def snap(self, x: Array) -> Array:
        """Return the centres of the bins that hold `x`, of any shape."""
        x = np.asarray(x, dtype=np.float64)
        start, span = self._ends
        reached = np.exp(start + span * x) + 0.5
        low, high = float(self.values[0]), float(self.values[-1])
        integers = np.asarray(np.clip(np.floor(reached), low, high))
        # math.exp as in `value`: numpy's may differ in the last bits, and 0.5 is often an edge
        unsure = np.abs(reached - np.rint(reached)) < 1e-9 * reached
        integers[unsure] = [float(self.value(inside)) for inside in x[unsure].tolist()]
        found, places = np.unique(integers, return_inverse=True)
        centres = np.array([self.point(integer) for integer in found.tolist()])
        return np.asarray(centres[places].reshape(x.shape), dtype=np.float64)


Scale = Line | Bins


def scale_of(knob: Knob) -> Scale:
    """Return where a knob's values lie on the unit interval; its range must be stated."""
    if knob.choices:
        return Bins(knob.choices)
    assert knob.low is not None
    assert knob.high is not None
    if knob.kind == "int":
        values = range(int(knob.low), int(knob.high) + 1, int(knob.step or 1))
        return LogBins(values) if knob.log else Bins(values)
    if knob.step:
        count = 1 + math.floor((knob.high - knob.low) / knob.step + 1e-9)
        decimals = max(_decimals(knob.low), _decimals(knob.step))
        return Bins(tuple(round(knob.low + k * knob.step, decimals) for k in range(count)))
    return Line(knob.low, knob.high, knob.log)


def _decimals(number: float) -> int:
    exponent = Decimal(str(number)).normalize().as_tuple().exponent
    assert isinstance(exponent, int)  # infinity and NaN have none, and are refused earlier
    return -exponent


@dataclass(frozen=True)
class Coordinate:
    """One axis of the unit cube.

    name: flat, such as "temperature.0.1" for layer 0, head 1; path: its parts.
    knob: the declaration narrowed to the range that is searched.
    when: names and the values under which it acts; a knob that differs between layers stands
    there by its own layer's name, or by its base name where any layer will do.
    """

    name: str
    knob: Knob
    path: Path
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    @cached_property
    def scale(self) -> Scale:
        """Where the values lie on the unit interval."""
        return scale_of(self.knob)

    @property
    def is_categorical(self) -> bool:
        """True where positions are labels, without an order."""
        return self.knob.kind in ("categorical", "bool")
