"""Operations in such a form that a particle has the same floats alone and among others.

What trains in which tile would otherwise show in the results. Nothing here costs anything where
sizes are usual: a batch of a multiple of 32, and more than one column.
"""

from collections.abc import Callable
from math import prod

from torch import Tensor
from torch.nn.functional import pad

VECTOR = 32  # floats that PyTorch's loops take at a time: two registers of AVX-512


def by_gemm(product: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
    """Return a product of stacks (P, ·, ·), which or whose gradients may have one column.

    product: `torch.bmm`, or `torch.baddbmm`. PyTorch hands a stack of one matrix and one column to
    gemv, which rounds otherwise than gemm; so a particle that is alone is computed beside itself.
    """
    if len(stacks[-1]) > 1 or 1 not in stacks[-1].shape[1:]:
        return product(*stacks)
    return product(*(stack.expand(2, -1, -1) for stack in stacks))[:1]


def in_vectors(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return an elementwise function of x (P, …): sigmoid, softplus, elu.

    PyTorch computes what is left over at the end of a tensor by scalar code, which rounds
    otherwise; so no particle leaves anything over.
    """
    count = prod(x.shape[1:])
    over = -count % VECTOR
    if not over:
        return function(x)
    return function(pad(x.flatten(1), (0, over)))[:, :count].reshape(x.shape)
