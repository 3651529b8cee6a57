"""A factory of one's own: `factory(settings, task_info)` makes the module that is trained.

Before anything trains, each module is looked at: whether it can be made, what it gives for two
examples, and what that costs. What is wrong is one sentence.
"""

import copy
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakTensorKeyDictionary

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.optimiser import KNOBS, check_batch, read_recipe
from pso_attn.evaluate.own_code import in_one_sentence, own_code, why
from pso_attn.evaluate.probe import height_bytes
from pso_attn.evaluate.smoothing import check_smoothing
from pso_attn.models.footprint import BYTES, HELD, SCORED_TOGETHER
from pso_attn.tasks.task import Task
from pso_attn.types import Settings

_CHANGES_NO_MODULE = {knob.name for knob in KNOBS} - {"batch_size"}  # which changes its memory
LOOKED_AT = 2  # examples; one alone has no variance for a batch norm, and may lose its axis
_RETURNED = WeakTensorKeyDictionary()  # living tensors: None where trained, else how they were


class OwnFactory:
    """Makes modules of a user's own, and knows what each costs."""

    def __init__(self, function: Callable[..., Any], name: str, task: Task) -> None:
        """name: how messages call it."""
        self.function, self.name, self.task = function, name, task
        self._known: dict[str, dict[str, int] | str] = {}  # costs, or why there are none

    def make(self, settings: Settings, seed: int, device: torch.device | None = None) -> nn.Module:
        """Return the module of these settings, started from a seed on the CPU.

        device: where it is to lie then. `Module.to` moves in place, so for another device what
        came before is copied: what comes after would find it there.

        Raises ConfigurationError where the factory raises, returns no module, one without float32
        parameters to train, or those of a module before, which may have been trained since. What
        nobody trains may be shared, as long as nobody changes it.
        """
        try:
            with own_code(seed, torch.device("cpu")):
                module = self.function(dict(settings), self.task.info)
        except (Exception, SystemExit) as error:  # a user's factory may raise anything
            raise ConfigurationError(why(self.name, error)) from error
        if not isinstance(module, nn.Module):
            raise ConfigurationError(
                f"{self.name} returned a {type(module).__name__}; expected a torch.nn.Module"
            )
        trained = [p for p in module.parameters() if p.requires_grad]
        if not trained:
            raise ConfigurationError(f"{self.name} returned a module without parameters to train")
        state = state_of(module)
        if any(map(is_lazy, state.values())):
            raise ConfigurationError(
                f"{self.name} returned a lazy module, whose parameters have no shape yet; call it "
                "once with some inputs before you return it"
            )
        others = {str(p.dtype) for p in trained if p.dtype != torch.float32}
        if others:
            raise ConfigurationError(
                f"{self.name} returned parameters of {', '.join(sorted(others))}; expected "
                "torch.float32, and precision is a knob of the training"
            )
        if any(_RETURNED.get(p, "") is None for p in trained):
            raise ConfigurationError(
                f"{self.name} returned parameters that it returned before; make a new module each "
                "time, as with copy.deepcopy"
            )
        shared = False
        for name, tensor in state.items():
            now = None if tensor.requires_grad else _state(tensor)
            if now is not None and tensor in _RETURNED:
                shared = True
                if _RETURNED[tensor] != now:
                    raise ConfigurationError(
                        f'{self.name} returned a module whose "{name}" is that of one before, '
                        "which has changed it since, as a batch norm does; copy that part each "
                        "time, as with copy.deepcopy"
                    )
            _RETURNED[tensor] = now
        if device is None or device.type == "cpu":
            return module
        return (apart(module) if shared else module).to(device)

    def running(self) -> AbstractContextManager[None]:
        """Return a block in which what a module raises is said in one sentence."""
        return in_one_sentence(f"{self.name}'s module")

    def cost(self, settings: Settings) -> dict[str, int]:
        """Return `parameters`, `flops` and `memory_bytes`, as `models.model_cost` does.

        flops: as PyTorch counts them of the forward pass, and twice as many for the backward.
        memory_bytes: weights, gradients, two moments, what is not trained, and what autograd keeps
        for a batch, or scoring takes where that is more.
        Raises ConfigurationError where the settings give no module that fits the task.
        """
        recipe = read_recipe(settings)
        check_batch(recipe.batch_size, len(self.task.train))
        check_smoothing(recipe.label_smoothing, self.task.info)
        own = {k: v for k, v in settings.items() if k not in _CHANGES_NO_MODULE}
        key = json.dumps(own, sort_keys=True, default=str)
        if key not in self._known:
            try:
                self._known[key] = self._measured(settings)
            except ConfigurationError as error:
                self._known[key] = str(error)
        known = self._known[key]
        if isinstance(known, str):
            raise ConfigurationError(known)
        return known

    def check_shape(self, logits: Any, examples: int) -> None:
        """Raise ConfigurationError unless a module gave what the task scores."""
        info = self.task.info
        answered = [info.horizon or info.length] if info.per_token else []
        expected = (examples, *answered, info.outputs)
        if not isinstance(logits, torch.Tensor):
            raise ConfigurationError(
                f"{self.name}'s module gives a {type(logits).__name__}; expected a tensor of "
                f"shape {expected}"
            )
        if tuple(logits.shape) != expected:
            raise ConfigurationError(
                f"{self.name}'s module gives the shape {tuple(logits.shape)} for {examples} "
                f"examples; task {self.task.name} expects {expected}"
            )

    def _measured(self, settings: Settings) -> dict[str, int]:
        module, device = self.make(settings, 0), torch.device("cpu")
        more = self.task.train.inputs[: 2 * LOOKED_AT]
        more = more.float() if more.is_floating_point() else more  # as it is trained on
        inputs = more[:LOOKED_AT].clone()  # of its own: its size is counted
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        counter = FlopCounterMode(display=False)
        try:
            with (
                own_code(0, device),
                torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
                counter,
            ):
                logits = module(inputs)
            with own_code(0, device), torch.no_grad():
                module.eval()
                few, many = (height_bytes(partial(module, some)) for some in (inputs, more))
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise ConfigurationError(why(f"{self.name}'s module", error)) from error
        self.check_shape(logits, len(inputs))
        if not logits.requires_grad:
            raise ConfigurationError(
                f"{self.name}'s module gives answers that none of its parameters can be trained "
                "by; leave out what cuts their gradient off, such as detach or no_grad"
            )
        state = state_of(module).values()
        for tensor in state:
            kept.pop(tensor.untyped_storage().data_ptr(), None)
        parameters = sum(tensor.numel() for tensor in state if tensor.requires_grad)
        held = sum(tensor.nbytes for tensor in state if not tensor.requires_grad)
        trained_on = read_recipe(settings).batch_size * sum(kept.values()) // len(inputs)
        each = max(0, many - few) / LOOKED_AT  # weights that are made anew come once
        scored = few + int((SCORED_TOGETHER - LOOKED_AT) * each)
        return {
            "parameters": parameters,
            "flops": 3 * counter.get_total_flops() // len(inputs),
            "memory_bytes": HELD * BYTES * parameters + held + max(trained_on, scored),
        }


def apart(module: nn.Module) -> nn.Module:
    """Return a copy of a module, but for the parameters that it trains: copies lack hooks."""
    trained = [p for p in module.parameters() if p.requires_grad]
    return copy.deepcopy(module, {id(p): p for p in trained})


def _state(tensor: torch.Tensor) -> tuple[int, str]:
    """Return what tells whether a tensor changes: batch norms' changes count for nothing."""
    changes = 0 if tensor.is_inference() else tensor._version
    is_small = not isinstance(tensor, nn.Parameter) and not tensor.is_complex()
    return changes, str(float(tensor.detach().double().sum())) if is_small else ""


def state_of(module: nn.Module) -> Mapping[str, torch.Tensor]:
    """Return a module's parameters, tied ones once, and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def names_of(module: nn.Module) -> Mapping[str, str]:
    """Return for each name of a module's `state_dict` the one that `state_of` has for it.

    Tied parameters have several names there, and buffers that are not persistent have none.
    """
    known = {id(tensor): name for name, tensor in state_of(module).items()}
    saved = module.state_dict(keep_vars=True)
    return {name: known[id(tensor)] for name, tensor in saved.items() if id(tensor) in known}
