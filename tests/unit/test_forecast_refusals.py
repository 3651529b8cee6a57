"""What cannot be forecast is one sentence, and what is odd but possible is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pso_attn.errors import PsoAttnError
from pso_attn.seeding import generator
from pso_attn.tasks import make_task

GIVEN: dict[str, Any] = {
    "target": "load",
    "time": "hour",
    "columns": {"series": "plant", "known": ["holiday"]},
    "forecast": {"horizon": 4, "context": 8},
}


def plants(hours: int = 80) -> pd.DataFrame:
    rng = generator(0, "plants")
    frames = [
        pd.DataFrame(
            {
                "hour": pd.date_range("2025-03-01", periods=hours, freq="h").astype(str),
                "plant": plant,
                "load": rng.normal(50, 5, hours).round(2),
                "holiday": rng.integers(0, 2, hours),
            }
        )
        for plant in ("a", "b")
    ]
    return pd.concat(frames, ignore_index=True)


def cell(frame: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    changed = frame.astype({column: object})
    changed.loc[row, column] = value
    return changed


def wide(**columns: Any) -> pd.DataFrame:
    load = plants()["load"].to_numpy().reshape(2, -1)
    hours = plants()["hour"][: load.shape[1]]
    return pd.DataFrame({"hour": hours, "a": load[0], "b": load[1], **columns})


def refused(folder: Path, frame: pd.DataFrame, **options: Any) -> str:
    path = folder / "plants.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(PsoAttnError) as caught:
        make_task("series", str(path), **{**GIVEN, **options})
    told = str(caught.value)
    assert "\n" not in told
    assert "columns.categorical" not in told or "holiday" in told  # for covariates alone
    return told.replace(str(path), "plants.csv")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda f: pd.concat([f, f[30:31]]),
            'series "a" has two rows at hour = "2025-03-02 06:00:00", rows 31 and 161; keep one',
        ),
        (
            lambda f: cell(f, 90, "load", None),
            'target "load" of series "b" is missing in row 91; fill it in, or take the row out',
        ),
        (lambda f: cell(f, 7, "load", "many"), 'column "load" holds "many" in row 8, and is read'),
        (lambda f: cell(f, 99, "load", np.inf), 'column "load" holds inf in row 100'),
        (lambda f: cell(f, 9, "holiday", "yes?"), 'column "holiday" holds "yes?" in row 10'),
        (lambda f: cell(f, 3, "hour", "noonish"), 'time "hour" is "noonish" in row 4; expected a'),
        (lambda f: cell(f, 3, "plant", None), 'column "plant" is empty in row 4; say whose row'),
        (
            lambda f: f[:99],
            'series "b" has 19 rows, 11 of them to train on; a context of 8 and a horizon of 4 '
            "need 12 there without a gap, and 4 each for validation and test. Lower forecast.con",
        ),
        (
            lambda f: f.drop(index=range(3, 48, 6)),
            "there without a gap, and 4 each for validation and test. Gaps or the split leave no",
        ),
        (lambda f: f[:0], "has a header and no rows"),
    ],
)
def test_a_table_that_cannot_be_forecast_is_refused(
    change: Any, told: str, tmp_path: Path
) -> None:
    assert told in refused(tmp_path, change(plants()))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"forecast": {"context": 8}}, "forecast.horizon is missing; say how many steps are"),
        ({"forecast": {"horizon": 0}}, "forecast.horizon is 0; expected a whole number of steps"),
        ({"forecast": {"horizon": -3}}, "forecast.horizon is -3; expected a whole number of"),
        ({"forecast": {"horizon": "day"}}, "forecast.horizon is 'day'; expected a whole number"),
        (
            {"forecast": {"horizon": 4, "contxt": 8}},
            'contxt is not a key; did you mean "context"?',
        ),
        ({"forecast": {"horizon": 4, "centre": "mean"}}, "forecast.centre is 'mean'; expected"),
        ({"forecast": {"horizon": 4, "calendar": 1}}, "forecast.calendar is 1; expected true or"),
        (
            {"forecast": {"horizon": 4, "context": 8, "season": 48}},
            'forecast.season is 48, and plants.csv: series "a" has 48 rows to train on',
        ),
        ({"time": None}, 'needs to know when its rows are; set time = "COLUMN"'),
        ({"time": "hours"}, 'no column "hours", which time names; did you mean "hour"?'),
        ({"target": "lod"}, 'no column "lod", which target names; did you mean "load"?'),
        ({"target": None}, 'belong to the series that "plant" names; set target = "COLUMN"'),
        ({"columns": {"series": "plnt"}}, '"plnt", which columns.series names; did you mean "pla'),
        ({"columns": {"known": ["holidy"]}}, '"holidy", which columns.known names; did you mean'),
        ({"columns": {"known": "holiday"}}, "columns.known is 'holiday'; expected a list of"),
        ({"columns": {"known": ["load"]}}, 'columns.known has "load", which is used already'),
        ({"columns": {"series": 3}}, "columns.series is 3; expected a column's name"),
        ({"columns": {"series": "plant", "patch": 3}}, "columns.patch is 3; expected a number of"),
        (
            {"columns": {}},
            'it has two rows at hour = "2025-03-01 00:00:00", rows 1 and 81; keep one of them, or '
            "name the series that rows belong to, as columns.series",
        ),
        ({"group": "holiday"}, 'columns.series = "plant" and group = "holiday" both say which'),
    ],
)
def test_keys_that_cannot_be_meant_are_refused(
    given: dict[str, Any], told: str, tmp_path: Path
) -> None:
    assert told in refused(tmp_path, plants(), **given)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"plant": "north"}, 'column "plant" holds "north" in row 1, and is read as numbers'),
        ({"c": [1.0] * 40 + [None] * 20 + [2.0] * 20}, 'target "c" is missing in row 41 and 19'),
        ({"c": None}, 'column "c" has no value; drop it'),
    ],
)
def test_a_wide_table_that_cannot_be_forecast_is_refused(
    columns: dict[str, Any], told: str, tmp_path: Path
) -> None:
    assert told in refused(tmp_path, wide(**columns), target=None, columns={})


def test_a_forecast_without_data_or_of_arrays_is_refused(tmp_path: Path) -> None:
    arrays = "holds arrays, which say no"
    for data, told in ((None, "needs data of its own"), ("x.npz", arrays), ("x.npy", arrays)):
        with pytest.raises(PsoAttnError, match=told):
            make_task("series", data, forecast={"horizon": 4})
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(PsoAttnError, match="is empty; put your data into it"):
        make_task("series", str(tmp_path / "empty.csv"), **GIVEN)


def test_group_names_the_series_where_columns_do_not(tmp_path: Path) -> None:
    path = tmp_path / "plants.csv"
    plants().to_csv(path, index=False)
    named = make_task("series", str(path), **GIVEN)
    grouped = make_task(
        "series", str(path), **{**GIVEN, "columns": {"known": ["holiday"]}}, group="plant"
    )
    assert named.fingerprint == grouped.fingerprint


def test_columns_that_are_not_listed_are_past_unless_past_is_and_this_is_said(
    tmp_path: Path,
) -> None:
    path = tmp_path / "plants.csv"
    plants().assign(wind=range(160), sun=range(160)).to_csv(path, index=False)
    found = make_task("series", str(path), **GIVEN).describe()
    assert {n: found["covariates"][n] for n in ("wind", "sun")} == dict.fromkeys(
        ("wind", "sun"), "past, number"
    )
    columns = {**GIVEN["columns"], "past": ["wind"]}
    found = make_task("series", str(path), **{**GIVEN, "columns": columns}).describe()
    assert found["left_out"] == {"sun": "neither in columns.known nor in columns.past, or dropped"}
