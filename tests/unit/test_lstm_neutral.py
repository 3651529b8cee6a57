"""Where a knob of the LSTM family changes nothing, and what its limits are."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pso_attn.models import FAMILIES, SwarmLstm, TaskInfo, model_cost, read_lstm

LENGTH, HIDDEN, EXAMPLES = 6, 6, 5
INFO = TaskInfo(None, 3, LENGTH, outputs=4, causal=False, per_token=False)
WORDS = TaskInfo(5, None, LENGTH, outputs=4, causal=False, per_token=False)
PADDED = replace(INFO, padded=True)
KNOBS = {knob.name: knob for knob in FAMILIES["lstm"].knobs}


def made(
    weights: Mapping[str, Tensor] | None = None, info: TaskInfo = INFO, **own: Any
) -> SwarmLstm:
    """Return a swarm of one, with these weights in place of its own where they are given."""
    model = read_lstm({"hidden": HIDDEN, "window_tokens": 10, **own}, info)
    swarm = SwarmLstm.started([model], info, [3], torch.float64)
    with torch.no_grad():
        swarm.storage.weights.mul_(2.0)  # far from where everything is nearly linear
    if weights is not None:
        swarm.storage.take(0, {**swarm.storage.true_parameters(0), **weights})
    return swarm


def answers(swarm: SwarmLstm) -> Tensor:
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn((1, EXAMPLES, LENGTH, 3), generator=random, dtype=torch.float64)
    inputs = inputs if not swarm.info.padded else cut(inputs, [6, 1, 3, 2, 5])
    return swarm.forward(inputs).detach()


def cut(inputs: Tensor, lengths: list[int], padding: float = 0.0) -> Tensor:
    """Return examples of so many tokens, the rest padding."""
    inputs = inputs.clone()
    for row, count in enumerate(lengths):
        inputs[0, row, :count, -1] = 1
        inputs[0, row, count:] = padding
        inputs[0, row, count:, -1] = 0
    return inputs


def weights_of(swarm: SwarmLstm, *left_out: str) -> dict[str, Tensor]:
    parts = swarm.storage.true_parameters(0)
    return {name: value for name, value in parts.items() if name not in left_out}


@pytest.mark.parametrize("info", [INFO, PADDED])
def test_a_window_of_the_whole_sequence_is_none_and_a_shorter_one_is_not(info: TaskInfo) -> None:
    truth = answers(made(info=info))
    whole = made(info=info, local="monotonic", window_tokens=LENGTH - 1)
    assert torch.equal(answers(whole), truth)
    near = answers(made(info=info, local="monotonic", window_tokens=1))
    assert float((near - truth).abs().max()) > 1e-3


def test_a_wide_gaussian_sees_all_and_a_narrow_one_does_not() -> None:
    narrow = made(local="predictive", window_tokens=1)
    truth = answers(made(weights_of(narrow, "attention.place", "attention.place_map")))
    wide = made(weights_of(narrow), local="predictive", window_tokens=10**9)
    torch.testing.assert_close(answers(wide), truth, rtol=0, atol=1e-12)
    assert float((answers(narrow) - truth).abs().max()) > 1e-3


@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_hop_is_additive_attention_without_a_query(bidirectional: bool) -> None:
    hop = made(score="self_attentive", hop_penalty=0.0, bidirectional=bidirectional)
    weights = weights_of(hop)
    width = HIDDEN * (2 if bidirectional else 1)
    weights["attention.score"] = weights["attention.score"][:, 0]
    weights["attention.query"] = torch.zeros(width, dtype=torch.float64)
    additive = made(weights, query="learned", bidirectional=bidirectional)
    torch.testing.assert_close(answers(additive), answers(hop), rtol=0, atol=1e-12)


def test_concat_is_additive_with_an_inner_layer_as_wide_as_a_state() -> None:
    additive = made(attention_dim=HIDDEN, heads=2)
    assert torch.equal(
        answers(made(weights_of(additive), score="concat", heads=2)), answers(additive)
    )


def test_general_with_the_identity_is_dot() -> None:
    dot = made(score="dot", heads=3)
    weights = {**weights_of(dot), "attention.general": torch.eye(HIDDEN, dtype=torch.float64)}
    general = made(weights, score="general", heads=3)
    torch.testing.assert_close(answers(general), answers(dot), rtol=0, atol=1e-12)


def test_a_sentinel_whose_gate_is_closed_takes_weight_and_gives_nothing() -> None:
    open_ = made(score="dot", sentinel=True)
    closed = weights_of(open_)
    for name in ("attention.sentinel_input", "attention.sentinel_state"):
        closed[name] = closed[name] * 0 - 1e9 * (name == "attention.sentinel_input")
    ones = torch.ones((1, EXAMPLES, LENGTH, 3), dtype=torch.float64)
    swarm = made(closed, score="dot", sentinel=True)
    attend, plain = (
        swarm.forward(ones),
        made(
            weights_of(
                open_, *closed.keys() & {"attention.sentinel_input", "attention.sentinel_state"}
            ),
            score="dot",
        ).forward(ones),
    )
    head, bias = (swarm.storage.true_parameters(0)[name] for name in ("head", "head_bias"))
    assert head.shape == (HIDDEN, INFO.outputs)
    shrunk = (attend - bias) / (plain - bias)  # each example's weight that is left for states
    assert bool(((shrunk > 0) & (shrunk < 1)).all())
    torch.testing.assert_close(shrunk, shrunk[..., :1].expand_as(shrunk), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "own",
    [
        {"dropout": KNOBS["dropout"].neutral},
        {"heads": KNOBS["heads"].neutral},
        {"local": KNOBS["local"].neutral},
        {"sentinel": KNOBS["sentinel"].neutral},
        {"bidirectional": KNOBS["bidirectional"].neutral},
        {"start_scale": KNOBS["start_scale"].neutral},
        {"last_state": False, "query": "last", "score": "additive"},
    ],
    ids=str,
)
def test_a_neutral_value_is_what_an_unmentioned_knob_gives(own: dict[str, Any]) -> None:
    assert torch.equal(answers(made(**own)), answers(made()))


def test_the_penalty_changes_no_answer_and_grows_with_its_knob() -> None:
    hops = {"score": "self_attentive", "hops": 3}
    penalised, free = made(**hops, hop_penalty=0.5), made(**hops)
    assert torch.equal(answers(penalised), answers(free))
    assert free.penalty is None
    assert penalised.penalty is not None
    doubled = made(**hops, hop_penalty=1.0)
    answers(doubled)
    assert doubled.penalty is not None
    assert float(penalised.penalty.detach()) > 0
    assert float(doubled.penalty.detach()) == pytest.approx(2 * float(penalised.penalty.detach()))


@pytest.mark.parametrize("recurrence", ["batched", "one_by_one"])
@pytest.mark.parametrize(
    "own",
    [
        {},
        {"bidirectional": True, "layers": 2},
        {"local": "predictive", "window_tokens": 2, "sentinel": True, "bidirectional": True},
        {"local": "monotonic", "window_tokens": 2, "last_state": True, "sentinel": True},
        {"score": "self_attentive", "hops": 2, "hop_penalty": 0.3},
    ],
    ids=str,
)
def test_padding_counts_for_nothing(own: dict[str, Any], recurrence: str) -> None:
    """An example cut to its length answers as it does among longer ones, whatever pads it."""
    swarm = made(info=PADDED, **own, recurrence=recurrence)
    random = torch.Generator().manual_seed(2)
    inputs = torch.randn((1, 3, LENGTH, 3), generator=random, dtype=torch.float64)
    lengths = [4, 1, 6]
    found = swarm.forward(cut(inputs, lengths))
    for row, count in enumerate(lengths):
        alone = swarm.forward(cut(inputs[:, row : row + 1, :count], [count]))
        torch.testing.assert_close(found[:, row : row + 1], alone, rtol=0, atol=1e-12)
    assert torch.equal(swarm.forward(cut(inputs, lengths, padding=1e3)), found)


@pytest.mark.parametrize("info", [INFO, WORDS])
@pytest.mark.parametrize(
    "own",
    [
        {},
        {"layers": 2, "bidirectional": True, "sentinel": True, "attention_dim": 4},
        {"score": "general", "local": "predictive", "last_state": True},
        {"score": "self_attentive", "hops": 3, "attention_dim": 9},
        {"score": "dot", "query": "learned", "sentinel": True, "bidirectional": True},
    ],
    ids=str,
)
def test_parameters_are_those_of_the_plain_module(info: TaskInfo, own: dict[str, Any]) -> None:
    model = read_lstm({"hidden": HIDDEN, **own}, info)
    swarm = SwarmLstm.started([model], info, [0])
    counted = sum(p.numel() for p in swarm.extract(0).parameters())
    assert model_cost(model, info, 4)["parameters"] == counted
    assert swarm.storage.layout.width == counted
