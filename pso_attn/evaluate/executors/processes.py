"""Chunks train in processes of this machine, one device each.

`concurrent.futures` gives up a whole pool when one process dies, loky too; pebble replaces it, and
has no way for a chunk to say how far it is. So each worker is a plain process with a pipe.
"""

import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from math import inf
from multiprocessing import connection, get_context
from typing import Any

import torch

from pso_attn.errors import ConfigurationError, TrainingError
from pso_attn.evaluate.device import cores, memory_budget_bytes, threads_of_each
from pso_attn.evaluate.executors.attempts import Attempt, Attempts, End
from pso_attn.evaluate.executors.portable import pickled
from pso_attn.evaluate.executors.worker import ANSWER, ERROR, LOST, READY, SAID, serve
from pso_attn.evaluate.jobs import Answer, Job, Said, Trainer

_spawned = get_context("spawn")  # a fork would inherit threads and a CUDA context
PATIENCE_S = 2.0  # for a worker to end by itself
DATA_SHARE = 0.5  # of what a worker may take
LOOK_EVERY_S = 1.0  # at what is late, while a worker has nothing to do
ENDING_S = 20.0  # for one that closes its end: on a busy machine its death takes long


class ProcessExecutor:
    """Spawned workers; one that dies or takes too long costs its own chunk's try alone."""

    def __init__(
        self,
        trainer: Trainer,
        device: torch.device,
        workers: int,
        chunk_timeout_s: float | None = None,
    ) -> None:
        """Start nothing yet. chunk_timeout_s: how long one try of a chunk may take.

        Raises ConfigurationError where the trainer cannot be pickled, or leaves no room to train.
        """
        self.workers = workers
        self._devices = devices(device, workers)
        self._load, self._is_repeatable = pickled(trainer), trainer.is_repeatable
        self._check_room()
        self._timeout_s = inf if chunk_timeout_s is None else chunk_timeout_s
        self._started: dict[int, _Worker] = {}  # by place, of which there is one a worker
        self._threads = threads_of_each(workers)
        crowded = device.type == "cpu" and workers > cores()
        self.notes: tuple[str, ...] = ()
        if crowded:
            self.notes = (
                f"{workers} workers share {cores()} cores, and wait for each other; --workers "
                f"{cores()} is as fast",
            )

    @property
    def speeds(self) -> tuple[float, ...]:
        """How quick each worker is: they do not differ."""
        return (1.0,) * self.workers

    @property
    def limit_bytes(self) -> int:
        """How much memory one chunk may be estimated to need, where each worker has one."""
        sharers = self._devices.count(self._devices[0])
        held = len(self._load)  # about: the data are most of what a worker is sent
        return memory_budget_bytes(self._devices[0]) // sharers - held

    def run(
        self, take: Callable[[], Job | None], hear: Callable[[Job, Said], None]
    ) -> Iterator[tuple[Job, Answer]]:
        """Yield the answer to every job that `take` gives, in the order of their ends.

        Raises what a worker raised that fails no particle, and TrainingError where one cannot
        even start.
        """
        attempts = Attempts(take, self._is_repeatable)
        try:
            while busy := self._given(attempts):
                patience_s = LOOK_EVERY_S if len(busy) < self.workers else inf
                for worker in _speaking(busy, patience_s):
                    attempt = worker.attempt
                    if attempt is None:  # given up since, for another copy has answered
                        continue
                    kind, content = worker.hear()
                    if kind == ERROR:
                        raise content
                    if kind == SAID and attempts.is_heard(attempt):
                        hear(attempt.job, content)
                    if kind == ANSWER:
                        self._end(attempts.answered(attempt, content, time.monotonic()))
                        yield attempt.job, content
                    if kind == LOST:
                        del self._started[worker.place]
                        lost = attempts.lost(attempt, content)
                        if lost is not None:
                            yield attempt.job, lost
        finally:
            self._end([w.attempt for w in self._started.values() if w.attempt is not None])

    def _check_room(self) -> None:
        """Raise ConfigurationError where the data alone take most of what a worker may take."""
        there = sum(memory_budget_bytes(device) for device in set(self._devices))
        here = memory_budget_bytes(torch.device("cpu"))  # where they read what they are sent
        fitting = int(min(here, there) * DATA_SHARE) // len(self._load)
        if fitting < self.workers:
            raise ConfigurationError(
                f"--workers {self.workers}: each would hold the data, "
                f"{len(self._load) / 2**20:.0f} MiB, and too little memory be left to train; use "
                f"{f'--workers {fitting}' if fitting > 1 else '--executor local'}"
            )

    def close(self) -> None:
        """End all workers; does nothing the second time."""
        workers, self._started = self._started, {}
        for worker in workers.values():
            worker.link.close()  # who waits for a chunk ends by itself
        deadline_s = time.monotonic() + PATIENCE_S
        for worker in workers.values():
            worker.end(deadline_s - time.monotonic())

    def _given(self, attempts: Attempts) -> "list[_Worker]":
        """Return those who train, after each free place has got a chunk if there is one."""
        for place, device in enumerate(self._devices):
            worker = self._started.get(place)
            if worker is not None and worker.attempt is not None:
                continue
            attempt = attempts.next(time.monotonic())
            if attempt is None:
                break
            if worker is None:
                worker = _Worker(place, device, self._load, self._threads, self._timeout_s)
                self._started[place] = worker
            worker.give(attempt)
        return [worker for worker in self._started.values() if worker.attempt is not None]

    def _end(self, attempts: Sequence[Attempt]) -> None:
        """End the workers that are at these."""
        for worker in list(self._started.values()):
            if worker.attempt in attempts:
                del self._started[worker.place]
                worker.attempt = None
                worker.end()


class _Worker:
    """The driver's end of one process, and what it is at, if anything."""

    def __init__(
        self, place: int, device: torch.device, load: bytes, threads: int, timeout_s: float
    ) -> None:
        self.place, self._load, self._timeout_s = place, load, timeout_s
        self.attempt: Attempt | None = None
        self._is_ready, self.deadline_s = False, inf
        self.link, theirs = _spawned.Pipe()
        # no daemon, for those may not have children, and code of one's own may want some
        self.process = _spawned.Process(target=serve, args=(theirs, device, threads))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:  # a Ctrl-C while it starts is for the driver
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def give(self, attempt: Attempt) -> None:
        """Let it try a chunk, at once or when it has started."""
        self.attempt = attempt
        if self._is_ready:
            self._send_job()

    def hear(self) -> tuple[str, Any]:
        """Return what it has said, or that it is lost and why; at once, if it has or is."""
        kind: str
        with suppress(EOFError, OSError):  # it ended, or is about to
            if self.link.poll():
                kind, content = pickle.loads(self.link.recv_bytes())
                if kind == READY:
                    self._is_ready = True
                    self.link.send_bytes(self._load)
                    self._send_job()
                if kind == ANSWER:
                    self.attempt, self.deadline_s = None, inf
                return kind, content
        if time.monotonic() >= self.deadline_s and self.process.exitcode is None:
            self.end()
            return LOST, End(f"gave no answer within {self._timeout_s:g} s")
        self.process.join(ENDING_S)  # its ends of pipes close one by one, before it has ended
        if self.process.exitcode is None:
            self.end()
            return LOST, End("closed its end")
        self.end()
        return LOST, self._ended()

    def end(self, patience_s: float = 0.0) -> None:
        """End it, with all that code of one's own has started there."""
        self.process.join(max(0.0, patience_s))
        pid = self.process.pid
        assert pid is not None
        with suppress(ProcessLookupError, PermissionError):  # none is left, or none of ours
            os.killpg(pid, signal.SIGKILL)
        self.process.kill()  # one that is not yet a group of its own
        self.process.join()
        self.link.close()

    def _send_job(self) -> None:
        assert self.attempt is not None
        self.attempt.began_s = time.monotonic()
        self.deadline_s = self.attempt.began_s + self._timeout_s
        with suppress(BrokenPipeError):  # it has ended: the next look at it will tell
            self.link.send_bytes(pickle.dumps(self.attempt.job))

    def _ended(self) -> End:
        """Return how the process ended; TrainingError where it never began."""
        code = self.process.exitcode
        assert code is not None
        if code < 0:
            name = signal.Signals(-code).name
            if name == "SIGKILL":
                return End(f"was killed by {name}, as Linux does where memory is short", True)
            return End(f"was killed by {name}")
        if not self._is_ready:
            raise TrainingError(
                f"a worker process ended with exit code {code} before it began; in a script, call "
                'tune under `if __name__ == "__main__":`'
            )
        return End(f"exited with code {code}")


def devices(device: torch.device, workers: int) -> list[torch.device]:
    """Return each worker's device: that one, or in turn each GPU where "cuda" names no single."""
    if device.type != "cuda" or device.index is not None:
        return [device] * workers
    count = torch.cuda.device_count()
    return [torch.device("cuda", place % count) for place in range(workers)]


def _speaking(busy: "Sequence[_Worker]", patience_s: float) -> "list[_Worker]":
    """Return those who have something to say, ended, or are late; waits so long for the first."""
    left_s = min(min(w.deadline_s for w in busy) - time.monotonic(), patience_s)
    handles: list[Any] = [worker.link for worker in busy]
    handles += [worker.process.sentinel for worker in busy]
    ready = connection.wait(handles, None if left_s == inf else max(0.0, left_s))
    now = time.monotonic()
    return [
        worker
        for worker in busy
        if worker.link in ready or worker.process.sentinel in ready or worker.deadline_s <= now
    ]
