"""A weight search's box: positions in the unit cube, vectors, and the weights they stand for."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError
from pso_attn.models import TaskInfo, read_model
from pso_attn.models.weights import (
    Coordinates,
    Matrix,
    drawn_parts,
    find_matrices,
    flat_row,
    make_coordinates,
    quantised,
    read_parts,
)
from pso_attn.seeding import generator, training_seed
from pso_attn.space.weights import WeightTable
from pso_attn.types import Array, Settings

DRAW = 1  # the training seed of matrices that are drawn anew; 0 is that of the model's training


@dataclass(frozen=True, eq=False)
class Start:
    """Where a weight search begins, before any model is trained.

    settings: the defaults of the space, whose shapes count. seed: the run's. matrices: those that
    are searched. files: the parts of each checkpoint.
    """

    table: WeightTable
    settings: Settings
    info: TaskInfo
    seed: int
    matrices: tuple[Matrix, ...]
    files: tuple[Mapping[str, Tensor], ...]

    @classmethod
    def of(cls, table: WeightTable, settings: Settings, info: TaskInfo, seed: int) -> "Start":
        """Read the checkpoints and find the matrices; ConfigurationError where they do not fit."""
        matrices = find_matrices(table, settings, info)
        model = read_model(settings, info)
        files = tuple(read_parts(Path(name), model, info) for name in table.files)
        return cls(table, settings, info, seed, matrices, files)

    @cached_property
    def drawn(self) -> Mapping[str, Tensor]:
        """The parts of a model as a training with the run's seed would start them."""
        model = read_model(self.settings, self.info)
        return drawn_parts(model, self.info, training_seed(self.seed, DRAW))

    @cached_property
    def count(self) -> int:
        """How many coordinates the weights have."""
        return self._coordinates(torch.zeros_like(flat_row(self.matrices, self.drawn))).count

    @property
    def needs_training(self) -> bool:
        """Tell whether a model is trained first: its rest is what no file gives."""
        return not self.files

    def first_positions(self, particles: int) -> Array:
        """Return what is tried first, (S, n) in the unit cube.

        The start itself; of several checkpoints each, and then points between two of them, drawn
        as Feng et al. 2024 (Model Swarms, arXiv 2410.11163, algorithm 1) draw them.
        """
        searched = self.searched(None)
        if self.table.mode != "checkpoints":
            start = searched.coordinates.vector(searched.untouched)
            return searched.positions(start[None]).double().numpy()
        own = searched.positions(searched.checkpoints).double().numpy()
        rng = generator(self.seed, "checkpoints")
        between = []
        for _ in range(particles - len(own)):
            one, other = rng.choice(len(own), 2, replace=False)
            share = rng.random()
            between.append(own[one] + share * (own[other] - own[one]))
        return np.concatenate([own, np.array(between).reshape(-1, own.shape[1])])

    def searched(self, trained: Mapping[str, Tensor] | None) -> "Searched":
        """Return the box. trained: the parts of the model that was trained first.

        Without one its weights are taken for zero, which changes no position of a start.
        """
        rest = self._rest(trained)
        row = flat_row(self.matrices, self.drawn if self.table.is_drawn else rest)
        begun = torch.stack([flat_row(self.matrices, parts) for parts in self.files] or [row])
        coordinates = self._coordinates(row)
        centre, half = coordinates.origin, self.table.bounds * coordinates.scale
        if self.table.mode == "checkpoints":
            low, high = begun.amin(0), begun.amax(0)
            centre, half = (low + high) / 2, self.table.bounds * (high - low) / 2
        return Searched(self.table, self.matrices, coordinates, centre, half, rest, row, begun)

    def _rest(self, trained: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
        if self.files:
            return self.files[0]
        if trained is not None:
            return trained
        return {name: torch.zeros_like(part) for name, part in self.drawn.items()}

    def _coordinates(self, row: Tensor) -> Coordinates:
        if self.table.mode == "checkpoints" and self.table.coordinates != "full":
            raise ConfigurationError(
                f'weights.coordinates is "{self.table.coordinates}", in which several checkpoints '
                'have no place; mode = "checkpoints" needs coordinates = "full"'
            )
        return make_coordinates(self.table, self.matrices, row, self.seed)


@dataclass(frozen=True, eq=False)
class Searched:
    """What of a model is searched, and the rest of it.

    centre, half: (n,), the box: vectors centre ± half. rest: the parts of the model whose matrices
    are searched. untouched: (M,), the searched weights before the search, not quantised.
    checkpoints: (C, M), those of each file that it starts from.
    """

    table: WeightTable
    matrices: tuple[Matrix, ...]
    coordinates: Coordinates
    centre: Tensor
    half: Tensor
    rest: Mapping[str, Tensor]
    untouched: Tensor
    checkpoints: Tensor

    def to(self, device: torch.device) -> "Searched":
        """Return the same on a device."""
        if device.type == "cpu":
            return self
        return Searched(
            self.table,
            self.matrices,
            self.coordinates.to(device),
            self.centre.to(device),
            self.half.to(device),
            {name: part.to(device) for name, part in self.rest.items()},
            self.untouched.to(device),
            self.checkpoints.to(device),
        )

    def vectors(self, positions: Tensor) -> Tensor:
        """Return vectors (N, n) of positions (N, n) in the unit cube, float32."""
        return self.centre + (2 * positions.to(self.centre) - 1) * self.half

    def positions(self, vectors: Tensor) -> Tensor:
        """Return positions (N, n) in the unit cube; what lies outside is put on its face."""
        steps = (vectors - self.centre) / torch.where(self.half > 0, self.half, 1.0)
        return ((steps + 1) / 2).clamp(0.0, 1.0)

    def rows(self, vectors: Tensor) -> Tensor:
        """Return flat rows (N, M) as the model uses them, of vectors (N, n), with gradients."""
        return self.used(self.coordinates.weights(vectors))

    def used(self, rows: Tensor) -> Tensor:
        """Return flat rows (N, M) as the model uses them: quantised where the search says so."""
        return quantised(self.table.quantise, self.matrices, rows)
