"""A search by a baseline, its journal cut off: resumed, it has the uninterrupted one's trials."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app

SPACE = """
task = "digits"
[model]
layers = 1
d_model = 16
[search]
heads = [1, 2, 4]
mechanism = ["softmax", "linear"]
temperature = { low = 0.5, high = 2.0, log = true, per = "head" }
lr = { low = 1e-3, high = 10.0, log = true }
[constraints]
expressions = ["parameters <= 4500"]
[budget]
particles = 8
batch = 5
generations = 5
steps = 8
"""


def cli(*arguments: str | Path) -> Any:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


def trials(runs: Path) -> list[Any]:
    """Return what exact resume promises of every trial."""
    return [
        (
            trial.number,
            trial.candidate.particle,
            trial.candidate.position.tolist(),
            trial.outcome.state,
            trial.outcome.values,
            dict(trial.outcome.curve),
        )
        for trial in load_run("cut", runs_dir=runs).history.trials
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "nsga2", "pyswarms"])
def test_a_baseline_cut_off_resumes_to_the_same_trials(name: str, tmp_path: Path) -> None:
    space, whole = tmp_path / "space.toml", tmp_path / "whole"
    space.write_text(SPACE)
    cli("search", space, "--sampler", name, "--run", "cut", "--runs-dir", whole, "--quiet")
    expected = trials(whole)
    assert len(expected) == 25
    lines = (whole / "cut" / "journal.log").read_bytes().splitlines(keepends=True)
    plans = [k for k, line in enumerate(lines) if b"generation:" in line]
    for place in (plans[1] + 2, plans[3], plans[4] + 7):
        runs = tmp_path / str(place)
        shutil.copytree(whole, runs)
        (runs / "cut" / "journal.log").write_bytes(b"".join(lines[:place]))
        cli("resume", "cut", "--runs-dir", runs, "--quiet")
        assert trials(runs) == expected
        assert "matches" in cli("verify", "cut", "--runs-dir", runs).stdout
