"""Calls into other libraries that may never return: waited for so long, then left behind."""

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_NAME = "unanswered"  # of the threads that wait


def in_time(call: Callable[[], T], limit_s: float) -> T | None:
    """Return what a call gives, None if it takes longer; then its thread is left behind."""
    given: queue.SimpleQueue[T] = queue.SimpleQueue()
    threading.Thread(target=lambda: given.put(call()), name=_NAME, daemon=True).start()
    try:
        return given.get(timeout=limit_s)
    except queue.Empty:
        return None


def exit_past(code: int) -> None:
    """Exit at once where such a call is left: Python, as it ends, would abort within it."""
    if any(thread.name == _NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
