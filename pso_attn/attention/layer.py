"""One attention layer's settings, read from a particle's settings and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import torch

from pso_attn.attention.drops import Drops, Noise, read_drops
from pso_attn.attention.given import Given
from pso_attn.attention.kinds import RANKED, SOFT
from pso_attn.attention.learned import NOTHING, Learned, LearnedTensors
from pso_attn.attention.padding import Padding
from pso_attn.attention.positions import read_rope_base
from pso_attn.attention.sharpness import Sharpness, read_sharpness
from pso_attn.attention.sight import Sight, read_sight
from pso_attn.attention.sink import Sink, read_sink
from pso_attn.attention.span import Span, read_span
from pso_attn.errors import ConfigurationError

FUSED_TOKENS = 128  # T from which the fused kernel is quicker on a CPU: docs/log.md, 2026-11-24
LEAST_OFF = 1e-6  # of α from 1.5 or 2, below which it is that: float32 has no more digits


@dataclass(frozen=True)
class LayerSettings:
    """What one particle's attention layer does; each family of knobs stands in its own file.

    rank: rows that low-rank attention keeps, of `block` tokens where it goes by blocks; both are 0
    for other mechanisms. top_k: keys that a query keeps. entmax_alpha: of sparse attention.
    forgetting: of retention, one entry a head. rope_base: of the angles by which queries and keys
    turn, None where positions are not rotary. is_long: whether the sequence is long enough for
    PyTorch's fused kernel. near: tokens of a block where softmax attends to its
    own and the next blocks alone, 0 where to all.
    """

    mechanism: str
    heads: int
    head_dim: int
    kv_heads: int
    rank: int
    block: int
    top_k: int
    entmax_alpha: float
    forgetting: tuple[float, ...]
    rope_base: float | None
    sight: Sight
    is_long: bool
    near: int
    sharpness: Sharpness
    span: Span
    sink: Sink
    drops: Drops

    @property
    def group(self) -> tuple[str | int, ...]:
        """What must be equal for particles to share a kernel."""
        shape = (self.mechanism, self.head_dim, self.heads, self.rank, self.block)
        has_sink = self.sink.kind != "none"  # whose rows are longer, and are summed up otherwise
        return (*shape, self.whole_power, self._holds, has_sink, self.near)

    @property
    def whole_power(self) -> int:
        """The power 1 / (α − 1) of sparse attention where it is 1 or 2, else 0: `sparse.py`."""
        if self.mechanism != "sparse":
            return 0
        powers = ((2.0, 1), (1.5, 2))
        return next((p for a, p in powers if abs(self.entmax_alpha - a) < LEAST_OFF), 0)

    @property
    def is_plain(self) -> bool:
        """Whether it is a softmax of products and a constant, whose scores nobody need hold."""
        is_bounded = isfinite(self.sharpness.softcap) or self.span.learned
        return self.mechanism in SOFT and not is_bounded and self.sink.kind == "none"

    @property
    def _holds(self) -> int:
        """Which weights are held: 0 those of no plain softmax, 1 a plain one's, 2 none.

        Beside one who holds more, others would as well, and in another order of operations.
        """
        return self.is_plain + (self.is_plain and self.is_long and not self.drops.weights)

    @property
    def inner_dim(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    def learned(self, length: int, d_model: int) -> tuple[Learned, ...]:
        """Return what the layer learns beside its maps of inputs (T, C) to heads and back."""
        rows = (
            Learned(
                name, (self.rank, self.block or length), (0.0,), (self.block or length) ** -0.5
            )
            for name in ("project_keys", "project_values")
        )
        heads = range(self.heads)
        identity = tuple(float(h == g) for h in heads for g in heads)
        mixes = (
            Learned(name, (self.heads, self.heads), identity)
            for name in ("mix_scores", "mix_weights")
        )
        return (
            *(rows if self.rank else ()),
            *(mixes if self.mechanism == "talking_heads" else ()),
            *self.sharpness.tensors(length, d_model),
            *self.span.tensors(self.heads),
            *self.sink.tensors(self.heads),
        )

    @property
    def learns(self) -> tuple[str, ...]:
        """The names of what the layer learns beside its maps."""
        return tuple(tensor.name for tensor in self.learned(1, 1))


class Kernel(Protocol):
    """A mechanism: attends for one group of particles, P in all, that agree on `group`.

    scale: constants (P, H) by which it wants its queries multiplied, None where there are none.
    Whoever projects queries has them in the map, where they cost least.
    """

    scale: torch.Tensor | None

    def __init__(
        self, members: Sequence[LayerSettings], length: int, causal: bool, like: torch.Tensor
    ) -> None:
        """Prepare the data of each particle. length: T; `like` gives dtype and device."""
        ...

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        noise: Noise | None,
        learned: LearnedTensors = NOTHING,
        padding: Padding | None = None,
    ) -> torch.Tensor:
        """Return (P, B, H, T, d) from q of that shape, scaled, and k, v (P, B, H, keys, d).

        noise: drops attention weights. learned: what the particles' layers say that they learn.
        padding: the keys that nobody attends to, None where all are real.
        """
        ...


def read_layer(
    settings: Mapping[str, Any], layer: int, length: int, causal: bool
) -> LayerSettings:
    """Return the settings of one layer; length: T in tokens.

    Raises ConfigurationError where they cannot work.
    """
    given = Given(settings, layer)
    mechanism, heads = given.one("mechanism", "softmax"), given.one("heads", 4)
    head_dim, kv_heads = _head_shape(given, heads)
    if mechanism == "retention" and not causal:
        raise ConfigurationError(
            'mechanism "retention" looks back alone and is not defined for a task that is not '
            'causal; choose "softmax" or "linear"'
        )
    rank, block = _rank(given, mechanism, length, causal)
    sight = read_sight(given, mechanism, heads, length)
    return LayerSettings(
        mechanism=mechanism,
        heads=heads,
        head_dim=head_dim,
        kv_heads=kv_heads,
        rank=rank,
        block=block,
        top_k=given.one("top_k", max(1, length // 4)),
        entmax_alpha=float(given.one("entmax_alpha", 1.5)),
        forgetting=given.each("forgetting", heads, 1.0),
        rope_base=read_rope_base(given, mechanism, head_dim),
        sight=sight,
        is_long=length >= FUSED_TOKENS,
        near=sight.block(length, causal) if mechanism == "softmax" else 0,
        sharpness=read_sharpness(given, mechanism, heads),
        span=read_span(given, mechanism),
        sink=read_sink(given, mechanism),
        drops=read_drops(given, mechanism),
    )


def _head_shape(given: Given, heads: int) -> tuple[int, int]:
    """Return head_dim and kv_heads."""
    kv_heads = given.one("kv_heads")
    if heads < 1 or (kv_heads is not None and kv_heads < 1):
        raise ConfigurationError(
            f"heads = {heads} and kv_heads = {kv_heads} leave nothing to attend with; "
            "each must be at least 1"
        )
    head_dim = given.one("head_dim")
    head_dim = given.settings["d_model"] // heads if head_dim is None else head_dim
    if head_dim < 1:
        raise ConfigurationError(
            f"heads = {heads} leaves head_dim = {head_dim} of d_model = "
            f"{given.settings['d_model']}; use fewer heads or set head_dim"
        )
    kv_heads = heads if kv_heads is None else kv_heads
    if heads % kv_heads:
        raise ConfigurationError(
            f"kv_heads = {kv_heads} does not divide heads = {heads}; choose a divisor, or other "
            "heads"
        )
    return head_dim, kv_heads


def _rank(given: Given, mechanism: str, length: int, causal: bool) -> tuple[int, int]:
    """Return how many rows low-rank attention keeps, and of how many tokens; 0 of all."""
    if mechanism not in RANKED:
        return 0, 0
    if mechanism == "low_rank" and causal:
        raise ConfigurationError(
            'mechanism "low_rank" mixes all tokens and is not defined for a causal task; '
            'choose "block_low_rank", "softmax" or "linear"'
        )
    block = 0
    if mechanism == "block_low_rank":
        block = min(given.one("block_tokens", max(1, length // 4)), length)
    tokens = block or length
    rank: int = given.one("rank", max(1, tokens // 4))
    if rank > tokens:
        raise ConfigurationError(
            f"rank = {rank} exceeds the {tokens} tokens of a {'block' if block else 'sequence'}; "
            f"choose at most {tokens}{', or a larger block_tokens' if block else ''}"
        )
    return rank, block
