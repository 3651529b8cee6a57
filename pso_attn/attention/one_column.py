"""Products with a single column, such that a particle has the same floats alone and among others.

PyTorch hands a stack of one matrix and one column to gemv, and a stack of several to gemm, which
rounds otherwise. What trains in which tile would then show in the results.
"""

from collections.abc import Callable

from torch import Tensor


def by_gemm(product: Callable[..., Tensor], *stacks: Tensor) -> Tensor:
    """Return a product of stacks (P, ·, ·), the last of which may have one column.

    product: `torch.bmm`, or `torch.baddbmm`. A particle that is alone is computed beside itself.
    """
    if len(stacks[-1]) > 1 or stacks[-1].shape[-1] > 1:
        return product(*stacks)
    return product(*(stack.expand(2, -1, -1) for stack in stacks))[:1]
