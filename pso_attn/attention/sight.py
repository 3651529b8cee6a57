"""Which keys a query sees, and how their scores fall with distance."""

from dataclasses import dataclass
from itertools import pairwise

import torch

from pso_attn.attention.given import Given
from pso_attn.attention.kinds import PAIRING
from pso_attn.space.knob import Knob

LONG = 128  # tokens from which looking at near blocks alone may be quicker
NARROWEST = 16  # tokens of a block; products of fewer rows take as long
FEWER = 2  # times fewer keys than the sequence has, for it to be quicker

KNOBS = (
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
        when={"mechanism": PAIRING},
        per=("model", "layer", "head"),
        source="Press et al. 2021 (ALiBi), arXiv 2108.12409, section 3",
    ),
    Knob(
        "window_tokens",
        "int",
        "a token attends to those at most this far away, itself included; by default to all "
        "(where heads mix, what each brings to the mix)",
        low=1,
        high=64,
        log=True,
        minimum=0,
        limit="from T - 1 on, for T tokens",
        when={"mechanism": PAIRING},
        per=("model", "layer", "head"),
        source="Beltagy et al. 2020 (Longformer), arXiv 2004.05150, section 3.1",
    ),
    Knob(
        "dilation",
        "int",
        "of the tokens in its window a token attends to every r-th alone, counted from itself",
        low=1,
        high=8,
        log=True,
        minimum=1,
        default=1,
        neutral=1,
        when={"mechanism": PAIRING},
        per=("model", "layer", "head"),
        source="Beltagy et al. 2020 (Longformer), arXiv 2004.05150, section 3.1",
    ),
    Knob(
        "block_tokens",
        "int",
        "tokens attend within fixed blocks of this many, in odd layers shifted by half a block, "
        "by default within one; for block_low_rank its blocks, by default a quarter of the tokens",
        low=2,
        high=64,
        log=True,
        minimum=1,
        limit="from T on, for T tokens",
        when={"mechanism": (*PAIRING, "block_low_rank")},
        per=("model", "layer"),
        source="Liu et al. 2021 (Swin), arXiv 2103.14030, section 3.2; "
        "Zhu & Soricut 2021 (H-Transformer-1D), arXiv 2107.11906",
    ),
)


@dataclass(frozen=True)
class Sight:
    """What the heads of one layer see.

    decay, window_tokens, dilation: one entry a head. blocks: the sizes of the blocks that tokens
    attend within, in order; empty where all tokens are one block.
    """

    decay: tuple[float, ...]
    window_tokens: tuple[int, ...] | None
    dilation: tuple[int, ...]
    blocks: tuple[int, ...]

    @property
    def slopes(self) -> torch.Tensor:
        """By how much scores fall a token, float64 (H,).

        m_h = 2^(−8 (h + 1) / H), h from 0 (Press et al. 2021, section 3), scaled by the knob.
        """
        heads = len(self.decay)
        h = torch.arange(heads, dtype=torch.float64)
        return 2.0 ** (-8 * (h + 1) / heads) * torch.tensor(self.decay, dtype=torch.float64)

    def reach(self, length: int) -> list[tuple[int, int]]:
        """Return of each head how far it sees, and every how many-th token; T at most."""
        windows = self.window_tokens or (length,) * len(self.decay)
        return [
            (min(w, length), min(d, length)) for w, d in zip(windows, self.dilation, strict=True)
        ]

    def block_of(self, length: int) -> torch.Tensor:
        """Return the number of each token's block, int64 (T,)."""
        return torch.repeat_interleave(torch.tensor(self.blocks or (length,)))

    def bias(self, length: int, causal: bool) -> torch.Tensor:
        """Return what is added to the scores, float64 (H, T, T): −m |i − j|, −inf where not seen.

        It is (1, T, T) where no head sees or weighs anything otherwise than another.
        """
        seen = self.reach(length)
        if not any(self.decay) and len(set(seen)) == 1:
            seen = seen[:1]
        window, dilation = torch.tensor(seen, dtype=torch.int32).T[..., None, None]  # (H, 1, 1)
        position = torch.arange(length, dtype=torch.int32)
        ahead = position[None, :] - position[:, None]  # j − i
        unseen = (ahead.abs() % dilation > 0) | (ahead.abs() > window)  # (H, T, T)
        block = self.block_of(length)
        unseen |= block[None, :] != block[:, None]
        if causal:
            unseen |= ahead > 0
        bias = -self.slopes[: len(seen), None, None] * ahead.abs()
        return bias.masked_fill_(unseen, float("-inf"))

    def is_whole(self, length: int) -> bool:
        """Tell whether all of T tokens are seen, near and far alike."""
        window = length - 1 if self.window_tokens is None else min(self.window_tokens)
        is_even = not any(self.decay) and max(self.dilation) == 1
        return length == 1 or (is_even and window >= length - 1 and not self.blocks)

    def block(self, length: int, causal: bool) -> int:
        """Return b, a power of two: what any head sees is in the blocks of b tokens around it.

        0 where attending to all T tokens is quicker.
        """
        window = length - 1 if self.window_tokens is None else max(self.window_tokens)
        farthest = min(window, max(self.blocks, default=length) - 1)
        block = max(NARROWEST, 1 << max(0, farthest - 1).bit_length())
        is_quicker = length >= LONG and FEWER * block * blocks_seen(causal) <= length
        return block if is_quicker else 0

    def pairs(self, length: int, causal: bool) -> int:
        """Return how many (query, key) pairs all heads see."""
        return sum(
            _pairs(window, step, size, causal)
            for window, step in self.reach(length)
            for size in self.blocks or (length,)
        )


def blocks_seen(causal: bool) -> int:
    """Return how many blocks a block's tokens attend to: one before, their own, one after."""
    return 2 if causal else 3


def read_sight(given: Given, mechanism: str, heads: int, length: int) -> Sight:
    """Return what one layer's heads see, all where pairs are not scored; length: T in tokens."""
    if mechanism not in PAIRING:
        return Sight((0.0,) * heads, None, (1,) * heads, ())
    windows = given.each("window_tokens", heads)
    if set(windows) != {None}:  # a head without one sees all
        windows = tuple(length - 1 if window is None else window for window in windows)
    size = given.one("block_tokens")
    return Sight(
        decay=given.each("decay", heads, 0.0),
        window_tokens=None if None in windows else windows,
        dilation=given.each("dilation", heads, 1),
        blocks=() if size is None else _blocks(size, given.layer, length),
    )


def _blocks(size: int, layer: int, length: int) -> tuple[int, ...]:
    """Return the sizes of a layer's blocks; a block as long as the sequence is not shifted.

    Where Swin moves the border blocks' tokens next to each other and masks them apart, they are
    simply shorter here.
    """
    if size >= length:
        return ()
    first = size // 2 if layer % 2 else 0
    borders = [0, *range(first or size, length, size), length]
    return tuple(end - start for start, end in pairwise(borders))


def _pairs(window: int, step: int, length: int, causal: bool) -> int:
    """Return how many (i, j) have |i − j| ≤ window, a multiple of step; causal, only i ≥ j."""
    reaches = min(window, length - 1) // step
    behind = reaches * length - step * reaches * (reaches + 1) // 2
    return length + behind * (1 if causal else 2)
