"""The pictures of one run: drawn where there is something to see, else a sentence says why."""

import pandas as pd

from pso_attn.report import comparisons, frames, held_against, ink, plots
from pso_attn.report.findings import Findings, row_name, value
from pso_attn.report.importances import Importances, importances
from pso_attn.report.inputs import ReportInput
from pso_attn.report.picture import Picture, drawn, missing
from pso_attn.report.weight_gallery import weight_pictures
from pso_attn.report.words import count, duration, number


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
        *(() if run.weights is None else weight_pictures(run, found)),
    )
    return {picture.name: picture for picture in made}


def _convergence(run: ReportInput, found: Findings) -> Picture:
    title = "Convergence"
    trials = frames.convergence_frame(run.history)
    done = trials.dropna(subset="value")
    if done.empty:
        return missing("convergence", title, f"{_without_values(found)}, so nothing converged.")
    references = _references(run, found)
    kept = [seen for reference in references for seen in reference.values]
    scale = ink.scale_for(done["value"], _maximise(run), kept)
    batches = frames.batches_frame(run.history)
    lines = plots.convergence(
        trials, batches, run.objective, references, scale, run.split, run.time
    )
    beyond = "".join(
        f" The value of {reference.label}, {number(reference.value)}, lies beyond the axis."
        for reference in references
        if not scale.shows(reference.value)
    )
    first, last = done["best"].iloc[0], done["best"].iloc[-1]
    held = f"of {batches['of'].iloc[0]} evaluations in a row" if len(batches) else "of a batch"
    return drawn(
        "convergence",
        title,
        f"The best {run.measured} went from {number(first)} to {number(last)} "
        f"over {count(len(trials), 'evaluation')} and {duration(trials['seconds'].iloc[-1])} "
        f"of {run.time}.",
        f"Best so far, and median and middle half {held}, of the evaluations that ran in full; "
        "pruned and failed ones cost evaluations and time and are not drawn. Seconds are "
        f"{run.time}, summed over trials. {_beside(run)}{scale.note}{beyond}",
        lines,
    )


def _without_values(found: Findings) -> str:
    """Return why there is nothing to draw, as a sentence without its end."""
    return f"No evaluation completed{' with a finite value' if found.endings['complete'] else ''}"


def _references(run: ReportInput, found: Findings) -> list[held_against.Reference]:
    """Return what the run's values are held against."""
    if run.weights is not None:
        return held_against.references(run.weights)
    default = value(found.defaults)
    return [] if default is None else [held_against.Reference("defaults", default)]


def _beside(run: ReportInput) -> str:
    """Return how the controls' lines are read, where weights were searched."""
    if run.weights is None:
        return ""
    said = f"Trials are scored {held_against.seen(run.weights)}. "
    if not run.weights.rows:
        return f"{said}{held_against.UNFINISHED} "
    return (
        f"{said}Lines across are what stands beside the search, all on the same examples; that of "
        "gradient descent comes with its way there, a training step counted as the forward passes "
        "that it costs. "
    )


def _finalists(run: ReportInput) -> Picture:
    title = "Search and test side by side"
    rows = (run.confirmation or {}).get("rows", ())
    if not rows:
        return missing("finalists", title, "")
    name = run.objective.name
    shown = (
        f"{row_name(row, run.unchanged)}: test {name} "
        f"{number(row.get('test', {}).get(name, {}).get('mean'))}"
        for row in rows
    )
    each, ones = "Each small dot is a training with a fresh seed", ""
    if run.weights is not None:
        each, ones = "Each small dot is a part of the test split", " weights"
    return drawn(
        "finalists",
        title,
        "; ".join(shown) + ".",
        f"{each}, the bar one standard deviation. Where a finalist's gap between {run.split} and "
        f"test is wider than that of the {run.unchanged}{ones}, the search's lead was partly "
        "luck.",
        comparisons.finalists(rows, run.objective, run.split, run.unchanged),
    )


def _importances(found: Importances) -> Picture:
    title = "Importances"
    if not found.shares:
        return missing("importances", title, found.note)
    alt = ", ".join(f"{name} {share:.0%}" for name, share in list(found.shares.items())[:8])
    bars = comparisons.importance_bars(found.shares)
    return drawn("importances", title, f"{alt}.", found.note, bars)


def _knobs(
    run: ReportInput, found: Findings, trials: pd.DataFrame, shares: Importances
) -> Picture:
    title = "Settings against the objective"
    complete = trials[(trials["state"] == "COMPLETE") & (_finite(trials, run))]
    if complete.empty or not run.space.coordinates:
        return missing("knobs", title, f"{_without_values(found)}.")
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
        comparisons.knob_panels(complete, ordered, run.objective, scale, best, run.split),
    )


def _curves(run: ReportInput, found: Findings) -> Picture:
    title = "Learning curves"
    curves = frames.curves_frame(run.history)
    if curves.empty:
        return missing("curves", title, "No trial reported a learning curve.")
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
        plots.learning_curves(curves, run.objective, run.rungs, marked, scale, run.split),
    )


def _diversity(run: ReportInput) -> Picture:
    title = "Swarm diversity"
    if run.is_foreign:
        return missing("diversity", title, "A study has no swarm.")
    frame = frames.diversity_frame(run.history, run.space)
    if len(frame) < 2:
        return missing("diversity", title, "Diversity needs at least two generations.")
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


def _maximise(run: ReportInput) -> bool:
    return run.objective.direction == "maximize"


def _finite(trials: pd.DataFrame, run: ReportInput) -> "pd.Series[bool]":
    values = pd.to_numeric(trials[f"values.{run.objective.name}"])
    return values.abs() < float("inf")
