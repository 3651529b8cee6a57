"""softmax(q kᵀ + bias) v, where scores are products and a constant: two ways to compute it.

By explicit weights, with a gradient by hand, or by PyTorch's own fused kernel, which never holds
all T · T weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from pso_attn.attention.drops import Noise
from pso_attn.attention.narrow import Pair
from pso_attn.attention.normalise import softmax_
from pso_attn.attention.pairs import Way, way
from pso_attn.attention.scores import Mask

MOST_HEADS = 65_535  # blocks along an axis of a CUDA kernel's grid
ROW_BYTES, ROW_KEYS = 16, 8  # they want multiples of so much in rows of heads and of a mask


def attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, noise: Noise | None) -> Tensor:
    """Return softmax(q kᵀ + bias) v (P, B, H, T, d) of q, k and v of that shape."""
    values: Tensor = _Attended.apply(q, k, v, bias, noise)  # type: ignore[no-untyped-call]  # torch's
    return values


def weights_of(found: Way, q: Tensor, k: Tensor, bias: Tensor | None) -> tuple[Tensor, Pair]:
    """Return softmax(q kᵀ + bias), and what the products' gradients need."""
    scores, multiplied = found.multiply(q, k)
    if bias is not None:
        scores += bias
    return softmax_(scores), multiplied


def gradients_of(
    found: Way,
    gradient: Tensor,
    multiplied: Sequence[Tensor],
    weighed: Sequence[Tensor],
    weights: Tensor,
    left: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v from that of the values; left: weights after dropout."""
    gradient, to_v = found.push(gradient, *weighed)
    gradient *= left
    gradient.addcmul_(weights, gradient.sum(-1, keepdim=True), value=-1)
    return *found.pull(gradient, *multiplied), to_v


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Return softmax(q kᵀ + mask) v (P, B, H, T, d) of q, k and v of that shape.

    Examples come first and the heads of all particles side by side, so that the examples share
    the mask without a copy of it. Elsewhere than on a CPU the kernel itself lets them, and takes
    MOST_HEADS at most; rows that do not suit it would cost a copy of all weights, or of the mask
    as it is handed over, so zeros fill them up. mask.bias may be (1, 1, 1, T, keys), everybody's.
    """
    particles, batch, heads = q.shape[:3]
    width = v.shape[-1]
    q, k, v = (x.to(v.dtype).transpose(0, 1).flatten(1, 2) for x in (q, k, v))  # (B, P · H, T, d)
    bias, on_cpu = None, v.device.type == "cpu"
    if mask.bias is not None:
        bias = mask.bias.to(v.dtype)
        bias = bias if on_cpu else _filled_up(bias, ROW_KEYS)[..., : bias.shape[-1]]
        bias = bias.expand(particles, 1, heads, -1, -1).transpose(0, 1).flatten(1, 2)
        bias = bias.expand(batch, -1, -1, -1) if on_cpu else bias  # (B or 1, P · H, T, keys)
    if not on_cpu:
        q, k, v = (_filled_up(x, ROW_BYTES // x.element_size()) for x in (q, k, v))
    if on_cpu or q.shape[1] <= MOST_HEADS:
        out = _by_kernel(q, k, v, bias, mask.is_causal)
    else:
        count = -(-q.shape[1] // MOST_HEADS)
        biases = [None] * count if bias is None else bias.chunk(count, 1)
        parts = zip(*(x.chunk(count, 1) for x in (q, k, v)), biases, strict=True)
        ours = [_by_kernel(a, b, c, own, mask.is_causal) for a, b, c, own in parts]
        out = torch.cat(ours, 1)
    out = out if out.shape[-1] == width else out[..., :width]
    apart: Tensor = out.unflatten(1, (particles, -1)).transpose(0, 1)
    return apart


def _by_kernel(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, is_causal: bool) -> Tensor:
    return scaled_dot_product_attention(q, k, v, bias, 0.0, is_causal, scale=1.0)


def _filled_up(x: Tensor, multiple: int) -> Tensor:
    """Return x with zeros behind its rows up to a multiple, itself where none are missing."""
    missing = -x.shape[-1] % multiple
    return pad(x, (0, missing)) if missing else x


class _Attended(torch.autograd.Function):
    """Softmax attention with its gradient by hand: what nobody needs later is written over.

    Of dropout's factors f only a f is kept: g_a, the gradient of a weight a, appears as g_a a
    alone, which is that of a f times a f.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, noise: Noise | None
    ) -> Tensor:
        ctx.way = way(v)
        weights, multiplied = weights_of(ctx.way, q, k, bias)
        left = weights if noise is None else noise.factors(weights).mul_(weights)
        values: Tensor
        values, weighed = ctx.way.weigh(left, v)
        ctx.save_for_backward(*multiplied, *weighed, weights, left)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *saved, weights, left = ctx.saved_tensors
        to_each = gradients_of(ctx.way, gradients[0], saved[:2], saved[2:], weights, left)
        return *to_each, None, None
