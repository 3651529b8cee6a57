"""The best particle's weights, kept beside a run as it goes."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from pso_attn.store.atomic import write_atomically
from pso_attn.types import Settings

BEST = "best.safetensors"


def save_best(folder: Path, trial: int, settings: Settings, weights: Mapping[str, Tensor]) -> Path:
    """Leave the weights in `folder`/best.safetensors, whole or not at all; return the path.

    The file's metadata name the trial and, as JSON, the settings to rebuild the model from.
    """
    metadata = {"trial": str(trial), "settings": json.dumps(settings)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    path = folder / BEST
    write_atomically(path, safetensors.torch.save(plain, metadata))
    return path
