"""The pictures of one run: drawn where there is something to see, else a sentence says why."""

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

from pso_attn.report import comparisons, frames, ink, plots
from pso_attn.report.findings import Findings, value
from pso_attn.report.importances import Importances, importances
from pso_attn.report.inputs import ReportInput
from pso_attn.report.words import count, duration, number

NAMES = ("convergence", "finalists", "importances", "knobs", "curves", "diversity")


@dataclass(frozen=True)
class Picture:
    """One picture: its file's name without ending, what it shows in words, and its bytes.

    alt: for those who cannot see it. caption: how to read it, or why there is none.
    """

    name: str
    title: str
    alt: str
    caption: str
    png: bytes | None


def gallery(run: ReportInput, found: Findings) -> dict[str, Picture]:
    """Return every picture by name, in the page's order."""
    trials = frames.trials_frame(run.history)
    made = (
        _convergence(run, found),
        _finalists(run),
        _importances(shares := importances(run.study)),
        _knobs(run, found, trials, shares),
        _curves(run, found),
        _diversity(run),
    )
    return {picture.name: picture for picture in made}


def _convergence(run: ReportInput, found: Findings) -> Picture:
    title = "Convergence"
    trials = frames.convergence_frame(run.history)
    done = trials.dropna(subset="value")
    if done.empty:
        return _none("convergence", title, "No evaluation completed, so nothing converged.")
    maximise = run.objective.direction == "maximize"
    default = value(found.defaults)
    scale = ink.scale_for(done["value"], maximise, keep=default)
    batches = frames.batches_frame(run.history)
    lines = plots.convergence(trials, batches, run.objective, default, scale, _split(run))
    beyond = ""
    if default is not None and not scale.shows(default):
        beyond = f" The defaults' {number(default)} lies beyond the axis."
    first, last = done["best"].iloc[0], done["best"].iloc[-1]
    held = f"of {batches['of'].iloc[0]} evaluations in a row" if len(batches) else "of a batch"
    return drawn(
        "convergence",
        title,
        f"The best {run.measured} went from {number(first)} to {number(last)} "
        f"over {count(len(trials), 'evaluation')} and {duration(trials['seconds'].iloc[-1])} "
        "of training.",
        f"Best so far, and median and middle half {held}, of the evaluations that ran in full; "
        "pruned and failed ones cost evaluations and time and are not drawn. Seconds are training "
        f"time, summed over trials. {scale.note}{beyond}",
        lines,
    )


def _finalists(run: ReportInput) -> Picture:
    title = "Search and test side by side"
    rows = (run.confirmation or {}).get("rows", ())
    if not rows:
        return _none("finalists", title, "")
    name = run.objective.name
    shown = (
        f"{row['role']} {row['rank']}: test {name} "
        f"{number(row.get('test', {}).get(name, {}).get('mean'))}"
        for row in rows
    )
    return drawn(
        "finalists",
        title,
        "; ".join(shown) + ".",
        "Each small dot is a training with a fresh seed, the bar one standard deviation. Where a "
        "finalist's gap between validation and test is wider than that of the defaults, the "
        "search's lead was partly luck.",
        comparisons.finalists(rows, run.objective),
    )


def _importances(found: Importances) -> Picture:
    title = "Importances"
    if not found.shares:
        return _none("importances", title, found.note)
    alt = ", ".join(f"{name} {share:.0%}" for name, share in list(found.shares.items())[:8])
    bars = comparisons.importance_bars(found.shares)
    return drawn("importances", title, f"{alt}.", found.note, bars)


def _knobs(
    run: ReportInput, found: Findings, trials: pd.DataFrame, shares: Importances
) -> Picture:
    title = "Settings against the objective"
    complete = trials[(trials["state"] == "COMPLETE") & (_finite(trials, run))]
    if complete.empty or not run.space.coordinates:
        return _none("knobs", title, "No evaluation completed.")
    ranks = {name: rank for rank, name in enumerate(shares.shares)}
    ordered = sorted(run.space.coordinates, key=lambda c: ranks.get(c.name, len(ranks)))
    scale = ink.scale_for(complete[f"values.{run.objective.name}"], _maximise(run))
    best = found.best.number if found.best is not None else None
    cut = len(ordered) - comparisons.MOST_PANELS
    return drawn(
        "knobs",
        title,
        f"One small plot for each of {min(len(ordered), comparisons.MOST_PANELS)} settings: the "
        f"values that were tried against the {run.measured}.",
        "Every dot is a complete evaluation, darker the later; the ring is the best. "
        + (f"The {comparisons.MOST_PANELS} of {len(ordered)} that come first. " if cut > 0 else "")
        + scale.note,
        comparisons.knob_panels(complete, ordered, run.objective, scale, best, _split(run)),
    )


def _curves(run: ReportInput, found: Findings) -> Picture:
    title = "Learning curves"
    curves = frames.curves_frame(run.history)
    if curves.empty:
        return _none("curves", title, "No trial reported a learning curve.")
    marked = {
        name: trial.number
        for name, trial in (("defaults", found.defaults), ("best", found.best))
        if trial is not None
    }
    going = curves.loc[curves["ending"] != "failed", "value"]
    scale = ink.scale_for(going if len(going) else curves["value"], _maximise(run))
    leaving = "At a rung the worst third leaves: a pruned curve ends there"
    if run.is_foreign:
        leaving = "A pruned curve ends"
    ends = curves.groupby("trial")["ending"].first().value_counts()
    shown = ", ".join(f"{amount} {name}" for name, amount in ends.items())
    return drawn(
        "curves",
        title,
        f"{run.measured.capitalize()} against training steps: {shown}.",
        f"{leaving} with a cross. A failed one may leave the picture. {scale.note}",
        plots.learning_curves(curves, run.objective, run.rungs, marked, scale, _split(run)),
    )


def _diversity(run: ReportInput) -> Picture:
    title = "Swarm diversity"
    if run.is_foreign:
        return _none("diversity", title, "A study has no swarm.")
    frame = frames.diversity_frame(run.history, run.space)
    if len(frame) < 2:
        return _none("diversity", title, "Diversity needs at least two generations.")
    first, last = frame["distance"].iloc[0], frame["distance"].iloc[-1]
    return drawn(
        "diversity",
        title,
        f"The mean distance to the centroid went from {number(first, 2)} to {number(last, 2)} "
        f"over {count(len(frame), 'generation')}.",
        "How far the particles are apart in the unit cube. Near zero the swarm looks in one place "
        "only; if the loss was still falling, it gathered too early.",
        plots.diversity(frame),
    )


def drawn(name: str, title: str, alt: str, caption: str, figure: Figure) -> Picture:
    """Return a figure as a picture."""
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()  # type: ignore[no-untyped-call]  # untyped; and once: `savefig` draws twice
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]  # untyped
    imsave(buffer, pixels, format="png", dpi=ink.DPI)
    return Picture(name, title, alt, caption.strip(), buffer.getvalue())


def _none(name: str, title: str, why: str) -> Picture:
    return Picture(name, title, "", why, None)


def _split(run: ReportInput) -> str:
    return "" if run.is_foreign else plots.VALIDATION


def _maximise(run: ReportInput) -> bool:
    return run.objective.direction == "maximize"


def _finite(trials: pd.DataFrame, run: ReportInput) -> "pd.Series[bool]":
    values = pd.to_numeric(trials[f"values.{run.objective.name}"])
    return values.abs() < float("inf")
