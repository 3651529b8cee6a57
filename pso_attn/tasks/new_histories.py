"""New rows of series as an exported model takes them: of each the end, and what comes after it.

Rows after a series' last value hold what is known ahead, and no value.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.tasks.clock import Clock
from pso_attn.tasks.columns import as_numbers
from pso_attn.tasks.covariates import Covariates
from pso_attn.tasks.forecast_options import steps
from pso_attn.tasks.histories import (
    Histories,
    HistoryLayout,
    read_forecast_table,
    read_histories,
)
from pso_attn.tasks.new_rows import NewRows
from pso_attn.tasks.scaling import scale_of
from pso_attn.tasks.windows import WindowShape, levels, tokens
from pso_attn.types import Array

SHOWN = 5  # names of new series


def read_new_histories(learned: Mapping[str, Any], data: str) -> NewRows:
    """Return the window at the end of each series of a file, encoded as `preprocessing` says.

    Raises DataError for a series that is shorter than the context or has a gap in it, and for what
    should be known ahead and is not.
    """
    layout, clock = HistoryLayout.of(learned["layout"]), Clock(**learned["clock"])
    shape, covariates = WindowShape(**learned["forecast"]), Covariates.of(learned)
    histories = read_histories(read_forecast_table(data), layout, None, future=True)
    if histories.dates != clock.dates:
        raise DataError(
            f'{data}: time "{layout.time}" holds {_kind(histories.dates)}, and the model was '
            f"trained on {_kind(clock.dates)}"
        )
    if histories.zoned != clock.zoned:
        has, wants = ("a", "no") if histories.zoned else ("no", "a")
        raise DataError(
            f'{data}: time "{layout.time}" has {has} zone, and the model was trained on times '
            f"with {wants} zone; write them alike"
        )
    for column in (*covariates.past, *covariates.known):
        if column.kind == "number":
            as_numbers(
                histories.table.frame[column.name], data, ways_out=""
            )  # in the file's order
    ahead = tuple(c.name for c in covariates.known if c.name != layout.series)
    ends = [_end(histories, name, rows, shape, clock, ahead) for name, rows in histories.each()]
    known = learned["scales"]
    scales = np.array(
        [known.get(name) or scale_of(_values(histories, rows)) for name, rows in histories.each()]
    )  # (S, 2)
    times = np.concatenate([end[0] for end in ends])
    frame = pd.concat([end[1] for end in ends], ignore_index=True)
    values = np.stack([end[2] for end in ends])  # (S, context)
    target = np.zeros((len(ends), shape.context + shape.horizon))
    target[:, : shape.context] = (values - scales[:, :1]) / scales[:, 1:]
    stacked = np.column_stack([target.ravel(), covariates.encode(frame, times, data)])
    asked = np.arange(len(ends)) * target.shape[1] + shape.context
    level = levels(stacked[:, 0], asked, shape.context) * (learned["centre"] == "window")
    inputs = tokens(stacked, covariates.past_width, asked, shape, level)
    after = times.reshape(target.shape)[:, shape.context :]
    series = layout.series or ("series" if layout.target is None else None)

    def predictions(logits: Tensor) -> list[dict[str, Any]]:
        numbers = logits.double().squeeze(-1).numpy() + level[:, None]
        numbers = numbers * scales[:, 1:] + scales[:, :1]
        return [
            {
                **({series: name} if series else {}),
                **({"step": step} if clock.kind == "rows" else {layout.time: clock.shown(time)}),
                "prediction": float(number),
            }
            for name, moments, row in zip(histories.names, after, numbers, strict=True)
            for step, (time, number) in enumerate(zip(moments, row, strict=True), start=1)
        ]

    new = [name for name in histories.names if name not in known]
    shown = ", ".join(new[:SHOWN]) + f" and {len(new) - SHOWN} more" * (len(new) > SHOWN)
    note = f"series that training had not are scaled by their own rows: {shown}"
    return NewRows(inputs, layout.shown, predictions, notes=(note,) * bool(new))


def _end(
    histories: Histories,
    name: str,
    rows: slice,
    shape: WindowShape,
    clock: Clock,
    ahead: tuple[str, ...],
) -> tuple[Array, pd.DataFrame, Array]:
    """Return times (context + horizon,), covariates of these, and values (context,).

    ahead: columns that must be known for the horizon.
    """
    whose, values = histories.called(name), _values(histories, rows)
    last, context = rows.start + len(values), shape.context
    first = last - context
    if first < rows.start:
        raise DataError(
            f"{whose} has {len(values)} rows with a value, and the model looks at {context}; give "
            "more of its past"
        )
    places = clock.places(histories.times[first : rows.stop])
    if places is None or places[context - 1] != context - 1:
        raise DataError(
            f"{whose} has a gap in its last {steps(context)}, or times that are not {clock.words} "
            "apart; fill it in"
        )
    if ahead:
        _check_known(histories, whose, slice(last, rows.stop), places, shape, ahead)
        end = slice(first, last + shape.horizon)
        return histories.times[end], histories.covariates.iloc[end], values[-context:]
    after = clock.ahead(float(histories.times[last - 1]), shape.horizon)
    frame = histories.covariates.iloc[np.minimum(np.arange(first, last + shape.horizon), last - 1)]
    return np.concatenate([histories.times[first:last], after]), frame, values[-context:]


def _check_known(
    histories: Histories,
    whose: str,
    future: slice,
    places: NDArray[np.int64],
    shape: WindowShape,
    ahead: tuple[str, ...],
) -> None:
    """Raise DataError unless all that must be known ahead is there for the whole horizon.

    future: rows after the last value. places: of the context's rows and these.
    """
    columns, there = ", ".join(ahead), future.stop - future.start
    if there < shape.horizon:
        raise DataError(
            f"{whose} has {there} rows after its last value, and {steps(shape.horizon)} are "
            f"forecast from {columns}, which must be known ahead; add rows with a time, with "
            f"{columns}, and with an empty target"
        )
    if places[shape.context + shape.horizon - 1] != shape.context + shape.horizon - 1:
        raise DataError(
            f"{whose} has a gap in the {steps(shape.horizon)} after its last value; give each of "
            "them a row"
        )
    for column in ahead:
        values = histories.covariates[column].iloc[future][: shape.horizon]
        absent = np.flatnonzero(values.isna().to_numpy())
        if len(absent):
            row = histories.rows[future.start + absent[0]] + 1
            raise DataError(
                f'{whose} has no "{column}" in row {row}, after its last value; the model '
                "needs to know it ahead"
            )


def _values(histories: Histories, rows: slice) -> Array:
    """Return what a series has of values, without the rows after them."""
    values = histories.values[rows]
    found: Array = values[~np.isnan(values)]
    return found


def _kind(dates: bool) -> str:
    return "dates" if dates else "numbers"
