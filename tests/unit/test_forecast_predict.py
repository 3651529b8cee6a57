"""From a search to the steps after the end of new series, from the command line."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from pso_attn.cli.app import app
from pso_attn.errors import DataError
from pso_attn.seeding import generator
from pso_attn.tasks import make_task
from pso_attn.tasks.series import read_new_series

SPACE = """
task = "series"
data = "old.csv"
target = "load"
time = "hour"
[columns]
series = "plant"
known = ["shift"]
[forecast]
horizon = 6
context = 24
[model]
{model}
batch_size = 16
[search]
lr = {{ low = 5e-3, high = 2e-2 }}
[budget]
steps = 60
"""
MODELS = {
    "transformer": "layers = 1\nd_model = 16",
    "lstm": 'family = "lstm"\nhidden = 12\nrecurrence = "batched"',
}
CONTEXT, HORIZON = 24, 6


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def plants(hours: int = 240) -> pd.DataFrame:
    """Return the load of two plants, which follows the hour and the shift that works."""
    rng, frames = generator(0, "plants"), []
    for plant, size in (("a", 10.0), ("b", 500.0)):
        shift = rng.choice(["early", "late"], hours)
        load = 3 + np.sin(np.arange(hours) * 2 * np.pi / 24) + (shift == "late")
        hour = pd.date_range("2025-03-01", periods=hours, freq="h").astype(str)
        told = {"hour": hour, "plant": plant, "load": size * load, "shift": shift}
        frames.append(pd.DataFrame(told | {"heat": rng.normal(size=hours).round(3)}))
    return pd.concat(frames, ignore_index=True)


def new_rows(hours: int = 240) -> pd.DataFrame:
    """Return the rows of `plants` without the last loads, which are to be forecast, mixed."""
    frame = plants(hours)
    ahead = frame.groupby("plant").cumcount() >= hours - HORIZON
    frame.loc[ahead, ["load", "heat"]] = np.nan
    return frame.sample(frac=1.0, random_state=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an export of each family, and what the task's own model said of the test."""
    folder = tmp_path_factory.mktemp("forecast")
    plants().to_csv(folder / "old.csv", index=False)
    for family, model in MODELS.items():
        space = folder / f"{family}.toml"
        space.write_text(SPACE.format(model=model))
        runs = ("--runs-dir", folder / "runs")
        said = cli(
            "search", space, "--particles", "3", "--generations", "1", "--run", family, *runs
        )
        assert said.exit_code == 0, said.stderr
        assert "frequency 1 hour, missing steps 0" in said.stderr
        assert (
            "windows: train (230), validation (86), test (86), origins (every step)" in said.stderr
        )
        said = cli("confirm", family, "--top", "1", "--seeds", "2", *runs, "--json")
        assert said.exit_code == 0, said.stderr
        baselines = json.loads(said.stdout)["baselines"]
        assert {*baselines} == {"seasonal naive (24 steps)", "last value", "ridge regression"}
        assert {*baselines["last value"]} == {"loss", "mae", "mase"}
        assert cli("export", family, "--out", folder / family, *runs).exit_code == 0
    return folder


@pytest.mark.parametrize("family", MODELS)
def test_the_horizon_after_each_series_is_what_the_search_would_say(
    family: str, folder: Path, tmp_path: Path
) -> None:
    new_rows().to_csv(tmp_path / "new.csv", index=False)
    said = cli("predict", folder / family, tmp_path / "new.csv", "--json")
    assert said.exit_code == 0, said.stderr
    document = json.loads(said.stdout)
    found = pd.DataFrame(document["predictions"])
    assert (document["rows"], document["target"], document["metrics"]) == (12, "load", None)
    assert sorted(found["plant"].unique()) == ["a", "b"]
    assert found["hour"].tolist() == [f"2025-03-10T{hour}:00:00" for hour in range(18, 24)] * 2
    # the export's own code, asked the last window of each series of the test split
    given = {"target": "load", "time": "hour", "columns": {"series": "plant", "known": ["shift"]}}
    forecast = {"horizon": HORIZON, "context": CONTEXT}
    task: Any = make_task("series", str(folder / "old.csv"), **given, forecast=forecast)
    rebuilt = runpy.run_path(str(folder / family / "load.py"))["load_model"]()
    with torch.no_grad():
        answers = rebuilt(task.test.inputs[[42, 85]]).squeeze(-1).numpy()
    for plant, answer in zip("ab", answers, strict=True):
        mean, deviation = task.learned["scales"][plant]
        own = found[found["plant"] == plant]["prediction"]
        np.testing.assert_allclose(own, answer * deviation + mean, rtol=1e-5)


@pytest.mark.parametrize("family", MODELS)
def test_an_export_stands_alone_and_repeats_its_loss(family: str, folder: Path) -> None:
    command = [sys.executable, str(folder / family / "load.py")]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert told["loss"] == pytest.approx(told["expected"], rel=1e-5)


def test_predictions_are_csv_with_series_and_time(folder: Path, tmp_path: Path) -> None:
    new_rows().to_csv(tmp_path / "new.csv", index=False)
    said = cli("predict", folder / "transformer", tmp_path / "new.csv")
    lines = said.stdout.splitlines()
    assert lines[0] == "plant,hour,prediction"
    assert len(lines) == 13


def test_what_comes_is_not_looked_at_and_what_is_known_ahead_is(
    folder: Path, tmp_path: Path
) -> None:
    learned = json.loads((folder / "lstm" / "preprocessing.json").read_text())["inputs"]

    def read(frame: pd.DataFrame) -> torch.Tensor:
        frame.to_csv(tmp_path / "new.csv", index=False)
        return read_new_series(learned, str(tmp_path / "new.csv")).inputs

    frame = new_rows().sort_index()
    whole = read(frame)
    later = frame.index[[235, 475]]
    assert torch.equal(read(frame.assign(heat=frame["heat"].fillna(9.0))), whole)
    other = frame.assign(shift=frame["shift"].where(~frame.index.isin(later), "early"))
    other.loc[later, "shift"] = np.where(frame.loc[later, "shift"] == "early", "late", "early")
    changed = (read(other) != whole).any(-1)
    assert changed.sum(1).tolist() == [1, 1]  # the second step of the six
    assert bool(changed[:, -5].all())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda f: f[f["load"].notna()],
            'series "a" has 0 rows after its last value, and 6 steps are forecast from shift, '
            "which must be known ahead; add rows with a time, with shift, and with an empty",
        ),
        (lambda f: f.drop(index=238), 'series "a" has 5 rows after its last value, and 6 steps'),
        (
            lambda f: f.assign(shift=f["shift"].where(f.index != 236)),
            'series "a" has no "shift" in row 237, after its last value; the model needs to know',
        ),
        (lambda f: f.drop(columns="shift"), 'no column "shift", which columns.known names'),
        (lambda f: f.drop(columns="heat"), 'no column "heat", which columns.past names'),
        (
            lambda f: f.drop(index=range(215)),
            'series "a" has 19 rows with a value, and the model '
            "looks at 24; give more of its past",
        ),
        (lambda f: f.drop(index=230), 'series "a" has a gap in its last 24 steps, or times that'),
        (
            lambda f: f.assign(load=f["load"].where(f.index != 100)),
            'target "load" of series "a" is missing in row 101',
        ),
        (
            lambda f: f.assign(hour=range(480)),
            'time "hour" holds numbers, and the model was train',
        ),
        (lambda f: f.assign(heat="hot"), 'column "heat" holds "hot" in row 1, and is read as num'),
    ],
)
def test_new_rows_that_cannot_be_forecast_from_are_refused(
    change: Any, told: str, folder: Path, tmp_path: Path
) -> None:
    change(new_rows().sort_index()).to_csv(tmp_path / "new.csv", index=False)
    said = cli("predict", folder / "transformer", tmp_path / "new.csv", "--out", tmp_path / "out")
    assert said.exit_code == 2
    assert told in said.stderr
    assert said.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_series_that_training_had_not_is_scaled_by_its_own_rows_and_this_is_said(
    folder: Path, tmp_path: Path
) -> None:
    frame = new_rows()
    known, path = frame[frame["plant"] == "b"], tmp_path / "new.csv"
    renamed = known.assign(plant="c", load=known["load"] * 1000)
    pd.concat([known, renamed]).to_csv(path, index=False)
    said = cli("predict", folder / "transformer", path, "--json")
    assert "series that training had not are scaled by their own rows: c" in said.stderr
    found = pd.DataFrame(json.loads(said.stdout)["predictions"])
    by_series = found.groupby("plant")["prediction"].mean()
    assert by_series["c"] / by_series["b"] == pytest.approx(1000, rel=0.1)


def test_the_name_of_a_series_may_be_known_and_needs_no_rows_to_come(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    plants().to_csv(path, index=False)
    given = {"columns": {"series": "plant", "known": ["plant"], "past": []}}
    forecast = {"horizon": HORIZON, "context": CONTEXT, "calendar": False}
    task: Any = make_task(
        "series", str(path), target="load", time="hour", forecast=forecast, **given
    )
    assert task.describe()["covariates"] == {"plant": "known ahead, 2 labels"}
    inputs = read_new_series(task.preprocessing(), str(path)).inputs
    for row, label in enumerate([[1.0, 0.0], [0.0, 1.0]]):
        assert bool((inputs[row, :, 1:3] == torch.tensor(label)).all())


def test_a_wide_table_without_covariates_needs_no_rows_to_come(tmp_path: Path) -> None:
    frame = plants().pivot(index="hour", columns="plant", values="load").reset_index()
    frame.to_csv(tmp_path / "old.csv", index=False)
    space = SPACE.format(model=MODELS["lstm"]).replace('target = "load"\n', "")
    space = space.replace('series = "plant"\nknown = ["shift"]\n', "")
    (tmp_path / "wide.toml").write_text(space.replace("steps = 60", "steps = 4"))
    runs = ("--runs-dir", tmp_path / "runs")
    tiny = ("--particles", "2", "--generations", "1")
    said = cli("search", tmp_path / "wide.toml", *tiny, "--run", "wide", *runs)
    assert said.exit_code == 0, said.stderr
    assert cli("export", "wide", "--out", tmp_path / "wide", *runs).exit_code == 0
    shutil.rmtree(tmp_path / "runs")
    found = json.loads(cli("predict", tmp_path / "wide", tmp_path / "old.csv", "--json").stdout)
    times = [row["hour"] for row in found["predictions"] if row["series"] == "b"]
    assert times[0] == "2025-03-11T00:00:00"
    assert len(times) == HORIZON


def test_new_rows_name_a_zone_where_the_training_rows_did(tmp_path: Path) -> None:
    frame = plants()
    frame["hour"] = pd.to_datetime(frame["hour"]).dt.tz_localize("UTC").astype(str)
    frame.to_csv(tmp_path / "old.csv", index=False)
    learned = make_task(
        "series",
        str(tmp_path / "old.csv"),
        target="load",
        time="hour",
        columns={"series": "plant"},
        forecast={"horizon": HORIZON},
    ).preprocessing()
    new_rows().to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError, match="has no zone, and the model was trained on times with a"):
        read_new_series(learned, str(tmp_path / "new.csv"))
