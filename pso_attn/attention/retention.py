"""Retention: what a token keeps of earlier ones fades by a constant factor at each step.

    o_i = Σ_{j ≤ i} D_ij (q_i·k_j / √d) v_j,  D_ij = γ^(i−j) / √(Σ_{m ≤ i} γ^(i−m))
    γ_h = 1 − f 2^(−5−h), h from 0

Sun et al. 2023 (RetNet), arXiv 2307.08621: eq. 5, parallel, which equals the recurrence of eq. 6;
γ of eq. 8, there f = 1; the root and √d are the first two of the paper's score normalisations.
There is no softmax. Eq. 8's group norm and gate are left out: where q·k is nearly zero, as at a
first token, the norm makes a sign of rounding, and a training in float32 is not reproduced.
It looks back alone, so it is defined for causal tasks only.
"""

from collections.abc import Sequence

import torch

from pso_attn.attention.drops import Noise
from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.narrow import product
from pso_attn.attention.padding import Padding
from pso_attn.attention.positions import Turn
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "forgetting",
        "float",
        "scales the share 2^(-5-h) that head h of retention forgets at each token; 0 forgets none",
        low=0.25,
        high=16.0,
        log=True,
        minimum=0.0,
        maximum=31.0,
        default=1.0,
        when={"mechanism": ("retention",)},
        per=("model", "layer", "head"),
        source="Sun et al. 2023 (RetNet), arXiv 2307.08621, eq. 8",
    ),
)


def retained(forgetting: Sequence[float], length: int) -> torch.Tensor:
    """Return D of each head, 0 where j > i: float64 (H, T, T). forgetting: one number a head."""
    h = torch.arange(len(forgetting), dtype=torch.float64)
    gamma = 1 - torch.tensor(forgetting, dtype=torch.float64) * 2.0 ** (-5 - h)
    position = torch.arange(length, dtype=torch.float64)
    behind = position[:, None] - position  # i − j
    powers = (gamma[:, None, None] ** behind.clamp(min=0)).tril()
    factors: torch.Tensor = powers / powers.sum(-1, keepdim=True).sqrt()
    return factors


class Retention:
    """Retains for one group of particles that share heads and head width."""

    def __init__(
        self,
        members: Sequence[LayerSettings],
        length: int,
        causal: bool,
        like: torch.Tensor,
    ) -> None:
        """Prepare the data of each particle; `like` gives dtype and device."""
        width = members[0].head_dim
        self.scale: torch.Tensor | None = None
        bases = [member.rope_base for member in members]
        self._turn = Turn(bases, length, width, like) if any(bases) else None
        self._factors = like.new_empty(len(members), 1, members[0].heads, length, length)
        for own, member in zip(self._factors, members, strict=True):  # float64 for one at a time
            own[0] = retained(member.forgetting, length) * width**-0.5

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
        if self._turn is not None:
            q, k = self._turn(q), self._turn(k)
        if padding is not None:  # keys of zero leave nothing to retain
            k = k * padding.real
        return product(product(q, k.transpose(-1, -2)) * self._factors, v)
