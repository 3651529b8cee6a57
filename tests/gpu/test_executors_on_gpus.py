"""Chunks on GPUs of other processes: the floats of this process, one device each.

Twins on a CPU: pso_attn/testing/executors.py, which all executors pass, and
tests/faults/test_ray_cluster.py and tests/unit/test_executor_choice.py for who gets which GPU.
"""

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import torch

from pso_attn.evaluate import SwarmTrainer
from pso_attn.evaluate.executors import LocalExecutor, ProcessExecutor
from pso_attn.evaluate.full_length import FullLengthTrainer, score_apart
from pso_attn.testing.executors import BUDGET, LOSS, asked, digits, fact, outcomes
from pso_attn.types import Generation

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here"),
]

CUDA, TOLERANCE = torch.device("cuda"), 5e-6
OUTER = {"layers": 1, "d_model": 16, "batch_size": 16}
# as many key/value heads as heads: gradients of shared ones are added in no fixed order there
SETTINGS: list[dict[str, Any]] = [
    {**OUTER, "heads": heads, "dropout": dropout, "lr": lr}
    for heads, dropout, lr in ((1, 0.0, 1e-3), (2, 0.1, 3e-3), (4, 0.2, 1e-2), (2, 0.0, 3e-2))
]


@pytest.fixture(params=["processes", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An executor whose chunks train on this machine's first GPU, in another process."""
    trainer = SwarmTrainer(digits(), LOSS, BUDGET, CUDA)
    if request.param == "processes":
        with closing(ProcessExecutor(trainer, CUDA, 1)) as made:
            yield made
        return
    ray = pytest.importorskip("ray")
    from pso_attn.evaluate.executors.ray_executor import RayExecutor

    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.CRITICAL)
    try:
        with closing(RayExecutor(trainer, CUDA, workers=1)) as made:
            yield made
    finally:
        ray.shutdown()


def plan() -> Generation:
    return asked(SETTINGS, chunks=((0, 1), (2, 3)))


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_gpu_of_another_process_gives_the_floats_of_this_one(executor: Any) -> None:
    trainer = SwarmTrainer(digits(), LOSS, BUDGET, CUDA)
    there = outcomes(trainer, executor, plan())
    here = outcomes(trainer, LocalExecutor(trainer, CUDA), plan())
    assert [fact(one) for one in there] == [fact(one) for one in here]


def test_finalists_that_are_scored_on_gpus_score_as_on_a_cpu() -> None:
    scores = []
    for device in (CUDA, torch.device("cpu")):
        trainer = FullLengthTrainer(SwarmTrainer(digits(), LOSS, BUDGET, device), "test")
        with closing(ProcessExecutor(trainer, device, 1)) as made:
            found = score_apart(trainer, made, SETTINGS, [1, 2, 3, 4])
        scores.append([one.metrics["loss"] for one in found if one.metrics])
    assert scores[0] == pytest.approx(scores[1], abs=TOLERANCE * BUDGET.steps)
