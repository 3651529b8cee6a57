"""Talking heads: heads mix their scores before the softmax, and their weights after it.

    s'_g = Σ_h L_hg p_h,  a_g = softmax(s'_g − m_g |i − j|),  a'_g = Σ_h W_hg a_h

Shazeer et al. 2020, arXiv 2003.02436, with as many heads throughout. L and W, learned,
start at the identity, where this is softmax attention. What is out of sight is hidden after the
scores are mixed.
"""

from collections.abc import Sequence

import torch

from pso_attn.attention.drops import Noise
from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.narrow import product
from pso_attn.attention.padding import Padding
from pso_attn.attention.scores import Scores
from pso_attn.attention.sink import WithSink


class TalkingHeads:
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
        self._normalise = WithSink([m.sink for m in members], members[0].heads, like)

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
        products = _mixed(self._scores.products(q, k, learned), learned["mix_scores"][0])
        weights = self._normalise(self._scores.in_sight(products, learned, padding), learned)
        weights = _mixed(weights, learned["mix_weights"][0])
        if noise is not None:
            weights = noise.drop(weights)
        return product(weights, v)


def _mixed(x: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    """Return (P, B, H, T, T) with head g the sum over h of mix_hg x_h. mix: (P, H, H)."""
    mixed: torch.Tensor = mix.transpose(1, 2)[:, None] @ x.flatten(-2)
    return mixed.view_as(x)
