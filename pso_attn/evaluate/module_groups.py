"""Which modules of a user's own train as one batch: those alike, if a first try gives the same.

Modules may have equal shapes and do different things: heads, dropout and activations are plain
attributes. So those alone are put together whose attributes are equal throughout, and one step of
them as a batch is held against the same step of some of them by themselves.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pso_attn.evaluate.device import is_out_of_memory
from pso_attn.evaluate.module_stack import ModuleStack
from pso_attn.evaluate.own_code import host_generators, own_code
from pso_attn.evaluate.own_factory import names_of
from pso_attn.evaluate.precision import products_in
from pso_attn.seeding import training_seed
from pso_attn.tasks.task import Split

TOLERANCE = 1e-4  # of a batch's results to those one by one, relative to the largest
SCORED, LONGEST = 8, 200  # examples that are scored in the try; characters of a refusal

Make = Callable[[Sequence[nn.Module], Sequence[int]], ModuleStack]


def alike(one: nn.Module, other: nn.Module) -> bool:
    """Tell whether two modules differ in the values of their weights and buffers at most.

    A hook on a gradient is of one parameter and not of a batch's: what has one is alike to none.
    """
    theirs = [dict(module.named_modules()) for module in (one, other)]
    if theirs[0].keys() != theirs[1].keys() or names_of(one) != names_of(other):
        return False
    if any(p._backward_hooks for module in (one, other) for p in module.parameters()):
        return False
    return all(_alike(module, theirs[1][name]) for name, module in theirs[0].items())


def grouped(
    modules: Sequence[nn.Module], kinds: Sequence[Any], make: Make, train: Split
) -> tuple[list[tuple[list[int], ModuleStack]], str | None]:
    """Return groups that train together, by indices, and why some that are alike do not.

    kinds: what must be equal beside the modules. make: modules and their indices -> trainings.
    """
    rows: list[list[int]] = []
    for index, module in enumerate(modules):
        for row in rows:
            if kinds[row[0]] == kinds[index] and alike(modules[row[0]], module):
                row.append(index)
                break
        else:
            rows.append([index])
    groups, reason = [], None
    for row in rows:
        refusal = _refusal([modules[index] for index in row], row, make, train)
        reason = reason or refusal
        parts = [[index] for index in row] if refusal else [row]
        groups += [(part, make([modules[index] for index in part], part)) for part in parts]
    return groups, reason


def _refusal(
    modules: Sequence[nn.Module], row: Sequence[int], make: Make, train: Split
) -> str | None:
    """Return why modules that are alike are not trained as a batch, or None where they are."""
    if len(modules) == 1:
        return None
    data = Split(train.inputs[:SCORED], train.targets[:SCORED])
    try:
        stack = make(copy.deepcopy(list(modules)), row)
        together, is_drawn_once = _step(stack, data)
        if is_drawn_once and len(set(stack.seeds)) > 1:
            return "it draws from Python's or NumPy's generator, and the trainings' seeds differ"
        for index in sorted({0, len(row) // 2, len(row) - 1}):
            alone, _ = _step(make([copy.deepcopy(modules[index])], [row[index]]), data)
            pairs = zip(together, alone, strict=True)
            if not all(_near(mine[index], its[0]) for mine, its in pairs):
                return "in a batch it gives other results than by itself"
    except Exception as error:  # torch.func may refuse by any error
        if is_out_of_memory(error):
            raise
        words = " ".join(str(error).split()).partition(". ")[0]
        return f"torch.func cannot batch it: {words[:LONGEST]}"
    return None


def _step(stack: ModuleStack, data: Split) -> tuple[list[Tensor], bool]:
    """Return the first step's losses, gradients and buffers, and the scores before it, in rows.

    Beside them whether it drew from a generator that is no tensor's, so once for the whole batch.
    All in float32, whatever trains them: else a batch would round otherwise than each by itself.
    """
    scores = stack.score(data)
    stack.module.train()
    stack.precision = "float32"
    device = stack.weights.device
    with (
        own_code(training_seed(stack.seeds[0], 0), device),
        products_in(stack.precision, device),
    ):
        before = host_generators()
        losses = stack.losses(0)
        stack.differentiate(losses.sum())
        is_drawn_once = host_generators() != before
    results = [
        losses.detach(),
        stack.gradients,
        torch.tensor([list(score.values()) for score in scores]),
        *(held[None] if stack.is_alone else held for held in stack.held.values()),
    ]
    return results, is_drawn_once


def _near(one: Tensor, other: Tensor) -> bool:
    one, other = one.double(), other.double()
    scale = float(other.abs().max()) if other.numel() else 1.0
    return bool(torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True))


def _alike(one: nn.Module, other: nn.Module) -> bool:
    """Tell whether two modules, their children aside, are alike."""
    if type(one) is not type(other):
        return False
    mine, theirs = ({k: v for k, v in vars(m).items() if k not in _TENSORS} for m in (one, other))
    shapes = [{n: (t.shape, t.dtype, t.requires_grad) for n, t in _own(m)} for m in (one, other)]
    return shapes[0] == shapes[1] and _equal(mine, theirs)


_TENSORS = ("_parameters", "_buffers", "_modules")


def _own(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [
        *module.named_parameters(recurse=False),
        *module.named_buffers(recurse=False),
    ]


def _equal(one: Any, other: Any) -> bool:
    """Tell whether two attributes are surely equal: values, or one and the same object."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, bool | int | float | str | bytes | complex | torch.dtype | torch.Size):
        return bool(one == other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, set | frozenset):
        return bool(one == other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return False
