"""Models kept beside a run, each one safetensors file that is whole or not there.

What is to be said of a model stands in the file's own metadata, as JSON: weights and words in two
files could not be replaced together.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pso_attn.errors import RunError, StorageError
from pso_attn.store.atomic import write_atomically
from pso_attn.types import Settings

BEST = "best.safetensors"  # the best particle, as the search trained it
TRAINED = "trained.safetensors"  # what `pso-attn train` finished last


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name, and what was said of them."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any]


def keeps_files(folder: Path) -> bool:
    """Tell whether code of one's own left anything in its folder, which it may do or not."""
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))


def save_best(folder: Path, trial: int, settings: Settings, weights: Mapping[str, Tensor]) -> Path:
    """Leave the weights in `folder`/best.safetensors, whole or not at all; return the path.

    The file's metadata name the trial and, as JSON, the settings to rebuild the model from.
    """
    return save_checkpoint(folder / BEST, weights, {"trial": trial, "settings": dict(settings)})


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Leave tensors and words at `path`, whole or not at all; StorageError where they cannot."""
    metadata = {name: json.dumps(value) for name, value in about.items()}
    try:
        write_atomically(path, as_safetensors(tensors, metadata))
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    return path


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Return what was saved at `path`, on the CPU; None without it, RunError if it is damaged."""
    if not os.path.exists(path):  # a Path raises where it may not look
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = {name: json.loads(text) for name, text in (file.metadata() or {}).items()}
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, about)  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, OSError) as error:
        raise RunError(
            f"{path} cannot be read ({error}); remove it, and what made it can make it again"
        ) from error


def as_safetensors(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return tensors as the bytes of a safetensors file, wherever they lie now.

    Those that share memory are written apart: safetensors would refuse them.
    """
    plain, taken = dict[str, Tensor](), set[int]()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        plain[name] = own.clone() if memory in taken else own
        taken.add(memory)
    data: bytes = safetensors.torch.save(plain, dict(metadata or {}))
    return data
