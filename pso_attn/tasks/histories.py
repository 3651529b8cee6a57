"""Series to forecast, from a long table (a row a step of a series) or a wide one (a column each).

A wide table is made a long one at once; all that follows knows rows of series, in order of time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pso_attn.errors import ConfigurationError, DataError, nearest
from pso_attn.tasks.clock import read_times
from pso_attn.tasks.columns import DROP_INSTEAD, as_numbers, as_words
from pso_attn.tasks.files import Table, read_table
from pso_attn.types import Array

ONLY = ""  # the name of a table's one series


@dataclass(frozen=True)
class HistoryLayout:
    """Which columns hold what.

    target: what is forecast, where a row is a step of one series; None where each of `wide` is a
    series. series: the column that names it, None where there is one. known, past: covariates
    that are known ahead, and those that are known up to the present alone.
    """

    time: str
    target: str | None = None
    series: str | None = None
    wide: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """What is forecast, for people."""
        return self.target or f"{len(self.wide)} columns"

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "HistoryLayout":
        """Return the layout of a `document`."""
        read: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in document.items()
        }
        return cls(**read)


@dataclass(frozen=True, eq=False)
class Histories:
    """Rows of series, one series after the other, each in the order of time.

    names: of the series. bounds: (series + 1,), where each begins and the next. values: (R,), NaN
    in the future. times: (R,), see `pso_attn.tasks.clock`; dates, zoned: what they are. rows:
    (R,) of the file, from 0. covariates: (R, …) columns. sorted: whether they had to be sorted.
    labels: (R,), what the split column says, or None.
    """

    names: tuple[str, ...]
    bounds: NDArray[np.int64]
    values: Array
    times: Array
    dates: bool
    zoned: bool
    rows: NDArray[np.int64]
    covariates: pd.DataFrame
    sorted: bool
    labels: NDArray[Any] | None
    table: Table

    def each(self) -> list[tuple[str, slice]]:
        """Return name and rows of each series."""
        spans = pairwise(self.bounds.tolist())
        return [(name, slice(*span)) for name, span in zip(self.names, spans, strict=True)]

    def called(self, name: str) -> str:
        """Return how a message names a series."""
        return f'{self.table.source}: series "{name}"' if name else f"{self.table.source}: it"


def plan_layout(
    table: Table,
    target: str | None,
    series: str | None,
    time: str | None,
    aside: Sequence[str],
    given: Mapping[str, Any],
) -> HistoryLayout:
    """Return which columns hold what. aside: those that are neither series nor covariates.

    given: the table [columns], whose `known` and `past` list covariates; without `past` all other
    columns of a long table are. The column that names the series may be known too. Raises
    ConfigurationError and DataError for what cannot be meant.
    """
    source = table.source
    if time is None:
        raise ConfigurationError(
            f"a forecast of {source} needs to know when its rows are; set time = "
            f'"COLUMN"{_guessed(table)}'
        )
    if target is None and series is not None:
        raise ConfigurationError(
            f'the rows of {source} belong to the series that "{series}" names; set target = '
            '"COLUMN" to say which column is forecast'
        )
    names = {"time": time, "target": target, "columns.series": series}
    for key, name in names.items():
        if name is not None:
            table.require(name, key)
    listed = {key: _listed(table, given, key) for key in ("known", "past")}
    taken = {name for name in names.values() if name is not None}
    for key, columns in listed.items():
        for name in columns:
            if name in taken and (key, name) != ("known", series):
                raise ConfigurationError(
                    f'columns.{key} has "{name}", which is used already; keep it in one place'
                )
            taken.add(name)
    rest = [str(n) for n in table.frame.columns if n not in taken and n not in aside]
    if target is None:
        if not rest:
            raise DataError(f'{source} has no column to forecast beside time "{time}"')
        return HistoryLayout(time, wide=tuple(rest), known=listed["known"], past=listed["past"])
    past = listed["past"] if "past" in given else tuple(rest)
    return HistoryLayout(time, target, series, known=listed["known"], past=past)


def read_histories(
    table: Table, layout: HistoryLayout, split: str | None, future: bool
) -> Histories:
    """Return the series of a table, sorted by time.

    split: the column that says which split a row is of. future: whether the last rows of a series
    may have no value yet. Raises DataError for two rows at one time, and for values that are
    missing elsewhere, text or infinite; a column of a wide table may begin later and end earlier.
    """
    times, dates, zoned = read_times(table.require(layout.time, "time"), table.source)
    covariates = (*layout.known, *layout.past)
    for name in covariates:
        table.require(name, "columns.known" if name in layout.known else "columns.past")
    names, codes, rows, values = (_long if layout.target else _wide)(table, layout)
    as_given = np.argsort(codes, kind="stable")
    back = (np.diff(times[rows][as_given]) < 0) & (np.diff(codes[as_given]) == 0)
    order = np.lexsort((times[rows], codes))
    codes, rows, values = codes[order], rows[order], values[order]
    _check_times(table, layout, names, codes, rows, times)
    if layout.target is None:
        kept = _begun(values, codes, len(names), future)
        if not all(np.bincount(codes[kept], minlength=len(names))):
            empty = int(np.flatnonzero(np.bincount(codes[kept], minlength=len(names)) == 0)[0])
            raise DataError(f'{table.source}: column "{names[empty]}" has no value; drop it')
        codes, rows, values = codes[kept], rows[kept], values[kept]
    counts = np.bincount(codes, minlength=len(names))
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    labels = None if split is None else as_words(table.require(split, "split.column")).to_numpy()
    histories = Histories(
        names=tuple(names),
        bounds=bounds,
        values=values,
        times=times[rows],
        dates=dates,
        zoned=zoned,
        rows=rows,
        covariates=table.frame[list(covariates)].iloc[rows].reset_index(drop=True),
        sorted=bool(back.any()),
        labels=None if labels is None else labels[rows],
        table=table,
    )
    _check_values(histories, layout, future)
    return histories


_Rows = tuple[list[str], NDArray[np.int64], NDArray[np.int64], Array]


def _long(table: Table, layout: HistoryLayout) -> _Rows:
    """Return the series' names; and of each row the number of its series, itself and its value."""
    assert layout.target is not None  # else the table is wide
    values = as_numbers(table.require(layout.target, "target"), table.source, ways_out="")
    words = pd.Series([ONLY] * len(values))
    if layout.series is not None:
        words = as_words(table.require(layout.series, "columns.series"))
        absent = np.flatnonzero(words.isna().to_numpy())
        if len(absent):
            raise DataError(
                f'{table.source}: column "{layout.series}" is empty in row {absent[0] + 1}; say '
                "whose row it is"
            )
    codes, found = pd.factorize(words)
    return [str(name) for name in found], codes, np.arange(len(values)), values


def _wide(table: Table, layout: HistoryLayout) -> _Rows:
    """Return what `_long` does, a column after the other."""
    found = [table.require(name, "the model") for name in layout.wide]
    columns = [as_numbers(values, table.source, DROP_INSTEAD) for values in found]
    series, count = np.arange(len(columns)), len(table.frame)
    rows = np.tile(np.arange(count), len(columns))
    return list(layout.wide), np.repeat(series, count), rows, np.concatenate(columns)


def read_forecast_table(data: str) -> Table:
    """Return the table of a file; ConfigurationError for arrays, which have no times."""
    if data.lower().endswith((".npy", ".npz")) or data.startswith("aeon:"):
        raise ConfigurationError(
            f"{data} holds arrays, which say no times; forecasts need a table, CSV or Parquet"
        )
    return read_table(data)


def _check_times(
    table: Table,
    layout: HistoryLayout,
    names: Sequence[str],
    codes: NDArray[np.int64],
    rows: NDArray[np.int64],
    times: Array,
) -> None:
    """Raise DataError for two rows of one series at one time."""
    same = np.flatnonzero((np.diff(times[rows]) == 0) & (np.diff(codes) == 0))
    if len(same):
        first, second = rows[same[0]], rows[same[0] + 1]
        name = names[codes[same[0]]]
        whose = f'series "{name}"' if layout.series else "it"
        advice = (
            "keep one of them"
            if layout.series or layout.target is None
            else "keep one of them, or name the series that rows belong to, as columns.series"
        )
        raise DataError(
            f"{table.source}: {whose} has two rows at {layout.time} = "
            f'"{table.frame[layout.time].iloc[second]}", rows {first + 1} and {second + 1}; '
            f"{advice}"
        )


def _begun(
    values: Array, codes: NDArray[np.int64], series: int, future: bool
) -> NDArray[np.bool_]:
    """Return which rows a column's series has: from its first value on; to the last, or beyond it.

    codes: of the columns, ascending.
    """
    kept = np.zeros(len(values), dtype=bool)
    edges = np.searchsorted(codes, np.arange(series + 1))
    for first, last in pairwise(edges):
        there = first + np.flatnonzero(~np.isnan(values[first:last]))
        if len(there):
            kept[there[0] : last if future else there[-1] + 1] = True
    return kept


def _check_values(histories: Histories, layout: HistoryLayout, future: bool) -> None:
    """Raise DataError for a value that is missing before others, or at all without a future."""
    absent = np.isnan(histories.values)
    for name, rows in histories.each():
        own = np.flatnonzero(absent[rows])
        if not len(own):
            continue
        count = rows.stop - rows.start
        if future and own[0] == count - len(own) and own[0]:
            continue
        row = int(histories.rows[rows.start + own[0]]) + 1
        column = layout.target or name
        whose = f' of series "{name}"' if layout.series else ""
        raise DataError(
            f'{histories.table.source}: target "{column}"{whose} is missing in row {row}'
            f"{_more(len(own) - 1)}; fill it in, or take the row out, which leaves a gap"
        )


def _listed(table: Table, given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    columns = given.get(key, [])
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise ConfigurationError(
            f"columns.{key} is {columns!r}; expected a list of columns' names"
        )
    for name in columns:
        table.require(name, f"columns.{key}")
    return tuple(columns)


def _guessed(table: Table) -> str:
    return nearest("time", map(str, table.frame.columns))


def _more(count: int) -> str:
    return f" and {count} more" if count else ""
