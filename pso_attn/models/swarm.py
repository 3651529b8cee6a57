"""N models of one family as one model: what a batched training asks of any family."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from pso_attn.models.info import TaskInfo
from pso_attn.models.parameters import Parameter
from pso_attn.models.plain import PlainModel
from pso_attn.models.storage import FlatStorage, Layout, starting_weights


class ModelSettings(Protocol):
    """One particle's settings, typed by its family."""

    @property
    def family(self) -> str:
        """The name of the family."""
        ...

    @property
    def layers(self) -> int:
        """How many layers it has."""
        ...

    @property
    def outer_shape(self) -> tuple[int | str, ...]:
        """What must be equal for particles to train as one batch."""
        ...

    @property
    def group(self) -> tuple[Any, ...]:
        """Sort key: brings together who shares kernels."""
        ...


class Swarm(ABC):
    """N particles with flat storage, which agree on `outer_shape` and are sorted by `group`.

    penalty: what the last forward pass adds to the training losses, (N,), or None.
    waits: whether a forward pass waits for the device, as no recorded step can.
    """

    plain: ClassVar[type[PlainModel]]
    penalty: Tensor | None = None
    waits = False

    def __init__(
        self, settings: Sequence[Any], info: TaskInfo, weights: Tensor, layout: Layout
    ) -> None:
        """Lay the parameters over `weights` (N, P), which gives dtype and device.

        layout: of the columns of `weights`, which may have been made for more particles.
        """
        self.settings, self.info = tuple(settings), info
        tables = [tuple(type(self).parameters_of(s, info)) for s in settings]
        self.storage = FlatStorage(tables, weights, layout)

    @staticmethod
    @abstractmethod
    def parameters_of(settings: Any, info: TaskInfo) -> Iterable[Parameter]:
        """Yield the parameters of one particle in the order of storage."""

    @classmethod
    def started(
        cls,
        settings: Sequence[Any],
        info: TaskInfo,
        seeds: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        layout: Layout | None = None,
    ) -> Self:
        """Return a swarm whose particles start from their own seeds.

        layout: of the columns, where other particles count too; by default as these need.
        """
        tables = [tuple(cls.parameters_of(s, info)) for s in settings]
        layout = layout or Layout.of(tables)
        weights = starting_weights(tables, seeds, layout, dtype, torch.device(device))
        return cls(settings, info, weights, layout)

    def __len__(self) -> int:
        """Return the number of particles."""
        return len(self.settings)

    @property
    @abstractmethod
    def sites(self) -> int:
        """How many places of the model draw dropout masks."""

    @abstractmethod
    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits (N, B, outputs), or (N, B, T, outputs) where each token has a target.

        inputs: (N or 1, B, T) ids or (N or 1, B, T, features). keys: int32 (sites, N) to train
        with dropout, None to evaluate.
        """

    def extract(self, row: int) -> PlainModel:
        """Return one particle as a plain module of its true size, with copies of its weights."""
        like = self.storage.weights
        model = self.plain(self.settings[row], self.info).to(device=like.device, dtype=like.dtype)
        model.load_swarm_parameters(self.storage.true_parameters(row))
        return model
