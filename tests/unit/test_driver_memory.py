"""What a driver's memory grows by is its history, and how often settings were trained."""

import gc
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from pso_attn.evaluate import ObjectiveEvaluator, OwnObjective
from pso_attn.evaluate.trainings import Trainings
from pso_attn.search import Search, run_search
from pso_attn.store import OptunaStore, RunFolder
from pso_attn.swarm import ClassicSwarm
from pso_attn.testing.spaces import mixed
from pso_attn.types import Budget, Objective

LOSSES = (Objective("loss", "minimize"),)
SWARM, FEW, MANY = 10, 10, 60  # particles; generations


def loss(settings: Any, trial: Any) -> float:
    trial.report(trial.steps // 2, 1.0)
    return float(len(str(settings)))


def kept(generations: int, folder: Path) -> tuple[int, int]:
    """Return the bytes that a search holds at its end, and those without what it may hold."""
    space, budget = mixed(), Budget(SWARM, SWARM, generations, steps=4)
    sampler = ClassicSwarm(0, SWARM, SWARM, generations)
    own = OwnObjective(loss, "tests:loss", False, torch.device("cpu"))
    evaluator = ObjectiveEvaluator(space, own, LOSSES, budget, 0)
    run = RunFolder.create(folder, f"run-{generations}", {}, {})
    gc.collect()
    tracemalloc.start()
    with OptunaStore.create(None, run, space, LOSSES, {}) as store:
        run_search(Search(space, generations), sampler, evaluator, store)
        gc.collect()
        all_of_it = tracemalloc.get_traced_memory()[0]
        store._history = sampler._fold = None  # type: ignore[assignment]  # of this search no more
        evaluator._trainings = Trainings()
        gc.collect()
        rest = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return all_of_it, rest


def growth(folder: Path) -> tuple[float, float]:
    """Return by how many bytes a trial a search grows, and by how many beside what it may hold."""
    kept(1, folder)  # what is loaded and remembered once
    early, late = kept(FEW, folder), kept(MANY, folder)
    grown, left = ((b - a) / (SWARM * (MANY - FEW)) for a, b in zip(early, late, strict=True))
    return grown, left


@pytest.mark.slow
def test_a_driver_keeps_its_history_and_counts_of_trainings_and_nothing_else(
    tmp_path: Path,
) -> None:
    # in a process of its own: what other tests leave running allocates as well
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        grown, left = process.submit(growth, tmp_path).result()
    assert grown > 1_000
    assert left < 70  # tables grow by steps; one entry for each trial would be over 100
