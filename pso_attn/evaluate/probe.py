"""What one training really takes of memory: a step and a scoring of it, watched."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pso_attn.evaluate.member import Member
from pso_attn.evaluate.scoring import score_split
from pso_attn.evaluate.training import SwarmTraining, on_device
from pso_attn.models.footprint import HELD, SCORED_TOGETHER, with_holes
from pso_attn.tasks.task import Split, Task


def probed_bytes(member: Member, task: Task, device: torch.device) -> int:
    """Return the bytes that a training takes at its height, by training one or two steps of it.

    On a GPU by its allocator's count, on a CPU by a count of all tensors, with what falls between
    them. Neither counts the data, which a chunk's trainings share.
    """
    training = SwarmTraining(task, [member], 2, device)
    weights, few = training.swarm.storage.weights, slice(SCORED_TOGETHER)
    flat = HELD * weights.numel() * weights.element_size()
    some = Split(task.validation.inputs[few], task.validation.targets[few])
    some = on_device(some, device, weights.dtype)

    def work(until: int) -> None:
        training.advance(until)
        with torch.no_grad():
            score_split(training.swarm, task, some)

    if device.type == "cuda":
        training.records = False
        work(1)  # what libraries take, once and for all trainings, comes with it
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work(2)
        height: int = torch.cuda.max_memory_allocated(device) - before
        return with_holes(flat + height)
    return with_holes(flat + height_bytes(lambda: work(1)))


def height_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes that tensors took at once which were made meanwhile, on a CPU."""
    watched = _Watched()
    with watched:
        work()
    return watched.height


class _Watched(TorchDispatchMode):
    """Counts the memory of what operations return, until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.height = self._now = 0
        self._alive = set[int]()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do what is asked, and take note of memory that is new."""
        given = tree_leaves((args, kwargs))
        known = {one.untyped_storage()._cdata for one in given if isinstance(one, torch.Tensor)}
        found = function(*args, **(kwargs or {}))
        for one in tree_leaves(found):
            if isinstance(one, torch.Tensor):
                self._note(one.untyped_storage(), known)
        return found

    def _note(self, storage: torch.UntypedStorage, known: set[int]) -> None:
        place = storage._cdata
        if place in known or place in self._alive:
            return
        self._alive.add(place)
        self._now += storage.nbytes()
        self.height = max(self.height, self._now)
        weakref.finalize(storage, self._freed, place, storage.nbytes())

    def _freed(self, place: int, size: int) -> None:
        self._alive.discard(place)
        self._now -= size
