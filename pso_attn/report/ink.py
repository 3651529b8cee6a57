"""How every picture looks: colours, type, axes, and the scale that the data asks for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from pso_attn.report.words import number, short

# Okabe & Ito (2008): told apart by every kind of colour vision
BEST = "#0072B2"
DEFAULTS = "#D55E00"
TEST = "#009E73"
SOFT = "#56B4E9"
PRUNED = "#9a9a9a"
INFEASIBLE = "#CC79A7"
TEXT = "#1f2328"
QUIET = "#626a73"
GRID = "#e4e7ea"
# those that lines are told apart by, the palest last; a second round of them is dashed
_LINES = (BEST, DEFAULTS, TEST, INFEASIBLE, TEXT, "#E69F00", SOFT)
# light to dark in one hue, so that late generations stand out and grey print keeps the order
TIME = LinearSegmentedColormap.from_list("time", ["#abd0e8", "#4f9fcf", BEST, "#062c47"])
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))

WIDTH_IN = 9.0  # at 100 dots per inch the 900 pixels of the page
DPI = 200
SMALL, PLAIN, LARGE = 9.5, 10.5, 11.5
_DECADES = 30.0  # ratio of the upper quartile to the best from which a log axis reads better
_FENCE = 3.0  # interquartile ranges beyond the quartile that count as outliers, Tukey's "far out"
_CROWDED = 3.0  # an axis is cut if its outliers would stretch it by more than this
_STRETCH = 10.0  # and by no more than this for the sake of one value that should be seen


@dataclass(frozen=True)
class Scale:
    """An axis that shows the data: linear, log, or linear and cut where outliers begin.

    low, high: what is visible, None where matplotlib may choose. note: said in the caption.
    decades: that a logarithmic one spans.
    """

    kind: Literal["linear", "log"] = "linear"
    low: float | None = None
    high: float | None = None
    note: str = ""
    decades: float = 0.0

    def apply(self, axis: Axes, ticks: int = 12) -> None:
        """Give the y axis this scale, and about as many ticks where it is logarithmic."""
        if self.kind == "log":
            axis.set_yscale("log")
            steps = _log_steps(self.decades, ticks)
            axis.yaxis.set_major_locator(LogLocator(subs=steps, numticks=ticks))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: short(y)))
            axis.yaxis.set_minor_formatter(NullFormatter())
        if (self.low, self.high) != (None, None):
            axis.set_ylim(self.low, self.high)

    def shows(self, value: float) -> bool:
        """Tell whether a value lies on the axis."""
        return bool(self.clip(np.array([value]))[0] == value)

    def clip(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values with what lies outside put on the edge."""
        return np.clip(values, self.low, self.high)


def scale_for(
    values: Iterable[float], maximise: bool = False, keep: Iterable[float] = ()
) -> Scale:
    """Return the scale under which most of the values can be told apart.

    Log where all are positive and span more than a factor of thirty without their worst
    quarter; cut where the worst lie beyond Tukey's far fence. The best is never cut, and what
    is to `keep`, lines beside the values, is not unless it would squeeze everything else.
    """
    given = np.asarray(list(values), dtype=float)
    given = given[np.isfinite(given)]
    if len(given) == 0:
        return Scale()
    kept = np.asarray(list(keep), dtype=float)
    losses, kept = (-given, -kept) if maximise else (given, kept)
    least = min(losses.min(), kept.min(initial=np.inf))
    if least == max(losses.max(), kept.max(initial=-np.inf)):
        around = max(abs(given[0]) * 0.05, 0.01)
        return Scale(low=given[0] - around, high=given[0] + around, note="All values are equal.")
    if not maximise and least > 0 and np.quantile(losses, 0.75) > _DECADES * least:
        span = float(np.log10(max(losses.max(), kept.max(initial=least)) / least))
        return Scale("log", note="The axis is logarithmic.", decades=span)
    lower, upper = np.quantile(losses, [0.25, 0.75])
    fence = upper + _FENCE * (upper - lower)
    near = kept[kept - least <= _STRETCH * (fence - least)]
    fence = max(fence, near.max(initial=fence))
    inside = losses[losses <= fence]
    if np.ptp(losses) <= _CROWDED * np.ptp(inside) or np.ptp(inside) == 0:
        return Scale()
    span = inside.max() - least
    edge, best = max(inside.max(), near.max(initial=least)) + 0.06 * span, least - 0.1 * span
    beyond = len(losses) - len(inside)
    side, furthest = ("below", given.min()) if maximise else ("above", given.max())
    said = f"{beyond} of {len(losses)} lie {side} the axis, up to {number(furthest)}."
    return Scale(low=-edge if maximise else best, high=-best if maximise else edge, note=said)


def look(place: int) -> tuple[str, Any]:
    """Return colour and dash of the line at that place among several."""
    return _LINES[place % len(_LINES)], _DASHES[place // len(_LINES) % len(_DASHES)]


def logarithmic(axis: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic, with as many ticks as there is room for."""
    axis.set_xscale("log")
    steps = _log_steps(float(np.log10(high / low)), 4.5)
    axis.xaxis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _log_steps(decades: float, ticks: float) -> tuple[float, ...]:
    """Return the ticks of one decade, such that those of all are about so many at most."""
    return next(
        (steps for steps in ((1.0, 2.0, 5.0), (1.0, 3.0)) if len(steps) * decades <= ticks), (1.0,)
    )


def sheet(
    height_in: float, rows: int = 1, columns: int = 1, share_y: bool = False
) -> tuple[Figure, list[Axes]]:
    """Return a figure of the page's width and its axes, row by row."""
    spacing = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.05)
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout=spacing)
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharey=share_y).flat)


def dress(axis: Axes, x: str = "", y: str = "", title: str = "", grid: str = "y") -> None:
    """Leave only what is read: two spines, quiet ticks, a faint grid, labels with units."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#b6bcc3")
    axis.tick_params(colors=QUIET, labelcolor=TEXT, labelsize=SMALL, length=3)
    axis.tick_params(which="minor", length=0)
    axis.set_axisbelow(True)
    if grid:
        axis.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]  # "x", "y" or "both"
    axis.set_xlabel(x, fontsize=PLAIN, color=TEXT)
    axis.set_ylabel(y, fontsize=PLAIN, color=TEXT)
    axis.set_title(title, fontsize=LARGE, color=TEXT, loc="left")


def whole_numbers(axis: Axes) -> None:
    """Let the x axis tick at whole numbers alone, large ones grouped by thousands."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7, min_n_ticks=1))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))


def key(figure: Figure, columns: int = 5, last_first: bool = False) -> None:
    """Put the legend of the first axes above the plots, where it covers nothing.

    last_first: begin with what was drawn last, on top.
    """
    handles, labels = figure.axes[0].get_legend_handles_labels()
    order = -1 if last_first else 1
    figure.legend(
        handles[::order],
        labels[::order],
        loc="outside upper left",
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        labelcolor=TEXT,
    )


def timed(seconds: float) -> tuple[float, str]:
    """Return how many seconds make one unit of a time axis that long, and the unit's sign."""
    if seconds < 180:
        return 1.0, "s"
    return (60.0, "min") if seconds < 3 * 3600 else (3600.0, "h")
