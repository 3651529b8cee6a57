"""What every executor promises, as a suite of tests to inherit.

class TestMine(ExecutorContract):
    def make(self, trainer, workers, chunk_timeout_s):
        return Mine(trainer, workers, chunk_timeout_s)
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from pso_attn.evaluate import (
    TRAINING_KNOBS,
    ModuleTrainer,
    ObjectiveTrainer,
    OwnFactory,
    OwnObjective,
    Progress,
    SwarmEvaluator,
    SwarmTrainer,
    train_swarm,
)
from pso_attn.evaluate.executors import Executor, LocalExecutor
from pso_attn.evaluate.full_length import FullLengthTrainer, score_apart
from pso_attn.evaluate.generations import Listener, evaluate_chunks
from pso_attn.evaluate.jobs import Trainer
from pso_attn.models import MODEL_KNOBS
from pso_attn.space import Space, read_space
from pso_attn.tasks import Task, make_task
from pso_attn.testing.short_memory import short_memory
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Objective,
    Outcome,
    Proposal,
    State,
    Trial,
)

CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
BUDGET = Budget(particles=6, batch=6, generations=2, steps=12, rungs=(0.25, 0.5, 1.0))
WORKERS, TIMEOUT_S = 2, 3.0
SLOW_S, SHORT_BYTES = 60.0, 64 * 2**20
SILENT = Listener()
TOLERANCE = 5e-6  # of a float32 loss from one chunking to another
EXIT_CODE = 7


def obey(settings: Any, trial: Any) -> float:
    """Return the distance of x to .3, after doing to its worker what the settings say."""
    x, does = float(settings["x"]), settings.get("does", "trains")
    tried = trial.checkpoint_dir / "tried"
    is_first = not tried.exists()
    tried.touch()
    if does == "is killed" or (does == "is killed once" and is_first):
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "exits":
        os._exit(EXIT_CODE)
    if does == "eats memory":
        with open(settings["door"], "w") as door:
            door.write(str(os.getpid()))
        eaten = [b"\1" * SHORT_BYTES, b"\1" * SHORT_BYTES]
        raise MemoryError(f"nobody minds {len(eaten)} times as much as there is")
    if does == "hangs":
        time.sleep(3600)
    if does == "raises":
        raise ValueError("no such luck")
    trial.report(trial.steps // 4, (x - 0.3) ** 2 + 1)
    return (x - 0.3) ** 2 + float(torch.rand(1)) * 1e-3


def obey_all(settings: Sequence[Any], trials: Sequence[Any]) -> list[float]:
    """Do as `obey` does, for a list."""
    return [obey(one, trial) for one, trial in zip(settings, trials, strict=True)]


def perceptron(settings: Any, info: Any) -> nn.Module:
    """Return a small module for the task digits, hindered by a `Hurdle` where settings say so."""
    hurdle = Hurdle(**settings["hurdle"]) if "hurdle" in settings else nn.Identity()
    width = settings["width"]
    layers = nn.Flatten(), nn.Linear(64, width), nn.Linear(width, info.outputs)
    return nn.Sequential(hurdle, *layers)


class Hurdle(nn.Module):
    """Passes inputs on, after doing to the k-th worker where it is used what does[k] says."""

    def __init__(self, folder: str, does: Sequence[str], driver: int) -> None:
        """folder: where workers leave a file named k. driver: the process that is let alone."""
        super().__init__()
        self.folder, self.does, self.driver = Path(folder), does, driver
        self.is_taken = False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the inputs."""
        if not self.is_taken and os.getpid() != self.driver:
            self.is_taken = True
            for k, what in enumerate(self.does):
                with suppress(FileExistsError), open(self.folder / str(k), "x") as file:
                    file.write(str(os.getpid()))
                    file.flush()
                    if what == "is killed":
                        os.kill(os.getpid(), signal.SIGKILL)
                    if what == "is slow":
                        time.sleep(SLOW_S)
                        (self.folder / "was waited for").touch()
                    break
        return inputs


class ExecutorContract:
    """Inherit it, write `make`, and pytest runs the suite on your executor."""

    def make(
        self, trainer: Trainer, workers: int, chunk_timeout_s: float | None = None
    ) -> Executor:
        """Return a fresh executor on the CPU."""
        raise NotImplementedError

    def test_the_same_chunks_give_the_same_floats_as_in_one_process(self) -> None:
        """Two generations, so that rungs compare with an earlier one; the weights as well."""
        task, space = digits(), swarm_space()
        trainer = SwarmTrainer(task, LOSS, BUDGET, CPU)
        with closing(self.make(trainer, WORKERS)) as ours:
            assert ours.speeds == (1.0,) * ours.workers
            mine = searched(task, space, ours)
        theirs = searched(task, space, LocalExecutor(trainer, CPU, WORKERS))
        assert [len(g.chunks) for g in mine.plans] == [len(g.chunks) for g in theirs.plans]
        assert max(len(g.chunks) for g in mine.plans) >= WORKERS
        assert facts(mine.history) == facts(theirs.history)
        states = {trial.outcome.state for trial in mine.history.trials}
        assert states == {State.COMPLETE, State.PRUNED}
        assert mine.best.keys() == theirs.best.keys()
        for name, weights in mine.best.items():
            assert torch.equal(weights, theirs.best[name])
        scored = {progress.step for progress in mine.progress if progress.best is not None}
        assert scored >= {BUDGET.steps // 4, BUDGET.steps // 2, BUDGET.steps}
        assert all(p.particles <= BUDGET.batch for p in mine.progress)

    def test_losses_do_not_depend_on_who_shares_a_chunk(self) -> None:
        """Nobody leaves here, so that all curves are whole."""
        task, space = digits(), swarm_space()
        budget = replace(BUDGET, rungs=(1.0,))
        trainer = SwarmTrainer(task, LOSS, budget, CPU)
        with closing(self.make(trainer, WORKERS)) as ours:
            mine = searched(task, space, ours, budget, generations=1)
        whole = searched(task, space, LocalExecutor(trainer, CPU, 1), budget, generations=1)
        assert len(mine.plans[0].chunks) > len(whole.plans[0].chunks)
        for one, other in zip(mine.history.trials, whole.history.trials, strict=True):
            curve, expected = one.outcome.curve, other.outcome.curve
            assert curve.keys() == expected.keys()
            assert all(abs(curve[step] - expected[step]) < TOLERANCE for step in curve)

    def test_modules_of_ones_own_give_the_same_floats_as_in_one_process(self) -> None:
        """A factory travels with its task."""
        factory = OwnFactory(perceptron, "testing:perceptron", digits())
        trainer = ModuleTrainer(factory, LOSS, BUDGET, CPU)
        generation = asked([{"width": w} for w in (8, 8, 16, 16)], chunks=((0, 1), (2, 3)))
        with closing(self.make(trainer, WORKERS)) as ours:
            mine = outcomes(trainer, ours, generation)
        theirs = outcomes(trainer, LocalExecutor(trainer, CPU), generation)
        assert [fact(one) for one in mine] == [fact(one) for one in theirs]

    def test_no_chunk_begins_once_the_time_is_over_and_those_under_way_end(
        self, tmp_path: Path
    ) -> None:
        """What is left has no outcome, and is trained when asked for again."""
        trainer = objective()
        generation = asked([{"x": 0.1 * k} for k in range(6)])
        with closing(self.make(trainer, WORKERS)) as ours:
            known: list[Event] = []
            for event in events(trainer, ours, generation, tmp_path, stop=lambda: bool(known)):
                known.append(event)
            assert 1 <= len(known) <= WORKERS
            left = replace(
                generation, outcomes={e.trial: e for e in known if isinstance(e, Outcome)}
            )
            rest = outcomes(trainer, ours, left, tmp_path)
        numbers = [e.trial for e in known if isinstance(e, Outcome)]
        assert sorted(numbers + [one.trial for one in rest]) == list(range(6))

    def test_a_batched_function_is_halved_until_what_raises_is_alone(self, tmp_path: Path) -> None:
        """The others have the outcomes that they would have had."""
        trainer = objective(batched=True)
        settings: list[dict[str, Any]] = [
            {"x": 0.1},
            {"x": 0.2, "does": "raises"},
            {"x": 0.3},
            {"x": 0.4},
        ]
        generation = asked(settings, chunks=((0, 1, 2), (3,)))
        with closing(self.make(trainer, WORKERS)) as ours:
            found = outcomes(trainer, ours, generation, tmp_path)
        assert [one.state is State.FAIL for one in found] == [False, True, False, False]
        assert found[1].error is not None
        assert "raised ValueError: no such luck" in found[1].error

    def test_trainings_at_full_length_score_as_in_one_process(self) -> None:
        """Whom they share a chunk with changes rounding alone, and they come in their order."""
        task, space = digits(), swarm_space()
        corners = np.linspace(0.1, 0.9, 4)[:, None].repeat(space.dimension, axis=1)
        settings = [space.settings(space.decode(corner)) for corner in corners]
        trainer = FullLengthTrainer(SwarmTrainer(task, LOSS, BUDGET, CPU), "test")
        told: list[tuple[int, int]] = []
        with closing(self.make(trainer, WORKERS)) as ours:
            mine = score_apart(
                trainer, ours, settings, [5, 6, 7, 8], lambda *how_far: told.append(how_far)
            )
        theirs = train_swarm(task, settings, [5, 6, 7, 8], BUDGET.steps, CPU, "test")
        for one, other in zip(mine, theirs, strict=True):
            assert one.metrics is not None
            assert other.metrics is not None
            assert one.metrics.keys() == other.metrics.keys()
            assert abs(one.metrics["loss"] - other.metrics["loss"]) < TOLERANCE
        assert len({one.metrics["loss"] for one in mine if one.metrics}) == len(settings)
        done, total = told[-1]
        assert done == total == WORKERS * BUDGET.steps
        assert told == sorted(set(told))

    def test_a_function_that_raises_at_full_length_fails_alone(self) -> None:
        """The others are scored."""
        assert "raised ValueError: no such luck" in self.error_beside_others("raises")

    def error_beside_others(self, does: str) -> str:
        """Return why the second of three trainings at full length alone has no score."""
        trainer = FullLengthTrainer(objective(), "test")
        settings: list[dict[str, Any]] = [{"x": 0.1}, {"x": 0.2, "does": does}, {"x": 0.3}]
        with closing(self.make(trainer, WORKERS)) as ours:
            mine = score_apart(trainer, ours, settings, [1, 2, 3])
        assert [one.metrics is None for one in mine] == [False, True, False]
        assert mine[1].error is not None
        return mine[1].error


class WorkerContract(ExecutorContract):
    """The same for an executor whose chunks train in processes of their own, which may end."""

    told: ClassVar[dict[str, str]] = {
        "is killed": "its worker was killed",
        "exits": "its worker",
        "hangs": f"its worker gave no answer within {TIMEOUT_S:g} s",
    }

    def test_a_worker_that_ends_costs_its_own_chunk_after_three_tries(
        self, tmp_path: Path
    ) -> None:
        """One that is killed once costs nothing, and one that raises just its particle."""
        trainer, does = objective(), ["trains", *self.told, "raises", "is killed once", "trains"]
        settings = [{"x": 0.1 * k, "does": what} for k, what in enumerate(does)]
        generation = asked(settings)
        with closing(self.make(trainer, WORKERS, TIMEOUT_S)) as ours:
            found = outcomes(trainer, ours, generation, tmp_path)
            again = outcomes(trainer, ours, asked([{"x": 0.5}], number=9), tmp_path)
        assert [one.trial for one in found] == list(range(len(does)))
        plain = asked([{**one, "does": "trains"} for one in settings])
        expected = outcomes(trainer, LocalExecutor(trainer, CPU), plain, tmp_path)
        for one, alike, what in zip(found, expected, does, strict=True):
            if what in self.told:
                assert one.error is not None
                assert one.error.startswith(self.told[what]), one.error
                assert one.error.endswith("in the last of 3 tries")
            elif what == "raises":
                assert one.error is not None
                assert "raised ValueError" in one.error
            else:
                assert fact(one) == fact(alike)
        assert again[0].state is State.COMPLETE

    def test_a_worker_that_eats_its_memory_is_killed_by_the_kernel_and_costs_its_own_chunk(
        self, tmp_path: Path
    ) -> None:
        """Skipped where this process cannot make a control group with a limit."""
        error, killed = self.error_where_the_second_eats_memory(objective(), None, tmp_path)
        assert killed == 3
        assert error.endswith("in the last of 3 tries")

    def test_a_chunk_whose_worker_the_kernel_kills_is_halved_until_who_eats_its_memory_is_alone(
        self, tmp_path: Path
    ) -> None:
        """That one is tried three times, as ever; skipped as above."""
        trainer, together = objective(batched=True), ((0, 1, 2, 3),)
        _, killed = self.error_where_the_second_eats_memory(trainer, together, tmp_path)
        assert killed == 2 + 2 + 3  # of four, of two, and alone

    def error_where_the_second_eats_memory(
        self, trainer: Trainer, chunks: tuple[tuple[int, ...], ...] | None, folder: Path
    ) -> tuple[str, int]:
        """Return why the second of four alone failed, and how many processes the kernel killed.

        Skips the test where no control group with a limit can be made.
        """
        with ExitStack() as stack:
            try:
                group = stack.enter_context(short_memory(SHORT_BYTES))
            except OSError as error:
                pytest.skip(f"cannot limit a worker's memory here: {error}")
            settings: list[dict[str, Any]] = [{"x": 0.1 * k} for k in range(4)]
            settings[1] |= {"does": "eats memory", "door": str(group.door)}
            ours = stack.enter_context(closing(self.make(trainer, WORKERS)))
            found = outcomes(trainer, ours, asked(settings, chunks=chunks), folder)
            killed = group.killed()
        states = [one.state for one in found]
        assert states == [State.COMPLETE, State.FAIL, State.COMPLETE, State.COMPLETE]
        assert found[1].error is not None
        assert found[1].error.startswith(self.told["is killed"]), found[1].error
        return found[1].error, killed

    def test_a_worker_that_ends_at_full_length_costs_its_own_training(self) -> None:
        """The others are scored, and its own says why it was not."""
        assert "its worker was killed" in self.error_beside_others("is killed")

    def test_a_late_chunk_is_trained_by_an_idle_worker_as_well_and_the_first_answer_counts(
        self, tmp_path: Path
    ) -> None:
        """Also where the worker of the copy is killed; who is late ends, and floats are the same.

        The progress is one worker's, and the next generation trains as ever.
        """
        factory = OwnFactory(perceptron, "testing:perceptron", digits())
        trainer = ModuleTrainer(factory, LOSS, BUDGET, CPU)
        with closing(self.make(trainer, WORKERS)) as ours:
            for does in (("is slow",), ("is slow", "is killed")):
                folder = tmp_path / str(len(does))
                folder.mkdir()
                hurdle = {"folder": str(folder), "does": does, "driver": os.getpid()}
                settings: list[dict[str, Any]] = [{"width": width} for width in (8, 8, 16, 16)]
                settings[2] |= {"hurdle": hurdle}
                generation, said, shown = asked(settings), list[str](), list[Progress]()
                listener = Listener(shown.append, on_forecast=said.append)
                mine = outcomes(trainer, ours, generation, listener=listener)
                theirs = outcomes(trainer, LocalExecutor(trainer, CPU), generation)
                assert [fact(one) for one in mine] == [fact(one) for one in theirs]
                assert not (folder / "was waited for").exists()
                assert len(list(folder.iterdir())) == len(does)
                ended(int((folder / "0").read_text()))
                assert len(said) == len(settings)
                steps = [p.step for p in shown if p.chunk == 2 and p.particles]
                assert steps == sorted(steps)


def ended(process: int) -> None:
    """Wait for the end of a process that should have been ended."""
    deadline_s = time.monotonic() + SLOW_S / 4
    while psutil.pid_exists(process):
        assert time.monotonic() < deadline_s, f"process {process} is still there"
        time.sleep(0.1)


class Searched:
    """What a few generations gave: the history, the plans, the best weights, the progress."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.history = History((LOSS,))
        self.plans: list[Generation] = []
        self.best: dict[str, torch.Tensor] = {}
        self.progress: list[Progress] = []


def searched(
    task: Task, space: Space, executor: Executor, budget: Budget = BUDGET, generations: int = 2
) -> Searched:
    """Return what generations at fixed random places give, trained by an executor."""
    found = Searched()

    def keep(outcome: Outcome, settings: Any, weights: Any) -> None:
        found.best = dict(weights)

    evaluator = SwarmEvaluator(
        space, task, (LOSS,), budget, 0, CPU, found.progress.append, keep, None, executor
    )
    rng = np.random.default_rng(5)
    for _ in range(generations):
        positions = rng.random((budget.batch, space.dimension))
        proposal = Proposal(positions, tuple(range(budget.batch)))
        plan = evaluator.plan(proposal, found.history)
        given = evaluator.evaluate(plan, found.history, lambda: False)
        by_trial = {event.trial: event for event in given if isinstance(event, Outcome)}
        trials = tuple(Trial(plan.number, c, by_trial[c.trial]) for c in plan.candidates)
        assert len(by_trial) == len(trials)
        found.history = History((LOSS,), (*found.history.generations, trials))
        found.plans.append(plan)
    return found


def asked(
    settings: Sequence[dict[str, Any]],
    number: int = 0,
    chunks: tuple[tuple[int, ...], ...] | None = None,
) -> Generation:
    """Return a generation of these settings, by default each in a chunk of its own."""
    candidates = tuple(
        Candidate(slot, slot, np.zeros(1), {}, one, seeds=(100 + slot,))
        for slot, one in enumerate(settings)
    )
    return Generation(number, candidates, chunks or tuple((c.trial,) for c in candidates))


def events(
    trainer: Trainer,
    executor: Executor,
    generation: Generation,
    folder: Path | None = None,
    stop: Any = lambda: False,
    listener: Listener = SILENT,
) -> Iterator[Event]:
    """Return the events of a generation that has no history."""
    return evaluate_chunks(
        generation, History((LOSS,)), BUDGET, stop, trainer, executor, listener, folder
    )


def outcomes(
    trainer: Trainer,
    executor: Executor,
    generation: Generation,
    folder: Path | None = None,
    listener: Listener = SILENT,
) -> list[Outcome]:
    """Return the outcomes of a generation in the order of trials, each there once."""
    found = [
        event
        for event in events(trainer, executor, generation, folder, listener=listener)
        if isinstance(event, Outcome)
    ]
    numbers = [one.trial for one in found]
    assert len(numbers) == len(set(numbers)), "a trial was given twice"
    return sorted(found, key=lambda one: one.trial)


def objective(batched: bool = False) -> ObjectiveTrainer:
    """Return the trainer of a function that does to its worker what it is told."""
    own = OwnObjective(obey_all if batched else obey, "testing:obey", batched, CPU)
    return ObjectiveTrainer(own, LOSS, BUDGET)


def fact(outcome: Outcome) -> tuple[Any, ...]:
    """Return all that exact resume promises of an outcome: everything but times."""
    parts = (outcome.state, outcome.values, outcome.curve, outcome.metrics)
    return (outcome.trial, *parts, outcome.fidelity, outcome.error)


def facts(history: History) -> list[tuple[Any, ...]]:
    """Return them of all trials."""
    return [fact(trial.outcome) for trial in history.trials]


@cache
def digits() -> Task:
    """Return a task that is in scikit-learn."""
    return make_task("digits")


def swarm_space() -> Space:
    """Return a space with two shapes of models, so that a generation has two buckets."""
    search: dict[str, Any] = {"layers": [1, 2], "heads": [1, 2], "lr": {}}
    return read_space(search, {"d_model": 16}, {**MODEL_KNOBS, **TRAINING_KNOBS})
