"""FlexAttention is told what heads see; on a CPU it computes that as it is, without a gradient."""

import logging
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import flex_attention

from pso_attn.attention import Noise, flexible, softmax
from pso_attn.attention.flexible import FEW, MANY, Flexible
from pso_attn.attention.scores import Scores
from pso_attn.attention.softmax import Softmax
from pso_attn.counter import DropRates, keys
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


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flexible, "_known", {})


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("heads", "width"), [(2, 4), (2, 24), (1, 16)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("many", [2, MANY])
@pytest.mark.parametrize("kind", KINDS)
def test_what_heads_see_is_what_explicit_scores_say(
    kind: str, many: int, causal: bool, heads: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flexible, "FEW", 2)
    monkeypatch.setattr(flexible, "MANY", many)
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
    kernel = Flexible(members, LENGTH, causal, CPU)
    found = kernel.by(flex_attention, *scores.operands(q, k, own), v)
    assert found.shape == shape
    expected = scores(q, k, own).softmax(-1) @ v
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("knobs", [{"decay": 0.5}, {"window_tokens": 9}], ids=["fused", "near"])
def test_softmax_hands_it_what_it_is_quicker_at(
    knobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of PyTorch's fused kernel and of near blocks."""
    calls = list[int]()

    def attend(q: Tensor, *others: Tensor, **more: Any) -> Any:
        calls.append(q.shape[1])
        return flex_attention(q, *others, **more)

    monkeypatch.setattr(softmax, "may_compile", lambda length, device: length == LENGTH)
    monkeypatch.setattr(flexible, "compiled", lambda: attend)

    def attended(noise: Noise | None = None, length: int = LENGTH, **more: Any) -> Tensor:
        own = {"length": length, "causal": True, **knobs, **more}
        members = [make_layer("softmax", heads=2, head_dim=16, **own)] * 3
        kernel = Softmax(members, length, True, torch.zeros(()))
        q, k, v = (
            torch.randn(3, EXAMPLES, 2, length, 16, generator=torch.Generator().manual_seed(seed))
            for seed in range(3)
        )
        learned = learned_apart(members, length)
        named = {name: [x.detach().float() for x in own] for name, own in learned.items()}
        with torch.no_grad(), products_in("tf32", torch.device("cuda")):
            return kernel(scaled(kernel, q), k, v, noise, named)

    found = attended()
    assert calls == [FEW]
    with monkeypatch.context() as patch:
        patch.setattr(Flexible, "__call__", lambda *operands: None)
        torch.testing.assert_close(found, attended(), rtol=1e-4, atol=1e-5)
    key = keys(np.arange(3), 1, 1)[0, 0]
    attended(Noise(key, DropRates.of(torch.full((3,), 0.5))))
    attended(length=LENGTH + 1)
    attended(softcap=5.0)
    attended(sink="zero")
    assert calls == [FEW], "dropped, short, capped and sunk weights are others'"


def test_operands_are_computed_once_where_another_kernel_attends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In float32, as by default, on every step."""
    calls = list[int]()
    monkeypatch.setattr(softmax, "may_compile", lambda length, device: True)
    monkeypatch.setattr(Scores, "operands", counted(calls, Scores.operands))
    members = [make_layer("softmax", heads=2, head_dim=4, length=LENGTH, positions="rotary")] * 2
    q, k, v = torch.randn(3, 2, EXAMPLES, 2, LENGTH, 4)
    Softmax(members, LENGTH, True, torch.zeros(()))(q, k, v, None)
    assert calls == [1]


def test_values_that_another_kernel_attends_to_more_quickly_are_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And heads so wide that a core has no memory for their rows."""
    monkeypatch.setattr(flexible, "compiled", lambda: flex_attention)
    monkeypatch.setattr(Flexible, "by", lambda self, attend, q, k, v: v)
    kernel = Flexible([make_layer("softmax", heads=2, head_dim=4)], LENGTH, True, CPU)

    def is_taken(width: int, dtype: torch.dtype) -> bool:
        v = torch.zeros(1, EXAMPLES, 2, LENGTH, width, dtype=dtype)
        with torch.no_grad():
            return kernel(v, v, v) is not None

    assert is_taken(128, torch.bfloat16)
    assert not is_taken(129, torch.bfloat16)
    assert not is_taken(64, torch.float32)
    with products_in("tf32", torch.device("cuda")):
        assert is_taken(64, torch.float32)
        assert not is_taken(65, torch.float32)


def test_where_it_cannot_be_compiled_others_attend_after_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a CPU, where PyTorch refuses gradients of it."""
    members = [make_layer("softmax", heads=2, head_dim=4, length=LENGTH, decay=0.5)] * 2
    q, k, v = (torch.randn(2, EXAMPLES, 2, LENGTH, 4, dtype=torch.bfloat16) for _ in range(3))
    plain = Softmax(members, LENGTH, False, torch.zeros(()))(q, k, v, None)
    monkeypatch.setattr(softmax, "may_compile", lambda length, device: True)
    flexible._warn.cache_clear()
    tried = list[int]()
    monkeypatch.setattr(Flexible, "_differentiate", counted(tried, Flexible._differentiate))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            kernel = Softmax(members, LENGTH, False, torch.zeros(()))
            for _ in range(2):
                assert torch.equal(kernel(q.requires_grad_(), k, v, None), plain)
    assert tried == [1], "what cannot be compiled once is not tried again"
    (warning,) = caplog.messages
    assert warning.startswith("attention goes without FlexAttention, so more slowly: ")
    assert "NotImplementedError" in warning


def counted(calls: list[int], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function, which adds an entry to `calls` whenever it is called."""

    def noted(*given: Any) -> Any:
        calls.append(1)
        return function(*given)

    return noted


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles with g++ here")
def test_one_compiled_kernel_serves_every_layout() -> None:
    """However many particles and heads there are, and whatever each sees; without gradients."""
    length, start = 2 * LENGTH, counters["stats"]["unique_graphs"]

    def compiles(particles: int, heads: int, batch: int, **knobs: Any) -> int:
        members = [
            make_layer("softmax", heads=heads, head_dim=12, length=length, decay=1.0 + n, **knobs)
            for n in range(particles)
        ]
        q, k, v = torch.randn(3, particles, batch, heads, length, 12)
        scores = Scores(members, length, False, torch.zeros(()))
        with torch.no_grad(), products_in("tf32", torch.device("cuda")):
            found = Flexible(members, length, False, CPU)(scaled(scores, q), k, v)
        expected = scores(scaled(scores, q), k, {}).softmax(-1) @ v
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        return counters["stats"]["unique_graphs"] - start

    assert compiles(5, 2, 2) == 1
    assert compiles(9, 1, 2) == 1
    assert compiles(9, 8, 2) == 1
    assert compiles(5, 4, 2, window_tokens=9) == 1
    assert compiles(5, 2, 3) == 2, "another batch has another kernel"
    assert compiles(5, 2, 2, dilation=3) == 3, "and so have those who see every third alone"
    assert compiles(7, 4, 2, dilation=2) == 3
    assert compiles(1, 4, 2) == 4, "and few heads"
    assert compiles(2, 1, 2) == 4


@pytest.mark.parametrize("causal", [False, True])
def test_no_pair_that_a_head_sees_is_in_a_block_that_is_passed_over(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether masks are found for all heads of a group at once or for a few at a time."""
    own: list[dict[str, Any]] = [*({"window_tokens": (3, 140)}, {"dilation": 3}, {"decay": 0.5})]
    own += [{"block_tokens": 17}, {"window_tokens": 9}] * 5 + [{}]
    length = 300
    members = [
        make_layer("softmax", heads=2, head_dim=4, length=length, causal=causal, **knobs)
        for knobs in own
    ]
    together = Flexible(members, length, causal, CPU)
    monkeypatch.setattr(flexible, "MASK_BYTES", 5 * flexible.PAIR_BYTES * length**2)
    apart = Flexible(members, length, causal, CPU)
    assert len(together._seen) == 1
    for kernel in (together, apart):
        blocks = kernel._seen[0].to_dense()[0, : 2 * len(own)].bool()  # (heads, queries, keys)
        for member, found in zip(members, blocks.split(2), strict=True):
            seen = member.sight.bias(length, causal).isfinite().expand(2, -1, -1)
            filled = torch.nn.functional.pad(seen, (0, 384 - length, 0, 384 - length))
            expected = filled.unflatten(2, (3, 128)).unflatten(1, (3, 128)).any(4).any(2)
            assert torch.equal(found, expected)
        by_key = kernel._seen[0].q_num_blocks + kernel._seen[0].full_q_num_blocks
        assert torch.equal(by_key[0, : 2 * len(own)], blocks.sum(1))
    assert not apart._seen[0].to_dense()[0, 2 * len(own) :].any(), "heads that nobody has"
