"""How far a head looks, learned by itself: beyond its span z, attention fades to nothing.

    a_ij = m(|i − j|) exp(s_ij) / Σ_j m(|i − j|) exp(s_ij),  m(x) = min(max((R + z − x) / R, 0), 1)

Sukhbaatar et al. 2019, arXiv 1905.07799, section 2.2, for a look back alone. The mask is log m,
added to the scores. z is in tokens and learned as a fraction of the sequence, as in section 3:
steps of an optimiser are too small for tokens. It starts at T / 2 (the authors' at 0), and their
ramp R = 32 is at most T / 2 here, so that at first no key of T ≤ 64 tokens is out of sight. Where
they clamp z to [0, T] after each step, here its sign is dropped, so that a head at 0 can widen
again; beyond T, m is 1 throughout. Their penalty on z is left out: the loss is the task's own, and
weight decay, each particle's own knob, draws z towards 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pso_attn.attention.blend import Blend
from pso_attn.attention.given import Given
from pso_attn.attention.kinds import FADING
from pso_attn.attention.learned import Learned, LearnedTensors
from pso_attn.space.knob import Knob

LONGEST_RAMP = 32  # tokens
START = 0.5  # of the sequence
EVERYWHERE = 2.0  # a span, of the sequence, at which no key fades

KNOBS = (
    Knob(
        "adaptive_span",
        "bool",
        "each head learns how far it looks, from half the sequence: farther keys fade to nothing",
        default=False,
        neutral=False,
        when={"mechanism": FADING},
        per=("model", "layer"),
        source="Sukhbaatar et al. 2019, arXiv 1905.07799, section 2.2",
    ),
)


@dataclass(frozen=True)
class Span:
    """Whether the heads of a layer learn how far they look."""

    learned: bool

    def tensors(self, heads: int) -> tuple[Learned, ...]:
        """Return what the layer learns: z / T of each head."""
        return (Learned("span", (heads,), (START,)),) if self.learned else ()


def read_span(given: Given, mechanism: str) -> Span:
    """Return one layer's span; mechanisms without a softmax over pairs have none."""
    return Span(mechanism in FADING and given.one("adaptive_span", False))


def ramp_tokens(length: int) -> float:
    """Return R: over how many tokens attention fades, for a sequence of T."""
    return min(LONGEST_RAMP, length / 2)


class Fading:
    """What the spans of one group of particles add to their scores."""

    def __init__(
        self, members: Sequence[Span], heads: int, length: int, like: torch.Tensor
    ) -> None:
        """Prepare the distances; `like` gives dtype and device."""
        constants = like.new_full((len(members), heads), EVERYWHERE)
        self._span = Blend([member.learned for member in members], constants)
        position, ramp = torch.arange(length, dtype=torch.float64), ramp_tokens(length)
        self._near = (1 - (position[None, :] - position[:, None]).abs() / ramp).to(like)  # (T, T)
        self._steepness = length / ramp

    def __call__(self, learned: LearnedTensors) -> torch.Tensor:
        """Return log m of every pair, (P, 1, H, T, T), −inf where m is 0."""
        span = self._span(learned["span"]).abs()[:, None, :, None, None]
        mask = torch.add(self._near, span, alpha=self._steepness)
        # m = 0 is cut off before the logarithm, whose gradient there is not a number
        faded = mask.clamp(torch.finfo(mask.dtype).tiny, 1.0).log()
        return faded.masked_fill(mask <= 0, float("-inf"))
