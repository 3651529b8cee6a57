"""Code of one's own by "module:Name", and what a search of hopeless trials exits with."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app

TINY = ("--particles", "4", "--generations", "1", "--set", "budget.steps=4")
MINE = """
from pso_attn.baselines import RandomSearch
from pso_attn.tasks import make_task


class Hopeless:
    "The digits, with a loss that is never a number."

    def __init__(self):
        self._digits = make_task("digits")

    def __getattr__(self, name):
        return getattr(self._digits, name)

    def loss(self, logits, targets):
        return self._digits.loss(logits, targets) * float("nan")


LAST = 1000  # of what a worn task is asked


class Worn(Hopeless):
    "The digits, with a loss that raises once it was asked too often."

    asked = 0

    def loss(self, logits, targets):
        self.asked += 1
        if self.asked > LAST:
            raise ValueError("worn out")
        return self._digits.loss(logits, targets)


class Talking:
    "The digits, with something to say of all that is asked of them."

    def __init__(self):
        self._digits = make_task("digits")

    def __getattr__(self, name):
        print("asked for", name)
        return getattr(self._digits, name)


class Nothing:
    pass


class Leaving:
    def __init__(self):
        raise SystemExit(0)


class Sampler(RandomSearch):
    def propose(self, space, history):
        print("asked for a proposal")
        return super().propose(space, history)
"""


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of one's own in the current folder."""
    name = f"mine_{re.sub('[^a-z]', '_', tmp_path.name)}"
    (tmp_path / f"{name}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_a_budget_spent_without_one_completed_trial_exits_with_3(mine: str) -> None:
    search = cli("search", "digits", *TINY, "--set", f"task={mine}:Hopeless", "--run", "h")
    assert search.exit_code == 3
    assert "no trial completed" in search.stdout
    assert "not a finite number" in search.stdout
    assert cli("best", "h").exit_code == 2
    assert cli("resume", "h").exit_code == 3


def test_a_sampler_of_ones_own_runs_from_the_current_folder(mine: str) -> None:
    search = cli("search", "digits", *TINY, "--sampler", f"{mine}:Sampler", "--run", "s")
    assert search.exit_code == 0, search.stderr
    assert load_run("s").configuration.sampler == f"{mine}:Sampler"
    assert cli("verify", "s", "--no-import").exit_code == 2
    assert cli("verify", "s").exit_code == 0


def test_what_own_code_prints_is_not_among_the_results(mine: str) -> None:
    own = ("--set", f"task={mine}:Talking")
    sampler = ("--sampler", f"{mine}:Sampler")
    commands = (
        ("search", "digits", *TINY, *own, *sampler, "--dry-run"),
        ("search", "digits", *TINY, *own, *sampler, "--run", "t"),
        ("resume", "t", "--generations", "2"),
        ("report", "t"),
        ("confirm", "t", "--seeds", "1"),
        ("train", "t", "--steps", "8"),
        ("export", "t", "--out", "model"),
        ("verify", "t"),
        ("compare", "digits", *TINY, *own, "--samplers", f"{mine}:Sampler,pso", "--seeds", "1"),
    )
    for command in commands:
        result = cli(*command, "--json")
        assert result.exit_code == 0, (command, result.stderr)
        assert json.loads(result.stdout)["schema"] == 1, command
        assert "asked for" in result.stderr, command


def test_a_task_that_raises_fails_its_particles_and_ends_a_training_with_the_best_so_far(
    mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = ("search", "digits", *TINY, "--set", f"task={mine}:Worn", "--run")
    assert cli(*search, "fine").exit_code == 0
    said = f"task digits raised ValueError: worn out ({mine}.py, line "
    monkeypatch.setattr(sys.modules[mine], "LAST", 0)
    hopeless = cli(*search, "none")
    assert hopeless.exit_code == 3, hopeless.stderr
    assert f"4 trials: {said}" in " ".join(hopeless.stdout.split())
    at_once = cli("train", "fine")
    assert (at_once.exit_code, f"error: {said}" in at_once.stderr) == (1, True)
    monkeypatch.setattr(sys.modules[mine], "LAST", 10)
    trained = json.loads(cli("train", "fine", "--json").stdout)
    assert trained["stopped"].startswith(said)
    assert trained["steps_done"] == 10
    assert trained["loss"] == min(trained["curve"].values())


def test_a_task_that_is_none_is_one_sentence(mine: str) -> None:
    search = cli("search", "digits", *TINY, "--set", f"task={mine}:Nothing")
    assert search.exit_code == 2
    assert 'has no "name"; see pso_attn.tasks.Task' in search.stderr
    search = cli("search", "digits", *TINY, "--set", f"task={mine}:Leaving")
    assert search.exit_code == 2
    assert f"{mine}:Leaving raised SystemExit: 0" in search.stderr


def test_the_dashboards_extra_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = ("search", "digits", *TINY, "--run", "d", "--runs-dir", tmp_path, "--timeout", "0")
    assert cli(*search).exit_code == 0
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    result = cli("dashboard", "d", "--runs-dir", tmp_path)
    assert result.exit_code == 2
    assert 'pip install "pso-attn[dashboard]"' in result.stderr


@pytest.mark.slow
def test_a_report_is_written_for_one_run_and_for_several(tmp_path: Path) -> None:
    for name in ("a", "b"):
        search = ("search", "digits", *TINY, "--run", name, "--runs-dir", tmp_path)
        assert cli(*search, "--set", "budget.rungs=[]", "--generations", "2").exit_code == 0
    one = cli("report", "a", "--runs-dir", tmp_path, "--quiet")
    assert one.exit_code == 0, one.stderr
    assert one.stdout.strip() == str((tmp_path / "a" / "report" / "index.html").resolve())
    written = ("--runs-dir", tmp_path, "--out", tmp_path / "out", "--json")
    both = cli("report", "a", "b", *written)
    assert both.exit_code == 0, both.stderr
    assert all((tmp_path / "out" / name / "index.html").is_file() for name in ("a", "b"))
    together = json.loads(both.stdout)["together"]
    assert [entry["run"] for entry in together["runs"]] == ["a", "b"]
    assert Path(together["index"]) == tmp_path / "out" / "index.html"
    assert (tmp_path / "out" / "best_loss.png").is_file()
