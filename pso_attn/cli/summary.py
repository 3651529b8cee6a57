"""What a search found or will take, as a document and as lines."""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pso_attn.cli.output import table
from pso_attn.report.endings import ENDINGS, ending, reasons
from pso_attn.report.held_against import COSTS
from pso_attn.report.words import count, duration, number, setting
from pso_attn.space import WeightTable
from pso_attn.types import History, State, Trial

_MORE = {"export": " --out DIR"}
SHOWN = 24  # entries of a table

if TYPE_CHECKING:
    from pso_attn.driving import DrivenRun
    from pso_attn.parts import Parts


def summary(
    driven: "DrivenRun", control: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[Any]]:
    """Return what a search found: best settings beside the defaults, and what to do next.

    control: what a finished search for weights is held against.
    """
    from pso_attn.runs import best_trial

    history = driven.history()
    weights = driven.parts.configuration.weight_table
    best = best_trial(history)
    defaults = history.trials[0] if history.trials else None
    ended = counts(history)
    document = {
        "run": driven.name,
        "state": "finished" if driven.is_finished else "interrupted",
        "generations": {"done": len(history), "total": driven.generations},
        "trials": ended,
        "best": best_document(driven.name, best, weights),
        "defaults": best_document(driven.name, defaults, weights),
        **({"control": control} if control else {}),
    }
    lines: list[Any] = []
    if best is None:
        said = "no trial completed" if history.trials else "nothing finished yet"
        lines.append(f"run {driven.name}: {said}")
    else:
        lines += [settings_table(history, best, defaults, weights), ""]
        lines += [*_compared(control), *control_table(control), ""] if control else []
    lines += endings("trials" if best is None else f"run {driven.name}", history)
    if not driven.is_finished:
        lines.append(f"go on:    {driven.again('resume')}")
    if best is not None:
        following = ("confirm", "export" if weights else "train", "report")
        lines += [
            f"{word + ':':<10}{driven.again(word)}{_MORE.get(word, '')}" for word in following
        ]
    return document, lines


def best_document(
    run: str, trial: Trial | None, weights: WeightTable | None
) -> dict[str, Any] | None:
    """Return a trial as `best --json` prints it; None for none.

    weights: the run's [weights]: what its positions are scored on is then said apart from the
    metrics, which are of the validation split.
    """
    if trial is None:
        return None
    metrics = dict(trial.outcome.metrics)
    return {
        "run": run,
        "generation": trial.generation,
        "particle": trial.candidate.particle,
        "trial": trial.number,
        "loss": metrics.get("loss"),
        "metrics": metrics,
        **({} if weights is None else {"fitness": _fitness(trial, weights)}),
        "settings": dict(trial.candidate.settings),
    }


def _fitness(trial: Trial, weights: WeightTable) -> dict[str, Any]:
    """Return what a position of weights is worth, and on what it was scored."""
    value = trial.outcome.values[0] if trial.outcome.values else None
    return {"value": value, "split": weights.split, "examples": weights.examples}


def counts(history: History) -> dict[str, int]:
    """Return how many trials ended how."""
    ended = Counter(str(trial.outcome.state) for trial in history.trials)
    return {state: ended[state] for state in ("COMPLETE", "PRUNED", "FAIL")}


def endings(whose: str, history: History) -> list[str]:
    """Return how many trials ended how, and the commonest reasons for failures, as lines."""
    if not history.trials:
        return []
    ended = Counter(map(ending, history.trials))
    counted = ", ".join(f"{ended[name]} {name}" for name in ENDINGS if ended[name])
    return [
        f"{whose}: {counted}",
        *(f"  {count(times, 'trial')}: {error}" for error, times in reasons(history.trials)[:3]),
    ]


def settings_table(
    history: History, best: Trial, defaults: Trial | None, weights: WeightTable | None
) -> Any:
    """Return the objective, the metrics and what was searched, best beside the defaults.

    weights: the run's [weights], whose split the objective is of; metrics are of the validation
    split.
    """
    objective = history.objectives[0].name
    theirs = defaults or best
    pair = (best, theirs)
    named = {objective: objective} if weights is None else {}  # metric -> how it is called
    for name in best.outcome.metrics:
        named.setdefault(name, name if weights is None or name in COSTS else f"validation {name}")
    rows: list[tuple[str, ...]] = [
        (label, *(_metric(one, name, objective if weights is None else "") for one in pair))
        for name, label in named.items()
    ]
    if weights is not None:
        fitness = (number((one.outcome.values or (None,))[0]) for one in pair)
        rows.insert(0, (f"{weights.split} {objective}", *fitness))
    flat = dict.fromkeys((*best.candidate.params, *theirs.candidate.params))
    rows += [
        (name, *(setting(one.candidate.settings.get(name)) for one in pair))
        for name in dict.fromkeys(name.partition(".")[0] for name in flat)
    ]
    label = "defaults" if weights is None else "untouched"
    if theirs.outcome.state is State.PRUNED:
        label += f" until step {max(theirs.outcome.curve)}"
    return table(("", "best", label), rows, right=("best", label))


def control_table(control: Mapping[str, Any]) -> list[Any]:
    """Return a weight search's best beside its controls: fitness and validation metrics."""
    objective = control["objective"]
    rows = {name: row for name, row in control.items() if isinstance(row, Mapping)}
    metrics = list(rows["best"]["validation"])
    columns = (
        "",
        f"{control['split']} {objective}",
        *(f"validation {m.replace('_', ' ')}" for m in metrics),
    )
    lines = [
        (name, number(row["fitness"]), *(number(row["validation"][m]) for m in metrics))
        for name, row in rows.items()
    ]
    return [table(columns, lines, right=columns[1:])]


def _compared(control: Mapping[str, Any]) -> list[str]:
    """Return why a search's best has another loss in the table of controls than above it."""
    return [
        "above, each column is of the examples that its own generation was scored on;",
        f"below, all rows are of the same {control['split']} and validation examples:",
    ]


def data_lines(described: Mapping[str, Any]) -> list[str]:
    """Return what a task's `describe` says as lines: single values on one, each table on its own.

    Of a long table the first entries are shown.
    """
    tables = {name: value for name, value in described.items() if isinstance(value, Mapping)}
    single = [
        f"{_spaced(name)} {setting(value)}"
        for name, value in described.items()
        if name not in tables
    ]
    lines = [f"data: {', '.join(single)}"]
    for name, value in tables.items():
        shown = [f"{key} ({setting(entry)})" for key, entry in list(value.items())[:SHOWN]]
        more = [f"and {len(value) - SHOWN} more"] * (len(value) > SHOWN)
        lines += [f"  {_spaced(name)}: {', '.join([*shown, *more])}"] * bool(value)
    return lines


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def rehearsal(parts: "Parts") -> tuple[dict[str, Any], list[Any]]:
    """Return what a search will take: the defaults and the first generation, for a few steps."""
    configuration = parts.configuration
    before = History(parts.objectives)
    proposal = parts.sampler().propose(parts.space, before)
    with closing(parts.executor()) as executor:
        generation = parts.evaluator(executor=executor).plan(proposal, before)
        workers = executor.workers
    measured = parts.rehearsed(generation, workers)
    together = min(workers, len(generation.chunks))
    around = sum(measured.get(name, 0.0) for name in ("first_training_seconds", "control_seconds"))
    measured["search_seconds"] = measured["search_seconds"] / together + around
    data = {} if parts.task is None else {"data": parts.task.describe()}
    document = {
        "space": configuration.source,
        "device": configuration.device,
        **data,
        **measured,
    }
    lines = [f"space {configuration.source} on {configuration.device}; nothing was written"]
    is_batched = "seconds_per_training_alone" in measured
    words = _WORDS if is_batched else {**_WORDS, "seconds_per_training": _ONE_TRAINING}
    if parts.weights is not None:  # none of them leaves early
        words = {**words, "search_seconds": ("the whole search, about", duration)}
    lines += [
        f"{words[name][0]:<32}{words[name][1](measured[name])}"
        for name in _WORDS
        if name in measured
    ]
    lines += [f"planned: {plan}" for plan in dict.fromkeys(measured.get("plans", ()))]
    gain = measured.get("batching_gain", 1)
    if gain < 1 and parts.weights is None:
        lines.append(
            f"at these sizes plain modules one after another take {gain:.0%} of the batch's time: "
            "a smaller batch_size or width gains more from the batch"
        )
    return document, lines


def _metric(trial: Trial, name: str, objective: str) -> str:
    if name == objective and trial.outcome.values:
        return number(trial.outcome.values[0])
    return number(trial.outcome.metrics.get(name))


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:.1f} MiB"


_ONE_TRAINING = ("one training", duration)
_WORDS: Mapping[str, tuple[str, Any]] = {
    "trainings_per_generation": ("trainings per generation", number),
    "evaluations_per_generation": ("evaluations per generation", number),
    "seconds_per_evaluation": ("one evaluation, in the batch", duration),
    "seconds_per_evaluation_alone": ("one evaluation, alone", duration),
    "seconds_per_training": ("one training, in the batch", duration),
    "seconds_per_training_alone": ("one training, alone", duration),
    "batching_gain": ("predicted gain of the batch", lambda value: f"{value:.2f} x"),
    "memory_bytes_per_training": ("memory of one training", _mebibytes),
    "memory_bytes_per_chunk": ("memory of one batch", _mebibytes),
    "first_training_seconds": ("training the model first", duration),
    "control_seconds": ("the gradient control at the end", duration),
    "search_seconds": ("the whole search, at most", duration),
}
