"""Softmax attention with all that the families of shared knobs do to its scores.

    a_ij = softmax_j(s_ij),  s as `scores.py` has it

Vaswani et al. 2017, arXiv 1706.03762, eq. 1. Only the number of heads and their width shape the
kernel; everything else is data of each particle.
"""

from collections.abc import Sequence

import torch

from pso_attn.attention.drops import Noise
from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.pairs import weighted
from pso_attn.attention.scores import Scores
from pso_attn.attention.sink import WithSink


class Softmax:
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
        self._normalise = WithSink([member.sink for member in members], members[0].heads, like)

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        noise: Noise | None,
        learned: LearnedTensors = NOTHING,
    ) -> torch.Tensor:
        """Return (P, B, H, T, d) from q, k, v of that shape; `noise` drops attention weights."""
        weights = self._normalise(self._scores(q, k, learned), learned)
        if noise is not None:
            weights = noise.drop(weights)
        return weighted(weights, v)
