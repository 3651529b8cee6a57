"""An objective of one's own as an evaluator: a function that may train anything."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pso_attn.evaluate.evaluator import Progress
from pso_attn.evaluate.generations import (
    Chunks,
    evaluate_chunks,
    failed,
    plan_generation,
)
from pso_attn.evaluate.own_answers import mean_metrics, read_answer
from pso_attn.evaluate.own_code import OwnCodeError, is_of_own_code, own_code, why
from pso_attn.evaluate.own_trial import Ladder, OwnTrial, curve_of
from pso_attn.space import Space
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Objective,
    Outcome,
    Proposal,
    Settings,
    State,
)


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
        except SystemExit as error:
            raise OwnCodeError(f"{self.name} called sys.exit({error.code})") from error
        except Exception:
            if all(trial.run.is_told for trial in trials):  # some leave by an exception
                return [None] * len(trials)
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


class ObjectiveEvaluator:
    """Asks a user's function for each particle, one by one, or for a generation at once."""

    def __init__(
        self,
        space: Space,
        function: OwnObjective,
        objectives: tuple[Objective, ...],
        budget: Budget,
        seed: int,
        checkpoints: Path | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """checkpoints: the folder of the run's models, where trials may keep files."""
        self.space, self.function, self.objectives = space, function, objectives
        self.budget, self.seed, self.on_progress = budget, seed, on_progress
        self._checkpoints = checkpoints

    def plan(self, proposal: Proposal, history: History) -> Generation:
        """Return the proposal with constraints repaired, settings, seeds and chunks.

        A chunk is one particle, so that a timeout ends after it and a resume repeats no other;
        all that a batched function is called with at once.
        """
        return plan_generation(
            self.space, self.budget, self.seed, proposal, history, lambda _: {}, self._chunks
        )

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate.

        Where a batched function raises, the chunk is halved until what fails is alone.
        """
        train = partial(self._train, generation.number, history)
        return evaluate_chunks(generation, stop, train, is_of_own_code, self._failed)

    def _chunks(self, trained: Sequence[Candidate]) -> Chunks:
        numbers = tuple(candidate.trial for candidate in trained)
        if self.function.batched:
            return (numbers,) if numbers else ()
        return tuple((number,) for number in numbers)

    def _train(
        self,
        number: int,
        history: History,
        candidates: Sequence[Candidate],
        place: tuple[int, int],
        finished: Mapping[int, Outcome],
    ) -> list[Outcome]:
        """Return the outcomes of one chunk; raises whatever the function raises."""
        start = time.perf_counter()
        ladder = Ladder(self.budget, self.objectives[0], history)
        asked = [(row, seed) for row, c in enumerate(candidates) for seed in c.seeds]
        with _folder(self._checkpoints) as folder:
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
                for (row, _), answer in zip(batch, self.function(settings, trials), strict=True):
                    answers[row].append(answer)
                if self.on_progress is not None:
                    steps = self.budget.steps
                    self.on_progress(Progress(number, *place, steps, steps, len(candidates)))
        seconds = (time.perf_counter() - start) / len(candidates)
        return [
            self._outcome(candidate, ladder, row, answers[row], seconds)
            for row, candidate in enumerate(candidates)
        ]

    def _outcome(
        self, candidate: Candidate, ladder: Ladder, row: int, answers: list[Any], seconds: float
    ) -> Outcome:
        runs = [run for run in ladder.runs if run.candidate == row]
        curve, steps, objective = curve_of(runs), self.budget.steps, self.objectives[0].name
        if any(run.is_told for run in runs):
            step = max(curve)
            metrics, state = {objective: curve[step]}, State.PRUNED
        else:
            try:
                read = [read_answer(one, objective, self.function.name) for one in answers]
            except OwnCodeError as error:
                return failed(candidate, str(error))
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

    def _failed(self, candidate: Candidate, error: Exception) -> Outcome:
        return failed(candidate, why(self.function.name, error))

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
