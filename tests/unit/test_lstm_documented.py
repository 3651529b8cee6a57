"""What docs/data.md says of LSTMs on data of one's own works as it stands there."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pso_attn.cli.app import app
from pso_attn.seeding import generator

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
TINY = ("--particles", "3", "--generations", "1", "--set", "budget.steps=4", "--run", "tiny")


def block(language: str) -> str:
    section = DOCS.read_text(encoding="utf-8").partition("## By an LSTM\n")[2]
    return section.partition(f"```{language}\n")[2].partition("```")[0]


def completed(*arguments: str) -> int:
    done = CliRunner().invoke(app, [*arguments, *TINY])
    assert done.exit_code == 0, done.stderr
    shown = CliRunner().invoke(app, ["show", "tiny", "--json"])
    return str(json.loads(shown.stdout)).count("COMPLETE")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_built_in_space_takes_series_of_ones_own() -> None:
    values = generator(0, "waves").normal(size=(80, 9))
    frame = pd.DataFrame(values, columns=[f"t{step}" for step in range(9)])
    frame.assign(COLUMN=np.where(values[:, 0] > 0, "up", "down")).to_csv("FILE.csv", index=False)
    program, *arguments = shlex.split(block("").replace("\\\n", ""))
    assert program == "pso-attn"
    assert completed(*arguments)


def test_a_forecast_is_searched_by_encoder_and_decoder() -> None:
    hours = pd.date_range("2025-01-01", periods=200, freq="h")
    values = generator(0, "load").normal(size=(200, 2))
    pd.DataFrame({"hour": hours, "a": values[:, 0], "b": values[:, 1]}).to_csv(
        "load.csv", index=False
    )
    Path("space.toml").write_text(block("toml"))
    assert completed("search", "space.toml")
