"""Chunks train on a Ray cluster: one streaming task each, the trainer once in the object store.

The one file that imports Ray. The driver tries a lost chunk again, as in all executors, and not
Ray, so that each is tried as often whatever ends it.
"""

import logging
import os
import queue
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster begun here: tell nobody

import ray
import torch
from ray import exceptions as failures
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pso_attn
from pso_attn.errors import ConfigurationError, DeviceError, TrainingError
from pso_attn.evaluate.device import memory_budget_bytes
from pso_attn.evaluate.executors.executor import Tries
from pso_attn.evaluate.executors.portable import pickled, portable, unpickled
from pso_attn.evaluate.executors.worker import ANSWER, ERROR, LOST, READY, SAID
from pso_attn.evaluate.jobs import Answer, Job, Said, Trainer, attempt, seldom

T = TypeVar("T")

ANSWERS_WITHIN_S = 15.0
NODE_ANSWERS_WITHIN_S = 60.0  # to unpack the code, and to load torch
LOOK_EVERY_S = 1.0  # at deadlines, at the head, and at what was added to the cluster
LOOKS = 3  # in vain, before the head is given up
COMPARED = ("torch", "numpy", "optuna")  # Ray itself compares Python and Ray
LEFT_OUT = ["runs", ".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache"]


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
            self._limit_bytes = _checked_nodes(device)
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
            room = _in_time(lambda: _room(self._device))
            if room is None:
                raise self._headless()
            self._room, self._looked_s = room, time.monotonic()
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
                    stream = self._task.remote([self._held], self._device.type, _versions(), job)
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
            for stream in () if _Joined.is_lost else training:
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
            if _listens(self._head):
                return
            time.sleep(LOOK_EVERY_S * (look < LOOKS - 1))
        raise self._headless()

    def _headless(self) -> TrainingError:
        _Joined.is_lost = True
        return TrainingError(
            f"the head of the Ray cluster, {self._head}, does not answer any more"
        )


class _Training:
    """A chunk that trains, or waits for a place where it can."""

    def __init__(self, job: Job) -> None:
        self.job, self.deadline_s = job, inf


class _Joined:
    """Whether this file joined the cluster that this process is in, and whether it is there."""

    by_us, is_lost = False, False


def leave() -> None:
    """Leave the cluster, unless others than this file had joined it; twice does nothing more."""
    if _Joined.by_us and not _Joined.is_lost:
        _Joined.by_us = False
        ray.shutdown()


def connect(address: str | None, code: Path | None) -> None:
    """Join a cluster, unless this process has; its workers get this package and `code`.

    address: HOST:PORT, by default the cluster that Ray finds here, or one that it starts here.
    code: the folder of code of one's own. Raises ConfigurationError where it does not answer
    within 15 seconds, or refuses.
    """
    if ray.is_initialized():
        return
    if address is not None and not _listens(address):
        raise ConfigurationError(
            f"no Ray cluster answers at {address}; give the HOST:PORT that `ray start --head` "
            "prints, with its port 6379"
        )
    environment: dict[str, Any] = {"py_modules": [str(Path(pso_attn.__file__).parent)]}
    if code is not None:
        environment |= {"working_dir": str(code), "excludes": LEFT_OUT}

    def join() -> str:
        try:
            ray.init(
                address=address,
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                include_dashboard=False if address is None else None,
            )
        except Exception as error:  # it is not said which
            return " ".join(str(error).split())
        _Joined.by_us = True
        return ""

    before = signal.getsignal(signal.SIGTERM)  # which Ray makes its own
    refusal = join() if address is None else _in_time(join)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
    if refusal is None:
        raise ConfigurationError(
            f"what listens at {address} does not answer as a Ray cluster within "
            f"{ANSWERS_WITHIN_S:g} s; give the HOST:PORT that `ray start --head` prints"
        )
    if refusal:
        raise ConfigurationError(f"the Ray cluster at {address or 'hand'} refuses: {refusal}")


def _in_time(call: Callable[[], T]) -> T | None:
    """Return what a call into Ray gives within 15 seconds, None if it takes longer.

    Some never return where there is no head; the thread that waits for it is left behind.
    """
    given: queue.SimpleQueue[T] = queue.SimpleQueue()
    threading.Thread(target=lambda: given.put(call()), daemon=True).start()
    try:
        return given.get(timeout=ANSWERS_WITHIN_S)
    except queue.Empty:
        return None


def device_there(name: str, address: str | None, code: Path | None) -> str:
    """Return the kind of device that a chunk gets there: "cpu", or "cuda" for one GPU.

    name: as `evaluate.resolve_device` has it, without a number. Raises DeviceError where there is
    no GPU and one is asked for.
    """
    connect(address, code)
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or number:
        raise DeviceError(f'device "{name}" is none that Ray hands out; choose auto, cpu or cuda')
    has = _room(torch.device("cuda")) > 0
    if kind == "cuda" and not has:
        raise DeviceError(
            "device cuda was asked for, and no node of the Ray cluster has a GPU; use --device "
            "cpu, or add a node that has one"
        )
    return ("cuda" if has else "cpu") if kind == "auto" else kind


def _room(device: torch.device) -> int:
    return int(ray.cluster_resources().get("GPU" if device.type == "cuda" else "CPU", 0))


def _listens(address: str) -> bool:
    """Tell whether something takes connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def _versions() -> dict[str, str]:
    return {name: version(name) for name in COMPARED}


def _checked_nodes(device: torch.device) -> int:
    """Return the least memory that a node has for a chunk; ConfigurationError by `_check`."""
    look = ray.remote(_look)
    needed = "GPU" if device.type == "cuda" else "CPU"
    nodes = {n["NodeID"]: n["Resources"].get(needed, 0) for n in ray.nodes() if n["Alive"]}
    asked = [
        look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            max_retries=0,
            num_cpus=0,
            num_gpus=0.01 if needed == "GPU" else 0,
        ).remote(device.type, int(slots), _versions())
        for node, slots in nodes.items()
        if slots >= 1
    ]
    found, _ = ray.wait(asked, num_returns=len(asked), timeout=NODE_ANSWERS_WITHIN_S)
    limits = []
    for answer in found:  # a node that is slow, or has gone by now, is not waited for
        with suppress(failures.NodeDiedError, failures.WorkerCrashedError):
            said = ray.get(answer)
            if isinstance(said, str):
                raise ConfigurationError(said)
            limits.append(said)
    if not limits:
        raise ConfigurationError(
            f"no node of the Ray cluster answers within {NODE_ANSWERS_WITHIN_S:g} s"
        )
    return int(min(limits))


def _look(device: str, slots: int, driver: dict[str, str]) -> int | str:
    """Return, on a node, the memory of one of its slots, or why it cannot take part."""
    refusal = _refusal(driver)
    if refusal is not None:
        return refusal
    share = 1 if device == "cuda" else slots
    return memory_budget_bytes(torch.device(device)) // share


def _refusal(driver: dict[str, str]) -> str | None:
    """Return, on a node, which package it has in another version than the driver, or None."""
    for name, theirs in driver.items():
        ours = version(name)
        if ours != theirs:
            return (
                f"node {ray.util.get_node_ip_address()} has {name} {ours}, and this process has "
                f"{theirs}; install the same on all, for losses depend on it"
            )
    return None


_trainers: dict[tuple[Any, str], Trainer] = {}  # of this worker, which serves many chunks


def _serve(
    held: list[Any], device: str, driver: dict[str, str], job: Job
) -> Iterator[tuple[str, Any]]:
    """Yield, in a worker, what is said of a chunk while it trains, and last its answer."""
    refusal = _refusal(driver)
    if refusal is not None:  # a node that was added later
        yield ERROR, ConfigurationError(refusal)
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
