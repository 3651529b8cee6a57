"""What a layer learns beside its maps from and to the model's width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

# name -> one tensor (p, *shape) for each run of particles of a group that learn it, in order
LearnedTensors = Mapping[str, Sequence[torch.Tensor]]
NOTHING: LearnedTensors = {}


@dataclass(frozen=True)
class Learned:
    """One tensor that a particle's layer learns.

    It starts at `mean`, one number for each entry, or for each of the last axis, or for all, plus
    normal noise of `std`.
    """

    name: str
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: float = 0.0
