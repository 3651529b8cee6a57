"""Whether a run is what its seed and history make of it: every proposal, made again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pso_attn.runs import LoadedRun
from pso_attn.store import load_study
from pso_attn.types import Candidate, Evaluator, History, Sampler


@dataclass(frozen=True)
class Difference:
    """The first thing in which the replay and what is stored are not equal."""

    generation: int
    trial: int
    what: str
    stored: Any
    replayed: Any

    def sentence(self) -> str:
        """Return the difference as one sentence."""
        return (
            f"generation {self.generation}, trial {self.trial}: the stored {self.what} is "
            f"{self.stored}, and the replay gives {self.replayed}"
        )


def verify(
    space: Any, sampler: Sampler, evaluator: Evaluator, history: History
) -> Difference | None:
    """Return None if every finished generation is proposed again exactly, else what differs.

    Compares particles, positions, parameters, settings and training seeds, float for float.
    """
    for number, stored in enumerate(history.generations):
        before = history.truncated(number)
        replayed = evaluator.plan(sampler.propose(space, before), before)
        if len(stored) != len(replayed.candidates):
            sizes = len(stored), len(replayed.candidates)
            return Difference(number, stored[0].number, "generation's size", *sizes)
        for trial, candidate in zip(stored, replayed.candidates, strict=True):
            differing = _differing(trial.candidate, candidate)
            if differing:
                return Difference(number, trial.number, *differing)
    return None


def verify_run(
    run: LoadedRun, history: History, device: str | None = None, allow_import: bool = True
) -> Difference | None:
    """Return None if a run's history is what its configuration proposes, else what differs.

    History reads each generation's plan; that its trials say the same is looked at as well.
    """
    parts = run.assembled(device or "auto", allow_import)
    difference = verify(parts.space, parts.sampler(), parts.evaluator(), history)
    return difference or _unlike_their_plans(run, history)


def _unlike_their_plans(run: LoadedRun, history: History) -> Difference | None:
    """Return the first thing in which a stored trial is not what its plan says."""
    stored = load_study(run.folder, run.started.storage).get_trials(deepcopy=False)
    for trial, record in zip(history.trials, stored, strict=False):  # one may be unfinished
        planned = trial.candidate
        recorded = replace(
            planned,
            params=record.params,
            seeds=tuple(record.user_attrs["seeds"]),
            position=np.array(record.user_attrs.get("position", planned.position)),
        )
        differing = _differing(recorded, planned)
        if differing:
            return Difference(trial.generation, trial.number, *differing)
    return None


def _differing(stored: Candidate, replayed: Candidate) -> tuple[str, Any, Any] | None:
    for what in ("trial", "particle", "params", "settings", "seeds", "violations"):
        a, b = getattr(stored, what), getattr(replayed, what)
        if a != b and isinstance(a, Mapping):
            key = next(
                key for key in {**a, **b} if key not in a or key not in b or a[key] != b[key]
            )
            return f"{what}.{key}", a.get(key), b.get(key)
        if a != b:
            return what, a, b
    if not np.array_equal(stored.position, replayed.position):
        at = int(np.argmax(stored.position != replayed.position))
        return f"position[{at}]", float(stored.position[at]), float(replayed.position[at])
    return None
