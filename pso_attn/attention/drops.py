"""What attention drops in training: single weights, and whole heads."""

from dataclasses import dataclass

import torch

from pso_attn.attention.given import Given
from pso_attn.attention.kinds import DROPPING
from pso_attn.counter import DropRates, dropout_scale
from pso_attn.space.knob import Knob

KNOBS = (
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
        when={"mechanism": DROPPING},
        per=("model", "layer"),
        source="Vaswani et al. 2017, arXiv 1706.03762, in the authors' code",
    ),
    Knob(
        "head_dropout",
        "float",
        "probability with which a whole head is dropped from an example in training; those left "
        "count for it, and with one head nothing is",
        low=0.0,
        high=0.5,
        minimum=0.0,
        maximum=0.95,
        default=0.0,
        neutral=0.0,
        per=("model", "layer"),
        source="Zhou et al. 2020 (DropHead), arXiv 2004.13342",
    ),
)


@dataclass(frozen=True)
class Drops:
    """Rates of one layer, in [0, 1). weights: of attention weights. heads: of whole heads."""

    weights: float
    heads: float


@dataclass(frozen=True)
class Noise:
    """Dropout of one site at one step. key: int32 (P,); rates: of the P particles."""

    key: torch.Tensor
    rates: DropRates

    def drop(self, values: torch.Tensor) -> torch.Tensor:
        """Return `values` (P, …) with entries dropped and the rest scaled up."""
        return values * self.factors(values)

    def factors(self, values: torch.Tensor) -> torch.Tensor:
        """Return what `drop` multiplies `values` (P, …) by."""
        shape, stride = tuple(values.shape[1:]), values.stride()[1:]
        order = tuple(sorted(range(len(shape)), key=lambda axis: -stride[axis]))
        return dropout_scale(self.key, self.rates, shape, order)

    def drop_heads(self, values: torch.Tensor) -> torch.Tensor:
        """Return `values` (P, B, H, T, d) with whole heads of an example dropped."""
        factors = dropout_scale(self.key, self.rates, tuple(values.shape[1:3]))
        return values * kept_share(factors)[..., None, None]


def kept_share(factors: torch.Tensor) -> torch.Tensor:
    """Return the factors of heads (…, H): 0 where dropped, else heads / heads that are left.

    factors: 0 where a head is dropped, any one positive number elsewhere. The number of heads
    that are left is counted, as the authors do; where none is, all factors are 0.
    """
    return factors / factors.mean(-1, keepdim=True).clamp(min=1e-6)


def read_drops(given: Given, mechanism: str) -> Drops:
    """Return one layer's rates; mechanisms without probabilities drop none of them."""
    weights = given.one("attention_dropout", 0.0) if mechanism in DROPPING else 0.0
    return Drops(float(weights), float(given.one("head_dropout", 0.0)))
