"""The head of the page: what was found, whether to believe it, and the figures for it."""

from collections.abc import Mapping
from html import escape
from typing import Any

from pso_attn.report import markup
from pso_attn.report.findings import Findings, confirm_command, finalist, value
from pso_attn.report.held_against import BEST, GRADIENT
from pso_attn.report.inputs import ReportInput
from pso_attn.report.words import ABSENT, number, plus_minus
from pso_attn.types import Trial

_KIND = {
    "confirmed": "good",
    "unconfirmed": "doubt",
    "undecided": "doubt",
    "empty": "",
    "told": "",
}


def verdict(run: ReportInput, found: Findings) -> str:
    """Return the first section: a sentence, what speaks against it, and the key figures."""
    parts = [
        f'<p><span class="badge">{escape(found.badge)}</span></p>',
        markup.paragraph(found.sentence, "sentence"),
        markup.paragraph(found.caution),
    ]
    if found.standing == "unconfirmed":
        parts += [
            markup.paragraph(
                "To score it on the test split with fresh seeds:"
                if run.weights is None
                else "To score it on the test split:"
            ),
            markup.code(confirm_command(run)),
        ]
    if found.standing != "empty":
        parts.append(markup.key_figures(_figures(run, found)))
    kind = f"verdict {_KIND.get(found.standing, 'bad')}".strip()
    return markup.section("What was found", *parts, kind=kind)


def _figures(run: ReportInput, found: Findings) -> list[tuple[str, str, str]]:
    ended = ", ".join(f"{n} {how}" for how, n in found.endings.items() if n and how != "complete")
    trials = ("Trials complete", number(found.endings["complete"]), ended)
    if found.best is None:
        return [trials]
    if run.is_foreign:
        return [(f"Best {run.measured}", number(value(found.best)), ""), trials]
    items = [
        (
            f"Best {run.measured}",
            number(value(found.best)),
            f"{run.unchanged} {number(value(found.defaults))}",
        )
    ]
    items += _confirmed(run.confirmation, run) if run.confirmation else []
    if run.weights is None:
        items += [
            _beside("Parameters", found, "parameters"),
            _beside("Operations per example", found, "flops"),
        ]
    else:
        whole = f"of {_measured(found.best, 'parameters')} parameters"
        rows = run.weights.rows
        if rows.keys() >= {BEST, GRADIENT}:
            ours = f"the search {number(rows[BEST]['fitness'])} on the same examples"
            items.append(("By gradient descent", number(rows[GRADIENT]["fitness"]), ours))
        items.append(("Weights searched", number(run.weights.size), whole))
    return [*items, trials]


def _confirmed(confirmation: Mapping[str, Any], run: ReportInput) -> list[tuple[str, str, str]]:
    name = run.objective.name
    best, defaults = (_test(finalist(confirmation, rank), name) for rank in (1, 0))
    items = [
        (
            f"Test {name}",
            plus_minus(best.get("mean"), best.get("std")),
            f"{run.unchanged} {plus_minus(defaults.get('mean'), defaults.get('std'))}",
        )
    ]
    gain = confirmation.get("gain")
    if gain:
        noise = gain.get("seed_noise") if run.weights is None else None
        said = f", seed noise {number(noise, 2)}" if noise is not None else ""
        items.append(
            (
                f"Gain in test {name}",
                plus_minus(gain.get("mean"), gain.get("std")),
                f"± over {run.unit}s{said}; positive is better",
            )
        )
    return items


def _test(row: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (row or {}).get("test", {}).get(name, {})
    return found


def _beside(title: str, found: Findings, metric: str) -> tuple[str, str, str]:
    return (title, _measured(found.best, metric), f"defaults {_measured(found.defaults, metric)}")


def _measured(trial: Trial | None, metric: str) -> str:
    return ABSENT if trial is None else number(trial.outcome.metrics.get(metric))
