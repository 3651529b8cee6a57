"""Training steps as a CUDA graph: recorded once for a layout, then replayed in one launch each.

At the sizes of a swarm a GPU waits for launches, not for arithmetic. A recorded step cannot be
told its number, so it reads it from a tensor on the device, which it raises by one at its end.
"""

import gc
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor

from pso_attn.errors import PsoAttnError
from pso_attn.evaluate.device import is_out_of_memory

Step = int | Tensor  # from 0; a tensor is int64 (1,) and lies on the device

WARM_UP = 2  # steps before recording: libraries start, and constants reach the device

_log = logging.getLogger(__name__)


def at(table: Tensor, step: Step) -> Tensor:
    """Return table[step]; where the step lies on the device, nothing waits for it.

    Indexing by a tensor without axes would: PyTorch reads its value first.
    """
    return table[step] if isinstance(step, int) else table.index_select(0, step)[0]


def put(table: Tensor, step: Step, row: Tensor) -> None:
    """Set table[step], as `at` reads it."""
    if isinstance(step, int):
        table[step] = row
    else:
        table.index_copy_(0, step, row[None])


class StepGraph:
    """Trains step by step on a CUDA device: the first steps as they are, then from the record.

    A step that cannot be recorded is trained as it is to the end; a warning says why, once.
    can_record: False once another reason than memory was in the way, as it is of later layouts.
    """

    def __init__(self, first: int, device: torch.device) -> None:
        """Begin at step `first`, counted from 0."""
        self._device, self.step = device, first
        with torch.cuda.device(device):
            self._index = torch.tensor([first], device=device)
            self._stream, self._pool = _shared(device)
        self._warm, self._refused, self.can_record = 0, False, True
        self._graph: torch.cuda.CUDAGraph | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether steps are replayed."""
        return self._graph is not None

    def advance(self, train: Callable[[Step], None]) -> None:
        """Train one step. train: does it, of the number that it is handed; always the same one.

        It is not kept, so that what it trains can be freed.
        """
        with torch.cuda.device(self._device):
            if self._graph is not None:
                self._graph.replay()
            elif self._refused:
                train(self.step)
            else:
                self._warm_up(train)
        self.step += 1

    def _warm_up(self, train: Callable[[Step], None]) -> None:
        """Train one step on a stream of its own, as recording wants it; record after the last."""
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        try:
            with torch.cuda.stream(self._stream):
                self._step(train)
        finally:  # what a step that raised has begun may still use memory that is freed here
            here.wait_stream(self._stream)
        self._warm += 1
        if self._warm == WARM_UP:
            self._record(train, here)

    def _step(self, train: Callable[[Step], None]) -> None:
        train(self._index)
        self._index.add_(1)

    def _record(self, train: Callable[[Step], None], here: torch.cuda.Stream) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self._pool, self._stream):  # computes nothing
                self._step(train)
        except (PsoAttnError, RuntimeError) as error:  # whatever an operation of anybody's raises
            torch.cuda.set_stream(here)  # torch leaves its own where ending the record fails
            _end_record(self._pool)
            reason = error.__context__ or error
            self._refused, self.can_record = True, is_out_of_memory(reason)
            _warn(str(reason).partition("\n")[0])
            # its traceback holds this frame, and so what is trained and its activations
            del reason
            graph.reset()
        else:
            self._graph = graph
        if self._refused:
            gc.collect()  # PyTorch leaves rings of frames, which hold as much


@cache
def _shared(device: torch.device) -> tuple[torch.cuda.Stream, Any]:
    """Return the stream and the memory of all records on a device.

    No replay needs what another has left there, and a record that fails may give nothing back: at
    2.13 one that CUDA itself has ended keeps the pool's memory for good. Who drops a graph takes
    cuBLAS's workspaces from all others of the stream, so those should not be replayed any more.
    """
    return torch.cuda.Stream(device), torch.cuda.graph_pool_handle()


def _end_record(pool: Any) -> None:
    """End a record that failed, so that others can begin.

    PyTorch does so since 2.13. Before, such a record keeps the memory, and who shares it is
    refused: there it is given back, and others get new.
    """
    names = "_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool"  # the second to 2.7
    end = next(getattr(torch._C, name) for name in names if hasattr(torch._C, name))
    device = torch.cuda.current_device()
    with suppress(RuntimeError):  # there is nothing to end
        end(device, pool)
        _shared.cache_clear()
        torch._C._cuda_releasePool(device, pool)


@cache
def _warn(reason: str) -> None:
    _log.warning("steps are trained without a CUDA graph, so more slowly: %s", reason)
