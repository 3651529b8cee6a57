"""Norms of narrow rows: torch's own to rounding, and the same for a particle alone."""

import pytest
import torch
from torch.nn.functional import layer_norm

from pso_attn.models.norms import NARROW, normed_rows


@pytest.mark.parametrize("width", [1, 3, 16, 33, NARROW - 1, NARROW])
def test_rows_are_normed_as_torch_norms_them(width: int) -> None:
    x = torch.randn(5, 37, width, generator=torch.Generator().manual_seed(width))
    x[0] *= 1e-3  # epsilon counts
    x[1] += 100.0
    x[2] = 7.0
    exact = layer_norm(x.double(), (width,)).float()
    found = normed_rows(x)
    error, theirs = ((y - exact).abs().amax() for y in (found, layer_norm(x, (width,))))
    assert error <= max(2 * theirs, 1e-6)
    assert torch.equal(found[3:4], normed_rows(x[3:4].clone()))


def test_rows_that_need_a_gradient_have_torchs() -> None:
    x = torch.randn(4, 8, 16, requires_grad=True)
    (expected,) = torch.autograd.grad(layer_norm(x, (16,)).square().sum(), x)
    (found,) = torch.autograd.grad(normed_rows(x).square().sum(), x)
    assert torch.equal(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(normed_rows(x), layer_norm(x, (16,)), rtol=1e-5, atol=1e-6)
    assert torch.equal(x.detach(), x)
