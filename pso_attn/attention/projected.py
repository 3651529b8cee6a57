"""Queries, keys and values of all heads out of one projection, and gradients back into it."""

from typing import Any

import torch

from pso_attn.attention.rows import contiguous, copy_rows


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


def by_tokens(heads: torch.Tensor) -> torch.Tensor:
    """Return heads' outputs (P, B, H, T, d) as (P, B · T, H · d): a view if in token order."""
    found: torch.Tensor = _ByTokens.apply(heads)  # type: ignore[no-untyped-call]  # torch's
    return found


class _ByHeads(torch.autograd.Function):
    """Takes the projection apart; each gradient is written once, to where its values came from.

    Autograd would stack the three and then copy them into the order of the projection.
    """

    @staticmethod
    def forward(
        ctx: Any, projected: torch.Tensor, length: int, heads: int, in_token_order: bool
    ) -> tuple[torch.Tensor, ...]:
        shape = (len(projected), -1, length, 3, heads, projected.shape[-1] // (3 * heads))
        apart = projected.view(shape).permute(3, 0, 1, 4, 2, 5)  # (3, P, B, H, T, d)
        return (apart if in_token_order else contiguous(apart)).unbind()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        particles, batch, heads, length, width = gradients[0].shape
        whole = gradients[0].new_empty(particles, batch, length, 3, heads, width)
        for part, gradient in zip(whole.unbind(3), gradients, strict=True):
            copy_rows(gradient.transpose(2, 3), part)
        return whole.view(particles, batch * length, -1), None, None, None


class _ByTokens(torch.autograd.Function):
    """Lays heads' outputs in token order; their gradient lies as they did."""

    @staticmethod
    def forward(ctx: Any, heads: torch.Tensor) -> torch.Tensor:
        tokens = heads.transpose(2, 3)  # (P, B, T, H, d)
        ctx.shape, ctx.in_token_order = tokens.shape, tokens.is_contiguous()
        return contiguous(tokens).flatten(3).flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        heads = gradients[0].reshape(ctx.shape).transpose(2, 3)
        return heads if ctx.in_token_order else contiguous(heads)
