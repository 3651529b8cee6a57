"""When a knob acts: its own conditions and those of the knobs that they name, merged."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pso_attn.errors import ConfigurationError, nearest
from pso_attn.space.knob import Knob
from pso_attn.space.layers import flat_name
from pso_attn.space.ranges import admit_all, shown
from pso_attn.types import Scalar

When = Mapping[str, tuple[Scalar, ...]]


@dataclass(frozen=True)
class Conditions:
    """The conditions of a space.

    stated: per knob, its own conditions, the declared ones merged with the file's.
    possible: per knob, the values that it can take, none twice: one where it is fixed, none
    where it is continuous or derived elsewhere.
    """

    stated: Mapping[str, When]
    possible: Mapping[str, Sequence[Scalar]]

    def of(self, name: str, trail: tuple[str, ...] = ()) -> When:
        """Return all conditions under which a knob acts; those that always hold are left out.

        Raises ConfigurationError where it can never act, or where conditions form a circle.
        """
        if name in trail:
            circle = " -> ".join((*trail[trail.index(name) :], name))
            raise ConfigurationError(f"acts only when itself acts ({circle}); break the circle")
        merged: dict[str, tuple[Scalar, ...]] = {}
        for key, allowed in self.stated[name].items():
            for parent, values in {**self.of(key, (*trail, name)), key: allowed}.items():
                both = tuple(v for v in merged.get(parent, values) if v in values)
                if not both:
                    raise ConfigurationError(
                        f"can never act: it needs {parent} to be {_listed(values)} and also "
                        f"{_listed(merged[parent])}; drop one of the conditions"
                    )
                merged[parent] = self._met(parent, both)
        return {key: met for key, met in merged.items() if len(met) < len(self.possible[key])}

    def _met(self, parent: str, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        possible = self.possible[parent]
        met = tuple(value for value in values if value in possible)
        if not met:
            here = (
                f"can only be {_listed(possible)}"
                if possible
                else "has no list of values to choose from"
            )
            raise ConfigurationError(
                f"can never act: it acts only where {parent} is {_listed(values)}, and here "
                f"{parent} {here}; change one of them"
            )
        return met


def merged_when(declared: Knob, stated: Any, knobs: Mapping[str, Knob], label: str) -> When:
    """Return a knob's own conditions: the declared ones, narrowed by those of a space file.

    stated: the file's `when`, a table of a value or a list of values per knob. Raises
    ConfigurationError, beginning with `label`, for unknown knobs and values, and where nothing
    is left of a declared condition.
    """
    if not isinstance(stated, Mapping):
        raise ConfigurationError(
            f"{label}.when is {shown(stated)}; expected a table such as "
            '{ mechanism = ["softmax"] }'
        )
    merged = dict(declared.when)
    for key, values in stated.items():
        if key == declared.name:
            raise ConfigurationError(f"{label}.when names {key} itself; name another knob")
        if key not in knobs:
            raise ConfigurationError(f"{label}.when.{key} is not a knob{nearest(key, knobs)}")
        listed = values if isinstance(values, list) else [values]
        allowed = tuple(admit_all(knobs[key], listed, f"{label}.when.{key}"))
        met = tuple(value for value in merged.get(key, allowed) if value in allowed)
        if not met:
            raise ConfigurationError(
                f"{label}.when.{key} is {shown(values)}, and {declared.name} acts only when "
                f"{key} is {_listed(merged[key])}; choose among these"
            )
        merged[key] = met
    return merged


def for_layer(when: When, layer: int | None, layered: Collection[str]) -> When:
    """Return conditions as one layer's coordinate has them.

    A knob that differs between layers (`layered`) is asked in that layer; by its base name,
    in any layer, for what stands for the whole model.
    """
    return {
        flat_name(key, layer) if key in layered else key: allowed for key, allowed in when.items()
    }


def _listed(values: Sequence[Scalar]) -> str:
    if len(values) > 8:
        return f"{shown(values[0])} … {shown(values[-1])}"
    return " or ".join(shown(value) for value in values)
