"""Queries, keys and values of all heads out of one projection, and gradients back into it."""

from typing import Any

import torch


def by_heads(
    projected: torch.Tensor, length: int, heads: int, in_token_order: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return q, k and v, (P, B, H, T, d) each, of a projection (P, B · T, 3 · H · d).

    in_token_order: as views of it; else heads are laid side by side in memory first.
    """
    found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = _ByHeads.apply(
        projected, length, heads, in_token_order
    )  # type: ignore[no-untyped-call]  # torch's
    return found


class _ByHeads(torch.autograd.Function):
    """Takes the projection apart; each gradient is written once, to where its values came from.

    Autograd would stack the three and then copy them into the order of the projection.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: torch.Tensor, length: int, heads: int, in_token_order: bool
    ) -> tuple[torch.Tensor, ...]:
        ctx.shape = (len(projected), -1, length, 3, heads, projected.shape[-1] // (3 * heads))
        apart = projected.view(ctx.shape).permute(3, 0, 1, 4, 2, 5)  # (3, P, B, H, T, d)
        return (apart if in_token_order else apart.contiguous()).unbind()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        particles, batch, heads, length, width = gradients[0].shape
        whole = gradients[0].new_empty(particles, batch, length, 3, heads, width)
        for part, gradient in zip(whole.unbind(3), gradients, strict=True):
            part.copy_(gradient.transpose(2, 3))
        return whole.view(particles, batch * length, -1), None, None, None
