"""Tiles: the same floats however a chunk is cut, and one failure ends all threads."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from pso_attn.assembly import assemble
from pso_attn.config import read_configuration
from pso_attn.evaluate.chunk import run_chunk, train_chunk
from pso_attn.evaluate.device import one_thread
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.planner import CALIBRATED
from pso_attn.evaluate.remote_tiles import HelperLost, Helpers
from pso_attn.evaluate.room import chunk_bytes
from pso_attn.evaluate.tiles import Cut, TiledTraining, dealt, even_parts, with_helpers
from pso_attn.evaluate.ways import quickest_way
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


def test_what_a_lost_helper_ended_is_let_go_before_all_train_again() -> None:
    class Held:
        pass

    begun: list[weakref.ref[Held]] = []

    def train(cut: Cut) -> int:
        assert not [one for one in begun if one() is not None]
        held = Held()
        begun.append(weakref.ref(held))
        if cut.apart:
            raise HelperLost("gone")
        return 1

    assert with_helpers(Cut(2, 2, apart=True), train) == 1
    assert len(begun) == 2


class Cards:
    """Trainings of one candidate's seeds, in the order of some cut."""

    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    def advance(self, until: int, on_step: Any = None) -> None:
        pass

    def score(self, split: str = "validation") -> list[dict[str, float]]:
        return [{"loss": (0.1, 0.2, 0.3)[row]} for row in self.rows]

    def first_bad_steps(self) -> list[int | None]:
        return [None for _ in self.rows]

    def true_parameters(self, position: int) -> dict[str, torch.Tensor]:
        return {}

    def keep(self, positions: Any) -> None:
        pass


def test_a_mean_over_seeds_does_not_depend_on_how_they_were_dealt() -> None:
    budget = Budget(steps=8, rungs=(1.0,))
    one, other = (
        run_chunk(Cards(rows), [3], budget, LOSS, {}, lambda *_: None)[0]
        for rows in ([0, 1, 2], [1, 2, 0])
    )
    assert one.curve == other.curve


def test_ways_to_compute_are_timed_on_as_many_trainings_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    parts = assemble(read_configuration("lstm", (), {}))
    member = read_member(
        parts.space.settings(parts.space.decode(parts.space.starts[0])), 0, parts.task
    )
    one_bytes = chunk_bytes([member], parts.task.info, CALIBRATED)
    monkeypatch.setattr("pso_attn.evaluate.ways.memory_budget_bytes", lambda _: 2.5 * one_bytes)
    timed: list[int] = []

    def quickest(self: Any, members: dict[str, list[Member]]) -> str:
        timed.extend(map(len, members.values()))
        return "batched"

    monkeypatch.setattr("pso_attn.evaluate.planner.Planner.quickest", quickest)
    assert quickest_way(parts.space, (), parts.task, 16, CPU) == {"recurrence": "batched"}
    assert set(timed) == {2}


def test_what_timing_took_of_a_gpu_is_free_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def quickest(*_: Any) -> str:
        raise MemoryError

    given = list[str]()
    monkeypatch.setattr("pso_attn.evaluate.planner.Planner.quickest", quickest)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("back"))
    parts = assemble(read_configuration("lstm", (), {}))
    assert quickest_way(parts.space, (), parts.task, 16, CPU) == {}
    assert given == ["back"]
