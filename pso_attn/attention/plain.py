"""softmax(q kᵀ + bias) v, where scores are products and a constant: two ways to compute it.

By explicit weights, with a gradient by hand, or by PyTorch's own fused kernel, which never holds
all T · T weights.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from pso_attn.attention.drops import Noise
from pso_attn.attention.normalise import softmax_
from pso_attn.attention.pairs import way
from pso_attn.attention.scores import Mask


def attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, noise: Noise | None) -> Tensor:
    """Return softmax(q kᵀ + bias) v (P, B, H, T, d) of q, k and v of that shape."""
    values: Tensor = _Attended.apply(q, k, v, bias, noise)  # type: ignore[no-untyped-call]  # torch's
    return values


def fused(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    """Return softmax(q kᵀ + mask) v (P, B, H, T, d) of q, k and v of that shape.

    Examples come first and the heads of all particles side by side, so that the examples share
    the mask without a copy of it.
    """
    particles, batch = q.shape[:2]
    q, k, v = (x.to(v.dtype).transpose(0, 1).flatten(1, 2) for x in (q, k, v))  # (B, P · H, T, d)
    bias = None
    if mask.bias is not None:
        bias = mask.bias.to(v.dtype).transpose(0, 1).flatten(1, 2).expand(batch, -1, -1, -1)
    out = scaled_dot_product_attention(q, k, v, bias, 0.0, mask.is_causal, scale=1.0)
    apart: Tensor = out.unflatten(1, (particles, -1)).transpose(0, 1)
    return apart


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
        scores, multiplied = ctx.way.multiply(q, k)
        if bias is not None:
            scores += bias
        weights = softmax_(scores)
        left = weights if noise is None else noise.factors(weights).mul_(weights)
        values: Tensor
        values, weighed = ctx.way.weigh(left, v)
        ctx.save_for_backward(*multiplied, *weighed, weights, left)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *saved, weights, left = ctx.saved_tensors
        gradient, to_v = ctx.way.push(gradients[0], *saved[2:])
        gradient *= left
        gradient.addcmul_(weights, gradient.sum(-1, keepdim=True), value=-1)
        to_q, to_k = ctx.way.pull(gradient, *saved[:2])
        return to_q, to_k, to_v, None, None
