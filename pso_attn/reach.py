"""Whether every value that a space names can be trained at all, found before anything trains."""

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice, product
from typing import Any

import numpy as np

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate import check_batch, cost
from pso_attn.evaluate.optimiser import read_recipe
from pso_attn.models import TaskInfo
from pso_attn.seeding import generator
from pso_attn.space import Coordinate, Space
from pso_attn.types import Array, Settings

TRIED = 64  # settings, the defaults and others at random, that a value is tried beside
MOST_CORNERS, BESIDE = 256, 4  # of the knobs that refusals name; how often each is tried
BY_DISTANCE = ("decay", "window_tokens", "dilation", "block_tokens", "adaptive_span")
AT_AN_END = 0.5  # of the other knobs
FOLLOWED = {"head_dim": "heads"}  # what a knob that nobody names follows from


def check_reach(space: Space, task: Any, fixed: Collection[str], where: str) -> tuple[str, ...]:
    """Raise ConfigurationError for a value with which no particle can work; return the notes.

    Each choice, and both ends of each range, are tried beside the defaults' other values and then
    beside others at random. One that fails beside all of them is tried beside the ends and choices
    of the knobs that the refusals name: what works at the very end of another range seldom does at
    random. fixed: the knobs that the file's [model] names. where: the file's name, for messages.
    The notes say what a person should hear of a space that can be searched: parts of it in which
    nothing can be trained, or nothing changes.
    """
    for coordinate in space.coordinates:
        _check_span(space, coordinate, task.info, where)
    rng = generator(0, "reach")
    others = np.vstack([space.starts[:1], rng.random((TRIED - 1, space.dimension))])
    for column, coordinate in enumerate(space.coordinates):
        for point in _points(coordinate):
            refusals = list(_until_one_works(_refusals(space, task, others, column, point)))
            if not refusals or None in refusals:
                continue
            named = {word for said in refusals if said for word in re.findall(r"\w+", said)}
            corners = _corners(space, named.union(coordinate.when), coordinate.path[0])
            if None not in _refusals(space, task, corners, column, point):
                assert refusals[0] is not None
                key = _blamed(space, fixed, coordinate, refusals[0])
                raise ConfigurationError(f"{where}: {key}: {refusals[0]}")
    _check_starts(space, task, where)
    return (
        *_spans(space, task.info),
        *_by_order(space, fixed, task.info),
        *_failing_defaults(space, task),
        *_gaps(space, task, others),
    )


def why_refused(settings: Settings, task: Any) -> str | None:
    """Return why settings cannot be trained on the task, in one sentence, or None."""
    try:
        cost(settings, task.info)
        check_batch(read_recipe(settings).batch_size, len(task.train))
    except ConfigurationError as error:
        return str(error)
    return None


def _refusal(space: Space, task: Any, position: Array) -> str | None:
    """Return why what a position stands for cannot be trained, or None."""
    return why_refused(space.settings(space.decode(position)), task)


def _points(coordinate: Coordinate) -> Iterator[float]:
    """Yield the places of the values to try: the two ends, and all choices between them."""
    scale = coordinate.scale
    if not scale.levels:
        yield from (0.0, 1.0)
        return
    values = scale.values
    between = values[1:-1] if coordinate.knob.choices else ()
    for value in (values[0], values[-1], *between):
        yield scale.point(value)


def _until_one_works(refusals: Iterator[str | None]) -> Iterator[str | None]:
    """Yield refusals up to the first None, that one included."""
    for refusal in refusals:
        yield refusal
        if refusal is None:
            return


def _corners(space: Space, names: Collection[str], tried: str) -> Iterator[Array]:
    """Yield positions (D,) at which the named knobs have all of their ends and choices together.

    Each such corner comes several times: the others have an end of theirs, or a value at random.
    What a knob has for each layer or head is the same for all of them. tried: the one that is
    tried, and is no corner's.
    """
    rng = generator(0, "reach", "corners")
    columns: dict[str, list[int]] = {}
    for column, coordinate in enumerate(space.coordinates):
        columns.setdefault(coordinate.path[0], []).append(column)
    points = {name: _extremes(space.coordinates[own[0]]) for name, own in columns.items()}
    chosen = [name for name in columns if name in names and name != tried]
    corners = product(*(points[name] for name in chosen)) if chosen else ()
    for corner, _ in product(islice(corners, MOST_CORNERS), range(BESIDE)):
        position = rng.random(space.dimension)
        for name, own in columns.items():
            if rng.random() < AT_AN_END:
                position[own] = rng.choice(points[name])
        for name, point in zip(chosen, corner, strict=True):
            position[columns[name]] = point
        yield position


def _extremes(coordinate: Coordinate) -> list[float]:
    """Return the places of the two ends, or of all labels."""
    points = list(_points(coordinate))
    return points if coordinate.is_categorical else points[:2]


def _refusals(
    space: Space, task: Any, others: Iterable[Array], column: int, point: float
) -> Iterator[str | None]:
    """Yield, for each of the other settings beside which the value acts, why it fails, or None."""
    for position in others:
        tried = position.copy()
        tried[column] = point
        settled = space.settled(tried)
        if space.active(settled)[column]:
            yield _refusal(space, task, settled)


def _blamed(space: Space, fixed: Collection[str], coordinate: Coordinate, refusal: str) -> str:
    """Return the key of the file that a refusal speaks of: "model.rank", "search.heads".

    It is the value that was tried, unless the sentence names other knobs alone; of those the
    first that stands in the file.
    """
    searched = {other.path[0] for other in space.coordinates}
    named = []
    for word in re.findall(r"\w+", refusal):
        follows = word in FOLLOWED and word not in searched and word not in fixed
        named.append(FOLLOWED[word] if follows else word)
    tried = coordinate.path[0]
    held = {other.name for other in space.held}
    known = [word for names in (searched.union(fixed), held) for word in named if word in names]
    name = tried if tried in named else next(iter(known), tried)
    return f"{'search' if name in searched else 'model'}.{name}"


def _check_starts(space: Space, task: Any, where: str) -> None:
    """Raise ConfigurationError for a [[start]] that cannot be trained."""
    for k, position in enumerate(space.starts[1:], start=1):
        refusal = _refusal(space, task, position)
        if refusal is not None:
            raise ConfigurationError(f"{where}: start {k}: {refusal}")


def _failing_defaults(space: Space, task: Any) -> Iterator[str]:
    refusal = _refusal(space, task, space.starts[0])
    if refusal is not None:
        yield f"the defaults cannot be trained: {refusal}"


def _gaps(space: Space, task: Any, others: Array) -> Iterator[str]:
    """Yield how many of some settings at random cannot be trained, if any."""
    repaired = [space.repair(position, 0, 0, k) for k, position in enumerate(others[1:])]
    feasible = [found.position for found in repaired if not found.violations]
    refusals = [_refusal(space, task, position) for position in feasible]
    refused = [refusal for refusal in refusals if refusal is not None]
    if refused:
        share = len(refused) / len(refusals)
        yield (
            f"about {share:.0%} of the space cannot be trained, and a trial there fails at once; "
            "narrow [search], or state the condition under [constraints]; for example: "
            f"{refused[0]}"
        )


def _last_telling(space: Space, name: str, info: TaskInfo) -> int | None:
    """Return the value beyond which a knob that counts tokens changes nothing; None for others.

    None in an LSTM, whose window is also the width of a Gaussian.
    """
    if any(held.name == "family" and held.value == "lstm" for held in space.held):
        return None
    return {
        "window_tokens": info.length - 1,
        "dilation": info.length,
        "block_tokens": info.length,
        "top_k": info.length,
    }.get(name)


def _check_span(space: Space, coordinate: Coordinate, info: TaskInfo, where: str) -> None:
    """Raise ConfigurationError for a range in which all values do the same."""
    name, last = coordinate.path[0], _last_telling(space, coordinate.path[0], info)
    if last is not None and coordinate.scale.values[0] >= last:  # type: ignore[operator]  # numbers
        has_less = last > (coordinate.knob.minimum or 0)
        way_out = f"begin below {last}" if has_less else "leave it out"
        raise ConfigurationError(
            f"{where}: search.{name} begins at {coordinate.scale.values[0]}, and for sequences of "
            f"{info.length} tokens all values from {last} on do the same; {way_out}"
        )


def _by_order(space: Space, fixed: Collection[str], info: TaskInfo) -> Iterator[str]:
    """Yield which knobs of distance are set for a table, whose columns have no order."""
    named = {coordinate.path[0] for coordinate in space.coordinates}.union(fixed)
    for name in BY_DISTANCE if info.weighted else ():
        if name in named:
            yield f"{name}: counts a table's columns in the order of the file, which says nothing"


def _spans(space: Space, info: TaskInfo) -> Iterator[str]:
    """Yield which ranges go on where nothing changes any more."""
    largest = {c.path[0]: c.scale.values[-1] for c in space.coordinates if c.scale.levels}
    for name, value in largest.items():
        last = _last_telling(space, name, info)
        if last is not None and value > last:  # type: ignore[operator]  # numbers
            yield (
                f"{name}: for sequences of {info.length} tokens all values from {last} to {value} "
                f"do the same; end its range at {last}"
            )
