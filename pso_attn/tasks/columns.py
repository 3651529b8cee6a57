"""Columns of a table as tokens: a row of the embedding and its weight for each value.

Gorishniy et al. 2021, arXiv 2106.11959, section 3.3: the token of column j is b_j + x_j w_j where
it holds numbers, standardised here, and b_j + e_j[x_j] where it holds labels. The biases b_j are
the model's learned positions; w_j and all e_j are rows of one table. A value that is missing has a
row of its own where the training rows lack some too, else it weighs 0, as the mean does and as a
label does that no training row has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pso_attn.errors import ConfigurationError, DataError, nearest
from pso_attn.types import Array

Kind = Literal["number", "label"]
MOST_LABELS = 1000  # in the training rows; a column with more says who, not what
_OTHER_WAYS = ", or list the column in columns.categorical or columns.drop"
DROP_INSTEAD = ", or list the column in columns.drop"  # of values that can be numbers alone
_NUMBERS_MEANT = 0.5  # share of numbers from which a text among them is a mistake


@dataclass(frozen=True)
class Column:
    """One column, as the training rows have it.

    first: its first row of the embedding. mean, deviation: of its numbers. labels: in their rows'
    order. missing: whether a row for missing values stands behind them.
    """

    name: str
    kind: Kind
    first: int
    missing: bool
    mean: float = 0.0
    deviation: float = 1.0
    labels: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows of the embedding it has."""
        return (len(self.labels) if self.kind == "label" else 1) + self.missing

    def encode(self, values: pd.Series, source: str) -> tuple[NDArray[np.int64], Array]:
        """Return the embedding's row of each value, and the weight; DataError for other kinds."""
        if self.kind == "number":
            numbers = as_numbers(values, source, ways_out="")  # of new rows: others were looked at
            absent = np.isnan(numbers)
            weights = np.nan_to_num((numbers - self.mean) / self.deviation)
            rows = np.full(len(numbers), self.first)
        else:
            absent = values.isna().to_numpy()
            codes = places_of(values, self.labels)
            weights = (codes >= 0).astype(np.float64)  # a label that training never met weighs 0
            rows = self.first + np.maximum(codes, 0)
        if self.missing:
            rows = np.where(absent, self.first + self.rows - 1, rows)
            weights = np.where(absent, 1.0, weights)
        return rows.astype(np.int64), weights


@dataclass(frozen=True)
class ColumnOptions:
    """The table [columns]: which are read as numbers, which as labels, and which not at all."""

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    @classmethod
    def read(
        cls, given: Mapping[str, Any], known: Sequence[str], more: Sequence[str] = ()
    ) -> "ColumnOptions":
        """Return the table, checked against the names of the data's columns.

        more: keys that the task reads by itself.
        """
        listed: dict[str, str] = {}
        own = {key: names for key, names in given.items() if key not in more}
        for key, names in own.items():
            if key not in cls.__dataclass_fields__:
                raise ConfigurationError(
                    f"columns.{key} is not a key{nearest(key, [*cls.__dataclass_fields__, *more])}"
                )
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ConfigurationError(
                    f"columns.{key} is {names!r}; expected a list of columns' names"
                )
            for name in names:
                if name not in known:
                    raise DataError(
                        f'columns.{key} has "{name}", which is no column{nearest(name, known)}'
                    )
                if name in listed:
                    raise ConfigurationError(
                        f'columns.{key} has "{name}", which columns.{listed[name]} has too; '
                        "keep one of them"
                    )
                listed[name] = key
        return cls(**{key: tuple(names) for key, names in own.items()})

    def kind(self, values: pd.Series, source: str) -> Kind | None:
        """Return how a column is read, None where it holds neither numbers nor labels.

        Raises DataError for a column of numbers that has text in it.
        """
        name = str(values.name)
        if name in self.categorical:
            return "label"
        if name in self.numeric:
            as_numbers(values, source)
            return "number"
        if pd.api.types.is_bool_dtype(values):
            return "label"
        if pd.api.types.is_numeric_dtype(values):
            as_numbers(values, source)
            return "number"
        if not _is_text(values):
            return None
        present = values.dropna().astype("str")
        parsed = pd.to_numeric(present, errors="coerce").notna()
        if len(present) and parsed.mean() >= _NUMBERS_MEANT:
            as_numbers(values, source)
            return "number"
        dates = pd.to_datetime(present, format="ISO8601", errors="coerce", utc=True)
        return None if len(present) and dates.notna().all() else "label"


def fit_columns(
    frame: pd.DataFrame, train: NDArray[np.int64], options: ColumnOptions, source: str
) -> tuple[tuple[Column, ...], dict[str, str]]:
    """Return the columns that tell something, as the training rows have them; and why not others.

    Only what kind a column is of is decided by all rows.
    """
    fitted: list[Column] = []
    left_out: dict[str, str] = {}
    for name in map(str, frame.columns):
        kind = None if name in options.drop else options.kind(frame[name], source)
        first = fitted[-1].first + fitted[-1].rows if fitted else 0
        column = None if kind is None else _fitted(frame[name].iloc[train], kind, first, source)
        if name in options.drop:
            left_out[name] = "dropped by [columns]"
        elif column is None:
            what = "dates" if _is_text(frame[name]) else frame[name].dtype
            left_out[name] = f"neither numbers nor labels, but {what}"
        elif column.rows - column.missing == 0 or not frame[name].iloc[train].notna().any():
            left_out[name] = "missing in all training rows"
        elif kind == "number" and column.deviation == 0 and not column.missing:
            left_out[name] = "one number in all training rows"
        elif kind == "label" and column.rows == 1:
            left_out[name] = f'"{column.labels[0]}" in all training rows'
        elif name not in options.categorical and _names_rows(column, len(train)):
            left_out[name] = (
                f"{len(column.labels)} different texts in {len(train)} training rows; list it in "
                "columns.categorical to keep it"
            )
        else:
            fitted.append(column)
    return tuple(fitted), left_out


def encode_columns(frame: pd.DataFrame, columns: Sequence[Column], source: str) -> Array:
    """Return the tokens of all rows, (n, T, 2): a row of the embedding and its weight each."""
    for column in columns:
        if column.name not in frame.columns:
            raise DataError(
                f'{source} has no column "{column.name}", which the model was trained on'
                f"{nearest(column.name, map(str, frame.columns))}"
            )
    pairs = [column.encode(frame[column.name], source) for column in columns]
    return np.stack([np.stack(pair, axis=-1) for pair in pairs], axis=1)


def columns_document(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return the columns as plain values."""
    return [{**asdict(column), "labels": list(column.labels)} for column in columns]


def columns_from(document: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Return the columns of `columns_document`."""
    return tuple(Column(**{**entry, "labels": tuple(entry["labels"])}) for entry in document)


def as_numbers(values: pd.Series, source: str, ways_out: str = _OTHER_WAYS) -> Array:
    """Return a column's numbers, NaN where they are missing; DataError where it has others.

    ways_out: what else may be done than to mend the rows, as the message ends.
    """
    if not pd.api.types.is_numeric_dtype(values):
        values = values.astype("str").where(values.notna())
    numbers = pd.to_numeric(values, errors="coerce")
    odd = np.flatnonzero((numbers.isna() & values.notna()).to_numpy())
    if len(odd):
        raise DataError(
            f'{source}: column "{values.name}" holds "{values.iloc[odd[0]]}" in row {odd[0] + 1}, '
            f"and is read as numbers; mend {_rows(len(odd))}{ways_out}"
        )
    found = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    endless = np.flatnonzero(np.isinf(found))
    if len(endless):
        raise DataError(
            f'{source}: column "{values.name}" holds {found[endless[0]]} in row {endless[0] + 1}; '
            f"mend {_rows(len(endless))}, or leave them empty"
        )
    return found


def as_words(values: pd.Series) -> pd.Series:
    """Return a column's values as texts, missing ones as they are; 1.0 reads as 1."""
    present = values.notna()
    if pd.api.types.is_float_dtype(values) and (values[present] % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype("str").where(present)


def as_labels(values: pd.Series) -> pd.Series:
    """Return a column's values as labels, missing ones as they are.

    Texts that mean one value are one label, whatever else the column holds and however pandas
    reads it for that: 7, 7.0 and 007 are "7", true is "True".
    """
    texts = values.astype("str")
    labels = {text: _label(text) for text in texts[values.notna()].unique()}
    return texts.map(labels).where(values.notna())


def places_of(values: pd.Series, labels: Sequence[str]) -> NDArray[np.int64]:
    """Return which of the labels each value is, (n,), -1 where it is none or is missing.

    Labels may be spelled as the values are, or as what means the same.
    """
    spelled = {label: place for place, label in reversed([*enumerate(labels)])}
    meant = {_label(label): place for place, label in reversed([*enumerate(labels)])}
    texts, present = values.astype("str"), values.notna()
    known = texts[present].unique()
    places = {text: spelled.get(text, meant.get(_label(text), -1)) for text in known}
    return texts.map(places).where(present, -1).to_numpy(dtype=np.int64)


def _fitted(values: pd.Series, kind: Kind, first: int, source: str) -> Column:
    name, missing = str(values.name), bool(values.isna().any())
    if kind == "label":
        labels = tuple(sorted(as_labels(values).dropna().unique()))
        return Column(name, kind, first, missing, labels=labels)
    numbers = as_numbers(values, source)
    present = numbers[~np.isnan(numbers)]
    if not len(present):
        return Column(name, kind, first, missing)
    mean, deviation = float(present.mean()), float(present.std())
    if np.ptp(present) == 0:  # else rounding leaves a tiny deviation
        deviation = 0.0 if not missing else 1.0
    return Column(name, kind, first, missing, mean, deviation)


def _is_text(values: pd.Series) -> bool:
    return values.dtype == object or isinstance(values.dtype, pd.StringDtype | pd.CategoricalDtype)


def _label(text: str) -> str:
    stripped = text.strip()
    if stripped.lower() in ("true", "false"):
        return stripped.capitalize()
    if re.fullmatch(r"[+-]?\d{1,300}", stripped):
        return str(int(stripped))
    if not re.fullmatch(r"[+-]?(\d+\.\d*|\.?\d+)([eE][+-]\d+)?", stripped):
        return text  # 12e45 may be a name; pandas writes 1.2e+46
    number = float(stripped)
    if not isfinite(number):
        return text
    return str(int(number)) if number.is_integer() else repr(number)


def _names_rows(column: Column, rows: int) -> bool:
    """Tell whether a column of labels rather names each row."""
    return len(column.labels) > min(MOST_LABELS, max(rows // 2, 2))


def _rows(count: int) -> str:
    return "that row" if count == 1 else f"those {count} rows"
