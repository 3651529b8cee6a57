"""Linear algebra on one thread: a few hundred equations are sooner solved by one than by several.

numpy's and scipy's libraries start a thread on each core by themselves, and those wait for each
other by spinning: four times as long for 400 equations on two idle cores, and up to forty times
where others use these as well. What they round also depends on how many there are.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

from pso_attn.held import Held


def _limited() -> Callable[[], object]:
    """Limit the libraries to one thread, and return what gives them back their own."""
    limit: Any = _libraries().limit(limits=1, user_api="blas")
    return limit.restore_original_limits  # type: ignore[no-any-return]  # threadpoolctl's


_LIMIT = Held(_limited)


@contextmanager
def one_thread() -> Iterator[None]:
    """Solve and multiply on one thread inside the block, in all of this process.

    The last of several blocks at once puts the libraries back as the first found them.
    """
    with _LIMIT:
        yield


@cache
def _libraries() -> ThreadpoolController:
    """Return the libraries that are loaded, which takes some milliseconds to find out."""
    return ThreadpoolController()
