"""A particle that diverges fails alone, and everything that shows the run says so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.evaluate import train_swarm
from pso_attn.types import State

SPACE = """
task = "digits"
[model]
layers = 1
d_model = 16
weight_decay = 100.0  # decoupled: weights grow without bound where 100 lr is above 2
[search]
lr = {{ low = {low}, high = 10.0, log = true }}
[budget]
particles = 6
generations = 2
steps = 40
rungs = [1.0]
[[start]]
lr = 2.0
[[start]]
lr = 5.0
"""


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder: in `some` there are particles that diverge, in `all` no others."""
    folder = tmp_path_factory.mktemp("diverging")
    for name, low, code in (("some", 1e-3, 0), ("all", 1.0, 3)):
        (folder / f"{name}.toml").write_text(SPACE.format(low=low))
        search = cli("search", folder / f"{name}.toml", "--run", name, "--runs-dir", folder)
        assert search.exit_code == code, search.stderr
        (folder / f"{name}.txt").write_text(search.stdout)
    return folder


def test_a_diverged_particle_is_a_failed_trial_that_says_at_which_step(runs: Path) -> None:
    trials = load_run("some", runs).history.trials
    failed = [trial for trial in trials if trial.outcome.state is State.FAIL]
    assert {1, 2} <= {trial.number for trial in failed}  # the starts
    for trial in failed:
        assert str(trial.outcome.error).startswith("diverged: the ")
        assert " at step " in str(trial.outcome.error)
        assert not trial.outcome.values
        assert trial.candidate.settings["lr"] > 0.02
    completed = [trial for trial in trials if trial.outcome.state is State.COMPLETE]
    assert len(completed) + len(failed) == 12


def test_its_neighbours_reach_what_they_reach_alone(runs: Path) -> None:
    run = load_run("some", runs)
    task = run.assembled().task
    together = [t for t in run.history.generations[0] if t.outcome.state is State.COMPLETE]
    assert 0 < len(together) < 6  # the others diverged
    for trial in together:
        settings, seeds = dict(trial.candidate.settings), list(trial.candidate.seeds)
        [alone] = train_swarm(task, [settings], seeds, 40, torch.device("cpu"))
        assert trial.outcome.values == pytest.approx([alone.metrics["loss"]], abs=5e-6)


def test_a_search_some_of_whose_particles_diverge_shows_how_many_and_why(runs: Path) -> None:
    for said in ((runs / "some.txt").read_text(), cli("show", runs / "some").stdout):
        assert " complete, " in said
        assert " failed\n" in said
        assert "diverged: the " in said
    best = json.loads(cli("best", runs / "some", "--json").stdout)
    assert best["settings"]["lr"] < 0.02
    report = cli("report", runs / "some")
    assert report.exit_code == 0
    assert " failed" in report.stdout


def test_a_search_all_of_whose_particles_diverge_says_why_wherever_it_is_asked(
    runs: Path,
) -> None:
    assert "run all: no trial completed\ntrials: 12 failed\n" in (runs / "all.txt").read_text()
    shown = cli("show", runs / "all")
    assert shown.exit_code == 0
    assert "trials: 12 failed\n" in shown.stdout
    assert "diverged: the " in shown.stdout
    report = cli("report", runs / "all")
    assert report.exit_code == 0
    assert "Nothing completed" in report.stdout
    for command in (["best"], ["confirm"], ["train"], ["export", "--out", runs / "out"]):
        refused = cli(*command, "all", "--runs-dir", runs)
        assert refused.exit_code == 2
        assert "has no completed trial to" in refused.stderr
        assert " failed with `diverged: the " in refused.stderr
        assert "resume all" in refused.stderr
        assert "--generations 4" in refused.stderr
