"""What was found, and whether to believe it."""

import shlex
import textwrap
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pso_attn.report import held_against
from pso_attn.report.endings import ENDINGS, ending, reasons
from pso_attn.report.inputs import RUNS_DIR, ReportInput
from pso_attn.report.words import count, number
from pso_attn.types import Trial

Standing = Literal["empty", "nothing", "unconfirmed", "confirmed", "undecided", "no gain", "told"]

_BIGGER = 1.1  # a best model larger than the defaults' by this is worth a sentence


@dataclass(frozen=True, eq=False)
class Findings:
    """The figures that the top of a report shows.

    standing: how far the result can be believed. sentence: what was found, in plain words.
    caution: what speaks against it, empty if nothing does. best, defaults: their trials, None
    where there is none. endings: how many trials ended how.
    """

    standing: Standing
    sentence: str
    caution: str
    best: Trial | None
    defaults: Trial | None
    endings: Mapping[str, int]

    @property
    def badge(self) -> str:
        """The standing in a word or two."""
        return {
            "empty": "Nothing run yet",
            "nothing": "Nothing finite" if self.endings["complete"] else "Nothing completed",
            "unconfirmed": "Not confirmed",
            "confirmed": "Confirmed",
            "undecided": "Undecided",
            "no gain": "No gain",
            "told": "As the study says",
        }[self.standing]


def findings(run: ReportInput) -> Findings:
    """Return what a run found; the best has the lowest loss at full fidelity, first of equals."""
    best = next(iter(run.history.ranked), None)
    counted = Counter(ending(trial) for trial in run.history.trials)
    defaults = _defaults(run)
    standing = _standing(run, best, defaults)
    return Findings(
        standing=standing,
        sentence=_sentence(run, standing, best, defaults),
        caution=_caution(run, best, defaults),
        best=best,
        defaults=defaults,
        endings={name: counted[name] for name in ENDINGS},
    )


def value(trial: Trial | None) -> float | None:
    """Return a complete trial's first objective as itself, None where there is none."""
    if trial is None or not trial.is_full or not trial.outcome.values:
        return None
    return trial.outcome.values[0]


def confirm_command(run: ReportInput) -> str:
    """Return the command that scores the finalists on the test split."""
    return shlex.join(["pso-attn", "confirm", run.name, *_runs_dir(run)])


def repeat_command(run: ReportInput) -> str:
    """Return the command that runs the same search again, under another name.

    The run's file has the total that the search began with; a resume may have given another.
    """
    source = f"{run.runs_dir}/{run.name}/config.toml"
    again = f"{run.name}-again"
    began, total = (
        run.configuration.get(table, {}).get(name)
        for table, name in (("run", "planned_generations"), ("budget", "generations"))
    )
    resumed = [] if began in (None, total) else ["--generations", str(total)]
    return shlex.join(["pso-attn", "search", source, "--run", again, *resumed, *_runs_dir(run)])


def finalist(confirmation: Mapping[str, Any], rank: int) -> Mapping[str, Any] | None:
    """Return the confirmed row of a rank: 0 the defaults, 1 the best of the search."""
    rows = confirmation.get("rows", ())
    return next((row for row in rows if row.get("rank") == rank), None)


def row_name(row: Mapping[str, Any], unchanged: str) -> str:
    """Return how a confirmed row is called; unchanged: the defaults, as this run calls them."""
    return unchanged if row["role"] == "defaults" else f"{row['rank']}: trial {row['trial']}"


def plain_summary(run: ReportInput) -> list[str]:
    """Return what was found as lines of plain text, at most 80 columns except for commands."""
    found = findings(run)
    lines = textwrap.wrap(f"{found.badge}: {found.sentence}", 80)
    lines += textwrap.wrap(found.caution, 80)
    ended = ", ".join(f"{amount} {name}" for name, amount in found.endings.items() if amount)
    if ended:
        lines.append(f"Trials: {ended}.")
    if found.standing == "unconfirmed":
        lines.append(f"Confirm it: {confirm_command(run)}")
    return lines


def _runs_dir(run: ReportInput) -> list[str]:
    return [] if run.runs_dir == RUNS_DIR else ["--runs-dir", run.runs_dir]


def _defaults(run: ReportInput) -> Trial | None:
    if not len(run.space.starts):
        return None
    start = run.space.starts[0]
    wanted, weights = run.space.decode(start), run.space.rounded(start[_weights(run)])
    return next(
        (
            trial
            for trial in run.history.trials
            if dict(trial.candidate.params) == wanted
            and np.array_equal(trial.candidate.position[_weights(run)], weights)
        ),
        None,
    )


def _standing(run: ReportInput, best: Trial | None, defaults: Trial | None) -> Standing:
    if not run.history.trials:
        return "empty"
    if best is None:
        return "nothing"
    if run.is_foreign:
        return "told"
    gain = (run.confirmation or {}).get("gain")
    if not gain:
        return "no gain" if _are_equal(run, best, defaults) else "unconfirmed"
    if gain["significant"]:
        return "confirmed" if gain["mean"] > 0 else "no gain"
    return "no gain" if gain["mean"] == 0 else "undecided"  # zero: the defaults won themselves


def _sentence(
    run: ReportInput, standing: Standing, best: Trial | None, defaults: Trial | None
) -> str:
    if standing == "empty":
        each = "trial" if run.is_foreign else "generation"
        return f"No {each} has finished yet, so there is nothing to report."
    trials = run.history.trials
    completed = sum(trial.is_full for trial in trials)
    bound = run.is_foreign and any(trial.candidate.violations for trial in trials)
    within = " within its constraints" if bound else ""
    if best is None:
        why = "".join(f"; most often: {error}" for error, _ in reasons(trials)[:1])
        finite = f" with a finite {run.measured}" if completed else ""
        return (
            f"None of {count(len(trials), 'trial')} completed{within}{finite}, so nothing was "
            f"found{why}."
        )
    if run.confirmation and standing != "unconfirmed":
        return str(run.confirmation["verdict"])
    if run.is_foreign:
        return (
            f"Trial {best.number} has the best {run.measured}, {number(value(best))}, of "
            f"{completed} that completed{within}; nothing here was trained or scored again."
        )
    reached = f"a {run.measured} of {number(value(best))}"
    if _are_equal(run, best, defaults):
        whom = "defaults" if run.weights is None else "untouched weights"
        return f"Nothing beat the {whom}, which reached {reached} in trial {best.number}."
    if run.weights is not None:
        return held_against.sentence(run, best.number, value(best), value(defaults))
    beside = "; the defaults did not complete"
    if value(defaults) is not None:
        beside = f", the defaults {number(value(defaults))}"
    return (
        f"Trial {best.number} reached {reached}{beside}. It is the best of {completed} on the "
        "validation split and not scored on the test split yet, so expect less of it."
    )


def _caution(run: ReportInput, best: Trial | None, defaults: Trial | None) -> str:
    if run.weights is not None:
        return held_against.caution(run, best is not None and best is defaults)
    parts = []
    for name, what in (("parameters", "parameters"), ("flops", "floating-point operations")):
        ratio = _ratio(best, defaults, name)
        if ratio is not None and ratio > _BIGGER:
            parts.append(f"{ratio:.3g} times the {what}")
    said = ""
    if parts:
        said = (
            f"The best settings use {' and '.join(parts)} of the defaults, "
            "so some of the gain may be bought by size."
        )
    failed = sum((row.get("failed") or 0) for row in (run.confirmation or {}).get("rows", ()))
    if failed:
        said += f"{' ' if said else ''}{count(failed, 'confirming training')} failed."
    return said


def _are_equal(run: ReportInput, best: Trial, defaults: Trial | None) -> bool:
    if run.weights is not None:
        return best is defaults
    return defaults is not None and dict(best.candidate.params) == dict(defaults.candidate.params)


def _weights(run: ReportInput) -> slice:
    """Return which coordinates are weights: those behind the knobs."""
    return slice(len(run.space.coordinates), None)


def _ratio(best: Trial | None, defaults: Trial | None, name: str) -> float | None:
    if best is None or defaults is None:
        return None
    mine, theirs = best.outcome.metrics.get(name), defaults.outcome.metrics.get(name)
    return mine / theirs if mine and theirs else None
