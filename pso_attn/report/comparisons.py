"""What was compared with what, as pictures; no function here touches global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from pso_attn.report import ink
from pso_attn.report.findings import row_name
from pso_attn.report.inputs import VALIDATION
from pso_attn.report.plots import axis_name
from pso_attn.report.words import setting
from pso_attn.space import Coordinate
from pso_attn.types import Objective

MOST_PANELS = 12
_MOST_BARS = 15
_COLUMNS = 3
_TICKS = 7  # of the y axis, which a panel has room for
_UNSEEN = "acted in no\ncomplete evaluation"
_HOLLOW: Any = {"color": ink.BEST, "markersize": 7, "fillstyle": "none", "mew": 1.6}
_CROWDED = 30  # characters of tick labels beyond which they are slanted
_GOLDEN = 0.618033988749895  # its multiples fill the unit interval evenly: jitter without chance


def importance_bars(shares: Mapping[str, float]) -> Figure:
    """Draw the importances, largest on top; the rest of more than fifteen in one bar."""
    shown = list(shares.items())[:_MOST_BARS]
    rest = list(shares.items())[_MOST_BARS:]
    if rest:
        shown.append((f"{len(rest)} others together", sum(share for _, share in rest)))
    names, values = [name for name, _ in shown], [share for _, share in shown]
    figure, (axis,) = ink.sheet(1.0 + 0.34 * len(shown))
    bars = axis.barh(names, values, color=ink.BEST, height=0.66)
    axis.bar_label(
        bars, [f"{share:.0%}" for share in values], padding=4, fontsize=ink.SMALL, color=ink.TEXT
    )
    axis.invert_yaxis()
    axis.set_xlim(0, max(values) * 1.1)
    ink.dress(axis, "share of importance", grid="x")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.tick_params(axis="y", length=0)
    return figure


def finalists(
    rows: Sequence[Mapping[str, Any]],
    objective: Objective,
    split: str = VALIDATION,
    unchanged: str = "defaults",
) -> Figure:
    """Draw each finalist's and the defaults' search value beside its confirmed test values.

    rows: those of `confirm.json`. split: that the search value was taken on. unchanged: how the
    defaults are called. Small dots are single seeds, or parts of the split, the bar is one
    standard deviation to both sides of their mean.
    """
    figure, (axis,) = ink.sheet(1.4 + 0.5 * len(rows))
    for place, row in enumerate(rows):
        colour = ink.DEFAULTS if row["role"] == "defaults" else ink.TEST
        test = row.get("test", {}).get(objective.name, {})
        seeds = [seed for seed in test.get("per_seed", ()) if seed is not None]
        axis.plot(seeds, [place + 0.27] * len(seeds), "o", color=colour, alpha=0.5, ms=5, mew=0)
        if test.get("mean") is not None:
            axis.errorbar(
                test["mean"],
                place + 0.04,
                xerr=test.get("std") or 0.0,
                fmt="o",
                color=colour,
                markersize=8,
                capsize=4,
                linewidth=1.8,
            )
        if row.get("search_loss") is not None:
            axis.plot(row["search_loss"], place - 0.2, "D", **_HOLLOW)
    axis.plot([], [], "D", label=f"{split}, search", **_HOLLOW)
    axis.plot([], [], "o", color=ink.TEST, ms=8, label="test, finalists")
    axis.plot([], [], "o", color=ink.DEFAULTS, ms=8, label=f"test, {unchanged}")
    ink.dress(axis, axis_name(f"{split} and test", objective), grid="x")
    axis.set_yticks(range(len(rows)), [row_name(row, unchanged) for row in rows])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(rows) - 0.45, -0.55)
    ink.key(figure)
    return figure


def knob_panels(
    trials: pd.DataFrame,
    coordinates: Sequence[Coordinate],
    objective: Objective,
    scale: ink.Scale,
    best: int | None,
    split: str = VALIDATION,
) -> Figure:
    """Draw each knob's values against the objective, coloured by generation, at most twelve.

    trials: the complete rows of `trials_frame`. best: the trial that is ringed.
    """
    shown = coordinates[:MOST_PANELS]
    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = ink.sheet(0.7 + 2.3 * rows if columns > 1 else 3.6, rows, columns, share_y=True)
    latest = max(1, int(trials["generation"].max()))
    hue = ScalarMappable(Normalize(0, latest), ink.TIME)
    for axis, coordinate in zip(axes, shown, strict=False):
        column = f"params.{coordinate.name}"
        acting = trials[trials[column].notna()] if column in trials else trials.iloc[:0]
        x = _places(axis, acting, coordinate)
        y = scale.clip(acting[f"values.{objective.name}"].to_numpy(dtype=float))
        axis.scatter(
            x, y, c=hue.to_rgba(acting["generation"].to_numpy()), s=16, linewidths=0, alpha=0.85
        )
        ring = (acting["number"] == best).to_numpy()
        axis.scatter(x[ring], y[ring], s=90, facecolors="none", edgecolors=ink.DEFAULTS, lw=1.8)
        if acting.empty:
            place: Any = {"transform": axis.transAxes, "ha": "center", "va": "center"}
            axis.text(0.5, 0.5, _UNSEEN, fontsize=ink.SMALL, color=ink.QUIET, **place)
        ink.dress(axis, coordinate.name + (" (log)" if coordinate.knob.log else ""))
    scale.apply(axes[0], _TICKS)  # which shares its y axis with all others
    for axis in axes[len(shown) :]:
        axis.remove()
    figure.supylabel(axis_name(split, objective), fontsize=ink.PLAIN, color=ink.TEXT)
    bar = figure.colorbar(hue, ax=axes[: len(shown)], aspect=20 * rows, pad=0.015, fraction=0.03)
    one_each = bool((trials["generation"] == trials["number"]).all())
    bar.set_label("trial" if one_each else "generation", fontsize=ink.PLAIN, color=ink.TEXT)
    bar.ax.tick_params(labelsize=ink.SMALL, labelcolor=ink.TEXT, color=ink.QUIET)
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    bar.outline.set_visible(False)
    return figure


def _places(axis: Axes, trials: pd.DataFrame, coordinate: Coordinate) -> NDArray[np.float64]:
    """Return where the knob's values stand on the x axis, and give that axis its ticks."""
    knob = coordinate.knob
    given = trials[f"params.{coordinate.name}"] if len(trials) else pd.Series([], dtype=float)
    jitter = (trials["number"].to_numpy(dtype=float) * _GOLDEN) % 1.0 - 0.5
    choices = (False, True) if knob.kind == "bool" else knob.choices
    if choices:
        axis.set_xticks(range(len(choices)), [setting(choice) for choice in choices])
        axis.set_xlim(-0.6, len(choices) - 0.4)
        if sum(len(setting(choice)) for choice in choices) > _CROWDED:
            for label in axis.get_xticklabels():
                label.set(rotation=25, ha="right", rotation_mode="anchor")
        return np.array([choices.index(value) for value in given], dtype=float) + 0.5 * jitter
    x = given.to_numpy(dtype=float)
    assert knob.low is not None  # a searched knob's range is stated
    assert knob.high is not None
    if knob.log:
        ink.logarithmic(axis, knob.low, knob.high)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=knob.kind == "int"))
    axis.set_xlim(*_padded(knob.low, knob.high, knob.log))
    return x


def _padded(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        factor = (high / low) ** 0.04
        return low / factor, high * factor
    return low - 0.04 * (high - low), high + 0.04 * (high - low)
