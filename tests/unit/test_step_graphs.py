"""Which steps are recorded, replayed or trained as they are, told by a stand-in for CUDA."""

import gc
import itertools
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pso_attn.evaluate import graphs
from pso_attn.evaluate.graphs import WARM_UP, Step, StepGraph
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.own_code import OwnCodeError, is_ours
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.tasks import make_task

CPU = torch.device("cpu")


class Recorder:
    """A stand-in for CUDA, whose graphs keep the work that they are handed until a replay."""

    ends_by_itself = True  # a record that failed, as since torch 2.13

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.work: list[Callable[[], Any]] | None = None  # of the graph that is recorded now
        self.streams, self.places, self.waited = list[Any](), list[Any](), list[Any]()
        self.pools, self.spoilt, self.released = itertools.count(1), set[Any](), list[Any]()
        here = SimpleNamespace(wait_stream=self.waited.append)
        for name, stands in {
            "device": lambda device: nullcontext(),
            "Stream": lambda device: SimpleNamespace(wait_stream=lambda other: None),
            "stream": lambda stream: nullcontext(),
            "current_stream": lambda: here,
            "set_stream": self.streams.append,
            "current_device": lambda: 0,
            "graph_pool_handle": lambda: (0, next(self.pools)),
            "CUDAGraph": Graph,
            "graph": self.recording,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stands)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.end)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", self.release)
        self.here = here

    @contextmanager
    def recording(self, graph: "Graph", pool: Any, stream: Any) -> Iterator[None]:
        if pool in self.spoilt:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        self.work = graph.work
        self.places.append((pool, stream))
        try:
            yield
        except Exception:
            if not self.ends_by_itself:
                self.spoilt.add(pool)  # for good: its part on the host cannot be ended
            raise
        finally:
            self.work = None

    def end(self, device: int, pool: Any) -> None:
        """End what a record that failed has left open."""
        if pool not in self.spoilt:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    def release(self, device: int, pool: Any) -> None:
        self.released.append(pool)

    def do(self, work: Callable[[], Any]) -> None:
        """Do it, or keep it where a graph is being recorded."""
        if self.work is None:
            work()
        else:
            self.work.append(work)


class Graph:
    def __init__(self) -> None:
        self.work: list[Callable[[], Any]] = []

    def reset(self) -> None:
        self.work.clear()

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


def test_a_refused_record_keeps_nothing_of_what_is_trained(cuda: Recorder) -> None:
    """Activations that stay would be in the way of the same step, trained as it is."""

    class Trained:
        def step(self, step: Step) -> None:
            activations = torch.zeros(3)
            held.append(weakref.ref(activations))
            if cuda.work is not None:
                cuda.work.append(activations.sum)
                raise torch.OutOfMemoryError("CUDA out of memory")

    held, graph, trained = list[Any](), begun(cuda, 0), Trained()
    held.append(weakref.ref(trained))
    gc.collect()
    gc.disable()
    try:
        for _ in range(4):
            graph.advance(trained.step)
        del trained
        assert [there for reference in held if (there := reference()) is not None] == []
    finally:
        gc.enable()


def test_rings_of_frames_that_a_refused_record_leaves_are_collected(cuda: Recorder) -> None:
    """As PyTorch leaves them: an error that a frame of its own traceback holds."""

    class Activations:
        pass

    def train(step: Step) -> None:
        activations = Activations()
        if cuda.work is not None:
            held.append(weakref.ref(activations))
            error = RuntimeError("operation not permitted")
            raise error

    held, graph = list[Any](), begun(cuda, 0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            graph.advance(train)
        assert [reference() for reference in held] == [None]
    finally:
        gc.enable()


def test_all_records_of_a_device_share_a_stream_and_memory(cuda: Recorder) -> None:
    for _ in range(3):
        graph = begun(cuda, 0)
        for _ in range(4):
            graph.advance(lambda step: None)
    assert len(cuda.places) == 3
    assert len({id(pool) for pool, _ in cuda.places}) == 1
    assert len({id(stream) for _, stream in cuda.places}) == 1


@pytest.mark.parametrize("kind", [RuntimeError, OwnCodeError])  # as a task of one's own raises
@pytest.mark.parametrize("ends_by_itself", [True, False], ids=["torch 2.13", "before"])
def test_a_good_training_after_a_refused_one_is_recorded(
    cuda: Recorder, ends_by_itself: bool, kind: type[Exception]
) -> None:
    def refuses(step: Step) -> None:
        if cuda.work is not None:
            raise kind("operation not permitted when the stream is capturing")

    cuda.ends_by_itself, graphs_made = ends_by_itself, list[StepGraph]()
    for train in (refuses, lambda step: None, lambda step: None):
        graphs_made.append(begun(cuda, 0))
        for _ in range(4):
            graphs_made[-1].advance(train)
    assert [graph._graph is not None for graph in graphs_made] == [False, True, True]
    assert [graph.can_record for graph in graphs_made] == [False, True, True]
    refused, *good = [pool for pool, _ in cuda.places]
    assert good == [refused if ends_by_itself else (0, 2)] * 2
    assert cuda.released == ([] if ends_by_itself else [refused])


@pytest.mark.parametrize("wraps", [False, True])
def test_what_memory_alone_has_refused_may_be_recorded_later(cuda: Recorder, wraps: bool) -> None:
    def runs_out(step: Step) -> None:
        if cuda.work is not None:
            try:
                raise torch.OutOfMemoryError("CUDA out of memory")
            finally:
                if wraps:  # as ending the record does
                    raise RuntimeError("operation failed due to a previous error during capture")

    graph = begun(cuda, 0)
    for _ in range(4):
        graph.advance(runs_out)
    assert graph._graph is None
    assert graph.can_record


def test_what_a_step_that_raises_has_begun_is_waited_for(cuda: Recorder) -> None:
    def fails(step: Step) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    graph = begun(cuda, 0)
    with pytest.raises(torch.OutOfMemoryError):
        graph.advance(fails)
    assert cuda.waited == [graph._stream]


@pytest.mark.parametrize("can_record", [True, False])
@pytest.mark.parametrize("own", [True, False], ids=["own", "ours"])
def test_later_layouts_of_a_training_are_recorded_unless_its_step_cannot_be(
    own: bool, can_record: bool
) -> None:
    """Nor are later trainings of a task of one's own, whose loss it is."""
    task: Any = make_task("digits")
    if own:
        task = SimpleNamespace(name="own", info=task.info, train=task.train, loss=task.loss)
    members = [read_member({"d_model": 8, "layers": 1}, seed, task) for seed in range(2)]
    training = SwarmTraining(task, members, 4, CPU)
    assert training.records
    graph: Any = SimpleNamespace(advance=lambda train: None, can_record=can_record)
    training._graph = graph
    training.advance(2)
    training.keep([1])
    assert training.records == can_record
    assert SwarmTraining(task, members, 4, CPU).records == (can_record or is_ours(task))
