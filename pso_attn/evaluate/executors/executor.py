"""Where chunks train: the seam."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pso_attn.evaluate.jobs import Answer, Job, Said


class Executor(Protocol):
    """Trains chunks somewhere, and keeps what it needs for that until it is closed.

    notes: what a person should hear before it begins.
    """

    notes: tuple[str, ...]

    @property
    def workers(self) -> int:
        """How many chunks may train at once: a generation is planned in as many at least."""
        ...

    @property
    def speeds(self) -> Sequence[float]:
        """How quick each worker is beside others: equal ones until they are known to differ."""
        ...

    @property
    def limit_bytes(self) -> int:
        """How much memory one chunk may be estimated to need."""
        ...

    def run(
        self, take: Callable[[], Job | None], hear: Callable[[Job, Said], None]
    ) -> Iterator[tuple[Job, Answer]]:
        """Yield the answer to every job that `take` gives, in the order of their ends.

        take: asked whenever a worker is free, so also after each answer; None: nothing now.
        hear: gets what is said of a chunk that trains.
        """
        ...

    def close(self) -> None:
        """End all workers; does nothing the second time."""
        ...
