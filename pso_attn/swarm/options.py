"""What may be set about the textbook swarms, and what is refused."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, get_args

from pso_attn.errors import ConfigurationError, nearest
from pso_attn.swarm.wide import SPREAD

Rule = Literal["constriction", "inertia"]
TopologyName = Literal["ring", "star", "von_neumann", "random", "pyramid"]

MOST, HEAVIEST = 1_000_000, 100  # moves or neighbours, and of a weight: beyond any use
PULLS = {"constriction": 2.05, "inertia": 2.0}  # Clerc & Kennedy (2002); Shi & Eberhart (1998)


@dataclass(frozen=True)
class WideOptions:
    """Options of every swarm that also moves weights.

    jump_rate: chance that a label is drawn anew in a move. spread: in spaces of more than 256
    dimensions, the standard deviation with which particles begin around the space's start.
    """

    jump_rate: float = 0.1
    spread: float = SPREAD


@dataclass(frozen=True)
class SwarmOptions(WideOptions):
    """Options of every textbook swarm.

    stagnation: moves without improvement of the personal best before a restart; 0 is never.
    """

    stagnation: int = 20


@dataclass(frozen=True)
class TopologyOptions(SwarmOptions):
    """Options of a swarm in which particles see neighbours.

    topology: who sees whom. neighbours: on a ring, on each side. informed: in a random topology,
    how many others each particle informs, about.
    """

    topology: TopologyName = "ring"
    neighbours: int = 1
    informed: int = 3


@dataclass(frozen=True)
class ClassicOptions(TopologyOptions):
    """Options of `pso-classic`, checked.

    rule: how the velocity is kept in check. cognitive, social: weights of the two pulls, 2.05
    each under constriction and 2 under inertia unless said. velocity_limit: fraction of a knob's
    range that one move may cross.
    """

    rule: Rule = "constriction"
    cognitive: float = PULLS["constriction"]
    social: float = PULLS["constriction"]
    velocity_limit: float = 0.5


Options = TypeVar("Options", bound=WideOptions)


def read_options(
    given: Mapping[str, Any],
    sampler: str = "pso-classic",
    kind: type[ClassicOptions] = ClassicOptions,
) -> ClassicOptions:
    """Return the options of `pso-classic`, or of a swarm like it, with defaults filled in.

    Raises ConfigurationError for an unknown name, a value outside its range, and a combination
    that cannot work.
    """
    rule = given.get("rule")
    pull = PULLS[rule] if isinstance(rule, str) and rule in PULLS else PULLS["constriction"]
    pulls = {"cognitive": pull, "social": pull}
    options = read_known(sampler, kind, given, pulls)
    if options.rule == "constriction" and options.cognitive + options.social <= 4:
        raise ConfigurationError(
            f"{sampler}: cognitive + social = {options.cognitive + options.social:g}, and "
            'constriction needs more than 4; raise them or choose rule = "inertia"'
        )
    return options


def read_known(
    sampler: str,
    kind: type[Options],
    given: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> Options:
    """Return the sampler's options, of that kind, with defaults filled in.

    Raises ConfigurationError for an unknown name, a value outside its range, and an option of a
    topology that was not chosen.
    """
    known = [field.name for field in fields(kind)]
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(f'{sampler} has no option "{name}"{nearest(name, known)}')
        expected, accepts = _EXPECTED[name]
        if not accepts(value):
            raise ConfigurationError(
                f"{sampler}: {name} = {value!r} does not work; give {expected}"
            )
    options = kind(**{**(defaults or {}), **given})
    for name, topology in (("neighbours", "ring"), ("informed", "random")):
        if name in given and getattr(options, "topology", None) != topology:
            raise ConfigurationError(
                f"{sampler}: {name} acts on a {topology} topology only; leave it out or choose "
                f'topology = "{topology}"'
            )
    return options


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


A_COUNT = (f"an integer from 1 to {MOST}", lambda value: _is_count(value) and value >= 1)
A_SHARE = ("a number from 0 to 1", _is_share)
_A_WEIGHT = (
    f"a number from 0 to {HEAVIEST}",
    lambda value: _is_number(value) and 0 <= value <= HEAVIEST,
)
_EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "rule": ('"constriction" or "inertia"', lambda value: value in get_args(Rule)),
    "topology": (
        '"ring", "star", "von_neumann", "random" or "pyramid"',
        lambda value: value in get_args(TopologyName),
    ),
    "neighbours": A_COUNT,
    "informed": A_COUNT,
    "refreshing_gap": A_COUNT,
    "cognitive": _A_WEIGHT,
    "social": _A_WEIGHT,
    "pull": _A_WEIGHT,
    "inertia": A_SHARE,
    "velocity_limit": (
        "a number above 0 and at most 1",
        lambda value: _is_number(value) and 0 < value <= 1,
    ),
    "stagnation": (f"an integer from 0, for never, to {MOST}", _is_count),
    "spread": (
        "a number above 0 and at most .5",
        lambda value: _is_number(value) and 0 < value <= 0.5,
    ),
    "phi": _A_WEIGHT,
    "beta": _A_WEIGHT,
    "rate": _A_WEIGHT,
    "jump_rate": A_SHARE,
    "exploit": A_SHARE,
}
