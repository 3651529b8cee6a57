"""FlexAttention is told what heads see; on a CPU it computes that as it is, without a gradient."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from pso_attn.attention import flexible
from pso_attn.attention.flexible import Flexible, compiled
from pso_attn.attention.scores import Scores
from pso_attn.evaluate.precision import products_in
from pso_attn.testing.mechanisms import learned_apart, make_layer, scaled

CPU, LENGTH, EXAMPLES = torch.device("cpu"), 150, 2  # more than one block of pairs, not a multiple
KINDS: dict[str, list[dict[str, Any]]] = {
    "plain": [{}, {"temperature": (0.6, 1.7)}],
    "windows and decay": [{"window_tokens": (3, 140), "decay": (1.0, 0.0)}, {"decay": 3.0}, {}],
    "dilation": [{"dilation": 3, "window_tokens": 20}, {"dilation": (1, 400)}, {}],
    "blocks": [{"block_tokens": 17, "decay": 0.5}, {"block_tokens": 40, "dilation": 2}, {}],
    "learned": [{"learned_temperature": True}, {"qk_norm": True}],
    "rotary": [{"positions": "rotary"}, {"positions": "rotary", "rope_base": 50.0, "decay": 0.3}],
}


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("heads", "width"), [(2, 4), (2, 24), (1, 16)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_heads_see_is_what_explicit_scores_say(
    kind: str, causal: bool, heads: int, width: int
) -> None:
    members = [
        make_layer(
            "softmax",
            heads=heads,
            head_dim=width,
            length=LENGTH,
            causal=causal,
            **{
                n: value[:heads] if isinstance(value, tuple) else value for n, value in own.items()
            },
        )
        for own in KINDS[kind]
    ]
    draws = torch.Generator().manual_seed(1)
    shape = (len(members), EXAMPLES, heads, LENGTH, width)
    q, k, v = (torch.randn(shape, generator=draws) for _ in range(3))
    own = {
        name: [tensor.detach().float() for tensor in tensors]
        for name, tensors in learned_apart(members, LENGTH).items()
    }
    scores = Scores(members, LENGTH, causal, torch.zeros(()))
    q = scaled(scores, q)
    found = Flexible(members, LENGTH, causal, CPU)(flex_attention, *scores.operands(q, k, own), v)
    assert found.shape == shape
    expected = scores(q, k, own).softmax(-1) @ v
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_values_that_another_kernel_attends_to_more_quickly_are_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flexible, "compiled", lambda *kind: flex_attention)
    kernel = Flexible([make_layer("softmax", heads=2, head_dim=4)], LENGTH, True, CPU)
    v: Tensor = torch.zeros(1, EXAMPLES, 2, LENGTH, 4)
    assert kernel.kernel(v) is None
    assert kernel.kernel(v.bfloat16()) is flex_attention
    with products_in("tf32", torch.device("cuda")):
        assert kernel.kernel(v) is flex_attention
    assert kernel.kernel(v) is None
    monkeypatch.setattr(flexible, "MOST_HEADS", 1)
    assert kernel.kernel(v.bfloat16()) is None, "CUDA has no grid for so many heads"


def test_where_it_cannot_be_compiled_a_warning_says_why_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As on a CPU, where PyTorch refuses gradients of it."""
    compiled.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert compiled(CPU, 16, torch.bfloat16) is None
        assert compiled(CPU, 16, torch.bfloat16) is None
    (warning,) = caplog.messages
    assert warning.startswith("heads of 16 attend without FlexAttention, more slowly: ")
    assert "CPU" in warning
