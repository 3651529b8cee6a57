"""Softmax attention by a kernel that PyTorch compiles for what its heads see: FlexAttention.

Dong et al. 2024, arXiv 2412.05496. How far a head sees and how its scores fall is computed from
the distance within the kernel, so that nothing of T × T is read, and blocks of pairs that nobody
sees are passed over. On CUDA alone, since on a CPU it has no gradient; and for products in bf16 or
tf32 alone, since in float32 the other kernels are quicker: docs/log.md, 2026-11-27.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from pso_attn.attention.layer import LayerSettings
from pso_attn.attention.plain import MOST_HEADS, filled_up

FLEX_TOKENS = 256  # T from which seconds of compiling are won back: docs/log.md, 2026-11-27
NARROWEST = 16  # columns of a head that it takes; it wants a power of two
VARIANTS = 64  # kernels that a process may compile: for heads' widths, and who sees how
EXAMPLE = 128  # tokens of what is compiled first
Attend = Callable[..., Any]

_log = logging.getLogger(__name__)


class Flexible:
    """Attends for one group of particles whose scores are products and what their sight says."""

    def __init__(
        self, members: Sequence[LayerSettings], length: int, causal: bool, device: torch.device
    ) -> None:
        """Prepare what each head sees, on the device. length: T."""
        self._heads, self._length, self._causal = members[0].heads, length, causal
        sights = [member.sight for member in members]

        def each(values: Sequence[Sequence[int]]) -> Tensor:  # (P · H,)
            return torch.tensor(values, dtype=torch.int32, device=device).flatten()

        slopes = torch.cat([sight.slopes for sight in sights])
        self._falls = _falls(slopes.to(device, torch.float32))
        everything = (length,) * self._heads
        windows = [sight.window_tokens or everything for sight in sights]
        self._window = each([[min(w, length) for w in row] for row in windows])
        steps = [[min(step, length) for step in sight.dilation] for sight in sights]
        self._step = each(steps) if max(map(max, steps)) > 1 else None
        blocks = torch.stack([sight.block_of(length) for sight in sights])  # (P, T)
        self._block = blocks.int().to(device) if bool(blocks.any()) else None

    def kernel(self, v: Tensor) -> Attend | None:
        """Return the compiled kernel, None where values v are better attended to by another."""
        is_rounded = v.dtype == torch.bfloat16 or torch.backends.cuda.matmul.allow_tf32
        is_for_it = is_rounded and len(self._window) <= MOST_HEADS
        return compiled(v.device, _filled(v.shape[-1]), v.dtype) if is_for_it else None

    def __call__(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return softmax(s) v (P, B, H, T, d) of q, scaled, k and v of that shape.

        attend: `flex_attention`, compiled or not.
        """
        width, filled = v.shape[-1], _filled(v.shape[-1])
        q, k, v = (
            filled_up(x.to(v.dtype).transpose(0, 1).flatten(1, 2), filled) for x in (q, k, v)
        )  # (B, P · H, T, ·)
        out = attend(q, k, v, score_mod=self._falls, block_mask=self._seen, scale=1.0)
        apart: Tensor = out[..., :width].unflatten(1, (-1, self._heads)).transpose(0, 1)
        return apart

    @cached_property
    def _seen(self) -> BlockMask:
        """Which blocks of pairs somebody sees; made at the first call, as few layouts need it."""
        sees = _sees(self._window, self._step, self._block, self._heads, self._causal)
        return _blocks(sees, len(self._window), self._length, self._window.device)


def _filled(width: int) -> int:
    return max(NARROWEST, 1 << (width - 1).bit_length())


def _falls(slope: Tensor) -> Callable[..., Tensor]:
    """Return what a score becomes, of slopes of each head."""

    def falls(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score - slope[h] * (i - j).abs()

    return falls


def _sees(
    window: Tensor, step: Tensor | None, block: Tensor | None, heads: int, causal: bool
) -> Callable[..., Tensor]:
    """Return whether a head sees a pair. block: (P, T), of P particles of `heads` each."""

    def sees(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        away = (i - j).abs()
        seen = away <= window[h]
        if step is not None:
            seen = seen & (away % step[h] == 0)
        if block is not None:
            seen = seen & (block[h // heads, i] == block[h // heads, j])
        return seen & (i >= j) if causal else seen

    return sees


def _blocks(
    sees: Callable[..., Tensor], heads: int, length: int, device: torch.device
) -> BlockMask:
    return create_block_mask(sees, None, heads, length, length, device=str(device))


@cache
def compiled(device: torch.device, width: int, dtype: torch.dtype) -> Attend | None:
    """Return FlexAttention, compiled at its first call of each kind; None where it cannot be.

    That is tried here, on a small example of as wide heads: a compiler may be missing, or a core
    have too little memory. A warning says why, once for each width.
    """
    config: Any = torch._dynamo.config
    config.recompile_limit = max(VARIANTS, config.recompile_limit)
    attend: Attend = torch.compile(flex_attention, fullgraph=True)
    q = torch.zeros(1, 1, EXAMPLE, width, dtype=dtype, device=device, requires_grad=True)
    everything = torch.full((1,), EXAMPLE, dtype=torch.int32, device=device)
    seen = _blocks(_sees(everything, None, None, 1, True), 1, EXAMPLE, device)
    falls = _falls(torch.zeros(1, device=device))
    try:
        with warnings.catch_warnings(action="ignore"):  # that float32 could round to tf32
            out = attend(q, q, q, score_mod=falls, block_mask=seen, scale=1.0)
            torch.autograd.grad(out.sum(), q)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler, or the lack of one, raises
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        reason = f"{type(root).__name__}: {str(root).strip().partition(chr(10))[0]}"
        _log.warning("heads of %d attend without FlexAttention, more slowly: %s", width, reason)
        return None
    return attend
