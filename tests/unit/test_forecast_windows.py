"""What a forecast sees, what it is scored by, and that no split leaks into another."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pso_attn.errors import DataError
from pso_attn.seeding import generator
from pso_attn.tasks import make_task, shown_example
from pso_attn.tasks.forecast_task import ForecastTask

HORIZON, CONTEXT, SEASON = 4, 12, 7
COLUMNS = {"series": "shop", "known": ["sale"], "past": ["queue"]}
FORECAST = {"horizon": HORIZON, "context": CONTEXT, "season": SEASON, "calendar": False}


def shops(days: int = 100) -> pd.DataFrame:
    """Return two shops by day: what they sold, whether there was a sale, and who queued."""
    rng, frames = generator(0, "shops"), []
    for shop, size in (("north", 10.0), ("south", 300.0)):
        sale = rng.integers(0, 2, days)
        sold = size * (2 + np.sin(np.arange(days) * 2 * np.pi / 7) + sale)
        sold += rng.normal(0, size / 10, days)
        frame = {"day": pd.date_range("2025-01-01", periods=days).astype(str), "shop": shop}
        queue = rng.normal(size=days).round(4)
        frames.append(pd.DataFrame({**frame, "sold": sold, "sale": sale, "queue": queue}))
    return pd.concat(frames, ignore_index=True)


def made(folder: Path, frame: pd.DataFrame, **options: Any) -> ForecastTask:
    path = folder / "shops.csv"
    frame.to_csv(path, index=False)
    given = {"target": "sold", "time": "day", "columns": COLUMNS, "forecast": FORECAST}
    task = make_task("series", str(path), **{**given, **options})
    assert isinstance(task, ForecastTask)
    return task


def right(task: ForecastTask, split: str) -> Any:
    """Return what is asked in a split, (n, horizon), in units; windows of north come first."""
    targets = getattr(task, split).targets.double().numpy()
    means = np.repeat(
        [task.learned["scales"][s][0] for s in ("north", "south")], len(targets) // 2
    )
    return targets[:, :HORIZON] * targets[:, HORIZON, None] + means[:, None]


def test_each_series_is_parted_by_time_and_no_step_is_asked_in_two_parts(tmp_path: Path) -> None:
    frame = shops()
    task = made(tmp_path, frame)
    sold = frame["sold"].to_numpy().reshape(2, 100)
    for row in range(2):
        edges = {"train": (CONTEXT, 60), "validation": (60, 80), "test": (80, 100)}
        for split, (first, last) in edges.items():
            asked = np.array_split(right(task, split), 2)[row]
            expected = [sold[row, o : o + HORIZON] for o in range(first, last - HORIZON + 1)]
            np.testing.assert_allclose(asked, expected, rtol=1e-5)


def test_nothing_after_a_part_changes_its_windows_or_what_was_learned(tmp_path: Path) -> None:
    frame = shops()
    before = made(tmp_path, frame)
    later = frame.groupby("shop").cumcount() >= 60
    changed = frame.assign(
        sold=frame["sold"].where(~later, 1e6 * frame["sold"]),
        queue=frame["queue"].where(~later, 1e3),
    )
    after = made(tmp_path, changed)
    assert torch.equal(before.train.inputs, after.train.inputs)
    assert torch.equal(before.train.targets, after.train.targets)
    assert before.learned == after.learned
    assert not torch.equal(before.validation.inputs, after.validation.inputs)


def test_a_window_sees_the_past_and_of_the_future_what_is_known_ahead(tmp_path: Path) -> None:
    frame = shops()
    task = made(tmp_path, frame)
    row = 5  # the window whose first asked step is CONTEXT + 5, of north
    seen, asked = task.train.inputs[row].split([CONTEXT, HORIZON])
    own = frame[:60]
    scaled = {
        name: ((frame[name] - own[name].mean()) / own[name].std(ddof=0)).to_numpy()
        for name in ("sold",)
    }
    both = pd.concat([frame[:60], frame[100:160]])  # covariates are scaled over all series
    for name in ("queue", "sale"):
        scaled[name] = ((frame[name] - both[name].mean()) / both[name].std(ddof=0)).to_numpy()
    past = slice(row, row + CONTEXT)
    ahead = slice(row + CONTEXT, row + CONTEXT + HORIZON)
    expected = [scaled[name][past] for name in ("sold", "queue", "sale")]
    np.testing.assert_allclose(seen[:, :3], np.stack(expected, 1), rtol=1e-5, atol=1e-6)
    assert bool((seen[:, 3:] == torch.tensor([0.0, 1.0])).all())
    assert bool((asked[:, :2] == 0).all())  # neither the target nor the queue
    np.testing.assert_allclose(asked[:, 2], scaled["sale"][ahead], rtol=1e-5)
    assert bool((asked[:, 3:] == 1).all())


def test_a_window_is_shown_by_its_steps_from_the_last_one_seen(tmp_path: Path) -> None:
    task = made(tmp_path, shops())
    tokens = shown_example(task, 0).tokens
    assert tokens[-6:] == ("-1", "0", "+1", "+2", "+3", "+4")
    assert len(tokens) == task.info.length
    patched = made(tmp_path, shops(), columns={**COLUMNS, "patch": 4})
    assert shown_example(patched, 0).tokens[:4] == ("-11…-8", "-7…-4", "-3…0", "+1")


def test_no_window_reaches_over_a_gap(tmp_path: Path) -> None:
    frame = shops()[:100]  # of one shop
    task = made(tmp_path, frame.drop(index=[30, 31]))
    assert task.describe()["missing_steps"] == 2
    length = CONTEXT + HORIZON
    first = [s for s in range(60 - length + 1) if not {30, 31} & set(range(s, s + length))]
    (mean, deviation), sold = task.learned["scales"]["north"], frame["sold"].to_numpy()
    expected = [(sold[s + CONTEXT : s + length] - mean) / deviation for s in first]
    np.testing.assert_allclose(task.train.targets[:, :HORIZON], expected, rtol=1e-4, atol=1e-5)


def test_metrics_are_in_units_and_mase_is_hyndman_and_koehlers(tmp_path: Path) -> None:
    frame = shops()
    task = made(tmp_path, frame)
    rng = generator(0, "answers")
    logits = torch.from_numpy(rng.normal(size=(2, len(task.test), HORIZON, 1)))
    scores = task.score(logits, task.test.targets.double()[None])
    sold = frame["sold"].to_numpy().reshape(2, 100)
    for particle in range(2):
        errors, scaled = [], []
        halves = np.array_split(logits[particle].squeeze(-1).numpy(), 2)
        for series, answers in zip(sold, halves, strict=True):
            train = series[:60]
            naive = np.abs(train[SEASON:] - train[:-SEASON]).mean()
            for origin, answer in enumerate(answers, start=80):
                wrong = answer * train.std() + train.mean() - series[origin : origin + HORIZON]
                errors.append(np.abs(wrong).mean())
                scaled.append(np.abs(wrong).mean() / naive)
        assert float(scores["mae"][particle]) == pytest.approx(np.mean(errors), rel=1e-5)
        assert float(scores["mase"][particle]) == pytest.approx(np.mean(scaled), rel=1e-5)


def test_the_seasonal_naive_forecast_repeats_the_last_season(tmp_path: Path) -> None:
    frame = shops()
    sold = frame["sold"].to_numpy().reshape(2, 100)
    for season in (SEASON, 2):  # longer and shorter than the horizon
        task = made(tmp_path, frame, forecast={**FORECAST, "season": season})
        errors = []
        for series in sold:
            for origin in range(80, 100 - HORIZON + 1):
                last = series[origin - season : origin]
                said = [last[step % season] for step in range(HORIZON)]
                errors.append(np.abs(said - series[origin : origin + HORIZON]).mean())
        found = task.baselines()[f"seasonal naive ({season} steps)"]
        assert found["mae"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_a_series_that_never_changes_has_no_mase_and_is_left_out_of_it(tmp_path: Path) -> None:
    frame = shops()
    flat = frame.assign(sold=frame["sold"].where(frame["shop"] == "north", 5.0))
    alone = made(tmp_path, frame[:100], columns=COLUMNS).baselines()
    both = made(tmp_path, flat).baselines()
    name = "seasonal naive (7 steps)"
    assert both[name]["mase"] == pytest.approx(alone[name]["mase"], rel=1e-5)
    assert both[name]["mae"] == pytest.approx(alone[name]["mae"] / 2, rel=1e-5)
    with pytest.raises(DataError, match="no series ever changes over 7 steps"):
        made(tmp_path, frame.assign(sold=5.0))


def test_a_long_table_and_a_wide_one_give_the_same_windows(tmp_path: Path) -> None:
    frame = shops().drop(columns=["sale", "queue"])
    long = made(tmp_path, frame, columns={"series": "shop"})
    wide = frame.pivot(index="day", columns="shop", values="sold").reset_index()
    same = made(tmp_path, wide, target=None, columns={})
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(long, split).inputs, getattr(same, split).inputs)
        assert torch.equal(getattr(long, split).targets, getattr(same, split).targets)
    shorter = wide.assign(south=wide["south"].where((wide.index >= 5) & (wide.index < 90)))
    assert made(tmp_path, shorter, target=None, columns={}).describe()["lengths"] == [85, 100]


def test_times_in_the_index_of_a_parquet_file_are_a_column(tmp_path: Path) -> None:
    frame = shops()
    plain = made(tmp_path, frame)
    indexed = frame.assign(day=pd.to_datetime(frame["day"])).set_index(["shop", "day"])
    indexed.to_parquet(tmp_path / "shops.parquet")
    given = {"target": "sold", "time": "day", "columns": COLUMNS, "forecast": FORECAST}
    same = make_task("series", str(tmp_path / "shops.parquet"), **given)
    assert same.fingerprint == plain.fingerprint


def test_of_too_many_windows_every_kth_is_kept_and_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made(tmp_path, shops())
    needed = sum(getattr(whole, s).inputs.nbytes for s in ("train", "validation", "test"))
    monkeypatch.setattr("pso_attn.tasks.windows.MOST_BYTES", needed // 3 + 1)
    third = made(tmp_path, shops())
    assert torch.equal(third.train.inputs, whole.train.inputs[::3])
    assert third.describe()["windows"]["origins"] == "one step in 3, for memory"
    assert third.baselines().keys() == whole.baselines().keys()


def test_rows_in_any_order_give_the_same_windows_and_are_said_to_be_sorted(
    tmp_path: Path,
) -> None:
    frame = shops()
    ordered = made(tmp_path, frame)
    mixed = made(tmp_path, pd.concat([frame[:1], frame[1:].sample(frac=1.0, random_state=0)]))
    assert torch.equal(ordered.train.inputs, mixed.train.inputs)
    assert ordered.describe()["order"] == "by time"
    assert mixed.describe()["order"] == "sorted by time here"


def test_a_patch_of_steps_is_one_token_and_asked_steps_are_one_each(tmp_path: Path) -> None:
    frame = shops()
    steps = made(tmp_path, frame)
    patches = made(tmp_path, frame, columns={**COLUMNS, "patch": 3})
    assert (patches.info.length, patches.info.features) == (CONTEXT // 3 + HORIZON, 3 * 3 + 2)
    seen = steps.train.inputs[:, :CONTEXT, :3].unflatten(1, (-1, 3)).flatten(2)
    assert torch.equal(patches.train.inputs[:, : CONTEXT // 3, :9], seen)
    assert torch.equal(
        patches.train.inputs[:, CONTEXT // 3 :, :3], steps.train.inputs[:, CONTEXT:, :3]
    )
    assert torch.equal(patches.train.targets, steps.train.targets)


def test_a_window_less_its_own_mean_knows_no_level(tmp_path: Path) -> None:
    frame = shops()
    raised = frame.assign(sold=frame["sold"] + 5 * np.tile(np.arange(100) >= 70, 2) * 1e3)
    tasks = [made(tmp_path, f, forecast={**FORECAST, "centre": "window"}) for f in (frame, raised)]
    one, other = (task.test for task in tasks)  # whose contexts lie wholly above the step
    later = torch.arange(len(one)) % (len(one) // 2) >= 2
    torch.testing.assert_close(one.inputs[later], other.inputs[later], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one.targets[later], other.targets[later], rtol=1e-3, atol=1e-3)
    assert float(one.inputs[:, :CONTEXT, 0].mean(1).abs().max()) < 1e-5


def test_a_column_may_say_the_split_if_it_keeps_to_time(tmp_path: Path) -> None:
    frame = shops()
    day = frame.groupby("shop").cumcount()
    folds = np.select([day < 50, day < 70], ["train", "validation"], "test")
    task = made(tmp_path, frame.assign(fold=folds), split={"column": "fold"})
    sizes = [len(getattr(task, split)) for split in ("train", "validation", "test")]
    assert sizes == [2 * (50 - CONTEXT - 3), 2 * (20 - 3), 2 * (30 - 3)]
    folds[40] = "test"
    with pytest.raises(DataError, match=r'series "north" has train after test .* \(row 42\)'):
        made(tmp_path, frame.assign(fold=folds), split={"column": "fold"})


def test_what_was_found_is_said_before_anything_trains(tmp_path: Path) -> None:
    found = made(tmp_path, shops(), forecast={"horizon": 4}).describe()
    assert (found["series"], found["lengths"], found["frequency"]) == (2, [100, 100], "1 day")
    assert found["time"] == "2025-01-01 to 2025-04-10"
    assert found["season"] == "7 steps, guessed from the frequency of 1 day"
    assert found["context"] == "14 steps, 14 tokens of 1 step"
    assert found["windows"] == {"train": 86, "validation": 34, "test": 34, "origins": "every step"}
    assert found["covariates"]["sale"] == "known ahead, number"
    assert found["covariates"]["queue"] == "past, number"
    short = made(tmp_path, shops(27).drop(columns="sale"), columns={"series": "shop"}, forecast={
        "horizon": 2, "context": 4})  # fmt: skip
    assert short.describe()["season"].startswith("1 step, since the 7 guessed from the frequency")
