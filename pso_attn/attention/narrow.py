"""Products of stacks of matrices, as quick where the result is narrow as where it is wide.

On a CPU torch 2.13 hands each matrix of a stack to MKL, which takes two to four times as long for
a result of fewer than 16 columns, as values of a narrow head are, as for one of as few rows. So
such a product is computed the other way round, a b = (bᵀ aᵀ)ᵀ; the result is a view of it.
"""

from typing import Any

import torch

NARROW = 16  # columns below which a product is computed the other way round


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return a b (…, m, n) of a (…, m, k) and b (…, k, n); leading axes as `torch.matmul`'s."""
    if a.device.type != "cpu" or a.shape[:-2] != b.shape[:-2]:
        return a @ b
    found: torch.Tensor = _Product.apply(a, b)  # type: ignore[no-untyped-call]  # torch's
    return found


class _Product(torch.autograd.Function):
    """The product and both gradients, g bᵀ and aᵀ g, each in the quicker way."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        found = quick(a, b)
        ctx.save_for_backward(a.to(found.dtype), b.to(found.dtype))
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,), (a, b) = gradients, ctx.saved_tensors
        for_a, for_b = ctx.needs_input_grad
        return (
            quick(gradient, b.transpose(-1, -2)) if for_a else None,
            quick(a.transpose(-1, -2), gradient) if for_b else None,
        )


def quick(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the same without a gradient."""
    rows, columns = a.shape[-2], b.shape[-1]
    if a.is_cpu and columns < NARROW and columns < rows:
        turned: torch.Tensor = b.transpose(-1, -2) @ a.transpose(-1, -2)
        return turned.transpose(-1, -2)
    return a @ b
