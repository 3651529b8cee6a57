"""How good each particle is: plans a proposal, trains its chunks, and yields outcomes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.chunk import train_chunk
from pso_attn.evaluate.device import is_out_of_memory
from pso_attn.evaluate.generations import (
    Chunks,
    evaluate_chunks,
    failed,
    plan_generation,
    record_index,
)
from pso_attn.evaluate.optimiser import read_recipe
from pso_attn.evaluate.packing import pack
from pso_attn.evaluate.planner import Forecast, Planner
from pso_attn.evaluate.smoothing import check_smoothing
from pso_attn.evaluate.training import read_member
from pso_attn.models import TaskInfo, model_cost, read_model
from pso_attn.space import Space
from pso_attn.tasks.task import Task
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Moved,
    Objective,
    Outcome,
    Proposal,
    Settings,
)

BestSink = Callable[[Outcome, Settings, Mapping[str, torch.Tensor]], None]


@dataclass(frozen=True)
class Progress:
    """How far a generation's training is; particles: those still training in this chunk."""

    generation: int
    chunk: int
    chunks: int
    step: int
    steps: int
    particles: int


def cost(settings: Settings, info: TaskInfo) -> dict[str, int]:
    """Return `parameters`, `flops` and `memory_bytes` of a stand-alone training.

    Raises ConfigurationError where the settings cannot work on the task.
    """
    recipe = read_recipe(settings)
    check_smoothing(recipe.label_smoothing, info)
    return model_cost(read_model(settings, info), info, recipe.batch_size)


class SwarmEvaluator:
    """Trains the particles of a chunk as one batched job.

    seeds_by_generation: whether particles of a generation have the same seeds, new in each.
    """

    seeds_by_generation = False

    def __init__(
        self,
        space: Space,
        task: Task,
        objectives: tuple[Objective, ...],
        budget: Budget,
        seed: int,
        device: torch.device,
        on_progress: Callable[[Progress], None] | None = None,
        on_best: BestSink | None = None,
        on_forecast: Callable[[Forecast], None] | None = None,
    ) -> None:
        """Remember what to train on.

        on_best: gets the weights of each new best particle. on_forecast: hears how each chunk is
        cut, and why.
        """
        self.space, self.task, self.objectives = space, task, objectives
        self.budget, self.seed, self.device = budget, seed, device
        self.on_progress, self.on_best, self.on_forecast = on_progress, on_best, on_forecast
        self._planner = Planner(task, device)

    def plan(self, proposal: Proposal, history: History) -> Generation:
        """Return the proposal with constraints repaired, settings, seeds and chunks."""
        return plan_generation(
            self.space,
            self.budget,
            self.seed,
            proposal,
            history,
            self._impossible,
            self._chunks,
            self.seeds_by_generation,
        )

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate, and a new plan where one is needed."""
        train = partial(self._train, generation.number, history)
        return evaluate_chunks(generation, stop, train, is_out_of_memory, self._too_large)

    def _impossible(self, settings: Settings) -> Mapping[str, float]:
        """Return a violation that says why no model of these settings exists, or none."""
        try:
            read_member(settings, 0, self.task)
        except ConfigurationError as error:
            return {str(error): 1.0}
        return {}

    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        """Return the trials that share a job, by outer shape and in the order of slots."""
        members = [[read_member(c.settings, s, self.task) for s in c.seeds] for c in trained]
        packed = pack(members, self.task, self.device)
        return tuple(tuple(trained[index].trial for index in chunk) for chunk in packed)

    def _train(
        self,
        number: int,
        history: History,
        candidates: Sequence[Candidate],
        place: tuple[int, int],
        finished: Mapping[int, Outcome],
    ) -> Sequence[Outcome | Moved]:
        """Return the outcomes of one chunk, all of whose trials are trained.

        finished: those of this generation that are known before.
        """
        start = time.perf_counter()
        members = [
            [read_member(candidate.settings, seed, self.task) for seed in candidate.seeds]
            for candidate in candidates
        ]

        def report(step: int, particles: int) -> None:
            if self.on_progress is not None:
                steps = self.budget.steps
                self.on_progress(Progress(number, *place, step, steps, particles))

        forecast = self._planner.forecast([m for row in members for m in row], self.budget.steps)
        if self.on_forecast is not None:
            self.on_forecast(forecast)
        objective = self.objectives[0]
        results = train_chunk(
            self.task, members, self.budget, objective, history, self.device, report, forecast.cut
        )
        seconds = (time.perf_counter() - start) / len(candidates)
        pairs = list(zip(candidates, results, strict=True))
        outcomes = [
            r.outcome(c, cost(c.settings, self.task.info), objective, self.budget, seconds)
            for c, r in pairs
        ]
        best = record_index(outcomes, history, finished)
        if best is not None and self.on_best is not None:
            self.on_best(outcomes[best], candidates[best].settings, results[best].weights)
        return outcomes

    def _too_large(self, candidate: Candidate, error: Exception) -> Outcome:
        metrics = cost(candidate.settings, self.task.info)
        needed = metrics["memory_bytes"] / 2**20
        return failed(
            candidate,
            f"one particle alone does not fit into memory: about {needed:.0f} MiB are "
            f"needed on {self.device} ({error})",
            metrics,
        )
