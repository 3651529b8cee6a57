"""A table's columns become tokens by what the training rows say, and splits keep what they say."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, r2_score

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.seeding import generator
from pso_attn.tasks import make_task
from pso_attn.tasks.columns import as_labels, columns_from, places_of
from pso_attn.tasks.table import read_new_table
from pso_attn.tasks.targets import ClassTarget, NumberTarget
from pso_attn.tasks.task import Task

MORE = "3,x\n4,y\n" * 5


def frame(rows: int = 60) -> pd.DataFrame:
    rng = generator(0, "frame")
    return pd.DataFrame(
        {
            "size": rng.normal(5.0, 2.0, rows).round(3),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "place": [f"p{row // 5}" for row in range(rows)],
            "kind": np.where(rng.random(rows) < 0.4, "yes", "no"),
            "price": rng.normal(100.0, 9.0, rows).round(2),
            "fold": np.where(np.arange(rows) % 5 < 3, "train", "validation"),
        }
    )


def made(folder: Path, data: pd.DataFrame, **options: Any) -> Task:
    path = folder / "data.csv"
    data.to_csv(path, index=False)
    return make_task("table", str(path), **options)


def test_numbers_are_standardised_and_labels_known_by_the_training_rows_alone(
    tmp_path: Path,
) -> None:
    data = frame()
    data["fold"] = np.repeat(["train", "validation", "test"], [30, 15, 15])
    data.loc[40, "size"] = 1e6
    data.loc[41, "colour"] = "violet"
    task = made(
        tmp_path, data, target="kind", split={"column": "fold"}, columns={"drop": ["place"]}
    )
    columns = {column.name: column for column in columns_from(task.preprocessing()["columns"])}
    assert list(columns) == ["size", "colour", "price"]
    assert columns["size"].mean == pytest.approx(data["size"][:30].mean())
    assert columns["size"].deviation == pytest.approx(data["size"][:30].std(ddof=0))
    assert columns["colour"].labels == ("blue", "green", "red")
    assert float(task.train.inputs[:, 0, 1].mean()) == pytest.approx(0, abs=1e-6)
    assert task.validation.inputs[11, 1, 1] == 0  # a label that training never met
    assert (len(task.train), len(task.validation), len(task.test)) == (30, 15, 15)


def test_a_missing_value_has_a_row_of_its_own_where_training_lacks_some_too(
    tmp_path: Path,
) -> None:
    data = frame()
    data["fold"] = np.repeat(["train", "validation", "test"], [30, 15, 15])
    data.loc[[0, 35], "size"] = np.nan
    data.loc[[1, 36], "colour"] = None
    data.loc[37, "price"] = np.nan
    task = made(
        tmp_path, data, target="kind", split={"column": "fold"}, columns={"drop": ["place"]}
    )
    size, colour, price = columns_from(task.preprocessing()["columns"])
    assert (size.rows, colour.rows, price.rows) == (2, 4, 1)
    assert task.info.tokens == 7
    for split, row in ((task.train, 0), (task.validation, 5)):
        assert split.inputs[row, 0].tolist() == [size.first + 1, 1]
        assert split.inputs[row + 1, 1].tolist() == [colour.first + 3, 1]
    assert task.validation.inputs[7, 2].tolist() == [price.first, 0]  # as the mean


def test_no_group_is_in_two_splits(tmp_path: Path) -> None:
    data = frame(200).assign(number=lambda f: np.arange(len(f)) // 5)  # of the group in `place`
    task = made(tmp_path, data, target="kind", group="place")
    assert "place" not in task.describe()["columns"]
    columns = columns_from(task.preprocessing()["columns"])
    at, number = next((i, c) for i, c in enumerate(columns) if c.name == "number")
    groups = []
    for split in (task.train, task.validation, task.test):
        numbers = split.inputs[:, at, 1].double() * number.deviation + number.mean
        groups.append(set(numbers.round().int().tolist()))
    assert [len(found) for found in groups] == [24, 8, 8]
    assert len(set.union(*groups)) == 40


def test_every_class_has_its_share_of_each_split(tmp_path: Path) -> None:
    task = made(tmp_path, frame(200), target="kind", split={"validation": 0.25, "test": 0.25})
    shares = [float(s.targets.double().mean()) for s in (task.train, task.validation, task.test)]
    assert max(shares) - min(shares) < 0.02
    assert len(task.test) == 50


def test_the_order_of_other_columns_and_the_process_change_no_split(tmp_path: Path) -> None:
    first = made(tmp_path, frame(), target="price", columns={"drop": ["place", "fold"]})
    again = made(tmp_path, frame(), target="price", columns={"drop": ["place", "fold"]})
    assert torch.equal(first.test.targets, again.test.targets)
    assert first.fingerprint == again.fingerprint
    other = made(tmp_path, frame().replace("red", "crimson"), target="price")
    assert other.fingerprint != first.fingerprint


def test_whole_numbers_of_few_values_are_classes_unless_columns_says_numbers(
    tmp_path: Path,
) -> None:
    data = frame().assign(stars=lambda f: np.arange(len(f)) % 12)
    classes = made(tmp_path, data, target="stars")
    assert isinstance(classes.target, ClassTarget)  # type: ignore[attr-defined]  # a TableTask
    assert classes.target.classes == tuple(map(str, range(12)))  # type: ignore[attr-defined]
    numbers = made(tmp_path, data, target="stars", columns={"numeric": ["stars"]})
    assert isinstance(numbers.target, NumberTarget)  # type: ignore[attr-defined]
    assert numbers.info.outputs == 1


def test_what_says_nothing_is_left_out_with_the_reason(tmp_path: Path) -> None:
    data = frame().assign(name=lambda f: [f"n{row}" for row in range(len(f))], one=3, none=np.nan)
    described = made(tmp_path, data, target="kind", columns={"drop": ["fold"]}).describe()
    assert list(described["columns"]) == ["size", "colour", "place", "price"]
    assert described["columns"]["colour"] == "3 labels"
    assert (
        described["classes"] == {"no": 31, "yes": 29} or sum(described["classes"].values()) == 60
    )
    left_out = described["left_out"]
    assert set(left_out) == {"fold", "name", "one", "none"}
    assert "36 different texts" in left_out["name"]
    assert left_out["one"] == "one number in all training rows"
    assert left_out["none"] == "missing in all training rows"


def test_metrics_agree_with_scikit_learns(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    classes = ClassTarget("kind", ("a", "b", "c", "never"))
    logits = torch.randn(2, 50, 4, generator=rng) - torch.tensor([0, 0, 0, 99.0])
    targets = torch.randint(3, (1, 50), generator=rng)
    for row, value in enumerate(classes.score(logits, targets)["macro_f1"].tolist()):
        expected = f1_score(targets[0], logits[row].argmax(-1), average="macro")
        assert value == pytest.approx(expected)
    number = NumberTarget("price", mean=10.0, deviation=4.0)
    answers, wanted = torch.randn(2, 50, 1, generator=rng), torch.randn(1, 50, generator=rng)
    scores = number.score(answers, wanted)
    apart = answers[1, :, 0] - wanted[0]
    assert float(scores["r2"][1]) == pytest.approx(r2_score(wanted[0], answers[1, :, 0]), abs=1e-5)
    assert float(scores["mae"][1]) == pytest.approx(4 * float(apart.abs().mean()))
    assert float(scores["rmse"][1]) == pytest.approx(4 * float(apart.square().mean().sqrt()))


def test_other_separators_and_parquet_give_the_same_task(tmp_path: Path) -> None:
    expected = made(tmp_path, frame(), target="kind").fingerprint
    frame().to_csv(tmp_path / "semicolons.csv", sep=";", index=False)
    assert make_task("table", str(tmp_path / "semicolons.csv"), target="kind").fingerprint == (
        expected
    )
    path = tmp_path / "data.parquet"
    try:
        frame().to_parquet(path)
    except ImportError:  # then the sentence says what to install
        path.write_bytes(b"PAR1")
        with pytest.raises(DataError, match=r'pip install "pso-attn\[parquet\]"'):
            make_task("table", str(path), target="kind")
    else:
        assert make_task("table", str(path), target="kind").fingerprint == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"target": "prise"}, 'no column "prise", which target names; did you mean "price"?'),
        ({"target": "kind", "group": "plaice"}, 'no column "plaice", which group names; did you'),
        (
            {"target": "kind", "split": {"column": "folds"}},
            'no column "folds", which split.column',
        ),
        ({"target": "kind", "split": {"column": "kind"}}, 'holds "yes" in row|holds "no" in row'),
        ({"target": "kind", "split": {"column": "fold"}}, "no row is left for test"),
        (
            {"target": "kind", "split": {"tset": 0.1}},
            'split.tset is not a key; did you mean "test"',
        ),
        ({"target": "kind", "split": {"test": 20}}, "split.test is 20; expected a share"),
        ({"target": "kind", "split": {"test": 0.9}}, "leave nothing to train on"),
        ({"target": "kind", "columns": {"drop": ["sise"]}}, 'no column; did you mean "size"'),
        ({"target": "kind", "columns": {"dropped": []}}, 'not a key; did you mean "drop"'),
        ({"target": "kind", "columns": {"drop": "size"}}, "expected a list of columns' names"),
        ({"target": "kind", "columns": {"numeric": ["colour"]}}, 'column "colour" holds'),
        ({}, "set target ="),
    ],
)
def test_a_key_that_does_not_fit_the_data_is_one_sentence(
    options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, DataError), match=sentence.replace("?", r"\?")):
        made(tmp_path, frame(), **options)


def test_a_group_that_the_split_column_tears_apart_is_named(tmp_path: Path) -> None:
    data = frame()
    data["fold"] = ["train", "validation", "test"] * 20
    with pytest.raises(DataError, match='group "p0" stands in train and in validation'):
        made(tmp_path, data, target="kind", group="place", split={"column": "fold"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty; put your data into it"),
        ("a,b\n", "has a header and no rows"),
        ("a,b\n1,x\n2\n", "line 3: 1 fields, and the header has 2; mend that row"),
        ("a,b\n1,x\n2,y,z\n", "line 3: 3 fields, and the header has 2"),
        ("a,a,b\n1,2,x\n", '2 columns named "a"'),
        ("a,b\n1,x\n2,x\n3,x\n4,x\n5,x\n6,x\n", 'target "b" is "x" in every training row'),
        ("a,b\n1,x\n2,\n3,y\n", 'target "b" is missing in row 2; take those rows out'),
        (
            f"a,b\n1,x\n2,y\nten,x\n{MORE}",
            'column "a" holds "ten" in row 3, and is read as numbers',
        ),
        (f"a,b\n1,x\ninf,y\n{MORE}", 'column "a" holds inf in row 2'),
        ("a,b\n1,7.5\n2,7.5\n3,7.5\n4,7.5\n5,7.5\n", 'target "b" is 7.5 in every training row'),
        (
            "a,b\n" + "".join(f"1,row {n}\n" for n in range(30)),
            'target "b" differs in every row, and a class is learned from several; name another',
        ),
        (
            "b\nx\ny\nx\ny\nx\ny\nx\ny\n",
            "has no column to predict the target from; give it columns beside",
        ),
    ],
)
def test_a_file_that_cannot_work_is_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError) as raised:
        make_task("table", str(path), target="b")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_text_or_too_large_is_refused_with_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)  # takes no room on the disk
    with pytest.raises(DataError, match=r"has 2\.00 GB, and at most 1 GB are read"):
        make_task("table", str(path), target="b")
    path.write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(DataError, match="is not UTF-8 at byte 6"):
        make_task("table", str(path), target="b")
    with pytest.raises(DataError, match="is a directory"):
        make_task("table", str(tmp_path), target="b")
    with pytest.raises(DataError, match="does not exist"):
        make_task("table", str(tmp_path / "none.csv"), target="b")
    with pytest.raises(DataError, match='no table "wins"; did you mean "wine"'):
        make_task("table", "sklearn:wins")


@pytest.mark.parametrize("task", ["table", "series"])
def test_a_packed_file_is_refused_by_its_size_unpacked(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pso_attn.tasks.files._MOST_BYTES", 50_000_000)
    path = tmp_path / {"table": "packed.pq", "series": "packed.npz"}[task]
    if task == "series":
        np.savez_compressed(path, x=np.zeros((2, 3_200_000)), y=[0, 1])
    else:
        pytest.importorskip("pyarrow")
        pd.DataFrame({"b": np.zeros(6_300_000)}).to_parquet(path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match=r"has 0\.05 GB, and at most 0 GB are read"):
        make_task(task, str(path), target="b")


def test_a_value_is_one_label_whatever_else_its_file_holds(tmp_path: Path) -> None:
    data = frame()
    grades, codes = np.array([1.0, 1.5, 2.0]), np.array(["007", "A12", "true"])
    data["grade"], data["code"] = grades[np.arange(60) % 3], codes[np.arange(60) % 3]
    task = made(tmp_path, data, target="kind", columns={"categorical": ["grade"]})
    labels = {c.name: c.labels for c in columns_from(task.preprocessing()["columns"])}
    assert labels["grade"] == ("1", "1.5", "2")
    assert labels["code"] == ("7", "A12", "True")
    whole = data.iloc[[0, 3, 6]]  # alone, pandas reads both columns as whole numbers
    whole.assign(grade=2, code="007").to_csv(tmp_path / "new.csv", index=False)
    inputs = read_new_table(task.preprocessing(), str(tmp_path / "new.csv")).inputs
    names = list(labels)
    places = {c.name: c.first for c in columns_from(task.preprocessing()["columns"])}
    for name, label in (("grade", "2"), ("code", "7")):
        tokens = inputs[:, names.index(name)]
        assert tokens[:, 1].tolist() == [1, 1, 1]
        assert tokens[0, 0] == places[name] + labels[name].index(label)


def test_names_that_only_look_like_numbers_stay_names_and_old_spellings_are_known() -> None:
    ids = pd.Series(["12e45678", "3e5", "0e12", "1" * 400, "7"])
    assert as_labels(ids).tolist() == ids.tolist()
    assert as_labels(pd.Series([1e20, 0.1, 2.0])).tolist() == [str(10**20), "0.1", "2"]
    kept = ("1.0", "1.5", "false", "true", "007")  # as exports of before have them
    assert places_of(pd.Series([1, 2]), kept).tolist() == [0, -1]
    assert places_of(pd.Series([True, False]), kept).tolist() == [3, 2]
    assert places_of(pd.Series(["007", None, "x"]), kept).tolist() == [4, -1, -1]
    assert places_of(pd.Series(["07", "7"]), ("7", "07")).tolist() == [1, 0]


def test_dates_are_no_labels_in_csv_either(tmp_path: Path) -> None:
    data = frame()
    data["day"] = np.array(["2024-01-01", "2024-01-02"])[np.arange(60) % 2]
    task = made(tmp_path, data, target="kind")
    assert task.describe()["left_out"]["day"] == "neither numbers nor labels, but dates"


def test_a_number_target_may_be_stored_as_text(tmp_path: Path) -> None:
    target = NumberTarget("y", 0.0, 1.0)
    found = target.found(pd.Series(["10", "9.5", "100"], name="y"))
    assert found == {"target_range": [9.5, 100.0], "target_mean": pytest.approx(39.8333, rel=1e-4)}


def test_groups_that_a_share_uses_up_are_one_sentence(tmp_path: Path) -> None:
    data = frame()
    data["three"] = np.arange(60) % 3
    with pytest.raises(DataError, match="leave one split without any group"):
        made(
            tmp_path,
            data,
            target="kind",
            group="three",
            split={"validation": 0.3, "test": 0.34},
        )


def test_simple_methods_take_a_class_of_one_row_among_many(tmp_path: Path) -> None:
    rng = generator(0, "many")
    data = pd.DataFrame({"x": rng.normal(size=17_500), "z": rng.normal(size=17_500)})
    data["y"] = np.where(data["x"] > 0, "a", "b")
    data.loc[5, "y"] = "rare"
    scores = made(tmp_path, data.round(2), target="y").baselines()
    assert scores["gradient boosting"]["accuracy"] > 0.95
