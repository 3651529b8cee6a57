"""Sparse attention: weights by α-entmax, which gives keys of low scores exactly nothing.

    a_ij = [(α − 1) s_ij − τ_i]_+^(1 / (α − 1)),  τ_i such that row i sums to one

Peters et al. 2019, arXiv 1905.05702: α = 2 is sparsemax (Martins & Astudillo 2016,
arXiv 1602.02068, eq. 2), and α → 1 is softmax. τ is found by Newton's method from the left: the
sum is convex and falls in τ, so no step goes too far.
"""

from collections.abc import Sequence
from typing import Any

import torch

from pso_attn.attention.drops import Noise
from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.narrow import product
from pso_attn.attention.padding import Padding
from pso_attn.attention.scores import Scores
from pso_attn.space.knob import Knob

STEPS = 24  # of Newton's method; in float64 the last ones move nothing

KNOBS = (
    Knob(
        "entmax_alpha",
        "float",
        "how sparse the weights of sparse attention are: 2 is sparsemax, towards 1 softmax",
        low=1.05,
        high=2.0,
        minimum=1.01,
        maximum=2.0,
        default=1.5,
        when={"mechanism": ("sparse",)},
        per=("model", "layer"),
        source="Peters et al. 2019, arXiv 1905.05702",
    ),
)


class Sparse:
    """Attends for one group of particles that share heads and head width."""

    def __init__(
        self,
        members: Sequence[LayerSettings],
        length: int,
        causal: bool,
        like: torch.Tensor,
    ) -> None:
        """Prepare the data of each particle; `like` gives dtype and device."""
        self._scores = Scores(members, length, causal, like)
        self.scale = self._scores.scale
        alpha = torch.tensor([member.entmax_alpha for member in members], dtype=torch.float64)
        self._alpha = alpha[:, None, None, None, None].to(like)

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
        scores = self._scores(q, k, learned, padding)
        weights: torch.Tensor = Entmax.apply(scores, self._alpha)  # type: ignore[no-untyped-call]  # torch's
        if noise is not None:
            weights = noise.drop(weights)
        return product(weights, v)


class Entmax(torch.autograd.Function):
    """α-entmax over the last axis of scores; α, in (1, 2], is broadcast against them."""

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
        """Return weights that sum to one."""
        power = (alpha - 1).reciprocal()
        scaled = (scores - scores.amax(-1, keepdim=True)) * (alpha - 1)
        threshold = -torch.ones_like(scaled[..., :1])  # the largest alone gives one
        for _ in range(STEPS):
            above = (scaled - threshold).clamp(min=0)
            slopes = above.pow(power - 1).masked_fill(above == 0, 0.0)
            excess = (slopes * above).sum(-1, keepdim=True) - 1
            threshold = threshold + excess / (power * slopes.sum(-1, keepdim=True))
        weights = (scaled - threshold).clamp(min=0).pow(power)
        weights = weights / weights.sum(-1, keepdim=True)
        ctx.save_for_backward(weights, alpha)
        return weights

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradient: Peters et al. 2019, with s = weights^(2 − α)."""
        weights, alpha = ctx.saved_tensors
        s = weights.pow(2 - alpha).masked_fill(weights == 0, 0.0)
        pulled = gradients[0] * s
        return pulled - s * (pulled.sum(-1, keepdim=True) / s.sum(-1, keepdim=True)), None
