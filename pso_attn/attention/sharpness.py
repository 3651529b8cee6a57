"""How sharply a head attends: what is done to the products of its queries and keys.

What the knobs compute stands in `products.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1, log, log2
from typing import Literal

import torch

from pso_attn.attention.given import Given
from pso_attn.attention.kinds import COMPARING
from pso_attn.attention.learned import Learned
from pso_attn.space.knob import Knob

COLDEST = 1e-3  # of temperatures, where they are learned by token as well
UNCAPPED = 1e9  # as good as no softcap: float32 has no digits left for s / c

KNOBS = (
    Knob(
        "temperature",
        "float",
        "divides products of queries and keys, before a cap and before distance counts: below 1 "
        "sharper, above 1 flatter",
        low=0.25,
        high=4.0,
        log=True,
        minimum=COLDEST,
        maximum=1e3,
        default=1.0,
        neutral=1.0,
        when={"mechanism": (*COMPARING, "low_rank")},
        per=("model", "layer", "head"),
        source="Hinton et al. 2015, arXiv 1503.02531, eq. 1",
    ),
    Knob(
        "learned_temperature",
        "bool",
        "each head learns its temperature, which begins at `temperature`",
        default=False,
        neutral=False,
        when={"mechanism": COMPARING, "adaptive_temperature": (False,)},
        per=("model", "layer"),
        source="Lee et al. 2021, arXiv 2112.13492, learnable temperature scaling",
    ),
    Knob(
        "adaptive_temperature",
        "bool",
        "each token sets its temperature, softplus(w·x + b), which begins at `temperature`",
        default=False,
        neutral=False,
        when={"mechanism": COMPARING},
        per=("model", "layer"),
        source="after Lin et al. 2018 (SACT), arXiv 1808.07374, whose decoder's state sets it",
    ),
    Knob(
        "qk_norm",
        "bool",
        "queries and keys have unit length, and each head learns the scale of their products",
        default=False,
        neutral=False,
        when={"mechanism": COMPARING},
        per=("model", "layer"),
        source="Henry et al. 2020 (QKNorm), arXiv 2010.04245, softmax(g Q̂ K̂ᵀ) V",
    ),
    Knob(
        "softcap",
        "float",
        "bounds the scores by c tanh(s / c), before distance counts; by default they are free",
        low=1.0,
        high=100.0,
        log=True,
        minimum=1e-3,
        maximum=UNCAPPED,
        limit="far above all scores",
        when={"mechanism": COMPARING},
        per=("model", "layer"),
        source="Gemma Team 2024 (Gemma 2), arXiv 2408.00118, section 2",
    ),
)


@dataclass(frozen=True)
class Sharpness:
    """How sharply the heads of one layer attend.

    temperature: one entry a head; the start, where `learned` ("head" or "token") says that it is
    learned. softcap: infinite where there is none.
    """

    temperature: tuple[float, ...]
    learned: Literal["head", "token"] | None
    qk_norm: bool
    softcap: float

    def tensors(self, length: int, d_model: int) -> tuple[Learned, ...]:
        """Return what the layer learns. length: T in tokens; d_model: width C of its inputs."""
        heads, found = len(self.temperature), []
        if self.learned == "head":
            start = tuple(log(tau) for tau in self.temperature)
            found.append(Learned("log_temperature", (heads,), start))
        if self.learned == "token":
            start = tuple(tau + log(-expm1(-tau)) for tau in self.temperature)  # softplus⁻¹(τ)
            found.append(Learned("token_temperature", (d_model, heads), (0.0,)))
            found.append(Learned("token_temperature_bias", (heads,), start))
        if self.qk_norm:
            scale = log2(max(length * (length - 1), 2))  # the authors' start
            found.append(Learned("qk_scale", (heads,), (scale,)))
        return tuple(found)


def read_sharpness(given: Given, mechanism: str, heads: int) -> Sharpness:
    """Return how sharply one layer's heads attend; a temperature by token is learned already."""
    temperature = given.each("temperature", heads, 1.0)
    if mechanism not in COMPARING:
        return Sharpness(temperature, None, qk_norm=False, softcap=float("inf"))
    by_token = given.one("adaptive_temperature", False)
    by_head = given.one("learned_temperature", False)
    return Sharpness(
        temperature=temperature,
        learned="token" if by_token else "head" if by_head else None,
        qk_norm=given.one("qk_norm", False),
        softcap=float(given.one("softcap", float("inf"))),
    )


def inverse_temperature(
    members: Sequence[Sharpness], head_dim: int, like: torch.Tensor
) -> torch.Tensor:
    """Return 1 / (τ √d), the factor of the scores, per particle and head: (P, H)."""
    tau = torch.tensor([member.temperature for member in members], dtype=torch.float64)
    scale: torch.Tensor = (tau * head_dim**0.5).reciprocal()
    return scale.to(like)
