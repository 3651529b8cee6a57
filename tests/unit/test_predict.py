"""An exported model on new rows, from the command line; nothing is written for what is wrong."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pso_attn.checkpoints import load_checkpoint
from pso_attn.cli.app import app
from pso_attn.seeding import generator

TINY = ("--particles", "3", "--generations", "1", "--set", "budget.steps=60")
NARROW = (
    "[model]\nlayers = 1\nd_model = 16\nbatch_size = 16\n[search]\nlr = {low=5e-3, high=2e-2}\n"
)


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows(count: int, name: str) -> pd.DataFrame:
    """Return rows whose kind follows from size and colour, and whose price from size."""
    rng = generator(0, name)
    size = rng.normal(5.0, 2.0, count).round(3)
    colour = rng.choice(["red", "green"], count)
    kind = np.where((size > 5) ^ (colour == "red"), "yes", "no")
    price = 10 * size + rng.normal(0, 1, count)
    return pd.DataFrame({"size": size, "colour": colour, "kind": kind, "price": price.round(2)})


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the exports `kind` and `price`, and nothing else of their runs."""
    folder = tmp_path_factory.mktemp("predict")
    rows(300, "old").to_csv(folder / "old.csv", index=False)
    for target, other in (("kind", "price"), ("price", "kind")):
        space = folder / f"{target}.toml"
        space.write_text(
            f'task = "table"\ndata = "old.csv"\ntarget = "{target}"\n'
            f'[columns]\ndrop = ["{other}"]\n{NARROW}'
        )
        runs = ("--runs-dir", folder / "runs")
        said = cli("search", space, *TINY, "--run", target, *runs)
        assert said.exit_code == 0, said.stderr
        assert "rows 300, train 180, validation 60, test 60" in said.stderr
        said = cli("train", target, "--steps", "300", *runs)
        assert said.exit_code == 0, said.stderr
        assert cli("export", target, "--out", folder / "exports" / target, *runs).exit_code == 0
    shutil.rmtree(folder / "runs")
    (folder / "old.csv").unlink()
    return folder / "exports"


def test_classes_of_new_rows_are_predicted_with_probabilities(
    exports: Path, tmp_path: Path
) -> None:
    new = rows(80, "new")
    path = tmp_path / "new.csv"
    new.drop(columns=["kind", "price"])[["colour", "size"]].to_csv(path, index=False)
    result = cli("predict", exports / "kind", path)
    assert result.exit_code == 0, result.stderr
    said = list(csv.DictReader(result.stdout.splitlines()))
    assert list(said[0]) == ["prediction", "p(no)", "p(yes)"]
    right = [row["prediction"] == kind for row, kind in zip(said, new["kind"], strict=True)]
    assert np.mean(right) > 0.9
    for row in said:
        assert float(row["p(no)"]) + float(row["p(yes)"]) == pytest.approx(1, abs=2e-6)
        assert (float(row["p(yes)"]) > 0.5) == (row["prediction"] == "yes")


def test_numbers_come_in_the_columns_units_and_are_scored_where_the_answers_are_there(
    exports: Path, tmp_path: Path
) -> None:
    new = rows(80, "new")
    path = tmp_path / "new.csv"
    new.to_csv(path, index=False)
    said = json.loads(cli("predict", exports / "price", path, "--json").stdout)
    assert (said["schema"], said["task"], said["target"], said["rows"]) == (
        1,
        "table",
        "price",
        80,
    )
    answers = np.array([row["prediction"] for row in said["predictions"]])
    apart = answers - new["price"].to_numpy()
    assert said["metrics"]["rmse"] == pytest.approx(np.sqrt((apart**2).mean()), rel=1e-4)
    assert said["metrics"]["r2"] > 0.9
    quiet = cli("predict", exports / "price", path, "--quiet")
    assert [float(line) for line in quiet.stdout.split()] == pytest.approx(answers.tolist())


def test_labels_and_gaps_that_training_never_met_are_predicted_all_the_same(
    exports: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("size,colour,kind\n,red,yes\n4.0,violet,no\n4.0,,maybe\n")
    result = cli("predict", exports / "kind", path, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["metrics"] is None  # "maybe" is no class of the model's
    assert all(0 < row["probabilities"]["yes"] < 1 for row in said["predictions"])


def test_predictions_are_written_whole_to_a_new_file_alone(exports: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "new.csv", tmp_path / "out.csv"
    rows(5, "new").to_csv(path, index=False)
    assert cli("predict", exports / "kind", path, "--out", out).exit_code == 0
    assert len(out.read_text().splitlines()) == 6
    again = cli("predict", exports / "kind", path, "--out", out)
    assert again.exit_code == 2
    assert "exists; choose a new name" in again.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("size,color\n1,red\n", 'no column "colour", which the model was trained on; did you'),
        ("size,colour\n1,red\ntwo,red\n", 'column "size" holds "two" in row 2'),
        ("size,colour\n1,red,3\n", "line 2: 3 fields"),
        ("", "is empty"),
    ],
)
def test_rows_that_are_not_as_the_models_own_are_one_sentence(
    text: str, sentence: str, exports: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.csv"
    path.write_text(text)
    result = cli("predict", exports / "kind", path, "--out", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out.csv").exists()


def test_a_folder_that_is_no_export_of_a_file_task_is_one_sentence(
    exports: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.csv"
    rows(5, "new").to_csv(path, index=False)
    none = cli("predict", tmp_path, path)
    assert none.exit_code == 2
    assert "has no preprocessing.json; give the folder that `pso-attn export` wrote" in none.stderr
    long = Path("a" * 300)
    for folder, said in (
        (tmp_path / "none", "does not exist"),
        (long, "does not exist"),
        (path, "is a file"),
    ):
        assert f"{folder} {said}; give the folder" in cli("predict", folder, path).stderr
    shutil.copytree(exports / "kind", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    cut = cli("predict", tmp_path / "cut", path)
    assert cut.exit_code == 2
    assert "cannot be rebuilt" in cut.stderr
    described = tmp_path / "cut" / "preprocessing.json"
    described.write_text(described.read_text().replace('"table"', '"digits"'))
    other = cli("predict", tmp_path / "cut", path)
    assert other.exit_code == 2
    assert 'is of task "digits"; predict reads new rows for' in other.stderr


@pytest.mark.parametrize("lacking", ["inputs", "inputs.target", "inputs.columns", "all of inputs"])
def test_an_export_that_somebody_edited_is_one_sentence(
    exports: Path, tmp_path: Path, lacking: str
) -> None:
    path, edited = tmp_path / "new.csv", tmp_path / "edited"
    rows(5, "new").to_csv(path, index=False)
    shutil.copytree(exports / "kind", edited)
    described = json.loads((edited / "preprocessing.json").read_text())
    if lacking == "all of inputs":
        described["inputs"] = None
    elif lacking == "inputs":
        del described["inputs"]
    else:
        del described["inputs"][lacking.removeprefix("inputs.")]
    (edited / "preprocessing.json").write_text(json.dumps(described))
    result = cli("predict", edited, path)
    assert result.exit_code == 2
    assert "preprocessing.json is not as `pso-attn export` writes it; export" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_that_nobody_may_look_into_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may, so that the refusal is made up."""
    look = os.stat

    def refused(path: Any, **more: Any) -> os.stat_result:
        if str(path).startswith(f"{tmp_path}{os.sep}"):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path, **more)

    monkeypatch.setattr(os, "stat", refused)
    result = cli("predict", tmp_path, "new.csv")
    assert result.exit_code == 2
    assert "has no preprocessing.json; give the folder" in result.stderr
    assert load_checkpoint(tmp_path / "best.safetensors") is None


def test_a_dry_run_says_what_it_found_before_it_trains() -> None:
    few = ("--particles", "2", "--set", "budget.steps=5", "--set", "data=sklearn:wine")
    result = cli("search", "table", "--dry-run", "--json", *few)
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)["data"]
    assert (data["rows"], data["train"], data["validation"], data["test"]) == (178, 107, 35, 36)
    assert data["classes"] == {"class_0": 59, "class_1": 71, "class_2": 48}
    assert data["columns"]["alcohol"] == "number"
    assert "classes: class_0 (59), class_1 (71), class_2 (48)" in result.stderr


def test_a_search_on_bad_data_exits_with_two_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("a,b\n1,x\n2\n")
    for flag in ((), ("--dry-run",)):
        result = cli(
            *("search", "table", "--set", f"data={path}", "--set", "target=b", *flag),
            *("--runs-dir", tmp_path / "runs"),
        )
        assert result.exit_code == 2
        assert "line 3: 1 fields, and the header has 2" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["bad.csv"]


def test_an_lstm_predicts_new_series_as_a_transformer_does(tmp_path: Path) -> None:
    rng = generator(0, "series")
    kinds = rng.integers(2, size=120)
    values = rng.normal(size=(120, 1, 9)) + 3.0 * kinds[:, None, None]
    np.savez(tmp_path / "old.npz", x=values, y=kinds)
    space = tmp_path / "space.toml"
    space.write_text(
        'task = "series"\ndata = "old.npz"\n[model]\nfamily = "lstm"\nhidden = 4\n'
        "[search]\nlr = {low=5e-3, high=2e-2}\n"
    )
    runs = ("--runs-dir", tmp_path / "runs")
    assert cli("search", space, *TINY, "--run", "series", *runs).exit_code == 0
    assert cli("export", "series", "--out", tmp_path / "model", *runs).exit_code == 0
    said = cli("predict", tmp_path / "model", tmp_path / "old.npz", "--json")
    assert said.exit_code == 0, said.stderr
    found = json.loads(said.stdout)
    answers = [
        int(row["prediction"]) == kind
        for row, kind in zip(found["predictions"], kinds, strict=True)
    ]
    assert np.mean(answers) > 0.9
    assert found["metrics"]["accuracy"] == pytest.approx(np.mean(answers))
