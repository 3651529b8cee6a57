"""Softmax attention with temperature, distance decay and a local window, per particle and head.

    a_ij = softmax_j(q_i·k_j / (τ √d) − m |i − j|),  j within the window of i

Decay is not divided by the temperature. Temperature, decay, window and dropout are data of each
particle; only the number of heads and their width shape the kernel.
"""

from collections.abc import Sequence

import torch

from pso_attn.attention.drops import Noise
from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.sharpness import inverse_temperature


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
        sharpness = [member.sharpness for member in members]
        self.scale = inverse_temperature(sharpness, members[0].head_dim, like)  # (P, 1, H, 1, 1)
        bias = torch.stack([member.sight.bias(length, causal) for member in members])
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
