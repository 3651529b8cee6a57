"""A setting of the whole process, changed for as long as some of its threads want it so."""

from collections.abc import Callable
from threading import Lock


class Held:
    """Changes a setting inside blocks, which may nest and run at once on several threads."""

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        """change: makes the change and returns what undoes it.

        The first of several blocks at once calls it, and the last undoes it.
        """
        self._change, self._lock, self._inside = change, Lock(), 0
        self._undo: Callable[[], object] = lambda: None

    def __enter__(self) -> None:
        """Make the change, if no block is inside."""
        with self._lock:
            if not self._inside:
                self._undo = self._change()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        """Undo it, if this was the last block."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._undo()
