"""Trains modules of a user's own, wherever it is sent: our trainer, their model."""

import time

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.chunk import run_chunk, trained
from pso_attn.evaluate.device import is_out_of_memory
from pso_attn.evaluate.jobs import Hear, Job, Step, Trained, failed
from pso_attn.evaluate.module_training import ModuleMember, ModuleTraining
from pso_attn.evaluate.own_code import is_of_own_code, why
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.types import Budget, Candidate, Objective, Outcome, Settings


class ModuleTrainer:
    """Trains the modules that a user's factory makes of each candidate's settings."""

    is_repeatable = True  # modules of one's own are handed no folder

    def __init__(
        self, factory: OwnFactory, objective: Objective, budget: Budget, device: torch.device
    ) -> None:
        """Remember what makes the modules, and the task in it."""
        self.factory, self.objective, self.budget = factory, objective, budget
        self.device = device

    def on(self, device: torch.device) -> "ModuleTrainer":
        """Return the same trainer on another device."""
        return ModuleTrainer(self.factory, self.objective, self.budget, device)

    def train(self, job: Job, hear: Hear) -> Trained:
        """Return what became of a chunk; raises what a module raises."""
        start_s = time.perf_counter()
        members = [ModuleMember.of(c.settings, seed) for c in job.candidates for seed in c.seeds]
        training = ModuleTraining(self.factory, members, self.budget.steps, self.device)
        hear(str(training))
        results = run_chunk(
            training,
            [len(candidate.seeds) for candidate in job.candidates],
            self.budget,
            self.objective,
            job.earlier,
            lambda *how_far: hear(Step(*how_far)),
        )
        return trained(job, results, self.costs, self.objective, self.budget, start_s)

    def asks_for_less(self, error: Exception) -> bool:
        """Tell whether a module raised, or memory ran out: it is looked for in halves."""
        return is_of_own_code(error)

    def failed(self, candidate: Candidate, error: Exception) -> Outcome:
        """Return the outcome of a candidate whose module raised, or did not fit."""
        try:
            costs = self.factory.cost(candidate.settings)
        except ConfigurationError as refusal:  # no module was made here, whatever was elsewhere
            return failed(candidate, str(refusal))
        if is_out_of_memory(error):
            said = f"one particle alone does not fit into memory: {self.room(candidate)}"
            return failed(candidate, f"{said} are needed on {self.device} ({error})", costs)
        if isinstance(error, ConfigurationError):
            return failed(candidate, str(error), costs)
        return failed(candidate, why(f"{self.factory.name}'s module", error), costs)

    def costs(self, settings: Settings) -> dict[str, int]:
        """Return `parameters`, `flops` and `memory_bytes` of a stand-alone training."""
        return self.factory.cost(settings)

    def room(self, candidate: Candidate) -> str:
        """Return what all of a candidate's trainings take of memory."""
        return f"about {self.needed_bytes(candidate) / 2**20:.0f} MiB"

    def needed_bytes(self, candidate: Candidate) -> int:
        """Return about how much memory all of a candidate's trainings need."""
        return self.costs(candidate.settings)["memory_bytes"] * len(candidate.seeds)

    def work(self, candidate: Candidate) -> float:
        """Return the operations of one input in all of a candidate's trainings."""
        return self.costs(candidate.settings)["flops"] * len(candidate.seeds)
