"""Low-rank attention: keys and values are projected from T tokens to r rows.

    softmax(q (E k)ᵀ / (τ √d)) (F v),  E, F: (r, T) learned, shared by the heads of a layer

Wang et al. 2020 (Linformer), arXiv 2006.04768, eq. 7. Every row mixes all tokens, so it is not
defined for a causal task.
"""

from collections.abc import Sequence

import torch

from pso_attn.attention.drops import Noise
from pso_attn.attention.kinds import RANKED
from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.narrow import product
from pso_attn.attention.normalise import softmax
from pso_attn.attention.padding import Padding
from pso_attn.attention.sharpness import inverse_temperature
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "rank",
        "int",
        "rows to which keys and values are projected, all of them or those of a block; by default "
        "a quarter of the tokens",
        low=1,
        high=64,
        log=True,
        minimum=1,
        when={"mechanism": RANKED},
        per=("model", "layer"),
        source="Wang et al. 2020 (Linformer), arXiv 2006.04768, eq. 7; in blocks after "
        "Zhu & Soricut 2021 (H-Transformer-1D), arXiv 2107.11906",
    ),
)


class LowRank:
    """Attends for one group of particles that share heads, head width and rank."""

    def __init__(
        self,
        members: Sequence[LayerSettings],
        length: int,
        causal: bool,
        like: torch.Tensor,
    ) -> None:
        """Prepare the temperatures; `like` gives dtype and device."""
        sharpness = [member.sharpness for member in members]
        self.scale: torch.Tensor | None = inverse_temperature(sharpness, members[0].head_dim, like)

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        noise: Noise | None,
        learned: LearnedTensors = NOTHING,
        padding: Padding | None = None,
    ) -> torch.Tensor:
        """Return (P, B, H, T, d) from q (P, B, H, T, d) and projected k, v (P, B, H, r, d)."""
        weights = softmax(product(q, k.transpose(-1, -2)))
        if noise is not None:
            weights = noise.drop(weights)
        return product(weights, v)
