"""Top-k attention: only the k largest scores of a query survive; equal ones survive together.

    a_ij = softmax_j(s_ij) over the j with s_ij ≥ the k-th largest of row i

Gupta et al. 2021, arXiv 2106.06899. Hard: what is cut off gets no gradient.
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
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "top_k",
        "int",
        "keys that each query keeps, of the largest scores; by default a quarter of the tokens",
        low=1,
        high=64,
        log=True,
        minimum=1,
        limit="from T on, for T tokens",
        when={"mechanism": ("top_k",)},
        per=("model", "layer"),
        source="Gupta et al. 2021, arXiv 2106.06899",
    ),
)


class TopK:
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
        kept = [min(member.top_k, length) for member in members]
        self._most = max(kept)
        last = torch.tensor(kept, device=like.device) - 1
        self._last = last[:, None, None, None, None]  # (P, 1, 1, 1, 1)

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
        scores = self._scores(q, k, learned, padding)
        largest = scores.detach().topk(self._most).values
        least = largest.gather(-1, self._last.expand(*scores.shape[:-1], 1))
        weights = self._normalise(scores.masked_fill(scores < least, float("-inf")), learned)
        if noise is not None:
            weights = noise.drop(weights)
        return product(weights, v)
