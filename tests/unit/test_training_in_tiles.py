"""Tiles: the same floats however a chunk is cut, and one failure ends all threads."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import torch

from pso_attn.evaluate.chunk import train_chunk
from pso_attn.evaluate.device import one_thread
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.remote_tiles import Helpers
from pso_attn.evaluate.tiles import Cut, TiledTraining, dealt, even_parts
from pso_attn.tasks import Task, make_task
from pso_attn.types import Budget, Objective

STEPS = 12
CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
OUTER = {"layers": 2, "d_model": 16, "feedforward_ratio": 2, "batch_size": 8}
OWN: list[dict[str, Any]] = [
    {"heads": 2, "attention_dropout": 0.2, "lr": 0.01, "clip_norm": 0.1},
    {"heads": 4, "kv_heads": 1, "dropout": 0.1, "lr": 0.003, "clip_norm": 0.1},
    {"mechanism": "linear", "heads": 2, "lr": 0.02, "clip_norm": 0.1},
    {"mechanism": "low_rank", "heads": 4, "rank": 2, "lr": 0.004, "clip_norm": 0.1},
    {"mechanism": "talking_heads", "heads": 2, "lr": 0.004, "weight_decay": 0.1},
    {"heads": 2, "adaptive_temperature": True, "lr": 0.005, "clip_norm": 0.1},
    {"heads": 2, "positions": "none", "lr": 0.006, "clip_norm": 0.1},
    {"heads": 1, "head_dim": 24, "lr": 0.006, "clip_norm": 0.1},
]
LSTMS: list[dict[str, Any]] = [
    {"heads": 2, "dropout": 0.2, "lr": 0.01, "clip_norm": 0.1},
    {"heads": 4, "dropout": 0.1, "lr": 0.003},
    {"score": "dot", "sentinel": True, "lr": 0.02, "clip_norm": 0.1},
    {"score": "dot", "query": "learned", "sentinel": True},
    {"score": "general", "local": "predictive", "window_tokens": 3, "lr": 0.004},
    {"score": "self_attentive", "hops": 3, "hop_penalty": 0.2},
    {"score": "self_attentive", "hops": 3, "attention_dim": 5, "weight_decay": 0.1},
    {"score": "concat", "local": "monotonic", "window_tokens": 3, "last_state": True},
]
CUTS = [Cut(1, 2), Cut(2, 1), Cut(3, 2), Cut(8, 3), Cut(3, 3, apart=True)]


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


@pytest.fixture(scope="module")
def members(task: Task) -> list[Member]:
    return [read_member({**OUTER, **own}, 11 + row, task) for row, own in enumerate(OWN)]


@pytest.fixture(scope="module", params=["batched", "one_by_one"])
def lstms(task: Task, request: pytest.FixtureRequest) -> list[Member]:
    outer = {"family": "lstm", "hidden": 12, "batch_size": 8, "recurrence": request.param}
    return [read_member({**outer, **own}, 11 + row, task) for row, own in enumerate(LSTMS)]


@pytest.fixture(scope="module")
def helpers(task: Task) -> Iterator[Helpers]:
    helpers = Helpers(task)
    assert helpers.start(2)
    with closing(helpers):
        yield helpers


def trained(
    task: Task, members: list[Member], cut: Cut, helpers: Helpers
) -> dict[int, dict[str, torch.Tensor]]:
    training = TiledTraining(task, members, STEPS, CPU, cut, helpers=helpers)
    training.advance(STEPS // 2)
    training.keep([p for p, row in enumerate(training.rows) if row != 1])
    training.advance(STEPS)
    return {row: training.true_parameters(p) for p, row in enumerate(training.rows)}


@pytest.mark.parametrize("cut", CUTS)
def test_no_float_depends_on_tiles_threads_or_helpers(
    task: Task, members: list[Member], cut: Cut, helpers: Helpers
) -> None:
    whole, parts = (trained(task, members, c, helpers) for c in (Cut(), cut))
    assert sorted(whole) == sorted(parts) == [0, 2, 3, 4, 5, 6, 7]
    for row, expected in whole.items():
        for name, value in expected.items():
            assert torch.equal(parts[row][name], value), (row, name)


@pytest.mark.parametrize("cut", CUTS)
def test_no_float_of_lstms_depends_on_tiles_threads_or_helpers(
    task: Task, lstms: list[Member], cut: Cut, helpers: Helpers
) -> None:
    whole, parts = (trained(task, lstms, c, helpers) for c in (Cut(), cut))
    for row, expected in whole.items():
        for name, value in expected.items():
            assert torch.equal(parts[row][name], value), (row, name)


@pytest.mark.parametrize("cut", CUTS)
def test_who_leaves_at_a_rung_does_not_depend_on_tiles(
    task: Task, members: list[Member], cut: Cut, helpers: Helpers
) -> None:
    budget = Budget(steps=STEPS, rungs=(0.25, 0.5, 1.0))
    results = [
        train_chunk(task, [[m] for m in members], budget, LOSS, {}, CPU, ignore, c, helpers)
        for c in (Cut(), cut)
    ]
    for one, other in zip(*results, strict=True):
        assert (one.state, one.curve, one.metrics) == (other.state, other.curve, other.metrics)
    assert len({result.state for result in results[0]}) > 1


def test_a_tile_holds_neighbours_that_share_kernels(task: Task) -> None:
    own = [{"mechanism": kind, "heads": 2} for kind in ("softmax", "linear")] * 3
    mixed = [read_member({**OUTER, **settings}, 1, task) for settings in own]
    training = TiledTraining(task, mixed, STEPS, CPU, Cut(2, 1))
    assert [row % 2 for row in training.rows] in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])


def test_progress_is_heard_on_the_callers_thread_and_ends_at_the_last_step(
    task: Task, members: list[Member]
) -> None:
    heard: list[tuple[int, int]] = []
    training = TiledTraining(task, members, STEPS, CPU, Cut(4, 1))
    training.advance(STEPS, lambda step: heard.append((threading.get_ident(), step)))
    assert {thread for thread, _ in heard} == {threading.get_ident()}
    steps = [step for _, step in heard]
    assert steps == sorted(steps)
    assert steps[-1] == STEPS


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no room")])
def test_a_failure_here_ends_the_other_threads_within_a_step(
    task: Task, members: list[Member], error: BaseException
) -> None:
    training = TiledTraining(task, members, 2_000, CPU, Cut(2, 2))

    def fail(step: int) -> None:
        if step >= 3:
            raise error

    with pytest.raises(type(error)):
        training.advance(2_000, fail)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tile")]


def test_a_failure_on_another_thread_is_raised_here(
    task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = TiledTraining(task, members, 2_000, CPU, Cut(2, 2))
    here = threading.get_ident()
    step = type(training._tiles[0][1].optimiser).step

    def fails_elsewhere(self: Any, at: int) -> None:
        if threading.get_ident() != here:
            raise MemoryError("no room on that thread")
        step(self, at)

    monkeypatch.setattr(type(training._tiles[0][1].optimiser), "step", fails_elsewhere)
    with pytest.raises(MemoryError, match="no room on that thread"):
        training.advance(2_000)


def test_threads_that_overlap_leave_as_many_as_there_were() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    first, second = threading.Event(), threading.Event()

    def other() -> None:
        with one_thread():
            first.set()
            second.wait()

    thread = threading.Thread(target=other)
    with one_thread():
        thread.start()
        first.wait()
        assert torch.get_num_threads() == 1
        second.set()
        thread.join()
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_parts_are_even_and_never_empty() -> None:
    assert dealt(range(7), 3) == [[0, 3, 6], [1, 4], [2, 5]]
    assert dealt(range(2), 5) == [[0], [1]]
    assert even_parts(range(7), 3) == [[0, 1], [2, 3], [4, 5, 6]]
    assert even_parts(range(2), 5) == [[0], [1]]


def ignore(step: int, particles: int, best: float | None = None) -> None:
    """Hear of progress."""
