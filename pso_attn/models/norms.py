"""Rows less their mean, in units of their deviation, as fast for narrow rows as for wide ones."""

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn.functional import layer_norm

NARROW = 64  # entries: below, torch 2.13's kernel on a CPU takes two to three times as long
EPSILON = 1e-5  # of the variance, as in torch.nn.LayerNorm


def normed_rows(x: Tensor) -> Tensor:
    """Return (x - mean) / sqrt(variance + epsilon) over the last axis.

    Ba, Kiros & Hinton 2016, arXiv 1607.06450, eq. 3, without gain and bias. Narrow rows that need
    no gradient go through whole-tensor operations; with their gradient these would gain nothing.
    """
    width = x.shape[-1]
    if x.device.type != "cpu" or width >= NARROW or (torch.is_grad_enabled() and x.requires_grad):
        return layer_norm(x, (width,))
    centred = x - x.mean(-1, keepdim=True)
    length = vector_norm(centred, dim=-1, keepdim=True)
    return centred.mul_(length.square_().div_(width).add_(EPSILON).rsqrt_())
