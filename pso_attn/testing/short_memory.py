"""A control group of Linux in which memory is short, so that the kernel ends who eats it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LIMITS = {1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), 2: ("memory.max",)}
NO_SWAP = "memory.swap.max"


class ShortMemory:
    """A group that processes may join."""

    def __init__(self, folder: Path, version: int) -> None:
        """folder: the group's."""
        self.folder, self._version = folder, version

    @property
    def door(self) -> Path:
        """The file to which a process writes its number to join."""
        return self.folder / "cgroup.procs"

    def killed(self) -> int:
        """Return how many processes the kernel has ended here."""
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        lines = (self.folder / name).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextmanager
def short_memory(limit_bytes: int) -> Iterator[ShortMemory]:
    """Yield a group below this process's own, without swap; OSError where none can be made."""
    parent, version = _parent()
    folder = parent / f"pso-attn-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        for name in LIMITS[version]:
            if (folder / name).exists():
                (folder / name).write_text(str(limit_bytes))
        if (folder / NO_SWAP).exists():
            (folder / NO_SWAP).write_text("0")
        yield ShortMemory(folder, version)
    finally:
        for _ in range(50):  # who was killed in it may not have left yet
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


def _parent() -> tuple[Path, int]:
    """Return the nearest group that may have groups with a limit below it, and whose version."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return ROOT / "memory" / path.lstrip("/"), 1
    own = ROOT / path.lstrip("/")
    for folder in (own, *own.parents):
        handed_on = folder / "cgroup.subtree_control"
        if handed_on.exists() and "memory" in handed_on.read_text().split():
            return folder, 2
    raise OSError("no control group here hands the limit of memory on to groups below it")
