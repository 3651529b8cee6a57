"""The softmax over keys, as fast for short rows as for long ones."""

from typing import Any

import torch

SHORT_ROWS = 16  # entries; torch 2.13's softmax on a CPU takes five times as long below


def softmax(scores: torch.Tensor) -> torch.Tensor:
    """Return exp(s_j) / Σ_j exp(s_j) over the last axis; −inf gives 0, some entry is finite."""
    if scores.device.type == "cpu" and scores.shape[-1] < SHORT_ROWS:
        weights: torch.Tensor = _ShortRows.apply(scores)  # type: ignore[no-untyped-call]  # torch's
        return weights
    return scores.softmax(-1)


class _ShortRows(torch.autograd.Function):
    """The softmax by whole-tensor operations, and its gradient a_j (g_j − Σ_k a_k g_k)."""

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor) -> torch.Tensor:
        weights = (scores - scores.amax(-1, keepdim=True)).exp_()
        weights.div_(weights.sum(-1, keepdim=True))
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (weights,) = ctx.saved_tensors
        gradient: torch.Tensor = gradients[0] * weights
        return gradient.addcmul_(weights, gradient.sum(-1, keepdim=True), value=-1)
