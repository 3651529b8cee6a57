"""Whether every value that a space names can be trained at all, found before anything trains."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate import cost
from pso_attn.seeding import generator
from pso_attn.space import Coordinate, Space
from pso_attn.space.codec import Line

TRIED = 64  # settings in which a value must fail before it is refused


def check_reach(space: Space, task: Any, where: str) -> None:
    """Raise ConfigurationError for a searched value with which no particle can work.

    Each label, and both ends of each range, are tried beside the defaults' other values and then
    beside others at random. where: the file's name, for messages.
    """
    rng = generator(0, "reach")
    others = np.vstack([space.starts[:1], rng.random((TRIED - 1, space.dimension))])
    for column, coordinate in enumerate(space.coordinates):
        for point in _points(coordinate):
            refusals = _refusals(space, task, others, column, point)
            first = next(refusals, None)
            if first is not None and all(refusals):
                raise ConfigurationError(f"{where}: search.{coordinate.path[0]}: {first}")


def _points(coordinate: Coordinate) -> Iterator[float]:
    """Yield the places of the values to try: all labels, else the two ends."""
    scale = coordinate.scale
    if isinstance(scale, Line):
        yield from (0.0, 1.0)
        return
    values = scale.values
    for value in values if coordinate.is_categorical else (values[0], values[-1]):
        yield scale.point(value)


def _refusals(
    space: Space, task: Any, others: Any, column: int, point: float
) -> Iterator[ConfigurationError | None]:
    """Yield, for each of the other settings beside which the value acts, why it fails, or None."""
    for position in others:
        tried = position.copy()
        tried[column] = point
        params = space.decode(space.settled(tried))
        if space.names[column] not in params:
            continue
        try:
            cost(space.settings(params), task.info)
        except ConfigurationError as error:
            yield error
        else:
            yield None
