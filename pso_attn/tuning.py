"""A search from Python: a space and an objective in, the best settings out."""

import sys
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pso_attn.config import Configuration, Execution, configured, read_configuration
from pso_attn.driving import DrivenRun, begin_run, new_name, prepare, resume_run
from pso_attn.errors import ConfigurationError, NotBegunError, RunError
from pso_attn.imports import GIVEN
from pso_attn.runs import LoadedRun, load_run
from pso_attn.store import RUNS_DIR, is_run
from pso_attn.store.connection import redacted
from pso_attn.types import Settings

if TYPE_CHECKING:  # pandas and matplotlib are loaded where they are asked for
    import pandas as pd

Function = Callable[..., Any]


@dataclass(frozen=True)
class Best:
    """The best completed trial. value: of the objective, as itself."""

    settings: Settings
    value: float
    metrics: Mapping[str, float]
    trial: int


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a search came to; its run is there to be read by `pso-attn` as well."""

    run: LoadedRun

    @property
    def best(self) -> Best:
        """The completed trial of the best objective; RunError where none completed."""
        trial = self.run.best()
        if trial is None:
            raise self.run.without_winner("to be the best")
        assert trial.outcome.values is not None  # a completed trial has them
        return Best(
            trial.candidate.settings,
            trial.outcome.values[0],
            trial.outcome.metrics,
            trial.number,
        )

    @property
    def frame(self) -> "pd.DataFrame":
        """One row for each trial: how it ended, its objective, metrics, parameters, error."""
        from pso_attn.report.frames import trials_frame

        return trials_frame(self.run.history)

    def report(self, out: str | Path | None = None) -> Path:
        """Leave the report in `out`, by default the run's own folder; return its page."""
        from pso_attn.report import build_report

        folder = self.run.folder.report if out is None else Path(out)
        return build_report(self.run.report_input(), folder)


def tune(
    space: str | Path | Mapping[str, Any],
    objective: Function | str | None = None,
    *,
    run: str | None = None,
    runs_dir: str | Path = RUNS_DIR,
    sampler: str | None = None,
    particles: int | None = None,
    batch: int | None = None,
    generations: int | None = None,
    steps: int | None = None,
    seeds: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    storage: str | None = None,
    executor: str | None = None,
    workers: int | None = None,
    ray_address: str | None = None,
    chunk_timeout: float | None = None,
    timeout: float | None = None,
    batched: bool = False,
    maximize: bool = False,
) -> Tuned:
    """Search a space and return what was found; the same call with the same `run` goes on.

    space: a space file's path, the name of a built-in space, a space file's text, or its content
    as a dict; a dict without "search" or a "task" is the [search] table itself.
    objective: function(settings, trial) -> float or dict, or "module:function"; without it the
    space's own task or objective. batched: it takes and returns lists. maximize: more is better.
    run: the run's name in `runs_dir`; by default the first free one. generations: in all, so that
    a larger one prolongs a finished run. timeout: seconds, of this call. executor: where chunks
    train, "local" (the default), "processes" or "ray"; workers: how many at once; chunk_timeout:
    seconds that one may take. A script that uses workers calls tune under
    `if __name__ == "__main__":`, and its objective is defined at the top of a module. The other
    arguments stand in place of the space's own.

    Raises ConfigurationError for what cannot be meant, and RunError where `run` began otherwise.

        >>> import pso_attn
        >>> def objective(settings, trial):
        ...     loss = (settings["x"] - 3) ** 2
        ...     for step in range(1, trial.steps + 1):
        ...         trial.report(step, loss + 1 / step)
        ...         if trial.should_prune():
        ...             return
        ...     return loss
        >>> space = {"x": {"low": 0.0, "high": 10.0}}
        >>> found = pso_attn.tune(space, objective, particles=4, generations=5, steps=8)
        >>> round(found.best.settings["x"])
        3
    """
    flags = {
        "sampler": sampler,
        "particles": particles,
        "batch": batch,
        "generations": generations,
        "seed": seed,
        "device": device,
        "storage": storage,
    }
    execution = {
        "executor": executor,
        "workers": workers,
        "ray_address": ray_address,
        "chunk_timeout_s": chunk_timeout,
    }
    counts = {"steps": steps, "seeds": seeds}
    sets = [f"budget.{key}={value}" for key, value in counts.items() if value is not None]
    configuration = _configuration(
        space, objective, batched, maximize, sets, {**flags, **execution}
    )
    function = objective if callable(objective) else None
    deadline_s = inf if timeout is None else time.monotonic() + timeout
    folder = Path(runs_dir)
    new_name(configuration, run, folder)  # one that cannot be is said at once
    with _held(configuration, function, run, folder, flags, execution) as driven:
        driven.run(deadline_s)
        driven.hold_against(deadline_s)
    return Tuned(load_run(driven.name, folder))


def _held(
    configuration: Configuration,
    function: Function | None,
    name: str | None,
    folder: Path,
    flags: Mapping[str, Any],
    execution: Mapping[str, Any],
) -> AbstractContextManager[DrivenRun]:
    """Return the run, begun or taken up again, to be held inside a block."""
    if name is None or not is_run(folder / name):
        return begin_run(prepare(configuration, function=function), name, folder)
    begun = load_run(name, folder)
    _refuse_other(begun, configuration)
    wanted = configuration.budget.generations
    is_more = flags["generations"] is not None or wanted > _total(begun)
    total = wanted if is_more else None  # the file does not shorten what a call has prolonged
    return resume_run(name, folder, total, flags["device"], function=function, execution=execution)


def _total(begun: LoadedRun) -> int:
    """Return for how many generations a run is meant by now."""
    try:
        with begun.store:
            return begun.configuration.budget.generations
    except NotBegunError:  # it was stopped before its study was made
        return begun.started.budget.generations


def _configuration(
    space: str | Path | Mapping[str, Any],
    objective: Function | str | None,
    batched: bool,
    maximize: bool,
    sets: list[str],
    flags: Mapping[str, Any],
) -> Configuration:
    if objective is None and (batched or maximize):
        raise ConfigurationError(
            "batched and maximize say how an objective is read, and none is given; name one, or "
            "leave them out"
        )
    if isinstance(space, str) and "\n" in space:
        try:
            space = tomllib.loads(space)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"the space's text is not valid TOML: {error}") from error
    if isinstance(space, Mapping):
        is_file = "search" in space or isinstance(space.get("task"), str)
        document: dict[str, Any] = dict(space) if is_file else {"search": dict(space)}
        where, home = "tune", Path.cwd()
    elif objective is None:
        return read_configuration(str(space), sets, flags)
    else:
        from pso_attn.config import find_space, read_toml

        path = find_space(str(space))
        document, where, home = read_toml(path), str(space), path.parent
    if objective is not None:
        document.pop("objective", None)
        document["objective"] = objective if isinstance(objective, str) else _name(objective)
        document["objective_batched"] = batched or document.get("objective_batched", False)
        if maximize:
            document["maximize"] = document.get("objectives", ["loss"])
    return configured(document, where, home, sets, flags)


def _name(function: Function) -> str:
    """Return "module:function"; what cannot be imported by it stands in the script that runs."""
    name, module = getattr(function, "__name__", "function"), getattr(function, "__module__", "")
    if getattr(sys.modules.get(module), name, None) is function:
        return f"{module}:{name}"
    return f"{GIVEN}:{name if name.isidentifier() else 'function'}"


def _refuse_other(run: LoadedRun, wanted: Configuration) -> None:
    """Raise RunError where a run of that name was begun with anything but its length otherwise."""
    from pso_attn.models.families import FAMILIES

    chosen = {family.ways.name for family in FAMILIES.values() if family.ways} - {*wanted.model}
    model = {name: value for name, value in run.started.model.items() if name not in chosen}
    began, now = (_comparable(one) for one in (replace(run.started, model=model), wanted))
    for key in (*now, *began):
        if began.get(key) != now.get(key):
            then, wants = (redacted(str(one.get(key))) for one in (began, now))
            raise RunError(
                f"run {run.name} began with {key} = {then}, and now it is {wants}; give another "
                "run name, or what it began with"
            )


def _comparable(configuration: Configuration) -> dict[str, Any]:
    budget = replace(configuration.budget, generations=1)
    plain = replace(configuration, budget=budget, planned_generations=1)
    document = plain.document()
    ours = {"fingerprint", "direction", "weight_coordinates", "source", "code", "device"}
    ours |= asdict(Execution()).keys()
    document["run"] = {k: v for k, v in document["run"].items() if k not in ours}
    return document
