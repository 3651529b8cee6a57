"""The table [forecast] of a space file, and what follows from it and the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pso_attn.errors import ConfigurationError, nearest
from pso_attn.tasks.clock import Clock

MOST_TOKENS = 64  # of what is seen, by default
FEWEST_TOKENS = 8  # if a token were several steps; else it is one
COLUMN_KEYS = ("series", "patch", "known", "past")  # of [columns], beside those of any table


@dataclass(frozen=True)
class ForecastOptions:
    """horizon, context: steps asked for, and seen before; season: after which values recur.

    None for what the data suggest. centre: whose mean is taken off, the "series" or the "window".
    calendar: whether dates tell where in the day, week and year a step is.
    """

    horizon: int
    context: int | None = None
    season: int | None = None
    centre: str = "series"
    calendar: bool = True

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "ForecastOptions":
        """Return the table, checked; ConfigurationError for what it cannot hold."""
        known = cls.__dataclass_fields__
        for name in given:
            if name not in known:
                raise ConfigurationError(f"forecast.{name} is not a key{nearest(name, known)}")
        if "horizon" not in given:
            raise ConfigurationError(
                "forecast.horizon is missing; say how many steps are forecast, as horizon = 24"
            )
        for name in ("horizon", "context", "season"):
            value = given.get(name, 1)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(
                    f"forecast.{name} is {value!r}; expected a whole number of steps, at least 1"
                )
        options = cls(**given)
        if options.centre not in ("series", "window"):
            raise ConfigurationError(
                f'forecast.centre is {options.centre!r}; expected "series" or "window"'
            )
        if not isinstance(options.calendar, bool):
            raise ConfigurationError(
                f"forecast.calendar is {options.calendar!r}; expected true or false"
            )
        return options

    def seasoned(self, clock: Clock, shortest: int) -> tuple[int, str]:
        """Return the season, and how it was found, for people.

        shortest: rows of the shortest series, of which a guess is a quarter at most.
        """
        if self.season is not None:
            return self.season, f"{steps(self.season)}, as given"
        guess, why = clock.season, f"guessed from the frequency of {clock.words}"
        if guess == 1:
            return 1, "1 step, since the frequency suggests none; set forecast.season"
        if 4 * guess > shortest:
            return 1, f"1 step, since the {guess} {why} are too many for {shortest} rows"
        return guess, f"{steps(guess)}, {why}"

    def seen(self, season: int) -> int:
        """Return the context: by default two seasons or horizons, whichever is longer."""
        return self.context or 2 * max(season, self.horizon)


def patch_of(given: Any, context: int) -> int:
    """Return how many steps one seen token is: as given, else as few as leave 64 tokens.

    Raises ConfigurationError where the context is no multiple of it.
    """
    whole = [size for size in range(1, context + 1) if context % size == 0]
    if given is None:
        fitting = [s for s in whole if FEWEST_TOKENS <= context // s <= MOST_TOKENS]
        return fitting[0] if fitting else 1
    if isinstance(given, bool) or given not in whole:
        shown = ", ".join(map(str, whole))
        raise ConfigurationError(
            f"columns.patch is {given!r}; expected a number of steps that divides the context of "
            f"{context}: {shown}"
        )
    return int(given)


def steps(count: int) -> str:
    """Return a number of steps in words."""
    return f"{count} step{'s' * (count != 1)}"
