"""Linear attention: a kernel feature map in place of the softmax, in time linear in T.

    o_i = φ(q_i) Σ_j φ(k_j) v_jᵀ / (φ(q_i) Σ_j φ(k_j) + 1e-6),  φ(x) = elu(x) + 1

Katharopoulos et al. 2020, arXiv 2006.16236, eqs. 5 and 7; causal, the sums run over j ≤ i
(eqs. 8 and 9) and are taken by a scan over blocks. The 1e-6 is the authors' code's, not the
paper's: it keeps a query that looks at nothing finite.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn.functional import elu, pad

from pso_attn.attention.alike import in_vectors
from pso_attn.attention.drops import Noise
from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.narrow import product
from pso_attn.attention.padding import Padding
from pso_attn.attention.pairs import by_head, by_token, side_by_side

BLOCK_TOKENS = 64


class Linear:
    """Attends for one group of particles that share heads and head width."""

    def __init__(
        self,
        members: Sequence[LayerSettings],
        length: int,
        causal: bool,
        like: torch.Tensor,
    ) -> None:
        """Remember whether tokens may look ahead; nothing else of a particle enters."""
        self.causal = causal
        self.scale: torch.Tensor | None = None
        self.side_by_side = not causal and side_by_side(
            length, members[0].heads, members[0].head_dim, like.device
        )

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        noise: Noise | None,
        learned: LearnedTensors = NOTHING,
        padding: Padding | None = None,
    ) -> torch.Tensor:
        """Return (P, B, H, T, d) from q, k, v of that shape."""
        if self.side_by_side:
            return _side_by_side(q, k, v, padding)
        q, k = _positive(q), _positive(k)
        k = k if padding is None else k * padding.real
        v = pad(v, (0, 1), value=1.0)  # one more column sums φ(k): the denominator
        out = _scan(q, k, v) if self.causal else product(q, product(k.transpose(-1, -2), v))
        return out[..., :-1] / (out[..., -1:] + 1e-6)


def _side_by_side(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, padding: Padding | None
) -> torch.Tensor:
    """Return what bidirectional attention by heads does, from products of all heads at once."""
    batch, heads, width = *q.shape[1:3], q.shape[4]
    both = torch.stack((by_token(q), by_token(k)), 2)  # (P, B, 2, T, H·d): one map for the two
    q, k = _positive(both).flatten(0, 1).unbind(1)  # (P·B, T, H·d)
    v = by_token(v).flatten(0, 1)
    if padding is not None:
        real = padding.real[:, :, 0].expand(len(k) // batch, -1, -1, -1)  # (P, B, T, 1)
        k = k * real.flatten(0, 1)
    v = pad(v, (0, heads * width), value=1.0)  # as many columns more sum φ(k): the denominators
    within = torch.bmm(k.transpose(1, 2), v) * _within_heads(heads, width, q.dtype)
    out, norm = torch.bmm(q, within).chunk(2, -1)
    return by_head(out / (norm + 1e-6), batch, heads)


def _positive(x: torch.Tensor) -> torch.Tensor:
    """Return φ(x), of the shape of x (P, …)."""
    features: torch.Tensor = _Positive.apply(x)  # type: ignore[no-untyped-call]  # torch's
    return features


class _Positive(torch.autograd.Function):
    """φ(x) = elu(x) + 1, whose slope is φ where φ is below 1, and 1 elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        wide = x.float() if x.dtype == torch.bfloat16 else x  # where 1 + elu would cancel
        features = (in_vectors(elu, wide) + 1).to(x.dtype)
        ctx.save_for_backward(features)
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (features,) = ctx.saved_tensors
        slope: torch.Tensor = features.clamp(max=1.0)
        return slope.mul_(gradients[0])


@lru_cache(maxsize=64)
def _within_heads(heads: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Return (H · d, 2 · H · d), one where row and column belong to the same head."""
    own = torch.eye(heads, dtype=dtype).repeat_interleave(width, 1)  # (H, H · d)
    return (own.T @ own).repeat(1, 2)


def _scan(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return Σ_{j ≤ i} (q_i·k_j) v_j, block by block: earlier blocks through their sum of k vᵀ."""
    length = q.shape[-2]
    if length <= BLOCK_TOKENS:
        return product(product(q, k.transpose(-1, -2)).tril(), v)
    missing = -length % BLOCK_TOKENS
    q, k, v = (pad(x, (0, 0, 0, missing)).unflatten(-2, (-1, BLOCK_TOKENS)) for x in (q, k, v))
    sums = product(k.transpose(-1, -2), v)  # (P, B, H, blocks, d, d + 1)
    # shifted, not subtracted: a loud token would round into outputs before it
    before = pad(sums.cumsum(-3)[..., :-1, :, :], (0, 0, 0, 0, 1, 0))
    out = product(product(q, k.transpose(-1, -2)).tril(), v) + product(q, before)
    return out.flatten(-3, -2)[..., :length, :]
