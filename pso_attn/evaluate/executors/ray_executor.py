"""Chunks train on a Ray cluster: one streaming task each, the trainer once in the object store.

The driver tries a lost chunk again, as in all executors, and not Ray, so that each is tried as
often whatever ends it.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import torch

from pso_attn.errors import ConfigurationError, TrainingError
from pso_attn.evaluate.executors.attempts import Attempt, Attempts, End
from pso_attn.evaluate.executors.portable import pickled, portable, unpickled
from pso_attn.evaluate.executors.ray_cluster import (
    checked_nodes,
    connect,
    device_there,
    failures,
    give_up,
    is_given_up,
    leave,
    listens,
    on_node,
    ray,
    refusal,
    slots,
    versions,
)
from pso_attn.evaluate.executors.speeds import Speeds
from pso_attn.evaluate.executors.worker import ANSWER, ERROR, LOST, READY, SAID
from pso_attn.evaluate.jobs import Answer, Job, Said, Trained, Trainer, attempt, seldom
from pso_attn.unanswered import in_time

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
        self._is_repeatable = trainer.is_repeatable
        self._slots, self._workers, self._looked_s = dict[str, int](), 1, -inf
        self._measured, self._speeds = Speeds(), dict[str, float]()
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
        self._task = ray.remote(
            num_returns="streaming",
            max_retries=0,
            num_cpus=1,
            num_gpus=1 if device.type == "cuda" else 0,
        )(_serve)

    @property
    def workers(self) -> int:
        """How many chunks may train at once, now; TrainingError where the head has gone."""
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._check_head()
            now = in_time(lambda: slots(self._device), ANSWERS_WITHIN_S)
            if now is None:
                raise self._headless()
            self._slots, self._looked_s = now, time.monotonic()
            room = sum(now.values())
            self._workers = max(1, min(room, self._most or room))
        return self._workers

    @property
    def speeds(self) -> tuple[float, ...]:
        """How quick each worker is, as far as it is known now, the quickest first.

        Equal where a chunk cannot be repeated elsewhere: then none is sent to a node that might be
        busy for others. Raises TrainingError where the head has gone.
        """
        workers = self.workers
        self._speeds = self._measured.of(self._slots) if self._is_repeatable else {}
        each = [self._speed(node) for node, count in self._slots.items() for _ in range(count)]
        return tuple(sorted(each, reverse=True)[:workers]) or (1.0,)

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
        attempts = Attempts(take, self._is_repeatable)
        training: dict[Any, _Training] = {}
        try:
            while True:
                while len(training) < self.workers:
                    attempt = attempts.next(time.monotonic())
                    if attempt is None:
                        break
                    stream, one = self._sent(attempt, training.values())
                    training[stream] = one
                if not training:
                    return
                for stream in self._speaking(training):
                    if stream not in training:  # given up since, for another copy has answered
                        continue
                    one = training[stream]
                    job, kind, content = one.attempt.job, *self._heard(stream, one)
                    if kind == READY:
                        one.begins(content, self._timeout_s)
                    elif kind == SAID:
                        if attempts.is_heard(one.attempt):
                            hear(job, content)
                    else:
                        del training[stream]
                    if kind == ERROR:
                        raise content
                    if kind == ANSWER:
                        copies = attempts.answered(one.attempt, content, time.monotonic())
                        given_up = [s for s in training if training[s].attempt in copies]
                        if isinstance(content, Trained):
                            self._measure(one, [training[other] for other in given_up])
                        for other in given_up:
                            del training[other]
                            _cancel(other)
                        yield job, content
                    if kind == LOST:
                        lost = attempts.lost(one.attempt, content)
                        if lost is not None:
                            yield job, lost
        finally:
            for stream in () if is_given_up() else training:
                _cancel(stream)

    def close(self) -> None:
        """Leave the cluster, which ends if it was begun here; not where others had joined it."""
        leave()

    def _sent(self, attempt: Attempt, training: "Iterable[_Training]") -> "tuple[Any, _Training]":
        """Return the stream of an attempt that is sent out, and what is known of it."""
        node = self._place(attempt, training)
        where = "DEFAULT" if node is None else on_node(node, soft=True)
        task = self._task.options(scheduling_strategy=where)
        stream = task.remote([self._held], self._device.type, versions(), attempt.job)
        return stream, _Training(attempt, node)

    def _place(self, attempt: Attempt, training: "Iterable[_Training]") -> str | None:
        """Return the quickest node that has room and trains no copy of it; None: any will do.

        Chunks come in the order of their work, so that the largest meets the quickest.
        """
        others = {one.node for one in training if one.attempt.job is attempt.job}
        if not others and len(set(self._speeds.values())) <= 1:
            return None
        taken = Counter(one.node for one in training)
        free = [n for n, count in self._slots.items() if taken[n] < count and n not in others]
        return max(free, key=self._speed, default=None)

    def _speed(self, node: str) -> float:
        """Return how quick a node was when the generation was planned."""
        return self._speeds.get(node, 1.0)

    def _measure(self, one: "_Training", given_up: "Sequence[_Training]") -> None:
        """Take note of how long a chunk took; a copy that began before it takes longer still."""
        now_s = time.monotonic()
        for each in (one, *given_up):
            seconds = now_s - each.attempt.began_s
            if each.node is not None and each.attempt.began_s <= one.attempt.began_s:
                self._measured.measured(each.node, each.attempt.job, seconds)

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
            return LOST, End("ended without an answer")
        except failures.RayTaskError as error:
            if not isinstance(error.cause, failures.ObjectLostError):
                return ERROR, TrainingError(f"a Ray worker cannot begin: {error.cause}")
            self._held = ray.put(self._load)
            return LOST, End("could not get what it should train from the object store")
        except failures.RayError as error:
            return LOST, _end(error)
        if time.monotonic() < one.deadline_s:
            return SAID, ""
        _cancel(stream)
        return LOST, End(f"gave no answer within {self._timeout_s:g} s")

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
    """A chunk that trains, or waits for a place where it can. node: where, None: not known yet."""

    def __init__(self, attempt: Attempt, node: str | None) -> None:
        self.attempt, self.node, self.deadline_s = attempt, node, inf

    def begins(self, node: str, timeout_s: float) -> None:
        """Take note of where it is, and that it begins now."""
        self.node, self.attempt.began_s = node, time.monotonic()
        self.deadline_s = self.attempt.began_s + timeout_s


def _cancel(stream: Any) -> None:
    """End a task, and its worker."""
    with suppress(failures.RayError):
        ray.cancel(stream, force=True)


_trainers: dict[tuple[Any, str], Trainer] = {}  # of this worker: of many chunks, on a GPU of one


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
    yield READY, ray.get_runtime_context().get_node_id()
    said: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def train() -> None:
        hear = seldom(lambda word: said.put((SAID, word)))
        try:
            said.put((ANSWER, attempt(_trainers[key], job, hear)))
        except BaseException as error:  # the driver raises it
            said.put((ERROR, portable(error)))

    threading.Thread(target=train, daemon=True).start()
    kind = SAID
    while kind == SAID:
        kind, content = said.get()
        yield kind, content


def _end(error: failures.RayError) -> End:
    """Return what ended a worker."""
    if isinstance(error, failures.OutOfMemoryError):
        return End("was ended by Ray, for its node was short of memory", True)
    if isinstance(error, failures.NodeDiedError):
        return End("was on a node that has gone")
    if isinstance(error, failures.WorkerCrashedError):
        return End("was killed, or exited", True)
    return End(f"was lost with {type(error).__name__}")
