"""A model's weights from a safetensors file: an export's, or one that a run keeps."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pso_attn.errors import ConfigurationError
from pso_attn.models.families import swarm_type
from pso_attn.models.info import TaskInfo
from pso_attn.models.swarm import ModelSettings
from pso_attn.models.weights.matrices import drawn_parts

_PICKLES = (b"PK\x03\x04", b"\x80\x02")  # how torch.save begins a file, now and before 1.6


def read_parts(path: Path, settings: ModelSettings, info: TaskInfo) -> dict[str, Tensor]:
    """Return a model's parts by name, float32, of the shapes that the settings have.

    The file holds them as the plain model's state (an export's model.safetensors), or under their
    own names (a run's checkpoints/best.safetensors). Raises ConfigurationError where it is no
    safetensors file, lacks a tensor, has one more or one of another shape, or holds what is not
    finite.
    """
    found = _tensors(path)
    parts = drawn_parts(settings, info, 0)
    places = _places(parts, settings, info)
    is_state = len(places.keys() & found.keys()) > len(parts.keys() & found.keys())
    wanted = places if is_state else parts
    for name, like in wanted.items():
        if name not in found:
            raise ConfigurationError(
                f"{path} has no tensor {name}, which the model of these settings has; use a "
                "checkpoint of the same layers and mechanism"
            )
        if found[name].shape != like.shape:
            raise ConfigurationError(
                f"{path}: {name} is {_shape(found[name])}, and the model's is {_shape(like)}; use "
                "a checkpoint of the same widths, or set them in [model]"
            )
        if not found[name].isfinite().all():
            raise ConfigurationError(
                f"{path}: {name} holds values that are not finite; use a checkpoint of a training "
                "that did not diverge"
            )
    beyond = sorted(found.keys() - wanted.keys())
    if beyond:
        raise ConfigurationError(
            f"{path} has a tensor {beyond[0]}, which the model of these settings lacks; set in "
            "[model] what the checkpoint was trained with, such as its layers"
        )
    if not is_state:
        return {name: found[name].float() for name in parts}
    flat = torch.zeros(sum(part.numel() for part in parts.values()))
    for name, place in places.items():
        flat[place.flatten()] = found[name].float().flatten()
    return _unflattened(flat, parts)


def _tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file."""
    if not os.path.isfile(path):  # a Path raises where the name is too long
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise ConfigurationError(f"the checkpoint {path} {what}; check weights.start")
    head = b""
    try:
        with path.open("rb") as begun:
            head = begun.read(4)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        if not head.startswith(_PICKLES):
            raise ConfigurationError(
                f"{path} is not a whole safetensors file ({error}); export the model again, or "
                "check weights.start"
            ) from error
        raise ConfigurationError(
            f"{path} is a pickle and not a safetensors file; pickles are not read, since they may "
            'run code: convert one that you trust with `python -c "import torch, '
            "safetensors.torch as s; "
            f"s.save_file(torch.load('{path.name}', weights_only=True), "
            f"'{path.stem}.safetensors')\"`"
        ) from error


def _places(
    parts: Mapping[str, Tensor], settings: ModelSettings, info: TaskInfo
) -> dict[str, Tensor]:
    """Return where each entry of the plain model's state stands among all parts, by name.

    The parts are filled with their own places and given to a plain model, which transposes and
    renames them as it does.
    """
    total = sum(part.numel() for part in parts.values())
    model = swarm_type(settings).plain(settings, info).double()
    model.load_swarm_parameters(_unflattened(torch.arange(total).double(), parts))
    return {name: values.long() for name, values in model.state_dict().items()}


def _unflattened(flat: Tensor, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    pieces = flat.split([part.numel() for part in parts.values()])
    return {
        name: piece.view(part.shape)
        for (name, part), piece in zip(parts.items(), pieces, strict=True)
    }


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
