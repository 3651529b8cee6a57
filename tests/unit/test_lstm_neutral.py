"""Where a knob of the LSTM family changes nothing, and what its limits are."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pso_attn.counter import keys
from pso_attn.models import FAMILIES, SwarmLstm, TaskInfo, model_cost, read_lstm

LENGTH, HIDDEN, EXAMPLES = 6, 6, 5
INFO = TaskInfo(None, 3, LENGTH, outputs=4, causal=False, per_token=False)
WORDS = TaskInfo(5, None, LENGTH, outputs=4, causal=False, per_token=False)
PADDED = replace(INFO, padded=True)
DECODED = replace(INFO, causal=True, per_token=True, horizon=2)
KNOBS = {knob.name: knob for knob in FAMILIES["lstm"].knobs}

# Each knob that can leave attention plain, and settings in which it does not.
SAYING: dict[str, dict[str, Any]] = {
    "heads": {"heads": 2},
    "local": {"local": "monotonic", "window_tokens": 1},
    "sentinel": {"sentinel": True},
    "bidirectional": {"bidirectional": True},
    "last_state": {"last_state": True},
    "bidirectional_attention": {"bidirectional_attention": True},
}
# Each other knob that has a neutral value or a limit, and the test in this file that covers it.
ELSEWHERE = {
    "window_tokens": "test_a_window_of_the_whole_sequence_is_none_and_a_shorter_one_is_not",
    "dropout": "test_dropout_drops_in_training_alone_and_at_its_neutral_value_nothing",
    "start_scale": "test_a_start_is_as_wide_as_its_scale_says_but_for_what_opens_forget_gates",
    "hop_penalty": "test_the_penalty_changes_no_answer_and_grows_with_its_knob",
}
# The knobs that always do something: sizes, and kinds.
ACTING = {"layers", "hidden", "recurrence", "score", "attention_dim", "query", "hops"}


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
    return swarm.forward(inputs(swarm.info)).detach()


def inputs(info: TaskInfo) -> Tensor:
    random = torch.Generator().manual_seed(1)
    drawn = torch.randn((1, EXAMPLES, LENGTH, 3), generator=random, dtype=torch.float64)
    return cut(drawn, [6, 1, 3, 2, 5]) if info.padded else drawn


def plain(swarm: SwarmLstm) -> Tensor:
    """Return what torch's LSTMs, looking back alone, answer by one softmax over all states."""
    own, given = swarm.storage.true_parameters(0), inputs(swarm.info)[0]
    steps = swarm.info.horizon
    source, targets = given.split([LENGTH - steps, steps], 1)
    states, (last, _) = torchs_lstm(own, "encoder.0")(source)  # (B, T, h), (1, B, h)
    query = last.transpose(0, 1)  # (B, 1, h)
    if steps:
        start = (last @ own["bridge"]).tanh()
        query, _ = torchs_lstm(own, "decoder")(targets, (start, torch.zeros_like(start)))
    scores = query @ states.mT  # (B, 1 or U, T)
    if "attention.score" in own:
        keyed = states @ own["attention.key_map"][:HIDDEN]
        asked = query @ own["attention.query_map"][:HIDDEN]
        scores = (keyed[:, None] + asked[:, :, None]).tanh() @ own["attention.score"]
    read = scores.softmax(-1) @ states
    read = torch.cat([read, query], -1) if steps else read[:, 0]
    return (read @ own["head"][: read.shape[-1]] + own["head_bias"])[None].detach()


def torchs_lstm(own: Mapping[str, Tensor], name: str) -> nn.LSTM:
    lstm = nn.LSTM(3, HIDDEN, batch_first=True, dtype=torch.float64)
    stored = {part: own[f"{name}.{part}"] for part in lstm.state_dict()}
    lstm.load_state_dict({part: x.T if x.ndim > 1 else x for part, x in stored.items()})
    return lstm


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


def test_every_knob_is_tested_at_its_neutral_value_or_limit_or_always_acts() -> None:
    covered = {name for name, knob in KNOBS.items() if knob.neutral is not None or knob.limit}
    assert covered == set(SAYING) | set(ELSEWHERE)
    assert set(KNOBS) == covered | ACTING
    assert all(callable(globals().get(name)) for name in ELSEWHERE.values())


def test_every_knob_names_its_source_but_the_one_that_changes_no_answer() -> None:
    assert [name for name, knob in KNOBS.items() if not knob.source] == ["recurrence"]


@pytest.mark.parametrize("score", ["additive", "dot"])
@pytest.mark.parametrize("info", [INFO, DECODED], ids=["read-out", "decoder"])
@pytest.mark.parametrize("knob", [*SAYING, "all of them"])
def test_neutral_attention_is_torchs_lstm_under_a_softmax(
    knob: str, info: TaskInfo, score: str
) -> None:
    stated = {name: KNOBS[name].neutral for name in ([knob] if knob in SAYING else SAYING)}
    swarm = made(info=info, score=score, **stated)
    torch.testing.assert_close(answers(swarm), plain(swarm), rtol=0, atol=1e-12)


@pytest.mark.parametrize("score", ["additive", "dot"])
@pytest.mark.parametrize("knob", SAYING)
def test_attention_that_is_not_neutral_is_not(knob: str, score: str) -> None:
    info = DECODED if knob == "bidirectional_attention" else INFO
    swarm = made(info=info, score=score, **SAYING[knob])
    assert float((answers(swarm) - plain(swarm)).abs().max()) > 1e-3


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


@pytest.mark.parametrize("rate", [KNOBS["dropout"].neutral, 0.5])
def test_dropout_drops_in_training_alone_and_at_its_neutral_value_nothing(rate: float) -> None:
    swarm = made(dropout=rate)
    drawn = keys(np.array([1]), 1, swarm.sites)[0]
    assert torch.equal(answers(swarm), answers(made()))
    assert torch.equal(swarm.forward(inputs(INFO), drawn), answers(swarm)) == (rate == 0)


def test_a_start_is_as_wide_as_its_scale_says_but_for_what_opens_forget_gates() -> None:
    unsaid, neutral, wide = (
        made(**own).storage.true_parameters(0)
        for own in ({}, {"start_scale": KNOBS["start_scale"].neutral}, {"start_scale": 2.5})
    )
    for name, value in neutral.items():
        assert torch.equal(unsaid[name], value)
        factor = 1.0 if name.endswith("bias_ih_l0") else 2.5
        torch.testing.assert_close(wide[name], factor * value)


def test_the_penalty_changes_no_answer_and_grows_with_its_knob() -> None:
    hops = {"score": "self_attentive", "hops": 3}
    shares = (KNOBS["hop_penalty"].neutral, 0.5, 1.0)
    free, *penalised = (made(**hops, hop_penalty=share) for share in shares)
    truth = answers(made(**hops))
    assert all(torch.equal(answers(swarm), truth) for swarm in (free, *penalised))
    assert free.penalty is None
    half, whole = (float(swarm.penalty.detach()) for swarm in penalised)
    assert half > 0
    assert whole == pytest.approx(2 * half)


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
