"""What a dry run says: one gain, measured in turns, in words that hold."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from pso_attn.cli.app import app
from pso_attn.evaluate.planner import Planner
from pso_attn.evaluate.rehearsal import STEPS, TURNS, WARM_UP, whole_seconds
from pso_attn.evaluate.rungs import scored_steps
from pso_attn.types import Budget

BUDGET = Budget(particles=2, generations=1, steps=100)
SMALL = ("digits", "--particles", "2", "--generations", "1", "--set", "model.layers=1")


@dataclass
class Machine:
    """A clock, and other load that makes all that is done meanwhile take three times as long."""

    now: float = 0.0
    busy: tuple[float, float] = (0.0, 0.0)

    def work(self, seconds: float) -> None:
        is_busy = self.busy[0] <= self.now < self.busy[1]
        self.now += seconds * (3 if is_busy else 1)


class Training:
    """Takes so long for a step, and as long for a scoring."""

    def __init__(self, machine: Machine, step_s: float) -> None:
        self.machine, self.step_s, self.step = machine, step_s, 0

    def advance(self, until: int) -> None:
        self.machine.work(self.step_s * (until - self.step))
        self.step = until

    def score(self) -> None:
        self.machine.work(self.step_s)


@pytest.mark.parametrize("turn", range(TURNS))
def test_load_that_comes_or_goes_meanwhile_falls_on_nobody_alone(
    turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(busy: tuple[float, float]) -> tuple[list[float], float]:
        machine = Machine(busy=busy)
        monkeypatch.setattr("time.perf_counter", lambda: machine.now)
        trainings: Any = [Training(machine, step_s) for step_s in (0.01, 0.03, 0.02)]
        found = whole_seconds(trainings, BUDGET, torch.device("cpu"))
        assert [one.step for one in trainings] == [STEPS] * 3
        return found, machine.now

    quiet, took = measured((0.0, 0.0))
    steps = BUDGET.steps + len(scored_steps(BUDGET))
    assert quiet == pytest.approx([0.01 * steps, 0.03 * steps, 0.02 * steps])
    warm = took * WARM_UP / (STEPS + TURNS)
    begins, lasts = warm + (took - warm) * turn / TURNS, 3 * (took - warm) / TURNS
    busy, _ = measured((begins, begins + lasts))
    assert busy == pytest.approx(quiet)


def test_a_dry_run_says_the_gain_that_it_measured_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    dry = CliRunner().invoke(app, ["search", *SMALL, "--set", "budget.steps=60", "--dry-run"])
    assert dry.exit_code == 0, dry.stderr
    assert "predicted gain of the batch" in dry.stdout
    assert "planned: 2 trainings" in dry.stdout
    assert dry.stdout.count("predicted") == 1


def test_workers_are_planned_on_the_cores_that_each_will_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pso_attn.evaluate.rehearsal.idle_threads", lambda device: 2)
    monkeypatch.setattr("pso_attn.evaluate.device.cores", lambda: 2)
    planned, forecast = list[int | None](), Planner.forecast

    def noted(self: Any, members: Any, steps: int, threads: int, times: int) -> Any:
        planned.append(threads)
        return forecast(self, members, steps, threads, times)

    monkeypatch.setattr(Planner, "forecast", noted)
    for workers in (1, 2):
        where = ("--executor", "processes", "--workers", str(workers), "--dry-run")
        dry = CliRunner().invoke(app, ["search", *SMALL, "--set", "budget.steps=20", *where])
        assert dry.exit_code == 0, dry.stderr
    assert planned == [2, 1, 1]


@pytest.mark.parametrize(("alone_s", "share"), [(0.5, "25%"), (1.9, "95%"), (4.0, None)])
def test_what_is_said_of_a_batch_that_gains_nothing_holds(
    alone_s: float, share: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "pso_attn.evaluate.rehearsal.whole_seconds", lambda timed, *_: [2.0, alone_s / 2]
    )
    args = ["search", *SMALL, "--set", "budget.steps=10", "--dry-run"]
    monkeypatch.setattr("pso_attn.evaluate.planner.idle_threads", lambda device: 1)
    said = CliRunner().invoke(app, args).stdout
    sentence = f"plain modules one after another take {share} of the batch's time"
    assert (sentence in " ".join(said.split())) == (share is not None)
    found = json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)
    assert found["batching_gain"] == pytest.approx(alone_s / 2)
    assert ("one after another" in said) == (share is not None)
