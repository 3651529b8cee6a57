"""What a training at full length is, how it went so far, and where both are kept."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import torch

from pso_attn import __version__
from pso_attn.checkpoints import TRAINED, Checkpoint, load_checkpoint, save_checkpoint
from pso_attn.errors import RunError, StorageError
from pso_attn.evaluate import LongTraining
from pso_attn.evaluate.training import divergence
from pso_attn.types import Objective, Settings

SCORINGS = 40  # on the validation split, evenly spread


def digest(document: Any) -> str:
    """Return twelve hexadecimal digits that differ between documents of plain values."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a training comes to; two of one identity are the same.

    trial: the winner's, or None for given settings. patience: in scorings.
    """

    settings: Settings
    trial: int | None
    seed: int
    steps: int
    patience: int
    objective: Objective
    fingerprint: str
    device: str
    version: str = __version__

    @property
    def identity(self) -> str:
        """Twelve hexadecimal digits that differ between plans."""
        return digest(asdict(self))

    @property
    def scored(self) -> tuple[int, ...]:
        """The steps after which the model is scored, ascending and ending at the last."""
        even = (max(1, round(self.steps * k / SCORINGS)) for k in range(1, SCORINGS + 1))
        return tuple(sorted(set(even)))


@dataclass(frozen=True)
class Course:
    """How a training went so far. curve: step -> objective. stopped: why it ended, or empty.

    best_step: where the objective was best, 0 before any scoring; metrics: the task's, there.
    """

    curve: Mapping[int, float] = field(default_factory=dict)
    best_step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    stopped: str = ""

    @property
    def step(self) -> int:
        """The last step that was scored."""
        return max(self.curve, default=0)

    def after(
        self, step: int, metrics: Mapping[str, float], bad: int | None, plan: Plan
    ) -> "Course":
        """Return the course after one more scoring; bad: the first step of no finite loss."""
        diverged = divergence(bad, metrics, step)
        if diverged is not None:
            return replace(self, stopped=diverged)
        objective = plan.objective
        value = metrics[objective.name]
        going = replace(self, curve={**self.curve, step: value})
        before = objective.loss(self.curve[self.best_step]) if self.best_step else inf
        if objective.loss(value) < before:
            going = replace(going, best_step=step, metrics=dict(metrics))
        waited = sum(scored > going.best_step for scored in going.curve)
        if step == plan.steps:
            return replace(going, stopped="all steps are done")
        if waited >= plan.patience:
            stopped = f"no better {objective.name} in {waited} scorings"
            return replace(going, stopped=stopped)
        return going


@dataclass(frozen=True)
class TrainingFiles:
    """Where a training is kept: one file while it goes on, by identity, and one at its end.

    What was finished last has a name of its own; the models of other plans stay beside it.
    """

    folder: Path
    plan: Plan

    @property
    def _going(self) -> Path:
        return self.folder / f"training-{self.plan.identity}.safetensors"

    def begun(self, training: LongTraining) -> tuple[Course, dict[str, torch.Tensor]]:
        """Put the training where it was left; return its course and its best weights so far.

        Raises RunError where another model left it: the plan does not know code of one's own.
        """
        found = load_checkpoint(self._going)
        if found is None:
            return Course(), {}
        parts: dict[str, dict[str, torch.Tensor]] = {"state": {}, "best": {}}
        for name, tensor in found.tensors.items():
            kind, _, own = name.partition("/")
            parts[kind][own] = tensor
        best = training.true_parameters(0) if parts["best"] else {}
        now = _named(training.state, best)
        if {n: t.shape for n, t in found.tensors.items()} != {n: t.shape for n, t in now.items()}:
            raise RunError(
                f"{self._going} was left by a model of other shapes than the code makes now; "
                "remove it to begin anew"
            )
        training.restore(parts["state"], found.about["step"])
        return _course(found), parts["best"]

    def keep(
        self, training: LongTraining, course: Course, best: Mapping[str, torch.Tensor]
    ) -> None:
        """Save all that going on needs."""
        about = {"step": training.step, "course": asdict(course), "plan": asdict(self.plan)}
        save_checkpoint(self._going, _named(training.state, best), about)

    def finish(
        self, course: Course, best: Mapping[str, torch.Tensor], may_go_on: bool = False
    ) -> None:
        """Save the model: the weights where the validation objective was best.

        may_go_on: whether this is not its end; the model is then no plan's, and the next takes its
        place.
        """
        self._keep_last_aside()
        plan = asdict(self.plan)
        about = {"settings": plan["settings"], "course": asdict(course), "plan": plan}
        identity = None if may_go_on else self.plan.identity
        save_checkpoint(self.folder / TRAINED, best, {**about, "identity": identity})

    def finished(self) -> Course | None:
        """Return the course if this very training was finished; it is then the last again."""
        if os.path.exists(self._going):  # a Path raises where it may not look
            return None
        last, aside = self.folder / TRAINED, self._aside(self.plan.identity)
        found = load_checkpoint(last)
        if found is not None and found.about["identity"] == self.plan.identity:
            return _course(found)
        found = load_checkpoint(aside)
        if found is None:
            return None
        self._keep_last_aside()
        try:
            aside.replace(last)
        except OSError as error:
            raise StorageError(f"{aside} cannot be renamed: {error.strerror}") from error
        return _course(found)

    def _aside(self, identity: str) -> Path:
        return self.folder / f"trained-{identity}.safetensors"

    def _keep_last_aside(self) -> None:
        """Give the last model its second name; its first one stays until another takes it."""
        last = load_checkpoint(self.folder / TRAINED)
        if last is not None and last.about["identity"] is not None:
            save_checkpoint(self._aside(last.about["identity"]), last.tensors, last.about)

    def clear(self) -> None:
        """Remove what only going on needs, and what a kill left of a file being written."""
        torn = (f".{name}.*" for name in (self._going.name, TRAINED, self._aside("*").name))
        try:
            for path in (self._going, *(path for name in torn for path in self.folder.glob(name))):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{self._going} cannot be removed: {error.strerror}") from error


def _named(
    state: Mapping[str, torch.Tensor], best: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the tensors of a training that goes on, by the names that its file has for them."""
    tensors = {f"state/{name}": tensor for name, tensor in state.items()}
    return tensors | {f"best/{name}": tensor for name, tensor in best.items()}


def _course(found: Checkpoint) -> Course:
    said = found.about["course"]
    return Course(**{**said, "curve": {int(step): v for step, v in said["curve"].items()}})
