"""How well the particles of a swarm do on a split."""

from collections.abc import Callable

import torch
from torch import Tensor

from pso_attn.evaluate.precision import autocast, products_in
from pso_attn.models import Swarm
from pso_attn.models.footprint import SCORED_TOGETHER
from pso_attn.tasks.task import Split, Task


def score_split(
    swarm: Swarm, task: Task, data: Split, precision: str = "float32"
) -> dict[str, Tensor]:
    """Return every metric of each particle, (N,); precision: of the model's products.

    Where each token has a target, their logits are many, and batches are averaged.
    """
    weights = swarm.storage.weights
    with products_in(precision, weights.device), autocast(precision, weights.device):
        return scores_of(swarm.forward, task, data, weights.dtype)


def scores_of(
    forward: Callable[[Tensor], Tensor], task: Task, data: Split, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return every metric (N,) of what `forward` gives, (N, B, …), for inputs (1, B, …)."""
    batches = [
        slice(first, first + SCORED_TOGETHER) for first in range(0, len(data), SCORED_TOGETHER)
    ]
    answers = (forward(data.inputs[None, batch]).to(dtype) for batch in batches)
    if not task.info.per_token:
        return task.score(torch.cat(list(answers), 1), data.targets[None])
    sums: dict[str, Tensor] = {}
    for batch, logits in zip(batches, answers, strict=True):
        targets = data.targets[None, batch]
        for name, value in task.score(logits, targets).items():
            sums[name] = sums.get(name, 0) + value.double() * targets.shape[1]
    return {name: value / len(data) for name, value in sums.items()}
