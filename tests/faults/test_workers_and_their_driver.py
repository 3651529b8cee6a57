"""A driver that is killed or interrupted: its workers end, and its run goes on elsewhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.testing.executors import fact
from pso_attn.types import State

SPACE = """
task = "digits"
[model]
layers = 1
d_model = 16
[search]
heads = [1, 2, 4]
lr = { low = 1e-3, high = 1e-1, log = true }
[budget]
particles = 4
generations = 4
steps = 60
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_takes_its_workers_along_and_its_run_goes_on_as_it_would_have(
    tmp_path: Path,
) -> None:
    space = tmp_path / "space.toml"
    space.write_text(SPACE)
    driver = started(space, tmp_path, "killed")
    assert driver.stderr is not None
    wait_for_generation(driver)
    workers = psutil.Process(driver.pid).children(recursive=True)
    assert sum("spawn_main" in " ".join(worker.cmdline()) for worker in workers) == 2
    driver.kill()
    driver.communicate()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    invoked("resume", "killed", tmp_path)
    invoked("search", str(space), tmp_path, "--run", "whole", *PROCESSES)
    assert trials(tmp_path, "killed") == trials(tmp_path, "whole")


def test_workers_in_the_middle_of_a_chunk_end_with_a_killed_driver_and_what_they_started(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.py").write_text(
        "import pathlib, subprocess, time\n"
        "def forever(settings, trial):\n"
        "    subprocess.Popen(['sleep', '3600'])\n"
        "    pathlib.Path(f'begun-{trial.seed}-{settings[\"x\"]}').touch()\n"
        "    time.sleep(3600)\n"
    )
    space = tmp_path / "space.toml"
    space.write_text(
        'objective = "mine:forever"\n[search]\nx = { low = 0.0, high = 1.0 }\n'
        "[budget]\nparticles = 2\n"
    )
    driver = started(space, tmp_path, "r")
    deadline_s = time.monotonic() + 120
    while len(list(tmp_path.glob("begun-*"))) < 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    workers = psutil.Process(driver.pid).children(recursive=True)
    assert sum(worker.name() == "sleep" for worker in workers) == 2
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    for worker in alive:  # they hold the pipes that are read below
        worker.kill()
    driver.communicate()
    assert not alive


def test_an_interrupted_driver_ends_its_workers_and_says_how_to_go_on(tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text(SPACE.replace("generations = 4", "generations = 1000"))
    driver = started(space, tmp_path, "r")
    wait_for_generation(driver)
    workers = psutil.Process(driver.pid).children(recursive=True)
    os.killpg(driver.pid, signal.SIGINT)  # as Ctrl-C at a terminal does
    out, err = driver.communicate(timeout=30)
    assert (driver.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted; go on with: pso-attn resume r"
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


LOST_GPU = """
import torch

def refuse(*_):
    raise RuntimeError("CUDA error: device-side assert triggered")

def own(settings, trial):
    torch.cuda.is_initialized, torch.cuda.device_count = lambda: True, lambda: 1
    torch.cuda.memory_reserved, torch.cuda.synchronize = lambda _: 1, refuse
    refuse()
"""


def test_a_worker_that_loses_its_gpu_fails_nobody_and_the_run_goes_on_once_that_is_mended(
    tmp_path: Path,
) -> None:
    """Told by a worker for which a stand-in for CUDA does nothing any more."""
    code, space = tmp_path / "mine.py", tmp_path / "space.toml"
    code.write_text(LOST_GPU)
    space.write_text(
        'objective = "mine:own"\n[search]\nx = { low = 0.0, high = 1.0 }\n'
        "[budget]\nparticles = 4\ngenerations = 1\n"
    )
    driver = started(space, tmp_path, "r")
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 2
    assert "cuda:0 answers nothing in this process any more: CUDA error: device-side" in err
    assert trials(tmp_path, "r") == []
    code.write_text("def own(settings, trial):\n    return settings['x']\n")
    resume = [sys.executable, "-m", "pso_attn", "resume", "r"]
    subprocess.run(resume, cwd=tmp_path, check=True, capture_output=True)
    history = load_run("r", tmp_path / "runs").history
    assert [trial.outcome.state for trial in history.trials] == [State.COMPLETE] * 4


PROCESSES = ("--executor", "processes", "--workers", "2")


def started(space: Path, folder: Path, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pso_attn", "search", str(space), "--run", name, *PROCESSES],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


def wait_for_generation(driver: "subprocess.Popen[str]") -> None:
    assert driver.stderr is not None
    said, deadline = [], time.monotonic() + 120
    while time.monotonic() < deadline:
        said.append(driver.stderr.readline())
        if "generations" in said[-1]:
            return
    pytest.fail("".join(said))


def invoked(command: str, what: str, folder: Path, *flags: str) -> None:
    found = CliRunner().invoke(app, [command, what, "--runs-dir", str(folder / "runs"), *flags])
    assert found.exit_code == 0, found.stderr


def trials(folder: Path, name: str) -> list[Any]:
    history = load_run(name, folder / "runs").history
    return [(t.candidate.params, t.candidate.seeds, fact(t.outcome)) for t in history.trials]
