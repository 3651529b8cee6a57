"""One more logit in the softmax's denominator: a head need not attend to anything.

    a_ij = exp(s_ij) / (exp(z) + Σ_j exp(s_ij)),  z = 0, or learned by each head from that start

Xiao et al. 2023, arXiv 2309.17453, section 3.3: with z = 0 their zero sink. What they learn is a
token; a learned logit is that of gpt-oss: OpenAI 2025, arXiv 2508.10925, section 2.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from pso_attn.attention.blend import Blend
from pso_attn.attention.given import Given
from pso_attn.attention.kinds import NORMALISING
from pso_attn.attention.learned import Learned, LearnedTensors
from pso_attn.attention.normalise import softmax
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "sink",
        "categorical",
        "one more logit that takes attention away from all tokens: none, zero, or learned",
        choices=("none", "zero", "learned"),
        default="none",
        neutral="none",
        when={"mechanism": NORMALISING},
        per=("model", "layer"),
        source="Xiao et al. 2023, arXiv 2309.17453, section 3.3; "
        "OpenAI 2025 (gpt-oss), arXiv 2508.10925, section 2.2",
    ),
)


@dataclass(frozen=True)
class Sink:
    """Whether a layer's heads have a sink."""

    kind: Literal["none", "zero", "learned"]

    def tensors(self, heads: int) -> tuple[Learned, ...]:
        """Return what the layer learns."""
        return (Learned("sink", (heads,), (0.0,)),) if self.kind == "learned" else ()


def read_sink(given: Given, mechanism: str) -> Sink:
    """Return one layer's sink; mechanisms without a softmax over tokens have none."""
    return Sink(given.one("sink", "none") if mechanism in NORMALISING else "none")


class WithSink:
    """Turns scores into weights for one group of particles: a softmax with or without a sink."""

    def __init__(self, members: Sequence[Sink], heads: int, like: torch.Tensor) -> None:
        """Prepare the data of each particle; without any sink, what is left is the softmax."""
        self._logit = None
        if any(member.kind != "none" for member in members):
            fixed = [float("-inf") if member.kind == "none" else 0.0 for member in members]
            constants = like.new_tensor(fixed)[:, None].expand(-1, heads)
            self._logit = Blend([member.kind == "learned" for member in members], constants)

    @property
    def is_off(self) -> bool:
        """Whether it is the softmax alone."""
        return self._logit is None

    def __call__(self, scores: torch.Tensor, learned: LearnedTensors) -> torch.Tensor:
        """Return weights of the scores' shape (P, B, H, T, keys)."""
        if self._logit is None:
            return softmax(scores)
        logit = self._logit(learned.get("sink", ()))[:, None, :, None, None]
        more = torch.cat([scores, logit.expand(*scores.shape[:-1], 1)], -1)
        return softmax(more)[..., :-1]
