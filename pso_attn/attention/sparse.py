"""Sparse attention: weights by α-entmax, which gives keys of low scores exactly nothing.

    a_ij = [(α − 1) s_ij − τ_i]_+^(1 / (α − 1)),  τ_i such that row i sums to one

Peters et al. 2019, arXiv 1905.05702: α = 2 is sparsemax (Martins & Astudillo 2016,
arXiv 1602.02068, eq. 2), and α → 1 is softmax. With p = 1 / (α − 1), τ is where the p-norm of
what lies above it is one. That norm is convex and falls in τ, so that Newton's method from the
left never goes too far; and it is nearly straight, so that few steps do.
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

STEPS = 12  # of Newton's method; in float64 the last ones move nothing: docs/log.md, 2026-11-26

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
        limit="towards 1",
        when={"mechanism": ("sparse",)},
        per=("model", "layer"),
        source="Peters et al. 2019, arXiv 1905.05702, α-entmax; "
        "Martins & Astudillo 2016 (sparsemax), arXiv 1602.02068, eq. 2",
    ),
)


class Sparse:
    """Attends for one group of particles that share heads, head width and `whole_power`."""

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
        self._power = members[0].whole_power

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
        weights: torch.Tensor = Entmax.apply(scores, self._alpha, self._power)  # type: ignore[no-untyped-call]  # torch's
        if noise is not None:
            weights = noise.drop(weights)
        return product(weights, v)


class Entmax(torch.autograd.Function):
    """α-entmax over the last axis of scores (P, …), for α (P, 1, …) in (1, 2].

    power: 1 / (α − 1) where that is 1 or 2 for all of them, which takes no logarithms; else 0.
    """

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, alpha: torch.Tensor, power: int) -> torch.Tensor:
        """Return weights that sum to one."""
        scaled = (scores - scores.amax(-1, keepdim=True)) * (alpha - 1)
        threshold = -torch.ones_like(scaled[..., :1])  # the largest alone gives one
        above, weights = torch.empty_like(scaled), torch.empty_like(scaled)

        def weigh() -> torch.Tensor:
            torch.sub(scaled, threshold, out=above).clamp_(min=0)
            slopes = _slopes(above, alpha, power)
            torch.mul(slopes, above, out=weights)
            return slopes

        for _ in range(STEPS):
            slopes = weigh().sum(-1, keepdim=True)
            total = weights.sum(-1, keepdim=True)
            threshold = threshold + (total - total.pow(2 - alpha)) / slopes
        weigh()
        weights /= weights.sum(-1, keepdim=True)
        ctx.power = power
        ctx.save_for_backward(weights, alpha)
        return weights

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradient: Peters et al. 2019, with s = weights^(2 − α)."""
        weights, alpha = ctx.saved_tensors
        if ctx.power:
            s = weights.sign() if ctx.power == 1 else weights.sqrt()
        else:
            s = weights.pow(2 - alpha)
        pulled = gradients[0] * s
        mean = pulled.sum(-1, keepdim=True) / s.sum(-1, keepdim=True)
        return pulled - s * mean, None, None


def _slopes(above: torch.Tensor, alpha: torch.Tensor, power: int) -> torch.Tensor:
    """Return above^(p − 1), 0 where nothing is above."""
    if power:
        return above.sign() if power == 1 else above
    return above.pow((2 - alpha) / (alpha - 1))
