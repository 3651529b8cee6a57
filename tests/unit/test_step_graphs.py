"""Which steps are recorded, replayed or trained as they are, told by a stand-in for CUDA."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pso_attn.evaluate import graphs
from pso_attn.evaluate.graphs import WARM_UP, Step, StepGraph

CPU = torch.device("cpu")


class Recorder:
    """A stand-in for CUDA, whose graphs keep the work that they are handed until a replay."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.work: list[Callable[[], Any]] | None = None  # of the graph that is recorded now
        self.streams, self.places = list[Any](), list[Any]()
        here = SimpleNamespace(wait_stream=lambda other: None)
        for name, stands in {
            "device": lambda device: nullcontext(),
            "Stream": lambda device: SimpleNamespace(wait_stream=lambda other: None),
            "stream": lambda stream: nullcontext(),
            "current_stream": lambda: here,
            "set_stream": self.streams.append,
            "graph_pool_handle": lambda: (0, 1),
            "CUDAGraph": Graph,
            "graph": self.recording,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stands)
        self.here = here

    @contextmanager
    def recording(self, graph: "Graph", pool: Any, stream: Any) -> Iterator[None]:
        self.work = graph.work
        self.places.append((pool, stream))
        try:
            yield
        finally:
            self.work = None

    def do(self, work: Callable[[], Any]) -> None:
        """Do it, or keep it where a graph is being recorded."""
        if self.work is None:
            work()
        else:
            self.work.append(work)


class Graph:
    def __init__(self) -> None:
        self.work: list[Callable[[], Any]] = []

    def replay(self) -> None:
        for work in self.work:
            work()


class Index:
    """The number of a step, on the device."""

    def __init__(self, cuda: Recorder, first: int) -> None:
        self.cuda, self.value = cuda, first

    def add_(self, more: int) -> None:
        def add() -> None:
            self.value += more

        self.cuda.do(add)

    def __int__(self) -> int:
        return self.value


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    graphs._warn.cache_clear()
    graphs._shared.cache_clear()
    return Recorder(monkeypatch)


def begun(cuda: Recorder, first: int) -> StepGraph:
    graph: Any = StepGraph(first, CPU)
    graph._index = Index(cuda, first)
    return graph  # type: ignore[no-any-return]  # made a stand-in's


def test_first_steps_are_trained_then_recorded_and_the_rest_replayed(cuda: Recorder) -> None:
    graph, trained, asked = begun(cuda, 3), list[int](), list[Step]()

    def train(step: Step) -> None:
        asked.append(step)
        cuda.do(lambda: trained.append(int(step)))

    for _ in range(6):
        graph.advance(train)
    assert trained == [3, 4, 5, 6, 7, 8]
    assert len(asked) == WARM_UP + 1, "once more for the record, which computes nothing"
    assert graph.step == 9


def test_a_step_that_cannot_be_recorded_is_trained_as_it_is_after_one_warning(
    cuda: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    trained = list[int]()

    def train(step: Step) -> None:
        if cuda.work is not None:
            raise RuntimeError("operation not permitted\nwhen the stream is capturing")
        trained.append(int(step))

    with caplog.at_level(logging.WARNING):
        for first in (0, 10):
            graph = begun(cuda, first)
            for _ in range(5):
                graph.advance(train)
    assert trained == [*range(5), *range(10, 15)]
    assert cuda.streams == [cuda.here] * 2, "the stream that ran before is the current one again"
    (warning,) = caplog.messages
    assert warning.endswith("without a CUDA graph, so more slowly: operation not permitted")


def test_all_records_of_a_device_share_a_stream_and_memory(cuda: Recorder) -> None:
    for _ in range(3):
        graph = begun(cuda, 0)
        for _ in range(4):
            graph.advance(lambda step: None)
    assert len(cuda.places) == 3
    assert len({id(pool) for pool, _ in cuda.places}) == 1
    assert len({id(stream) for _, stream in cuda.places}) == 1
