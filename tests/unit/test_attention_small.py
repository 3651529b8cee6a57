"""Small attention takes other operations on a CPU, and gives the same."""

import pytest
import torch

from pso_attn.attention import rows
from pso_attn.attention.normalise import SHORT_ROWS, softmax, softmax_
from pso_attn.attention.pairs import products, side_by_side, weighted
from pso_attn.attention.rows import copy_rows

CPU = torch.device("cpu")


@pytest.mark.parametrize("keys", [1, 2, SHORT_ROWS - 1, SHORT_ROWS])
def test_rows_of_any_length_normalise_as_torch_does(keys: int) -> None:
    generator = torch.Generator().manual_seed(keys)
    scores = torch.randn(3, 2, 5, keys, dtype=torch.float64, generator=generator) * 40
    scores[..., 1:] = scores[..., 1:].masked_fill(scores[..., 1:] > 30, float("-inf"))
    scores.requires_grad_()
    direction = torch.randn(scores.shape, dtype=torch.float64, generator=generator)
    expected = scores.softmax(-1)
    found = softmax(scores)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad((y * direction).sum(), scores)[0] for y in (found, expected)]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(softmax_(scores.detach().clone()), expected)


def test_rows_that_torch_would_overflow_on_without_its_shift_stay_finite() -> None:
    assert softmax(torch.tensor([[1e4, 1e4]])).tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("heads", "length", "width"), [(1, 8, 4), (4, 8, 4), (8, 8, 2), (3, 5, 7), (2, 15, 64)]
)
@pytest.mark.parametrize("token_order", [True, False])
def test_heads_side_by_side_multiply_as_heads_one_by_one(
    heads: int, length: int, width: int, token_order: bool
) -> None:
    assert side_by_side(length, heads, width, CPU)
    generator = torch.Generator().manual_seed(heads)
    laid = (2, 3, length, heads, width) if token_order else (2, 3, heads, length, width)
    q, k, v = (
        (x.transpose(2, 3) if token_order else x).detach().requires_grad_()
        for x in torch.randn(3, *laid, dtype=torch.float64, generator=generator)
    )
    direction = torch.randn(q.shape, dtype=torch.float64, generator=generator)
    found = weighted(products(q, k).softmax(-1), v)
    expected = (q @ k.transpose(-1, -2)).softmax(-1) @ v
    torch.testing.assert_close(found, expected)
    for leaf in (q, k, v):
        slopes = [
            torch.autograd.grad((y * direction).sum(), leaf, retain_graph=True)[0]
            for y in (found, expected)
        ]
        torch.testing.assert_close(*slopes)


def test_large_attention_multiplies_heads_one_by_one() -> None:
    assert not side_by_side(SHORT_ROWS, 4, 4, CPU)
    assert not side_by_side(8, 4, 17, CPU)
    assert not side_by_side(8, 4, 4, torch.device("cuda"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("width", range(1, 18))
@pytest.mark.parametrize(("first", "after"), [(0, 0), (0, 1), (1, 1), (2, 0)])
def test_rows_are_copied_bit_by_bit_whatever_their_width_and_place(
    dtype: torch.dtype, width: int, first: int, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one order into another, whole ones and such as begin between two words."""
    monkeypatch.setattr(rows, "MANY", 1)
    bits = torch.randn(3, 4, 5, first + width + after, generator=torch.Generator().manual_seed(0))
    bits[0, 0] = float("nan")
    bits[0, 1] = -0.0
    source = bits.to(dtype)[..., first : first + width].transpose(0, 1)
    into = torch.zeros(5, 3, 4, width, dtype=dtype)
    copy_rows(source, into.permute(2, 1, 0, 3))
    assert into.view(torch.uint8).equal(source.permute(2, 1, 0, 3).contiguous().view(torch.uint8))
    across = torch.zeros(4, 3, width, 5, dtype=dtype)
    copy_rows(source, across.transpose(2, 3))
    assert torch.equal(across.transpose(2, 3).nan_to_num(), source.nan_to_num())
