"""Block low-rank attention: near blocks token by token, far ones through r rows each.

    softmax(q [K_near; E K_b for each far block b]ᵀ / (τ √d)) [V_near; F V_b for each far b]

with E, F: (r, n) learned, shared by blocks and heads. Blocks have n tokens; a query's own block
and the ones beside it are near. Causal, only earlier blocks are summed up, so no row mixes in a
later token. Tokens that the last block lacks count as zero vectors.

After Zhu & Soricut 2021 (H-Transformer-1D), arXiv 2107.11906, with two levels and, for
the coarse one, learned rows (Wang et al. 2020, eq. 7) where they take means of keys and sums of
values.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from pso_attn.attention.drops import Noise
from pso_attn.attention.layer import FUSED_TOKENS, LayerSettings
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.narrow import product
from pso_attn.attention.padding import Padding, hiding
from pso_attn.attention.plain import attended, fused
from pso_attn.attention.products import Products
from pso_attn.attention.scores import Mask
from pso_attn.attention.sink import WithSink


class BlockLowRank:
    """Attends for one group of particles that share heads, head width, rank and block."""

    def __init__(
        self,
        members: Sequence[LayerSettings],
        length: int,
        causal: bool,
        like: torch.Tensor,
    ) -> None:
        """Prepare the data of each particle; `like` gives dtype and device."""
        first = members[0]
        self._block, self._missing = first.block, -length % first.block
        self._rank = first.rank
        self._products = Products([member.sharpness for member in members], first.head_dim, like)
        self.scale = self._products.scale
        self._normalise = WithSink([member.sink for member in members], first.heads, like)
        unseen = ~far_and_near(length, first.block, first.rank, causal)
        bias = torch.zeros_like(unseen, dtype=like.dtype).masked_fill(unseen, float("-inf"))
        self._bias = bias.to(like.device)[None, None, None]  # (1, 1, 1, T, T + blocks · r)
        is_plain = self._products.are_plain and self._normalise.is_off
        self._mask = Mask(self._bias, False) if is_plain and length >= FUSED_TOKENS else None
        self._is_plain = is_plain and like.device.type == "cpu"

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        noise: Noise | None,
        learned: LearnedTensors = NOTHING,
        padding: Padding | None = None,
    ) -> torch.Tensor:
        """Return (P, B, H, T, d) from q, k, v of that shape; `noise` drops attention weights."""
        if padding is not None:  # rows of zeros, as the tokens that the last block lacks
            k, v = k * padding.real, v * padding.real
        k = torch.cat([k, self._rows(k, learned["project_keys"][0])], -2)
        v = torch.cat([v, self._rows(v, learned["project_values"][0])], -2)
        if self._mask is not None and noise is None and padding is None:
            return fused(*self._products.operands(q, k, learned), v, self._mask)
        if self._is_plain and padding is None and not torch.is_autocast_enabled("cpu"):
            return attended(*self._products.operands(q, k, learned), v, self._bias, noise)
        scores = self._products(q, k, learned) + self._bias
        if padding is not None:
            scores = scores + torch.cat([padding.bias, self._hiding(padding.real)], -1)
        weights = self._normalise(scores, learned)
        if noise is not None:
            weights = noise.drop(weights)
        return product(weights, v)

    def _hiding(self, real: torch.Tensor) -> torch.Tensor:
        """Return what hides rows of blocks without a real token, (P, B, 1, T, blocks · r)."""
        blocks = pad(real[..., 0], (0, self._missing)).unflatten(-1, (-1, self._block))
        rows = blocks.amax(-1).repeat_interleave(self._rank, -1)  # (P, B, 1, blocks · r)
        return hiding(real, rows[..., None, :])

    def _rows(self, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return each block's rows, (P, B, H, blocks · r, d). weights: (P, r, n)."""
        blocks = pad(x, (0, 0, 0, self._missing)).unflatten(-2, (-1, self._block))
        rows: torch.Tensor = weights[:, None, None, None] @ blocks
        return rows.flatten(-3, -2)


def far_and_near(length: int, block: int, rank: int, causal: bool) -> torch.Tensor:
    """Return which keys each query sees: bool (T, T + blocks · r), tokens, then blocks' rows."""
    position = torch.arange(length)
    ahead = (position // block)[None, :] - (position // block)[:, None]
    near = ahead.abs() <= 1
    blocks = torch.arange(-(-length // block)).repeat_interleave(rank)
    far = blocks[None, :] - (position // block)[:, None]
    if causal:
        return torch.cat([near & (position <= position[:, None]), far < -1], 1)
    return torch.cat([near, far.abs() > 1], 1)
