"""One driver per run: an exclusive `flock` on `runs/<name>/lock`, held until it is released.

The kernel drops the lock when its holder dies, however it dies, so there is nothing to clean up
and nothing that a person could break by mistake.
"""

import fcntl
import json
import os
import socket
import time
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import psutil

from pso_attn.errors import RunError, StorageError


class RunLock:
    """An exclusive lock on a run, held from construction until `release`.

    Raises RunError, naming the holder's process and host, while somebody else holds it, and
    StorageError where the file cannot be written or the file system knows no locks.
    """

    def __init__(self, path: Path) -> None:
        """Hold the lock, or raise at once."""
        run = path.parent.name
        try:
            self._file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held until release
        except OSError as error:
            raise StorageError(
                f"run {run}: the lock {path} cannot be opened ({error.strerror}); "
                "make the run's folder writable"
            ) from error
        try:
            _take(self._file)
        except BlockingIOError as error:
            holder = _read_holder(self._file.name)
            self._file.close()
            raise RunError(
                f"run {run} is in use by {holder}; wait until it ends, or stop that process"
            ) from error
        except OSError as error:
            self._file.close()
            raise StorageError(
                f"run {run}: {path} cannot be locked ({error.strerror}); "
                "keep runs on a file system that has locks"
            ) from error
        _HELD.add(self)
        with suppress(OSError):  # a full disk: who holds it is for messages alone
            self._file.truncate(0)
            os.write(self._file.fileno(), json.dumps(this_process()).encode())

    def release(self) -> None:
        """Let others have the run; does nothing the second time."""
        self._file.close()

    def __enter__(self) -> "RunLock":
        """Return the held lock."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the lock."""
        self.release()


_PATIENCE_S = 0.2
_HELD: weakref.WeakSet[RunLock] = weakref.WeakSet()


def _take(file: TextIO) -> None:
    """Lock a file; who only asks whether it is locked holds it for a moment, and is waited for."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(_PATIENCE_S / 20)


def _forget_in_child() -> None:
    """Close inherited handles, so that a forked worker does not hold its dead driver's lock."""
    for lock in _HELD:
        lock.release()  # closing a copy leaves the parent's lock as it is


os.register_at_fork(after_in_child=_forget_in_child)


def this_process() -> dict[str, Any]:
    """Return who we are: host, pid, and when the process started (seconds since the epoch)."""
    return dict(_process(os.getpid()))


@cache
def _process(pid: int) -> dict[str, Any]:
    """Return `this_process`, asked once: the clock that it is read from may be set later."""
    started = psutil.Process(pid).create_time()
    return {"host": socket.gethostname(), "pid": pid, "started": started}


def describe(holder: dict[str, Any]) -> str:
    """Return a holder as people read it: `process 12 on host, started 2026-01-01 10:00:00`."""
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["started"]))
    return f"process {holder['pid']} on {holder['host']}, started {started}"


def _read_holder(path: str) -> str:
    """Return the holder that the lock file names; it may be writing its name this very moment."""
    try:
        return describe(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
