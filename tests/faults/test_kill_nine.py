"""SIGKILL at random moments: the resumed search has the trials of the uninterrupted one."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import pso_attn.cli

KILLS = 20
SPACE = """
task = "digits"
[model]
layers = 1
d_model = 16
[search]
heads = [1, 2, 4]
kv_heads = [1, 2, 4]
mechanism = ["softmax", "linear"]
temperature = { low = 0.5, high = 2.0, log = true, per = "head" }
attention_dropout = { low = 0.0, high = 0.3 }
lr = { low = 1e-3, high = 10.0, log = true }
batch_size = [16, 32]
[constraints]
expressions = ["parameters <= 4500"]
[budget]
particles = 6
batch = 4
generations = 6
steps = 16
"""
# Children are forked from a clean process that has the package loaded: a kill then hits the search
# and not its imports, and no thread of this process is forked with it.
server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(
    ["pso_attn.cli.app", "pso_attn.driving", "pso_attn.evaluate", "pso_attn.swarm", "optuna"]
)


def start(arguments: list[str]) -> Any:
    """Start the command line; a child takes its arguments from this process's at the start."""
    own, sys.argv = sys.argv, ["pso-attn", *arguments]
    try:
        process = server.Process(target=pso_attn.cli.main)
        process.start()
    finally:
        sys.argv = own
    return process


def stored(runs: Path, name: str) -> list[dict[str, Any]]:
    """Return all that exact resume promises of every trial, in the order of numbers."""
    backend = optuna.storages.journal.JournalFileBackend(str(runs / name / "journal.log"))
    study = optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))
    kept = ("generation", "particle", "position", "seeds", "metrics", "fidelity", "error")
    return [
        {
            "number": trial.number,
            "state": trial.state.name,
            "params": trial.params,
            "values": trial.values,
            "curve": trial.intermediate_values,
            **{name: trial.user_attrs.get(name) for name in kept},
        }
        for trial in study.get_trials(deepcopy=False)
    ]


@pytest.mark.slow
def test_a_search_killed_twenty_times_has_the_trials_of_the_uninterrupted_one(
    tmp_path: Path,
) -> None:
    space, runs = tmp_path / "space.toml", tmp_path / "runs"
    space.write_text(SPACE)
    where = ["--runs-dir", str(runs), "--quiet"]
    for name in ("cold", "whole"):  # the children's server starts with the first
        begun = time.monotonic()
        whole = start(["search", str(space), "--run", name, *where])
        whole.join()
        assert whole.exitcode == 0
    duration = time.monotonic() - begun
    expected = stored(runs, "whole")
    assert len(expected) == 24
    assert {row["state"] for row in expected} >= {"COMPLETE", "PRUNED"}

    rng = np.random.default_rng(0)
    kills = run = 0
    while kills < KILLS:
        name = f"killed-{run}"
        run += 1
        finished = False
        while not finished:
            # the configuration is there as soon as the folder has its study's journal
            is_begun = (runs / name / "config.toml").exists()
            arguments = ["resume", name] if is_begun else ["search", str(space), "--run", name]
            if not is_begun and (runs / name).exists():
                pytest.fail("a killed search left a folder without a configuration")
            process = start([*arguments, *where])
            process.join(rng.uniform(0.0, duration / 2) if kills < KILLS else None)
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                process.join()
                kills += 1
            else:
                assert process.exitcode == 0
                finished = True
        assert stored(runs, name) == expected
