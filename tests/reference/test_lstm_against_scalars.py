"""Swarms of all-different LSTMs against an LSTM by explicit loops, examples of any length."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scalar_lstm
import torch
from torch import Tensor

from pso_attn.counter import DropRates, dropout_scale, keys
from pso_attn.models import SwarmLstm, TaskInfo, read_lstm

TOLERANCE = 1e-12
EXAMPLES, LENGTH, HIDDEN = 2, 4, 4

VECTORS = TaskInfo(None, 3, LENGTH, outputs=4, causal=False, per_token=False)
WORDS = TaskInfo(7, None, LENGTH, outputs=3, causal=True, per_token=False)

QUERYING: list[dict[str, Any]] = [
    {"score": score, "query": query, "local": local, "sentinel": sentinel, "window_tokens": 1 + n}
    for n, score in enumerate(("additive", "dot", "general", "concat"))
    for query in ("last", "learned")
    for local in ("none", "monotonic", "predictive")
    for sentinel in (False, True)
]
OWN: list[dict[str, Any]] = [
    {**own, "heads": (1, 2, 4)[n % 3], "last_state": n % 4 == 0, "dropout": 0.1 * (n % 5)}
    for n, own in enumerate(QUERYING)
]
OWN += [
    {"score": "additive", "attention_dim": 6, "heads": 2, "local": "predictive"},
    {"score": "self_attentive", "attention_dim": 5},
    {"score": "self_attentive", "hops": 3, "hop_penalty": 0.7, "dropout": 0.2},
    {"score": "self_attentive", "hops": 2, "hop_penalty": 0.1, "last_state": True},
]


@pytest.mark.parametrize("recurrence", ["batched", "one_by_one"])
@pytest.mark.parametrize(
    ("info", "outer", "lengths"),
    [
        (VECTORS, {"layers": 1, "bidirectional": False}, None),
        (VECTORS, {"layers": 1, "bidirectional": True}, [2, 1]),
        (WORDS, {"layers": 2, "bidirectional": True}, None),
        (WORDS, {"layers": 1, "bidirectional": False}, [3, LENGTH]),
    ],
    ids=["vectors", "vectors both ways, cut", "words both ways, deep", "words, cut"],
)
def test_every_particle_computes_what_explicit_loops_do(
    info: TaskInfo, outer: dict[str, Any], recurrence: str, lengths: list[int] | None
) -> None:
    settings = [
        {"window_tokens": 10, **own, **outer, "hidden": HIDDEN, "recurrence": recurrence}
        for own in OWN
    ]
    info = replace(info, padded=lengths is not None)
    order = sorted(range(len(OWN)), key=lambda row: read_lstm(settings[row], info).group)
    settings = [settings[row] for row in order]
    swarm = SwarmLstm.started(
        [read_lstm(own, info) for own in settings], info, order, torch.float64
    )
    with torch.no_grad():
        swarm.storage.weights.mul_(2.0)  # far from where everything is nearly linear
    drawn = keys(np.array(order), 1, swarm.sites)[0]
    inputs = examples(info, lengths)
    with torch.no_grad():
        found = swarm.forward(inputs[None], drawn)
        added = swarm.penalty
    assert added is not None
    for row, own in enumerate(settings):
        weights = swarm.storage.true_parameters(row)
        masks = masks_of(own, drawn[:, row])
        penalties = []
        for b in range(EXAMPLES):
            count = LENGTH if lengths is None else lengths[b]
            answers, penalty = scalar_lstm.logits(
                own, weights, inputs[b], count, [mask[:, b] for mask in masks]
            )
            torch.testing.assert_close(
                found[row, b], found.new_tensor(answers), rtol=0, atol=TOLERANCE, msg=f"{own}"
            )
            penalties.append(penalty)
        assert float(added[row]) == pytest.approx(sum(penalties) / EXAMPLES, abs=TOLERANCE)


DECODING = [
    {
        "score": score,
        "local": local,
        "sentinel": sentinel,
        "window_tokens": 1 + n,
        "heads": (1, 2)[n % 2],
        "bidirectional_attention": flow,
        "dropout": 0.1 * n,
    }
    for n, score in enumerate(("additive", "dot", "general", "concat"))
    for local in ("none", "monotonic", "predictive")
    for sentinel in (False, True)
    for flow in (False, True)
]


@pytest.mark.parametrize(
    ("info", "outer"),
    [
        (TaskInfo(None, 2, 7, 3, causal=True, per_token=True, horizon=4), {"layers": 1}),
        (TaskInfo(6, None, 6, 4, causal=True, per_token=True, horizon=2), {"layers": 2}),
    ],
    ids=["vectors, more than were read", "words, fewer"],
)
def test_every_decoder_answers_what_explicit_loops_do(
    info: TaskInfo, outer: dict[str, Any]
) -> None:
    outer = {**outer, "bidirectional": outer["layers"] == 1, "hidden": 2}
    settings = sorted(
        ({**own, **outer} for own in DECODING), key=lambda own: read_lstm(own, info).group
    )
    seeds = list(range(len(settings)))
    swarm = SwarmLstm.started(
        [read_lstm(own, info) for own in settings], info, seeds, torch.float64
    )
    with torch.no_grad():
        swarm.storage.weights.mul_(2.0)
    drawn = keys(np.array(seeds), 1, swarm.sites)[0]
    inputs = examples(info, None)
    found = swarm.forward(inputs[None], drawn).detach()
    source = info.length - info.horizon
    for row, own in enumerate(settings):
        width = read_lstm(own, info).width
        lengths = [*[source] * outer["layers"], info.horizon]
        masks = [
            drops(own, key, (length, EXAMPLES, width))
            for length, key in zip(lengths, drawn[:, row], strict=True)
        ]
        weights = swarm.storage.true_parameters(row)
        for b in range(EXAMPLES):
            answers = scalar_lstm.decoded(
                own, weights, inputs[b], info.horizon, [mask[:, b] for mask in masks]
            )
            truth = found.new_tensor(answers)
            torch.testing.assert_close(found[row, b], truth, rtol=0, atol=TOLERANCE, msg=f"{own}")


def examples(info: TaskInfo, lengths: list[int] | None) -> Tensor:
    """Return examples, padded with loud noise that says that it is padding, or with id 0."""
    random = torch.Generator().manual_seed(0)
    if info.tokens is not None:
        inputs = torch.randint(1, info.tokens, (EXAMPLES, info.length), generator=random)
    else:
        shape = (EXAMPLES, info.length, info.features or 0)
        inputs = torch.randn(shape, generator=random, dtype=torch.float64)
    for row, count in enumerate(lengths or []):
        inputs[row, count:] *= 0 if info.tokens is not None else 100
        if info.tokens is None:
            inputs[row, count:, -1] = 0
    return inputs


def masks_of(settings: dict[str, Any], drawn: Tensor) -> list[Tensor]:
    """Return what multiplies each layer's states, (T, B, d)."""
    width = HIDDEN * (2 if settings["bidirectional"] else 1)
    return [drops(settings, key, (LENGTH, EXAMPLES, width)) for key in drawn]


def drops(settings: dict[str, Any], key: Tensor, shape: tuple[int, ...]) -> Tensor:
    rates = DropRates.of(torch.tensor([settings.get("dropout", 0.0)], dtype=torch.float64))
    return dropout_scale(key[None], rates, shape)[0]
