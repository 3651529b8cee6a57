"""Finalists are confirmed where the search trained, or where flags say."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pso_attn.cli.app import app

SPACE = """
objective = "whereabouts:where"
[search]
x = { low = 0.0, high = 1.0 }
[budget]
particles = 2
generations = 1
"""
MODULE = """
import os

def where(settings, trial):
    return {"loss": settings["x"], "process": float(os.getpid())}
"""


def cli(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def processes(document: dict[str, Any]) -> set[float]:
    return {one for row in document["rows"] for one in row["test"]["process"]["per_seed"]}


@pytest.mark.slow
def test_confirming_keeps_to_the_processes_of_the_search_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    (tmp_path / "whereabouts.py").write_text(MODULE)
    runs = ("--runs-dir", tmp_path / "runs", "--json")
    apart = ("--executor", "processes", "--workers", "2")
    cli("search", tmp_path / "space.toml", "--run", "here", *runs)
    cli("search", tmp_path / "space.toml", "--run", "there", *apart, *runs)
    confirm = ("--top", "1", "--seeds", "2", *runs)
    here, there = cli("confirm", "here", *confirm), cli("confirm", "there", *confirm)
    assert processes(here) == {float(os.getpid())}
    assert float(os.getpid()) not in processes(there)
    assert cli("confirm", "there", "--executor", "local", *confirm)["rows"] != there["rows"]
    assert float(os.getpid()) not in processes(cli("confirm", "here", *apart, *confirm))
    assert [row["test"]["loss"] for row in here["rows"]] == [
        row["test"]["loss"] for row in there["rows"]
    ]
