"""SIGKILL in the middle of an objective of one's own: the resumed search has the same trials."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

MINE = """
import time

import torch


def loss(settings, trial):
    value = (settings["x"] - 0.3) ** 2
    for step in range(1, trial.steps + 1):
        value += 0.01 * float(torch.randn(()))
        trial.report(step, value)
        time.sleep(0.02)
        if trial.should_prune():
            return
    return {"loss": value, "spread": float(torch.rand(()))}


def lists(settings, trials):
    return [loss(*one) for one in zip(settings, trials)]
"""
SPACE = """
objective = "killed_objective:loss"
[search]
x = { low = 0.0, high = 1.0 }
kind = ["a", "b"]
[budget]
particles = 4
generations = 3
steps = 8
"""
KEPT = ("generation", "particle", "position", "seeds", "metrics", "fidelity", "error")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pso_attn", *arguments, "--quiet"]


def stored(folder: Path, name: str) -> list[dict[str, Any]]:
    backend = optuna.storages.journal.JournalFileBackend(
        str(folder / "runs" / name / "journal.log")
    )
    study = optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))
    return [
        {
            "state": trial.state,
            "params": trial.params,
            "values": trial.values,
            "curve": trial.intermediate_values,
            **{name: trial.user_attrs.get(name) for name in KEPT},
        }
        for trial in study.get_trials(deepcopy=False)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("batched", [False, True])
def test_a_killed_search_of_an_objective_has_the_trials_of_the_uninterrupted_one(
    tmp_path: Path, batched: bool
) -> None:
    (tmp_path / "killed_objective.py").write_text(MINE)
    space = SPACE.replace(":loss", ":lists") if batched else SPACE
    (tmp_path / "space.toml").write_text(f"objective_batched = {str(batched).lower()}\n{space}")
    whole = subprocess.run(command("search", "space.toml", "--run", "whole"), cwd=tmp_path)
    assert whole.returncode == 0
    expected = stored(tmp_path, "whole")
    assert len(expected) == 12

    journal = tmp_path / "runs" / "killed" / "journal.log"
    killed = subprocess.Popen(command("search", "space.toml", "--run", "killed"), cwd=tmp_path)
    for finished in (1, 6):
        wanted = expected[finished]["values"][0]
        while not (journal.exists() and repr(wanted) in journal.read_text()):
            assert killed.poll() is None
            time.sleep(0.01)
        time.sleep(0.05)  # into the training after it
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        killed = subprocess.Popen(command("resume", "killed"), cwd=tmp_path)
    assert killed.wait() == 0
    assert stored(tmp_path, "killed") == expected
