"""How the heads of small attention are multiplied side by side.

torch 2.13 multiplies a batch of matrices by a plain loop where one product has fewer than 400
multiplications, and at such sizes a CPU spends most of a step there. So keys and values of all
heads stand side by side, each head in columns of its own and zero in the others: one product a
sequence in place of one a head, on memory in the order of tokens, (P, B, T, H, ·), as the
projections leave it.
"""

from functools import lru_cache
from typing import Any

import torch

from pso_attn.attention.narrow import product

LOOPED = 400  # multiplications of one product below which torch does not call a BLAS
WIDEST = 256  # heads times columns of all heads: above, the zeros cost more than the loop


def side_by_side(length: int, heads: int, head_dim: int, device: torch.device) -> bool:
    """Tell whether heads are multiplied side by side; q, k and v are best in token order then."""
    small = length * length * head_dim < LOOPED and heads * heads * head_dim <= WIDEST
    return small and device.type == "cpu"


def products(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Return q kᵀ (P, B, H, T, keys) of q (P, B, H, T, d) and k (P, B, H, keys, d)."""
    particles, batch, heads, keys, width = k.shape
    if not side_by_side(keys, heads, width, k.device):
        return product(q, k.transpose(-1, -2))
    apart = _apart(k).flatten(0, 1).flatten(1, 2)  # (P·B, H·keys, H·d)
    scores = torch.bmm(by_token(q).flatten(0, 1), apart.transpose(1, 2))  # (P·B, T, H·keys)
    return scores.view(particles, batch, -1, heads, keys).transpose(2, 3)


def weighted(weights: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return Σ_j a_ij v_j (P, B, H, T, d) of weights (P, B, H, T, T) and v (P, B, H, T, d)."""
    _, batch, heads, length, width = v.shape
    if not side_by_side(length, heads, width, v.device):
        return product(weights, v)
    apart = _apart(v).flatten(0, 1).flatten(1, 2)  # (P·B, H·T, H·d)
    return by_head(torch.bmm(by_token(weights).flatten(0, 1), apart), batch, heads)


def by_token(x: torch.Tensor) -> torch.Tensor:
    """Return x (P, B, H, T, d) as (P, B, T, H · d): a view of what is in token order."""
    return x.transpose(2, 3).flatten(3)


def by_head(x: torch.Tensor, batch: int, heads: int) -> torch.Tensor:
    """Return x (P · B, T, H · d) as (P, B, H, T, d)."""
    split: torch.Tensor = x.unflatten(-1, (heads, -1)).unflatten(0, (-1, batch))
    return split.transpose(2, 3)


def in_token_order(constant: torch.Tensor) -> torch.Tensor:
    """Return the same (P, 1, H, T, T) laid out in memory as `products` lays out its scores."""
    return constant.transpose(2, 3).contiguous().transpose(2, 3)


def _apart(x: torch.Tensor) -> torch.Tensor:
    """Return x (P, B, H, T, d) as (P, B, H, T, H · d), zero but in the head's own columns."""
    apart: torch.Tensor = _Apart.apply(x)  # type: ignore[no-untyped-call]  # torch's
    return apart


class _Apart(torch.autograd.Function):
    """Sets heads apart; the gradient is what stands in each head's own columns, without a copy."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        own = own_columns(x.shape[2], x.shape[4], x.dtype)[:, None]  # (H, 1, H·d)
        apart: torch.Tensor = by_token(x)[:, :, None] * own
        return apart

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        heads = gradients[0].shape[2]
        own: torch.Tensor = gradients[0].unflatten(-1, (heads, -1)).diagonal(0, 2, 4)
        return own.movedim(-1, 2)  # (P, B, T, d, H) -> (P, B, H, T, d)


@lru_cache(maxsize=64)
def own_columns(heads: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return (H, H · d), one in the columns of head h and zero elsewhere."""
    columns: torch.Tensor = torch.eye(heads, dtype=dtype).repeat_interleave(width, 1)
    return columns
