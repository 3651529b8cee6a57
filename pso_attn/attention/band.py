"""Attention to near tokens alone, block by block: time grows with T, not with its square.

Queries of a block of b tokens meet the keys of their own block, the one before and, where the task
is not causal, the one after: Beltagy et al. 2020 (Longformer), arXiv 2004.05150, section 3.1 and
appendix A ("chunks"). Blocks stand beside the particles, each with a mask of its own.
"""

from math import ceil, inf

import torch
from torch import Tensor
from torch.nn.functional import pad

from pso_attn.attention.plain import attended, fused
from pso_attn.attention.scores import Mask
from pso_attn.attention.sight import blocks_seen

EXPLICIT_KEYS = 64  # of a block, up to which explicit weights are quicker than the fused kernel


class Band:
    """Attends for one group of particles whose heads all see no farther than a block."""

    def __init__(self, bias: Tensor, block: int, causal: bool) -> None:
        """Cut the mask; bias: what is added to the scores, (P, 1, H, T, T)."""
        length, self._block = bias.shape[-1], block
        self._count, self._seen = ceil(length / block), blocks_seen(causal)
        over = self._count * block - length
        rows = pad(bias, (block, over + (self._seen - 2) * block, 0, 0), value=-inf)
        rows = pad(rows, (0, 0, 0, over))  # tokens that are none attend to anything
        masks = [
            rows[..., n * block : (n + 1) * block, n * block : (n + self._seen) * block]
            for n in range(self._count)
        ]
        self._bias = torch.stack(masks, 1).flatten(0, 1)  # (P · blocks, 1, H, b, keys)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return softmax(q kᵀ + bias) v (P, B, H, T, d) of q, k and v of that shape."""
        particles, length = q.shape[0], q.shape[3]
        q = self._apart(q, 1)
        k, v = self._apart(k, self._seen), self._apart(v, self._seen)
        is_explicit = self._seen * self._block <= EXPLICIT_KEYS and v.device.type == "cpu"
        if is_explicit and not torch.is_autocast_enabled("cpu"):
            out = attended(q, k, v, self._bias, None)
        else:
            out = fused(q, k, v, Mask(self._bias, is_causal=False))
        together: Tensor = out.unflatten(0, (particles, self._count)).permute(0, 2, 3, 1, 4, 5)
        return together.flatten(3, 4)[:, :, :, :length]

    def _apart(self, x: Tensor, seen: int) -> Tensor:
        """Return (P · blocks, B, H, seen · b, d) of x (P, B, H, T, d): what each block sees."""
        before, after = int(seen > 1), max(0, seen - 2)
        blocks = before + self._count + after
        over = blocks * self._block - before * self._block - x.shape[3]
        x = pad(x, (0, 0, before * self._block, over)).unflatten(3, (blocks, self._block))
        runs = [x[:, :, :, first : first + self._count] for first in range(seen)]
        return torch.cat(runs, -2).permute(0, 3, 1, 2, 4, 5).flatten(0, 1)
