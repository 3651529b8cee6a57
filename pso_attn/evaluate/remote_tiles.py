"""Processes of this machine that advance tiles beside this one.

Threads share an interpreter, and small models spend most of a step in it; a process has its own.
No float depends on where a tile trains, so nothing of this is stored. A helper is a bare Python
that reads a task and then calls, and never the caller's script: it may be started from anywhere.
"""

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any
from weakref import finalize

import torch
from torch import Tensor

from pso_attn.evaluate.device import cores, end_before_others, memory_budget_bytes, rounding
from pso_attn.evaluate.executors.portable import portable
from pso_attn.evaluate.member import Member
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.models import Layout
from pso_attn.tasks.task import Task

SAID_EVERY_S = 0.1
ASKED_EVERY_S = 1.0  # whether the driver is still there
MEMORY_SHARE = 0.25  # of the memory for training, that all helpers may take before they train
EMPTY_BYTES = 300 * 2**20  # of a helper without data
_STEP, _ANSWER, _ERROR = "step", "answer", "error"
_STOP = pickle.dumps(None)
_CODE = "from pso_attn.evaluate.remote_tiles import serve; serve(int(__import__('sys').argv[1]))"


class HelperLost(Exception):
    """A helper has ended; whatever was asked of it can be computed here, to the same floats."""


class Helpers:
    """Those of one task, each in a place from 1; they end with this process."""

    def __init__(self, task: Task) -> None:
        """Start none yet."""
        self._task, self._load = task, b""
        self._links: dict[int, _Link] = {}  # by place
        self._are_refused = False

    @property
    def are_running(self) -> bool:
        """Whether there are any."""
        return bool(self._links)

    def start(self, count: int) -> bool:
        """Tell whether so many are ready.

        They are not where memory is short, where they cannot read the task, because its class is
        to be found here alone, and where they would round otherwise.
        """
        if self._are_refused or not self._fit(count):
            return False
        places = range(1, count + 1)
        try:
            self._load = self._load or pickle.dumps(self._task)
            fresh = {place: _Link() for place in places if place not in self._links}
            self._links |= fresh  # they load PyTorch side by side
            for link in fresh.values():
                self._are_refused |= link.begin(self._load) != rounding()
        except Exception:  # code of somebody else's reads and writes the task: it may be any
            self._are_refused = True
        if self._are_refused:
            self.close()
        return not self._are_refused

    def tile(
        self,
        place: int,
        members: Sequence[Member],
        steps: int,
        dtype: torch.dtype,
        layout: Layout,
    ) -> "RemoteTile":
        """Return trainings, as `SwarmTraining` starts them, that advance in the helper there.

        It is one that was started, or its successor where it was ended.
        """
        if not self._links[place].is_free:
            self._links[place].close()
            self._links[place] = _Link()
            self._links[place].begin(self._load)
        return RemoteTile(self._links[place], members, steps, dtype, layout)

    def close(self) -> None:
        """End them; does nothing the second time."""
        links, self._links = self._links, {}
        for link in links.values():
            link.close()

    def _fit(self, count: int) -> bool:
        """Tell whether so many may each hold Python, PyTorch and the data once more.

        As many processes as cores have threads for may each ask for helpers, and share the memory.
        """
        splits = (self._task.train, self._task.validation, self._task.test)
        held = sum(x.untyped_storage().nbytes() for s in splits for x in (s.inputs, s.targets))
        threads = max(torch.get_num_threads(), count + 1)  # of this process, which has one itself
        budget = memory_budget_bytes(torch.device("cpu")) // max(1, cores() // threads)
        return count * (held + EMPTY_BYTES) <= MEMORY_SHARE * budget


class RemoteTile:
    """A `SwarmTraining` in a helper; HelperLost from any call where the helper has ended."""

    def __init__(
        self,
        link: "_Link",
        members: Sequence[Member],
        steps: int,
        dtype: torch.dtype,
        layout: Layout,
    ) -> None:
        """Start the members there."""
        self._link, self._key, self.step = link, link.new_key(), 0
        finalize(self, link.forget, self._key)
        self.rows: list[int] = self._ask(None, list(members), steps, dtype, layout)

    def advance(self, until: int, on_step: Callable[[int], None] | None = None) -> None:
        """Train up to step `until`; on_step hears of some steps, and what it raises ends this."""
        self._ask("advance", until, hear=on_step)
        self.step = until
        if on_step is not None:
            on_step(until)

    def score(self, split: str = "validation") -> list[dict[str, float]]:
        """Return the task's metrics on a split for each row still in training."""
        scores: list[dict[str, float]] = self._ask("score", split)
        return scores

    def first_bad_steps(self) -> list[int | None]:
        """Return for each row the first step, from 1, whose training loss was not finite."""
        steps: list[int | None] = self._ask("first_bad_steps")
        return steps

    def true_parameters(self, position: int) -> dict[str, Tensor]:
        """Return the stand-alone model's parameters of one particle of the batch."""
        parameters: dict[str, Tensor] = self._ask("true_parameters", position)
        return parameters

    def keep(self, positions: Sequence[int]) -> None:
        """Compact the batch to these of its present particles."""
        self.rows = [self.rows[position] for position in positions]
        self._ask("keep", list(positions))

    def _ask(self, name: str | None, *arguments: Any, hear: Any = None) -> Any:
        return self._link.ask((self._key, name, arguments), hear)


class _Link:
    """This end of one helper. One thread at a time may ask."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: the folder that one happens to be in is no place for modules
                [sys.executable, "-P", "-c", _CODE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=sys.__stderr__ or subprocess.DEVNULL,  # stdout holds results
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C at a terminal is for this process
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self._connection, self._gone, self._keys = Connection(ours.detach()), list[int](), 0
        self.is_free = False  # no call is under way, as where it is lost or was not heard out
        finalize(self, _end, self._process, self._connection)

    def begin(self, load: bytes) -> int:
        """Return how MKL rounds there, once the task is read; raises what kept it from that."""
        self._send(load)
        kind, content = self._answer(None)
        if kind == _ERROR:
            raise content
        return int(content)

    def new_key(self) -> int:
        """Return what the next tile is called there."""
        self._keys += 1
        return self._keys

    def forget(self, key: int) -> None:
        """Let the tile of that name go, with the next call: this may interrupt another."""
        self._gone.append(key)

    def ask(self, call: Any, hear: Callable[[int], None] | None) -> Any:
        """Return what a call gives there, or raise what it raises; hear: gets steps."""
        gone = [self._gone.pop() for _ in range(len(self._gone))]
        self.is_free = False
        self._send(pickle.dumps((gone, call)))
        kind, content = self._answer(hear)
        if kind == _ERROR:
            raise content
        return content

    def _answer(self, hear: Callable[[int], None] | None) -> tuple[str, Any]:
        """Return the answer to a call. Where `hear` raises, the call is stopped first."""
        kind, content = self._read()
        while kind == _STEP:
            try:
                if hear is not None:
                    hear(content)
            except BaseException:
                self._send(_STOP)
                self._answer(None)
                raise
            kind, content = self._read()
        self.is_free = True
        return kind, content

    def close(self) -> None:
        """End the helper."""
        self.is_free = False
        _end(self._process, self._connection)

    def _send(self, message: bytes) -> None:
        try:
            self._connection.send_bytes(message)
        except OSError as error:
            raise self._lost() from error

    def _read(self) -> tuple[str, Any]:
        try:
            kind, content = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise self._lost() from error
        return kind, content

    def _lost(self) -> HelperLost:
        self.close()
        return HelperLost("a process that trained some of the particles was ended")


def serve(descriptor: int) -> None:
    """Read a task, then calls of tiles of it, until whoever sends them has gone."""
    end_before_others()
    torch.set_num_threads(1)
    link, driver = Connection(descriptor), os.getppid()
    tiles: dict[int, SwarmTraining] = {}
    with suppress(EOFError, OSError):
        try:
            task = pickle.loads(link.recv_bytes())
        except Exception as error:  # as where it is started
            link.send_bytes(pickle.dumps((_ERROR, portable(error))))
            return
        link.send_bytes(pickle.dumps((_ANSWER, rounding())))
        while True:
            while not link.poll(ASKED_EVERY_S):
                _check(driver)
            message = pickle.loads(link.recv_bytes())
            if message is None:  # to stop what has ended by itself
                continue
            gone, (key, name, arguments) = message
            for old in gone:
                tiles.pop(old, None)
            try:
                if name is None:
                    members, steps, dtype, layout = arguments
                    cpu = torch.device("cpu")
                    tiles[key] = SwarmTraining(task, members, steps, cpu, dtype, layout)
                    answer: Any = tiles[key].rows
                elif name == "advance":
                    answer = tiles[key].advance(arguments[0], _teller(link, driver))
                else:
                    answer = getattr(tiles[key], name)(*arguments)
            except _Stopped:
                answer = None
            except Exception as error:
                link.send_bytes(pickle.dumps((_ERROR, portable(error))))
                continue
            link.send_bytes(pickle.dumps((_ANSWER, answer)))


def _check(driver: int) -> None:
    """Raise EOFError where the driver has ended; a child of it may still hold the socket."""
    if os.getppid() != driver:
        raise EOFError


def _teller(link: Connection, driver: int) -> Callable[[int], None]:
    """Return what says steps now and then, and stops where it is told to."""
    last_s = time.monotonic()

    def tell(step: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < SAID_EVERY_S:
            return
        last_s = now_s
        _check(driver)
        if link.poll():
            link.recv_bytes()
            raise _Stopped
        link.send_bytes(pickle.dumps((_STEP, step)))

    return tell


class _Stopped(Exception):
    """Ends what nobody waits for any more."""


def _end(process: "subprocess.Popen[bytes]", connection: Connection) -> None:
    process.kill()
    process.wait()
    connection.close()
