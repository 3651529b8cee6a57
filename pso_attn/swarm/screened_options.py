"""What may be set about the default swarm, and what is refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from pso_attn.errors import ConfigurationError, nearest
from pso_attn.swarm.options import A_COUNT, A_SHARE, ClassicOptions

MOST_DRAWS = 10_000  # each is looked at, and held
Moves = Literal["velocity", "covariance", "both"]
Shape = Literal["ring", "star", "von_neumann", "pyramid"]


@dataclass(frozen=True)
class ScreenedOptions:
    """Options of `pso`, checked; those that the textbook swarm has too mean the same there.

    moves: what they are drawn from, the velocity rule, a learned normal distribution or both,
    half of the draws each.
    topology: who sees whom. neighbours: on a ring, on each side. draws: moves that a particle
    has to choose from, at most. jump_rate: chance that a label is drawn anew in a move.
    """

    moves: Moves = "velocity"
    topology: Shape = "ring"
    neighbours: int = 1
    draws: int = 80
    jump_rate: float = 0.15


def read_screened_options(given: Mapping[str, Any]) -> ScreenedOptions:
    """Return the options with defaults filled in.

    Raises ConfigurationError for an unknown name, a value outside its range, and a combination
    that cannot work.
    """
    known = [field.name for field in fields(ScreenedOptions)]
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(f'pso has no option "{name}"{_elsewhere(name, known)}')
        expected, accepts = _EXPECTED[name]
        if not accepts(value):
            raise ConfigurationError(f"pso: {name} = {value!r} does not work; give {expected}")
    options = ScreenedOptions(**given)
    for name in ("topology", "neighbours"):
        if options.moves == "covariance" and name in given:
            raise ConfigurationError(
                f'pso: {name} acts on velocities only; leave it out or choose moves = "velocity"'
            )
    if options.topology != "ring" and "neighbours" in given:
        raise ConfigurationError(
            'pso: neighbours acts on a ring only; leave it out or choose topology = "ring"'
        )
    return options


def _elsewhere(name: str, known: list[str]) -> str:
    if name in {field.name for field in fields(ClassicOptions)}:
        return "; it is one of pso-classic's, which --sampler pso-classic chooses"
    return nearest(name, known)


_EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "moves": ('"velocity", "covariance" or "both"', lambda value: value in get_args(Moves)),
    "topology": (
        '"ring", "star", "von_neumann" or "pyramid"',
        lambda value: value in get_args(Shape),
    ),
    "neighbours": A_COUNT,
    "draws": (
        f"an integer from 1 to {MOST_DRAWS}",
        lambda value: A_COUNT[1](value) and value <= MOST_DRAWS,
    ),
    "jump_rate": A_SHARE,
}
