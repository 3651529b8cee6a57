"""Helpers: they start when asked for, say what goes wrong, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pso_attn.evaluate.chunk import train_chunk
from pso_attn.evaluate.device import memory_budget_bytes
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.planner import Planner
from pso_attn.evaluate.remote_tiles import EMPTY_BYTES, HelperLost, Helpers
from pso_attn.evaluate.tiles import Cut, TiledTraining
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.tasks import Split, Task, make_task
from pso_attn.types import Budget, Objective

CPU = torch.device("cpu")
STEPS = 100_000  # of which nobody waits for the end
APART = Cut(2, 2, apart=True)


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


@pytest.fixture(scope="module")
def members(task: Task) -> list[Member]:
    settings: dict[str, Any] = {"d_model": 16, "layers": 1, "batch_size": 8, "heads": 2}
    return [read_member(settings, seed, task) for seed in range(4)]


@pytest.fixture
def helpers(task: Task) -> Iterator[Helpers]:
    helpers = Helpers(task)
    assert helpers.start(1)
    with closing(helpers):
        yield helpers


def children() -> list[psutil.Process]:
    """Return the helpers of this process; other tests may have children too."""
    return [
        p for p in psutil.Process().children() if "remote_tiles import serve" in str(p.cmdline())
    ]


def end(process: psutil.Process) -> None:
    """Kill it, unless an earlier call has: it may be gone at any moment since."""
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)


def apart(task: Task, members: list[Member], helpers: Helpers) -> TiledTraining:
    return TiledTraining(task, members, 2_000, CPU, APART, helpers=helpers)


def ended(process: psutil.Process) -> bool:
    """Tell whether it ends within some seconds."""
    return wait(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def wait(is_so: Callable[[], bool]) -> bool:
    until_s = time.monotonic() + 20
    while not is_so() and time.monotonic() < until_s:
        time.sleep(0.05)
    return is_so()


def test_one_starts_once_and_stays_for_the_next_chunk(
    task: Task, members: list[Member], helpers: Helpers
) -> None:
    (process,) = children()
    for _ in range(2):
        assert helpers.start(1)
        apart(task, members, helpers).advance(2)
        assert children() == [process]
    helpers.close()
    helpers.close()
    assert ended(process)
    assert not helpers.are_running


def test_they_end_with_whoever_made_them(task: Task, members: list[Member]) -> None:
    planner = Planner(task, CPU)
    assert planner.helpers.start(1)
    apart(task, members, planner.helpers).advance(1)
    (process,) = children()
    del planner
    assert ended(process)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no room")])
def test_a_failure_here_stops_them_and_they_train_again(
    task: Task, members: list[Member], helpers: Helpers, error: BaseException
) -> None:
    training = TiledTraining(task, members, STEPS, CPU, APART, helpers=helpers)

    def fail(step: int) -> None:
        if step >= 3:
            raise error

    with pytest.raises(type(error)):
        training.advance(STEPS, fail)
    again = apart(task, members, helpers)
    again.advance(2)
    whole = TiledTraining(task, members, 2_000, CPU, Cut())
    whole.advance(2)
    assert dict(zip(again.rows, again.score(), strict=True)) == dict(
        zip(whole.rows, whole.score(), strict=True)
    )


def test_what_goes_wrong_there_is_raised_here(
    task: Task, members: list[Member], helpers: Helpers
) -> None:
    training = apart(task, members, helpers)
    with pytest.raises(AttributeError, match="splinter"):
        training.score("splinter")
    training.advance(1)
    assert len(training.score()) == len(members)


def test_one_that_is_killed_is_replaced(
    task: Task, members: list[Member], helpers: Helpers
) -> None:
    training = apart(task, members, helpers)
    (process,) = children()

    def kill(step: int) -> None:
        end(process)

    with pytest.raises(HelperLost, match="was ended"):
        training.advance(2_000, kill)
    apart(task, members, helpers).advance(1)


def test_a_chunk_whose_helper_is_killed_trains_on_to_the_same_results(
    task: Task, members: list[Member], helpers: Helpers
) -> None:
    (process,) = children()
    budget, loss = Budget(steps=200), Objective("loss", "minimize")

    def kill(step: int, particles: int, best: float | None = None) -> None:
        end(process)

    def curves(cut: Cut, report: Callable[..., None]) -> list[Any]:
        each = [[member] for member in members]
        found = train_chunk(task, each, budget, loss, {}, CPU, report, cut, helpers)
        return [(one.state, one.curve, one.metrics) for one in found]

    assert curves(APART, kill) == curves(Cut(), lambda *_: None)
    assert ended(process)


def test_none_help_where_they_would_round_otherwise(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch may have multiplied before the mode could be set; a helper begins with it."""
    monkeypatch.setattr("pso_attn.evaluate.remote_tiles.rounding", lambda: -1)
    assert not Helpers(task).start(1)
    assert not children()


def test_one_ends_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent(
            """
            import torch
            from pso_attn.evaluate.remote_tiles import HelperLost, Helpers
            from pso_attn.evaluate.tiles import Cut, TiledTraining
            from pso_attn.evaluate.member import read_member
            from pso_attn.tasks import make_task

            task = make_task("digits")
            helpers = Helpers(task)
            assert helpers.start(1)
            members = [read_member({"d_model": 16}, seed, task) for seed in range(2)]
            cut, cpu = Cut(2, 2, apart=True), torch.device("cpu")
            training = TiledTraining(task, members, 100_000, cpu, cut, helpers=helpers)
            training.advance(100_000, lambda step: print(step, flush=True))
            """
        )
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, cwd=os.getcwd()
    ) as driver:
        assert driver.stdout is not None
        driver.stdout.readline()  # it trains, without any guard of its own
        (helper,) = psutil.Process(driver.pid).children()
        driver.kill()
    assert ended(helper)


class Own:
    """A task of a module that nobody can import elsewhere."""

    def __init__(self, like: Task) -> None:
        self.train, self.validation, self.test = like.train, like.validation, like.test


def test_a_task_that_cannot_be_sent_or_read_there_or_is_large_gets_none(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: Any = Own(task)
    own.loss = lambda: None
    assert not Helpers(own).start(1)
    monkeypatch.setitem(sys.modules, "found_here_alone", sys.modules[__name__])
    monkeypatch.setattr(Own, "__module__", "found_here_alone")
    asked = Helpers(Own(task))  # type: ignore[arg-type]
    assert not asked.start(1)
    assert not asked.start(1)
    assert not asked.are_running
    many = torch.empty(memory_budget_bytes(CPU), dtype=torch.uint8, device="meta")
    monkeypatch.setattr(own, "train", Split(many, many))
    assert not Helpers(own).start(1)
    assert not children()


def test_processes_that_train_side_by_side_share_the_memory_for_helpers(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as there are cores for the threads that each has."""
    module, fit = "pso_attn.evaluate.remote_tiles", Helpers(task)._fit
    monkeypatch.setattr(f"{module}.cores", lambda: 16)
    monkeypatch.setattr(f"{module}.memory_budget_bytes", lambda device: 4 * 8 * EMPTY_BYTES)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert fit(7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert fit(1)
    assert not fit(2)


def test_the_tiles_that_nobody_holds_are_let_go(
    task: Task, members: list[Member], helpers: Helpers
) -> None:
    """Ten trainings leave no more behind than two."""

    def held_bytes() -> int:
        apart(task, members, helpers).advance(1)
        (process,) = children()
        return int(process.memory_info().rss)

    early = [held_bytes() for _ in range(3)][-1]
    late = [held_bytes() for _ in range(30)][-1]
    assert late - early < 30 * sum(
        x.nbytes for x in SwarmTraining(task, members, 2_000, CPU).state.values()
    )
