"""What a task is: data in three splits, a loss, metrics with directions, and simple baselines.

A task of your own is any class with the attributes and methods of `Task`; inherit
`pso_attn.testing.tasks.TaskContract` in a test to see that it keeps what is promised here.

Axes: N particles, B examples of a batch, T positions of an example.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pso_attn.models.info import TaskInfo
from pso_attn.types import Direction

__all__ = ["Split", "Task", "TaskInfo"]


@dataclass(frozen=True, eq=False)
class Split:
    """Examples, numbered from 0; `index_select(0, rows)` on both tensors gathers a batch.

    inputs: as `TaskInfo` says, floats as float32. targets: (n, T) or (n,), int64 classes, or
    (n,) float32 numbers, or (n, horizon + k): k numbers more that only `Task.loss` and
    `Task.score` read.
    Either may be a view whose examples overlap in memory, as a text's windows do: gather rows
    from it, and move it with `to`, which keeps it a view.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.inputs)

    def to(self, device: torch.device | str) -> "Split":
        """Return the split on `device`; overlapping examples still share their memory there."""
        return Split(_moved(self.inputs, device), _moved(self.targets, device))


class Task(Protocol):
    """Data, how a model's answers to it are scored, and what simple methods reach on it.

    The search trains on `train` and is scored on `validation`; `test` is for confirming alone.
    """

    @property
    def name(self) -> str:
        """The name that a space file gives it."""
        ...

    @property
    def info(self) -> TaskInfo:
        """What a model must know of it."""
        ...

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """What `score` returns, each with the direction that is better; has "loss"."""
        ...

    @property
    def train(self) -> Split:
        """What models learn from, and what input scaling and vocabulary are taken from."""
        ...

    @property
    def validation(self) -> Split:
        """What the search sees."""
        ...

    @property
    def test(self) -> Split:
        """What the search never sees."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the data, in hexadecimal: a run refuses to resume on other data."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what was found: source, licence, sizes. Plain values that JSON can hold."""
        ...

    def preprocessing(self) -> dict[str, Any]:
        """Return what was learned from the data to make inputs; plain values that JSON can hold.

        An exported model carries it, so that others can make inputs as these were made.
        """
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of each particle, (N,), to be differentiated.

        logits: (N, B, outputs), or (N, B, T, outputs) where `info.per_token`, T the horizon
        where there is one.
        targets: (N or 1, B), or (N or 1, B, T); 1 means that the particles share a batch.
        """
        ...

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return every metric of each particle, (N,), in the logits' dtype.

        Arguments as in `loss`. Where each example has one target it is called with all of a
        split; where each token has, in batches, whose metrics are averaged by their sizes.
        """
        ...

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return method -> metric -> value on `test`, each method fitted on `train` alone.

        It looks at the test split: a search never calls it.
        """
        ...


def _moved(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor of the same values, strides and offset on `device`."""
    target, here = torch.device(device), tensor.device
    if here.type == target.type == "cuda" and target.index is None:
        target = torch.device("cuda", torch.cuda.current_device())
    if here == target:
        return tensor
    memory = torch.empty(0, dtype=tensor.dtype, device=here)
    memory.set_(tensor.untyped_storage())
    pinned = target.type == "cuda" and here.type == "cpu"
    there = memory.pin_memory().to(device, non_blocking=True) if pinned else memory.to(device)
    return there.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
