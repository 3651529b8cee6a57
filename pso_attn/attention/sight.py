"""Which keys a query sees, and how their scores fall with distance."""

from dataclasses import dataclass

import torch

from pso_attn.attention.given import Given
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "decay",
        "float",
        "scales the slopes 2^(-8(h+1)/H) by which scores fall with distance",
        low=0.0,
        high=4.0,
        minimum=0.0,
        maximum=1e3,
        default=0.0,
        neutral=0.0,
        when={"mechanism": ("softmax",)},
        per=("model", "layer", "head"),
        source="Press et al. 2021 (ALiBi), arXiv 2108.12409, section 3",
    ),
    Knob(
        "window_tokens",
        "int",
        "a token attends to those at most this far away, itself included; by default to all",
        low=1,
        high=64,
        log=True,
        minimum=0,
        when={"mechanism": ("softmax",)},
        per=("model", "layer", "head"),
        source="Beltagy et al. 2020 (Longformer), arXiv 2004.05150, section 3.1",
    ),
)


@dataclass(frozen=True)
class Sight:
    """What the heads of one layer see; one entry a head."""

    decay: tuple[float, ...]
    window_tokens: tuple[int, ...] | None

    def bias(self, length: int, causal: bool) -> torch.Tensor:
        """Return what is added to the scores, float64 (H, T, T): −m |i − j|, −inf where not seen.

        Slopes m_h = 2^(−8 (h + 1) / H), h from 0 (Press et al. 2021, section 3), scaled by the
        knob.
        """
        position, heads = torch.arange(length, dtype=torch.float64), len(self.decay)
        ahead = position[None, :] - position[:, None]  # j − i
        h = torch.arange(heads, dtype=torch.float64)
        slope = 2.0 ** (-8 * (h + 1) / heads) * torch.tensor(self.decay, dtype=torch.float64)
        bias = -slope[:, None, None] * ahead.abs()
        if self.window_tokens is not None:
            reach = torch.tensor(self.window_tokens, dtype=torch.float64)[:, None, None]
            bias = bias.masked_fill(ahead.abs() > reach, float("-inf"))
        return bias.masked_fill(ahead > 0, float("-inf")) if causal else bias

    def pairs(self, length: int, causal: bool) -> int:
        """Return how many (query, key) pairs all heads see."""
        windows = self.window_tokens or (length,) * len(self.decay)
        return sum(_pairs(min(window, length - 1), length, causal) for window in windows)


def read_sight(given: Given, heads: int) -> Sight:
    """Return what one layer's heads see."""
    seen = given.one("window_tokens") is not None
    windows = given.each("window_tokens", heads) if seen else None
    return Sight(given.each("decay", heads, 0.0), windows)


def _pairs(window: int, length: int, causal: bool) -> int:
    """Return the number of (i, j) with |i − j| ≤ window, or 0 ≤ i − j ≤ window if causal."""
    behind = window * length - window * (window + 1) // 2
    return length + behind * (1 if causal else 2)
