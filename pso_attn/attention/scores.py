"""The scores of queries and keys: what every mechanism that compares pairs begins with.

    s_ij = p_ij − m |i − j| + f_ij,  j in sight of i

f as `span.py` has it and p as `products.py`, of queries and keys that are turned where positions
are rotary.

A knob that nobody in a group uses costs no operation: what is needed is settled when the group
is made. Decay and fading are neither divided by the temperature nor capped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.learned import LearnedTensors
from pso_attn.attention.padding import Padding
from pso_attn.attention.pairs import in_order_of_scores, side_by_side
from pso_attn.attention.positions import Turn
from pso_attn.attention.products import Products
from pso_attn.attention.span import Fading


@dataclass(frozen=True, eq=False)
class Mask:
    """What is added to scores: bias (P, 1, H, T, keys), or −inf on later keys alone, or nothing.

    P and H are 1 where it is everybody's.
    """

    bias: torch.Tensor | None
    is_causal: bool


class Scores:
    """Scores pairs for one group of particles that share heads and head width."""

    def __init__(
        self,
        members: Sequence[LayerSettings],
        length: int,
        causal: bool,
        like: torch.Tensor,
    ) -> None:
        """Prepare the data of each particle; `like` gives dtype and device."""
        width = members[0].head_dim
        sharpness, bases = [m.sharpness for m in members], [m.rope_base for m in members]
        self._products = Products(sharpness, width, like)
        self.scale = self._products.scale
        self._turn = Turn(bases, length, width, like) if any(bases) else None
        spans, heads = [m.span for m in members], members[0].heads
        fades = any(span.learned for span in spans)
        self._fading = Fading(spans, heads, length, like) if fades else None
        are_whole = all(member.sight.is_whole(length) for member in members)
        self._is_causal_alone = causal and are_whole and length > 1
        self.bias: torch.Tensor | None = None  # (P, 1, H, T, T)
        if self._is_causal_alone:  # one for all particles and heads
            ahead = like.new_full((length, length), float("-inf")).triu(1)
            self.bias = ahead.expand(len(members), 1, heads, -1, -1)
        elif not are_whole:
            self.bias = like.new_empty(len(members), 1, heads, length, length)
            for own, member in zip(self.bias, members, strict=True):  # float64 for one at a time
                own[0] = member.sight.bias(length, causal)
        if self.bias is not None and side_by_side(length, members[0].heads, width, like.device):
            self.bias = in_order_of_scores(self.bias)

    @property
    def are_plain(self) -> bool:
        """Whether they are the products of `operands` and a constant, `Mask`, alone."""
        return self._products.are_plain and self._fading is None

    @property
    def mask(self) -> Mask:
        """What is added to plain scores."""
        return Mask(None if self._is_causal_alone else self.bias, self._is_causal_alone)

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        learned: LearnedTensors,
        padding: Padding | None = None,
    ) -> torch.Tensor:
        """Return (P, B, H, T, T) from scaled q and k (P, B, H, T, d), −inf where not in sight."""
        return self.in_sight(self.products(q, k, learned), learned, padding)

    def products(self, q: torch.Tensor, k: torch.Tensor, learned: LearnedTensors) -> torch.Tensor:
        """Return p (P, B, H, T, T), of every pair."""
        return self._products(*self._turned(q, k), learned)

    def operands(
        self, q: torch.Tensor, k: torch.Tensor, learned: LearnedTensors
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return queries and keys whose products are p, where nothing bounds it."""
        return self._products.operands(*self._turned(q, k), learned)

    def in_sight(
        self, products: torch.Tensor, learned: LearnedTensors, padding: Padding | None = None
    ) -> torch.Tensor:
        """Return products less what distance costs, −inf where not in sight, less for padding."""
        bias = self.bias
        if self._fading is not None:
            faded = self._fading(learned)
            bias = faded if bias is None else bias + faded  # both small: without a batch axis
        products = products if bias is None else products + bias
        return products if padding is None else products + padding.bias

    def _turned(self, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (q, k) if self._turn is None else (self._turn(q), self._turn(k))
