"""What goes beside the target of a forecast: columns of the table, and where dates stand.

A column of numbers is one number, standardised; a label is a 1 among zeros; what is missing has a
column of its own where training rows lack some too (`pso_attn.tasks.columns` fits them).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pso_attn.tasks.clock import Clock, waves
from pso_attn.tasks.columns import (
    Column,
    ColumnOptions,
    columns_document,
    columns_from,
    encode_columns,
    fit_columns,
)
from pso_attn.tasks.files import Table
from pso_attn.tasks.histories import Histories, HistoryLayout
from pso_attn.types import Array


@dataclass(frozen=True)
class Covariates:
    """Columns as the training rows have them, and the cycles of dates.

    left_out: by name, why a column tells nothing.
    """

    past: tuple[Column, ...]
    known: tuple[Column, ...]
    cycles: tuple[str, ...]
    left_out: Mapping[str, str]

    @classmethod
    def fit(
        cls,
        histories: Histories,
        layout: HistoryLayout,
        training: NDArray[np.int64],
        options: ColumnOptions,
        cycles: tuple[str, ...],
    ) -> "Covariates":
        """Return the covariates as the training rows have them.

        Raises DataError, naming the row, for text among the numbers of a column.
        """
        table = histories.table
        for name in (*layout.past, *layout.known):
            options.kind(table.frame[name], table.source)  # in the file's order, for its rows
        found, left_out = [], {}
        for names in (layout.past, layout.known):
            frame = histories.covariates[list(names)]
            columns, without = fit_columns(frame, training, options, table.source)
            found.append(columns)
            left_out.update(without)
        return cls(found[0], found[1], cycles, left_out)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Covariates":
        """Return the covariates of a `document`."""
        return cls(
            columns_from(document["past"]),
            columns_from(document["known"]),
            tuple(document["cycles"]),
            {},
        )

    def document(self) -> dict[str, Any]:
        """Return them as plain values."""
        past, known = columns_document(self.past), columns_document(self.known)
        return {"past": past, "known": known, "cycles": list(self.cycles)}

    @property
    def past_width(self) -> int:
        """How many numbers say what is known up to the present alone."""
        return sum(column.rows for column in self.past)

    @property
    def known_width(self) -> int:
        """How many numbers say what is known ahead."""
        return sum(column.rows for column in self.known) + 2 * len(self.cycles)

    def encode(self, frame: pd.DataFrame, times: Array, source: str) -> Array:
        """Return (R, past_width + known_width) for rows at these times."""
        parts = [_dense(frame, columns, source) for columns in (self.past, self.known)]
        stacked: Array = np.column_stack([*parts, waves(times, self.cycles)])
        return stacked

    def found(self, table: Table) -> dict[str, str]:
        """Return how each column is read, for people."""
        words = {}
        for kind, columns in (("known ahead", self.known), ("past", self.past)):
            for column in columns:
                missing = int(table.frame[column.name].isna().sum())
                shown = "number" if column.kind == "number" else f"{len(column.labels)} labels"
                words[column.name] = f"{kind}, {shown}" + f", {missing} missing" * (missing > 0)
        for name in self.cycles:
            words[f"time of the {name}"] = "known ahead, from dates"
        return words


def cycles_of(clock: Clock, times: Array, wanted: bool) -> tuple[str, ...]:
    """Return the cycles that training times tell something about, none if they are not wanted."""
    return clock.cycles(float(np.ptp(times))) if wanted else ()


def _dense(frame: pd.DataFrame, columns: Sequence[Column], source: str) -> Array:
    """Return one number for each row of the columns' embedding, (R, rows)."""
    width = sum(column.rows for column in columns)
    dense = np.zeros((len(frame), width))
    if columns:
        encoded = encode_columns(frame, columns, source)  # (R, columns, 2)
        places = encoded[..., 0].astype(np.int64)
        np.put_along_axis(dense, places, encoded[..., 1], axis=1)
    return dense
