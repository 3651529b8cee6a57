"""A run as it is read: its configuration, its history, its best, how far it is."""

import fcntl
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pso_attn.assembly import assemble
from pso_attn.before_and_after import before_and_after
from pso_attn.config import Configuration, configuration_from, located_storage
from pso_attn.configured_space import make_bare_space, make_space
from pso_attn.errors import RunError
from pso_attn.parts import Parts
from pso_attn.space import FITNESS, Space
from pso_attn.store import RUNS_DIR, OptunaStore, RunFolder, load_study
from pso_attn.types import Generation, History, Objective, Trial

if TYPE_CHECKING:  # reports need pandas and matplotlib, and few commands need reports
    from pso_attn.report import ReportInput

GENERATIONS = "generations"  # study attribute: the budget in all, once a resume raised it
CONFIRMATION = "confirm.json"
CONTROL = "control.json"


class LoadedRun:
    """A run that is only read: no lock, no training, and its data untouched until asked for."""

    def __init__(self, folder: RunFolder) -> None:
        """Read the configuration that the run was started with."""
        self.folder = folder
        where = str(folder.path / "config.toml")
        read = configuration_from(folder.configuration(), where)
        storage = None if read.storage is None else located_storage(read.storage)
        self.started = replace(read, storage=storage)  # runs of before may have a relative one
        if self.started.direction is None:
            raise RunError(f"{where} has no run.direction; it is not a run's configuration")
        table = self.started.weight_table
        is_own = table is not None and table.fitness is not None
        name = FITNESS if is_own else self.started.objectives[0]
        self.objectives = (Objective(name, self.started.direction),)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration, with the budget as a resume may have raised it."""
        return with_total(self.started, self.store.get_attribute(GENERATIONS))

    @cached_property
    def store(self) -> OptunaStore:
        """The run's store, opened for reading."""
        return OptunaStore.load(
            self.started.storage,
            self.folder,
            make_bare_space(self.started),
            self.objectives,
            read_only=True,
        )

    @property
    def history(self) -> History:
        """Every generation that is finished by now."""
        return self.store.history()

    @property
    def unfinished(self) -> Generation | None:
        """The generation that is begun and not finished, with its outcomes so far."""
        return self.store.open(len(self.history))

    @cached_property
    def space(self) -> Space:
        """The run's space; reads the data, since constraints may need their shapes.

        An objective of one's own is not asked for: no constraint is about it.
        """
        if self.started.objective is not None:
            return make_space(self.started, None)
        return self.assembled_on("auto").space

    def assembled(
        self,
        device: str | None = None,
        allow_import: bool = True,
        function: Callable[..., Any] | None = None,
    ) -> Parts:
        """Return the parts that the run began with, on its own device unless another is named.

        That has to be here, and need not have every precision of the space: what is trained is
        checked by itself. function: the objective of one's own, where it is at hand.

        Reads the data, and nothing of the study, which a run that was killed at once has not.
        RunError if the data are not those that the run began with.
        """
        from pso_attn.evaluate import resolve_device

        chosen = str(resolve_device(device or self.started.device))
        return self.assembled_on("auto", allow_import, function).on(chosen)

    def assembled_on(
        self,
        device: str,
        allow_import: bool = True,
        function: Callable[..., Any] | None = None,
    ) -> Parts:
        """Return the parts on a device that is there, if not here, then where chunks train.

        "auto" will do where nothing is trained: a run's GPUs may be another machine's.
        """
        parts = assemble(replace(self.started, device=device), allow_import, function)
        return same_data(self.name, parts, self.started)

    def report_input(self) -> "ReportInput":
        """Return what a report is made from."""
        from pso_attn.report import ReportInput

        searched, weights = self.assembled_on("auto") if self.started.weights else None, None
        if searched is not None:
            weights = before_and_after(searched, self.folder, self._control())
        return ReportInput(
            name=self.name,
            history=self.history,
            space=self.space if searched is None else searched.space,
            configuration=self.configuration.shown(),
            environment=self.folder.environment(),
            confirmation=self._confirmation(),
            study=load_study(self.folder, self.started.storage),
            runs_dir=self.folder.runs_dir,
            weights=weights,
            source=str(self.folder.path),
        )

    def best(self) -> Trial | None:
        """Return the completed trial of the lowest loss, ties to the earlier; None without one."""
        return best_trial(self.history)

    def _confirmation(self) -> Mapping[str, Any] | None:
        """Return what was confirmed of the best, None where it was of one found before it."""
        document, best = self.folder.read_json(CONFIRMATION), self.best()
        if document is None or best is None:
            return None
        return document if document["rows"][1]["trial"] == best.number else None

    def _control(self) -> Mapping[str, Any] | None:
        """Return what the weights are held against, None where it was of fewer trials."""
        document = self.folder.read_json(CONTROL)
        if document is None or document["trials"] != len(self.history.trials):
            return None
        return dict(document)

    def without_winner(self, purpose: str) -> RunError:
        """Return the error of a run in which no trial completed: why, and what to do.

        purpose: what a completed trial is wanted for, such as "to confirm".
        """
        from pso_attn.report.endings import reasons  # beside what draws, which takes long to load

        history, again = self.history, self.again("resume")
        said = f"run {self.name} has no completed trial {purpose}"
        failures = reasons(history.trials)
        if not failures or len(history) < self.configuration.budget.generations:
            return RunError(f"{said}; go on with `{again}`")
        error, times = failures[0]
        return RunError(
            f"{said}: of {len(history.trials)}, {times} failed with `{error}`; narrow the ranges "
            f"of its space, or go on with `{again} --generations {2 * len(history)}`"
        )

    def state(self) -> str:
        """Return "running", "locked" (by another host), "finished" or "interrupted"."""
        if _is_driven(self.folder):
            return "running"
        holder = self.store.driver()
        if holder is not None and holder["host"] != socket.gethostname():
            return "locked"
        done = len(self.history) >= self.configuration.budget.generations
        return "finished" if done else "interrupted"

    def again(self, command: str) -> str:
        """Return the shell command that does something with this run."""
        return self.folder.again(command)


def load_run(run: str | Path, runs_dir: str | Path = RUNS_DIR) -> LoadedRun:
    """Return a run by its name in `runs_dir`, or by its path; RunError where there is none."""
    return LoadedRun(RunFolder.open(str(run), Path(runs_dir)))


def same_data(name: str, parts: Parts, recorded: Configuration) -> Parts:
    """Return the parts if their data are those that the run began with, else raise RunError."""
    if recorded.fingerprint != parts.fingerprint:
        raise RunError(
            f"run {name} began with other data: its {recorded.task} data had the SHA-256 "
            f"{str(recorded.fingerprint)[:12]}…, now it is {str(parts.fingerprint)[:12]}…; "
            "restore the data, or begin a new run"
        )
    return parts


def best_trial(history: History) -> Trial | None:
    """Return the completed trial of the lowest loss, ties to the earlier; None without one."""
    return next(iter(history.ranked), None)


def with_total(configuration: Configuration, generations: int | None) -> Configuration:
    """Return the configuration with the budget in all that a resume recorded, if one did."""
    if generations is None:
        return configuration
    budget = replace(configuration.budget, generations=generations)
    return replace(configuration, budget=budget)


def _is_driven(folder: RunFolder) -> bool:
    """Tell whether a process of this machine holds the run's lock."""
    try:
        with open(folder.path / "lock", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
