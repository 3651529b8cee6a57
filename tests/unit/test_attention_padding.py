"""Padding: nobody attends to it, whatever its scores, and every model does the same with it."""

from typing import Any

import pytest
import torch

from pso_attn.attention.sharpness import COLDEST
from pso_attn.errors import ConfigurationError
from pso_attn.models import Swarm, TaskInfo, read_model, swarm_type

MECHANISMS = (
    "softmax",
    "sparse",
    "top_k",
    "talking_heads",
    "block_low_rank",
    "low_rank",
    "linear",
)


def info(length: int, **more: Any) -> TaskInfo:
    return TaskInfo(
        **{
            "tokens": 9,
            "features": None,
            "length": length,
            "outputs": 3,
            "causal": False,
            "per_token": False,
            "padded": True,
            **more,
        }
    )


def swarm(known: TaskInfo, **own: Any) -> Swarm:
    model = read_model({"layers": 2, "d_model": 16, "heads": 4, **own}, known)
    return swarm_type(model).started([model], known, [0])


def inputs(length: int, real: int) -> torch.Tensor:
    drawn = torch.randint(1, 9, (1, 6, length), generator=torch.Generator().manual_seed(0))
    return drawn.where(torch.arange(length) < real, 0)


def move_padding(one: Swarm) -> None:
    """Embed padding elsewhere, and not by a constant, which a layer norm would take out again."""
    with torch.no_grad():
        width = one.storage.whole("embedding").shape[-1]
        moved = torch.randn(width, generator=torch.Generator().manual_seed(1))
        one.storage.whole("embedding")[:, 0] += 5.0 * moved


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_stands_for_padding_changes_no_answer_at_the_coldest_temperature(
    mechanism: str,
) -> None:
    sharp = {"temperature": COLDEST} if mechanism != "linear" else {}
    sharp |= {"qk_norm": True} if mechanism not in ("linear", "low_rank") else {}
    one = swarm(info(24), mechanism=mechanism, **sharp)
    before = one.forward(inputs(24, 5))
    move_padding(one)
    assert torch.equal(one.forward(inputs(24, 5)), before)


@pytest.mark.parametrize(
    "mechanism", [one for one in (*MECHANISMS, "retention") if one != "low_rank"]
)
def test_an_answer_does_not_hear_of_the_padding_between_it_and_its_source(mechanism: str) -> None:
    one = swarm(info(8, causal=True, per_token=True, horizon=3), mechanism=mechanism)
    drawn = torch.tensor([[[1, 2, 0, 0, 0, 3, 4, 5]]])
    before = one.forward(drawn)
    move_padding(one)
    assert torch.equal(one.forward(drawn), before)
    plain = one.extract(0).eval()(drawn[0])
    torch.testing.assert_close(plain, before[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mechanism", ["linear", "block_low_rank", "retention"])
def test_a_plain_model_that_scores_no_pairs_holds_no_mask_of_them(mechanism: str) -> None:
    plain = swarm(info(8, causal=True, per_token=True, padded=False), mechanism=mechanism)
    assert "bias" not in dict(plain.extract(0).blocks[0].attention.named_buffers())


def test_blocks_without_a_token_take_no_weight() -> None:
    own = {"mechanism": "block_low_rank", "block_tokens": 4, "rank": 2, "positions": "none"}
    short, long = (
        swarm(info(length), **own).forward(inputs(48, 6)[..., :length]) for length in (16, 48)
    )
    torch.testing.assert_close(short, long)


@pytest.mark.parametrize(
    ("mechanism", "causal"),
    [
        *[(mechanism, False) for mechanism in MECHANISMS],
        *[
            (mechanism, True)
            for mechanism in (*MECHANISMS, "retention")
            if mechanism != "low_rank"
        ],
    ],
)
def test_a_padded_example_is_the_same_one_cut_short(mechanism: str, causal: bool) -> None:
    own = {"mechanism": mechanism, "positions": "none", "rank": 2, "top_k": 3, "block_tokens": 3}
    more = {"per_token": True, "causal": causal}
    short, long = (swarm(info(length, **more), **own) for length in (5, 12))
    with torch.no_grad():
        noise = torch.Generator().manual_seed(0)
        long.storage.weights += 0.2 * torch.randn(long.storage.weights.shape, generator=noise)
    sizes = {name: p.shape for name, p in short.storage.true_parameters(0).items()}

    def cut(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert parameters.keys() == sizes.keys()
        return {n: p[tuple(map(slice, sizes[n]))] for n, p in parameters.items()}

    short.storage.take(0, cut(long.storage.true_parameters(0)))
    found = []
    for one, length in ((short, 5), (long, 12)):
        logits = one.forward(inputs(12, 5)[..., :length])[..., :5, :]
        one.storage.differentiate(logits.square().sum())
        one.storage.weights = one.storage.gradients
        found.append({"logits": logits, **cut(one.storage.true_parameters(0))})
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("more", [{}, {"per_token": True}, {"per_token": True, "horizon": 3}])
def test_a_plain_model_does_the_same_with_padding(mechanism: str, more: dict[str, Any]) -> None:
    one, drawn = swarm(info(12, **more), mechanism=mechanism), inputs(12, 5)
    drawn[0, 0] = 0  # an example of nothing
    torch.manual_seed(0)
    with torch.no_grad():
        one.storage.weights += 0.2 * torch.randn(one.storage.weights.shape)
        expected = one.forward(drawn)[0]
        found = one.extract(0).eval()(drawn[0])
    assert expected.isfinite().all()
    near = 5e-3 if mechanism == "sparse" else 1e-5  # of nothing, scores far down have few digits
    torch.testing.assert_close(found, expected, atol=near, rtol=near)


def test_a_temperature_by_token_never_freezes() -> None:
    one = swarm(info(12), adaptive_temperature=True)
    with torch.no_grad():
        one.storage.whole("blocks.0.attention.token_temperature_bias")[:] = -150.0
    logits = one.forward(inputs(12, 5))
    one.storage.differentiate(logits.sum())
    assert one.storage.gradients.isfinite().all()
    found = one.extract(0).eval()(inputs(12, 5)[0])
    torch.testing.assert_close(found, logits[0], atol=1e-5, rtol=1e-5)


def test_an_encoder_has_nothing_to_see_of_a_decoder_of_one_step() -> None:
    known = info(12, tokens=None, features=2, per_token=True, padded=False, horizon=1)
    with pytest.raises(ConfigurationError, match="a horizon of 1 has none"):
        read_model({"family": "lstm", "bidirectional_attention": True}, known)
