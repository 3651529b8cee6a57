"""Softmax attention with temperature, distance decay and a local window, per particle and head.

    a_ij = softmax_j(q_i·k_j / (τ √d) − m |i − j|),  j within the window of i

Decay is not divided by the temperature. Temperature, decay, window and dropout are data of each
particle; only the number of heads and their width shape the kernel.
"""

from collections.abc import Sequence

import torch

from pso_attn.attention.layer import LayerSettings, Noise
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "heads",
        "ordered",
        "attention heads, each with its own query, key and value maps",
        choices=(1, 2, 4, 8, 16),
        default=4,
        minimum=1,
        per=("model", "layer"),
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.2.2",
    ),
    Knob(
        "head_dim",
        "ordered",
        "width of one head; by default d_model // heads",
        choices=(4, 8, 16, 32, 64),
        minimum=1,
        per=("model", "layer"),
        source="Vaswani et al. 2017, arXiv 1706.03762, section 3.2.2",
    ),
    Knob(
        "kv_heads",
        "ordered",
        "key/value heads shared by groups of heads; by default as many as heads, 1 is multi-query",
        choices=(1, 2, 4, 8, 16),
        minimum=1,
        per=("model", "layer"),
        divides="heads",
        source="Shazeer 2019, arXiv 1911.02150; Ainslie et al. 2023, arXiv 2305.13245",
    ),
    Knob(
        "temperature",
        "float",
        "divides the attention scores: below 1 sharper, above 1 flatter",
        low=0.25,
        high=4.0,
        log=True,
        minimum=1e-3,
        maximum=1e3,
        default=1.0,
        neutral=1.0,
        when={"mechanism": ("softmax", "low_rank")},
        per=("model", "layer", "head"),
        source="Hinton et al. 2015, arXiv 1503.02531, eq. 1",
    ),
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
    Knob(
        "attention_dropout",
        "float",
        "probability with which an attention weight is dropped in training",
        low=0.0,
        high=0.5,
        minimum=0.0,
        maximum=0.95,
        default=0.0,
        neutral=0.0,
        when={"mechanism": ("softmax", "low_rank")},
        per=("model", "layer"),
        source="Vaswani et al. 2017, arXiv 1706.03762, section 5.4",
    ),
)


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
        self.scale = inverse_temperature(members, like)  # (P, 1, H, 1, 1)
        bias = torch.stack([score_bias(member, length, causal) for member in members])
        self.bias = bias[:, None].to(like) if bool((bias != 0).any()) else None  # (P, 1, H, T, T)

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, noise: Noise | None
    ) -> torch.Tensor:
        """Return (P, B, H, T, d) from q, k, v of that shape; `noise` drops attention weights."""
        scores = (q * self.scale) @ k.transpose(-1, -2)
        if self.bias is not None:
            scores = scores + self.bias
        weights = scores.softmax(-1)
        if noise is not None:
            weights = noise.drop(weights)
        return weights @ v


def inverse_temperature(members: Sequence[LayerSettings], like: torch.Tensor) -> torch.Tensor:
    """Return 1 / (τ √d), the factor of the scores, per particle and head: (P, 1, H, 1, 1)."""
    tau = torch.tensor([member.temperature for member in members], dtype=torch.float64)
    scale: torch.Tensor = (tau * members[0].head_dim ** 0.5).reciprocal()
    return scale[:, None, :, None, None].to(like)


def score_bias(member: LayerSettings, length: int, causal: bool) -> torch.Tensor:
    """Return what is added to the scores, float64 (H, T, T): −m |i − j|, −inf where not seen.

    Slopes m_h = 2^(−8 (h + 1) / H), h from 0 (Press et al. 2021, section 3), scaled by the knob.
    """
    position = torch.arange(length, dtype=torch.float64)
    ahead = position[None, :] - position[:, None]  # j − i
    h = torch.arange(member.heads, dtype=torch.float64)
    slope = 2.0 ** (-8 * (h + 1) / member.heads) * torch.tensor(member.decay, dtype=torch.float64)
    bias = -slope[:, None, None] * ahead.abs()
    if member.window_tokens is not None:
        reach = torch.tensor(member.window_tokens, dtype=torch.float64)[:, None, None]
        bias = bias.masked_fill(ahead.abs() > reach, float("-inf"))
    return bias.masked_fill(ahead > 0, float("-inf")) if causal else bias
