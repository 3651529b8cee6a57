"""Attention to near blocks alone gives what attention to all tokens gives, under the same mask."""

from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor

from pso_attn.attention import LayerSettings, Noise, plain
from pso_attn.attention.band import Band
from pso_attn.attention.scores import Scores
from pso_attn.attention.sight import LONG
from pso_attn.attention.softmax import Softmax
from pso_attn.counter import DropRates, keys
from pso_attn.testing.mechanisms import assert_alike, learned_apart, make_layer, scaled

HEADS, WIDTH, EXAMPLES = 2, 4, 3
KINDS: dict[str, list[dict[str, Any]]] = {
    "windows": [{"window_tokens": (3, 16)}, {"window_tokens": 0}, {"window_tokens": 15}],
    "wider": [{"window_tokens": (17, 32), "decay": (1.0, 0.0)}],
    "dilation": [{"window_tokens": 16, "dilation": 3, "temperature": (0.6, 1.7)}],
    "blocks": [{"block_tokens": 17}, {"block_tokens": 5}],
    "learned": [{"window_tokens": 9, "learned_temperature": True, "qk_norm": True}],
    "rotary": [{"window_tokens": 9, "positions": "rotary", "decay": 0.3}],
}


def layers(knobs: list[dict[str, Any]], causal: bool, length: int) -> list[LayerSettings]:
    shape = {"heads": HEADS, "head_dim": WIDTH, "length": length, "causal": causal}
    return [make_layer("softmax", **shape, **each) for each in knobs]


@pytest.fixture
def banded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks that were attended to, one entry a call."""
    seen: list[int] = []
    attend = Band.__call__

    def noted(self: Band, *operands: Tensor) -> Tensor:
        seen.append(self._block)
        return attend(self, *operands)

    monkeypatch.setattr(Band, "__call__", noted)
    return seen


@pytest.mark.parametrize("length", [192, 201])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_by_blocks_is_attention_to_all(
    kind: str, causal: bool, length: int, banded: list[int]
) -> None:
    members, like = layers(KINDS[kind], causal, length), torch.zeros((), dtype=torch.float64)
    draws = torch.Generator().manual_seed(1)
    shape = (len(members), EXAMPLES, HEADS, length, WIDTH)
    q, k, v = (
        torch.randn(shape, dtype=torch.float64, generator=draws).requires_grad_() for _ in range(3)
    )
    own = learned_apart(members, length)
    kernel = Softmax(members, length, causal, like)
    found = kernel(scaled(kernel, q), k, v, None, own)
    assert banded == [32 if kind == "wider" else 16]
    scores = Scores(members, length, causal, like)
    expected = scores(scaled(scores, q), k, own).softmax(-1) @ v
    assert_alike(found, expected, [q, k, v, *chain.from_iterable(own.values())])


@pytest.mark.parametrize(
    ("knobs", "causal", "length", "block"),
    [
        ({"window_tokens": 16}, True, LONG, 16),
        ({"window_tokens": 16}, True, LONG - 1, 0),
        ({"window_tokens": 17}, True, LONG, 32),
        ({"window_tokens": 33}, True, LONG, 0),
        ({"window_tokens": (2, 33)}, True, 2 * LONG, 64),
        ({"window_tokens": 16}, False, LONG, 16),
        ({"window_tokens": 17}, False, LONG, 0),
        ({"window_tokens": 17}, False, 192, 32),
        ({"block_tokens": 17}, False, LONG, 16),
        ({"block_tokens": 18}, False, LONG, 0),
        ({"block_tokens": LONG}, False, LONG, 0),
        ({"block_tokens": 64, "window_tokens": 5}, False, LONG, 16),
        ({}, True, 10**4, 0),
    ],
)
def test_the_block_is_the_least_that_holds_what_is_seen_where_that_is_little(
    knobs: dict[str, Any], causal: bool, length: int, block: int
) -> None:
    (layer,) = layers([knobs], causal, length)
    assert layer.near == block
    assert layer.group[-1] == block


def test_only_softmax_looks_at_near_blocks() -> None:
    for mechanism in ("top_k", "sparse", "talking_heads"):
        assert make_layer(mechanism, length=LONG, causal=True, window_tokens=4).near == 0


@pytest.mark.parametrize("knob", [{"softcap": 5.0}, {"sink": "zero"}, {"adaptive_span": True}])
def test_what_is_more_than_products_and_a_constant_attends_to_all(
    knob: dict[str, Any], banded: list[int]
) -> None:
    members = layers([{"window_tokens": 4, **knob}], True, LONG)
    like = torch.zeros((), dtype=torch.float64)
    x = torch.randn(1, EXAMPLES, HEADS, LONG, WIDTH, dtype=torch.float64)
    Softmax(members, LONG, True, like)(x, x, x, None, learned_apart(members, LONG))
    assert not banded


def test_dropped_weights_attend_to_all(banded: list[int]) -> None:
    members = layers([{"window_tokens": 4}], True, LONG)
    like = torch.zeros((), dtype=torch.float64)
    x = torch.randn(1, EXAMPLES, HEADS, LONG, WIDTH, dtype=torch.float64)
    key = keys(torch.zeros(1, dtype=torch.int64).numpy(), 1, 1)[0, 0]
    noise = Noise(key, DropRates.of(torch.full((1,), 0.5, dtype=torch.float64)))
    Softmax(members, LONG, True, like)(x, x, x, noise)
    assert not banded


@pytest.mark.parametrize("window", [16, 32])
def test_a_particle_has_the_same_floats_alone_and_among_others(window: int) -> None:
    length, like = 260, torch.zeros(())
    members = layers([{"window_tokens": w} for w in (window, window - 1, window)], False, length)
    draws = torch.Generator().manual_seed(2)
    shape = (len(members), EXAMPLES, HEADS, length, WIDTH)
    q, k, v, pull = (torch.randn(shape, generator=draws) for _ in range(4))

    def computed(rows: slice) -> list[Tensor]:
        inputs = [x[rows].clone().requires_grad_() for x in (q, k, v)]
        out = Softmax(members[rows], length, False, like)(*inputs, None)
        return [out, *torch.autograd.grad(out, inputs, pull[rows])]

    together = computed(slice(None))
    for row in range(len(members)):
        for alone, among in zip(computed(slice(row, row + 1)), together, strict=True):
            assert torch.equal(alone[0], among[row])


@pytest.mark.parametrize(("length", "particles"), [(130, 2), (1024, 64)])
def test_on_a_gpu_examples_share_a_mask_and_no_call_has_more_heads_than_a_grid(
    monkeypatch: pytest.MonkeyPatch, length: int, particles: int
) -> None:
    calls = list[tuple[int, Any]]()

    def seen(q: Tensor, k: Tensor, v: Tensor, bias: Any, *rest: Any, **more: Any) -> Tensor:
        calls.append((q.shape[1], bias.shape))
        return torch.empty_like(q)

    monkeypatch.setattr(plain, "scaled_dot_product_attention", seen)
    meta, heads = torch.device("meta"), 16
    band = Band(torch.empty(particles, 1, heads, length, length, device=meta), 16, causal=True)
    q = torch.empty(particles, EXAMPLES, heads, length, WIDTH, device=meta)
    assert band(q, q, q).shape == q.shape
    assert sum(count for count, _ in calls) == particles * heads * -(-length // 16)
    assert max(count for count, _ in calls) <= plain.MOST_HEADS
    assert {shape[0] for _, shape in calls} == {1}
