"""Which executor is chosen, what cannot be meant, and into how many chunks it has plans cut."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import pso_attn
from pso_attn.assembly import assemble
from pso_attn.cli.app import app
from pso_attn.config import Execution, execution_from, read_configuration
from pso_attn.errors import ConfigurationError, DeviceError
from pso_attn.evaluate import ObjectiveTrainer, OwnObjective
from pso_attn.evaluate.executors import ProcessExecutor, make_executor
from pso_attn.evaluate.executors.portable import pickled, portable
from pso_attn.evaluate.full_length import FullLengthTrainer
from pso_attn.evaluate.jobs import Trained, attempt
from pso_attn.evaluate.packing import shared_out
from pso_attn.testing.executors import BUDGET, CPU, LOSS, objective


def test_without_ray_the_line_that_installs_it_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("ray_cluster", "ray_executor"):
        monkeypatch.delitem(sys.modules, f"pso_attn.evaluate.executors.{name}", raising=False)
        monkeypatch.delattr(f"pso_attn.evaluate.executors.{name}", raising=False)
    search = ["search", "digits", "--executor", "ray", "--runs-dir", str(tmp_path)]
    found = CliRunner().invoke(app, search)
    assert found.exit_code == 2
    assert 'run pip install "pso-attn[ray]"' in found.stderr
    assert not list(tmp_path.iterdir())


def test_an_objective_that_cannot_be_pickled_is_named_with_the_reason() -> None:
    own = OwnObjective(lambda settings, trial: 0.0, "mine:f", False, CPU)
    with pytest.raises(ConfigurationError, match=r"^mine:f cannot be pickled.*<lambda>"):
        ProcessExecutor(ObjectiveTrainer(own, LOSS, BUDGET), CPU, 2)


def test_a_run_of_an_objective_that_cannot_be_pickled_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be pickled"):
        pso_attn.tune(
            {"x": {"low": 0.0, "high": 1.0}},
            lambda settings, trial: 0.0,
            executor="processes",
            workers=2,
            runs_dir=tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_workers_whose_data_leave_no_room_to_train_are_refused_with_how_many_have_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = objective()
    held = len(pickle.dumps(trainer))
    place = "pso_attn.evaluate.executors.processes.memory_budget_bytes"
    monkeypatch.setattr(place, lambda device: 8 * held)
    assert ProcessExecutor(trainer, CPU, 4).limit_bytes == held
    with pytest.raises(
        ConfigurationError, match=r"^--workers 5: .* hold the data, .*--workers 4$"
    ):
        ProcessExecutor(trainer, CPU, 5)
    monkeypatch.setattr(place, lambda device: 3 * held)
    with pytest.raises(ConfigurationError, match=r"^--workers 2: .*--executor local$"):
        ProcessExecutor(trainer, CPU, 2)


def test_more_workers_than_cores_are_warned_of() -> None:
    (note,) = ProcessExecutor(objective(), CPU, 4096).notes
    assert "4096 workers share" in note
    assert ProcessExecutor(objective(), CPU, 1).notes == ()


def test_without_a_number_there_is_a_worker_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.Process.cpu_affinity", lambda self: list(range(6)))
    assert make_executor("processes", objective(), CPU).workers == 6


def test_a_driver_without_a_gpu_trains_the_start_of_weights_on_its_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    there = {"device": "cuda", "executor": "ray"}
    parts = assemble(read_configuration("digits-weights", (), there))
    assert parts.weight_trainer().device == CPU
    here = replace(parts.configuration, execution=Execution())
    with pytest.raises(DeviceError, match="sees no CUDA device here"):
        replace(parts, configuration=here).weight_trainer()


def test_gpus_are_handed_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    from pso_attn.evaluate.executors.processes import devices

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    found = devices(torch.device("cuda"), 3)
    assert [str(device) for device in found] == ["cuda:0", "cuda:1", "cuda:0"]
    assert devices(torch.device("cuda:1"), 2) == [torch.device("cuda:1")] * 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"executor": "procesess"}, 'did you mean "processes"?'),
        ({"workers": 2}, '"workers" is for the executor processes or ray, and it is local'),
        ({"executor": "processes", "ray_address": "a:1"}, '"ray_address" is for the executor ray'),
        ({"executor": "processes", "workers": 0}, "a whole number of at least 1"),
        ({"executor": "processes", "chunk_timeout_s": 0.0}, "seconds above 0"),
        ({"executor": "processes", "chunk_timeout_s": float("nan")}, "seconds above 0"),
    ],
)
def test_what_is_not_for_an_executor_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words.replace("?", r"\?")):
        execution_from(given, "here")


def test_a_resume_keeps_to_the_executor_and_another_takes_over_nothing() -> None:
    recorded = Execution("processes", 3, None, 60.0)
    assert execution_from({}, "resume", recorded) == recorded
    assert execution_from({"workers": 4}, "resume", recorded).workers == 4
    assert execution_from({"executor": "local"}, "resume", recorded) == Execution()
    assert execution_from({"executor": "ray"}, "resume", recorded) == Execution("ray")


def test_what_a_generation_takes_is_shared_evenly_among_workers() -> None:
    assert shared_out([[0, 1, 2, 3, 4]], [1.0] * 5, [1.0]) == [[0, 1, 2, 3, 4]]
    assert shared_out([[0, 1, 2, 3, 4]], [1.0] * 5, [1.0] * 2) == [[2, 3, 4], [0, 1]]
    assert shared_out([[0, 1], [2, 3]], [1.0, 1.0, 4.0, 4.0], [1.0] * 2) == [[2], [3], [0, 1]]
    assert shared_out([[0], [1]], [1.0, 2.0], [1.0] * 8) == [[1], [0]]
    assert shared_out([[0, 1, 2]], [0.0] * 3, [1.0] * 4) == [[0, 1, 2]]
    assert shared_out([], [], [1.0] * 4) == []
    assert shared_out([[0, 1, 2, 3, 4]], [1.0] * 5, [0.7] * 2) == [[2, 3, 4], [0, 1]]


def test_quicker_workers_are_given_more_and_the_quickest_most() -> None:
    assert shared_out([list(range(8))], [1.0] * 8, [1.0, 3.0]) == [[0, 1, 2, 3, 4, 5], [6, 7]]
    assert shared_out([list(range(6))], [1.0] * 6, [1.0, 1.0, 4.0]) == [[0, 1, 2, 3], [4], [5]]
    assert shared_out([[0, 1], [2]], [1.0, 1.0, 4.0], [2.0, 1.0]) == [[2], [0, 1]]
    assert shared_out([[0, 1], [2]], [4.0, 4.0, 4.0], [1.0, 2.0]) == [[0, 1], [2]]
    assert shared_out([[0, 1, 2]], [1.0] * 3, [1.0, 9.0]) == [[0, 1, 2]]  # not worth waiting for
    assert shared_out([[0, 1]], [0.0] * 2, [1.0, 9.0]) == [[0, 1]]
    assert shared_out([], [], [1.0, 9.0]) == []


def test_weights_come_in_the_hosts_memory_for_a_driver_without_the_device() -> None:
    here = torch.ones(2)
    there: Any = SimpleNamespace(cpu=lambda: here)  # a tensor of some other device
    trainer: Any = SimpleNamespace(train=lambda job, hear: Trained([], 3, {"part": there}))
    job: Any = None
    answer = attempt(trainer, job, lambda said: None)
    assert isinstance(answer, Trained)
    assert answer.best == 3
    assert answer.weights["part"] is here


def test_an_objective_inside_another_trainer_is_named_as_well() -> None:
    own = OwnObjective(lambda settings, trial: 0.0, "mine:f", False, CPU)
    trainer = FullLengthTrainer(ObjectiveTrainer(own, LOSS, BUDGET), "test")
    with pytest.raises(ConfigurationError, match=r"^mine:f cannot be pickled.*<lambda>"):
        pickled(trainer)


def test_what_would_end_a_worker_is_said_to_its_driver_and_does_not_end_that() -> None:
    said = portable(SystemExit(3))
    assert isinstance(said, RuntimeError)
    assert str(said) == "SystemExit(3)"
