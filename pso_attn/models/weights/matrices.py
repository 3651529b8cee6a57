"""Which weights are searched: matrices of named layers, and where a model stores them.

One flat row holds the weights of all searched matrices, M in all, in the shapes that they have
under a space's default settings. A model of other settings takes the part of each that it has:
columns keep their places, so that heads of another number cut the same columns anew; what it has
beyond stays as it starts, and what it lacks does not act.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError
from pso_attn.models.families import parameters_of, read_model
from pso_attn.models.info import TaskInfo
from pso_attn.models.parameters import start
from pso_attn.models.settings import TransformerSettings
from pso_attn.models.storage import Layout
from pso_attn.models.swarm import ModelSettings
from pso_attn.space.weights import MATRICES, WeightTable

_PARTS = dict(zip(MATRICES, ("query", "key", "value", "output"), strict=True))
_LEAST_STD = 0.02  # of what starts at one value, such as a bias


@dataclass(frozen=True)
class Matrix:
    """One searched matrix.

    name: of the stand-alone model, as `FlatStorage.true_parameters` has it.
    shape: (in, out), as it is stored. std: of its start. first: its first entry in the flat row.
    """

    name: str
    shape: tuple[int, ...]
    std: float
    first: int

    @property
    def size(self) -> int:
        """How many weights it has."""
        return prod(self.shape)

    @property
    def columns(self) -> slice:
        """Its entries in the flat row."""
        return slice(self.first, self.first + self.size)


def find_matrices(
    table: WeightTable, settings: Mapping[str, Any], info: TaskInfo
) -> tuple[Matrix, ...]:
    """Return the matrices that a [weights] table names, in the order of storage.

    settings: the defaults of the space, whose shapes count. Raises ConfigurationError where the
    model has no such layer, and for a family whose attention has no Wq, Wk, Wv and Wo.
    """
    model = read_model(settings, info)
    if not isinstance(model, TransformerSettings):
        raise ConfigurationError(
            f"[weights] searches Wq, Wk, Wv and Wo of a transformer, and model.family is "
            f'"{model.family}"; set model.family = "transformer"'
        )
    layers = range(model.layers) if table.layers is None else table.layers
    for layer in layers:
        if layer >= model.layers:
            there = f"layers 0 to {model.layers - 1}" if model.layers > 1 else "only layer 0"
            raise ConfigurationError(
                f"weights.layers names layer {layer}, and the model has {there}"
            )
    wanted = {
        f"blocks.{layer}.attention.{_PARTS[name]}"
        for layer in layers
        for name in table.matrices
        if name != "all"
    }
    matrices, first = [], 0
    for name, shape, std in _parts(model, info):
        if table.matrices == ("all",) or name in wanted:
            matrices.append(Matrix(name, shape, std or _LEAST_STD, first))
            first += matrices[-1].size
    return tuple(matrices)


def flat_row(matrices: Sequence[Matrix], parts: Mapping[str, Tensor]) -> Tensor:
    """Return the searched weights (M,) of a model's parts by name."""
    return torch.cat([parts[matrix.name].reshape(-1) for matrix in matrices])


def by_name(matrices: Sequence[Matrix], row: Tensor) -> dict[str, Tensor]:
    """Return a flat row (M,) as matrices by name: the inverse of `flat_row`."""
    return {matrix.name: row[matrix.columns].view(matrix.shape) for matrix in matrices}


def drawn_parts(settings: ModelSettings, info: TaskInfo, seed: int) -> dict[str, Tensor]:
    """Return a model's parts as a training with this seed starts them, float32, by name."""
    parts = {}
    for parameter in parameters_of(settings, info):
        values = torch.from_numpy(start(parameter, seed)).float()
        for name, first, last in parameter.true:
            parts[name] = values[..., first:last].contiguous()
    return parts


def overlaid(parts: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parts with those of another model over them, as far as both reach."""
    result = {}
    for name, values in parts.items():
        result[name] = values.clone()
        if name in other and other[name].dim() == values.dim():
            shared = tuple(
                slice(min(a, b)) for a, b in zip(values.shape, other[name].shape, strict=True)
            )
            result[name][shared] = other[name][shared]
    return result


@dataclass(frozen=True)
class Placed:
    """A part that a searched matrix and a model's stored weights share: (rows, columns).

    source: the matrix's entries in the flat row, of shape (…, width). target: columns of flat
    storage, of shape (…, stored_width), in which the part begins at column `first`.
    """

    rows: int
    columns: int
    source: slice
    width: int
    target: slice
    stored_width: int
    first: int

    def in_rows(self, flat: Tensor) -> Tensor:
        """Return the part in flat rows (N, M), a view (N, rows, columns)."""
        whole: Tensor = flat[:, self.source].unflatten(1, (-1, self.width))
        return whole[:, : self.rows, : self.columns]

    def in_storage(self, stored: Tensor) -> Tensor:
        """Return the part in flat storage (N, P), a view (N, rows, columns)."""
        whole: Tensor = stored[:, self.target].unflatten(1, (-1, self.stored_width))
        return whole[:, : self.rows, self.first : self.first + self.columns]


def placements(
    matrices: Sequence[Matrix], settings: ModelSettings, info: TaskInfo, layout: Layout
) -> list[Placed]:
    """Return where a model of these settings, stored in these columns, has the matrices."""
    stored = {
        name: (parameter, first, last)
        for parameter in parameters_of(settings, info)
        for name, first, last in parameter.true
    }
    found = []
    for matrix in matrices:
        if matrix.name not in stored:
            continue
        parameter, first, last = stored[matrix.name]
        width, offset = matrix.shape[-1], layout.offsets[parameter.name]
        found.append(
            Placed(
                rows=min(prod(matrix.shape[:-1]), prod(parameter.shape[:-1])),
                columns=min(width, last - first),
                source=matrix.columns,
                width=width,
                target=slice(offset, offset + prod(parameter.shape)),
                stored_width=parameter.shape[-1],
                first=first,
            )
        )
    return found


def _parts(settings: ModelSettings, info: TaskInfo) -> list[tuple[str, tuple[int, ...], float]]:
    """Return (name, shape, std of the start) of every part of the stand-alone model."""
    return [
        (name, (*parameter.shape[:-1], last - first), parameter.std)
        for parameter in parameters_of(settings, info)
        for name, first, last in parameter.true
    ]
