"""The second half of a layer: x + dropped(gelu(norm(x) expand) contract), for all particles."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from pso_attn.models.norm import normed, pull_back, standardise

AT_ONCE = 2**19  # entries of hidden values: 2 MiB, so that they are still in a core's caches


def fed_forward(x: Tensor, expand: Tensor, contract: Tensor, factors: Tensor | None) -> Tensor:
    """Return (N, R, C) of tokens x of that shape, with maps (N, C, F) and (N, F, C).

    factors: of dropout (N, R, C), None where nothing is dropped.
    """
    is_large = len(x) * x.shape[1] * expand.shape[2] > AT_ONCE
    if is_large and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        if torch.is_grad_enabled():
            out: Tensor = _FedForward.apply(x, expand, contract, factors)  # type: ignore[no-untyped-call]  # torch's
            return out
        whole = torch.empty_like(x)
        for _ in _pushed(_size(x, expand), x, expand, contract, factors, whole):
            pass  # hidden values of a few particles at a time
        return whole
    contracted = torch.bmm(gelu(torch.bmm(normed(x), expand)), contract)
    return x + (contracted if factors is None else contracted * factors)


class _FedForward(torch.autograd.Function):
    """A few particles after each other, so that hidden values need not leave a core's caches.

    To the same floats as the formula, which smaller tiles take. The gradient of hidden values is
    written over what it comes from.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, expand: Tensor, contract: Tensor, factors: Tensor | None
    ) -> Tensor:
        ctx.size, whole = _size(x, expand), torch.empty_like(x)
        pieces = _pushed(ctx.size, x, expand, contract, factors, whole)
        blocks = [tensor for kept in pieces for tensor in kept]
        ctx.save_for_backward(x, expand, contract, factors, *blocks)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, expand, contract, factors, *blocks = ctx.saved_tensors
        found = (
            torch.empty_like(x),
            expand.new_empty(expand.shape),
            expand.new_empty(contract.shape),
        )
        pieces = _cut(ctx.size, x, expand, contract, factors, gradients[0], *found)
        for index, (rows, first, second, drops, gradient, to_x, to_first, to_second) in enumerate(
            pieces
        ):
            normed_rows, mean, scale, hidden, active = blocks[5 * index : 5 * index + 5]
            pulled = gradient if drops is None else gradient * drops
            torch.bmm(active.transpose(1, 2), pulled, out=to_second)
            slopes = torch.bmm(pulled, second.transpose(1, 2))
            torch.ops.aten.gelu_backward.grad_input(slopes, hidden, grad_input=slopes)
            torch.bmm(normed_rows.transpose(1, 2), slopes, out=to_first)
            pulled = pull_back(torch.bmm(slopes, first.transpose(1, 2)), rows, mean, scale)
            torch.add(pulled, gradient, out=to_x)
        return *found, None


def _size(x: Tensor, expand: Tensor) -> int:
    """Return how many particles are computed at once."""
    return max(1, AT_ONCE // (x.shape[1] * expand.shape[2]))


def _pushed(
    size: int, x: Tensor, expand: Tensor, contract: Tensor, factors: Tensor | None, whole: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    """Put the output into `whole`, a few particles at a time; yield what their gradients need."""
    for rows, first, second, drops, out in _cut(size, x, expand, contract, factors, whole):
        normed_rows, mean, scale = standardise(rows)
        hidden = torch.bmm(normed_rows, first)
        active = gelu(hidden)
        torch.bmm(active, second, out=out)
        if drops is not None:
            out *= drops
        out += rows
        yield normed_rows, mean, scale, hidden, active


def _cut(size: int, x: Tensor, *others: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Return blocks of so many particles of each tensor (N, …)."""
    count = -(-len(x) // size)
    whole = (x, *others)
    return zip(*([None] * count if y is None else y.split(size) for y in whole), strict=True)
