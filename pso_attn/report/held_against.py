"""A search for weights beside what it is held against, in words and as a table's rows.

The rows of the control are all scored on the same examples; while a search goes on there is none,
and trials are what they were on their own examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pso_attn.report.inputs import ReportInput, SearchedWeights
from pso_attn.report.words import count, number

COSTS = ("parameters", "flops", "memory_bytes")  # metrics that are not the task's
UNTOUCHED, GRADIENT, BEST = "untouched", "gradient", "best"
UNFINISHED = (
    "The search has not finished: gradient descent at equal compute is put beside it once it has."
)


@dataclass(frozen=True, eq=False)
class Reference:
    """A value that a search is held against.

    curve: (n, 3), evaluations, seconds and the value then, of what came to it step by step.
    """

    label: str
    value: float
    curve: NDArray[np.float64] | None = None

    @property
    def values(self) -> list[float]:
        """Every value that should be seen."""
        return [self.value, *([] if self.curve is None else self.curve[:, 2].tolist())]


def sentence(run: ReportInput, trial: int, best: float | None, untouched: float | None) -> str:
    """Return what was found; best, untouched: the objective of two trials, on their examples."""
    assert run.weights is not None
    rows = run.weights.rows
    tested = "" if run.confirmation else " It is not scored on the test split yet."
    if not rows.keys() >= {UNTOUCHED, GRADIENT, BEST}:
        return (
            f"Trial {trial} reached a {run.measured} of {number(best)}, and the untouched weights "
            f"{number(untouched)}, {seen(run.weights)}. {UNFINISHED}{tested}"
        )
    ours, before, descended = (number(rows[row]["fitness"]) for row in (BEST, UNTOUCHED, GRADIENT))
    return (
        f"The best weights, of trial {trial}, have a {run.measured} of {ours}, the untouched ones "
        f"{before}, and what gradient descent reaches at equal compute {descended}, all on the "
        f"same examples.{tested}"
    )


def caution(run: ReportInput, is_untouched: bool) -> str:
    """Return what speaks against the best weights, empty where nothing does.

    is_untouched: whether the best are the untouched ones themselves.
    """
    assert run.weights is not None
    rows = run.weights.rows
    if BEST not in rows:
        return ""
    losses = {
        name: run.objective.loss(row["fitness"])
        for name, row in rows.items()
        if row["fitness"] is not None
    }
    ours = losses.get(BEST, float("inf"))
    said = []
    if losses.get(UNTOUCHED, float("inf")) <= ours and not is_untouched:
        said.append(
            "They are no better than the untouched ones there: their lead was luck with the "
            "examples that the search scored them on."
        )
    others = [
        "gradient descent" if name == GRADIENT else f"the {name}"
        for name, loss in losses.items()
        if name not in (BEST, UNTOUCHED) and loss < ours
    ]
    if others:
        ahead = f"{others[0].capitalize()} is" if len(others) == 1 else "Others are"
        said.append(f"{ahead} ahead of the search here; see the table.")
    return " ".join(said)


def seen(weights: SearchedWeights) -> str:
    """Return on what a trial was scored, in words."""
    if not weights.examples:
        return f"each on the whole {weights.split} split"
    what = count(weights.examples, "example")
    return f"each on {what} of the {weights.split} split that its generation drew"


def of_task(metrics: Mapping[str, Any]) -> list[str]:
    """Return which of a trial's metrics are the task's, taken on the validation split."""
    return [name for name in metrics if name not in COSTS]


def table(
    run: ReportInput, trials: Mapping[str, Mapping[str, Any]]
) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """Return a caption, columns and rows: what the search is held against, and its best.

    trials: rows as the control has them, of the untouched and the best trial, where there is none.
    """
    assert run.weights is not None
    rows = run.weights.rows or trials
    said = "All on the same examples of each split: all of them, where they are not very many."
    if not run.weights.rows:
        said = f"Trials, {seen(run.weights)}. {UNFINISHED}"
    metrics = list(dict.fromkeys(name for row in rows.values() for name in row["validation"]))
    columns = ("weights", run.measured, *(f"validation {metric}" for metric in metrics))
    shown = [
        (
            _who(name, row),
            number(row["fitness"]),
            *(number(row["validation"].get(metric)) for metric in metrics),
        )
        for name, row in rows.items()
    ]
    return said, columns, shown


def references(weights: SearchedWeights) -> list[Reference]:
    """Return the lines that a picture of the search has beside it; none without a control."""
    return [
        Reference(
            "gradient descent" if name == GRADIENT else name,
            row["fitness"],
            np.array(row["curve"], dtype=float) if row.get("curve") else None,
        )
        for name, row in weights.rows.items()
        if name != BEST and row["fitness"] is not None
    ]


def _who(name: str, row: Mapping[str, Any]) -> str:
    if name == GRADIENT:
        return f"gradient descent, {count(row['steps'], 'step')}" if "steps" in row else name
    if name == BEST:
        return f"best of the search, trial {row['trial']}" if "trial" in row else name
    return name
