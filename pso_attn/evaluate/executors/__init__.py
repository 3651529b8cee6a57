"""Where chunks train: in this process, in processes of this machine, or on a Ray cluster."""

import psutil
import torch

from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.executors.local import LocalExecutor
from pso_attn.evaluate.executors.processes import ProcessExecutor
from pso_attn.evaluate.jobs import Trainer

__all__ = ["Executor", "LocalExecutor", "ProcessExecutor", "make_executor"]


def make_executor(
    name: str,
    trainer: Trainer,
    device: torch.device,
    workers: int | None = None,
    chunk_timeout_s: float | None = None,
) -> Executor:
    """Return the executor of that name, to be closed after use.

    workers: how many chunks train at once; by default as many as there are cores, or GPUs.
    chunk_timeout_s: how long one try of a chunk may take. Raises ConfigurationError where the
    trainer cannot be sent to workers.
    """
    if name == "local":
        return LocalExecutor(trainer, device)
    return ProcessExecutor(trainer, device, workers or _most(device), chunk_timeout_s)


def _most(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.device_count() if device.index is None else 1
    return len(psutil.Process().cpu_affinity())
