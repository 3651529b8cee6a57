"""What searched matrices go through before the model uses them; gradients pass straight through.

Straight-through estimator: Bengio et al. 2013, arXiv 1308.3432, section 4.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pso_attn.models.weights.matrices import Matrix

_LARGEST = 127  # int8, symmetric


def int8(weights: Tensor) -> Tensor:
    """Return matrices (N, in, out) rounded to int8, one scale for each output column.

    scale = max|w| / 127, round to nearest: Jacob et al. 2017, arXiv 1712.05877, section 2.1,
    symmetric, without zero point.
    """
    scale = weights.abs().amax(-2, keepdim=True).clamp_min(1e-12) / _LARGEST
    return (weights / scale).round().clamp(-_LARGEST, _LARGEST) * scale


def ternary(weights: Tensor) -> Tensor:
    """Return matrices (N, in, out) of −γ, 0 and γ, one scale a matrix: γ = mean|w|.

    Ma et al. 2024 (BitNet b1.58), arXiv 2402.17764, eq. 1 to 3.
    """
    scale = weights.abs().mean((-2, -1), keepdim=True).clamp_min(1e-12)
    return (weights / scale).round().clamp(-1, 1) * scale


QUANTISERS: Mapping[str, Callable[[Tensor], Tensor] | None] = {
    "none": None,
    "int8": int8,
    "ternary": ternary,
}


def quantised(name: str, matrices: Sequence[Matrix], rows: Tensor) -> Tensor:
    """Return flat rows (N, M) as the model uses them; gradients are those of the rows."""
    function = QUANTISERS[name]
    if function is None:
        return rows
    with torch.no_grad():
        parts = []
        for matrix in matrices:
            own = rows[:, matrix.columns]
            wide = own.view(len(rows), -1, matrix.shape[-1])
            parts.append(function(wide).view_as(own) if len(matrix.shape) > 1 else own)
        rounded = torch.cat(parts, 1)
    return rounded + (rows - rows.detach()) if rows.requires_grad else rounded
