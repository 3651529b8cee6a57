"""Where chunks train: in this process, in processes of this machine, or on a Ray cluster."""

from pathlib import Path
from types import ModuleType

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.device import cores, resolve_device
from pso_attn.evaluate.executors.executor import Executor
from pso_attn.evaluate.executors.local import LocalExecutor
from pso_attn.evaluate.executors.processes import ProcessExecutor
from pso_attn.evaluate.jobs import Trainer

__all__ = ["Executor", "LocalExecutor", "ProcessExecutor", "device_for", "make_executor"]


def make_executor(
    name: str,
    trainer: Trainer,
    device: torch.device,
    workers: int | None = None,
    chunk_timeout_s: float | None = None,
    ray_address: str | None = None,
    code: Path | None = None,
) -> Executor:
    """Return the executor of that name, to be closed after use.

    workers: how many chunks train at once; by default as many as there are cores, or GPUs.
    chunk_timeout_s: how long one try of a chunk may take. ray_address: of a cluster. code: the
    folder of code of one's own, for machines that do not have it. Raises ConfigurationError where
    the trainer cannot be sent to workers, or the cluster does not answer.
    """
    if name == "local":
        return LocalExecutor(trainer, device)
    if name == "processes":
        return ProcessExecutor(trainer, device, workers or _most(device), chunk_timeout_s)
    return _ray().RayExecutor(  # type: ignore[no-any-return]  # of a module that may be missing
        trainer, device, ray_address, workers, chunk_timeout_s, code
    )


def device_for(name: str, executor: str, ray_address: str | None, code: Path | None) -> str:
    """Return the device that "auto", "cpu", "cuda" or "cuda:i" stands for where chunks train.

    Raises DeviceError where it is absent.
    """
    if executor == "ray":
        return str(_ray().device_there(name, ray_address, code))
    return str(resolve_device(name))


def _most(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.device_count() if device.index is None else 1
    return cores()


def _ray() -> ModuleType:
    try:
        from pso_attn.evaluate.executors import ray_executor
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ConfigurationError(
            'the executor ray needs Ray, which is not installed; run pip install "pso-attn[ray]"'
        ) from error
    return ray_executor
