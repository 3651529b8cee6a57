"""An exported model on new rows: only its folder and this package are needed.

The folder's weights, settings and preprocessing are read; its code is not run.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.device import one_thread
from pso_attn.models import PlainModel, TaskInfo, family_of
from pso_attn.models.footprint import SCORED_TOGETHER
from pso_attn.tasks import TASKS


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a model says of each row, or of each step to come, in order.

    metrics: where the file has the right answers. notes: what a person should hear of the rows.
    """

    task: str
    target: str
    predictions: list[dict[str, Any]]
    metrics: Mapping[str, float] | None
    notes: tuple[str, ...] = ()


def predict(folder: Path, data: str) -> Predicted:
    """Return what the model exported to `folder` says of the rows in the file `data`.

    Raises ConfigurationError where the folder holds no export, or one of a task that does not
    read files, and DataError where the rows are not as the model's own were.
    """
    described = _described(folder)
    task = described["task"]
    known = TASKS.get(task)
    if known is None or known.read_new is None:
        able = ", ".join(name for name, built_in in TASKS.items() if built_in.read_new)
        raise ConfigurationError(
            f'{folder} is of task "{task}"; predict reads new rows for {able}: use its load.py'
        )
    model = _model(folder, described)
    try:
        rows = known.read_new(described["inputs"], data)
    except (KeyError, TypeError) as error:
        raise _edited(folder) from error
    logits = _answers(model, rows.inputs)
    metrics = None if rows.metrics is None else rows.metrics(logits)
    return Predicted(task, rows.target, rows.predictions(logits), metrics, rows.notes)


def _described(folder: Path) -> Mapping[str, Any]:
    """Return what preprocessing.json says."""
    path = folder / "preprocessing.json"
    if not os.path.isdir(folder):  # a Path raises where the name is too long
        said = "is a file" if os.path.exists(folder) else "does not exist"
        raise ConfigurationError(f"{folder} {said}; give the folder that `pso-attn export` wrote")
    if not os.path.isfile(path):
        raise ConfigurationError(
            f"{folder} has no preprocessing.json; give the folder that `pso-attn export` wrote"
        )
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] == 1 and found["info"] and found["task"] and "inputs" in found:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise _edited(folder)


def _edited(folder: Path) -> ConfigurationError:
    """Return the error of a folder whose preprocessing.json was changed."""
    path = folder / "preprocessing.json"
    return ConfigurationError(
        f"{path} is not as `pso-attn export` writes it; export the run again"
    )


def _model(folder: Path, described: Mapping[str, Any]) -> PlainModel:
    try:
        settings = tomllib.loads((folder / "settings.toml").read_text(encoding="utf-8"))
        info = TaskInfo(**described["info"])
        family = family_of(settings)
        model = family.swarm.plain(family.read(settings, info), info)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        words = str(error).strip().splitlines()[0]
        raise ConfigurationError(
            f"the model in {folder} cannot be rebuilt ({words}); export the run again"
        ) from error
    return model.eval()


@one_thread()
@torch.no_grad()
def _answers(model: PlainModel, inputs: torch.Tensor) -> torch.Tensor:
    """Return logits (n, outputs), or (n, horizon, outputs)."""
    return torch.cat([model(part) for part in inputs.split(SCORED_TOGETHER)])
