"""The fused kernel of long sequences gives what explicit weights give, forward and backward."""

from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from pso_attn.attention import LayerSettings, Noise, plain
from pso_attn.attention.block_low_rank import BlockLowRank
from pso_attn.attention.layer import FUSED_TOKENS
from pso_attn.attention.plain import fused
from pso_attn.attention.scores import Mask, Scores
from pso_attn.attention.softmax import Softmax
from pso_attn.counter import DropRates, keys
from pso_attn.models import TaskInfo, Transformer, read_transformer
from pso_attn.testing.mechanisms import assert_alike, learned_apart, make_layer, scaled

LENGTH, HEADS, WIDTH = FUSED_TOKENS + 2, 2, 4
KINDS: dict[str, list[dict[str, Any]]] = {
    "plain": [{}, {"temperature": (0.6, 1.7)}],
    "window and decay": [{"window_tokens": (3, 40), "decay": (1.0, 0.0)}, {"dilation": 3}],
    "blocks": [{"block_tokens": 17}, {}],
    "learned": [{"learned_temperature": True}, {"qk_norm": True}],
    "rotary": [{"positions": "rotary"}, {"positions": "rotary", "rope_base": 50.0, "decay": 0.3}],
}
EXPLICIT: dict[str, dict[str, Any]] = {
    "sink": {"sink": "zero"},
    "softcap": {"softcap": 5.0},
    "adaptive_span": {"adaptive_span": True},
}


class Operations(TorchDispatchMode):
    """Notes the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def are_fused(self) -> bool:
        return any("flash_attention" in name for name in self.names)


def layers(knobs: list[dict[str, Any]], causal: bool, length: int) -> list[LayerSettings]:
    shape = {"heads": HEADS, "head_dim": WIDTH, "length": length, "causal": causal}
    return [make_layer("softmax", **shape, **each) for each in knobs]


def operands(count: int, length: int = LENGTH) -> list[Tensor]:
    rng = torch.Generator().manual_seed(1)
    shape = (count, 3, HEADS, length, WIDTH)
    return [
        torch.randn(shape, dtype=torch.float64, generator=rng).requires_grad_() for _ in range(3)
    ]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_fused_attention_is_explicit_attention(kind: str, causal: bool) -> None:
    members, like = layers(KINDS[kind], causal, LENGTH), torch.zeros((), dtype=torch.float64)
    (q, k, v), own = operands(len(members)), learned_apart(members, LENGTH)
    with Operations() as operations:
        kernel = Softmax(members, LENGTH, causal, like)
        found = kernel(scaled(kernel, q), k, v, None, own)
    assert operations.are_fused
    scores = Scores(members, LENGTH, causal, like)
    expected = scores(scaled(scores, q), k, own).softmax(-1) @ v
    assert_alike(found, expected, [q, k, v, *chain.from_iterable(own.values())])


@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_to_blocks_is_explicit_attention(causal: bool) -> None:
    shape = {"heads": HEADS, "head_dim": WIDTH, "length": LENGTH, "causal": causal}
    own = [{}, {"temperature": (0.6, 1.7)}, {"learned_temperature": True}]
    members = [make_layer("block_low_rank", **shape, block_tokens=20, **each) for each in own]
    (q, k, v), named = operands(len(members)), learned_apart(members[2:], LENGTH)
    for name in ("project_keys", "project_values"):
        rows = torch.randn(3, members[0].rank, 20, dtype=torch.float64)
        named[name] = [rows.requires_grad_()]
    named["log_temperature"] = [torch.full((1, HEADS), 0.3, dtype=torch.float64).requires_grad_()]
    kernel = BlockLowRank(members, LENGTH, causal, torch.zeros((), dtype=torch.float64))
    undropped = Noise(
        keys(torch.arange(3).numpy(), 1, 1)[0, 0], DropRates.of(torch.zeros(3).double())
    )
    found = []
    for noise, is_fused in ((None, True), (undropped, False)):
        with Operations() as operations:
            found.append(kernel(scaled(kernel, q), k, v, noise, named))
        assert operations.are_fused == is_fused
    assert_alike(*found, [q, k, v, *chain.from_iterable(named.values())])


@pytest.mark.parametrize("knob", EXPLICIT)
def test_what_is_more_than_products_and_a_constant_is_not_fused(knob: str) -> None:
    members, like = layers([EXPLICIT[knob]], True, LENGTH), torch.zeros((), dtype=torch.float64)
    with Operations() as operations:
        Softmax(members, LENGTH, True, like)(*operands(1), None, learned_apart(members, LENGTH))
    assert not operations.are_fused


@pytest.mark.parametrize(("length", "drops"), [(FUSED_TOKENS - 1, False), (LENGTH, True)])
def test_short_sequences_and_dropped_weights_are_not_fused(length: int, drops: bool) -> None:
    members, like = layers([{}], False, length), torch.zeros((), dtype=torch.float64)
    key = keys(torch.zeros(1, dtype=torch.int64).numpy(), 1, 1)[0, 0]
    noise = Noise(key, DropRates.of(torch.full((1,), 0.5, dtype=torch.float64)))
    with Operations() as operations:
        Softmax(members, length, False, like)(*operands(1, length), noise if drops else None)
    assert not operations.are_fused


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """Return the queries, keys, values and masks that the fused kernel will be handed."""
    calls = list[list[Any]]()

    def kernel(*given: Any, **more: Any) -> Tensor:
        calls.append(list(given[:4]))
        return torch.zeros_like(given[2])

    monkeypatch.setattr(plain, "scaled_dot_product_attention", kernel)
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [2, 4, 6, 8])
def test_elsewhere_than_on_a_cpu_heads_are_as_wide_as_kernels_want_them(
    handed: list[list[Any]], width: int, dtype: torch.dtype
) -> None:
    """In float32 multiples of 4, in bf16 of 8: of others PyTorch computes all weights at once."""
    x = torch.randn(2, 3, HEADS, LENGTH, width, dtype=dtype, device="meta")
    assert fused(x, x, x, Mask(None, is_causal=True)).shape == x.shape
    ((*operands, _),) = handed
    multiple = 4 if dtype == torch.float32 else 8
    assert {one.shape[-1] for one in operands} == {-(-width // multiple) * multiple}


def test_a_mask_that_is_everybodys_is_rounded_and_filled_up_once_for_all(
    handed: list[list[Any]],
) -> None:
    shape = {"heads": HEADS, "head_dim": 8, "length": LENGTH, "causal": True}
    member = make_layer("block_low_rank", **shape, block_tokens=20)
    kernel = BlockLowRank([member] * 3, LENGTH, True, torch.zeros((), device="meta"))
    rows = torch.zeros(3, member.rank, 20, dtype=torch.bfloat16, device="meta")
    x = torch.zeros(3, 2, HEADS, LENGTH, 8, dtype=torch.bfloat16, device="meta")
    kernel(x, x, x, None, {"project_keys": [rows], "project_values": [rows]})
    ((_, k, _, mask),) = handed
    assert mask.dtype == torch.bfloat16
    assert mask.shape == (1, 3 * HEADS, LENGTH, k.shape[2])
    assert mask.stride(1) == 0
    assert mask.stride(2) % 8 == 0, "else PyTorch copies it for each particle and head"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("own", [{}, {"window_tokens": 3, "decay": 0.5}], ids=["whole", "masked"])
def test_a_plain_module_lets_torch_use_its_fused_kernel(causal: bool, own: dict[str, Any]) -> None:
    info = TaskInfo(None, 3, LENGTH, outputs=2, causal=causal, per_token=causal)
    model = Transformer(
        read_transformer({"layers": 1, "d_model": 8, "heads": 2, **own}, info), info
    )
    inputs = torch.randn(2, LENGTH, 3)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        fused = model.eval()(inputs)
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(model(inputs), fused)


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("causal", [False, True])
def test_who_sees_all_alike_shares_one_mask_or_none(length: int, causal: bool) -> None:
    """Told from the knobs, it is what the masks say."""
    given: list[dict[str, Any]] = [
        *({}, {"window_tokens": (1, 4)}, {"window_tokens": 4}, {"window_tokens": (9, 3)}),
        *({"decay": (0.0, 0.5)}, {"dilation": (1, 2)}, {"block_tokens": 5}, {"block_tokens": 2}),
    ]
    like, ahead = torch.zeros(()), torch.ones(length, length, dtype=torch.bool).triu(1)
    alike = torch.zeros(HEADS, length, length).masked_fill(ahead & causal, float("-inf"))
    for member in layers(given, causal, length):
        bias = member.sight.bias(length, causal).expand(HEADS, -1, -1)
        assert member.sight.is_whole(length) == torch.equal(bias, alike.double())
        mask = Scores([member] * 3, length, causal, like).bias
        assert (mask is None) == (not bool((bias != 0).any()))
        if mask is not None:
            assert torch.equal(mask, bias.to(like).expand(3, 1, -1, -1, -1))
