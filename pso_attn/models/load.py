"""Rebuild the model that lies beside this file; run as a script, check it against its search.

Needs torch, safetensors and numpy, and nothing of the program that found the model:

    from load import load_model
    logits = load_model()(inputs)

What the inputs are, preprocessing.json says: under "info" their shapes, under "inputs" what was
learned from the data to make them.
"""

import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, mse_loss

HERE = Path(__file__).resolve().parent
BROKEN_CODE = (SyntaxError, NameError, AttributeError)  # of a model.py that is torn


def load_model(folder: str | Path = HERE) -> torch.nn.Module:
    """Return the model as trained, on the CPU and in evaluation mode."""
    folder = Path(folder)
    code = _code(folder / "model.py")
    settings = tomllib.loads((folder / "settings.toml").read_text(encoding="utf-8"))
    described = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    info = code.TaskInfo(**described["info"])
    model: torch.nn.Module = code.Model(code.read_settings(settings, info), info)
    model.load_state_dict(_tensors(folder / "model.safetensors"))
    return model.eval()


def check(folder: str | Path = HERE) -> dict[str, float]:
    """Return the loss on the stored sample, and what the search's model had."""
    sample = _tensors(Path(folder) / "sample.safetensors")
    with torch.no_grad():
        logits = load_model(folder)(sample["inputs"])
    loss = loss_of(logits, sample["targets"])
    return {"loss": float(loss), "expected": float(sample["expected"])}


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of classes, the mean squared error of numbers."""
    if targets.is_floating_point():
        answers = logits.squeeze(-1)  # a forecast's targets say more than the horizon's numbers
        return mse_loss(answers, targets[..., : answers.shape[-1]])
    return cross_entropy(logits.flatten(0, -2), targets.flatten())


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return what a file holds; ValueError where it is damaged."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _code(path: Path) -> ModuleType:
    """Return the module at a path, known by that path: several models may be loaded together.

    Without dots, for pickle would take what stands before one for a package.
    """
    name = str(path).replace(".", "_")
    module = sys.modules[name] = ModuleType(name)
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), module.__dict__)
    return module


if __name__ == "__main__":
    try:
        print(json.dumps(check()))
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, *BROKEN_CODE) as error:
        words = " ".join(str(error).split())
        sys.exit(f"error: {HERE} holds no whole export: {words}; export the run again")
