"""Series: which class, what number, or which steps next, from what was measured step by step.

A token is a patch of steps (Nie et al. 2023, arXiv 2211.14730, section 3.1, without overlap), or
one step where that leaves few tokens. Its last entry is 1, which makes the embedding's bias; after
a series' end all of it is 0: padding.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError, DataError
from pso_attn.tasks.arrays import refuse_bare_array
from pso_attn.tasks.columns import ColumnOptions
from pso_attn.tasks.forecast_task import ForecastTask
from pso_attn.tasks.forecasting import make_forecast
from pso_attn.tasks.labelled import LabelledTask, Prepared, labelled_task, target_column
from pso_attn.tasks.new_histories import read_new_histories
from pso_attn.tasks.new_rows import NewRows, labelled_rows
from pso_attn.tasks.series_files import (
    SERIES_KEYS,
    SeriesData,
    read_new_series_data,
    read_series,
)
from pso_attn.tasks.shown import Shown
from pso_attn.tasks.simple_methods import Methods, linear_method, neighbour_method
from pso_attn.tasks.splits import Rows, SplitOptions
from pso_attn.tasks.targets import Target, target_from
from pso_attn.tasks.task import Split, TaskInfo
from pso_attn.tasks.windows import WindowShape

MOST_TOKENS = 64  # beyond, by default, a token is more than one step
_DEFAULT = "sklearn:digits"


def make_series(
    data: str | None = None,
    target: str | None = None,
    group: str | None = None,
    time: str | None = None,
    columns: Mapping[str, Any] | None = None,
    split: Mapping[str, Any] | None = None,
    forecast: Mapping[str, Any] | None = None,
) -> LabelledTask | ForecastTask:
    """Return the task on a CSV, Parquet or npz file, on scikit-learn's digits or aeon's series.

    In a table a row is a series, or, with columns.series, a step of the series of that name, in
    the order of `time`. target, group: one value a series. columns.patch: steps of one token.
    forecast: the table of that name, where the steps to come are what is predicted.
    """
    if forecast is not None:
        if data is None:
            raise ConfigurationError(
                '[forecast] needs data of its own, a long or a wide table; set data = "FILE.csv"'
            )
        return make_forecast(data, target, group, time, columns or {}, split or {}, forecast)
    data, columns = data or _DEFAULT, columns or {}
    refuse_bare_array(data)
    splitting = SplitOptions.read(split or {})
    wanted = target_column("series", target, data)
    named = {"target": wanted, "group": group, "split.column": splitting.column}
    read = read_series(data, named, time, columns.get("series"), columns)
    known = [str(name) for name in read.table.frame.columns]
    options = ColumnOptions.read(columns, [*known, *read.layout.names], more=SERIES_KEYS)
    longest = read.values.shape[1]
    patch = columns.get("patch", -(-longest // MOST_TOKENS))
    if isinstance(patch, bool) or not isinstance(patch, int) or not 1 <= patch <= longest:
        raise ConfigurationError(
            f"columns.patch is {patch!r}; expected how many of {longest} steps make a token"
        )

    def prepare(train: Rows) -> Prepared:
        return _prepared(read, train, patch)

    return labelled_task("series", read.table, wanted, group, options, splitting, prepare)


def read_new_series(learned: Mapping[str, Any], data: str) -> NewRows:
    """Return the series of a file, encoded as the task's `preprocessing` says."""
    if "forecast" in learned:
        return read_new_histories(learned, data)
    target = target_from(learned["target"])
    read = read_new_series_data(data, learned["layout"], target.name)
    channels, steps = read.values.shape[2], read.values.shape[1]
    if channels != len(learned["mean"]):
        raise DataError(
            f"{data} has {channels} channels, and the model was trained on {len(learned['mean'])}"
        )
    longest = int(read.lengths.max())
    if longest > learned["steps"]:
        raise DataError(
            f"{data} has a series of {longest} steps, and the model's longest has "
            f"{learned['steps']}; cut it"
        )
    patch = learned["patch"]  # padding is whole tokens; of the last one a part may be missing
    tokens = -(-int(read.lengths.min()) // patch)
    if not learned["padded"] and tokens < -(-learned["steps"] // patch):
        raise DataError(
            f"{data} has a series of {int(read.lengths.min())} steps, and the model was trained "
            f"on series of {learned['steps']} alone"
        )
    values = np.full((len(read.values), learned["steps"], channels), np.nan)
    values[:, : min(steps, learned["steps"])] = read.values[:, : learned["steps"]]
    inputs = _tokens(values, read.lengths, learned)
    return labelled_rows(inputs, target, read.table.frame, data)


def show_series(learned: Mapping[str, Any], inputs: Tensor) -> Shown:
    """Return the steps of each token (T, patch · channels + 1) for people, padding left out."""
    if "forecast" in learned:
        return Shown(WindowShape(**learned["forecast"]).names)
    patch, real = learned["patch"], int((inputs[:, -1] != 0).sum())
    ends = [min((token + 1) * patch, learned["steps"]) for token in range(real)]
    return Shown(
        tuple(
            f"{token * patch + 1}…{end}" if patch > 1 else str(end)
            for token, end in enumerate(ends)
        )
    )


def _prepared(read: SeriesData, train: Rows, patch: int) -> Prepared:
    seen = read.values[train].reshape(-1, read.values.shape[2])  # (steps of all, channels)
    absent = np.isnan(seen)
    if absent.all(axis=0).any():
        channel = int(np.flatnonzero(absent.all(axis=0))[0]) + 1
        raise DataError(f"{read.table.source}: channel {channel} is missing in all training rows")
    varies = np.nanmax(seen, axis=0) > np.nanmin(seen, axis=0)  # else a deviation is rounding
    longest = read.values.shape[1]
    tokens = -(-longest // patch)
    padded = bool((-(-read.lengths // patch) < tokens).any())
    learned = {
        "layout": read.layout.document(),
        "steps": longest,
        "patch": patch,
        "padded": padded,
        "mean": np.nanmean(seen, axis=0).tolist(),
        "deviation": np.where(varies, np.nanstd(seen, axis=0), 1.0).tolist(),
    }
    inputs = _tokens(read.values, read.lengths, learned)
    gaps = int(np.isnan(read.values[_inside(read)]).sum())
    lengths = sorted({int(read.lengths.min()), int(read.lengths.max())})
    return Prepared(
        inputs=inputs,
        info=TaskInfo(
            tokens=None,
            features=inputs.shape[2],
            length=tokens,
            outputs=1,
            causal=False,
            per_token=False,
            padded=padded,
        ),
        learned=learned,
        found={
            "channels": read.values.shape[2],
            "steps": lengths if len(lengths) > 1 else lengths[0],
            "missing_inside": gaps,
            "tokens": f"{tokens} of {patch} step{'s' * (patch > 1)}",
        },
        methods=_methods,
    )


def _inside(read: SeriesData) -> Any:
    """Return which steps come before the end of their series, (n, T)."""
    return np.arange(read.values.shape[1]) < read.lengths[:, None]


def _tokens(values: Any, lengths: Any, learned: Mapping[str, Any]) -> Tensor:
    """Return (n, T, patch · channels + 1): standardised steps, what is missing as the mean."""
    patch = learned["patch"]
    scaled = (values - np.array(learned["mean"])) / np.array(learned["deviation"])
    scaled = np.nan_to_num(scaled)
    count = -(-learned["steps"] // patch)
    filled = np.pad(scaled, ((0, 0), (0, count * patch - scaled.shape[1]), (0, 0)))
    tokens = filled.reshape(len(filled), count, -1)
    real = np.arange(count) * patch < np.asarray(lengths)[:, None]
    return torch.from_numpy(np.concatenate([tokens, real[..., None]], 2).astype(np.float32))


def _methods(target: Target, train: Split, test: Split) -> Methods:
    """A linear model and the neighbour see all steps side by side."""
    flat = [part.inputs[..., :-1].flatten(1).numpy() for part in (train, test)]
    return {**linear_method(target, *flat), **neighbour_method(target, *flat)}
