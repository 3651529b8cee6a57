"""Signals and kills around a search: before it trains, and before its study is made."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pso_attn import confirm, driving, load_run
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


def interrupted(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


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


def fails(*_: object, **__: object) -> Any:
    raise RuntimeError("it broke")


@pytest.mark.parametrize(
    ("ending", "code", "said"), [(interrupted, 130, "interrupted"), (fails, 1, "stopped")]
)
def test_a_resume_goes_on_where_its_flags_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: Any, code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stored = ("--storage", "sqlite:///runs.db")
    begun = CliRunner().invoke(app, ["search", "digits", "--run", "r", *TINY, *stored])
    assert begun.exit_code == 0, begun.stderr
    monkeypatch.setattr(driving.DrivenRun, "run", ending)
    url = f"sqlite:///{tmp_path}/runs.db#r"  # of a server it may hold a password
    for run in ("r", "runs/r", url):
        flags = ["--generations", "2", "--device", "cpu", "--executor", "processes"]
        flags += ["--workers", "1"]
        monkeypatch.setattr(sys, "argv", ["pso-attn", "resume", run, *flags])
        stopped = CliRunner().invoke(app, sys.argv[1:])
        assert stopped.exit_code == code
        again = " ".join(["pso-attn", "resume", "r" if run == url else run, *flags])
        assert f"{said}; go on with: {again}\n" in stopped.stderr


def test_a_confirmation_that_is_stopped_prints_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = CliRunner().invoke(app, ["search", "digits", "--run", "r", *TINY])
    assert begun.exit_code == 0, begun.stderr
    monkeypatch.setattr(confirm, "confirm_run", interrupted)
    monkeypatch.setattr(sys, "argv", ["pso-attn", "confirm", "r", "--seeds", "2"])
    stopped = CliRunner().invoke(app, sys.argv[1:])
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr == "interrupted; go on with: pso-attn confirm r --seeds 2\n"


def test_a_name_that_is_taken_is_said_before_anything_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search = ["search", "digits", "--run", "r", *TINY]
    assert CliRunner().invoke(app, [*search, "--timeout", "0"]).exit_code == 0
    monkeypatch.setattr(driving, "prepare", interrupted)
    refused = CliRunner().invoke(app, search)
    assert refused.exit_code == 2
    assert "run r exists already; continue it with `pso-attn resume r`" in refused.stderr


def test_deleting_is_stopped_at_its_question(tmp_path: Path) -> None:
    begun = program(tmp_path, "search", "digits", "--run", "r", *TINY, "--timeout", "0")
    assert begun.returncode == 0, begun.stderr
    keyboard, terminal = pty.openpty()
    asking = subprocess.Popen(
        [sys.executable, "-m", "pso_attn", "delete", "r"],
        cwd=tmp_path,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert asking.stderr is not None
    asked = b""
    while not asked.endswith(b"[y/N]:"):
        asked += asking.stderr.read(1)
        assert asking.poll() is None
    asking.send_signal(signal.SIGINT)
    out, said = asking.communicate()
    os.close(keyboard)
    os.close(terminal)
    assert (asking.returncode, out) == (130, b"")
    assert said.split() == [b"error:", b"interrupted"]
    assert (tmp_path / "runs" / "r").is_dir()


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
