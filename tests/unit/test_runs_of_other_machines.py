"""What trains nothing needs no GPU, though the chunks of the run trained on one elsewhere."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from pso_attn.cli.app import app

TINY = ("--particles", "3", "--generations", "1", "--set", "budget.steps=3")


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `far` that stands there as one of a Ray cluster's GPUs."""
    folder = tmp_path_factory.mktemp("far")
    # with a precision that no CPU has, which the proposals of this machine lack
    searched = ("--set", 'search.precision=["float32", "bf16"]')
    result = cli("search", "digits", *TINY, *searched, "--run", "far", "--runs-dir", folder)
    assert result.exit_code == 0, result.stderr
    file = folder / "far" / "config.toml"
    text = file.read_text()
    for here, there in (
        ('device = "cpu"', 'device = "cuda"'),
        ('executor = "local"', 'executor = "ray"'),
        ('    "bf16",\n', '    "bf16",\n    "tf32",\n'),
    ):
        assert here in text
        text = text.replace(here, there)
    file.write_text(text)
    return folder


@pytest.mark.parametrize("command", ["show", "best", "report", "export"])
def test_a_run_of_gpus_elsewhere_is_looked_at_without_one(
    runs: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = ("--out", runs / "out") if command == "export" else ()
    result = cli(command, "far", *out, "--runs-dir", runs)
    assert result.exit_code == 0, result.stderr


def test_its_proposals_are_replayed_without_one(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = cli("verify", "far", "--runs-dir", runs)
    assert result.stdout.startswith(("matches: ", "differs: ")), result.stderr


def test_a_cpu_does_for_what_needs_no_precision_that_it_lacks(runs: Path, tmp_path: Path) -> None:
    here = ("--device", "cpu", "--runs-dir", runs)
    trained = cli("train", "far", "--steps", "3", *here)
    assert trained.exit_code == 0, trained.stderr
    replayed = cli("verify", "far", *here)
    assert replayed.stdout.startswith(("matches: ", "differs: ")), replayed.stderr
    (tmp_path / "given.toml").write_text('precision = "tf32"')
    refused = cli("train", "far", "--settings", tmp_path / "given.toml", *here)
    assert refused.exit_code == 2
    assert 'precision "tf32" was asked for on cpu' in refused.stderr
    resumed = cli("resume", "far", "--executor", "local", *here)
    assert resumed.exit_code == 2
    assert 'precision "tf32" was asked for on cpu' in resumed.stderr


def test_training_for_it_here_says_that_there_is_no_gpu(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in (("train", "far"), ("confirm", "far", "--executor", "local")):
        result = cli(*command, "--runs-dir", runs)
        assert result.exit_code == 2
        assert "PyTorch sees no CUDA device here; use --device cpu" in result.stderr
