"""The benchmarks that are for a GPU run here too, on sizes that say nothing of speed."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import BrokenBarrierError

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.usefixtures("_beside")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_graphed_peer_trains_as_the_plain_one_does(precision: str) -> None:
    from batched_training import Work, make_members, make_task
    from graphed_peer import GraphedTraining

    from pso_attn.evaluate.alone import AloneTraining

    work = replace(Work(4, 6, 8, 1, 4), precision=precision)
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


@pytest.mark.usefixtures("_beside")
def test_the_sizes_that_fill_a_gpu_are_trainings_of_one_bucket_in_the_numbers_asked_for() -> None:
    from batched_training import LARGE, make_members, make_task

    for work in LARGE.values():
        task = make_task(work)
        for precision in ("float32", "bf16"):
            members = make_members(replace(work, precision=precision), task)
            assert len(members) == work.particles
            assert {member.recipe.precision for member in members} == {precision}
            assert len({member.bucket for member in members}) == 1


@pytest.mark.usefixtures("_beside")
def test_a_step_takes_as_many_operations_for_sixteen_particles_as_for_sixty_four() -> None:
    from batched_training import WORKS, operations

    nano = WORKS["nano-64"]
    few, many = (operations(replace(nano, particles=count))["swarm"] for count in (16, 64))
    assert few == many


@pytest.mark.usefixtures("_beside")
def test_parts_of_a_step_are_split_off_and_not_sliced_which_fills_zeros_on_the_way_back() -> None:
    from batched_training import WORKS, dispatched, make_members, make_task

    from pso_attn.evaluate.training import SwarmTraining

    nano = WORKS["nano-64"]
    task = make_task(nano)
    swarm = SwarmTraining(task, make_members(nano, task), 3, torch.device("cpu"))
    found = dispatched(swarm)
    assert found["cat"] > 0  # what a split gives on the way back
    assert found["slice_backward"] == 0


@pytest.fixture
def _at_once(_beside: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scripts take no time: each size gains its width, and half of it in bf16."""
    import batched_training
    import planned_training
    import shared_gpu

    def ratios(work: batched_training.Work, *_: object) -> list[float]:
        return [work.d_model / (2 if work.precision == "bf16" else 1)]

    for script in (batched_training, shared_gpu):
        monkeypatch.setattr(script, "ratios", ratios)
    monkeypatch.setattr(batched_training, "operations", lambda _: {"swarm": 300, "one": 100})
    monkeypatch.setattr(planned_training, "worst", lambda *_: 1.0)


SMALL = {"nano-64": 16.0, "micro-16": 32.0, "tiny-32": 32.0, "lm-8": 64.0}
LARGE = {f"large-{width}": float(width) for width in (128, 256, 512, 1024)}
BESIDE = {"planner-worst": 1.0, "ops-64": 300}


@pytest.mark.usefixtures("_beside")
def test_on_a_gpu_every_small_size_has_sixty_four_particles() -> None:
    import argparse

    from batched_training import add_choices, chosen

    parser = argparse.ArgumentParser()
    parser.add_argument("--device")
    add_choices(parser)
    works = chosen(parser.parse_args(["--device", "cuda:0"]))
    assert {name: work.particles for name, work in works.items() if work.length <= 16} == {
        name: 64 for name in ("nano-64", "micro-64", "tiny-64")
    }


@pytest.mark.usefixtures("_beside")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("window", [None, 16])
def test_all_ways_to_attend_on_a_gpu_are_one_function(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import attention_kernels
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr(attention_kernels, "compiled", lambda: flex_attention)
    drawn, shape = torch.Generator().manual_seed(0), (8, 1, 4, 150, 32)
    q, k, v = (torch.randn(shape, generator=drawn) for _ in range(3))
    ways = attention_kernels.ways(150, window, torch.device("cpu"))
    assert ways.keys() == {"explicit", "fused", "flex", *(["blocks"] if window else [])}
    explicit, *others = (attend(q, k, v) for attend in ways.values())
    for values in others:
        torch.testing.assert_close(values, explicit, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("batched_training", {**SMALL, **BESIDE}),
        ("batched_training --large", {**SMALL, **LARGE, **BESIDE}),
        (
            "batched_training --works micro-16 --precision bf16",
            {"micro-16": 16.0, "ops-64": 300},
        ),
        ("shared_gpu --processes 2", {f"{key}, 2 processes": SMALL[key] for key in SMALL}),
        (
            "shared_gpu --processes 2 --large",
            {f"{key}, 2 processes": width for key, width in {**SMALL, **LARGE}.items()},
        ),
        (
            "shared_gpu --processes 2 --works micro-16 --precision bf16",
            {"micro-16, 2 processes": 16.0},
        ),
    ],
)
def test_the_json_has_a_figure_for_every_size_that_was_asked_for(
    script: str,
    found: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, *asked = script.split()
    monkeypatch.setattr(sys, "argv", [name, *asked, "--device", "cpu", "--json"])
    import_module(name).main()
    assert json.loads(capsys.readouterr().out) == found


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
