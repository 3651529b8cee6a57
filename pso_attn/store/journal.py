"""Optuna's journal file, made fit to be killed: repaired before use, written in few appends.

An append to a torn line would glue two records into one that nothing can read, and from then on
the whole file is refused. So the driver, and only the driver, mends the end of the file before
it appends anything.
"""

import json
import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend

_LIVING_WRITER_S = 0.5  # Optuna holds its lock for one append: milliseconds


class BatchingJournal(JournalFileBackend):
    """Optuna's journal backend, with several records in one durable append where asked.

    An append costs a lock, an open and an fsync; an outcome is a dozen records.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal, creating it where it is not there."""
        # Optuna's lock is a symbolic link to this path; a dangling one is waited on for ever
        self._absolute = path.absolute()
        super().__init__(str(self._absolute))
        self._held: list[dict[str, Any]] | None = None
        self._end, self._others = self._size(), 0

    def others(self) -> int:
        """Return how often it was noticed that somebody else wrote.

        Between two calls that return the same number, this object alone appended to the file.
        """
        size = self._size()
        if size != self._end:
            self._end, self._others = size, self._others + 1
        return self._others

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is appended inside the block at its end, in one go.

        Reads inside the block do not see it yet.
        """
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            if held:
                self.append_logs(held)

    @contextmanager
    def apart(self) -> Iterator[list[dict[str, Any]]]:
        """Collect what is appended inside the block in the list that it gets; write nothing."""
        before, self._held = self._held, list[dict[str, Any]]()
        try:
            yield self._held
        finally:
            self._held = before

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append durably, or hold until the block ends; leave no half line where that fails."""
        if self._held is not None:
            self._held.extend(logs)
            return
        self.others()
        size = self._size()
        try:
            super().append_logs(logs)
        except OSError:
            os.truncate(self._absolute, size)  # a full disk takes part of a line
            raise
        with open(self._absolute, "rb") as file:
            file.seek(size)
            written = file.read()
        # size is asked before Optuna's lock is taken, so others may have written in between
        self._others += written.count(b"\n") != len(logs) or size != self._end
        self._end = size + len(written)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the records from that number on; none while records are held."""
        if self._held is None:
            yield from super().read_logs(log_number_from)

    def _size(self) -> int:
        return self._absolute.stat().st_size


def repair_journal(path: Path) -> Path | None:
    """Make the journal safe to append to: no stale lock, and a good line at its end.

    Only for the one process that holds the run's lock. Returns the backup,
    `journal.log.torn-<n>`, where a torn last line was cut off, else None. Damage before the last
    line stays as it is, for the reader to refuse.
    """
    _remove_stale_lock(path)
    if not path.exists():
        return None
    good = _good_size(path)
    if good == path.stat().st_size:
        return None
    backup = _free_name(path)
    shutil.copyfile(path, backup)
    with open(path, "r+b") as file:
        file.truncate(good)
        file.flush()
        os.fsync(file.fileno())
    return backup


def first_bad_line(path: Path) -> int | None:
    """Return the number of the first line that is no record, from 1; None where all are."""
    with open(path, "rb") as file:
        numbered = enumerate(file, start=1)
        return next((number for number, line in numbered if not _is_record(line)), None)


def _good_size(path: Path) -> int:
    """Return the size in bytes without a torn last line and one complete line of no JSON."""
    with open(path, "rb") as file:
        end = _last_newline(file.fileno(), path.stat().st_size)
        start = _last_newline(file.fileno(), end - 1) if end else 0
        file.seek(start)
        line = file.read(end - start)
    return end if not line or _is_record(line) else start


def _last_newline(handle: int, size: int) -> int:
    """Return the offset just after the last newline among the first `size` bytes, or 0."""
    block = 1 << 16
    while size > 0:
        start = max(0, size - block)
        found = os.pread(handle, size - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        size = start
    return 0


def _is_record(line: bytes) -> bool:
    """Tell whether a line is one of the journal's records."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _remove_stale_lock(path: Path) -> None:
    """Remove Optuna's lock beside the journal once no living writer can be holding it."""
    lock = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + _LIVING_WRITER_S
    while lock.is_symlink() or lock.exists():
        if time.monotonic() >= deadline:
            lock.unlink(missing_ok=True)
            break
        time.sleep(0.01)
    for leftover in path.parent.glob(f"{lock.name}*.rename"):  # died while it released the lock
        leftover.unlink(missing_ok=True)


def _free_name(path: Path) -> Path:
    """Return the first `<journal>.torn-<n>` that does not exist."""
    n = 1
    while (backup := path.with_name(f"{path.name}.torn-{n}")).exists():
        n += 1
    return backup
