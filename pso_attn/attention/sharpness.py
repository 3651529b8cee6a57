"""How sharply a head attends: what its scores are divided by."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pso_attn.attention.given import Given
from pso_attn.space.knob import Knob

KNOBS = (
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
)


@dataclass(frozen=True)
class Sharpness:
    """Temperature of one layer; one entry a head."""

    temperature: tuple[float, ...]


def read_sharpness(given: Given, heads: int) -> Sharpness:
    """Return how sharply one layer's heads attend."""
    return Sharpness(given.each("temperature", heads, 1.0))


def inverse_temperature(
    members: Sequence[Sharpness], head_dim: int, like: torch.Tensor
) -> torch.Tensor:
    """Return 1 / (τ √d), the factor of the scores, per particle and head: (P, 1, H, 1, 1)."""
    tau = torch.tensor([member.temperature for member in members], dtype=torch.float64)
    scale: torch.Tensor = (tau * head_dim**0.5).reciprocal()
    return scale[:, None, :, None, None].to(like)
