"""Forecasts: the next `horizon` steps of a series from the `context` steps before them.

A token is a patch of steps that are seen, or one step that is asked for: it says what is known of
it ahead. Both families read the same tokens, and neither sees what it is asked for: an LSTM's
decoder reads what is known ahead in place of the answers before (so do the direct forecasts of Wen
et al. 2017, arXiv 1711.11053, section 3), and so forecasts as it was trained.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.errors import ConfigurationError
from pso_attn.tasks.clock import Clock, guess_clock
from pso_attn.tasks.columns import ColumnOptions
from pso_attn.tasks.covariates import Covariates, cycles_of
from pso_attn.tasks.files import Table
from pso_attn.tasks.forecast_options import COLUMN_KEYS, ForecastOptions, patch_of, steps
from pso_attn.tasks.forecast_task import ForecastTask
from pso_attn.tasks.histories import (
    Histories,
    HistoryLayout,
    plan_layout,
    read_forecast_table,
    read_histories,
)
from pso_attn.tasks.labelled import fingerprint_of
from pso_attn.tasks.scaling import ScaledSeries
from pso_attn.tasks.splits import NAMES, SplitOptions
from pso_attn.tasks.task import Split, TaskInfo
from pso_attn.tasks.windows import (
    Cuts,
    WindowShape,
    cut_series,
    levels,
    origins,
    place,
    thinned,
    tokens,
)


def make_forecast(
    data: str,
    target: str | None,
    group: str | None,
    time: str | None,
    columns: Mapping[str, Any],
    split: Mapping[str, Any],
    forecast: Mapping[str, Any],
) -> ForecastTask:
    """Return the task on a long table, or without `target` on a wide one.

    group: the same as columns.series. Raises ConfigurationError and DataError for what cannot be
    meant or forecast.
    """
    options, splitting = ForecastOptions.read(forecast), SplitOptions.read(split)
    table = read_forecast_table(data)
    names = [str(name) for name in table.frame.columns]
    reading = ColumnOptions.read(columns, names, more=COLUMN_KEYS)
    aside = [*reading.drop, *([splitting.column] if splitting.column else [])]
    layout = plan_layout(table, target, _series(columns, group), time, aside, columns)
    histories = read_histories(table, layout, splitting.column, future=False)
    all_times = [histories.times[rows] for _, rows in histories.each()]
    clock = guess_clock(all_times, histories.dates, histories.zoned)
    places = place(histories, clock)
    season, season_words = options.seasoned(clock, int(np.diff(histories.bounds).min()))
    context = options.seen(season)
    shape = WindowShape(context, options.horizon, patch_of(columns.get("patch"), context))
    cuts = cut_series(histories, shape, splitting)
    _check_season(histories, cuts, season)
    training = cuts.training(histories)
    cycles = cycles_of(clock, histories.times[training], options.calendar)
    covariates = Covariates.fit(histories, layout, training, reading, cycles)
    scaled = ScaledSeries.of(histories, cuts, places, season)
    beside = covariates.encode(histories.covariates, histories.times, table.source)
    stacked = np.column_stack([scaled.values, beside])
    width = shape.features(covariates.past_width, covariates.known_width)
    asked, every = thinned(origins(histories, places, cuts, shape), 4 * shape.tokens * width)
    level = {
        name: levels(scaled.values, rows, context) * (options.centre == "window")
        for name, rows in asked.items()
    }
    parts = {
        name: Split(
            tokens(stacked, covariates.past_width, asked[name], shape, level[name]),
            scaled.targets(asked[name], level[name], shape.horizon, table.source, season),
        )
        for name in NAMES
    }
    learned = {
        "forecast": asdict(shape),
        "season": season,
        "centre": options.centre,
        "layout": layout.document(),
        "clock": clock.document(),
        "scales": scaled.scales,
        **covariates.document(),
    }
    found = {
        **_found(histories, layout, clock, places),
        "horizon": steps(shape.horizon),
        "context": f"{steps(context)}, {shape.source} tokens of {steps(shape.patch)}",
        "season": season_words,
        "scaled_by": f"the deviation of each series, less the mean of the {options.centre}",
        "split": splitting.words(None) + ", by time" * (splitting.column is None),
        "windows": {
            **{name: len(asked[name]) for name in NAMES},
            "origins": "every step" if every == 1 else f"one step in {every}, for memory",
        },
        "covariates": covariates.found(table),
        "left_out": {**covariates.left_out, **_unread(table, layout, splitting)},
    }
    info = TaskInfo(
        tokens=None,
        features=width,
        length=shape.tokens,
        outputs=1,
        causal=False,
        per_token=True,
        horizon=shape.horizon,
    )
    digest = fingerprint_of([parts[name] for name in NAMES], learned)
    return ForecastTask(
        info,
        **parts,
        learned=learned,
        found=found,
        fingerprint=digest,
        scaled=scaled.values,
        asked=asked,
        level=level,
    )


def _series(columns: Mapping[str, Any], group: str | None) -> str | None:
    """Return the column that names the series; ConfigurationError where two do."""
    named = columns.get("series")
    if named is not None and not isinstance(named, str):
        raise ConfigurationError(f"columns.series is {named!r}; expected a column's name")
    if named is not None and group is not None and named != group:
        raise ConfigurationError(
            f'columns.series = "{named}" and group = "{group}" both say which series a row is of; '
            "keep one of them"
        )
    return named or group


def _check_season(histories: Histories, cuts: Cuts, season: int) -> None:
    """Raise ConfigurationError for a season that no two training rows are apart."""
    for (name, rows), cut in zip(histories.each(), cuts.validation, strict=True):
        if int(cut) - rows.start <= season:
            raise ConfigurationError(
                f"forecast.season is {season}, and {histories.called(name)} has "
                f"{int(cut) - rows.start} rows to train on; choose a shorter one"
            )


def _found(
    histories: Histories, layout: HistoryLayout, clock: Clock, places: NDArray[np.int64]
) -> dict[str, Any]:
    """Return what a person should see of the table."""
    counts = np.diff(histories.bounds)
    ends = histories.bounds[1:] - 1
    gaps = int((places[ends] + 1 - counts).sum())
    low, high = float(histories.values.min()), float(histories.values.max())
    times = histories.times.min(), histories.times.max()
    return {
        "source": histories.table.source,
        "licence": histories.table.licence,
        "rows": len(histories.table.frame),
        "series": len(counts),
        "lengths": [int(counts.min()), int(counts.max())],
        "time": " to ".join(clock.shown(time) for time in times),
        "order": "sorted by time here" if histories.sorted else "by time",
        "frequency": clock.words,
        "missing_steps": gaps,
        "target": layout.shown,
        "target_range": [low, high],
        "target_mean": float(histories.values.mean()),
    }


def _unread(table: Table, layout: HistoryLayout, splitting: SplitOptions) -> dict[str, str]:
    """Return the columns that nobody asked for, and why they are not read."""
    read = {layout.time, layout.target, layout.series, splitting.column}
    read |= {*layout.wide, *layout.known, *layout.past}
    return {
        name: "neither in columns.known nor in columns.past, or dropped"
        for name in map(str, table.frame.columns)
        if name not in read
    }
