"""Ctrl-C while code of one's own loads an extension module, which makes an ImportError of it."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.types import State

MINE = """
from torch import nn

from pso_attn.tasks import make_task

STEPS = None  # that a module trains before it is interrupted


def interrupted(*_):
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        raise ImportError("initialization failed") from error


def loss(settings, trial):
    return settings["x"]


class Net(nn.Sequential):
    steps = 0

    def forward(self, x):
        self.steps += self.training
        if STEPS is not None and self.steps > STEPS:
            interrupted()
        return super().forward(x)


def net(settings, info):
    return Net(nn.Flatten(), nn.Linear(64, settings["width"]), nn.Linear(settings["width"], 10))


class Digits:
    def __init__(self):
        self._digits = make_task("digits")

    def __getattr__(self, name):
        return getattr(self._digits, name)

    def baselines(self):
        return interrupted()
"""
OBJECTIVE = """
objective = "MODULE:loss"
[search]
x = { low = 0.0, high = 1.0 }
[budget]
particles = 2
generations = 2
steps = 4
"""
NET = """
task = "digits"
[model]
family = "MODULE:net"
[search]
width = [8, 16]
[budget]
particles = 2
generations = 2
steps = 8
"""
TASK = NET.replace("digits", "MODULE:Digits").replace('family = "MODULE:net"', "layers = 1")
TASK = TASK.replace("width = [8, 16]", "heads = [1, 2]")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of one's own and space files, in the current folder."""
    name = f"mine_{re.sub('[^a-z0-9]', '_', tmp_path.name)}"
    (tmp_path / f"{name}.py").write_text(MINE)
    for file, text in (("objective", OBJECTIVE), ("net", NET), ("task", TASK)):
        (tmp_path / f"{file}.toml").write_text(text.replace("MODULE", name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


def cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["pso-attn", *arguments])
    return CliRunner().invoke(app, list(arguments))


def interrupt(monkeypatch: pytest.MonkeyPatch, mine: str, space: str) -> None:
    """Let the code that a space names be interrupted from now on."""
    module = sys.modules[mine]
    if space == "objective.toml":
        monkeypatch.setattr(module, "loss", module.interrupted)
    else:
        monkeypatch.setattr(module, "STEPS", 5)


@pytest.mark.parametrize("space", ["objective.toml", "net.toml"])
def test_a_search_is_interrupted_and_no_trial_has_failed(
    mine: str, monkeypatch: pytest.MonkeyPatch, space: str
) -> None:
    begun = cli(monkeypatch, "search", space, "--run", "r", "--generations", "1")
    assert begun.exit_code == 0, begun.stderr
    interrupt(monkeypatch, mine, space)
    stopped = cli(monkeypatch, "resume", "r", "--generations", "2", "-q")
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr == "interrupted; go on with: pso-attn resume r --generations 2 -q\n"
    run = load_run("r")
    assert State.FAIL not in {trial.outcome.state for trial in run.history.trials}
    assert run.unfinished is not None
    assert not run.unfinished.outcomes


@pytest.mark.parametrize(
    ("space", "command"),
    [
        ("objective.toml", "confirm"),
        ("net.toml", "confirm"),
        ("task.toml", "confirm"),
        ("objective.toml", "train"),
        ("net.toml", "train"),
    ],
)
def test_what_is_interrupted_after_a_search_leaves_no_result(
    mine: str, monkeypatch: pytest.MonkeyPatch, space: str, command: str
) -> None:
    begun = cli(monkeypatch, "search", space, "--run", "r")
    assert begun.exit_code == 0, begun.stderr
    interrupt(monkeypatch, mine, space)
    stopped = cli(monkeypatch, command, "r", "-q")
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr == f"interrupted; go on with: pso-attn {command} r -q\n"
    assert not Path("runs/r/confirm.json").exists()
    assert not Path("runs/r/checkpoints/trained.safetensors").exists()


def test_a_search_is_interrupted_while_its_code_loads(
    mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(f"{mine}.py").write_text(f"{MINE}\n\ninterrupted()\n")
    stopped = cli(monkeypatch, "search", "objective.toml")
    assert (stopped.exit_code, stopped.stderr) == (130, "error: interrupted\n")
    assert not Path("runs").exists()
