"""Signals and kills around a search: before it trains, and before its study is made."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pso_attn import driving, load_run
from pso_attn.cli import guard
from pso_attn.cli.app import app

TINY = ("--particles", "4", "--generations", "1", "--set", "budget.steps=2")
SAMPLER = "from pso_attn.baselines import RandomSearch as Mine\n"
SUICIDE = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)\n"


def program(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pso_attn", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # the module is rewritten at once
    )


def test_a_resume_that_is_stopped_before_it_trains_prints_itself(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SAMPLER)
    begun = program(tmp_path, "search", "digits", "--run", "r", "--sampler", "own:Mine", *TINY)
    assert begun.returncode == 0, begun.stderr
    (tmp_path / "own.py").write_text(SUICIDE + SAMPLER)
    stopped = program(tmp_path, "resume", "r", "--generations", "2")
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert stopped.stderr == "interrupted; go on with: pso-attn resume r --generations 2\n"


def test_a_search_that_is_stopped_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SUICIDE + SAMPLER)
    stopped = program(tmp_path, "search", "digits", "--sampler", "own:Mine", *TINY)
    assert (stopped.returncode, stopped.stdout) == (130, "")
    assert stopped.stderr == "error: interrupted\n"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("storage", [(), ("--storage", "sqlite:///runs.db")])
def test_a_run_that_is_stopped_before_its_study_is_made_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: tuple[str, ...]
) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(driving.OptunaStore, "create", interrupted)
        stopped = CliRunner().invoke(app, ["search", "digits", "--run", "r", *TINY, *storage])
    assert stopped.exit_code == 130
    assert stopped.stderr == "interrupted; go on with: pso-attn resume r\n"
    resumed = CliRunner().invoke(app, ["resume", "r", "-q"])
    assert resumed.exit_code == 0, resumed.stderr
    assert len(load_run("r").history) == 1


def test_a_run_with_an_empty_journal_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = CliRunner().invoke(app, ["search", "digits", "--run", "r", *TINY, "--timeout", "0"])
    assert begun.exit_code == 0, begun.stderr
    (tmp_path / "runs" / "r" / "journal.log").write_text("")
    shown = CliRunner().invoke(app, ["show", "r"])
    assert shown.exit_code == 2
    assert "start it with `pso-attn resume r`" in shown.stderr
    assert CliRunner().invoke(app, ["resume", "r", "-q"]).exit_code == 0
    assert len(load_run("r").history) == 1


def test_an_interrupt_that_an_import_turns_into_an_error_still_counts() -> None:
    @guard.guarded
    def command() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:  # as an extension module does while it loads
            raise ImportError("initialization failed") from error

    small = typer.Typer(pretty_exceptions_enable=False)
    small.command()(command)
    result = CliRunner().invoke(small, [])
    assert (result.exit_code, result.stderr) == (130, "error: interrupted\n")
