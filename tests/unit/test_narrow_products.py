"""Products that are computed the other way round are products, and so are their gradients."""

import pytest
import torch

from pso_attn.attention.narrow import NARROW, product

SHAPES = [(20, 20, 3), (20, 3, 20), (3, 20, 20), (5, 5, 5), (1, 4, 1), (2 * NARROW, 2, NARROW)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("turned", [False, True])
def test_the_way_round_changes_no_product(shape: tuple[int, int, int], turned: bool) -> None:
    a, b = stacks(*shape)
    if turned:
        a, b = b.transpose(-1, -2), a.transpose(-1, -2)
    torch.testing.assert_close(product(a, b), a @ b)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_the_product(shape: tuple[int, int, int]) -> None:
    a, b = (x.requires_grad_() for x in stacks(*shape))
    assert torch.autograd.gradcheck(product, (a, b))


def test_what_needs_no_gradient_gets_none() -> None:
    a, b = stacks(20, 20, 3)
    b.requires_grad_()
    product(a, b).sum().backward()
    assert a.grad is None
    assert b.grad is not None


def test_leading_axes_are_repeated_as_torch_does() -> None:
    a, b = stacks(20, 20, 3)
    torch.testing.assert_close(product(a[:1], b), a[:1] @ b)


def stacks(rows: int, inner: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    options = {"dtype": torch.float64, "generator": generator}
    a = torch.randn((2, 3, rows, inner), **options)  # type: ignore[call-overload]
    b = torch.randn((2, 3, inner, columns), **options)  # type: ignore[call-overload]
    return a, b
