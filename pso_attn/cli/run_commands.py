"""Runs as they are: listed, shown, watched, removed, opened in a browser."""

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pso_attn.cli.guard import guarded, say
from pso_attn.cli.options import RUNS, Json, Quiet, Run, RunsDir
from pso_attn.cli.output import emit, table
from pso_attn.errors import ConfigurationError, NotBegunError, PsoAttnError

if TYPE_CHECKING:  # what it loads would slow down --help
    from pso_attn.config import Configuration
    from pso_attn.runs import LoadedRun


@guarded
def runs(runs_dir: RunsDir = RUNS, as_json: Json = False, quiet: Quiet = False) -> None:
    """List the runs."""
    from pso_attn.report.words import number
    from pso_attn.runs import load_run
    from pso_attn.store import RunFolder

    found = []
    for folder in RunFolder.list(runs_dir):
        try:
            found.append(_overview(load_run(folder.path)))
        except PsoAttnError as error:  # one damaged run hides no other
            state = "not begun" if isinstance(error, NotBegunError) else "damaged"
            found.append({"run": folder.name, "state": state, "error": str(error)})
    rows = [
        (
            run["run"],
            run["state"],
            run.get("space", ""),
            run.get("sampler", ""),
            f"{run['generations']['done']}/{run['generations']['total']}"
            if "generations" in run
            else "",
            number((run.get("best") or {}).get("value")),
        )
        for run in found
    ]
    columns = ("run", "state", "space", "sampler", "generations", "best")
    listed = table(columns, rows, right=("generations", "best"))
    emit(
        {"runs": found},
        as_json=as_json,
        quiet=quiet,
        lines=[listed] if rows else [f"no runs in {runs_dir}"],
        essence=[run["run"] for run in found],
    )


@guarded
def show(run: Run, runs_dir: RunsDir = RUNS, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show what RUN was asked to do, how far it is, and its best settings."""
    from pso_attn.cli.summary import best_document, endings, settings_table
    from pso_attn.report.words import count
    from pso_attn.runs import load_run

    loaded = load_run(run, runs_dir)
    overview, history, best = _overview(loaded), loaded.history, loaded.best()
    configuration = loaded.configuration
    budget = configuration.budget
    lines: list[Any] = [
        f"run {loaded.name}: {overview['state']}, {_progress(overview)}",
        f"space {configuration.source}, {configuration.subject}, "
        f"{_searched(configuration)}, sampler {configuration.sampler}, "
        f"seed {configuration.seed}, device {configuration.device}",
        f"budget: {count(budget.particles, 'particle')} in batches of {budget.batch}, "
        f"{count(budget.generations, 'generation')}, {count(budget.steps, 'step')}, "
        f"{count(budget.seeds, 'seed')} each",
        f"folder: {loaded.folder.path}",
        *endings("trials", history),
    ]
    if best is not None:
        lines += ["", settings_table(history, best, history.trials[0], configuration.weight_table)]
    document = {
        **overview,
        "folder": str(loaded.folder.path),
        "configuration": configuration.shown(),
        "best": best_document(loaded.name, best, configuration.weight_table),
    }
    emit(document, as_json=as_json, quiet=quiet, lines=lines, essence=[str(overview["state"])])


@guarded
def best(run: Run, runs_dir: RunsDir = RUNS, as_json: Json = False, quiet: Quiet = False) -> None:
    """Print RUN's best settings."""
    from pso_attn.cli.summary import best_document, settings_table
    from pso_attn.runs import load_run

    loaded = load_run(run, runs_dir)
    trial, history = loaded.best(), loaded.history
    weights = loaded.started.weight_table
    document = best_document(loaded.name, trial, weights)
    if trial is None or document is None:
        raise loaded.without_winner("to show")
    emit(
        document,
        as_json=as_json,
        quiet=quiet,
        lines=[
            f"trial {trial.number} (generation {trial.generation}, "
            f"particle {trial.candidate.particle})",
            settings_table(history, trial, history.trials[0], weights),
        ],
        essence=[repr(value) for value in trial.outcome.values or ()],
    )


@guarded
def watch(
    run: Run,
    once: Annotated[bool, typer.Option("--once", help="Print one snapshot.")] = False,
    every: Annotated[float, typer.Option(min=0.1, metavar="S", help="Seconds between.")] = 1.0,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Follow RUN until it ends; --json and --once print one snapshot."""
    from pso_attn.runs import load_run

    loaded = load_run(run, runs_dir)
    overview, said = _overview(loaded), ""
    while not once and not as_json and overview["state"] == "running":
        line = f"{loaded.name}: {_progress(overview)}"
        if line != said and not quiet:
            say(line)
        said = line
        time.sleep(every)
        overview = _overview(loaded)
    line = f"{loaded.name}: {overview['state']}, {_progress(overview)}"
    emit(overview, as_json=as_json, quiet=quiet, lines=[line], essence=[str(overview["state"])])


@guarded
def delete(
    run: Run,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Delete RUN: its folder, and its study."""
    from pso_attn.driving import delete_run
    from pso_attn.runs import load_run

    loaded = load_run(run, runs_dir)
    path = str(loaded.folder.path)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"deleting {path} needs --yes where nobody can be asked")
        typer.confirm(f"delete {path} and all that is in it?", abort=True, err=True)
    delete_run(loaded)
    emit(
        {"run": loaded.name, "deleted": path},
        as_json=as_json,
        quiet=quiet,
        lines=[f"deleted {path}"],
    )


@guarded
def dashboard(
    run: Run,
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="N", help="Where it listens.")
    ] = 8080,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Open RUN's study in optuna-dashboard."""
    from pso_attn.runs import load_run

    loaded = load_run(run, runs_dir)
    beside = os.path.join(os.path.dirname(sys.executable), "optuna-dashboard")
    program = beside if os.access(beside, os.X_OK) else shutil.which("optuna-dashboard")
    if program is None:
        raise ConfigurationError(
            'optuna-dashboard is not installed; run pip install "pso-attn[dashboard]"'
        )
    storage = loaded.started.storage or str(loaded.folder.journal)
    sys.stdout.flush()
    os.execv(program, [program, storage, "--port", str(port)])


def _searched(configuration: "Configuration") -> str:
    """Return how much is searched, in words."""
    from pso_attn.report.words import count

    knobs, weights = len(configuration.search), configuration.weight_coordinates
    parts = [count(knobs, "knob")] if knobs or not weights else []
    parts += [count(weights, "coordinate") + " of weights"] if weights else []
    return " and ".join(parts)


def _overview(loaded: "LoadedRun") -> dict[str, Any]:
    """Return how far a run is, as plain data."""
    from pso_attn.cli.summary import counts

    state = loaded.state()
    history, best, unfinished = loaded.history, loaded.best(), loaded.unfinished
    objective = history.objectives[0]
    budget = loaded.configuration.budget
    value = best.outcome.values[0] if best is not None and best.outcome.values else None
    done = len(history.trials) + (len(unfinished.outcomes) if unfinished else 0)
    return {
        "run": loaded.name,
        "state": state,
        "space": loaded.configuration.source,
        "task": loaded.configuration.task or None,
        "objective": loaded.configuration.objective,
        "sampler": loaded.configuration.sampler,
        "generations": {"done": len(history), "total": budget.generations},
        "particles": {"done": done, "total": budget.generations * budget.batch},
        "trials": counts(history),
        "best": {
            "objective": objective.name,
            "value": value,
            "trial": None if best is None else best.number,
        },
    }


def _progress(overview: dict[str, Any]) -> str:
    from pso_attn.report.words import number

    generations, particles, best = (overview[key] for key in ("generations", "particles", "best"))
    return (
        f"{generations['done']}/{generations['total']} generations, "
        f"{particles['done']}/{particles['total']} particles, "
        f"best {best['objective']} {number(best['value'])}"
    )
