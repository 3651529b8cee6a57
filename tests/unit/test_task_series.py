"""Series from rows, from steps and from arrays; what is padding and what is only missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import pad

from pso_attn.attention import MECHANISMS
from pso_attn.attention.kinds import PAIRING
from pso_attn.errors import ConfigurationError, DataError
from pso_attn.models import SwarmTransformer, TaskInfo, read_transformer
from pso_attn.seeding import generator
from pso_attn.tasks import make_task
from pso_attn.tasks.series import read_new_series
from pso_attn.tasks.task import Split, Task

LENGTHS = np.array([6, 4, 6, 5, 1, 6, 3, 6, 2, 6] * 3)


def values(channels: int = 2) -> Any:
    """Return (30, 6, channels), NaN after each series' end."""
    found = generator(0, "values").normal(3.0, 2.0, (30, 6, channels)).round(4)
    found[np.arange(6) >= LENGTHS[:, None]] = np.nan
    return found


KINDS = np.array(["a", "b"] * 15)


def as_rows() -> pd.DataFrame:
    """Return the first channel, one series a row."""
    frame = pd.DataFrame(values()[:, :, 0], columns=[f"t{step}" for step in range(6)])
    return frame.assign(kind=KINDS)


def as_steps() -> pd.DataFrame:
    """Return both channels, one step a row, in no order."""
    found = values()
    rows = [
        {"who": f"s{n}", "when": f"2025-01-{step + 1:02}", "x": x, "y": y, "kind": KINDS[n]}
        for n in range(30)
        for step, (x, y) in enumerate(found[n, : LENGTHS[n]])
    ]
    return pd.DataFrame(rows).sample(frac=1.0, random_state=0)


def made(folder: Path, frame: pd.DataFrame, **options: Any) -> Task:
    path = folder / "data.csv"
    frame.to_csv(path, index=False)
    return make_task("series", str(path), **{"target": "kind", **options})


def by_content(split: Split) -> list[tuple[float, ...]]:
    return sorted(tuple(row.flatten().tolist()) for row in split.inputs)


STEPS = {"time": "when", "columns": {"series": "who"}}


def test_steps_in_any_order_and_arrays_give_the_same_series(tmp_path: Path) -> None:
    folds = np.array(["train", "validation", "test"] * 10)
    frame = as_steps()
    frame["fold"] = folds[frame["who"].str[1:].astype(int)]
    steps = made(tmp_path, frame, **STEPS, split={"column": "fold"})
    path = tmp_path / "data.npz"
    whole = np.nan_to_num(values()).transpose(0, 2, 1)
    np.savez(path, X=whole, y=KINDS, lengths=LENGTHS, split=folds)
    arrays = make_task("series", str(path), split={"column": "split"})
    assert steps.info == arrays.info
    assert (steps.info.length, steps.info.features, steps.info.padded) == (6, 3, True)
    for one, other in ((steps.train, arrays.train), (steps.test, arrays.test)):
        np.testing.assert_allclose(by_content(one), by_content(other), rtol=1e-5, atol=1e-6)
    described = arrays.describe()
    assert (described["channels"], described["steps"]) == (2, [1, 6])


def test_scaling_is_that_of_the_training_series_and_padding_is_zero(tmp_path: Path) -> None:
    frame = as_rows().assign(fold=np.repeat(["train", "validation", "test"], 10))
    frame.loc[12, "t1"] = 1e6
    task = made(tmp_path, frame, split={"column": "fold"})
    seen = values()[:10, :, 0]
    learned = task.preprocessing()
    assert learned["mean"] == pytest.approx([np.nanmean(seen)])
    assert learned["deviation"] == pytest.approx([np.nanstd(seen)])
    real = task.train.inputs[..., 1] == 1
    assert real.sum(1).tolist() == LENGTHS[:10].tolist()
    assert bool((task.train.inputs[~real] == 0).all())


def test_a_gap_inside_a_series_is_as_the_mean_and_no_end(tmp_path: Path) -> None:
    frame = as_rows()
    frame.loc[0, "t2"] = np.nan
    task = made(tmp_path, frame.assign(fold=["train", "validation", "test"] * 10),
                split={"column": "fold"})  # fmt: skip
    assert task.train.inputs[0].tolist()[2] == [0.0, 1.0]
    assert task.describe()["missing_inside"] == 1


def test_a_patch_of_steps_is_one_token_and_long_series_have_them_by_themselves(
    tmp_path: Path,
) -> None:
    task = made(tmp_path, as_steps(), time="when", columns={"series": "who", "patch": 4})
    assert (task.info.length, task.info.features) == (2, 4 * 2 + 1)
    long = pd.DataFrame(generator(0, "long").normal(size=(20, 200))).assign(kind=KINDS[:20])
    assert made(tmp_path, long).info.length == 50  # of 4 steps: the fewest that leave 64
    assert not made(tmp_path, long).info.padded


@pytest.mark.parametrize("mechanism", sorted(set(MECHANISMS) - {"retention"}))  # that looks back
def test_what_stands_in_padding_changes_no_answer(mechanism: str, tmp_path: Path) -> None:
    task = made(tmp_path, as_steps(), **STEPS)
    settings = {"mechanism": mechanism, "heads": 2, "d_model": 16, "window_tokens": 1}
    if mechanism not in PAIRING:
        del settings["window_tokens"]
    swarm = SwarmTransformer.started([read_transformer(settings, task.info)], task.info, [0])
    inputs = task.train.inputs.clone()
    before = swarm.forward(inputs[None])
    padding = inputs[..., -1] == 0
    inputs[..., :-1][padding] = 7.0
    assert torch.equal(before, swarm.forward(inputs[None]))
    assert bool(before.isfinite().all())
    inputs[..., 0][~padding] += 1.0
    assert not torch.equal(before, swarm.forward(inputs[None]))


@pytest.mark.parametrize(
    "mechanism", ["softmax", "linear", "block_low_rank", "top_k", "sparse", "talking_heads"]
)
def test_a_padded_series_is_answered_as_the_same_without_padding(mechanism: str) -> None:
    """Low rank alone projects all places, padding or not, by what it learned for each."""
    settings = {"mechanism": mechanism, "heads": 2, "d_model": 16, "positions": "sinusoidal"}
    settings |= {"block_tokens": 3} if mechanism == "block_low_rank" else {}
    settings |= {"top_k": 2} if mechanism == "top_k" else {}
    shapes = {"tokens": None, "features": 3, "outputs": 2, "causal": False, "per_token": False}
    answers = []
    inputs = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    inputs[..., -1] = 1.0
    for length in (4, 6):
        info = TaskInfo(**shapes, length=length, padded=length > 4)
        swarm = SwarmTransformer.started([read_transformer(settings, info)], info, [0])
        answers.append(swarm.forward(pad(inputs, (0, 0, 0, length - 4))[None]))
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=1e-6)


def test_new_series_are_read_as_the_models_own(tmp_path: Path) -> None:
    for frame, options in ((as_rows(), {}), (as_steps(), STEPS)):
        task = made(tmp_path, frame, **options)
        rows = read_new_series(task.preprocessing(), str(tmp_path / "data.csv"))
        together = [*by_content(task.train), *by_content(task.validation), *by_content(task.test)]
        assert by_content(Split(rows.inputs, rows.inputs)) == sorted(together)
        assert rows.metrics is not None
        frame.drop(columns="kind").to_csv(tmp_path / "new.csv", index=False)
        bare = read_new_series(task.preprocessing(), str(tmp_path / "new.csv"))
        assert bare.metrics is None
        assert torch.equal(bare.inputs, rows.inputs)


def test_new_series_of_other_lengths_or_columns_are_one_sentence(tmp_path: Path) -> None:
    learned = made(tmp_path, as_steps(), **STEPS).preprocessing()
    longer = as_steps().drop(columns="kind")
    longer["who"] = "one"
    longer["when"] = range(len(longer))
    path = tmp_path / "new.csv"
    longer.to_csv(path, index=False)
    with pytest.raises(DataError, match="a series of 135 steps, and the model's longest has 6"):
        read_new_series(learned, str(path))
    as_steps().rename(columns={"x": "ex"}).to_csv(path, index=False)
    with pytest.raises(DataError, match='no column "x", which the model names'):
        read_new_series(learned, str(path))
    whole = as_rows().dropna()
    even = made(tmp_path, whole).preprocessing()
    whole.assign(t5=np.nan).to_csv(path, index=False)
    with pytest.raises(DataError, match="5 steps, and the model was trained on series of 6 alone"):
        read_new_series(even, str(path))


def test_series_that_differ_inside_the_last_token_alone_are_predicted_as_they_were_trained(
    tmp_path: Path,
) -> None:
    rows = as_rows().dropna()
    rows = rows.assign(t5=rows.t5.where(np.arange(len(rows)) % 2 == 0))  # 5 or 6 steps
    learned = made(tmp_path, rows, columns={"patch": 3}).preprocessing()
    path = tmp_path / "new.csv"
    rows.to_csv(path, index=False)
    assert len(read_new_series(learned, str(path)).inputs) == len(rows)
    rows.assign(t3=np.nan, t4=np.nan, t5=np.nan).to_csv(path, index=False)
    with pytest.raises(DataError, match="3 steps, and the model was trained on series of 6 alone"):
        read_new_series(learned, str(path))


def changed(**columns: Any) -> pd.DataFrame:
    return as_steps().reset_index(drop=True).assign(**columns)


@pytest.mark.parametrize(
    ("frame", "options", "sentence"),
    [
        (as_rows(), {"target": "kin"}, 'no column "kin", which target names; did you mean "kind"'),
        (as_rows(), {"time": "t0"}, "name the column that says which series"),
        (as_rows(), {"columns": {"patch": 7}}, "columns.patch is 7; expected how many of 6 steps"),
        (as_rows(), {"columns": {"patches": 2}}, 'columns.patches is not a key; did you mean "pa'),
        (as_rows().assign(kind="a"), {}, 'target "kind" is "a" in every training row'),
        (as_rows().assign(t1="x"), {}, 'column "t1" holds "x" in row 1, and is read as numbers'),
        (as_rows().assign(t1="x"), {}, "mend those 30 rows, or list the column in columns.drop"),
        (
            as_rows(),
            {"columns": {"categorical": ["t1"]}},
            'columns.categorical has "t1", and what a series holds is read as numbers',
        ),
        (as_steps(), {"time": "when", "columns": {"series": "whom"}}, 'did you mean "who"'),
        (changed(kind=["a", "b"] * 67 + ["a"]), STEPS, 'column "kind" changes within series'),
        (changed(when="2025-01-01"), STEPS, "has two rows at when ="),
        (changed(when="soon"), STEPS, 'time "when" is "soon" in row 1; expected a number or a'),
        (changed(x=np.nan), STEPS, "channel 1 is missing in all training rows"),
        (changed(x=np.nan, y=np.nan), STEPS, "series 1 has no value; take it out"),
    ],
)
def test_series_that_cannot_work_are_one_sentence(
    frame: pd.DataFrame, options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((ConfigurationError, DataError)) as raised:
        made(tmp_path, frame, **options)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"data": np.zeros((3, 4))}, "has the keys data; expected x and y"),
        ({"x": np.zeros((3, 4)), "z": np.zeros(3)}, "has the keys x, z; expected x and y"),
        ({"x": np.zeros((3, 4))}, 'has no column "y", which target names'),
        ({"x": np.zeros((3, 4)), "y": np.zeros(4)}, "y has shape (4,), and x 3 examples"),
        ({"x": np.zeros((3, 4, 5, 6)), "y": KINDS[:3]}, "expected (series, steps), or (series, "),
        ({"x": np.zeros(3), "y": KINDS[:3]}, "x has shape (3,) of float64"),
        ({"x": np.array(["a", "b"]), "y": KINDS[:2]}, "expected numbers, one example a row"),
        (
            {"x": np.zeros((3, 4)), "y": KINDS[:3], "lengths": [1, 2, 9]},
            "lengths reach from 1 to 9",
        ),
        ({"x": np.full((3, 4), np.nan), "y": KINDS[:3]}, "series 1 has no value"),
    ],
)
def test_arrays_that_cannot_work_are_one_sentence(
    arrays: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError) as raised:
        make_task("series", str(tmp_path / "data.npz"))
    assert sentence in str(raised.value)
    (tmp_path / "data.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match="is not an npz file of plain arrays"):
        make_task("series", str(tmp_path / "data.npz"))


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("series", "data.npy holds one array without a name"),
        ("images", "data.npy holds one array without a name"),
        ("table", "data.npy holds arrays; expected a table, as CSV or Parquet"),
        ("text_labels", "data.npy holds arrays; expected a table, as CSV or Parquet"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"target": "y"}])
def test_an_array_without_targets_is_refused_whether_a_target_is_named_or_not(
    task: str, sentence: str, options: dict[str, str], tmp_path: Path
) -> None:
    np.save(tmp_path / "data.npy", np.zeros((12, 4)))
    with pytest.raises(DataError) as raised:
        make_task(task, str(tmp_path / "data.npy"), **options)
    assert sentence in str(raised.value)


def test_a_library_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match='no series "digit"; did you mean "digits"'):
        make_task("series", "sklearn:digit")
    try:
        import aeon  # noqa: F401  only whether it is there
    except ImportError:
        with pytest.raises(DataError, match=r'pip install "pso-attn\[series\]"'):
            make_task("series", "aeon:GunPoint")


def test_an_infinite_value_in_arrays_is_refused(tmp_path: Path) -> None:
    found = values()[:, :, 0]
    found[2, 1] = np.inf
    np.savez(tmp_path / "data.npz", x=found, y=KINDS)
    with pytest.raises(DataError, match="series 3 holds an infinite number; mend it"):
        make_task("series", str(tmp_path / "data.npz"))


def test_a_channel_that_never_changes_in_training_has_no_deviation(tmp_path: Path) -> None:
    found = np.full((30, 1, 7), 0.1)
    found[25:, 0] = 0.11
    fold = np.repeat(["train", "validation", "test"], [20, 5, 5])
    np.savez(tmp_path / "data.npz", x=found, y=KINDS, split=fold)
    task = make_task("series", str(tmp_path / "data.npz"), split={"column": "split"})
    assert task.preprocessing()["deviation"] == [1.0]
