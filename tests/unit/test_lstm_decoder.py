"""What a decoder may know when it answers, where its knobs change nothing, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError
from pso_attn.models import SwarmLstm, TaskInfo, model_cost, read_lstm

SOURCE, STEPS, EXAMPLES = 4, 5, 3
LENGTH = SOURCE + STEPS
INFO = TaskInfo(None, 3, LENGTH, 2, causal=True, per_token=True, horizon=STEPS)
KINDS: list[dict[str, Any]] = [
    {"score": "additive"},
    {"score": "dot", "sentinel": True, "heads": 2},
    {"score": "general", "local": "predictive", "window_tokens": 1},
    {"score": "concat", "local": "monotonic", "window_tokens": 1, "bidirectional": True},
]
FLOWS = [{**kind, "bidirectional_attention": flow} for kind in KINDS for flow in (False, True)]


def made(**own: Any) -> SwarmLstm:
    swarm = SwarmLstm.started([read_lstm({"hidden": 4, **own}, INFO)], INFO, [3], torch.float64)
    with torch.no_grad():
        swarm.storage.weights.mul_(2.0)
    return swarm


def inputs() -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn((1, EXAMPLES, LENGTH, 3), generator=random, dtype=torch.float64)


@pytest.mark.parametrize("own", FLOWS, ids=str)
@pytest.mark.parametrize("step", range(STEPS))
def test_a_later_target_moves_no_earlier_answer(own: dict[str, Any], step: int) -> None:
    """The decoder reads target t as its token t + 1; here all from `step` on are others."""
    swarm, before = made(**own), inputs()
    after = before.clone()
    after[:, :, SOURCE + step :] += 3.0
    with torch.no_grad():
        known, changed = swarm.forward(before), swarm.forward(after)
    assert torch.equal(known[:, :, :step], changed[:, :, :step])
    moved = (known - changed).abs().amax((0, 1, 3))
    assert bool((moved[step:] > 1e-6).all())


@pytest.mark.parametrize("own", FLOWS, ids=str)
def test_every_answer_hears_of_the_source(own: dict[str, Any]) -> None:
    swarm, before = made(**own), inputs()
    after = before.clone()
    after[:, :, :SOURCE] += 1.0
    with torch.no_grad():
        moved = (swarm.forward(before) - swarm.forward(after)).abs().amax((0, 1, 3))
    assert bool((moved > 1e-6).all())


def test_states_that_keep_only_themselves_are_as_without_attention_both_ways() -> None:
    plain, both = made(), made(bidirectional_attention=True)
    kept = torch.zeros(16, 4, dtype=torch.float64)
    kept[:4] = torch.eye(4)
    weights = {**both.storage.true_parameters(0), **plain.storage.true_parameters(0)}
    both.storage.take(0, {**weights, "attention.flow_map": kept})
    torch.testing.assert_close(both.forward(inputs()), plain.forward(inputs()), rtol=0, atol=1e-12)


def test_a_window_as_wide_as_the_source_is_none() -> None:
    near = made(local="monotonic", window_tokens=SOURCE - 1)
    assert torch.equal(near.forward(inputs()), made().forward(inputs()))
    assert not torch.equal(
        made(local="monotonic", window_tokens=1).forward(inputs()), near.forward(inputs())
    )


@pytest.mark.parametrize("recurrence", ["batched", "one_by_one"])
@pytest.mark.parametrize("own", FLOWS, ids=str)
def test_a_padded_source_is_answered_as_the_source_alone(
    own: dict[str, Any], recurrence: str
) -> None:
    """Each example is also answered by a model without padding, which has the same parameters."""
    padded = replace(INFO, padded=True)
    settings = read_lstm({"hidden": 4, "layers": 2, "recurrence": recurrence, **own}, padded)
    swarm = SwarmLstm.started([settings] * 2, padded, [3, 4], torch.float64)
    given = inputs()
    given[..., -1] = 1.0  # a real token
    lengths = (SOURCE, 1, 3)
    for example, length in enumerate(lengths):
        given[:, example, length:SOURCE] = 0.0
    with torch.no_grad():
        swarm.storage.weights.mul_(2.0)
        found = swarm.forward(given)
        for example, length in enumerate(lengths):
            short = replace(INFO, length=length + STEPS)
            alone = SwarmLstm([settings] * 2, short, swarm.storage.weights, swarm.storage.layout)
            cut = [
                given[:, example : example + 1, :length],
                given[:, example : example + 1, SOURCE:],
            ]
            expected = alone.forward(torch.cat(cut, 2))[:, 0]
            torch.testing.assert_close(found[:, example], expected, rtol=0, atol=1e-12)
        plain = swarm.extract(1).eval()
        torch.testing.assert_close(plain(given[0]), found[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("own", FLOWS, ids=str)
def test_parameters_are_those_of_the_plain_module(own: dict[str, Any]) -> None:
    model = read_lstm({"hidden": 4, "layers": 2, **own}, INFO)
    swarm = SwarmLstm.started([model], INFO, [0])
    counted = sum(p.numel() for p in swarm.extract(0).parameters())
    assert model_cost(model, INFO, 4)["parameters"] == counted


@pytest.mark.parametrize(
    ("own", "info", "told"),
    [
        ({"score": "self_attentive"}, INFO, 'score = "self_attentive" looks at the source in the'),
        ({"query": "learned"}, INFO, 'query = "learned" looks at the source in the same way at'),
        (
            {"bidirectional_attention": True},
            replace(INFO, horizon=0, per_token=False),
            "bidirectional_attention = true is between an encoder and a decoder, and this task",
        ),
        ({}, replace(INFO, weighted=True), "the columns of a table have no order; choose family"),
        ({}, replace(INFO, horizon=0), 'family "lstm" answers a sequence, or step by step after'),
    ],
)
def test_what_no_decoder_can_be_is_named(own: dict[str, Any], info: TaskInfo, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_lstm(own, info)
    assert told in str(caught.value)
