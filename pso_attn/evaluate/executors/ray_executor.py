"""Chunks train on a Ray cluster: one streaming task each, the trainer once in the object store.

The driver tries a lost chunk again, as in all executors, and not Ray, so that each is tried as
often whatever ends it.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import torch

from pso_attn.errors import ConfigurationError, TrainingError
from pso_attn.evaluate.executors.executor import Tries
from pso_attn.evaluate.executors.portable import pickled, portable, unpickled
from pso_attn.evaluate.executors.ray_cluster import (
    checked_nodes,
    connect,
    device_there,
    failures,
    give_up,
    in_time,
    is_given_up,
    leave,
    listens,
    ray,
    refusal,
    room,
    versions,
)
from pso_attn.evaluate.executors.worker import ANSWER, ERROR, LOST, READY, SAID
from pso_attn.evaluate.jobs import Answer, Job, Said, Trainer, attempt, seldom

ANSWERS_WITHIN_S = 5.0
LOOK_EVERY_S = 1.0  # at deadlines, at the head, and at what was added to the cluster
LOOKS = 3  # in vain, before the head is given up


class RayExecutor:
    """Tasks of a cluster, as many at once as it has room for, or as `workers` says."""

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        trainer: Trainer,
        device: torch.device,
        address: str | None = None,
        workers: int | None = None,
        chunk_timeout_s: float | None = None,
        code: Path | None = None,
    ) -> None:
        """Join the cluster, look at its nodes, and put the trainer into its object store.

        device: "cpu", or "cuda" for a GPU a chunk. address, code: as `connect` has them.
        Raises ConfigurationError where the address does not answer, a node has other packages
        than this process, or the trainer cannot be pickled, and DeviceError where the cluster
        has no GPU and one is asked for.
        """
        self._load = pickled(trainer, ray.cloudpickle.dumps)
        self._device, self._most = device, workers
        self._room, self._looked_s = 1, -inf
        self._timeout_s = inf if chunk_timeout_s is None else chunk_timeout_s
        connect(address, code)
        try:
            device_there(device.type, address, code)
            self._limit_bytes = checked_nodes(device)
        except BaseException:
            self.close()
            raise
        self._head = ray.get_runtime_context().gcs_address
        self._held = ray.put(self._load)
        self._task = ray.remote(_serve).options(
            num_returns="streaming",
            max_retries=0,
            num_cpus=1,
            num_gpus=1 if device.type == "cuda" else 0,
        )

    @property
    def workers(self) -> int:
        """How many chunks may train at once, now; TrainingError where the head has gone."""
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._check_head()
            now = in_time(lambda: room(self._device), ANSWERS_WITHIN_S)
            if now is None:
                raise self._headless()
            self._room, self._looked_s = now, time.monotonic()
        return max(1, min(self._room, self._most or self._room))

    @property
    def limit_bytes(self) -> int:
        """How much memory one chunk may be estimated to need, on the smallest node."""
        return self._limit_bytes

    def run(
        self, take: Callable[[], Job | None], hear: Callable[[Job, Said], None]
    ) -> Iterator[tuple[Job, Answer]]:
        """Yield the answer to every job that `take` gives, in the order of their ends.

        Raises what a worker raised that fails no particle, and TrainingError where the head of
        the cluster has gone.
        """
        tries, again = Tries(), deque[Job]()
        training: dict[Any, _Training] = {}
        try:
            while True:
                while len(training) < self.workers:
                    job = again.popleft() if again else take()
                    if job is None:
                        break
                    stream = self._task.remote([self._held], self._device.type, versions(), job)
                    training[stream] = _Training(job)
                if not training:
                    return
                for stream in self._speaking(training):
                    one = training[stream]
                    kind, content = self._heard(stream, one)
                    if kind == READY:
                        one.deadline_s = time.monotonic() + self._timeout_s
                    elif kind == SAID:
                        hear(one.job, content)
                    else:
                        del training[stream]
                    if kind == ERROR:
                        raise content
                    if kind == ANSWER:
                        yield one.job, content
                    if kind == LOST:
                        lost = tries.lost(one.job, content)
                        if lost is None:
                            again.append(one.job)
                        else:
                            yield one.job, lost
        finally:
            for stream in () if is_given_up() else training:
                with suppress(failures.RayError):
                    ray.cancel(stream, force=True)

    def close(self) -> None:
        """Leave the cluster, which ends if it was begun here; not where others had joined it."""
        leave()

    def _speaking(self, training: "dict[Any, _Training]") -> list[Any]:
        """Return the streams that have something to say, or are late; waits for the first."""
        ready, _ = ray.wait(list(training), num_returns=1, timeout=LOOK_EVERY_S)
        now = time.monotonic()
        return [s for s, one in training.items() if s in ready or one.deadline_s <= now]

    def _heard(self, stream: Any, one: "_Training") -> tuple[str, Any]:
        """Return what a chunk's task has said, or that it is lost and why."""
        try:
            if ray.wait([stream], timeout=0)[0]:
                kind, content = ray.get(next(stream))
                return str(kind), content
        except StopIteration:
            return LOST, "ended without an answer"
        except failures.RayTaskError as error:
            if not isinstance(error.cause, failures.ObjectLostError):
                return ERROR, TrainingError(f"a Ray worker cannot begin: {error.cause}")
            self._held = ray.put(self._load)
            return LOST, "could not get what it should train from the object store"
        except failures.RayError as error:
            return LOST, _words(error)
        if time.monotonic() < one.deadline_s:
            return SAID, ""
        ray.cancel(stream, force=True)
        return LOST, f"gave no answer within {self._timeout_s:g} s"

    def _check_head(self) -> None:
        """Raise TrainingError where the head does not answer, before Ray ends this process."""
        for look in range(LOOKS):
            if listens(self._head):
                return
            time.sleep(LOOK_EVERY_S * (look < LOOKS - 1))
        raise self._headless()

    def _headless(self) -> TrainingError:
        give_up()
        return TrainingError(
            f"the head of the Ray cluster, {self._head}, does not answer any more"
        )


class _Training:
    """A chunk that trains, or waits for a place where it can."""

    def __init__(self, job: Job) -> None:
        self.job, self.deadline_s = job, inf


_trainers: dict[tuple[Any, str], Trainer] = {}  # of this worker, which serves many chunks


def _serve(
    held: list[Any], device: str, driver: dict[str, str], job: Job
) -> Iterator[tuple[str, Any]]:
    """Yield, in a worker, what is said of a chunk while it trains, and last its answer."""
    differs = refusal(driver)
    if differs is not None:  # a node that was added later
        yield ERROR, ConfigurationError(differs)
        return
    key = held[0], device
    if key not in _trainers:
        _trainers.clear()
        _trainers[key] = unpickled(ray.get(held[0])).on(torch.device(device))
    yield READY, None
    said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def train() -> None:
        hear = seldom(lambda word: said.put((SAID, word)))
        try:
            said.put((ANSWER, attempt(_trainers[key], job, hear)))
        except Exception as error:  # the driver raises it
            said.put((ERROR, portable(error)))

    threading.Thread(target=train, daemon=True).start()
    kind = SAID
    while kind == SAID:
        kind, content = said.get()
        yield kind, content


def _words(error: failures.RayError) -> str:
    """Return what ended a worker."""
    if isinstance(error, failures.OutOfMemoryError):
        return "was ended by Ray, for its node was short of memory"
    if isinstance(error, failures.NodeDiedError):
        return "was on a node that has gone"
    if isinstance(error, failures.WorkerCrashedError):
        return "was killed, or exited"
    return f"was lost with {type(error).__name__}"
