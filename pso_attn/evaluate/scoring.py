"""How well the particles of a swarm do on a split."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from pso_attn.evaluate.own_code import task_score
from pso_attn.evaluate.precision import autocast, products_in
from pso_attn.models import Swarm
from pso_attn.models.footprint import SCORED_TOGETHER
from pso_attn.tasks.task import Split, Task

AT_ONCE = 2**22  # logits of whole particles, of which metrics make some more tensors as large


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

    def answers(batch: slice) -> Tensor:
        return forward(data.inputs[None, batch]).to(dtype)

    if not task.info.per_token:
        joined = _joined(map(answers, batches), len(data))
        return _of_all_examples(task, joined, data.targets[None])
    sums: dict[str, Tensor] = {}
    for batch in batches:
        targets = data.targets[None, batch]
        # no name holds the logits, else they would last until there are the next
        for name, value in task_score(task, answers(batch), targets).items():
            sums[name] = sums.get(name, 0) + value.double() * targets.shape[1]
    return {name: value / len(data) for name, value in sums.items()}


def by_particle(scores: Mapping[str, Tensor]) -> list[dict[str, float]]:
    """Return metrics (N,) by name as one table for each particle."""
    table = torch.stack([values.double() for values in scores.values()]).T.tolist()
    return [dict(zip(scores, row, strict=True)) for row in table]


def _joined(answers: Iterable[Tensor], examples: int) -> Tensor:
    """Return batches of logits (N, b, outputs) as one (N, B, outputs), never all held twice."""
    joined, done = torch.empty(0), 0
    for logits in answers:
        if not done:
            joined = logits.new_empty(len(logits), examples, *logits.shape[2:])
        joined[:, done : done + logits.shape[1]] = logits
        done += logits.shape[1]
    return joined


def _of_all_examples(task: Task, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return every metric (N,) of logits (N, B, outputs), a few particles at a time."""
    few = max(1, AT_ONCE // logits[0].numel())
    found = [task_score(task, some, targets) for some in logits.split(few)]
    return {name: torch.cat([one[name] for one in found]) for name in found[0]}
