"""What may be set about the textbook swarm, and what is refused."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from pso_attn.errors import ConfigurationError, nearest

Rule = Literal["constriction", "inertia"]
TopologyName = Literal["ring", "star"]

PULLS = {"constriction": 2.05, "inertia": 2.0}  # Clerc & Kennedy (2002); Shi & Eberhart (1998)


@dataclass(frozen=True)
class ClassicOptions:
    """Options of `pso-classic`, checked.

    rule: how the velocity is kept in check. topology: who sees whom. neighbours: on a ring, on
    each side. cognitive, social: weights of the two pulls, 2.05 each under constriction and 2
    under inertia unless said. velocity_limit: fraction of a knob's range that one move may cross.
    stagnation: moves without improvement of the personal best before a restart; 0 is never.
    jump_rate: chance that a label is drawn anew in a move.
    """

    rule: Rule = "constriction"
    topology: TopologyName = "ring"
    neighbours: int = 1
    cognitive: float = PULLS["constriction"]
    social: float = PULLS["constriction"]
    velocity_limit: float = 0.5
    stagnation: int = 20
    jump_rate: float = 0.1


def read_options(given: Mapping[str, Any]) -> ClassicOptions:
    """Return the options with defaults filled in.

    Raises ConfigurationError for an unknown name, a value outside its range, and a combination
    that cannot work.
    """
    known = [field.name for field in fields(ClassicOptions)]
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(f'pso-classic has no option "{name}"{nearest(name, known)}')
        expected, accepts = _EXPECTED[name]
        if not accepts(value):
            raise ConfigurationError(
                f"pso-classic: {name} = {value!r} does not work; give {expected}"
            )
    pull = PULLS[given.get("rule", "constriction")]
    options = ClassicOptions(**{"cognitive": pull, "social": pull, **given})
    if options.rule == "constriction" and options.cognitive + options.social <= 4:
        raise ConfigurationError(
            f"pso-classic: cognitive + social = {options.cognitive + options.social:g}, and "
            'constriction needs more than 4; raise them or choose rule = "inertia"'
        )
    if options.topology == "star" and "neighbours" in given:
        raise ConfigurationError(
            'pso-classic: neighbours acts on a ring only; leave it out or choose topology = "ring"'
        )
    return options


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_WORDS = {"rule": ("constriction", "inertia"), "topology": ("ring", "star")}
_EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "rule": ('"constriction" or "inertia"', lambda value: value in _WORDS["rule"]),
    "topology": ('"ring" or "star"', lambda value: value in _WORDS["topology"]),
    "neighbours": ("an integer of at least 1", lambda value: _is_count(value) and value >= 1),
    "cognitive": ("a number of at least 0", lambda value: _is_number(value) and value >= 0),
    "social": ("a number of at least 0", lambda value: _is_number(value) and value >= 0),
    "velocity_limit": (
        "a number above 0 and at most 1",
        lambda value: _is_number(value) and 0 < value <= 1,
    ),
    "stagnation": ("an integer of at least 0, 0 for never", _is_count),
    "jump_rate": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
}
