"""Where chunks train: the seam, and how often a chunk is tried."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol

from pso_attn.evaluate.jobs import Answer, Job, Lost, Said

TRIES = 3  # of a chunk that takes its worker with it


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


class Tries:
    """How often each chunk of a run was lost, and with what."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lost: Counter[Job] = Counter()

    def lost(self, job: Job, why: str) -> Lost | None:
        """Take note that a chunk was lost; None where it is to be tried again.

        why: what its worker did, as "was killed by signal 9".
        """
        self._lost[job] += 1
        if self._lost[job] < TRIES:
            return None
        return Lost(f"its worker {why}, in the last of {TRIES} tries")
