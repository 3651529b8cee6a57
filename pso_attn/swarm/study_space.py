"""The search space of an Optuna study: given, or read off its trials; and the way to and fro."""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from pso_attn.errors import StudyError
from pso_attn.space import Coordinate, Knob, Space
from pso_attn.space.codec import scale_of
from pso_attn.types import Array, Params, Scalar

MOST_STEPS = 100_000  # a finer float is searched as a continuous one and rounded to its grid
MOST_INTEGERS = 2**53  # a wider range is searched as floats, which tell no more values apart
FINEST = 1e-7  # span of a float's range, in its largest value: it has ten significant digits
MOST_CASES = 64  # values that a parameter may have for others to depend on it

Distributions = Mapping[str, BaseDistribution]
When = Mapping[str, tuple[Scalar, ...]]


@dataclass(frozen=True, eq=False)
class StudySpace:
    """A space whose settings are a study's parameters.

    distributions: what Optuna calls each coordinate, by name. Categories of a space that was read
    off a study stand in it by their place (0, 1, …): Optuna's may be anything, None among them.
    """

    space: Space
    distributions: Distributions

    def params(self, inner: Params) -> dict[str, Any]:
        """Return decoded params as Optuna has them, exactly on the grid of each distribution."""
        return {
            name: _told(self._by_name[name], self.distributions[name], value)
            for name, value in inner.items()
        }

    def position(self, params: Mapping[str, Any], proposed: Mapping[str, float]) -> Array:
        """Return where a trial's parameters lie, (D,).

        proposed: where the trial was sent, by name; what lies in the same bin as its parameter,
        or was never suggested, stays there. The rest takes the middle of its range.
        """
        position = self.space.encode({})
        for column, coordinate in enumerate(self.space.coordinates):
            name, distribution = coordinate.name, self.distributions[coordinate.name]
            sent = proposed.get(name)
            if sent is not None and 0.0 <= sent <= 1.0:
                value = _told(coordinate, distribution, coordinate.scale.value(sent))
                if name not in params or value == params[name]:
                    position[column] = sent
                    continue
            if name in params:
                inner = inner_value(coordinate, distribution, params[name])
                if inner is not None:
                    position[column] = coordinate.scale.point(inner)  # type: ignore[arg-type]  # its own values
        return position

    def unless_equal(self, before: "StudySpace") -> "StudySpace":
        """Return the space, the very one of before where nothing is new."""
        same = before.distributions == self.distributions
        return before if same and before.space.coordinates == self.space.coordinates else self

    @cached_property
    def _by_name(self) -> dict[str, Coordinate]:
        return {coordinate.name: coordinate for coordinate in self.space.coordinates}


def given_space(space: Space) -> StudySpace:
    """Return the space as a study sees it, under the distributions that an objective suggests.

    A list of choices is categorical, whether ordered or not.
    """
    return StudySpace(space, {c.name: _distribution(c) for c in space.coordinates})


def declared_space(distributions: Distributions, when: Mapping[str, When]) -> StudySpace:
    """Return the space of these distributions; what has a single value is left out.

    when: under which values of others a parameter is suggested, with categories by their place.
    """
    varying = {name: d for name, d in distributions.items() if not d.single()}
    coordinates = tuple(
        _coordinate(name, distribution, when.get(name, {}))
        for name, distribution in varying.items()
    )
    starts = np.empty((0, len(coordinates)))
    return StudySpace(Space(coordinates, starts=starts, anchors=starts), varying)


def seen_space(trials: Sequence[FrozenTrial]) -> StudySpace:
    """Return the space of all parameters that these trials have, by name.

    A parameter has the range that it had last. One that some trials lack acts under the values of
    a discrete parameter which tell those trials from the others, if there is such a parameter.
    """
    latest: dict[str, BaseDistribution] = {}
    for trial in reversed(trials):
        if trial.distributions.keys() - latest.keys():
            latest = {**trial.distributions, **latest}
    plain = declared_space(dict(sorted(latest.items())), {})
    return declared_space(plain.distributions, _conditions(plain, trials))


@dataclass(frozen=True, eq=False)
class Seen:
    """The space of a study's trials so far.

    trials: by identity, which are kept so that no other takes theirs. alike: what each of them
    has, where that is the same: one more of the kind changes nothing.
    """

    space: StudySpace
    trials: Mapping[int, FrozenTrial] = field(default_factory=dict)
    alike: Distributions | None = None

    def after(self, trials: Sequence[FrozenTrial]) -> "Seen":
        """Return what is seen with these trials; the very space of before where it is equal."""
        now = dict(zip(map(id, trials), trials, strict=True))
        if now.keys() == self.trials.keys():
            return self
        if self.alike is not None and trials:
            new = now.keys() - self.trials.keys()
            if all(now[one].distributions == self.alike for one in new):
                return replace(self, trials=now)
        first = trials[0].distributions if trials else None
        are_alike = all(trial.distributions == first for trial in trials)
        space = seen_space(trials).unless_equal(self.space)
        return Seen(space, now, first if are_alike else None)


def drawn_value(name: str, distribution: BaseDistribution, x: float) -> Any:
    """Return the value of one parameter at x in [0, 1)."""
    coordinate = _coordinate(name, distribution, {})
    return _told(coordinate, distribution, coordinate.scale.value(x))


def inner_value(
    coordinate: Coordinate, distribution: BaseDistribution, told: Any
) -> Scalar | None:
    """Return the space's value nearest to one of Optuna's; None where there is none."""
    scale = coordinate.scale
    if isinstance(distribution, CategoricalDistribution):
        try:
            place = int(distribution.to_internal_repr(told))
        except ValueError:
            return None
        value: Scalar = scale.values[place]
        return value
    is_number = isinstance(told, int | float) and math.isfinite(told)
    return scale.nearest(told) if is_number else None


def _conditions(plain: StudySpace, trials: Sequence[FrozenTrial]) -> dict[str, When]:
    """Return when each parameter acts, what its parent depends on included."""
    if all(trial.params.keys() == trials[0].params.keys() for trial in trials):
        return {}
    counts = Counter(chain.from_iterable(trial.params for trial in trials))
    coordinates = {c.name: c for c in plain.space.coordinates}
    nearest_first = sorted(
        (name for name, c in coordinates.items() if 0 < c.scale.levels <= MOST_CASES),
        key=lambda name: (counts[name], name),
    )
    found: dict[str, When] = {}
    for name in sorted(coordinates, key=lambda name: -counts[name]):  # parents before children
        if counts[name] == len(trials):
            continue
        for parent in nearest_first:
            cases = _cases(name, parent, trials) if counts[parent] > counts[name] else None
            if cases:
                distribution = plain.distributions[parent]
                inner = [inner_value(coordinates[parent], distribution, case) for case in cases]
                acting = tuple(value for value in inner if value is not None)
                found[name] = {**found.get(parent, {}), parent: acting}
                break
    return found


def _cases(name: str, parent: str, trials: Sequence[FrozenTrial]) -> list[Any] | None:
    """Return the parent's values with which trials have the parameter, None where unrelated."""
    with_it: list[Any] = []
    without: list[Any] = []
    for trial in trials:
        if parent in trial.params:
            cases, others = (with_it, without) if name in trial.params else (without, with_it)
            value = trial.params[parent]
            if value in others:
                return None
            if value not in cases:
                cases.append(value)
        elif name in trial.params:
            return None
    return with_it


def _coordinate(name: str, distribution: BaseDistribution, when: When) -> Coordinate:
    knob = _knob(name, distribution)
    middle = scale_of(knob).value(0.5)
    return Coordinate(name, replace(knob, default=middle), (name, None, None), when)


def _knob(name: str, distribution: BaseDistribution) -> Knob:
    doc = "A parameter of a study."
    if isinstance(distribution, CategoricalDistribution):
        return Knob(name, "categorical", doc, choices=tuple(range(len(distribution.choices))))
    if isinstance(distribution, IntDistribution):
        return _integer(name, distribution, doc)
    assert isinstance(distribution, FloatDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    _check_range(name, low, high)
    coarse = step if step and (high - low) / step < MOST_STEPS else None
    return Knob(name, "float", doc, low=low, high=high, log=distribution.log, step=coarse)


def _integer(name: str, distribution: IntDistribution, doc: str) -> Knob:
    """Return an integer; a wide one as the floats in its range, which rounded are integers.

    On a log scale it stays one: most of that scale holds integers that floats do tell apart.
    """
    low, high, step = distribution.low, distribution.high, distribution.step
    if (high - low) // step < MOST_INTEGERS:
        return Knob(name, "int", doc, low=low, high=high, log=distribution.log, step=step)
    _check_range(name, low, high)
    if step != 1:
        raise StudyError(
            f"parameter {name} ranges from {low} to {high} in steps of {step}, more values than a "
            "float tells apart; raise its step, or leave it out"
        )
    least, most = float(low), float(high)  # these may lie outside, where Optuna drops a value
    least = least if least >= low else math.nextafter(least, math.inf)
    most = most if most <= high else math.nextafter(most, -math.inf)
    if distribution.log:
        return Knob(name, "int", doc, low=int(least), high=int(most), log=True)
    return Knob(name, "float", doc, low=least, high=most)


def _check_range(name: str, low: float, high: float) -> None:
    """Raise StudyError for ends whose span overflows, or that ten digits cannot tell apart."""
    if not high - low <= sys.float_info.max:
        raise StudyError(
            f"parameter {name} ranges from {low!r} to {high!r}, more than a float can span; "
            "narrow it or search its logarithm"
        )
    if high - low < FINEST * max(abs(low), abs(high)):
        raise StudyError(
            f"parameter {name} ranges from {low!r} to {high!r}, too narrow for its size; search "
            "its distance from the low end instead"
        )


def _distribution(coordinate: Coordinate) -> BaseDistribution:
    knob, scale = coordinate.knob, coordinate.scale
    if knob.choices:
        return CategoricalDistribution(knob.choices)
    assert knob.low is not None
    assert knob.high is not None
    high: Any = scale.values[-1] if scale.levels else knob.high  # where steps end
    if knob.kind == "int":
        return IntDistribution(int(knob.low), int(high), knob.log, int(knob.step or 1))
    return FloatDistribution(knob.low, high, knob.log, knob.step)


def _told(coordinate: Coordinate, distribution: BaseDistribution, value: Any) -> Any:
    """Return what Optuna is told for one of the space's values."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[coordinate.scale.values.index(value)]
    if isinstance(distribution, IntDistribution):
        return round(value)
    assert isinstance(distribution, FloatDistribution)
    if distribution.step is None:
        return float(value)
    steps = round((value - distribution.low) / distribution.step)
    return float(min(distribution.low + steps * distribution.step, distribution.high))
