"""A run's model as a folder that needs nothing of this package: weights, code, a sample."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from math import inf
from pathlib import Path
from typing import Any

import tomli_w
import torch

from pso_attn.checkpoints import (
    BEST,
    TRAINED,
    Checkpoint,
    as_safetensors,
    keeps_files,
    load_checkpoint,
)
from pso_attn.errors import ConfigurationError, RunError, StorageError
from pso_attn.evaluate.device import one_thread
from pso_attn.evaluate.training import on_device
from pso_attn.models import PlainModel, TaskInfo, family_of, read_model
from pso_attn.models.load import loss_of
from pso_attn.models.standalone import standalone_source
from pso_attn.runs import LoadedRun
from pso_attn.space.layers import flatten
from pso_attn.store.atomic import write_folder_atomically
from pso_attn.tasks.task import Task
from pso_attn.types import Settings

SAMPLED = 64  # validation examples at most, evenly spread


@dataclass(frozen=True)
class Exported:
    """What was exported, and where. source: "train" or "search"; files: their names.

    newer: the trial that the search has found to be better since `trial` was trained, or None.
    """

    folder: Path
    source: str
    trial: int | None
    newer: int | None
    settings: Settings
    parameters: int
    expected: float
    files: tuple[str, ...]


def export_run(run: LoadedRun, out: Path, allow_import: bool = True) -> Exported:
    """Leave the run's model in the folder `out`, whole or not at all.

    It is what `pso-attn train` finished last, else the best that the search trained. Raises
    ConfigurationError where `out` holds something, RunError where the run has no model yet, and
    StorageError where `out` cannot be written.
    """
    _refuse_own_code(run)
    _refuse_taken(out)
    source, checkpoint = _model(run)
    parts = run.assembled_on("auto", allow_import)
    settings = checkpoint.about["settings"]
    expected, written = exported_files(parts.task, settings, checkpoint.tensors)
    try:
        write_folder_atomically(out, written)
    except OSError as error:
        raise StorageError(
            f"{out} cannot be written: {error.strerror}; choose another --out"
        ) from error
    trial = checkpoint.about["plan"]["trial"] if source == "train" else checkpoint.about["trial"]
    parameters = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    best = run.best()
    done = {one.number for one in run.history.trials}
    is_behind = best is not None and trial in done and trial != best.number
    newer = best.number if best is not None and is_behind else None
    return Exported(out, source, trial, newer, settings, parameters, expected, tuple(written))


def exported_files(
    task: Task, settings: Settings, weights: Mapping[str, torch.Tensor]
) -> tuple[float, dict[str, bytes]]:
    """Return the loss that the search's model has on the sample, and the files by name.

    weights: by the names of `FlatStorage.true_parameters`.
    """
    family = family_of(settings)
    plain = family.swarm.plain
    model = plain(family.read(settings, task.info), task.info)
    model.load_swarm_parameters(weights)
    sample = _sample(task)
    expected = _batched_loss(task, settings, weights, sample)
    preprocessing = {
        "schema": 1,
        "task": task.name,
        "info": asdict(task.info),
        "inputs": task.preprocessing(),
    }
    try:
        described = json.dumps(preprocessing, indent=2) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"what preprocessing() of task {task.name} gives cannot be written as JSON: {error}; "
            "give numbers, texts, lists and dicts, as by tolist()"
        ) from error
    told = {**sample, "expected": torch.tensor(expected, dtype=torch.float64)}
    return expected, {
        "model.safetensors": as_safetensors(model.state_dict()),
        "model.py": _source(family.read, plain).encode(),
        "load.py": files("pso_attn.models").joinpath("load.py").read_bytes(),
        "settings.toml": tomli_w.dumps(_without_gaps(settings, task.info)).encode(),
        "preprocessing.json": described.encode(),
        "sample.safetensors": as_safetensors(told),
    }


def _without_gaps(settings: Settings, info: TaskInfo) -> dict[str, Any]:
    """Return settings whose lists say of each layer what it takes; TOML has no word for nothing.

    A knob without a default that follows from others is as if it were not there at infinity.
    """
    family = family_of(settings)
    own = {knob.name: knob.default for knob in family.knobs if knob.default is not None}
    follow = family.defaults(family.read(settings, info), info)
    own |= {**follow, "rank": 1, "softcap": inf}  # a rank is 0 where there is none
    return {name: _filled(value, own.get(name, inf)) for name, value in settings.items()}


def _filled(value: Any, own: Any) -> Any:
    """Return a value, or a list of them for layers, with what is missing as `own` has it.

    own: one value for all layers, or one for each; of heads that differ the layer's widest.
    """
    if None not in flatten(value):
        return value
    owns = own if isinstance(own, list) and len(own) == len(value) else [own] * len(value)
    return [_layer(entry, of_layer) for entry, of_layer in zip(value, owns, strict=True)]


def _layer(entry: Any, own: Any) -> Any:
    widest = max(own) if isinstance(own, list) else own
    if isinstance(entry, list):
        return [widest if one is None else one for one in entry]
    return widest if entry is None else entry


def _refuse_own_code(run: LoadedRun) -> None:
    """Raise ConfigurationError where the model's code is somebody's own."""
    began, checkpoints = run.started, run.folder.checkpoints
    if began.objective is not None:
        kept = f"what it kept lies in {checkpoints}"
        if not keeps_files(checkpoints):
            kept = "it kept no files in trial.checkpoint_dir"
        raise ConfigurationError(
            f"run {run.name} tunes {began.subject}, whose model its own code alone knows, so it "
            f"cannot be exported; {kept}"
        )
    if "model.family" in began.own_code:
        name = TRAINED if (checkpoints / TRAINED).exists() else BEST
        raise ConfigurationError(
            f"run {run.name} has models of {began.family}, whose code cannot be exported; load "
            f"the weights in {checkpoints / name} into what {began.family} makes of its settings"
        )


def _source(read: Callable[..., Any], plain: type[PlainModel]) -> str:
    """Return the code of a family's plain model, which load.py knows as `Model`."""
    known = f"read_settings, Model = {read.__name__}, {plain.__name__}"
    return f"{standalone_source(TaskInfo, read, plain)}\n\n{known}\n"


def _model(run: LoadedRun) -> tuple[str, Checkpoint]:
    """Return which model is exported, and it."""
    for source, name in (("train", TRAINED), ("search", BEST)):
        found = load_checkpoint(run.folder.checkpoints / name)
        if found is not None:
            return source, found
    if run.best() is None:
        raise run.without_winner("to export")
    raise RunError(
        f"run {run.name} has no model in {run.folder.checkpoints}; make one with "
        f"`{run.again('train')}`"
    )


def _sample(task: Task) -> dict[str, torch.Tensor]:
    """Return a few validation examples, the same ones every time."""
    data = on_device(task.validation, torch.device("cpu"), torch.float32)
    count = min(SAMPLED, len(data))
    rows = torch.arange(count) * len(data) // count
    return {
        "inputs": data.inputs.index_select(0, rows),
        "targets": data.targets.index_select(0, rows),
    }


@one_thread()
@torch.no_grad()
def _batched_loss(
    task: Task,
    settings: Settings,
    weights: Mapping[str, torch.Tensor],
    sample: Mapping[str, torch.Tensor],
) -> float:
    """Return the loss on the sample of the model as a swarm of one, which the search trains.

    It is the loss that load.py knows: a task of one's own may have been trained by another.
    """
    swarm_type = family_of(settings).swarm
    swarm = swarm_type.started([read_model(settings, task.info)], task.info, [0])
    swarm.storage.take(0, weights)
    return float(loss_of(swarm.forward(sample["inputs"][None])[0], sample["targets"]))


def _refuse_taken(out: Path) -> None:
    """Raise ConfigurationError unless `out` is free, or an empty folder."""
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise ConfigurationError(f"--out {out} exists and is not a folder; choose another name")
    try:
        taken = any(out.iterdir())
    except OSError as error:
        raise StorageError(f"{out} cannot be read: {error.strerror}") from error
    if taken:
        raise ConfigurationError(f"--out {out} is not empty; choose a new folder")
