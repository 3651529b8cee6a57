"""The record of what a run was asked to do, and the document that it is written as."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pso_attn.space import WeightTable, read_weights
from pso_attn.types import Budget, Direction


@dataclass(frozen=True)
class Execution:
    """Where chunks train; changes no result beyond rounding and who shares a chunk.

    executor: local, processes or ray. workers: how many chunks train at once, None for as many as
    there is room for. ray_address: of a cluster, None for the one that Ray finds or starts.
    chunk_timeout_s: how long one try of a chunk may take, None for as long as it needs.
    """

    executor: str = "local"
    workers: int | None = None
    ray_address: str | None = None
    chunk_timeout_s: float | None = None


@dataclass(frozen=True)
class Configuration:
    """Everything that decides what a run does; two runs with equal ones do the same.

    source: the space's name or path, for messages. code: the folder, beside the working one, in
    which modules of "module:Name" are looked for. task: a built-in name or "module:Class"; empty
    where `objective`, a "module:function", stands in its place: batched where it takes lists, and
    maximize: those of its metrics of which more is better.
    data, target, group, time: what a task reads, and which columns; absolute path or None.
    columns, split, forecast: how columns are read, how rows are split, and how far ahead is
    predicted; what they hold a task checks.
    weights: the [weights] table, and weight_coordinates: how many it gives, once that is known.
    model: fixed settings. search: what varies, as written. constraints: expressions.
    starts: settings to try first. swarm: the sampler's options. storage: an Optuna URL, or None
    for the run folder's journal. execution: where chunks train. fingerprint: of the data, and
    direction: of the objective, both once the task was read.
    planned_generations: the budget of the first invocation, which schedules are laid out for;
    `budget.generations` may grow when the run is resumed.
    """

    source: str
    task: str = ""
    objective: str | None = None
    objective_batched: bool = False
    maximize: tuple[str, ...] = ()
    code: str | None = None
    data: str | None = None
    target: str | None = None
    group: str | None = None
    time: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    forecast: Mapping[str, Any] = field(default_factory=dict)
    objectives: tuple[str, ...] = ("loss",)
    model: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    starts: tuple[Mapping[str, Any], ...] = ()
    budget: Budget = field(default_factory=Budget)
    swarm: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    weight_coordinates: int | None = None
    sampler: str = "pso"
    seed: int = 0
    device: str = "auto"
    storage: str | None = None
    execution: Execution = field(default_factory=Execution)
    fingerprint: str | None = None
    direction: Direction | None = None
    planned_generations: int = Budget.generations

    @property
    def subject(self) -> str:
        """What is tuned, for people: "task digits", "objective mine:loss"."""
        return f"task {self.task}" if self.objective is None else f"objective {self.objective}"

    @property
    def family(self) -> str:
        """What models are, the transformer by default: a built-in name or "module:factory"."""
        return str(self.model.get("family", "transformer"))

    @property
    def weight_table(self) -> WeightTable | None:
        """What of the weights is searched, None where only settings are."""
        return read_weights(self.weights, self.source) if self.weights else None

    @property
    def fixed(self) -> dict[str, Any]:
        """The fixed settings: [model], without the name of a factory of one's own."""
        fixed = dict(self.model)
        if "model.family" in self.own_code:
            del fixed["family"]
        return fixed

    @property
    def own_code(self) -> dict[str, str]:
        """What is named as "module:Name", by key."""
        named = {
            "task": self.task,
            "objective": self.objective or "",
            "model.family": self.family,
            "sampler": self.sampler,
            "weights.fitness": str(self.weights.get("fitness", "")),
        }
        return {key: name for key, name in named.items() if ":" in name}

    @property
    def code_folder(self) -> Path | None:
        """The folder of code of one's own, to be sent to machines that do not have it."""
        modules = {name.partition(":")[0].partition(".")[0] for name in self.own_code.values()}
        folders = [Path(self.code)] if self.code else []
        for folder in (*folders, Path.cwd()):
            if any((folder / f"{m}.py").exists() or (folder / m).is_dir() for m in modules):
                return folder
        return None

    @property
    def task_options(self) -> dict[str, Any]:
        """What the task is constructed with: what is given of the keys that are for it."""
        names = ("data", "target", "group", "time", "columns", "split", "forecast")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value not in (None, {})}

    def document(self) -> dict[str, Any]:
        """Return the configuration as a TOML document that reads back to an equal one."""
        budget = asdict(self.budget)
        run = {
            "source": self.source,
            "code": self.code,
            "sampler": self.sampler,
            "seed": self.seed,
            "device": self.device,
            "storage": self.storage,
            **asdict(self.execution),
            "fingerprint": self.fingerprint,
            "direction": self.direction,
            "planned_generations": self.planned_generations,
            "weight_coordinates": self.weight_coordinates,
        }
        subject: dict[str, Any] = {"task": self.task}
        if self.objective is not None:
            subject = {
                "objective": self.objective,
                "objective_batched": self.objective_batched,
                "maximize": list(self.maximize),
            }
        return {
            **subject,
            **self.task_options,
            "objectives": list(self.objectives),
            "model": _plain(self.model),
            "search": _plain(self.search),
            "constraints": {"expressions": list(self.constraints)},
            "budget": {**budget, "rungs": list(self.budget.rungs)},
            "swarm": _plain(self.swarm),
            **({"weights": _plain(self.weights)} if self.weights else {}),
            "run": {name: value for name, value in run.items() if value is not None},
            "start": [_plain(start) for start in self.starts],
        }

    def shown(self) -> dict[str, Any]:
        """Return the document as it may be shown to anybody: without a database's password."""
        from pso_attn.store.connection import redacted  # what loads optuna

        document = self.document()
        if self.storage is not None:
            document["run"]["storage"] = redacted(self.storage)
        return document


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _plain(value) if isinstance(value, Mapping) else value
        for name, value in table.items()
    }
