"""Attention to near tokens alone, block by block: time grows with T, not with its square.

Queries of a block of b tokens meet the keys of their own block, the one before and, where the task
is not causal, the one after: Beltagy et al. 2020 (Longformer), arXiv 2004.05150, section 3.1 and
appendix A ("chunks"). Blocks stand beside the particles, each with a mask of its own.
"""

from math import ceil, inf
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from pso_attn.attention.pairs import OneByOne
from pso_attn.attention.plain import fused, gradients_of, weights_of
from pso_attn.attention.scores import Mask
from pso_attn.attention.sight import blocks_seen

EXPLICIT_KEYS = 64  # of a block, up to which explicit weights are quicker than the fused kernel
KEPT_KEYS = 4  # of a block, as a multiple of a head's width, up to which weights are kept


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
        self.bias = torch.stack(masks, 1).flatten(0, 1)  # (P · blocks, 1, H, b, keys)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return softmax(q kᵀ + bias) v (P, B, H, T, d) of q, k and v of that shape."""
        is_explicit = self._seen * self._block <= EXPLICIT_KEYS and v.device.type == "cpu"
        if is_explicit and not torch.is_autocast_enabled("cpu"):
            values: Tensor = _Near.apply(q, k, v, self)  # type: ignore[no-untyped-call]  # torch's
            return values
        return self.together(fused(*self.cut(q, k, v), Mask(self.bias, is_causal=False)), q)

    def cut(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries of each block and the keys and values that it sees."""
        return self.apart(q, 1), self.apart(k, self._seen), self.apart(v, self._seen)

    def together(self, values: Tensor, q: Tensor) -> Tensor:
        """Return the values of blocks in the order of tokens; q: what was cut, (P, B, H, T, d)."""
        apart = values.unflatten(0, (len(q), self._count)).permute(0, 2, 3, 1, 4, 5)
        joined: Tensor = apart.flatten(3, 4)[:, :, :, : q.shape[3]]
        return joined

    def apart(self, x: Tensor, seen: int) -> Tensor:
        """Return (P · blocks, B, H, seen · b, d) of x (P, B, H, T, d): what each block sees."""
        before, after = int(seen > 1), max(0, seen - 2)
        blocks = before + self._count + after
        over = blocks * self._block - before * self._block - x.shape[3]
        x = pad(x, (0, 0, before * self._block, over)).unflatten(3, (blocks, self._block))
        runs = [x[:, :, :, first : first + self._count] for first in range(seen)]
        return torch.cat(runs, -2).permute(0, 3, 1, 2, 4, 5).flatten(0, 1)


class _Near(torch.autograd.Function):
    """Attention by explicit weights that keeps no blocks: they hold keys two or three times.

    Nor does it keep weights that are many beside a head's width: they are computed again.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, band: Band) -> Tensor:
        queries, keys, seen = band.cut(q, k, v)
        weights, _ = weights_of(OneByOne, queries, keys, band.bias)
        values, _ = OneByOne.weigh(weights, seen)
        is_kept = weights.shape[-1] <= KEPT_KEYS * q.shape[-1]
        ctx.band = band
        ctx.save_for_backward(q, k, v, *([weights] if is_kept else ()))
        return band.together(values, q)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        given = [x.detach().requires_grad_() for x in ctx.saved_tensors[:3]]
        with torch.enable_grad():
            cut = ctx.band.cut(*given)
        queries, keys, seen = (x.detach() for x in cut)
        kept = ctx.saved_tensors[3:]
        weights = kept[0] if kept else weights_of(OneByOne, queries, keys, ctx.band.bias)[0]
        gradient = ctx.band.apart(gradients[0], 1)
        pulled = gradients_of(
            OneByOne, gradient, (queries, keys), (weights, seen), weights, weights
        )
        return *torch.autograd.grad(cut, given, pulled), None
