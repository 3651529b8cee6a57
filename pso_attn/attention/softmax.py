"""Softmax attention with all that the families of shared knobs do to its scores.

    a_ij = softmax_j(s_ij),  s as `scores.py` has it

Vaswani et al. 2017, arXiv 1706.03762, eq. 1. Only the number of heads and their width shape the
kernel; everything else is data of each particle.

Where scores are products and a constant, long sequences go to PyTorch's own fused kernel, and
block by block where all that is seen is near: see `plain.py` and `band.py`. On a GPU both may go
to a kernel that is compiled for what heads see: see `flexible.py`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from pso_attn.attention.band import Band
from pso_attn.attention.drops import Noise
from pso_attn.attention.flexible import Flexible, may_compile
from pso_attn.attention.layer import FUSED_TOKENS, LayerSettings
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.padding import Padding
from pso_attn.attention.pairs import weighted
from pso_attn.attention.plain import attended, fused
from pso_attn.attention.scores import Scores
from pso_attn.attention.sink import WithSink


class Softmax:
    """Attends for one group of particles that share heads and head width."""

    def __init__(
        self,
        members: Sequence[LayerSettings],
        length: int,
        causal: bool,
        like: Tensor,
    ) -> None:
        """Prepare the data of each particle; `like` gives dtype and device."""
        self._scores = Scores(members, length, causal, like)
        self.scale = self._scores.scale
        self._normalise = WithSink([member.sink for member in members], members[0].heads, like)
        can_fuse = self._scores.are_plain and self._normalise.is_off
        self._is_plain = can_fuse and like.device.type == "cpu"
        block = max(m.near for m in members) if all(m.near for m in members) else 0
        bias = self._scores.bias if can_fuse and block else None
        # who attends without holding all weights, of operands
        self._direct: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        if bias is not None:
            self._direct = Band(bias, block, causal)
        elif can_fuse and length >= FUSED_TOKENS:
            self._direct = partial(fused, mask=self._scores.mask)
        self._flexible = None  # who may be quicker at it
        if self._direct is not None and may_compile(length, like.device):
            self._flexible = Flexible(members, length, causal, like.device)

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        noise: Noise | None,
        learned: LearnedTensors = NOTHING,
        padding: Padding | None = None,
    ) -> Tensor:
        """Return (P, B, H, T, d) from q, k, v of that shape; `noise` drops attention weights."""
        if self._direct is not None and noise is None and padding is None:
            q, k = self._scores.operands(q, k, learned)
            values = None if self._flexible is None else self._flexible(q, k, v)
            return self._direct(q, k, v) if values is None else values
        if self._is_plain and padding is None and not torch.is_autocast_enabled("cpu"):
            return attended(*self._scores.operands(q, k, learned), v, self._scores.bias, noise)
        weights = self._normalise(self._scores(q, k, learned, padding), learned)
        if noise is not None:
            weights = noise.drop(weights)
        return weighted(weights, v)
