"""What workers do next: a new chunk, a lost one again, or a copy of one that is late.

The first of two copies that answers counts, since a chunk's floats do not depend on its worker:
"backup tasks", Dean & Ghemawat (2004), MapReduce, section 3.6. `benchmarks/scale.py` simulates it.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from pso_attn.evaluate.jobs import Answer, Job, Lost, TooMuch, Trained

TRIES = 3  # of a chunk that takes its worker with it, copies included
TRIES_TOGETHER = 2  # of one of several trainings, where memory may have run out
LATE = 1.5  # times what a chunk of its size takes
FINISHED = 0.5  # of a generation's chunks, before which none is called late
WORTH_S = 5.0  # to be late by: what it takes to start the worker again that is given up


@dataclass(eq=False)
class Attempt:
    """One try of a chunk. began_s: when it was given to a worker, or if later, when that began."""

    job: Job
    began_s: float


@dataclass(frozen=True)
class End:
    """How a try was lost. why: what its worker did, as "was killed by SIGKILL".

    by_memory: whether a lack of memory may have been the reason.
    """

    why: str
    by_memory: bool = False


class Attempts:
    """All tries of the chunks of one run of an executor."""

    def __init__(self, take: Callable[[], Job | None], is_repeatable: bool) -> None:
        """take: gives chunks, as `Executor.run` has it. is_repeatable: as `Trainer` has it."""
        self._take, self._is_repeatable = take, is_repeatable
        self._again = deque[Job]()
        self._lost = Counter[Job]()
        self._running: dict[Job, list[Attempt]] = {}  # tries of a chunk: one, or two copies
        self._seconds: list[float] = []  # of chunks that were trained
        self._work: list[float] = []

    def next(self, now_s: float) -> Attempt | None:
        """Return what a free worker should try, None where there is nothing now."""
        job = self._again.popleft() if self._again else self._take()
        if job is None:
            job = self._late(now_s)
        if job is None:
            return None
        attempt = Attempt(job, now_s)
        self._running.setdefault(job, []).append(attempt)
        return attempt

    def is_heard(self, attempt: Attempt) -> bool:
        """Tell whether its progress is its chunk's: of two copies, the first one's is."""
        return self._running[attempt.job][0] is attempt

    def answered(self, attempt: Attempt, answer: Answer, now_s: float) -> list[Attempt]:
        """Take note of a chunk's answer; return its other copies, which are given up."""
        if isinstance(answer, Trained):
            self._seconds.append(now_s - attempt.began_s)
            self._work.append(attempt.job.work)
        return [one for one in self._running.pop(attempt.job) if one is not attempt]

    def lost(self, attempt: Attempt, end: End) -> Lost | TooMuch | None:
        """Take note that a try was lost; None where its chunk is tried again, or still is.

        Several that memory may have run out for twice are not tried together again: Linux ends who
        takes too much, so no error says so. Once may be anybody's `kill`, which changes no result.
        """
        job = attempt.job
        self._running[job].remove(attempt)
        self._lost[job] += 1
        if self._running[job]:
            return None
        del self._running[job]
        if end.by_memory and len(job.candidates) > 1 and self._lost[job] >= TRIES_TOGETHER:
            return TooMuch()
        if self._lost[job] < TRIES:
            self._again.append(job)
            return None
        return Lost(f"its worker {end.why}, in the last of {TRIES} tries", end.by_memory)

    def _late(self, now_s: float) -> Job | None:
        """Return the chunk that began first of those that are late and have no copy yet.

        One of less work than usual is granted the usual time: what a step costs in any case stays.
        """
        done = len(self._seconds)
        if not self._is_repeatable or done < max(1, FINISHED * (done + len(self._running))):
            return None
        usual_s, usual_work = median(self._seconds), median(self._work)
        late = []
        for job, tries in self._running.items():
            more = job.work / usual_work if usual_work else 1.0  # modules of no operation it knows
            expected_s = usual_s * max(1.0, more)
            has_room = len(tries) == 1 and self._lost[job] + 1 < TRIES
            took_s = now_s - tries[0].began_s
            if has_room and took_s > max(LATE * expected_s, expected_s + WORTH_S):
                late.append(tries[0])
        return min(late, key=lambda one: one.began_s).job if late else None
