"""Trains the particles of a chunk as one batched job, wherever it is sent."""

import time

import torch

from pso_attn.evaluate.chunk import train_chunk, trained
from pso_attn.evaluate.device import is_out_of_memory, memory_budget_bytes
from pso_attn.evaluate.jobs import Hear, Job, Step, Trained, failed
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.optimiser import read_recipe
from pso_attn.evaluate.own_code import OwnCodeError
from pso_attn.evaluate.planner import Planner
from pso_attn.evaluate.room import check_machine, chunk_bytes, in_words
from pso_attn.evaluate.smoothing import check_smoothing
from pso_attn.models import TaskInfo, model_cost, read_model
from pso_attn.tasks.task import Task
from pso_attn.types import Budget, Candidate, Objective, Outcome, Settings


def cost(settings: Settings, info: TaskInfo) -> dict[str, int]:
    """Return `parameters`, `flops` and `memory_bytes` of a stand-alone training.

    Raises ConfigurationError where the settings cannot work on the task.
    """
    recipe = read_recipe(settings)
    check_smoothing(recipe.label_smoothing, info)
    return model_cost(read_model(settings, info), info, recipe.batch_size)


class SwarmTrainer:
    """Trains built-in models on a task's data."""

    is_repeatable = True

    def __init__(
        self, task: Task, objective: Objective, budget: Budget, device: torch.device
    ) -> None:
        """Remember what to train on."""
        self.task, self.objective, self.budget, self.device = task, objective, budget, device
        self._planner: Planner | None = None  # what it knows belongs to a machine

    def __getstate__(self) -> dict[str, object]:
        """Leave behind what was measured on this machine."""
        return {**self.__dict__, "_planner": None}

    def on(self, device: torch.device) -> "SwarmTrainer":
        """Return the same trainer on another device."""
        return SwarmTrainer(self.task, self.objective, self.budget, device)

    def train(self, job: Job, hear: Hear) -> Trained:
        """Return what became of a chunk; MemoryError where it is too large for this machine."""
        start_s = time.perf_counter()
        members = [
            [read_member(c.settings, seed, self.task) for seed in c.seeds] for c in job.candidates
        ]
        everyone = [member for row in members for member in row]
        if len(members) > 1:
            self._check_room(everyone)
        else:
            check_machine(everyone, self.task.info, self.budget.steps, self.device)
        self._planner = self._planner or Planner(self.task, self.device)
        forecast = self._planner.forecast(
            everyone, self.budget.steps, times=self.budget.generations
        )
        hear(str(forecast))
        results = train_chunk(
            self.task,
            members,
            self.budget,
            self.objective,
            job.earlier,
            self.device,
            lambda *how_far: hear(Step(*how_far)),
            forecast.cut,
            self._planner.helpers,
        )
        return trained(job, results, self.costs, self.objective, self.budget, start_s)

    def asks_for_less(self, error: Exception) -> bool:
        """Tell whether memory ran out or a task of one's own raised: halves are tried."""
        return is_out_of_memory(error) or isinstance(error, OwnCodeError)

    def failed(self, candidate: Candidate, error: Exception) -> Outcome:
        """Return the outcome of a candidate whose task raised, or that alone does not fit."""
        costs = self.costs(candidate.settings)
        if isinstance(error, OwnCodeError):
            return failed(candidate, str(error), costs)
        said = f"one particle alone does not fit into memory: {self.room(candidate)}"
        return failed(candidate, f"{said} are needed on {self.device} ({error})", costs)

    def room(self, candidate: Candidate) -> str:
        """Return what all of a candidate's trainings take of memory."""
        members = [read_member(candidate.settings, seed, self.task) for seed in candidate.seeds]
        return in_words(members, *self._needs)

    def costs(self, settings: Settings) -> dict[str, int]:
        """Return `parameters`, `flops` and `memory_bytes` of a stand-alone training."""
        return cost(settings, self.task.info)

    def work(self, candidate: Candidate) -> float:
        """Return the operations of one step of all of a candidate's trainings."""
        a_step = self.costs(candidate.settings)["flops"]
        return a_step * read_recipe(candidate.settings).batch_size * len(candidate.seeds)

    @property
    def _needs(self) -> tuple[TaskInfo, int, int]:
        """What the memory of trainings is estimated by: the task, their steps, examples scored."""
        return self.task.info, self.budget.steps, len(self.task.validation)

    def _check_room(self, members: list[Member]) -> None:
        """Raise MemoryError for a chunk that was planned for a machine with more memory."""
        needed = chunk_bytes(members, *self._needs)
        if needed > memory_budget_bytes(self.device):
            raise MemoryError(f"{len(members)} trainings need about {needed / 2**20:.0f} MiB")
