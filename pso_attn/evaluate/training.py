"""One batched job: many trainings of one outer shape advance together, step by step."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from pso_attn.counter import keys
from pso_attn.errors import DeviceError
from pso_attn.evaluate.device import keep_freed_memory, one_thread
from pso_attn.evaluate.graphs import Step, StepGraph, at, put
from pso_attn.evaluate.member import Member
from pso_attn.evaluate.optimiser import SwarmAdamW
from pso_attn.evaluate.order import DataOrder
from pso_attn.evaluate.own_code import is_ours, task_loss
from pso_attn.evaluate.precision import autocast, check_precision, products_in
from pso_attn.evaluate.room import check_machine
from pso_attn.evaluate.scoring import by_particle, score_split
from pso_attn.evaluate.smoothing import Smoothing
from pso_attn.models import Layout, swarm_type
from pso_attn.models.storage import gathered
from pso_attn.tasks.task import Split, Task

DATA_SHARE = 0.25  # of a CUDA device's memory, for one split
_UNRECORDED = WeakSet[Split]()  # data of somebody's tasks whose loss no CUDA graph holds
_PLACED = WeakKeyDictionary[Split, WeakValueDictionary[tuple[torch.device, torch.dtype], Split]]()


class SwarmTraining:
    """N trainings in one batch. Rows keep the order of `members`, whatever the batch's own."""

    def __init__(
        self,
        task: Task,
        members: Sequence[Member],
        steps: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        layout: Layout | None = None,
    ) -> None:
        """Start the members, who share a bucket, from their seeds; `steps` is the full budget.

        layout: of their parameters' columns, where others train beside them. Raises MemoryError
        where they cannot fit.
        """
        check_machine(members, task.info, steps, device)
        keep_freed_memory()
        self.precision = members[0].recipe.precision
        check_precision(self.precision, device)
        self.task, self.steps, self.step = task, steps, 0
        order = sorted(range(len(members)), key=lambda row: members[row].model.group)
        self.rows = order  # which of `members` each particle of the batch is
        placed = [members[row] for row in order]
        seeds = np.array([member.seed for member in placed], dtype=np.int64)
        self.swarm = swarm_type(placed[0].model).started(
            [member.model for member in placed], task.info, seeds.tolist(), dtype, device, layout
        )
        self.optimiser = SwarmAdamW(
            self.swarm.storage.weights,
            self.swarm.storage.gradients,
            [member.recipe for member in placed],
            steps,
        )
        self._smooth = Smoothing(
            [member.recipe.label_smoothing for member in placed], self.swarm.storage.weights
        )
        self._train = on_device(task.train, device, dtype)
        self._splits: dict[str, Split] = {}
        self._keys = keys(seeds, steps, self.swarm.sites).to(device)  # (steps, sites, N)
        batch = placed[0].recipe.batch_size
        self._order = DataOrder(seeds, len(self._train), steps, batch, device)
        self._losses = torch.zeros(steps, len(placed), dtype=dtype, device=device)
        # whether steps on a CUDA device become a graph
        self.records = not self.swarm.waits and task.train not in _UNRECORDED
        self._graph: StepGraph | None = None  # of the present layout

    @one_thread()
    def advance(self, until: int, on_step: Callable[[int], None] | None = None) -> None:
        """Train up to step `until`; nothing here waits for the device."""
        device = self._losses.device
        if device.type == "cuda" and (self._graph is None or self._graph.step != self.step):
            self._graph = StepGraph(self.step, device) if self.records else None
        with products_in(self.precision, device):
            for step in range(self.step, until):
                if self._graph is None:
                    self.train_step(step)
                else:
                    self._graph.advance(self.train_step)
                if on_step is not None:
                    on_step(step + 1)
        if self._graph is not None and not self._graph.can_record:
            self.records = False
            if not is_ours(self.task):
                _UNRECORDED.add(self.task.train)
        self.step = until

    def train_step(self, step: Step) -> None:
        """Train one step, whose number may lie on the device."""
        train, weights = self._train, self.swarm.storage.weights
        chosen = self._order.at(step)  # (N or 1, B)
        inputs = train.inputs[chosen]  # (N or 1, B, T[, features])
        targets = train.targets[chosen]
        with autocast(self.precision, weights.device):
            logits = self.swarm.forward(inputs, at(self._keys, step))
        logits = logits.to(weights.dtype)
        losses = self._smooth(task_loss(self.task, logits, targets), logits)
        if self.swarm.penalty is not None:
            losses = losses + self.swarm.penalty
        put(self._losses, step, losses.detach())
        self.swarm.storage.differentiate(losses.sum())  # particles share no weight
        self.optimiser.step(step)

    @one_thread()
    @torch.no_grad()
    def score(self, split: str = "validation") -> list[dict[str, float]]:
        """Return the task's metrics on a split for each row still in training."""
        weights = self.swarm.storage.weights
        if split not in self._splits:
            self._splits[split] = on_device(
                getattr(self.task, split), weights.device, weights.dtype
            )
        data = self._splits[split]
        return by_particle(score_split(self.swarm, self.task, data))

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed from a CUDA graph by now."""
        return self._graph is not None and self._graph.is_recorded

    def first_bad_steps(self) -> list[int | None]:
        """Return for each row the first step, from 1, whose training loss was not finite."""
        return first_bad_steps(self._losses[: self.step])

    @property
    def state(self) -> dict[str, Tensor]:
        """All that is carried from step to step, (N, P) each; with `step`, what to go on from."""
        return {"weights": self.swarm.storage.weights, **self.optimiser.state}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor], step: int) -> None:
        """Go on as after `step` steps that left `state`: to the same floats, all else is keyed."""
        for name, tensor in self.state.items():
            tensor.copy_(state[name])
        self.step = step

    def true_parameters(self, position: int) -> dict[str, Tensor]:
        """Return copies of the stand-alone model's parameters of one particle of the batch."""
        return self.swarm.storage.true_parameters(position)

    def keep(self, positions: Sequence[int]) -> None:
        """Compact the batch to these of its present particles, ascending, where it lies.

        Schedules stay as they were.
        """
        self._graph = None  # it writes into memory that is now given up
        kept = torch.tensor(positions, device=self._keys.device)
        make, info, layout = type(self.swarm), self.swarm.info, self.swarm.storage.layout
        settings = [self.swarm.settings[i] for i in positions]
        weights = gathered(self.swarm.storage.weights, positions)
        del self.swarm  # what its kernels hold makes room for the next ones'
        self.swarm = make(settings, info, weights, layout)
        self.optimiser.keep(positions, weights, self.swarm.storage.gradients)
        self._smooth.keep(kept)
        self.rows = [self.rows[i] for i in positions]
        self._keys, self._losses = self._keys[:, :, kept], self._losses[:, kept]
        self._order.keep(positions)


def first_bad_steps(losses: Tensor) -> list[int | None]:
    """Return for each row the first step, from 1, whose loss was not finite; losses: (S, N)."""
    bad = ~losses.isfinite()
    first = torch.where(bad.any(0), bad.int().argmax(0) + 1, 0).tolist()
    return [step or None for step in first]


def divergence(bad: int | None, metrics: Mapping[str, float], step: int) -> str | None:
    """Return why a training that was scored at `step` has diverged, or None.

    bad: the first step whose training loss was not finite, or None.
    """
    if bad is None and all(isfinite(value) for value in metrics.values()):
        return None
    where = f"the training loss at step {bad}" if bad else f"the score at step {step}"
    return f"diverged: {where} is not a finite number"


def on_device(split: Split, device: torch.device, dtype: torch.dtype) -> Split:
    """Return the split on the device, floats in the model's dtype; trainings at once share it.

    Raises DeviceError where it takes more than its share of a CUDA device's memory.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        check_data_fit(split, total, device)
    placed = _PLACED.setdefault(split, WeakValueDictionary())
    found = placed.get((device, dtype))
    if found is None:
        moved = split.to(device)
        tensors = (moved.inputs, moved.targets)
        found = Split(*(x.to(dtype) if x.is_floating_point() else x for x in tensors))
        placed[device, dtype] = found
    return found


def check_data_fit(split: Split, memory_bytes: int, device: torch.device) -> None:
    """Raise DeviceError where the split takes more than `DATA_SHARE` of a device's memory."""
    needed = sum(x.untyped_storage().nbytes() for x in (split.inputs, split.targets))
    if needed > memory_bytes * DATA_SHARE:
        raise DeviceError(
            f"{len(split)} examples take {needed / 2**20:.0f} MiB, more than {DATA_SHARE:.0%} of "
            f"the {memory_bytes / 2**20:.0f} MiB of {device}, where they are kept whole; "
            "use less data, or --device cpu"
        )
