"""Swarms of all-different particles against a scalar transformer and against plain modules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scalar_transformer
import torch
from scalar_transformer import Masks, Shapes
from torch import Tensor

from pso_attn.attention import KNOBS, MECHANISMS, read_layer
from pso_attn.attention.kinds import TURNING
from pso_attn.counter import DropRates, dropout_scale, keys
from pso_attn.models import SwarmTransformer, TaskInfo, Transformer, read_transformer

TOLERANCE = 1e-12  # of the largest logit, or of a particle's largest gradient
EPSILON = 1e-6  # what linear attention adds to its denominators
EXAMPLES = 2

VECTORS = TaskInfo(tokens=None, features=3, length=4, outputs=4, causal=False, per_token=False)
LETTERS = TaskInfo(tokens=7, features=None, length=4, outputs=7, causal=True, per_token=True)
TAGS = TaskInfo(tokens=7, features=None, length=4, outputs=3, causal=False, per_token=True)
FORECAST = TaskInfo(tokens=None, features=2, length=4, outputs=3, causal=True, per_token=False)

OUTER = {"layers": 2, "d_model": 6, "feedforward_ratio": 2}
CAUSAL: list[dict[str, Any]] = [
    {"heads": 2},
    {"heads": 2, "kv_heads": 1, "temperature": 0.7, "attention_dropout": 0.35},
    {"heads": 2, "temperature": [0.3, 2.9], "decay": [[0.1, 1.7], [0.0, 3.3]], "dropout": 0.15},
    {"heads": 4, "head_dim": 3, "kv_heads": 2, "temperature": [[0.4, 1.1, 2.3, 0.9], [1.3] * 4]},
    {"heads": 1, "head_dim": 5, "window_tokens": 0, "dropout": 0.1, "attention_dropout": 0.2},
    {"heads": 3, "head_dim": 2, "window_tokens": [[0, 2, 9], [1, 4, 3]], "decay": 0.9},
    {"heads": 2, "head_dim": 4, "positions": "rotary", "kv_heads": 1, "window_tokens": 2},
    {"heads": 2, "head_dim": 4, "positions": "rotary", "rope_base": 3.0, "decay": 0.2},
    {"heads": 2, "head_dim": 4, "positions": "sinusoidal", "attention_dropout": 0.2},
    {"heads": 3, "positions": "none", "dropout": 0.2},
    {"heads": 2, "qk_norm": True, "temperature": 0.8, "positions": "none"},
    {"heads": 2, "qk_norm": [False, True], "kv_heads": 1, "attention_dropout": 0.2},
    {"heads": 2, "softcap": 0.3, "decay": 0.7},
    {"heads": 2, "softcap": [0.5, 4.0], "sink": ["zero", "learned"], "temperature": 0.2},
    {"heads": 3, "sink": "learned", "window_tokens": 1, "attention_dropout": 0.15},
    {"heads": 2, "learned_temperature": True, "temperature": [[0.5, 2.0], [1.0, 0.7]]},
    {"heads": 2, "learned_temperature": [False, True], "qk_norm": True, "sink": "zero"},
    {"heads": 2, "adaptive_temperature": True, "temperature": [[0.4, 1.6], [1.0, 3.0]]},
    {"heads": 2, "adaptive_temperature": [True, False], "qk_norm": True, "softcap": 2.0},
    {"heads": 3, "adaptive_temperature": True, "learned_temperature": True, "dropout": 0.1},
    {"heads": 2, "dilation": [[1, 2], [3, 1]], "window_tokens": 2, "attention_dropout": 0.1},
    {"heads": 3, "block_tokens": 2, "decay": 0.4},
    {"heads": 1, "block_tokens": [3, 1], "dilation": 2},
    {"mechanism": "linear", "heads": 2, "head_dim": 4, "kv_heads": 1},
    {"mechanism": "linear", "heads": 3, "dropout": 0.45, "head_dropout": 0.3},
    {"heads": 4, "head_dim": 3, "kv_heads": 2, "head_dropout": [0.7, 0.2], "temperature": 1.4},
    {"mechanism": ["softmax", "linear"], "heads": [2, 3], "head_dim": [3, 2], "kv_heads": [1, 3]},
    {
        "heads": [4, 1],
        "head_dim": [3, 6],
        "window_tokens": [1, 3],
        "attention_dropout": [0.3, 0.0],
    },
]
TURNED = {"heads": 2, "head_dim": 4, "positions": "rotary", "learned_temperature": True}
EVERYTHING = {  # that is done to the scores of pairs
    **TURNED,
    "kv_heads": 1,
    "qk_norm": True,
    "temperature": [[0.5, 2.0], [1.3, 0.8]],
    "softcap": 0.8,
    "decay": 0.6,
    "window_tokens": [[2, 3], [1, 2]],
    "dilation": [[1, 2], [1, 1]],
    "adaptive_span": True,
    "sink": "learned",
    "attention_dropout": 0.2,
    "head_dropout": 0.2,
}
CAUSAL += [
    EVERYTHING,
    {**EVERYTHING, "learned_temperature": False, "adaptive_temperature": True, "block_tokens": 3},
    {**EVERYTHING, "mechanism": "top_k", "top_k": 2},
    {**EVERYTHING, "mechanism": "sparse", "sink": "zero"},
    {**EVERYTHING, "mechanism": "talking_heads"},
    {"mechanism": "block_low_rank", "heads": 2, "attention_dropout": 0.2, "sink": "zero"},
    {"mechanism": "block_low_rank", "heads": 2, "kv_heads": 1, "sink": "learned", "softcap": 0.4},
    {"mechanism": "block_low_rank", "heads": 2, "qk_norm": True, "temperature": 0.6},
    {"mechanism": ["block_low_rank", "softmax"], "heads": 2, "adaptive_temperature": True},
    {"mechanism": "top_k", "heads": 2, "top_k": 2, "attention_dropout": 0.2, "decay": 0.3},
    {"mechanism": "top_k", "heads": 2, "top_k": [1, 9], "sink": "zero", "softcap": 1.0},
    {"mechanism": ["linear", "top_k"], "heads": 2, "positions": "none", "window_tokens": 2},
]
CAUSAL += [
    {"mechanism": "sparse", "heads": 2, "entmax_alpha": 2.0, "attention_dropout": 0.1},
    {"mechanism": "sparse", "heads": 2, "entmax_alpha": [1.2, 1.5], "temperature": 0.1},
    {"mechanism": "talking_heads", "heads": 2, "window_tokens": [[0, 3], [2, 1]], "kv_heads": 1},
    {"mechanism": ["talking_heads", "sparse"], "heads": 3, "sink": "zero", "softcap": 1.0},
]
CAUSAL += [
    {"heads": 2, "adaptive_span": True, "attention_dropout": 0.2},
    {"heads": 3, "adaptive_span": [True, False], "decay": 0.5, "sink": ["learned", "zero"]},
    {"heads": 2, "adaptive_span": True, "window_tokens": 2, "qk_norm": True, "kv_heads": 1},
    {"mechanism": "top_k", "heads": 2, "top_k": 2, "adaptive_span": True, "temperature": 0.7},
    {"mechanism": ["talking_heads", "softmax"], "heads": 2, "adaptive_span": True},
]
CUT = {"heads": 2, "dilation": 2, "block_tokens": 3, "qk_norm": True, "adaptive_temperature": True}
CAUSAL += [
    {**TURNED, "mechanism": "top_k", "top_k": 2, "temperature": 0.6},
    {**TURNED, "mechanism": "sparse", "decay": 0.4, "window_tokens": 2, "temperature": 2.0},
    {**TURNED, "mechanism": "talking_heads", "decay": 0.3, "attention_dropout": 0.2},
    {**CUT, "mechanism": "top_k", "top_k": 2, "sink": "learned"},
    {**CUT, "mechanism": "sparse"},
    {**CUT, "mechanism": "talking_heads", "sink": "learned"},
    {"mechanism": "talking_heads", "heads": 2, "temperature": [[0.5, 2.0], [1.3, 0.8]]},
    {"mechanism": "block_low_rank", "heads": 2, "temperature": 0.6, "learned_temperature": True},
]
LOOKING_BACK: list[dict[str, Any]] = [
    {"mechanism": "retention", "heads": 2, "dropout": 0.2, "head_dropout": 0.3},
    {"mechanism": "retention", "heads": 2, "head_dim": 4, "positions": "rotary", "kv_heads": 1},
    {"mechanism": ["retention", "softmax"], "heads": 2, "forgetting": [[0.5, 9.0], [0.0, 30.0]]},
]
LOW_RANK: list[dict[str, Any]] = [
    {"mechanism": "low_rank", "heads": 2, "rank": 4, "temperature": [[0.6, 1.9], [1.0, 0.2]]},
    {"mechanism": "low_rank", "heads": 2, "kv_heads": 1, "attention_dropout": 0.3},
    {"mechanism": "low_rank", "heads": 3, "head_dim": 4, "rank": 2, "dropout": 0.2},
    {"mechanism": ["low_rank", "softmax"], "heads": 2, "rank": [3, 1], "decay": 1.1},
    {"mechanism": ["linear", "low_rank"], "heads": [1, 2], "head_dim": [6, 3], "rank": [1, 2]},
]
BLOCKS: list[dict[str, Any]] = [  # of several tokens and rows, for 7 tokens
    {"block_tokens": 2, "rank": 2},
    {"block_tokens": 2, "rank": 1, "kv_heads": 1, "attention_dropout": 0.2},
    {"block_tokens": [3, 1], "rank": [2, 1], "temperature": 0.6},
]
BLOCKS = [{"mechanism": "block_low_rank", "heads": 2, **own} for own in BLOCKS]


def particles_of(info: TaskInfo) -> list[dict[str, Any]]:
    """Return the settings of every particle that the task admits, no two alike."""
    return [{**OUTER, **own} for own in CAUSAL + (LOOKING_BACK if info.causal else LOW_RANK)]


ATTENTION = {knob.name: knob for knob in KNOBS}
SHARED: dict[str, list[Any]] = {  # knobs that are data of a particle, and values that differ
    "kv_heads": [1, 2],
    "positions": ["learned", "sinusoidal", "rotary", "none"],
    "rope_base": [10.0, 1e4],
    "temperature": [0.5, [[2.0, 0.7]]],
    "learned_temperature": [False, True],
    "adaptive_temperature": [False, True],
    "qk_norm": [False, True],
    "softcap": [2.0, 30.0],
    "decay": [0.0, [[0.3, 2.0]]],
    "window_tokens": [0, 5, 99],
    "dilation": [1, [[3, 1]]],
    "block_tokens": [2, 5, 99],
    "sink": ["zero", "learned"],
    "attention_dropout": [0.0, 0.3],
    "head_dropout": [0.0, 0.3],
    "forgetting": [0.0, [[1.0, 9.0]]],
    "top_k": [1, 4, 99],
    "entmax_alpha": [1.2, 1.7],
}
SHAPING = {"mechanism", "heads", "head_dim", "rank", "adaptive_span"}  # a span is there or not

TASKS = {"vectors": VECTORS, "letters": LETTERS, "tags": TAGS, "forecast": FORECAST}


@pytest.fixture(params=TASKS)
def info(request: pytest.FixtureRequest) -> TaskInfo:
    return TASKS[request.param]


@pytest.mark.parametrize(
    ("task", "train"),
    [("vectors", False), ("vectors", True), ("letters", True), ("tags", True), ("forecast", True)],
)
def test_swarm_equals_the_scalar_transformer_in_logits_and_gradients(
    task: str, train: bool
) -> None:
    info = TASKS[task]
    check_against_scalars(particles_of(info), info, train)


@pytest.mark.parametrize("info", [VECTORS, LETTERS], ids=["bidirectional", "causal"])
def test_blocks_of_several_tokens_and_rows_equal_the_scalar_transformer(info: TaskInfo) -> None:
    """Of 7 tokens blocks of 2 leave one of a single token at the end, and those of 3 too."""
    settings = [{**OUTER, **own} for own in BLOCKS]
    check_against_scalars(settings, replace(info, length=7), train=True)


def check_against_scalars(
    particles: Sequence[dict[str, Any]], info: TaskInfo, train: bool
) -> None:
    """Check the logits and gradients of a swarm of such particles."""
    settings = placed(particles, info)
    swarm, inputs, drawn = started(settings, info)
    move_from_start(swarm)
    found = swarm.forward(inputs, drawn if train else None)
    pull = pulls(found)
    swarm.storage.differentiate((found * pull).sum())
    for row, own in enumerate(settings):
        weights = {
            name: value.requires_grad_()
            for name, value in swarm.storage.true_parameters(row).items()
        }
        truth = scalar_transformer.logits(
            own,
            weights,
            Shapes(info.length, info.causal, info.per_token),
            inputs[row],
            masks_of(own, info, drawn[:, row]) if train else {},
            EPSILON,
        )
        assert distance(found[row], truth) <= TOLERANCE
        gradients = true_gradients(swarm, row)
        expected = torch.autograd.grad(
            (truth * pull[row]).sum(),
            list(weights.values()),
            materialize_grads=True,  # a span so short that a token sees itself alone has none
        )
        scale = max(float(reference.abs().max()) for reference in expected)
        for name, reference in zip(weights, expected, strict=True):
            assert distance(gradients[name], reference, scale) <= TOLERANCE, (own, name)


@pytest.mark.parametrize("train", [False, True], ids=["evaluated", "with dropout"])
def test_swarm_equals_plain_modules_in_logits_and_gradients(info: TaskInfo, train: bool) -> None:
    settings = placed(particles_of(info), info)
    swarm, inputs, drawn = started(settings, info)
    found = swarm.forward(inputs, drawn if train else None)
    pull = pulls(found)
    swarm.storage.differentiate((found * pull).sum())
    for row, own in enumerate(settings):
        plain, copied = (Transformer(read_transformer(own, info), info).double() for _ in range(2))
        plain.load_swarm_parameters(swarm.storage.true_parameters(row))
        copied.load_swarm_parameters(true_gradients(swarm, row))  # gradients, named as torch does
        plain.train(train)
        truth = plain(inputs[row], drawn[:, row : row + 1] if train else None)
        assert distance(found[row], truth) <= TOLERANCE
        torch.autograd.backward((truth * pull[row]).sum())
        expected = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
        scale = max(float(reference.abs().max()) for reference in expected.values())
        for name, parameter in copied.named_parameters():
            assert distance(parameter, expected[name], scale) <= TOLERANCE, (own, name)


def test_columns_that_a_particle_does_not_own_get_no_gradient_and_no_start(info: TaskInfo) -> None:
    settings = placed(particles_of(info), info)
    swarm, inputs, drawn = started(settings, info)
    swarm.storage.differentiate(swarm.forward(inputs, drawn).square().sum())
    for row in range(len(settings)):
        for flat, own in (
            (swarm.storage.weights, swarm.storage.true_parameters(row)),
            (swarm.storage.gradients, true_gradients(swarm, row)),
        ):
            owned = sum(int((value != 0).sum()) for value in own.values())
            assert int((flat[row] != 0).sum()) == owned


def test_the_gradient_of_one_particle_is_zero_in_every_other(info: TaskInfo) -> None:
    settings = placed(particles_of(info), info)
    swarm, inputs, drawn = started(settings, info)
    for row in (0, len(settings) // 2):
        swarm.storage.differentiate(swarm.forward(inputs, drawn)[row].square().sum())
        moved = (swarm.storage.gradients != 0).any(1)
        assert moved.tolist() == [other == row for other in range(len(settings))]


def test_a_particle_starts_the_same_whoever_it_starts_with(info: TaskInfo) -> None:
    settings = placed(particles_of(info), info)
    together, _, _ = started(settings, info)
    for row, own in enumerate(settings):
        alone = SwarmTransformer.started(
            [read_transformer(own, info)], info, [seed_of(own)], torch.float64
        )
        first, second = together.storage.true_parameters(row), alone.storage.true_parameters(0)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_every_knob_is_compared_with_each_mechanism_that_it_acts_on() -> None:
    """And of a knob of labels each one, but for what it has by default."""
    at = scalar_transformer.at
    compared = {
        (at(own, "mechanism", layer, "softmax"), name, value if isinstance(value, str) else None)
        for own in [*CAUSAL, *LOOKING_BACK, *LOW_RANK, *BLOCKS]
        for layer in range(OUTER["layers"])
        for name in own.keys() & ATTENTION.keys()
        if (value := at(own, name, layer, None)) != ATTENTION[name].default
    }
    acting = {
        (kind, name, label)
        for name, knob in ATTENTION.items()
        for kind in knob.when.get("mechanism", ())
        for label in set(knob.choices) - {knob.default} or {None}
    }
    acting |= {(kind, "mechanism", kind) for kind in MECHANISMS if kind != "softmax"}
    acting |= {(kind, "positions", "rotary") for kind in TURNING}
    assert acting <= compared


@pytest.mark.parametrize("name", SHARED)
def test_particles_that_differ_in_a_shared_knob_alone_share_a_kernel(name: str) -> None:
    when = ATTENTION[name].when
    for kind in when.get("mechanism", ("softmax",)):
        if (name, kind) == ("block_tokens", "block_low_rank"):
            continue  # its blocks are its shape
        own = {"d_model": 16, "heads": 2} | {other: values[0] for other, values in when.items()}
        own |= {"mechanism": kind}
        groups = {
            read_layer({**own, name: value}, 0, 9, causal=kind != "low_rank").group
            for value in SHARED[name]
        }
        assert len(groups) == 1, kind


def test_every_knob_of_attention_is_shared_or_shapes_kernels() -> None:
    assert set(SHARED) ^ SHAPING == set(ATTENTION)


def placed(particles: Sequence[dict[str, Any]], info: TaskInfo) -> list[dict[str, Any]]:
    """Return the settings in the order in which a swarm takes them."""
    return sorted(particles, key=lambda own: read_transformer(own, info).group)


def seed_of(own: Mapping[str, Any]) -> int:
    """Return a training seed of the particle's own, whatever its place."""
    return len(repr(own)) * 7919 + sum(map(ord, repr(own)))


def started(
    settings: Sequence[dict[str, Any]], info: TaskInfo
) -> tuple[SwarmTransformer, Tensor, Tensor]:
    """Return a swarm, inputs (N, B, T[, features]) and dropout keys (sites, N)."""
    seeds = [seed_of(own) for own in settings]
    models = [read_transformer(own, info) for own in settings]
    swarm = SwarmTransformer.started(models, info, seeds, torch.float64)
    rng = torch.Generator().manual_seed(5)
    shape = (len(settings), EXAMPLES, info.length)
    if info.tokens is not None:
        inputs = torch.randint(info.tokens, shape, generator=rng)
    else:
        inputs = torch.randn(*shape, info.features or 0, generator=rng, dtype=torch.float64)
    return swarm, inputs, keys(np.array(seeds), 2, swarm.sites)[1]


def move_from_start(swarm: SwarmTransformer) -> None:
    """Move all parameters: some start where what they do cannot be seen, at 0 or alike."""
    rng = torch.Generator().manual_seed(7)
    for row in range(len(swarm.settings)):
        own = swarm.storage.true_parameters(row)
        noise = {n: torch.randn(p.shape, generator=rng, dtype=p.dtype) for n, p in own.items()}
        swarm.storage.take(row, {name: p + 0.3 * noise[name] for name, p in own.items()})


def masks_of(own: Mapping[str, Any], info: TaskInfo, key: Tensor) -> Masks:
    """Return the factors of one particle's dropout, drawn for it alone; key: (sites,)."""
    masks = {}
    for layer in range(own["layers"]):
        mechanism = scalar_transformer.at(own, "mechanism", layer, "softmax")
        heads = scalar_transformer.at(own, "heads", layer, 4)
        rank = scalar_transformer.at(own, "rank", layer, max(1, info.length // 4))
        rows = rank if mechanism == "low_rank" else info.length
        if mechanism == "block_low_rank":
            block = scalar_transformer.at(own, "block_tokens", layer, max(1, info.length // 4))
            rank = scalar_transformer.at(own, "rank", layer, max(1, block // 4))
            rows += math.ceil(info.length / block) * rank
        width = own["d_model"]
        for site, name, rate, shape in (
            (0, "weights", "attention_dropout", (EXAMPLES, heads, info.length, rows)),
            (1, "attention output", "dropout", (EXAMPLES, info.length, width)),
            (2, "feedforward output", "dropout", (EXAMPLES, info.length, width)),
            (3, "heads", "head_dropout", (EXAMPLES, heads)),
        ):
            chance = scalar_transformer.at(own, rate, layer, 0.0)
            if chance and not (name == "weights" and mechanism in ("linear", "retention")):
                whole_heads = name == "heads"
                drawn = key[3 * own["layers"] + layer if whole_heads else 3 * layer + site][None]
                factor = torch.tensor([chance], dtype=torch.float64)
                masks[layer, name] = dropout_scale(drawn, DropRates.of(factor), shape)[0]
    return masks


def true_gradients(swarm: SwarmTransformer, row: int) -> dict[str, Tensor]:
    """Return one particle's gradients under the names and shapes of its true parameters."""
    storage = swarm.storage
    weights, storage.weights = storage.weights, storage.gradients
    try:
        return storage.true_parameters(row)
    finally:
        storage.weights = weights


def pulls(like: Tensor) -> Tensor:
    """Return fixed random numbers of a tensor's shape: the gradient of a loss."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(6), dtype=like.dtype)


def distance(found: Tensor, truth: Tensor, scale: float | None = None) -> float:
    """Return the largest difference, relative to `scale`, or to the largest entry."""
    largest = float(truth.detach().abs().max()) if scale is None else scale
    return float((found - truth).detach().abs().max()) / largest
