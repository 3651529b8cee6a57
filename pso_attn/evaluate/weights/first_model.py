"""The model whose weights are searched: trained by gradients before the search begins."""

from collections.abc import Callable

import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError, DeviceError
from pso_attn.evaluate.device import is_out_of_memory
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.room import in_words
from pso_attn.evaluate.training import SwarmTraining, divergence
from pso_attn.seeding import training_seed
from pso_attn.tasks.task import Task
from pso_attn.types import Settings


def train_first(
    task: Task,
    settings: Settings,
    seed: int,
    steps: int,
    device: torch.device,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, Tensor]:
    """Return a model's parts by name, trained as the first training of a search would be.

    Raises ConfigurationError where it diverges, DeviceError where it does not fit into memory.
    """
    member = read_member(settings, training_seed(seed, 0), task)
    try:
        training = SwarmTraining(task, [member], steps, device)
        training.advance(steps, on_step)
        metrics = training.score()[0]
    except (MemoryError, RuntimeError) as failure:
        if not is_out_of_memory(failure):
            raise
        raise DeviceError(
            f"memory ran out on {device}: the model whose weights are searched needs "
            f"{in_words([member], task.info, steps)} while it trains; choose a smaller "
            "batch_size, width, layers or steps, or use a device with more memory"
        ) from failure
    error = divergence(training.first_bad_steps()[0], metrics, steps)
    if error is not None:
        raise ConfigurationError(
            f"the model whose weights are searched {error}; lower lr in [model], or start from a "
            "checkpoint"
        )
    return {name: part.cpu() for name, part in training.true_parameters(0).items()}
