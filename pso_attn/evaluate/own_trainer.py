"""An objective of one's own, a function that may train anything, asked wherever it is sent."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pso_attn.evaluate.device import check_usable
from pso_attn.evaluate.jobs import Hear, Job, Step, Trained, failed
from pso_attn.evaluate.own_answers import mean_metrics, read_answer
from pso_attn.evaluate.own_code import OwnCodeError, is_of_own_code, own_code, why
from pso_attn.evaluate.own_trial import Ladder, OwnTrial, Run, curve_of
from pso_attn.types import Budget, Candidate, Objective, Outcome, Settings, State


class OwnObjective:
    """A user's function and how it is called. batched: it takes lists and returns one."""

    def __init__(
        self, function: Callable[..., Any], name: str, batched: bool, device: torch.device
    ) -> None:
        """name: how messages call it."""
        self.function, self.name, self.batched, self.device = function, name, batched, device

    def __call__(self, settings: Sequence[Settings], trials: Sequence[OwnTrial]) -> list[Any]:
        """Return what the function gives for each training; whatever it raises is raised."""
        asked: tuple[Any, Any] = ([dict(one) for one in settings], list(trials))
        if not self.batched:
            ((asked_for,), (trial,)) = asked
            asked = (asked_for, trial)
        try:
            with own_code(trials[0].seed, self.device):
                answers = self.function(*asked)
        except (Exception, SystemExit) as error:
            if all(trial.run.is_told for trial in trials):  # some leave by an exception
                return [None] * len(trials)
            if isinstance(error, SystemExit):
                raise OwnCodeError(f"{self.name} called sys.exit({error.code})") from error
            raise
        if not self.batched:
            return [answers]
        if not isinstance(answers, list | tuple) or len(answers) != len(trials):
            came = f"{len(answers)} answers" if isinstance(answers, list | tuple) else (
                f"a {type(answers).__name__}"
            )  # fmt: skip
            raise OwnCodeError(
                f"{self.name} returned {came}; expected a list of {len(trials)}, one for each "
                "trial, as objective_batched = true says"
            )
        return list(answers)


class ObjectiveTrainer:
    """Asks a user's function for each candidate of a chunk, or for all of them at once."""

    is_repeatable = False  # two of the same training would write the same files

    def __init__(self, function: OwnObjective, objective: Objective, budget: Budget) -> None:
        """Remember whom to ask."""
        self.function, self.objective, self.budget = function, objective, budget

    def on(self, device: torch.device) -> "ObjectiveTrainer":
        """Return the same trainer on another device."""
        own = self.function
        moved = OwnObjective(own.function, own.name, own.batched, device)
        return ObjectiveTrainer(moved, self.objective, self.budget)

    def train(self, job: Job, hear: Hear) -> Trained:
        """Return what became of a chunk; raises whatever the function raises."""
        start, candidates = time.perf_counter(), job.candidates
        ladder = Ladder(self.budget, self.objective, job.earlier)
        asked = [(row, seed) for row, c in enumerate(candidates) for seed in c.seeds]
        with _folder(job.folder) as folder:
            answers: list[list[Any]] = [[] for _ in candidates]
            batches = [asked] if self.function.batched else [[one] for one in asked]
            for batch in batches:
                if all(self._has_left(ladder, row) for row, _ in batch):
                    continue  # an earlier seed of the same settings was told to leave
                trials = [
                    OwnTrial(
                        ladder,
                        row,
                        seed,
                        self.function.device,
                        folder / f"trial-{candidates[row].trial}" / f"seed-{seed}",
                    )
                    for row, seed in batch
                ]
                settings = [candidates[row].settings for row, _ in batch]
                try:
                    given = self.function(settings, trials)
                except Exception as error:
                    if len(candidates) > 1 or not self.asks_for_less(error):
                        raise  # halves are tried, until what fails is alone
                    check_usable(error)
                    seconds = time.perf_counter() - start
                    return Trained([self._failed(candidates[0], ladder.runs, error, seconds)])
                for (row, _), answer in zip(batch, given, strict=True):
                    answers[row].append(answer)
                hear(Step(self.budget.steps, len(candidates)))
        seconds = (time.perf_counter() - start) / len(candidates)
        return Trained(
            [
                self._outcome(candidate, ladder, row, answers[row], seconds)
                for row, candidate in enumerate(candidates)
            ]
        )

    def asks_for_less(self, error: Exception) -> bool:
        """Tell whether the function raised: what fails is looked for in halves."""
        return is_of_own_code(error)

    def failed(self, candidate: Candidate, error: Exception) -> Outcome:
        """Return the outcome of a candidate for which the function raised."""
        return failed(candidate, why(self.function.name, error))

    def costs(self, settings: Settings) -> dict[str, float]:
        """Return nothing: only the function knows what a training costs."""
        return {}

    def room(self, candidate: Candidate) -> str:
        """Return nothing: only the function knows what a training takes."""
        return ""

    def work(self, candidate: Candidate) -> float:
        """Return how many trainings a candidate is: no more is known of a function."""
        return len(candidate.seeds)

    def _outcome(
        self, candidate: Candidate, ladder: Ladder, row: int, answers: list[Any], seconds: float
    ) -> Outcome:
        runs = [run for run in ladder.runs if run.candidate == row]
        curve, steps, objective = curve_of(runs), self.budget.steps, self.objective.name
        if any(run.is_told for run in runs):
            step = max(curve)
            metrics, state = {objective: curve[step]}, State.PRUNED
        else:
            try:
                read = [read_answer(one, objective, self.function.name) for one in answers]
            except OwnCodeError as error:
                return self._failed(candidate, runs, error, seconds)
            metrics, state, step = mean_metrics(read), State.COMPLETE, steps
            curve = {**curve, steps: metrics[objective]}
        return Outcome(
            trial=candidate.trial,
            state=state,
            values=(metrics[objective],),
            curve=curve,
            metrics=metrics,
            seconds=seconds,
            fidelity=step / steps,
        )

    def _failed(
        self, candidate: Candidate, runs: Sequence[Run], error: Exception, seconds: float
    ) -> Outcome:
        """Return the outcome of a candidate that failed: what its trainings reported is kept."""
        curve = curve_of(runs)
        reached = max(curve, default=0) / self.budget.steps
        nothing = self.failed(candidate, error)
        return replace(nothing, curve=curve, seconds=seconds, fidelity=reached)

    @staticmethod
    def _has_left(ladder: Ladder, row: int) -> bool:
        return any(run.is_told for run in ladder.runs if run.candidate == row)


@contextmanager
def _folder(checkpoints: Path | None) -> Iterator[Path]:
    """Yield the folder that trials may write to; one that is removed where the run has none."""
    if checkpoints is not None:
        yield checkpoints
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
