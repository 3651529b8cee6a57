"""Softmax attention by a kernel that PyTorch compiles for what its heads see: FlexAttention.

Dong et al. 2024, arXiv 2412.05496. How far a head sees and how its scores fall is computed from
the distance within the kernel, so that nothing of T × T is read, and blocks of pairs that nobody
sees are passed over. On CUDA alone, since on a CPU it has no gradient; and for products in bf16 or
tf32 alone, since in float32 the other kernels are quicker: ARCHITECTURE.md has the figures.

A kernel is compiled for its shapes, which takes seconds, and who is in a batch changes them. So
the heads of all particles go to it MANY by MANY, the last filled up with heads that see nothing
and cost little: what is compiled once serves every layout of a search.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import pad

from pso_attn.attention.layer import LayerSettings
from pso_attn.errors import is_interrupt

FLEX_TOKENS = 256  # T from which seconds of compiling can be won back
FEW, MANY = 8, 32  # heads that a kernel attends for, the first where there are no more
NARROWEST, ROW_BYTES = 16, 256  # columns of a head, a power of two; bytes of a row, for which
# a core has memory
VARIANTS = 64  # kernels of a process: by width, numbers, batch, and what is seen
MASK_BYTES = 2**28  # that making a mask takes beside it, at PAIR_BYTES for each pair of tokens
PAIR_BYTES = 18
Attend = Callable[..., Any]
_known = dict[tuple[Any, ...], bool]()  # which kinds of kernels this process could compile

_log = logging.getLogger(__name__)


def may_compile(length: int, device: torch.device) -> bool:
    """Tell whether sequences of T tokens may be attended to by a kernel that is compiled."""
    return device.type == "cuda" and length >= FLEX_TOKENS


class Flexible:
    """Attends for one group of particles whose scores are products and what their sight says."""

    def __init__(
        self, members: Sequence[LayerSettings], length: int, causal: bool, device: torch.device
    ) -> None:
        """Note what each head sees; tables of it are made at the first call. length: T."""
        self._heads, self._length, self._causal = members[0].heads, length, causal
        self._device, self._sights = device, [member.sight for member in members]
        count = len(members) * self._heads
        self._at_once = FEW if count <= FEW else MANY
        self._missing = -count % self._at_once
        self._has_steps = any(max(sight.dilation) > 1 for sight in self._sights)
        self._has_blocks = any(sight.blocks for sight in self._sights)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
        """Return softmax(s) v (P, B, H, T, d) of q, scaled, k and v of that shape.

        None where another kernel is quicker, or this one cannot be compiled, after a warning.
        """
        is_rounded = v.dtype == torch.bfloat16 or torch.backends.cuda.matmul.allow_tf32
        filled = _filled(v.shape[-1])
        if not is_rounded or filled * v.element_size() > ROW_BYTES:
            return None
        uses = self._causal, self._has_steps, self._has_blocks, torch.is_grad_enabled()
        shape = v.shape[1], self._at_once, self._length, filled
        kind = (v.device, v.dtype, *uses, *shape)
        if kind in _known:
            return self.by(compiled(), q, k, v) if _known[kind] else None
        try:
            with _compiling():
                if torch.is_grad_enabled():
                    self._differentiate(v.new_zeros(shape))
                found = self.by(compiled(), q, k, v)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler, or the lack of one, raises
            if is_interrupt(error):
                raise KeyboardInterrupt from error
            _known[kind] = False
            _warn(_reason(error))
            return None
        _known[kind] = True
        return found

    def _differentiate(self, like: Tensor) -> None:
        """Compile the gradient as well, for one group: else a step would, and fail by it."""
        operands = [
            like.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for _ in range(3)
        ]
        falls, seen = self._falls[0], self._seen[0]
        values = compiled()(*operands, score_mod=falls, block_mask=seen, scale=1.0)
        torch.autograd.grad(values.sum(), operands)

    def by(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the same. attend: `flex_attention`, compiled or not.

        Each group is (B, G, T, ·), whose strides say nothing of how many there are.
        """
        width = v.shape[-1]
        filling = (0, _filled(width) - width, 0, 0, 0, 0, 0, self._missing)
        groups = (
            pad(x.to(v.dtype).transpose(1, 2).flatten(0, 1), filling)
            .contiguous()
            .unflatten(0, (-1, self._at_once))
            .transpose(1, 2)
            for x in (q, k, v)
        )
        each = zip(*groups, self._falls, self._seen, strict=True)
        found = torch.stack(
            [
                attend(*operands, score_mod=falls, block_mask=seen, scale=1.0)
                for *operands, falls, seen in each
            ]
        )
        heads = found.transpose(1, 2).flatten(0, 1)[: v.shape[0] * self._heads, ..., :width]
        apart: Tensor = heads.unflatten(0, (-1, self._heads)).transpose(1, 2)
        return apart

    def _grouped(self, values: Tensor, missing: float) -> Tensor:
        """Return (groups, G, …) of (P · H, …), on the device, filled up."""
        filling = values.new_full((self._missing, *values.shape[1:]), missing)
        whole = torch.cat([values, filling]).to(self._device)
        return whole.view(-1, self._at_once, *values.shape[1:])

    @cached_property
    def _falls(self) -> list[Callable[..., Tensor]]:
        """How the scores of each group fall."""
        slopes = torch.cat([sight.slopes for sight in self._sights]).float()
        return [_falling(slope) for slope in self._grouped(slopes, 0.0)]

    @cached_property
    def _seen(self) -> list[BlockMask]:
        """Which blocks of pairs each group sees."""
        reach = [pair for sight in self._sights for pair in sight.reach(self._length)]
        far, every = torch.tensor(reach, dtype=torch.int32).T
        windows, steps, blocks = self._grouped(far, -1), None, None
        if self._has_steps:
            steps = self._grouped(every, 1)
        if self._has_blocks:
            own = torch.stack([sight.block_of(self._length) for sight in self._sights])
            blocks = self._grouped(own.int().repeat_interleave(self._heads, 0), 0)
        return [
            self._mask(window, _rows(steps, n), _rows(blocks, n))
            for n, window in enumerate(windows)
        ]

    def _mask(self, window: Tensor, step: Tensor | None, block: Tensor | None) -> BlockMask:
        """Return the blocks that one group sees, found for a few heads at a time."""
        length, causal, device = self._length, self._causal, str(window.device)
        at_once = max(1, MASK_BYTES // (PAIR_BYTES * length**2))
        parts = []
        for first in range(0, len(window), at_once):
            few = slice(first, first + at_once)
            sees = _seeing(window[few], _rows(step, few), _rows(block, few), causal)
            heads = len(window[few])
            parts.append(create_block_mask(sees, None, heads, length, length, device=device))
        tables = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
        some, where, full, where_full = (
            torch.cat([getattr(part, name) for part in parts], 1) for name in tables
        )
        sees, size = _seeing(window, step, block, causal), parts[0].BLOCK_SIZE
        return BlockMask.from_kv_blocks(
            some, where, full, where_full, size, sees, seq_lengths=(length, length)
        )


def _rows(table: Tensor | None, which: int | slice) -> Tensor | None:
    return None if table is None else table[which]


def _falling(slope: Tensor) -> Callable[..., Tensor]:
    """Return what a score becomes, of slopes of each head."""

    def falls(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score - slope[h] * (i - j).abs()

    return falls


def _seeing(
    window: Tensor, step: Tensor | None, block: Tensor | None, causal: bool
) -> Callable[..., Tensor]:
    """Return whether a head sees a pair; window, step: (heads,). block: (heads, T)."""

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        away = (i - j).abs()
        seen = away <= window[h]
        if step is not None:
            seen = seen & (away % step[h] == 0)
        if block is not None:
            seen = seen & (block[h, i] == block[h, j])
        return seen & (i >= j) if causal else seen

    return sees


def _filled(width: int) -> int:
    return max(NARROWEST, 1 << (width - 1).bit_length())


@cache
def compiled() -> Attend:
    """Return FlexAttention, compiled at its first call of each shape."""
    attend: Attend = torch.compile(flex_attention, fullgraph=True, dynamic=False)
    return attend


@contextmanager
def _compiling() -> Iterator[None]:
    """Let as many kernels be compiled as a process needs, without a word of what could be faster.

    The limit goes by its name of torch 2.6, which later ones know as well.
    """
    config: Any = torch._dynamo.config
    with config.patch("cache_size_limit", VARIANTS), warnings.catch_warnings(action="ignore"):
        yield


@cache
def _warn(reason: str) -> None:
    _log.warning("attention goes without FlexAttention, so more slowly: %s", reason)


def _reason(error: BaseException) -> str:
    """Return the first line of what is at the root of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {line}"
