"""The peer of `time_to_quality.py`: an Optuna study that worker processes of one thread share.

Its trials are plain modules (scaled_dot_product_attention, fused AdamW) on the same data, space,
seeds and steps as ours. It is asked only for knobs that act, tries the defaults first, has its
settings repaired to the constraints as ours are, and reports at the same rungs. What is
infeasible even so is untrained and uses its slot, as for ours. Samplers and pruners are at their
defaults, but that halving begins at the first rung.
"""

import math
import time
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

import optuna
import torch
from optuna.pruners import BasePruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from pso_attn.assembly import assemble
from pso_attn.baselines.rebuilt_study import distributions, quiet_optuna, suggested, told
from pso_attn.config import Configuration, read_configuration
from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.device import keep_freed_memory
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.rungs import rung_steps
from pso_attn.parts import Parts
from pso_attn.seeding import generator, training_seed
from pso_attn.space import Space
from pso_attn.types import Budget

PEERS = ("tpe-median", "tpe-halving", "gp-median", "gp-halving")
STUDY = "search"
READY_S = 300.0  # in which all workers must stand


@dataclass(frozen=True)
class Job:
    """One search: ours or a peer by its name, and with how many workers."""

    space: str
    seed: int
    runner: str
    workers: int
    trainings: int
    steps: int


@dataclass(frozen=True)
class Shared:
    """What the processes of one search share: when it began, who is ready, trainings left."""

    began: "Synchronized[float]"
    ready: Barrier
    left: "Synchronized[int]"

    def takes_one(self) -> bool:
        with self.left.get_lock():
            self.left.value -= 1
            return self.left.value >= 0


def configuration(job: Job) -> Configuration:
    """Return what ours is asked to do: generations of the space's own size, in the budget."""
    sets = [f"budget.steps={job.steps}", "budget.seeds=1", 'objectives=["loss"]']
    asked = read_configuration(job.space, sets).budget
    particles = min(asked.particles, job.trainings)
    generations = job.trainings // min(asked.batch, particles)
    flags = {"particles": particles, "generations": generations, "seed": job.seed, "device": "cpu"}
    return read_configuration(job.space, sets, flags)


def run_peer(job: Job, folder: Path, shared: Shared, worker: int) -> None:
    """Be one worker of a peer's study until no training is left."""
    torch.set_num_threads(1)
    keep_freed_memory()  # ours does; it quickens plain modules as well
    parts = assemble(configuration(job))
    with quiet_optuna():
        study = optuna.create_study(
            storage=open_storage(folder),
            study_name=STUDY,
            sampler=make_sampler(job, worker),
            pruner=make_pruner(job, parts.configuration.budget),
            load_if_exists=True,
        )
        if worker == 0:
            enqueue_starts(study, parts.space)
        shared.ready.wait(READY_S)
        if worker == 0:
            shared.began.value = time.time()
        while shared.takes_one():
            train(parts, study, job.seed)


def enqueue_starts(study: optuna.Study, space: Space) -> None:
    known = distributions(space)
    for start in space.starts:
        study.enqueue_trial(told(space, space.decode(start), known))


def make_sampler(job: Job, worker: int) -> BaseSampler:
    seed = int(generator(job.seed, worker, job.runner).integers(2**31))
    return TPESampler(seed=seed) if job.runner.startswith("tpe") else GPSampler(seed=seed)


def make_pruner(job: Job, budget: Budget) -> BasePruner:
    if job.runner.endswith("median"):
        return MedianPruner()
    # by itself it would take steps / 100, for reports at every step, and ask thrice at one rung
    return SuccessiveHalvingPruner(min_resource=(*rung_steps(budget), budget.steps)[0])


def train(parts: Parts, study: optuna.Study, seed: int) -> None:
    """Ask for one trial, train it as a plain module, and tell what came of it."""
    trial = study.ask()
    position = suggested(parts.space, trial)
    repaired = parts.space.repair(position, seed, trial.number, 0)
    if repaired.violations:
        study.tell(trial, state=TrialState.FAIL)
        return
    budget = parts.configuration.budget
    member = read_member(parts.space.settings(repaired.params), training_seed(seed, 0), parts.task)
    training = AloneTraining(parts.task, member, budget.steps, torch.device("cpu"))
    for until in (*rung_steps(budget), budget.steps):
        training.advance(until)
        loss = training.score()["loss"]
        if not math.isfinite(loss):
            study.tell(trial, state=TrialState.FAIL)
            return
        if until == budget.steps:
            study.tell(trial, loss)
            return
        trial.report(loss, until)
        if trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return


def open_storage(folder: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(folder / "journal.log")))
