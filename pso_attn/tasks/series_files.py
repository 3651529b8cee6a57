"""Many series in one file: a row each, a row a step, or arrays; or a data set of a library."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pso_attn.errors import ConfigurationError, DataError, nearest
from pso_attn.tasks.arrays import read_arrays
from pso_attn.tasks.clock import read_times
from pso_attn.tasks.columns import DROP_INSTEAD, ColumnOptions, as_numbers
from pso_attn.tasks.files import Table, read_table
from pso_attn.types import Array

SERIES_KEYS = ("series", "patch")  # of the table [columns], beside those of any table


@dataclass(frozen=True, eq=False)
class SeriesLayout:
    """How a file holds series.

    steps: the columns that are the steps, where a row is a series. series, time: the columns that
    say whose step a row is, and when; channels: what it measures. All None or empty for arrays.
    """

    steps: tuple[str, ...] = ()
    series: str | None = None
    time: str | None = None
    channels: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All columns that it speaks of."""
        return [*self.steps, *self.channels, *(n for n in (self.series, self.time) if n)]

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {**asdict(self), "steps": list(self.steps), "channels": list(self.channels)}


@dataclass(frozen=True, eq=False)
class SeriesData:
    """Series, numbered from 0. values: (n, T, channels), NaN where a value is missing.

    lengths: (n,) steps up to the last value. table: what else is known, one row a series.
    """

    values: Array
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    table: Table
    layout: SeriesLayout


def read_series(
    data: str,
    named: Mapping[str, str | None],
    time: str | None,
    series: str | None,
    options: Mapping[str, Any],
) -> SeriesData:
    """Return the series of a file, by its name: .npz as arrays, any other as a table.

    named: by the keys that name them, the columns that are no values. series: the column that
    says whose step a row is; without it each row is a series. Raises DataError for what cannot be
    read.
    """
    if data.startswith(("sklearn:", "aeon:")) or Path(data).suffix.lower() == ".npz":
        if series is not None or time is not None:
            raise ConfigurationError(
                f"{data} holds arrays, which have no columns; leave out time and columns.series"
            )
        values, frame, source, licence = _arrays(data)
        return _found(values, Table(frame, source, licence), SeriesLayout())
    table = read_table(data)
    known = [str(name) for name in table.frame.columns]
    read = ColumnOptions.read(options, known, more=SERIES_KEYS)
    for key, name in named.items():
        if name is not None:
            table.require(name, key)
    aside = {n for n in (*named.values(), *read.drop, time, series) if n is not None}
    for name in read.categorical:
        if name not in aside:
            raise ConfigurationError(
                f'columns.categorical has "{name}", and what a series holds is read as numbers; '
                "write labels as columns of 0 and 1, or list it in columns.drop"
            )
    if series is None:
        if time is not None:
            raise ConfigurationError(
                f'time = "{time}" names a column of steps; name the column that says which series '
                "a row belongs to too, as columns.series"
            )
        steps = tuple(name for name in known if name not in aside)
        return _from_rows(table, SeriesLayout(steps=steps), aside)
    channels = tuple(name for name in known if name not in aside)
    return _from_steps(table, SeriesLayout((), series, time, channels), aside)


def read_new_series_data(data: str, layout: Mapping[str, Any], target: str) -> SeriesData:
    """Return the series of a file of the same layout; DataError for columns that it lacks."""
    known = SeriesLayout(
        tuple(layout["steps"]), layout["series"], layout["time"], tuple(layout["channels"])
    )
    if not known.names:
        values, frame, source, licence = _arrays(data)
        return _found(values, Table(frame, source, licence), known)
    table = read_table(data)
    aside = {name for name in (target, known.series) if name and name in table.frame.columns}
    return _from_rows(table, known, aside) if known.steps else _from_steps(table, known, aside)


def _from_rows(table: Table, layout: SeriesLayout, aside: set[str]) -> SeriesData:
    """Return one series a row of the table."""
    if not layout.steps:
        raise DataError(f"{table.source} has no column of values beside {', '.join(aside)}")
    values = _numbers(table, layout.steps)[:, :, None]
    rest = [name for name in table.frame.columns if name in aside]
    return _found(values, Table(table.frame[rest], table.source, table.licence), layout)


def _from_steps(table: Table, layout: SeriesLayout, aside: set[str]) -> SeriesData:
    """Return one series for each value of a column, its rows in the order of time."""
    assert layout.series is not None  # what this layout is
    if not layout.channels:
        raise DataError(f"{table.source} has no column of values beside {', '.join(aside)}")
    names = table.require(layout.series, "columns.series")
    if names.isna().any():
        row = int(np.flatnonzero(names.isna().to_numpy())[0])
        raise DataError(
            f'{table.source}: column "{layout.series}" is empty in row {row + 1}; say whose row '
            "it is"
        )
    codes, _ = pd.factorize(names)
    order = np.arange(len(codes))
    if layout.time is not None:
        order = np.argsort(_times(table, layout.time), kind="stable")
    order = order[np.argsort(codes[order], kind="stable")]
    counts = np.bincount(codes)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.full((len(counts), counts.max(), len(layout.channels)), np.nan)
    values[codes[order], place] = _numbers(table, layout.channels)[order]
    if layout.time is not None:
        _check_times(table, layout, codes, order)
    rest = [n for n in table.frame.columns if n in aside and n != layout.time]
    frame = table.frame[rest].iloc[order].groupby(codes[order], sort=True).first()
    _check_constant(table, rest, names, codes)
    return _found(values, Table(frame.reset_index(drop=True), table.source, table.licence), layout)


def _found(values: Array, table: Table, layout: SeriesLayout) -> SeriesData:
    """Return series whose lengths are up to their last value."""
    present: Any = ~np.isnan(values).all(axis=2)  # (n, T)
    lengths: Any = present.shape[1] - present[:, ::-1].argmax(axis=1)
    endless = np.flatnonzero(np.isinf(values).any(axis=(1, 2)))
    if len(endless):
        raise DataError(
            f"{table.source}: series {endless[0] + 1} holds an infinite number; mend it, or make "
            "it NaN where it is missing"
        )
    empty = np.flatnonzero(~present.any(axis=1))
    if len(empty):
        raise DataError(f"{table.source}: series {empty[0] + 1} has no value; take it out")
    return SeriesData(values, lengths.astype(np.int64), table, layout)


def _numbers(table: Table, names: tuple[str, ...]) -> Array:
    """Return columns as numbers, (rows, columns)."""
    found = [table.require(name, "the model") for name in names]
    columns = [as_numbers(values, table.source, DROP_INSTEAD) for values in found]
    stacked: Array = np.stack(columns, axis=1)
    return stacked


def _times(table: Table, name: str) -> Array:
    """Return what orders the steps."""
    return read_times(table.require(name, "time"), table.source)[0]


def _check_times(table: Table, layout: SeriesLayout, codes: Any, order: Any) -> None:
    """Raise DataError for two steps of one series at one time."""
    assert layout.time is not None  # it was looked at before
    times = _times(table, layout.time)[order]
    same = np.flatnonzero((np.diff(times) == 0) & (np.diff(codes[order]) == 0))
    if len(same):
        row = order[same[0] + 1]
        raise DataError(
            f'{table.source}: series "{table.frame[layout.series].iloc[row]}" has two rows at '
            f'{layout.time} = "{table.frame[layout.time].iloc[row]}"; keep one of them'
        )


def _check_constant(table: Table, rest: list[str], names: pd.Series, codes: Any) -> None:
    """Raise DataError where a target or a group changes within a series."""
    for name in rest:
        differing = table.frame.groupby(codes)[name].nunique(dropna=False)
        changed = np.flatnonzero(differing.to_numpy() > 1)
        if len(changed):
            row = int(np.flatnonzero(codes == changed[0])[0])
            raise DataError(
                f'{table.source}: column "{name}" changes within series "{names.iloc[row]}"; '
                "expected one value for each series"
            )


def _arrays(data: str) -> tuple[Array, pd.DataFrame, str, str]:
    """Return values (n, T, channels), what else is known, source and licence."""
    if data.startswith("aeon:"):
        values, labels = _from_aeon(data.removeprefix("aeon:"))
        return values, pd.DataFrame({"target": labels}), f"aeon, {data[5:]}", "see the data set"
    if data.startswith("sklearn:"):
        if data != "sklearn:digits":
            raise DataError(
                f'scikit-learn brings no series "{data[8:]}"{nearest(data[8:], ["digits"])}'
            )
        from sklearn.datasets import load_digits

        images = load_digits()
        frame = pd.DataFrame({"target": images.target})
        return images.images, frame, "sklearn.datasets.load_digits, row by row", "BSD-3-Clause"
    arrays = read_arrays(Path(data))
    values = arrays.inputs
    if values.ndim == 2:
        values = values[:, None]
    if values.ndim != 3:
        raise DataError(
            f"{data}: x has shape {arrays.inputs.shape}; expected (series, steps), or (series, "
            "channels, steps)"
        )
    values = values.astype(np.float64).transpose(0, 2, 1)
    lengths = arrays.lengths
    if lengths is not None:
        if (lengths > values.shape[1]).any() or (lengths < 1).any():
            raise DataError(
                f"{data}: lengths reach from {lengths.min()} to {lengths.max()}, and x has "
                f"{values.shape[1]} steps"
            )
        values[np.arange(values.shape[1]) >= lengths[:, None]] = np.nan
    return values, arrays.frame, data, "the file's own"


def _from_aeon(name: str) -> tuple[Array, Any]:
    """Return series (n, T, channels) and labels of aeon; DataError for what is not on the disk."""
    try:
        from aeon.datasets import load_classification
        from aeon.datasets.dataset_collections import get_downloaded_tsc_tsr_datasets
        from aeon.datasets.tser_datasets import tser_soton
    except ImportError as error:
        raise DataError(
            f'aeon:{name} needs the package aeon: pip install "pso-attn[series]" ({error})'
        ) from error
    there = sorted({*get_downloaded_tsc_tsr_datasets()} - {*tser_soton})  # those have no classes
    if name not in there:  # else aeon would look for it on the network
        raise DataError(
            f"aeon has no labelled series {name} on this machine{nearest(name, there)}"
        )
    series, labels = load_classification(name)
    longest = max(one.shape[1] for one in series)
    values = np.full((len(series), longest, series[0].shape[0]), np.nan)
    for row, one in enumerate(series):
        values[row, : one.shape[1]] = one.T
    return values, labels
