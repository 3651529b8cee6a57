"""The benchmarks that are for a GPU run here too, on sizes that say nothing of speed."""

import json
import subprocess
import sys
from pathlib import Path
from threading import BrokenBarrierError

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.usefixtures("_beside")
def test_the_graphed_peer_trains_as_the_plain_one_does() -> None:
    from batched_training import Work, make_members, make_task
    from graphed_peer import GraphedTraining

    from pso_attn.evaluate.alone import AloneTraining

    work = Work(4, 6, 8, 1, 4)
    task = make_task(work)
    for member in make_members(work, task):
        trained = []
        for kind in (AloneTraining, GraphedTraining):
            training = kind(task, member, 5, torch.device("cpu"))
            torch.manual_seed(3)  # of torch's own dropout
            training.advance(5)
            trained.append(list(training.model.parameters()))
        for one, other in zip(*trained, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("_beside")
def test_processes_that_end_by_an_error_are_not_waited_for() -> None:
    from batched_training import Work
    from planned_training import Processes

    nowhere = torch.device("meta")  # where torch's fused optimiser does not train
    with (
        pytest.raises(BrokenBarrierError),
        Processes(Work(4, 6, 8, 1, 4), 2, 3, nowhere) as processes,
    ):
        processes.advance(3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "keys"),
    [
        ("batched_training.py --no-graphs", {"micro-16", "ops-64"}),
        ("shared_gpu.py --processes 2", {"micro-16, 2 processes"}),
    ],
)
def test_the_scripts_run_on_a_cpu(script: str, keys: set[str]) -> None:
    name, *asked = script.split()
    command = [sys.executable, str(BENCHMARKS / name), *asked, "--device", "cpu"]
    command += ["--works", "micro-16", "--repeats", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    medians = json.loads(done.stdout)
    assert set(medians) == keys
    assert all(value > 0 for value in medians.values())
