"""A run's winner, or given settings, trained at full length: what a search is for.

A search's trainings are short, because they only have to be ranked. This one is the same training,
longer: the batched job with one member, so that starts, data order and dropout are keyed by seed
and step, and a handful of tensors is all that has to be kept to go on to the same floats.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import torch

from pso_attn.checkpoints import TRAINED, keeps_files
from pso_attn.config import Configuration
from pso_attn.courses import Course, Plan, TrainingFiles, digest
from pso_attn.errors import ConfigurationError, DeviceError, TrainingError
from pso_attn.evaluate import LongTraining, read_member, resolve_device, train_objective
from pso_attn.evaluate.device import is_out_of_memory, memory_budget_bytes
from pso_attn.evaluate.optimiser import read_recipe
from pso_attn.evaluate.own_code import OwnCodeError
from pso_attn.evaluate.precision import check_precision
from pso_attn.evaluate.room import chunk_bytes, module_steps_bytes
from pso_attn.parts import Parts
from pso_attn.runs import LoadedRun
from pso_attn.seeding import training_seed
from pso_attn.types import Settings

LONGER = 10  # times the search's steps, by default; early stopping ends what needs fewer
PATIENCE = 10  # scorings: a quarter of the training, since rates anneal to its very end
SAVE_EVERY_S = 30.0  # between scorings, where those are far apart
OWN_TRAINED = "trained"  # the folder in which an objective of one's own keeps its files
SLICES = 25  # of the steps between two scorings

Report = Callable[[int, int, str], None]


def plan_training(
    run: LoadedRun,
    parts: Parts,
    steps: int | None = None,
    patience: int | None = None,
    given: Settings | None = None,
    given_in: str = "the settings",
    precision: str | None = None,
) -> Plan:
    """Return what is to be trained: the given settings, else those of the run's winner.

    precision: in place of the settings' own.

    Raises RunError where there is no winner, ConfigurationError for settings of no model.
    """
    best = None if given is not None else run.best()
    if given is None and best is None:
        raise run.without_winner("to train")
    settings = best.candidate.settings if best is not None else given
    assert settings is not None
    configuration = parts.configuration
    device = resolve_device(configuration.device)
    if precision is not None:
        check_precision(precision, device)
        settings = {**settings, "precision": precision}
    plan = Plan(
        settings=dict(settings),
        trial=None if best is None else best.number,
        seed=training_seed(configuration.seed, 0),
        steps=LONGER * configuration.budget.steps if steps is None else steps,
        patience=PATIENCE if patience is None else patience,
        objective=parts.objectives[0],
        fingerprint=parts.task.fingerprint,
        device=str(device),
    )
    refusal = parts.refusal(plan.settings)
    if refusal is not None:
        raise ConfigurationError(f"{given_in}: {refusal}")
    return plan


def train_run(
    run: LoadedRun,
    steps: int | None = None,
    patience: int | None = None,
    given: Settings | None = None,
    device: str | None = None,
    allow_import: bool = True,
    report: Report | None = None,
    given_in: str = "the settings",
    precision: str | None = None,
) -> dict[str, Any]:
    """Train at full length, leave the model beside the run, and return how it went.

    steps: `LONGER` times the search's by default. patience: `PATIENCE` by default. given:
    settings to train in place of the winner's; given_in: their file's name, for messages.
    precision: in place of the settings' own. The same call again goes on where it was left, or
    returns what is finished. Only the validation split is looked at. report: called with (steps
    done, steps in all, words).

    Raises RunError while the run is being driven and TrainingError where nothing is left to keep.
    """
    parts = run.assembled(device, allow_import)
    if parts.weights is not None:
        raise ConfigurationError(
            f"run {run.name} searches weights, which are its result as they are; write its model "
            f"with `{run.again('export')} --out DIR`"
        )
    with run.folder.lock():
        if parts.function is not None:
            _refuse_ours(parts.configuration, patience, precision)
            return _train_objective(run, parts, steps, given)
        plan = plan_training(run, parts, steps, patience, given, given_in, precision)
        saved = TrainingFiles(run.folder.checkpoints, plan)
        course = saved.finished()
        if course is None:
            try:
                course = _train(plan, parts, saved, report)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise DeviceError(_too_large(plan, parts, error)) from error
    return _document(run, plan, course)


def _too_large(plan: Plan, parts: Parts, error: Exception) -> str:
    """Return how much memory a training needed, and which settings would need less."""

    def needed(steps: int = plan.steps, **more: int) -> float:
        settings = {**plan.settings, **more}
        if parts.factory is not None:
            kept = module_steps_bytes(read_recipe(settings).batch_size, steps)
            return (parts.factory.cost(settings)["memory_bytes"] + kept) / 2**20
        member = read_member(settings, plan.seed, parts.task)
        return chunk_bytes([member], parts.task.info, steps) / 2**20

    whole, least = needed(), needed(batch_size=1)
    advice = "choose a smaller batch_size"
    if whole > 2 * needed(steps=0):
        advice = f"most of it is for {plan.steps} steps, so choose fewer"
    elif least > min(whole / 2, memory_budget_bytes(torch.device(plan.device)) / 2**20):
        advice = (
            f"with a batch_size of 1 they would be {least:.0f}, so choose settings of a smaller "
            "model"
        )
    return (
        f"this training does not fit into memory: about {whole:.0f} MiB are needed on "
        f"{plan.device} ({error}); {advice}, or another --device"
    )


def _refuse_ours(
    configuration: Configuration, patience: int | None, precision: str | None
) -> None:
    """Raise ConfigurationError for what only our trainer knows of."""
    for flag, value in (("patience", patience), ("precision", precision)):
        if value is not None:
            raise ConfigurationError(
                f"--{flag} is for models that are trained here, and {configuration.subject} "
                "trains its own; leave it out"
            )


def _train_objective(
    run: LoadedRun, parts: Parts, steps: int | None, given: Settings | None
) -> dict[str, Any]:
    """Ask an objective of one's own for a training that long; what it keeps, it keeps itself.

    Its folder stays from one call to the next for the same training, so that it may go on from
    what it left there.
    """
    configuration, best = parts.configuration, None if given is not None else run.best()
    settings = given if best is None else best.candidate.settings
    if settings is None:
        raise run.without_winner("to train")
    budget = configuration.budget
    steps = LONGER * budget.steps if steps is None else steps
    seed, objective = training_seed(configuration.seed, 0), parts.objectives[0]
    folder = run.folder.checkpoints / OWN_TRAINED / digest([settings, seed, steps])
    metrics, curve = train_objective(
        parts.own_objective(), settings, seed, budget, steps, objective, folder
    )
    return {
        "run": run.name,
        "split": "validation",
        "trial": None if best is None else best.number,
        "settings": dict(settings),
        "seed": seed,
        "steps": steps,
        "steps_done": steps,
        "best_step": steps,
        "stopped": "its objective returned",
        "objective": objective.name,
        "loss": metrics.get("loss"),
        "metrics": metrics,
        "curve": {str(step): value for step, value in curve.items()},
        "search": _search(run, metrics),
        "checkpoint": str(folder) if keeps_files(folder) else None,
    }


def _train(plan: Plan, parts: Parts, saved: TrainingFiles, report: Report | None) -> Course:
    """Train until the plan's end and save the model; from where it was left, if it was begun."""
    training = parts.training(plan.settings, plan.seed, plan.steps, plan.device)
    course, best = saved.begun(training)
    may_go_on = False
    for until in plan.scored:
        if course.stopped or until <= course.step:
            continue
        try:
            _advance(training, until, saved, course, best, report)
            (metrics,), (bad,) = training.score(), training.first_bad_steps()
        except OwnCodeError as error:  # a module or task of one's own, which trained so far
            if not course.best_step:
                raise
            course, may_go_on = replace(course, stopped=str(error)), True  # once it is mended
            break
        course = course.after(until, metrics, bad, plan)
        if course.best_step == until:
            best = training.true_parameters(0)
        saved.keep(training, course, best)
    if not course.best_step:
        saved.clear()
        raise TrainingError(
            f"the training {course.stopped}; give a lower lr or clip_norm with --settings"
        )
    saved.finish(course, best, may_go_on)
    if not may_go_on:
        saved.clear()
    return course


def _advance(
    training: LongTraining,
    until: int,
    saved: TrainingFiles,
    course: Course,
    best: Mapping[str, torch.Tensor],
    report: Report | None,
) -> None:
    """Train up to the next scoring, reporting and keeping what is there on the way."""
    began_s = time.monotonic()
    length = max(1, (until - training.step) // SLICES)
    while training.step < until:
        training.advance(min(until, training.step + length))
        if report is not None:
            report(training.step, training.steps, _words(course, saved.plan))
        is_due = time.monotonic() - began_s >= SAVE_EVERY_S
        if is_due and training.first_bad_steps() == [None]:  # which a state does not tell
            saved.keep(training, course, best)
            began_s = time.monotonic()


def _words(course: Course, plan: Plan) -> str:
    if not course.best_step:
        return ""
    best = course.curve[course.best_step]
    return f"best validation {plan.objective.name} {best:.4g} at step {course.best_step}"


def _document(run: LoadedRun, plan: Plan, course: Course) -> dict[str, Any]:
    """Return how a training went, beside the best of the search, both on the validation split."""
    return {
        "run": run.name,
        "split": "validation",
        "trial": plan.trial,
        "settings": dict(plan.settings),
        "seed": plan.seed,
        "steps": plan.steps,
        "steps_done": course.step,
        "best_step": course.best_step,
        "stopped": course.stopped,
        "objective": plan.objective.name,
        "loss": course.metrics.get("loss"),
        "metrics": dict(course.metrics),
        "curve": {str(step): value for step, value in course.curve.items()},
        "search": _search(run, course.metrics),
        "checkpoint": str(run.folder.checkpoints / TRAINED),
    }


def _search(run: LoadedRun, metrics: Collection[str]) -> dict[str, Any] | None:
    """Return what the search's best reached of these metrics; None without one."""
    best = run.best()
    if best is None:
        return None
    theirs = {name: best.outcome.metrics.get(name) for name in metrics}
    return {
        "trial": best.number,
        "steps": run.configuration.budget.steps,
        "metrics": theirs,
    }
