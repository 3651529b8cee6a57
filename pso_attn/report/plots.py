"""What happened over time, as pictures; no function here touches global state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from pso_attn.report import ink
from pso_attn.report.held_against import Reference
from pso_attn.report.inputs import VALIDATION
from pso_attn.report.words import number
from pso_attn.types import Objective

_UNIFORM = 1 / np.sqrt(12)  # root mean square distance to the centre of a uniform coordinate
_MOST_CURVES = 150  # of one ending; more hide each other
_FEW = 8  # points of a line below which each is marked
_ENDED = {
    "complete": ink.SOFT,
    "infeasible": ink.INFEASIBLE,  # a study may know its constraints after training alone
    "pruned": ink.PRUNED,
    "failed": ink.TEXT,
}
_CUT_SHORT = ("pruned", "failed")
_MARKED = {"defaults": ink.DEFAULTS, "best": ink.BEST}  # the best is drawn last, on top


def convergence(
    trials: pd.DataFrame,
    batches: pd.DataFrame,
    objective: Objective,
    references: Sequence[Reference],
    scale: ink.Scale,
    split: str = VALIDATION,
    time: str = "training time",
) -> Figure:
    """Draw the best so far and the batches' quartiles against evaluations and against seconds.

    trials, batches: `convergence_frame` and `batches_frame`. references: a line each. split: what
    the objective was taken on, empty if nobody said. time: what the seconds are, in words.
    """
    figure, (left, right) = ink.sheet(4.3, columns=2, share_y=True)
    unit, sign = ink.timed(float(trials["seconds"].max()))
    for axis, spent, divisor in ((left, "evaluations", 1.0), (right, "seconds", unit)):
        _spent(axis, trials, batches, spent, divisor, scale)
        for place, reference in enumerate(references, start=1):
            _refer(axis, reference, place, spent, divisor)
        axis.margins(y=0.09)
        scale.apply(axis)
        axis.set_xlim(left=0)
    ink.dress(left, "evaluations", axis_name(split, objective))
    ink.dress(right, f"{time} ({sign})")
    ink.whole_numbers(left)
    _name_best(left, trials, objective)
    ink.key(figure)
    return figure


def learning_curves(
    curves: pd.DataFrame,
    objective: Objective,
    rungs: Sequence[int],
    marked: Mapping[str, int],
    scale: ink.Scale,
    split: str = VALIDATION,
) -> Figure:
    """Draw every learning curve, pruned ones grey to where they left, rungs as dotted lines.

    curves: `curves_frame`. marked: the trials of "best" and "defaults", drawn on top.
    """
    figure, (axis,) = ink.sheet(4.6)
    lines = {
        trial: (str(curve["ending"].iloc[0]), curve[["step", "value"]].to_numpy(dtype=float))
        for trial, curve in curves.groupby("trial")
    }
    for ending in ("complete", "infeasible", "pruned"):
        _bundle(axis, [points for ended, points in lines.values() if ended == ending], ending)
    for name in (name for name in _MARKED if marked.get(name) in lines):
        points = lines[marked[name]][1]
        dot = "o" if len(points) < _FEW else ""
        label = f"{name} (trial {marked[name]})"
        axis.plot(points[:, 0], points[:, 1], color=_MARKED[name], lw=2.4, marker=dot, label=label)
    scale.apply(axis)  # before its limits are kept: those of a linear axis may be below 0
    axis.autoscale_view()
    axis.autoscale(not axis.lines)  # a failed curve may explode; it stretches no axis
    _bundle(axis, [points for ended, points in lines.values() if ended == "failed"], "failed")
    for step in rungs:
        _rung(axis, step)
    ink.dress(axis, "training step", axis_name(split, objective))
    ink.whole_numbers(axis)
    axis.set_xlim(left=0)
    ink.key(figure)
    return figure


def diversity(frame: pd.DataFrame) -> Figure:
    """Draw how far the swarm is spread over the generations, and how many categories it holds."""
    panels = [name for name in ("distance", "kinds") if frame[name].notna().any()]
    figure, axes = ink.sheet(3.4, columns=len(panels))
    dots = "o" if len(frame) <= 40 else ""
    for axis, name in zip(axes, panels, strict=True):
        axis.plot(frame["generation"], frame[name], color=ink.BEST, lw=2, marker=dots, ms=4)
        if name == "distance":
            ink.dress(axis, "generation", "mean distance to the centroid\n(share of a side)")
            axis.axhline(_UNIFORM, color=ink.QUIET, lw=1, ls=":")
            axis.annotate(
                "scattered evenly",
                (1.0, _UNIFORM),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                fontsize=ink.SMALL,
                color=ink.QUIET,
                ha="right",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
            axis.set_ylim(0, max(0.36, 1.1 * float(frame["distance"].max())))
        else:
            ink.dress(axis, "generation", "categories held\n(share of those there are)")
            axis.set_ylim(0, 1.05)
            axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        ink.whole_numbers(axis)
    return figure


def axis_name(split: str, objective: Objective) -> str:
    """Return the label of an axis that shows the objective, and which way is better."""
    better = "higher" if objective.direction == "maximize" else "lower"
    return f"{split} {objective.name} ({better} is better)".lstrip()


def _spent(
    axis: Axes,
    trials: pd.DataFrame,
    batches: pd.DataFrame,
    spent: str,
    divisor: float,
    scale: ink.Scale,
) -> None:
    done = trials.dropna(subset="value")
    x, values = _numbers(done[spent]) / divisor, _numbers(done["value"])
    shown, faint = scale.clip(values), max(0.2, _faint(len(done) // 3))
    for part, shape in ((shown == values, "o"), (shown != values, "^")):
        if not part.any():
            continue  # an empty line that is not clipped has no place, and breaks the layout
        style: Any = {"color": ink.PRUNED, "alpha": faint, "clip_on": False, "mew": 0}
        axis.plot(x[part], shown[part], shape, ms=3.5 if shape == "o" else 6, **style)
    axis.plot([], [], "o", color=ink.PRUNED, ms=4, label="one evaluation")
    over, dot = _numbers(batches[spent]) / divisor, "o" if len(batches) < _FEW else ""
    low, high = _numbers(batches["q25"]), _numbers(batches["q75"])
    axis.fill_between(over, low, high, color=ink.SOFT, alpha=0.28, lw=0, label="middle half")
    axis.plot(over, _numbers(batches["median"]), color=ink.SOFT, marker=dot, ms=4, label="median")
    best = trials.dropna(subset="best")
    spent_by = np.append(_numbers(best[spent]), trials[spent].iloc[-1]) / divisor
    reached = np.append(_numbers(best["best"]), best["best"].iloc[-1])
    axis.step(spent_by, reached, where="post", color=ink.BEST, lw=2.4, label="best so far")


def _refer(axis: Axes, reference: Reference, place: int, spent: str, divisor: float) -> None:
    """Draw what a search is held against: a line across, and the way to it where it is known."""
    style: Any = {"color": ink.look(place)[0], "lw": 1.4}
    axis.axhline(reference.value, ls=(0, (5, 3)), label=reference.label, **style)
    if reference.curve is not None:
        x = reference.curve[:, 0 if spent == "evaluations" else 1] / divisor
        axis.plot(x, reference.curve[:, 2], alpha=0.7, **style)


def _name_best(axis: Axes, trials: pd.DataFrame, objective: Objective) -> None:
    """Write the best value on the side of its line where no evaluation can be."""
    above = objective.direction == "maximize"
    axis.annotate(
        number(trials["best"].iloc[-1]),
        (trials["evaluations"].iloc[-1], trials["best"].iloc[-1]),
        xytext=(0, 5 if above else -5),
        textcoords="offset points",
        fontsize=ink.PLAIN,
        color=ink.BEST,
        weight="bold",
        ha="right",
        va="bottom" if above else "top",
    )


def _bundle(axis: Axes, curves: Sequence[NDArray[np.float64]], ending: str) -> None:
    """Draw curves (points, 2) that ended alike; a cross ends those that were cut short."""
    if not curves:
        return
    drawn = curves[:: -(-len(curves) // _MOST_CURVES)]
    shown = f"{len(drawn)} of {len(curves):,}" if len(drawn) < len(curves) else f"{len(curves)}"
    colour, faint = _ENDED[ending], _faint(len(drawn))
    axis.add_collection(LineCollection(drawn, colors=colour, alpha=faint, linewidths=1))
    axis.plot([], [], color=colour, label=f"{ending} ({shown})")
    if ending in _CUT_SHORT:
        ends = np.array([points[-1] for points in drawn])
        axis.plot(ends[:, 0], ends[:, 1], "x", color=colour, ms=5, alpha=min(1.0, 2 * faint))


def _rung(axis: Axes, step: int) -> None:
    axis.axvline(step, color=ink.QUIET, lw=1, ls=":", zorder=0.5)
    axis.annotate(
        f"rung {step:,}",
        (step, 1.0),
        annotation_clip=True,  # every particle may have failed before it
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        fontsize=ink.SMALL,
        color=ink.QUIET,
        va="top",
    )


def _faint(marks: int) -> float:
    """Return the opacity at which that many marks still show where they are dense."""
    return float(np.clip(7 / max(1, marks) ** 0.6, 0.1, 0.7))


def _numbers(column: "pd.Series[Any]") -> NDArray[np.float64]:
    return column.to_numpy(dtype=float)
