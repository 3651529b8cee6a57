"""A run's history as pandas frames, one row for each thing that a picture or a table shows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from pso_attn.report.endings import ending
from pso_attn.report.words import setting
from pso_attn.space import Space
from pso_attn.types import History, Trial

SMALLEST_BATCH = 4  # quartiles of fewer evaluations than this say nothing
_ENOUGH = 8  # evaluations put together where batches are smaller
_MOST_BATCHES = 60  # rows beyond which batches are put together too: a line of more is noise


def trials_frame(history: History) -> pd.DataFrame:
    """Return one row for each trial, in order of its number.

    Columns: number, generation, particle, state, values.NAME (as itself, not negated),
    fidelity, seconds, seeds (separated by blanks), metrics.NAME, params.NAME, error.
    """
    rows = [_row(history, trial) for trial in history.trials]
    fixed = ["number", "generation", "particle", "state"]
    values = [f"values.{objective.name}" for objective in history.objectives]
    spent = ["fidelity", "seconds", "seeds"]
    named = dict.fromkeys(name for row in rows for name in row)  # in order of appearance
    groups = [[n for n in named if n.startswith(p)] for p in ("metrics.", "params.")]
    columns = [*fixed, *values, *spent, *groups[0], *groups[1], "error"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def convergence_frame(history: History) -> pd.DataFrame:
    """Return one row for each trial: evaluations and seconds spent by then, and the best so far.

    Columns: trial, evaluations (from 1), seconds (of training, cumulative), ending, value (of
    the first objective, NaN unless complete), best (NaN before the first complete one).
    """
    objective = history.objectives[0]
    trials = history.trials
    complete = np.array([trial.is_full for trial in trials], dtype=bool)
    losses = np.array([history.loss(trial) for trial in trials], dtype=float)
    losses = np.where(complete & np.isfinite(losses), losses, np.inf)
    best = np.minimum.accumulate(losses) if len(losses) else losses
    sign = -1.0 if objective.direction == "maximize" else 1.0
    return pd.DataFrame(
        {
            "trial": np.array([trial.number for trial in trials], dtype=int),
            "evaluations": np.arange(1, len(trials) + 1),
            "seconds": np.cumsum([trial.outcome.seconds for trial in trials], dtype=float),
            "ending": pd.array([ending(trial) for trial in trials], dtype="str"),
            "value": np.where(np.isfinite(losses), sign * losses, np.nan),
            "best": np.where(np.isfinite(best), sign * best, np.nan),
        }
    )


def batches_frame(history: History) -> pd.DataFrame:
    """Return one row for each batch: the quartiles of its complete evaluations.

    Columns: evaluations and seconds at the batch's end, q25, median, q75, of (how many trials
    the row holds). Batches below four are put together to eight, for quartiles of fewer say
    nothing, and more than sixty to at most sixty. Rows in which nothing completed are left out.
    """
    frame = convergence_frame(history)
    size = max((len(generation) for generation in history.generations), default=1)
    held = size if size >= SMALLEST_BATCH else size * -(-_ENOUGH // size)
    held *= max(1, -(-len(frame) // (held * _MOST_BATCHES)))
    batch = frame["evaluations"].sub(1).floordiv(held)
    grouped = frame.groupby(batch)
    quartiles = pd.DataFrame(
        {
            "evaluations": grouped["evaluations"].max(),
            "seconds": grouped["seconds"].max(),
            "q25": grouped["value"].quantile(0.25),
            "median": grouped["value"].quantile(0.5),
            "q75": grouped["value"].quantile(0.75),
        }
    )
    return quartiles.dropna().assign(of=held).reset_index(drop=True)


def curves_frame(history: History) -> pd.DataFrame:
    """Return one row for each point of a learning curve: trial, step, value, ending."""
    points = [
        (trial.number, step, value, ending(trial))
        for trial in history.trials
        for step, value in sorted(trial.outcome.curve.items())
        if np.isfinite(value)
    ]
    return pd.DataFrame(points, columns=pd.Index(["trial", "step", "value", "ending"]))


def diversity_frame(history: History, space: Space) -> pd.DataFrame:
    """Return one row for each generation: how far the swarm is spread after it.

    The swarm is every particle where it was last evaluated. distance: mean Euclidean distance
    to the centroid over the numeric coordinates, divided by the square root of their number, so
    that spaces of different dimension compare; a uniform swarm has about 0.29, a collapsed one
    0; NaN without numeric coordinates. kinds: the share of the categories it could hold that it
    does hold, mean over the categorical coordinates; NaN without any. Infeasible ones count.
    """
    numeric, labels = ~space.categorical, np.flatnonzero(space.categorical)
    swarm: dict[int, np.ndarray[Any, Any]] = {}
    rows = []
    for number, generation in enumerate(history.generations):
        swarm |= {trial.candidate.particle: trial.position for trial in generation}
        positions = np.stack([swarm[particle] for particle in sorted(swarm)])  # (P, D)
        spread = positions[:, numeric] - positions[:, numeric].mean(axis=0)
        distance = np.linalg.norm(spread, axis=1).mean() / np.sqrt(max(1, numeric.sum()))
        kinds = [_kinds(positions[:, label], int(space.levels[label])) for label in labels]
        rows.append(
            {
                "generation": number,
                "distance": distance if numeric.any() else np.nan,
                "kinds": np.mean(kinds) if kinds else np.nan,
                "particles": len(swarm),
            }
        )
    return pd.DataFrame(rows, columns=pd.Index(["generation", "distance", "kinds", "particles"]))


def settings_frame(space: Space, best: Mapping[str, Any] | None) -> pd.DataFrame:
    """Return one row for each searched knob: its default beside its best setting.

    Columns: knob, default, best, changed, searched (its range in words). A knob that does
    not act under those settings is None.
    """
    known = len(space.starts) > 0  # nobody says what the defaults of a study are
    defaults = space.settings(space.decode(space.starts[0])) if known else {}
    names = list(dict.fromkeys(coordinate.path[0] for coordinate in space.coordinates))
    ranges = {coordinate.path[0]: _range(coordinate.knob) for coordinate in space.coordinates}
    rows = [
        {
            "knob": name,
            "default": defaults.get(name),
            "best": None if best is None else best.get(name),
            "changed": known and best is not None and best.get(name) != defaults.get(name),
            "searched": ranges[name],
        }
        for name in names
    ]
    return pd.DataFrame(rows, dtype=object)


def _row(history: History, trial: Trial) -> dict[str, Any]:
    outcome = trial.outcome
    names = [f"values.{objective.name}" for objective in history.objectives]
    return {
        "number": trial.number,
        "generation": trial.generation,
        "particle": trial.candidate.particle,
        "state": str(outcome.state),
        **dict(zip(names, outcome.values or (), strict=False)),  # a failed trial has no values
        "fidelity": outcome.fidelity,
        "seconds": outcome.seconds,
        "seeds": " ".join(str(seed) for seed in trial.candidate.seeds),
        **{f"metrics.{name}": value for name, value in outcome.metrics.items()},
        **{f"params.{name}": value for name, value in trial.candidate.params.items()},
        "error": outcome.error,
    }


def _kinds(column: np.ndarray[Any, Any], levels: int) -> float:
    held = np.unique(np.minimum(np.floor(column * levels), levels - 1)).size
    return held / min(levels, len(column))


def _range(knob: Any) -> str:
    if knob.kind == "bool":
        return "yes, no"
    if knob.choices:
        return ", ".join(setting(choice) for choice in knob.choices)
    extra = [f"steps of {setting(knob.step)}"] * bool(knob.step) + ["log"] * bool(knob.log)
    return ", ".join([f"{setting(knob.low)} to {setting(knob.high)}", *extra])
