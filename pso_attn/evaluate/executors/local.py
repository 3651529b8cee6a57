"""Chunks train in this process, one after another."""

from collections.abc import Callable, Iterator

import torch

from pso_attn.evaluate.device import memory_budget_bytes
from pso_attn.evaluate.jobs import Answer, Job, Said, Trainer, attempt


class LocalExecutor:
    """The default: no other process, nothing to close."""

    notes: tuple[str, ...] = ()

    def __init__(self, trainer: Trainer, device: torch.device, workers: int = 1) -> None:
        """workers: into how many chunks a generation is planned, as if there were as many."""
        self._trainer, self._device, self.workers = trainer, device, workers

    @property
    def speeds(self) -> tuple[float, ...]:
        """How quick each worker is: they do not differ."""
        return (1.0,) * self.workers

    @property
    def limit_bytes(self) -> int:
        """How much memory one chunk may be estimated to need."""
        return memory_budget_bytes(self._device)

    def run(
        self, take: Callable[[], Job | None], hear: Callable[[Job, Said], None]
    ) -> Iterator[tuple[Job, Answer]]:
        """Yield the answer to every job that `take` gives, in their order."""
        while (job := take()) is not None:
            current = job
            yield job, attempt(self._trainer, job, lambda said: hear(current, said))  # noqa: B023 - called before the next

    def close(self) -> None:
        """Do nothing."""
