"""A search that begins where another one ended: its best settings, tried after the defaults.

They are written into the configuration as starts, so nothing but config.toml is needed later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pso_attn.config import Configuration
from pso_attn.configured_space import make_bare_space
from pso_attn.errors import ConfigurationError, RunError
from pso_attn.report.words import count, setting
from pso_attn.runs import load_run
from pso_attn.space import Coordinate, Space
from pso_attn.store.connection import redacted
from pso_attn.store.foreign import foreign_history, is_foreign, open_foreign
from pso_attn.types import Candidate, History

_MOST_NAMED = 6
_Table = dict[str, Any]  # values by flat name


@dataclass(frozen=True)
class WarmStart:
    """A configuration with starts from elsewhere. notes: how many, and what was left out."""

    configuration: Configuration
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Picked:
    """The settings that are tried first. outside: what of each lies outside the ranges here.

    passed: the same of the better trials that, without it, are like one before them.
    """

    starts: list[_Table]
    outside: list[_Table]
    passed: list[_Table]


def warm_started(configuration: Configuration, reference: str, runs_dir: Path) -> WarmStart:
    """Return the configuration with the best settings of a run, or of a study, as last starts.

    Of the completed trials the best half-swarm's worth that differ here, mapped by knob name; a
    knob that they do not have, or have a value of that is not searched here, takes its default.
    reference: a run's name or path, or URL#NAME. Raises RunError where nothing completed there,
    and ConfigurationError where no value of it is searched here.
    """
    history, reference = _history(reference, runs_dir), redacted(reference)
    if not history.ranked:
        within = any(trial.candidate.violations for trial in history.trials)
        finite = any(trial.is_full for trial in history.trials)
        raise RunError(
            f"--warm-start {reference} has no completed trial{' of a finite value' * finite}"
            f"{' within its constraints' * within} to start from"
        )
    space = make_bare_space(configuration, has_starts=True)
    if not space.coordinates:
        raise ConfigurationError(
            f"--warm-start {reference} brings settings, and {configuration.source} searches "
            "weights alone; start from weights by --set weights.start=FILE, such as a run's "
            "checkpoints/best.safetensors"
        )
    mapped = [_mapped(space, trial.candidate) for trial in history.ranked]
    picked = _picked(space, mapped, most=max(1, configuration.budget.particles // 2))
    if not any(table for table, _ in mapped):
        if picked.passed:
            raise ConfigurationError(
                f"--warm-start {reference} has no value in the ranges that {configuration.source} "
                f"searches: {_few(_together(picked.passed))}"
            )
        raise ConfigurationError(
            f"--warm-start {reference} has no value that {configuration.source} searches: it "
            f"varies {_few(_names(history))}, and the space {_few(_searched(space))}"
        )
    notes = [
        f"warm start from {reference}: {note}"
        for note in (
            *_judged(history),
            *_tried(picked, len(history.ranked)),
            *_elsewhere(_names(history), _searched(space)),
        )
    ]
    warmed = replace(configuration, starts=(*configuration.starts, *picked.starts))
    return WarmStart(warmed, tuple(notes))


def _history(reference: str, runs_dir: Path) -> History:
    if is_foreign(reference):
        return foreign_history(open_foreign(reference))
    return load_run(reference, runs_dir).history


def _mapped(space: Space, found: Candidate) -> tuple[_Table, _Table]:
    """Return what of a trial's settings is searched here, by flat name, and what is outside."""
    table: _Table = {}
    outside: _Table = {}
    for coordinate in space.coordinates:
        value = _typed(coordinate, _value(coordinate, found))
        if value is None:
            continue
        if coordinate.scale.admits(value):
            table[coordinate.name] = value
        else:
            outside[coordinate.name] = value
    return table, outside


def _picked(space: Space, mapped: Sequence[tuple[_Table, _Table]], most: int) -> _Picked:
    """Return the first settings that differ from each other and from the space's own starts.

    mapped: what is searched here of each trial, and what is outside, the best first.
    """
    seen = {start.tobytes() for start in space.starts}
    starts: list[_Table] = []
    outside: list[_Table] = []
    passed: list[_Table] = []
    since: list[_Table] = []  # passed over after the last start so far
    for table, dropped in mapped:
        place = space.encode(table).tobytes()
        if place not in seen:
            seen.add(place)
            starts.append(table)
            outside.append(dropped)
            passed, since = passed + since, []
        elif dropped:
            since.append(dropped)
        if len(starts) == most:
            break
    return _Picked(starts, outside, passed if starts else since)


def _value(coordinate: Coordinate, found: Candidate) -> Any:
    """Return the value that a trial had for a coordinate, None where it had none.

    A value for the whole model stands for every layer and head; a list whose entries are all
    equal, for the whole model.
    """
    base, *indices = coordinate.path
    if coordinate.name in found.params:
        return found.params[coordinate.name]
    value: Any = found.settings.get(base, found.params.get(base))
    for index in indices:
        if isinstance(value, list) and index is not None:
            value = value[index] if index < len(value) else None
    while isinstance(value, list):
        if not value or any(entry != value[0] for entry in value):
            return None
        value = value[0]
    return value


def _typed(coordinate: Coordinate, value: Any) -> Any:
    """Return a number as the knob's type: 4.0 is the whole number 4, and 1 the float 1.0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if coordinate.knob.kind == "float":
        return float(value)
    return int(value) if float(value).is_integer() else value


def _judged(history: History) -> Iterator[str]:
    """Yield by what the best are the best, where there were several objectives."""
    first, *others = history.objectives
    if others:
        better = "most" if first.direction == "maximize" else "least"
        yield (
            f"the best are those of the {better} {first.name}, the first of its "
            f"{len(history.objectives)} objectives"
        )


def _tried(picked: _Picked, completed: int) -> Iterator[str]:
    """Yield what is tried, and what of whom is not for lying outside the ranges."""
    starts, passed = len(picked.starts), picked.passed
    if starts:
        trials = "its only trial" if completed == 1 else f"{starts} of {completed} trials"
        what = f"the best settings of {trials}"
        if passed:
            what = f"the best settings that can be searched here, of {trials},"
        yield f"{what} are tried first, after the defaults"
    elif passed:
        yield "it has nothing but the defaults that can be searched here"
    else:
        yield "its best settings are the defaults here"
    if passed:
        better = "better trial" if starts else "trial"
        verb, whose = ("is", "its") if len(passed) == 1 else ("are", "their")
        yield (
            f"{count(len(passed), better)} {verb} passed over for values outside the ranges here, "
            f"{_few(_together(passed))}; without these {whose} settings are tried already"
        )
    if any(picked.outside):
        yield f"outside the ranges here, so defaults stand in: {_few(_together(picked.outside))}"


def _elsewhere(theirs: list[str], ours: list[str]) -> Iterator[str]:
    """Yield which names are not searched here, if any."""
    elsewhere = [name for name in theirs if name not in ours]
    if elsewhere:
        yield f"not searched here: {_few(elsewhere)}"


def _together(tables: list[_Table]) -> list[str]:
    """Return each name with its values in some tables, as words."""
    values: dict[str, dict[str, None]] = {}
    for table in tables:
        for name, value in table.items():
            values.setdefault(name, {})[setting(value)] = None
    return [f"{name} {_few(list(shown))}" for name, shown in values.items()]


def _names(history: History) -> list[str]:
    """Return the base names of what was varied there, in order."""
    named = (name for trial in history.trials for name in trial.candidate.params)
    return list(dict.fromkeys(name.partition(".")[0] for name in named))


def _searched(space: Space) -> list[str]:
    return list(dict.fromkeys(coordinate.path[0] for coordinate in space.coordinates))


def _few(words: list[str]) -> str:
    """Return the first of some words, and how many there are beyond them."""
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return f"{', '.join(words[:_MOST_NAMED])}{more}"
