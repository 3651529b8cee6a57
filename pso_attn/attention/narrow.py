"""Products of stacks of matrices, as quick where the result is narrow as where it is wide.

On a CPU torch 2.13 hands each matrix of a stack to MKL, which takes two to four times as long for
a result of fewer than 16 columns, as values of a narrow head are, as for one of as few rows. So
such a product is computed the other way round, a b = (bᵀ aᵀ)ᵀ; the result is a view of it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

NARROW = 16  # columns below which a product is computed the other way round
Pair = tuple[Tensor, Tensor]


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b (…, m, n) of a (…, m, k) and b (…, k, n); leading axes as `torch.matmul`'s."""
    if a.device.type != "cpu" or a.shape[:-2] != b.shape[:-2]:
        return a @ b
    return by_hand(multiply, pull, a, b)


def quick(a: Tensor, b: Tensor) -> Tensor:
    """Return the same without a gradient."""
    rows, columns = a.shape[-2], b.shape[-1]
    if a.is_cpu and columns < NARROW and columns < rows:
        turned: Tensor = b.transpose(-1, -2) @ a.transpose(-1, -2)
        return turned.transpose(-1, -2)
    return a @ b


def multiply(a: Tensor, b: Tensor) -> tuple[Tensor, Pair]:
    """Return a b, and what `pull` needs."""
    return quick(a, b), (a, b)


def pull(gradient: Tensor, a: Tensor, b: Tensor) -> Pair:
    """Return the gradients of a and b from that of their product, g bᵀ and aᵀ g."""
    return quick(gradient, b.transpose(-1, -2)), quick(a.transpose(-1, -2), gradient)


def by_hand(
    forward: Callable[[Tensor, Tensor], tuple[Tensor, Pair]],
    backward: Callable[[Tensor, Tensor, Tensor], Pair],
    one: Tensor,
    other: Tensor,
) -> Tensor:
    """Return what `forward` makes of two tensors, with the gradients that `backward` says.

    forward: also returns what it saves. backward: gets the gradient of the result, then that.
    """
    found: Tensor = _ByHand.apply(forward, backward, one, other)  # type: ignore[no-untyped-call]  # torch's
    return found


class _ByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Any, backward: Any, one: Tensor, other: Tensor) -> Tensor:
        found: Tensor
        found, saved = forward(one, other)
        ctx.back = backward
        ctx.save_for_backward(*(x.to(found.dtype) for x in saved))  # what autocast computed in
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.back(gradients[0], *ctx.saved_tensors)
