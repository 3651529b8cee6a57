"""Forecasts: the next `horizon` steps of a series from the `context` steps before them.

A token is a patch of steps that are seen, or one step that is asked for: it says what is known of
it ahead. Both families read the same tokens, and neither sees what it is asked for: an LSTM's
decoder reads what is known ahead in place of the answers before (Wen et al. 2017, arXiv
1711.11053, section 3.1, give it each step's future inputs), and so forecasts as it was trained.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import ConfigurationError
from pso_attn.tasks.clock import Clock, guess_clock
from pso_attn.tasks.columns import ColumnOptions
from pso_attn.tasks.covariates import Covariates, cycles_of
from pso_attn.tasks.files import Table
from pso_attn.tasks.forecast_options import COLUMN_KEYS, ForecastOptions, patch_of, steps
from pso_attn.tasks.forecast_scores import (
    BESIDE,
    forecast_loss,
    forecast_scores,
    naive_error,
    ridge,
    seasonal_naive,
    shares_of_mase,
)
from pso_attn.tasks.histories import (
    Histories,
    HistoryLayout,
    plan_layout,
    read_forecast_table,
    read_histories,
)
from pso_attn.tasks.labelled import fingerprint_of
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
from pso_attn.types import Array, Direction


@dataclass(frozen=True, eq=False)
class ForecastTask:
    """Forecasts of the series of a table. found: what `describe` returns; learned: for an export.

    scaled: (R,), all series in their deviations. asked, level: split -> first asked row and level
    of each window.
    """

    info: TaskInfo
    train: Split
    validation: Split
    test: Split
    learned: Mapping[str, Any]
    found: Mapping[str, Any]
    fingerprint: str
    scaled: Array
    asked: Mapping[str, NDArray[np.int64]]
    level: Mapping[str, Array]
    name: ClassVar[str] = "series"
    metrics: ClassVar[Mapping[str, Direction]] = {
        "loss": "minimize",
        "mae": "minimize",
        "mase": "minimize",
    }

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean squared error, in squared deviations, (N,)."""
        return forecast_loss(logits, targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return each particle's loss, MAE and MASE, (N,) each."""
        return forecast_scores(logits, targets)

    def describe(self) -> dict[str, Any]:
        """Return what was found in the data, and how it is read."""
        return dict(self.found)

    def preprocessing(self) -> dict[str, Any]:
        """Return how tables are read and what the training parts told."""
        return dict(self.learned)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what naive forecasts and ridge regression reach from the test's origins."""
        test = (self.scaled, self.asked["test"], self.level["test"], self.info.horizon)
        season = self.learned["season"]
        answers = {f"seasonal naive ({steps(season)})": seasonal_naive(*test, season)}
        if season > 1:
            answers["last value"] = seasonal_naive(*test, 1)
        answers["ridge regression"] = ridge(
            self.train.inputs.flatten(1).numpy(),
            self.train.targets[:, :-BESIDE].double().numpy(),
            self.test.inputs.flatten(1).numpy(),
        )
        return {name: self._scored(found) for name, found in answers.items()}

    def _scored(self, answers: Array) -> dict[str, float]:
        logits = torch.from_numpy(answers)[None, ..., None]
        scores = self.score(logits, self.test.targets[None])
        return {name: float(value[0]) for name, value in scores.items()}


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
    scaled = _Scaled.of(histories, cuts, places, season)
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
        "split": splitting.words(None)
        if splitting.column
        else f"{splitting.words(None)}, by time",
        "windows": {
            **{name: len(asked[name]) for name in NAMES},
            "origins": "every step" if every == 1 else f"every {every}th, for memory",
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


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Series less their mean, in their deviation, both of the training part.

    scales: series -> mean and deviation. values, deviations, naive: (R,); naive is the mean change
    over a season in the training part of a row's series.
    """

    scales: Mapping[str, list[float]]
    values: Array
    deviations: Array
    naive: Array

    @classmethod
    def of(
        cls, histories: Histories, cuts: Cuts, places: NDArray[np.int64], season: int
    ) -> "_Scaled":
        scales, errors = {}, []
        for (name, rows), cut in zip(histories.each(), cuts.validation, strict=True):
            seen = slice(rows.start, int(cut))
            scales[name] = scale_of(histories.values[seen])
            errors.append(naive_error(histories.values[seen], places[seen], season))
        counts = np.diff(histories.bounds)
        means, deviations = np.repeat(np.array(list(scales.values())), counts, axis=0).T
        values = (histories.values - means) / deviations
        return cls(scales, values, deviations, np.repeat(errors, counts))

    def targets(
        self, asked: NDArray[np.int64], level: Array, horizon: int, source: str, season: int
    ) -> Tensor:
        """Return (n, horizon + 2), as `pso_attn.tasks.forecast_scores` reads them."""
        right = self.values[asked[:, None] + np.arange(horizon)] - level[:, None]
        shares = shares_of_mase(self.naive[asked], source, season)
        joined = np.column_stack([right, self.deviations[asked], shares])
        return torch.from_numpy(joined.astype(np.float32))


def scale_of(values: Array) -> list[float]:
    """Return mean and deviation; 1 for the second where all values are equal."""
    deviation = float(values.std())
    return [float(values.mean()), deviation if np.ptp(values) > 0 else 1.0]


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
