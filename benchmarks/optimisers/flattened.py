"""What peers that know no conditions are shown: every knob always, inactive ones at defaults.

A coordinate is a number in [0, 1], one of several places in an order, or a label. The base class
is of samplers that keep their state between batches, as peers do; the product's keep none.
"""

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np

from pso_attn.space import Coordinate, Space
from pso_attn.swarm.slots import slots
from pso_attn.types import Array, History, Proposal


def kind(coordinate: Coordinate) -> Literal["number", "place", "label"]:
    """Return what a coordinate is shown as; whole numbers on a log scale count as numbers."""
    if coordinate.is_categorical:
        return "label"
    return "place" if coordinate.scale.levels and not coordinate.knob.log else "number"


def shown(coordinate: Coordinate, point: float) -> float | int:
    """Return a point in [0, 1] as a peer is shown it: itself, or the place from 0 on."""
    if kind(coordinate) == "number":
        return point
    return min(int(point * coordinate.scale.levels), coordinate.scale.levels - 1)


def point(coordinate: Coordinate, value: float | int) -> float:
    """Return the point in [0, 1] of what a peer gives."""
    return (
        float(value) if kind(coordinate) == "number" else (value + 0.5) / coordinate.scale.levels
    )


def at_defaults(space: Space, positions: Array) -> Array:
    """Return snapped positions (B, D) whose inactive knobs lie at their defaults."""
    default = space.encode({})
    return np.stack(
        [np.where(space.active(position), position, default) for position in space.snap(positions)]
    )


class FlatPeer(ABC):
    """A peer that is asked for whole batches and told them whole, from the first on.

    The first point of a search is the space's start, as it is for the product's samplers.
    """

    def __init__(self, seed: int, particles: int, batch: int, generations: int) -> None:
        self.seed, self.particles = seed, particles
        self.batch, self.generations = batch, generations
        self._told = 0

    def propose(self, space: Space, history: History) -> Proposal:
        """Tell the peer what is new and return what it asks for."""
        for trials in history.generations[self._told :]:
            positions = np.stack([trial.candidate.position for trial in trials])
            losses = np.array([history.loss(trial) for trial in trials])
            self.tell(space, positions, losses)
        self._told = len(history)
        positions = space.with_starts(self.ask(space), self._told * self.batch)
        return Proposal(positions, slots(self._told, self.batch, self.particles))

    @abstractmethod
    def ask(self, space: Space) -> Array:
        """Return the positions (B, D) of the next batch."""

    @abstractmethod
    def tell(self, space: Space, positions: Array, losses: Array) -> None:
        """Take what came of the last batch, (B, D) and (B,); a failure is infinity."""
