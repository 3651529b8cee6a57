"""How queries, keys and values of all heads are multiplied.

torch 2.13 multiplies a batch of matrices by a plain loop where one product has fewer than 400
multiplications, and walks rows of fewer than 16 entries one by one; at such sizes a CPU spends
most of a step there. So heads stand side by side: queries, and values, of all heads in one matrix,
each head in columns of its own and zero in the others. It is one product a sequence in place of
one a head, on memory in the order of tokens, (P, B, T, H, ·), as projections leave it; and scores
lie in the order (P, B, keys, H, T), so that what is done to rows of keys runs along all queries.
"""

import torch
from torch import Tensor

from pso_attn.attention import narrow
from pso_attn.attention.narrow import Pair, by_hand, quick
from pso_attn.attention.normalise import SHORT_ROWS
from pso_attn.attention.rows import copy_rows

WIDEST = 256  # heads times columns of all heads: above, the zeros cost more than the loop


def side_by_side(length: int, heads: int, head_dim: int, device: torch.device) -> bool:
    """Tell whether heads are multiplied side by side; q, k and v are best in token order then."""
    small = length < SHORT_ROWS and heads * heads * head_dim <= WIDEST
    return small and device.type == "cpu"


def products(q: Tensor, k: Tensor) -> Tensor:
    """Return q kᵀ (P, B, H, T, keys) of q (P, B, H, T, d) and k (P, B, H, keys, d)."""
    found = way(k)
    return by_hand(found.multiply, found.pull, q, k)


def weighted(weights: Tensor, v: Tensor) -> Tensor:
    """Return Σ_j a_ij v_j (P, B, H, T, d) of weights (P, B, H, T, T) and v (P, B, H, T, d)."""
    found = way(v)
    return by_hand(found.weigh, found.push, weights, v)


def by_token(x: Tensor) -> Tensor:
    """Return x (P, B, H, T, d) as (P, B, T, H · d): a view of what is in token order."""
    return x.transpose(2, 3).flatten(3)


def by_head(x: Tensor, batch: int, heads: int) -> Tensor:
    """Return x (P · B, T, H · d) as (P, B, H, T, d)."""
    return x.view(-1, batch, x.shape[1], heads, x.shape[2] // heads).transpose(2, 3)


def in_order_of_scores(constant: Tensor) -> Tensor:
    """Return the same (P, 1, H, T, keys) laid out in memory as `products` lays out its scores."""
    return constant.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2)


class OneByOne:
    """Multiplies heads one by one; each gradient lies as what it belongs to."""

    weigh = staticmethod(narrow.multiply)
    push = staticmethod(narrow.pull)

    @staticmethod
    def multiply(q: Tensor, k: Tensor) -> tuple[Tensor, Pair]:
        """Return q kᵀ, and what its gradients need."""
        return quick(q, k.transpose(-1, -2)), (q, k)

    @staticmethod
    def pull(gradient: Tensor, q: Tensor, k: Tensor) -> Pair:
        """Return the gradients of q and k from that of the scores."""
        return quick(gradient, k), quick(gradient.transpose(-1, -2), q)


class SideBySide:
    """Multiplies all heads at once; queries, or values, are set apart in columns of their own."""

    @staticmethod
    def multiply(q: Tensor, k: Tensor) -> tuple[Tensor, Pair]:
        """Return q kᵀ, and what its gradients need."""
        particles, batch, heads, length, width = q.shape
        apart = q.new_zeros(particles, batch, heads, length, heads, width)
        copy_rows(q, apart.diagonal(0, 2, 4).movedim(-1, 2))
        apart = apart.view(particles * batch, heads * length, heads * width)
        keys = by_token(k).flatten(0, 1)  # (P·B, keys, H·d)
        scores = torch.bmm(keys, apart.transpose(1, 2))  # (P·B, keys, H·T)
        return scores.view(particles, batch, -1, heads, length).permute(0, 1, 3, 4, 2), (
            apart,
            keys,
        )

    @staticmethod
    def pull(gradient: Tensor, apart: Tensor, keys: Tensor) -> Pair:
        """Return the gradients of q and k from that of the scores."""
        particles, batch, heads, length, _ = gradient.shape
        gradient = gradient.permute(0, 1, 4, 2, 3).reshape(len(keys), -1, heads * length)
        pulled = torch.bmm(gradient.transpose(1, 2), keys)  # (P·B, H·T, H·d)
        own = pulled.view(particles, batch, heads, length, heads, -1).diagonal(0, 2, 4)
        return own.movedim(-1, 2), by_head(torch.bmm(gradient, apart), batch, heads)

    @staticmethod
    def weigh(weights: Tensor, v: Tensor) -> tuple[Tensor, Pair]:
        """Return Σ_j a_ij v_j, and what its gradients need."""
        particles, batch, heads, length, width = v.shape
        apart = v.new_zeros(particles, batch, length, heads, heads, width)
        copy_rows(v, apart.diagonal(0, 3, 4).movedim(-1, 2))
        apart = apart.view(particles * batch, length * heads, heads * width)
        weights = weights.permute(0, 1, 4, 2, 3).reshape(len(apart), length * heads, -1)
        values = torch.bmm(weights.transpose(1, 2), apart)  # (P·B, T, H·d)
        return by_head(values, batch, heads), (weights, apart)

    @staticmethod
    def push(gradient: Tensor, weights: Tensor, apart: Tensor) -> Pair:
        """Return the gradients of weights and v from that of the values."""
        particles, batch, heads, length, width = gradient.shape
        gradient = by_token(gradient).flatten(0, 1)  # (P·B, T, H·d)
        pushed = torch.bmm(apart, gradient.transpose(1, 2))  # (P·B, keys·H, T)
        pulled = torch.bmm(weights, gradient)  # (P·B, keys·H, H·d)
        own = pulled.view(particles, batch, -1, heads, heads, width).diagonal(0, 3, 4)
        lying = pushed.view(particles, batch, -1, heads, length)
        return lying.permute(0, 1, 3, 4, 2), own.movedim(-1, 2)


Way = type[OneByOne] | type[SideBySide]


def way(keys: Tensor) -> Way:
    """Return how heads are multiplied whose keys, or values, are these (P, B, H, T, d)."""
    together = side_by_side(keys.shape[3], keys.shape[2], keys.shape[4], keys.device)
    return SideBySide if together else OneByOne
