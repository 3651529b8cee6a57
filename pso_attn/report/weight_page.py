"""The sections of a page that only a search for weights has."""

from collections.abc import Mapping
from html import escape
from typing import Any

from pso_attn.report import held_against, markup
from pso_attn.report.findings import Findings, value
from pso_attn.report.inputs import ReportInput
from pso_attn.report.picture import Picture
from pso_attn.types import Trial


def controls(run: ReportInput, found: Findings) -> str:
    """Return the table of what the search is held against, and its best."""
    rows = {
        name: _row(trial)
        for name, trial in (
            (held_against.UNTOUCHED, found.defaults),
            (held_against.BEST, found.best),
        )
        if trial is not None
    }
    if not rows:
        return ""
    said, columns, shown = held_against.table(run, rows)
    figures = tuple(range(1, len(columns)))
    return markup.section(
        "Untouched, by gradients, by the swarm", markup.table(said, columns, shown, figures)
    )


def changed(pictures: Mapping[str, Picture]) -> tuple[str, ...]:
    """Return the sections of what the search changed: matrices, and whom tokens attend to."""
    attention, heads = pictures["attention"], pictures["heads"]
    return (
        markup.section("Matrices before and after", markup.figure(pictures["matrices"])),
        markup.section(
            attention.title,
            markup.figure(attention),
            *(() if heads.png is None else (_under(heads),)),
        ),
    )


def swarm(pictures: Mapping[str, Picture]) -> str:
    """Return the section of where the swarm was, and how far it was spread."""
    return markup.section(
        "The swarm", markup.figure(pictures["swarm"]), _under(pictures["diversity"])
    )


def left_out(run: ReportInput) -> str:
    """Return the section that says what other reports have and this one has no use for."""
    said = "Weights are scored and not trained from a start, so there are no learning curves."
    if not run.space.coordinates:
        said = (
            "No setting was searched, so there is none that mattered, and none beside the "
            f"defaults. {said}"
        )
    return markup.section("What is left out", markup.paragraph(said))


def _under(picture: Picture) -> str:
    """Return a picture under a heading of its own."""
    return f"<h3>{escape(picture.title)}</h3>{markup.figure(picture)}"


def _row(trial: Trial) -> dict[str, Any]:
    """Return a trial as a control has its rows."""
    metrics = trial.outcome.metrics
    return {
        "fitness": value(trial),
        "validation": {name: metrics[name] for name in held_against.of_task(metrics)},
        "trial": trial.number,
    }
