"""What docs/own-code.md shows of studies and of pyswarms runs as it stands there."""

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import pso_attn
from pso_attn.swarm.pyswarms_bridge import VonNeumann

DOCS = Path(__file__).parents[2] / "docs" / "own-code.md"
SECTION = "## In an Optuna study, or inside pyswarms\n"


def blocks(language: str) -> list[str]:
    section = DOCS.read_text(encoding="utf-8").partition(SECTION)[2].partition("\n## ")[0]
    return [part.partition("```")[0] for part in section.split(f"```{language}\n")[1:]]


def ran(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, str(DOCS), "exec"), names)
    return names


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOG_CFG", raising=False)


def test_a_space_file_is_the_space_of_a_study() -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    [file], [code, _] = blocks("toml"), blocks("python")
    Path("heads.toml").write_text(file)
    names = ran(code)
    optuna.logging.set_verbosity(before)
    assert isinstance(names["space"], pso_attn.Space)
    trials = names["study"].trials
    assert (trials[1].params["heads"], trials[1].params["width"]) == (2, 16)
    assert len(trials) == 40
    assert all(trial.params["heads"] * trial.params["width"] <= 256 for trial in trials)
    assert names["study"].best_value < 1.0


def test_a_topology_runs_inside_an_optimiser_of_pyswarms(tmp_path: Path) -> None:
    _, code = blocks("python")
    before = np.random.get_state()  # noqa: NPY002  pyswarms draws from the global generator
    np.random.seed(1)  # noqa: NPY002
    names = ran(code)
    np.random.set_state(before)  # noqa: NPY002
    assert isinstance(names["swarm"].top, VonNeumann)
    assert names["cost"] < 1e-2
    assert list(tmp_path.iterdir()) == []
