"""The norm of tokens before each block: layer norm without weights, Ba et al. 2016, eq. 4."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

EPSILON = 1e-5  # torch's


def normed(x: Tensor) -> Tensor:
    """Return (x - mean) / √(variance + 1e-5) over the last axis of x (…, D)."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        rows: Tensor = _Normed.apply(x)  # type: ignore[no-untyped-call]  # torch's
        return rows
    return layer_norm(x, x.shape[-1:], eps=EPSILON)


def standardise(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norm of x (…, D), and mean and 1 / √(variance + 1e-5) of each row (…, 1).

    By whole-tensor operations: up to D = 128 in half of the time of torch 2.13's.
    """
    mean = x.mean(-1, keepdim=True)
    centred = x - mean
    norm = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
    scale = torch.addcmul(_epsilon(x.dtype), norm, norm, value=1 / x.shape[-1]).rsqrt_()
    return centred.mul_(scale), mean, scale


def pull_back(gradient: Tensor, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Return the gradient of x from that of its norm; mean and scale: as `standardise` says."""
    found: tuple[Tensor, ...] = torch.ops.aten.native_layer_norm_backward(
        gradient, x, x.shape[-1:], mean, scale, None, None, [True, False, False]
    )
    return found[0]


@lru_cache
def _epsilon(dtype: torch.dtype) -> Tensor:
    return torch.tensor(EPSILON, dtype=dtype)


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows, mean, scale = standardise(x)
        ctx.save_for_backward(x, mean, scale)
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return pull_back(gradients[0], *ctx.saved_tensors)
