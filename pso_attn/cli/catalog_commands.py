"""What there is: built-in spaces, tasks, knobs and samplers."""

import textwrap
from typing import TYPE_CHECKING, Any

from pso_attn.cli.guard import guarded
from pso_attn.cli.options import Json, Quiet
from pso_attn.cli.output import emit, table

if TYPE_CHECKING:
    from pso_attn.space import Knob


@guarded
def spaces(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the built-in search spaces."""
    from pso_attn.config import builtin_spaces, read_configuration

    found: list[dict[str, Any]] = []
    for name, path in builtin_spaces().items():
        read = read_configuration(name)
        found.append(
            {
                "name": name,
                "task": read.task,
                "search": list(read.search),
                "weights": list(read.weight_table.matrices) if read.weight_table else [],
                "constraints": list(read.constraints),
                "path": str(path),
            }
        )
    rows = [
        (space["name"], space["task"], _searches(space), "; ".join(space["constraints"]))
        for space in found
    ]
    emit(
        {"spaces": found},
        as_json=as_json,
        quiet=quiet,
        lines=[table(("space", "task", "searches", "under"), rows)],
        essence=[space["name"] for space in found],
    )


@guarded
def tasks(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the built-in tasks."""
    from pso_attn.tasks import TASKS

    emit(
        {"tasks": [{"name": name, "summary": task.summary} for name, task in TASKS.items()]},
        as_json=as_json,
        quiet=quiet,
        lines=[table(("task", "what"), [(name, task.summary) for name, task in TASKS.items()])],
        essence=TASKS,
    )


@guarded
def knobs(as_json: Json = False, quiet: Quiet = False) -> None:
    """List what may vary: family, type, range, default, neutral value, meaning and source."""
    from dataclasses import asdict

    from pso_attn.evaluate import TRAINING_KNOBS
    from pso_attn.models import FAMILIES, FAMILY_KNOB

    declared: list[tuple[str | None, Knob]] = [(None, FAMILY_KNOB)]
    declared += [(name, knob) for name, family in FAMILIES.items() for knob in family.knobs]
    declared += [(None, knob) for knob in TRAINING_KNOBS.values()]
    emit(
        {"knobs": [{**asdict(knob), "family": family} for family, knob in declared]},
        as_json=as_json,
        quiet=quiet,
        lines=[line for family, knob in declared for line in _described(knob, family)],
        essence=dict.fromkeys(knob.name for _, knob in declared),
    )


@guarded
def samplers(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the samplers."""
    from pso_attn.imports import load_name
    from pso_attn.samplers import SAMPLERS

    found = {
        name: (load_name(reference, "sampler").__doc__ or "").strip().split("\n")[0]
        for name, reference in SAMPLERS.items()
    }
    emit(
        {"samplers": [{"name": name, "summary": summary} for name, summary in found.items()]},
        as_json=as_json,
        quiet=quiet,
        lines=[table(("sampler", "what"), found.items())],
        essence=found,
    )


def _searches(space: dict[str, Any]) -> str:
    """Return what a space searches, in words."""
    matrices = space["weights"]
    weights = "all weights" if matrices == ["all"] else f"weights {', '.join(matrices)}"
    return "; ".join(
        [", ".join(space["search"])] * bool(space["search"]) + [weights] * bool(matrices)
    )


def _range(knob: Any) -> str:
    if knob.kind == "bool":
        return "false, true"
    if knob.choices:
        return ", ".join(_shown(choice) for choice in knob.choices)
    return f"{_shown(knob.low)} … {_shown(knob.high)}" + (" (log)" if knob.log else "")


def _described(knob: Any, family: str | None) -> list[str]:
    """Return a knob as a line of figures, and what it means below, 80 columns wide.

    family: the one in which it acts, None for all.
    """
    default = "derived" if knob.default is None else _shown(knob.default)
    figures = [knob.kind, _range(knob), f"default {default}"]
    if knob.neutral is not None:
        figures.append(f"neutral {_shown(knob.neutral)}")
    if knob.limit:
        figures.append(f"neutral {knob.limit}")
    meaning = [knob.doc]
    for name, values in knob.when.items():
        meaning.append(f"only where {name} is {' or '.join(_shown(value) for value in values)}")
    if len(knob.per) > 1:
        meaning.append(f"per {', '.join(knob.per)}")
    said = "; ".join(meaning) + (f" ({knob.source})" if knob.source else "")
    below = textwrap.indent(textwrap.fill(said, 74), "    ")
    whose = f" ({family})" if family else ""
    figured = f"{knob.name}{whose}: {'; '.join(figures)}"
    head = textwrap.fill(figured, 78, subsequent_indent="    ")
    return [head, below]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
