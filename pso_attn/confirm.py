"""Whether to believe the winner: finalists and defaults on fresh seeds and the untouched test."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pso_attn.config import execution_from
from pso_attn.confirm_weights import UNIT, score_finalists
from pso_attn.errors import ConfigurationError, is_interrupt
from pso_attn.imports import refuse_imports
from pso_attn.parts import Parts
from pso_attn.report.words import ROUNDING, number
from pso_attn.runs import CONFIRMATION, LoadedRun
from pso_attn.seeding import training_seed
from pso_attn.space import Space
from pso_attn.store import OptunaStore
from pso_attn.types import History, Objective, Settings, Trial

SCHEMA = 1
SEEDS = 5  # fresh ones, by default
ALIKE = 0.01  # of a range: settings whose numbers all differ by less are one finalist
FIRST_FRESH = 1_000_000  # the r-th confirming seed is seed(run, 1,000,000 + r): none was searched
CONFIDENCE = 0.95
SEED = "seed"  # what values are paired over where settings are trained
TEST_USES = "test_uses"  # study attribute: every time that the test split was looked at

Report = Callable[[int, int], None]


def confirm_run(
    run: LoadedRun,
    top: int,
    seeds: int | None = None,
    device: str | None = None,
    allow_import: bool = True,
    report: Report | None = None,
    execution: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Confirm a run, leave `confirm.json` in its folder, and return the document.

    seeds: `SEEDS` by default. execution: where settings are trained, by the names of
    `config.Execution`; what is not given is as in the search. Both are refused where weights were
    searched. That the test split is used is logged in the study before it is looked at. Raises
    RunError while the run is being driven, and where no trial completed.
    """
    if run.started.weights:
        _refuse_trainings(run.name, {"seeds": seeds, **(execution or {})})
        seeds = 0
    seeds = SEEDS if seeds is None else seeds
    parts = _parts_there(run, device, allow_import, execution or {})
    with OptunaStore.load(run.started.storage, run.folder, parts.space, parts.objectives) as store:
        history = store.history()
        ranked = finalists(history, top, parts.space, parts.weights is not None)
        if not ranked:
            raise run.without_winner("to confirm")
        chosen = [trial.number for trial in ranked]
        use = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "by": "confirm"}
        uses = store.get_attribute(TEST_USES) or []
        store.set_attribute(TEST_USES, [*uses, {**use, "trials": chosen, "seeds": seeds}])
        checkpoints = run.folder.checkpoints
        document = confirm(run.name, parts, history, top, seeds, report, checkpoints)
        run.folder.write_json(CONFIRMATION, document)
    return document


def _refuse_trainings(name: str, given: Mapping[str, Any]) -> None:
    """Raise ConfigurationError for what is said of trainings; None is not given."""
    for key, value in given.items():
        if value is not None:
            raise ConfigurationError(
                f'confirm: "{key}" is for trainings, and run {name} searches weights, which are '
                "scored as they are, in this process; leave it out"
            )


def _parts_there(
    run: LoadedRun, device: str | None, allow_import: bool, execution: Mapping[str, Any]
) -> Parts:
    """Return the parts of a run, to be trained where `execution` says."""
    from pso_attn.evaluate import resolve_device
    from pso_attn.evaluate.executors import device_for

    started = run.started
    if started.weights:  # which are scored in this process
        return run.assembled_on(str(resolve_device(device or started.device)), allow_import)
    where = execution_from(execution, "confirm", started.execution)
    if not allow_import:
        refuse_imports(started)  # before code of one's own is sent anywhere
    name, code = device or started.device, started.code_folder
    chosen = device_for(name, where.executor, where.ray_address, code)
    parts = run.assembled_on(chosen, allow_import)
    return replace(parts, configuration=replace(parts.configuration, execution=where))


def confirm(
    name: str,
    parts: Parts,
    history: History,
    top: int,
    seeds: int,
    report: Report | None = None,
    checkpoints: Path | None = None,
) -> dict[str, Any]:
    """Return the document of `confirm.json`.

    The `finalists` by search loss and the defaults (the first trial) are trained at full length on
    `seeds` seeds that no search used, in as many chunks as there are workers, and scored on the
    test split. The winner is the best by search loss, never chosen on the test split; its gain
    over the defaults is paired by seed, positive where the winner is better.

    report: called with (steps done, steps in all). checkpoints: the run's folder of models, which
    a search for weights is scored with.
    """
    ranked = finalists(history, top, parts.space, parts.weights is not None)
    contenders = [("defaults", 0, history.trials[0])]
    contenders += [("finalist", rank, trial) for rank, trial in enumerate(ranked, start=1)]
    fresh = [training_seed(parts.configuration.seed, FIRST_FRESH + r) for r in range(seeds)]
    settings = [trial.candidate.settings for _, _, trial in contenders]
    controls: Mapping[str, Mapping[str, float]] = {}
    wholes: Sequence[Any] = [None] * len(contenders)
    if parts.weights is not None:
        assert checkpoints is not None
        trials = [trial for _, _, trial in contenders]
        results, wholes, controls = score_finalists(
            parts, checkpoints, trials, len(history.trials)
        )
    else:
        results = _train(parts, settings, fresh, report)
    objective = history.objectives[0]
    metrics = _measured(parts, objective, results)
    rows = [
        _row(*contender, metrics, result, whole)
        for contender, result, whole in zip(contenders, results, wholes, strict=True)
    ]
    unit = SEED if parts.weights is None else UNIT
    defaults, winner = (_scores(row, objective) for row in rows[:2])
    gain = measure_gain(objective, defaults, winner, unit)
    if parts.weights is not None:
        whole = [row["test"][objective.name]["mean"] for row in rows[:2]]
        gain = _of_whole(gain, whole[0], whole[1], objective)
    methods, why = ({}, "") if parts.task is None else _baselines(parts.task)
    baselines = {**controls, **methods}
    return {
        "schema": SCHEMA,
        "run": name,
        "split": "test",
        "whole": parts.weights is not None,  # means are of all examples at once
        "seeds": fresh,
        "objective": objective.name,
        "direction": objective.direction,
        "rows": rows,
        "gain": gain,
        "baselines": baselines,
        "verdict": verdict(rows, gain) + ahead(objective, rows[1], baselines) + why,
    }


def finalists(history: History, top: int, space: Space, of_weights: bool = False) -> list[Trial]:
    """Return the best `top` completed trials of distinct settings, best first; ties to earlier.

    Settings are distinct where a label or an integer differs, or another number by more than
    `ALIKE` of its range, on a log scale where it is searched on one; fewer than `top` may be.
    of_weights: whether other weights make others of such settings.
    """
    chosen: list[Trial] = []
    for trial in history.ranked:
        if len(chosen) == top:
            break
        if all(
            not _alike(space, trial, other)
            or (of_weights and not np.array_equal(trial.position, other.position))
            for other in chosen
        ):
            chosen.append(trial)
    return chosen


def measure_gain(
    objective: Objective,
    defaults: Sequence[float | None],
    winner: Sequence[float | None],
    unit: str = SEED,
) -> dict[str, Any]:
    """Return how much better the winner is, over the seeds at which both finished.

    defaults, winner: one value per seed, None where the training failed. Positive is better,
    whichever the objective's direction. seed_noise: the standard deviation over seeds of one
    training, pooled over the two: √((s₁² + s₂²) / 2), since winners may scatter far more than
    defaults. significant: the 95 % interval of the paired differences (Student's t) excludes zero.
    """
    pairs = [
        (objective.loss(a), objective.loss(b))
        for a, b in zip(defaults, winner, strict=True)
        if a is not None and b is not None
    ]
    differences = [0.0 if math.isclose(a, b, rel_tol=ROUNDING) else a - b for a, b in pairs]
    spread = _std(differences)
    error = None if spread is None else spread / math.sqrt(len(differences))
    mean = float(np.mean(differences)) if differences else None
    return {
        "metric": objective.name,
        "unit": unit,
        "mean": mean,
        "std": spread,
        "per_seed": differences,
        "standard_error": error,
        "seed_noise": _pooled([a for a, _ in pairs], [b for _, b in pairs]),
        "significant": _excludes_zero(mean, error, len(differences)),
    }


def _of_whole(
    gain: dict[str, Any], defaults: float | None, winner: float | None, objective: Objective
) -> dict[str, Any]:
    """Return a gain over parts as that of the whole split, if both point the same way."""
    if gain["mean"] is None or defaults is None or winner is None:
        return gain
    mean = objective.loss(defaults) - objective.loss(winner)
    return {**gain, "mean": mean, "significant": gain["significant"] and mean * gain["mean"] > 0}


def verdict(rows: Sequence[Mapping[str, Any]], gain: Mapping[str, Any]) -> str:
    """Return in one sentence whether the winner is to be believed."""
    defaults, winner = rows[0], rows[1]
    metric, unit = gain["metric"], gain["unit"]
    whose = "the defaults" if unit == SEED else "the weights before the search"
    same = "settings" if unit == SEED else "trial"
    if winner[same] == defaults[same]:
        best = f"{whose.capitalize()} themselves did best in the search"
        return f"{best}, so there is no gain to confirm."
    if gain["mean"] is None:
        errors = (f" ({row['error']})" for row in (defaults, winner) if row["error"] is not None)
        why = next(errors, "")
        return f"Nothing can be said: no seed finished for both the winner and the defaults{why}."
    pairs = len(gain["per_seed"])
    values = " against ".join(
        number(mean) for mean in _paired_means(winner["test"][metric], defaults["test"][metric])
    )
    shown = f"test {metric} {values} of {whose}, over {pairs} {unit}{'s' if pairs > 1 else ''}"
    if not gain["significant"]:
        chance = "Seeds" if unit == SEED else "The choice of examples"
        return f"{chance} alone could make the difference: {shown}."
    size = number(abs(gain["mean"]))
    if gain["seed_noise"] and unit == SEED:  # none where both give the same at every seed
        size += f", {abs(gain['mean']) / gain['seed_noise']:.1f} times the seed noise"
    word = "better" if gain["mean"] > 0 else "worse"
    return f"The winner is {word}: {shown}, a difference of {size}."


def ahead(
    objective: Objective, winner: Mapping[str, Any], baselines: Mapping[str, Mapping[str, float]]
) -> str:
    """Return a sentence that names the best simple method which the winner does not reach.

    Empty where the winner is ahead of all that give the objective's metric.
    """
    mean = winner["test"][objective.name]["mean"]
    given = {
        n: scores[objective.name] for n, scores in baselines.items() if objective.name in scores
    }
    if mean is None or not math.isfinite(mean) or not given:
        return ""
    best = min(given, key=lambda name: objective.loss(given[name]))
    if objective.loss(given[best]) >= objective.loss(mean):
        return ""
    return f" A simple method is ahead of it: {best}, with {number(given[best])}."


def _baselines(task: Any) -> tuple[Mapping[str, Mapping[str, float]], str]:
    """Return what simple methods reach, or nothing and why: no training is lost for it."""
    from pso_attn.evaluate.own_code import read_number, why

    try:
        read: dict[str, dict[str, float]] = {}
        for method, scores in task.baselines().items():
            for metric, value in scores.items():
                number = read_number(value)
                if number is None:
                    raise TypeError(f'"{metric}" of {method} is no number')
                read.setdefault(str(method), {})[str(metric)] = number
        return read, ""
    except (Exception, SystemExit) as error:  # a task of one's own may raise anything
        if is_interrupt(error):
            raise
        return {}, f" Simple methods are not beside it: {why('the baselines', error)}."


def _alike(space: Space, one: Trial, other: Trial) -> bool:
    """Tell whether two trials have all but the same settings."""
    if one.candidate.settings == other.candidate.settings:
        return True
    params = one.candidate.params, other.candidate.params
    if params[0].keys() != params[1].keys():
        return False
    for coordinate in space.coordinates:
        if coordinate.name not in params[0]:
            continue
        a, b = (given[coordinate.name] for given in params)
        scale = coordinate.scale
        if a != b and (scale.levels or abs(scale.point(float(a)) - scale.point(float(b))) > ALIKE):
            return False
    return True


def _train(
    parts: Parts, settings: Sequence[Settings], seeds: Sequence[int], report: Report | None
) -> list[list[Any]]:
    """Train each of the settings on each seed, equal settings once; results by settings.

    What cannot be trained, as the defaults may not, fails on each seed.
    """
    from pso_attn.evaluate import Scored

    distinct: list[Settings] = []
    for one in settings:
        if one not in distinct:
            distinct.append(one)
    refusals = [None if parts.function is not None else parts.refusal(one) for one in distinct]
    trained = [one for one, why in zip(distinct, refusals, strict=True) if why is None]
    results = parts.scored(
        [one for one in trained for _ in seeds],
        [seed for _ in trained for seed in seeds],
        "test",
        report,
    )
    found = iter(results)
    by_settings = [
        [next(found) if why is None else Scored(None, why, 0.0) for _ in seeds] for why in refusals
    ]
    return [by_settings[distinct.index(one)] for one in settings]


def _measured(parts: Parts, objective: Objective, results: Sequence[Sequence[Any]]) -> list[str]:
    """Return the metrics by name: the task's, or what an objective of one's own gave always."""
    if parts.task is not None:
        return list(dict.fromkeys((*parts.task.metrics, objective.name)))
    given = [result.metrics for row in results for result in row if result.metrics is not None]
    shared = [name for name in given[0] if all(name in one for one in given)] if given else []
    return list(dict.fromkeys([objective.name, *shared]))


def _row(
    role: str,
    rank: int,
    trial: Trial,
    metrics: Sequence[str],
    results: Sequence[Any],
    whole: Any,
) -> dict[str, Any]:
    search = trial.outcome.values[0] if trial.outcome.values else None
    return {
        "role": role,
        "rank": rank,
        "trial": trial.number,
        "settings": dict(trial.candidate.settings),
        "search_loss": search if trial.is_full else None,
        "test": {metric: _spread(metric, results, whole) for metric in metrics},
        "failed": sum(result.error is not None for result in results),
        "error": next((result.error for result in results if result.error is not None), None),
    }


def _spread(metric: str, results: Sequence[Any], whole: Any) -> dict[str, Any]:
    """Return a metric over seeds; or over parts, and its mean as it is of the whole split."""
    per_seed = [None if result.error else float(result.metrics[metric]) for result in results]
    values = [value for value in per_seed if value is not None]
    mean = float(np.mean(values)) if values else None
    if whole is not None:
        mean = None if whole.error else float(whole.metrics[metric])
    return {
        "mean": mean,
        "std": _std(values),
        "per_seed": per_seed,
    }


def _paired_means(*tests: Mapping[str, Any]) -> list[float]:
    """Return each one's mean over what all of them finished; as it stands where that is all."""
    columns = zip(*(test["per_seed"] for test in tests), strict=True)
    pairs = [values for values in columns if None not in values]
    if len(pairs) == len(tests[0]["per_seed"]):
        return [test["mean"] for test in tests]
    return [float(np.mean(values)) for values in zip(*pairs, strict=True)]


def _scores(row: Mapping[str, Any], objective: Objective) -> list[float | None]:
    scores: list[float | None] = row["test"][objective.name]["per_seed"]
    return scores


def _std(values: Sequence[float]) -> float | None:
    """Return the standard deviation, None of fewer than two; 0 where it is rounding alone."""
    if len(values) < 2:
        return None
    spread = float(np.std(values, ddof=1))
    return spread if spread > ROUNDING * max(map(abs, values)) else 0.0


def _pooled(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return the standard deviation of two kinds of values, each around its own mean."""
    first, second = _std(one), _std(other)
    if first is None or second is None:
        return None
    return math.sqrt((first**2 + second**2) / 2)


def _excludes_zero(mean: float | None, error: float | None, count: int) -> bool:
    if mean is None or error is None:
        return False
    from scipy.stats import t

    return abs(mean) > error * float(t.ppf((1 + CONFIDENCE) / 2, count - 1))
