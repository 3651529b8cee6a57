"""The report's page: what was found on top, how it was run at the bottom, nothing fetched."""

from collections import defaultdict
from collections.abc import Mapping
from html import escape
from typing import Any

import tomli_w

from pso_attn import __version__
from pso_attn.report import markup, weight_page
from pso_attn.report.endings import ending
from pso_attn.report.findings import Findings, repeat_command, row_name
from pso_attn.report.frames import settings_frame
from pso_attn.report.inputs import ReportInput
from pso_attn.report.picture import Picture
from pso_attn.report.places import mark
from pso_attn.report.top import verdict
from pso_attn.report.words import ABSENT, count, duration, number, plus_minus, setting
from pso_attn.types import Trial

_FIRST = 5  # trials listed where no finalists are confirmed yet
_NAMED = 12  # trials named beside a reason of failure


def page(run: ReportInput, found: Findings, pictures: Mapping[str, Picture]) -> str:
    """Return the whole page as one HTML document."""
    convergence = markup.section("Convergence", markup.figure(pictures["convergence"]))
    if run.weights is not None:
        sections: tuple[str, ...] = (
            verdict(run, found),
            weight_page.controls(run, found),
            _settings(run, found),
            _finalists(run, pictures["finalists"]) if run.confirmation else "",
            _baselines(run),
            convergence,
            *weight_page.changed(pictures),
            weight_page.swarm(pictures),
            _mattered(run, pictures) if run.space.coordinates else "",
            weight_page.left_out(run),
            _failures(run),
            _how(run),
        )
    else:
        sections = (
            verdict(run, found),
            _settings(run, found),
            _finalists(run, pictures["finalists"]),
            _baselines(run),
            convergence,
            _mattered(run, pictures),
            markup.section("Learning curves", markup.figure(pictures["curves"])),
            "" if run.is_foreign else _diversity(pictures),
            _failures(run),
            _how(run),
        )
    footer = (
        f"pso-attn {escape(__version__)}. Every trial stands in "
        '<a href="trials.csv">trials.csv</a>, every picture beside it as a file.'
    )
    return markup.document(run.name, _subtitle(run), sections, footer, mark([run.source]))


def _diversity(pictures: Mapping[str, Picture]) -> str:
    return markup.section("Swarm diversity", markup.figure(pictures["diversity"]))


def _subtitle(run: ReportInput) -> str:
    configuration, sampler = run.configuration, run.configuration.get("run", {}).get("sampler")
    parts = [
        *(f"{key} {configuration[key]}" for key in ("task", "objective") if key in configuration),
        f"sampler {sampler}" if sampler else "",
        count(len(run.history.trials), "trial"),
        _study(run) if run.is_foreign else f"in {count(len(run.history), 'generation')}",
    ]
    return ", ".join(part for part in parts if part)


def _study(run: ReportInput) -> str:
    """Return that a study is one, and which: others may have its name."""
    where = run.source.removesuffix(f"#{run.name}").rstrip("/").rpartition("/")[2]
    return f"an Optuna study of {where}" if where else "an Optuna study"


def _settings(run: ReportInput, found: Findings) -> str:
    best = found.best.candidate.settings if found.best is not None else None
    frame = settings_frame(run.space, best)
    if frame.empty:
        return ""
    rows = [
        (row["knob"], setting(row["default"]), setting(row["best"]), row["searched"])
        for row in frame.to_dict("records")
    ]
    changed = [place for place, differs in enumerate(frame["changed"]) if differs]
    if run.is_foreign:
        shown = [(name, best, searched) for name, _, best, searched in rows]
        said = "The ranges are the widest that any trial had."
        heads = ("parameter", "best", "searched")
        return markup.section("Best parameters", markup.table(said, heads, shown))
    said = "Changed settings are marked."
    if best is None:
        said = "No trial completed, so the defaults stand alone."
    parts = [markup.table(said, ("setting", "default", "best", "searched"), rows, changed=changed)]
    fixed = {name: v for name, v in (best or {}).items() if name not in set(frame["knob"])}
    if fixed:
        held = [(name, setting(given)) for name, given in sorted(fixed.items())]
        parts.append(
            markup.details(
                f"{count(len(fixed), 'setting')} held fixed",
                markup.table("The same for every trial.", ("setting", "value"), held),
            )
        )
    return markup.section("Best settings beside the defaults", *parts)


def _finalists(run: ReportInput, picture: Picture) -> str:
    if run.confirmation:
        return _confirmed(run, run.confirmation, picture)
    full = sorted((t for t in run.history.trials if t.is_full), key=run.history.loss)
    if not full:
        return ""
    if run.is_foreign:
        return _best_of_study(run, full[:_FIRST])
    name = run.objective.name
    rows = [
        (
            f"{rank}: trial {trial.number}",
            number((trial.outcome.values or (None,))[0]),
            *(number(trial.outcome.metrics.get(metric)) for metric in ("parameters", "flops")),
            duration(trial.outcome.seconds),
        )
        for rank, trial in enumerate(full[:_FIRST], start=1)
    ]
    columns = ("rank", f"validation {name}", "parameters", "flops per example", "training")
    return markup.section(
        "The best of the search",
        markup.table("Not confirmed on the test split yet.", columns, rows, (1, 2, 3, 4)),
    )


def _best_of_study(run: ReportInput, best: list[Trial]) -> str:
    rows = [
        (
            f"{rank}: trial {trial.number}",
            *(number(value) for value in trial.outcome.values or ()),
            duration(trial.outcome.seconds),
        )
        for rank, trial in enumerate(best, start=1)
    ]
    columns = ("rank", *(objective.name for objective in run.history.objectives), "time")
    said = f"By {run.objective.name}, the first objective."
    figures = tuple(range(1, len(columns)))
    return markup.section("The best trials", markup.table(said, columns, rows, figures))


def _confirmed(run: ReportInput, confirmation: Mapping[str, Any], picture: Picture) -> str:
    rows = confirmation.get("rows", ())
    name = run.objective.name
    metrics = sorted(
        {m for row in rows for m in row.get("test", {})}, key=lambda m: (m != name, m)
    )
    shown = [
        (
            row_name(row, run.unchanged),
            number(row.get("search_loss")),
            *(_spread(row, metric) for metric in metrics),
            str(row.get("failed", 0)),
        )
        for row in rows
    ]
    columns = ("rank", run.measured, *(f"test {metric}" for metric in metrics), "failed")
    drawn = [len(row.get("test", {}).get(name, {}).get("per_seed", ())) for row in rows]
    said = (
        f"Mean ± standard deviation over {count(max(drawn, default=0), run.unit)}, on the "
        f"{confirmation.get('split', 'test')} split. The rank is that of the search."
    )
    if confirmation.get("whole"):
        said = (
            f"On the whole test split, ± the standard deviation over "
            f"{count(max(drawn, default=0), run.unit)}. The rank is that of the search."
        )
    figures = tuple(range(1, len(columns)))
    return markup.section(
        "Search and test side by side",
        markup.table(said, columns, shown, figures),
        markup.figure(picture),
    )


def _spread(row: Mapping[str, Any], metric: str) -> str:
    test = row.get("test", {}).get(metric, {})
    return plus_minus(test.get("mean"), test.get("std"))


def _baselines(run: ReportInput) -> str:
    baselines: Mapping[str, Mapping[str, float]] = (run.confirmation or {}).get("baselines", {})
    if not baselines:
        return ""
    confirmation = run.confirmation or {}
    rows = {name: dict(metrics) for name, metrics in baselines.items()}
    for row in confirmation.get("rows", ()):
        if row["rank"] in (0, 1):
            label = f"attention, {run.unchanged if row['rank'] == 0 else 'best of the search'}"
            rows[label] = {metric: v.get("mean") for metric, v in row.get("test", {}).items()}
    first = run.objective.name
    scored = {metric for values in baselines.values() for metric in values}
    metrics = sorted(scored, key=lambda metric: (metric != first, metric))
    shown = [(name, *(number(values.get(m)) for m in metrics)) for name, values in rows.items()]
    said = "Simple models fitted on the train split, scored on the same test split."
    if run.weights is not None:
        said = f"What the search is held against, on the same test split. {said}"
    columns = ("model", *(f"test {metric}" for metric in metrics))
    return markup.section(
        "Baselines", markup.table(said, columns, shown, tuple(range(1, len(columns))))
    )


def _mattered(run: ReportInput, pictures: Mapping[str, Picture]) -> str:
    alone = "Of the settings alone: the weights, which moved with them, are no part of it."
    return markup.section(
        "What mattered",
        markup.paragraph(alone if run.weights is not None else ""),
        markup.figure(pictures["importances"]),
        f"<h3>{escape(pictures['knobs'].title)}</h3>",
        markup.figure(pictures["knobs"]),
    )


def _failures(run: ReportInput) -> str:
    reasons: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in run.history.trials:
        how = ending(trial)
        if how in ("failed", "infeasible"):
            reasons[how, trial.outcome.error or "no reason was stored"].append(trial)
    if not reasons:
        return ""
    rows = [
        (how, str(len(trials)), reason.removeprefix("infeasible: "), _numbers(trials))
        for (how, reason), trials in sorted(reasons.items(), key=lambda item: -len(item[1]))
    ]
    said = "Failed trials keep their slot and are never the best; infeasible ones are not trained."
    if run.is_foreign:
        said = (
            "Failed trials, and infeasible ones, which violate a constraint, are never the best."
        )
    columns = ("how", "trials", "reason", "numbers")
    return markup.section("Failures", markup.table(said, columns, rows, (1,)))


def _numbers(trials: list[Trial]) -> str:
    named = ", ".join(str(trial.number) for trial in trials[:_NAMED])
    return named + (f" and {len(trials) - _NAMED} more" if len(trials) > _NAMED else "")


def _how(run: ReportInput) -> str:
    if run.is_foreign:
        return ""
    configuration = run.configuration
    inner, budget = configuration.get("run", {}), configuration.get("budget", {})
    spent = sum(trial.outcome.seconds for trial in run.history.trials)
    facts = {
        "task": configuration.get("task"),
        "objective": configuration.get("objective"),
        "data": configuration.get("data"),
        "data fingerprint": inner.get("fingerprint"),
        "space": inner.get("source"),
        "sampler": inner.get("sampler"),
        "seed": str(inner["seed"]) if "seed" in inner else None,
        "device": inner.get("device"),
        "budget": _budget(budget, run.weights is not None),
        run.time: duration(spent),
        **_flat(run.environment),
    }
    rows = [(name, setting(given)) for name, given in facts.items() if given not in (None, "")]
    parts = [
        markup.table("What it takes to repeat the run.", ("what", "value"), rows),
        "<h3>The same again</h3>",
        markup.code(repeat_command(run)),
    ]
    if configuration:
        document = tomli_w.dumps(dict(configuration))
        parts.append(markup.details("The whole configuration", markup.code(document)))
    return markup.section("How it was run", *parts)


def _budget(budget: Mapping[str, Any], is_of_weights: bool) -> str:
    if not budget:
        return ""
    swarm = (
        f"{budget.get('particles', ABSENT)} particles, {budget.get('batch', ABSENT)} at once, "
        f"{count(budget.get('generations', 0), 'generation')}, "
        f"{count(budget.get('steps', 0), 'step')}"
    )
    if is_of_weights:
        return f"{swarm} of training before the search, where no checkpoint was given"
    rungs = ", ".join(f"{rung:g}" for rung in budget.get("rungs", ()))
    return f"{swarm}, rungs {rungs or ABSENT}, {count(budget.get('seeds', 1), 'seed')} each"


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, given in document.items():
        if isinstance(given, Mapping):
            named = (f"{inner} {value}" for inner, value in given.items() if value is not None)
            flat[name] = ", ".join(named)
        elif name.endswith("_bytes") and given is not None:
            flat[name.removesuffix("_bytes")] = f"{given / 2**30:.1f} GiB"
        else:
            flat[name.replace("_", " ")] = given
    return flat
