"""Linear algebra on one thread: a few hundred equations are sooner solved by one than by several.

numpy's and scipy's libraries start a thread on each core by themselves, and those wait for each
other by spinning: four times as long for 400 equations on two idle cores, and up to forty times
where others use these as well. What they round also depends on how many there are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController


class _Inside:
    """How many blocks there are now, of all of this process's threads, and what ends the limit."""

    lock, count = Lock(), 0
    limit: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Solve and multiply on one thread inside the block, in all of this process.

    The last of several blocks at once puts the libraries back as the first found them.
    """
    with _Inside.lock:
        if not _Inside.count:
            _Inside.limit = _libraries().limit(limits=1, user_api="blas")
        _Inside.count += 1
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.count -= 1
            if not _Inside.count:
                _Inside.limit.restore_original_limits()


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries that are loaded, which takes some milliseconds to find out."""
    return ThreadpoolController()
