"""A knob at its neutral value changes nothing: what is left is plain multi-head attention."""

import re
from dataclasses import replace
from inspect import getmodule
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from pso_attn.attention import MECHANISMS, LayerSettings, Noise, read_layer
from pso_attn.attention.linear import _positive
from pso_attn.attention.positions import Turn
from pso_attn.attention.scores import Scores
from pso_attn.counter import DropRates, keys
from pso_attn.evaluate import TRAINING_KNOBS
from pso_attn.evaluate.optimiser import SwarmAdamW, read_recipe
from pso_attn.evaluate.precision import autocast, products_in
from pso_attn.evaluate.smoothing import Smoothing
from pso_attn.models import MODEL_KNOBS, SwarmTransformer, TaskInfo, read_transformer
from pso_attn.models.plain_attention import _positive as plain_positive
from pso_attn.tasks.classification import cross_entropy as task_loss
from pso_attn.testing.mechanisms import make_layer, scaled

TOLERANCE = 1e-12
LENGTH = 9
INFO = TaskInfo(tokens=None, features=3, length=LENGTH, outputs=4, causal=False, per_token=False)

# Each way in which a knob of attention says "nothing": its settings, beside those of plain heads.
NEUTRAL: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 1.0},
    "decay": {"decay": 0.0},
    "attention_dropout": {"attention_dropout": 0.0},
    "window_tokens": {"window_tokens": LENGTH - 1},
    "learned_temperature": {"learned_temperature": False},
    "adaptive_temperature": {"adaptive_temperature": False},
    "qk_norm": {"qk_norm": False},
    "softcap": {"softcap": 1e9},
    "adaptive_span": {"adaptive_span": False},
    "sink": {"sink": "none"},
    "dilation": {"dilation": 1},
    "block_tokens": {"block_tokens": LENGTH},
}
# Each other knob that has a neutral value or a limit, and the test in this file that covers it.
ELSEWHERE = {
    "dropout": "test_a_model_without_dropout_trains_on_what_it_evaluates",
    "head_dropout": "test_a_model_without_dropout_trains_on_what_it_evaluates",
    "positions": "test_without_positions_the_order_of_tokens_does_not_matter",
    "start_scale": "test_a_start_is_as_wide_as_its_scale_says",
    "label_smoothing": "test_smoothed_losses_are_those_of_torch_and_unsmoothed_ones_stay",
    "precision": "test_float32_is_torch_as_it_comes",
    "weight_decay": "test_without_decay_and_clipping_the_optimiser_is_plain_adam",
    "warmup": "test_without_warm_up_a_constant_rate_is_the_peak_from_the_first_step",
    "schedule": "test_without_warm_up_a_constant_rate_is_the_peak_from_the_first_step",
    "clip_norm": "test_without_decay_and_clipping_the_optimiser_is_plain_adam",
    "kv_heads": "test_shared_heads_with_equal_weights_are_unshared_heads",
    "top_k": "test_the_top_of_all_keys_is_softmax",
    "entmax_alpha": "test_entmax_tends_to_softmax",
}
# The knobs that always do something: sizes, rates, kinds, and what those are made with.
ACTING = {
    *("layers", "d_model", "feedforward_ratio", "mechanism", "heads", "head_dim", "rank"),
    *("rope_base", "forgetting", "lr", "beta1", "beta2", "batch_size"),
}
# Each mechanism, and the test in this file that holds it against softmax at its limit.
LIMITS = {
    "softmax": "test_neutral_softmax_is_plain_attention",
    "top_k": "test_the_top_of_all_keys_is_softmax",
    "sparse": "test_entmax_tends_to_softmax",
    "low_rank": "test_low_rank_with_all_rows_and_identity_maps_is_softmax",
    "block_low_rank": "test_block_low_rank_with_all_rows_and_identity_maps_is_softmax",
    "talking_heads": "test_heads_that_mix_by_the_identity_are_softmax",
    "retention": "test_retention_that_forgets_nothing_is_linear_attention_without_feature_maps",
}

PAPER = re.compile(r"\b(19|20)\d\d( \(.+?\))?,\s+arXiv \d{4}\.\d{5}\b")
DROPOUTS = ("dropout", "attention_dropout", "head_dropout")


def test_every_knob_is_tested_at_its_neutral_value_or_limit_or_always_acts() -> None:
    knobs = {**MODEL_KNOBS, **TRAINING_KNOBS}
    neutral = {name: knob.neutral for name, knob in knobs.items() if knob.neutral is not None}
    limits = {name for name, knob in knobs.items() if knob.limit}
    assert not limits & set(neutral)
    assert limits | set(neutral) == set(NEUTRAL) | set(ELSEWHERE)
    assert set(knobs) == set(NEUTRAL) | set(ELSEWHERE) | ACTING
    for name, stated in NEUTRAL.items():
        assert stated == {name: neutral.get(name, stated[name])}


def test_every_knob_names_its_source_but_the_kind_whose_files_do() -> None:
    knobs = {**MODEL_KNOBS, **TRAINING_KNOBS}
    assert [name for name, knob in knobs.items() if not knob.source] == ["mechanism"]
    for kernel in MECHANISMS.values():
        assert PAPER.search(getmodule(kernel).__doc__ or ""), kernel


def test_every_mechanism_that_has_a_limit_is_tested_at_it() -> None:
    assert set(LIMITS) == set(MECHANISMS) - {"linear"}  # which tends to nothing but itself
    assert all(callable(globals().get(name)) for name in (*LIMITS.values(), *ELSEWHERE.values()))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("knob", [*NEUTRAL, "all of them"])
@pytest.mark.parametrize("index", [0, 1], ids=["even layer", "odd layer"])
def test_neutral_softmax_is_plain_attention(knob: str, causal: bool, index: int) -> None:
    stated = NEUTRAL.get(knob) or {name: NEUTRAL[name][name] for name in NEUTRAL}
    layer = read_layer({"d_model": 16, "heads": 4, **stated}, index, LENGTH, causal)
    q, k, v = operands(layer)
    plain = scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert_same(attended(layer, causal, q, k, v), plain, q, k, v)


@pytest.mark.parametrize("window", [LENGTH - 1, LENGTH, 10 * LENGTH])
@pytest.mark.parametrize("causal", [False, True])
def test_a_window_over_the_whole_sequence_is_none(window: int, causal: bool) -> None:
    stated = {"d_model": 16, "heads": 4, "window_tokens": window}
    layer = read_layer(stated, 0, LENGTH, causal)
    q, k, v = operands(layer)
    plain = scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert_same(attended(layer, causal, q, k, v), plain, q, k, v)


def test_one_token_less_than_the_whole_sequence_is_a_window() -> None:
    layer = read_layer({"d_model": 16, "heads": 4, "window_tokens": LENGTH - 2}, 0, LENGTH, False)
    q, k, v = operands(layer)
    moved = attended(layer, False, q, k, v) - scaled_dot_product_attention(q, k, v)
    assert (moved.abs().amax((0, 1, 2, 4)) > 1e-6).tolist() == [
        True,
        *[False] * (LENGTH - 2),
        True,
    ]


@pytest.mark.parametrize("causal", [False, True])
def test_a_neutral_particle_stays_plain_beside_particles_that_are_not(causal: bool) -> None:
    plain = read_layer({"d_model": 16, "heads": 4}, 0, LENGTH, causal)
    strange = make_layer(
        "softmax", heads=4, head_dim=4, temperature=0.2, decay=2.0, window_tokens=1
    )
    q, k, v = (torch.cat([x, x]) for x in operands(plain))
    kernel = MECHANISMS["softmax"]([strange, plain], LENGTH, causal, q)
    dropping = Noise(key_of(2), DropRates.of(torch.tensor([0.5, 0.0], dtype=torch.float64)))
    truth = scaled_dot_product_attention(q[1], k[1], v[1], is_causal=causal)
    for noise in (None, dropping):
        torch.testing.assert_close(
            kernel(scaled(kernel, q), k, v, noise)[1], truth, rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize("causal", [False, True])
def test_a_learned_span_over_the_whole_sequence_is_plain_attention(causal: bool) -> None:
    layer = read_layer({"d_model": 16, "heads": 4, "adaptive_span": True}, 0, LENGTH, causal)
    q, k, v = operands(layer)
    spans = torch.tensor([[1.0, -1.0, 1 - 1 / LENGTH, 7.0]], dtype=torch.float64)
    kernel = MECHANISMS["softmax"]([layer], LENGTH, causal, q)
    found = kernel(scaled(kernel, q), k, v, None, {"span": [spans]})
    plain = scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert_same(found, plain, q, k, v)


def test_learned_spans_start_at_half_the_sequence_and_cost_nothing_where_nobody_has_one() -> None:
    own = {"d_model": 16, "heads": 4}
    layers = [read_layer({**own, "adaptive_span": on}, 0, LENGTH, False) for on in (True, False)]
    (start,) = layers[0].learned(LENGTH, 16)
    assert (start.name, start.shape, start.mean, start.std) == ("span", (4,), (0.5,), 0.0)
    assert layers[1].learned(LENGTH, 16) == ()
    like = torch.zeros((), dtype=torch.float64)
    one = operands(layers[1])
    for members, added in ((layers, True), (layers[1:], False)):
        q, k = (x.repeat(len(members), 1, 1, 1, 1) for x in one[:2])
        scores = Scores(members, LENGTH, False, like)
        learned = {"span": [torch.full((1, 4), 0.5, dtype=torch.float64)]} if added else {}
        products = scores.products(q, k, learned)
        assert (scores.in_sight(products, learned) is products) != added


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kept", [LENGTH, 10 * LENGTH])
def test_the_top_of_all_keys_is_softmax(kept: int, causal: bool) -> None:
    stated = {"mechanism": "top_k", "d_model": 16, "heads": 4, "top_k": kept}
    layer = read_layer(stated, 0, LENGTH, causal)
    q, k, v = operands(layer)
    plain = scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert_same(attended(layer, causal, q, k, v), plain, q, k, v)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("block", [1, 3, LENGTH])
def test_block_low_rank_with_all_rows_and_identity_maps_is_softmax(
    block: int, causal: bool
) -> None:
    stated = {"mechanism": "block_low_rank", "d_model": 16, "heads": 4, "rank": block}
    layer = read_layer({**stated, "block_tokens": block}, 0, LENGTH, causal)
    q, k, v = operands(layer)
    identity = [torch.eye(block, dtype=torch.float64)[None]]
    maps = {"project_keys": identity, "project_values": identity}
    kernel = MECHANISMS[layer.mechanism]([layer], LENGTH, causal, q)
    found = kernel(scaled(kernel, q), k, v, None, maps)
    plain = scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert_same(found, plain, q, k, v)


@pytest.mark.parametrize("causal", [False, True])
def test_entmax_tends_to_softmax(causal: bool) -> None:
    stated = {"mechanism": "sparse", "d_model": 16, "heads": 4}
    far = []
    for alpha in (1.1, 1.01, 1.001):
        layer = read_layer({**stated, "entmax_alpha": alpha}, 0, LENGTH, causal)
        q, k, v = operands(layer)
        plain = scaled_dot_product_attention(q, k, v, is_causal=causal)
        far.append(float((attended(layer, causal, q, k, v) - plain).detach().abs().max()))
    assert far[2] < far[1] / 5 < far[0] / 25
    assert far[2] < 5e-3


@pytest.mark.parametrize("causal", [False, True])
def test_heads_that_mix_by_the_identity_are_softmax(causal: bool) -> None:
    stated = {"mechanism": "talking_heads", "d_model": 16, "heads": 4}
    layer = read_layer(stated, 0, LENGTH, causal)
    q, k, v = operands(layer)
    identity = [torch.eye(4, dtype=torch.float64)[None]]
    maps = {"mix_scores": identity, "mix_weights": identity}
    kernel = MECHANISMS[layer.mechanism]([layer], LENGTH, causal, q)
    found = kernel(scaled(kernel, q), k, v, None, maps)
    assert_same(found, scaled_dot_product_attention(q, k, v, is_causal=causal), q, k, v)
    for own in layer.learned(LENGTH, 16):
        assert own.mean == tuple(identity[0].flatten().tolist())


def test_heads_that_a_condition_leaves_out_forget_as_by_default() -> None:
    stated = {"mechanism": "retention", "d_model": 16, "heads": 2}
    left_out = read_layer({**stated, "forgetting": [[None, 9.0]]}, 0, LENGTH, causal=True)
    assert left_out.forgetting == (1.0, 9.0)


def test_positive_features_keep_their_digits_in_bf16() -> None:
    x = torch.tensor([[-9.0, -5.0, -2.0, 0.0, 3.0, *[0.0] * 11]])
    rounded = x.bfloat16().requires_grad_()
    features = _positive(rounded)
    torch.autograd.backward(features.sum())
    truth = torch.where(x > 0, x + 1, x.exp())
    torch.testing.assert_close(features.float(), truth, rtol=2**-8, atol=0)
    assert rounded.grad is not None
    torch.testing.assert_close(rounded.grad.float(), truth.clamp(max=1), rtol=2**-8, atol=0)
    torch.testing.assert_close(plain_positive(x.bfloat16()).float(), truth, rtol=2**-8, atol=0)


def test_retention_that_forgets_nothing_is_linear_attention_without_feature_maps() -> None:
    stated = {"mechanism": "retention", "d_model": 16, "heads": 4, "forgetting": 0.0}
    layer = read_layer(stated, 0, LENGTH, causal=True)
    q, k, v = operands(layer)
    sums = (q @ k.mT / layer.head_dim**0.5).tril() @ v
    seen = torch.arange(1, LENGTH + 1, dtype=torch.float64)[:, None]
    assert_same(attended(layer, True, q, k, v), sums / seen.sqrt(), q, k, v)


def test_low_rank_with_all_rows_and_identity_maps_is_softmax() -> None:
    low_rank, softmax = (
        SwarmTransformer.started(
            [read_transformer({"d_model": 8, "heads": 4, **own}, INFO)], INFO, [1], torch.float64
        )
        for own in ({"mechanism": "low_rank", "rank": LENGTH}, {})
    )
    identity = {
        f"blocks.{index}.attention.project_{projected}": torch.eye(LENGTH, dtype=torch.float64)
        for index in range(2)
        for projected in ("keys", "values")
    }
    low_rank.storage.take(0, {**softmax.storage.true_parameters(0), **identity})
    inputs = torch.randn(1, 3, LENGTH, 3, dtype=torch.float64, generator=rng()).requires_grad_()
    assert_same(low_rank.forward(inputs), softmax.forward(inputs), inputs)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_shared_heads_with_equal_weights_are_unshared_heads(kv_heads: int) -> None:
    shared, whole = (
        SwarmTransformer.started(
            [read_transformer({"d_model": 8, "heads": 4, "kv_heads": g}, INFO)],
            INFO,
            [1],
            torch.float64,
        )
        for g in (kv_heads, 4)
    )
    for index in range(2):
        name = f"blocks.{index}.attention.qkv"
        from_, to = shared.storage.whole(name).detach(), whole.storage.whole(name).detach()
        to[..., :8] = from_[..., :8]
        for part in (8, 16):  # keys, values: 4 heads of width 2
            for h in range(4):
                source = part + 2 * (h * kv_heads // 4)
                to[..., part + 2 * h : part + 2 * h + 2] = from_[..., source : source + 2]
    inputs = torch.randn(1, 3, LENGTH, 3, dtype=torch.float64, generator=rng())
    torch.testing.assert_close(
        shared.forward(inputs), whole.forward(inputs), rtol=0, atol=TOLERANCE
    )


def test_a_model_without_dropout_trains_on_what_it_evaluates() -> None:
    neutral = {name: MODEL_KNOBS[name].neutral for name in DROPOUTS}
    model = read_transformer({"d_model": 8, "heads": 2, **neutral}, INFO)
    swarm = SwarmTransformer.started([model], INFO, [1], torch.float64)
    inputs = torch.randn(1, 3, LENGTH, 3, dtype=torch.float64, generator=rng())
    drawn = keys(np.array([1]), 1, swarm.sites)[0]
    assert torch.equal(swarm.forward(inputs, drawn), swarm.forward(inputs))


def test_without_positions_the_order_of_tokens_does_not_matter() -> None:
    inputs = torch.randn(1, 3, LENGTH, 3, dtype=torch.float64, generator=rng())
    shuffled = inputs[:, :, torch.randperm(LENGTH, generator=rng())]
    for positions in MODEL_KNOBS["positions"].choices:
        model = read_transformer({"d_model": 8, "heads": 2, "positions": positions}, INFO)
        swarm = SwarmTransformer.started([model], INFO, [1], torch.float64)
        difference = swarm.forward(inputs) - swarm.forward(shuffled)
        moved = float(difference.detach().abs().max())
        assert (moved <= TOLERANCE) == (positions == MODEL_KNOBS["positions"].neutral)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    turn = Turn([7.0], 40, 6, torch.zeros((), dtype=torch.float64))
    q, k = torch.randn(2, 6, dtype=torch.float64, generator=rng()).expand(40, 2, 6).unbind(1)
    scores = turn(q.reshape(1, 1, 1, 40, 6)) @ turn(k.reshape(1, 1, 1, 40, 6)).mT
    for distance in range(-39, 40):
        diagonal = scores[0, 0, 0].diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


def test_a_very_large_base_turns_the_first_pair_alone() -> None:
    turn = Turn([1e300, None], 5, 4, torch.zeros((), dtype=torch.float64))
    x = torch.randn(2, 1, 1, 5, 4, dtype=torch.float64, generator=rng())
    turned = turn(x)
    torch.testing.assert_close(turned[0, ..., 1::2], x[0, ..., 1::2], rtol=0, atol=TOLERANCE)
    assert torch.equal(turned[1], x[1])
    assert not torch.equal(turned[0, ..., 1:, 0], x[0, ..., 1:, 0])


def test_a_start_is_as_wide_as_its_scale_says() -> None:
    starts = {}
    for scale in (None, 1.0, 2.5):
        stated = {} if scale is None else {"start_scale": scale}
        model = read_transformer({"d_model": 8, "heads": 2, **stated}, INFO)
        starts[scale] = SwarmTransformer.started([model], INFO, [1], torch.float64).storage.weights
    assert torch.equal(starts[None], starts[1.0])
    torch.testing.assert_close(starts[2.5], 2.5 * starts[1.0])


def test_smoothed_losses_are_those_of_torch_and_unsmoothed_ones_stay() -> None:
    logits = torch.randn(3, 5, 2, 4, dtype=torch.float64, generator=rng())
    targets = torch.randint(4, (1, 5, 2), generator=rng())
    plain = task_loss(logits, targets)
    for shares in ([0.0, 0.3, 0.1], [0.0, 0.0, 0.0]):
        found = Smoothing(shares, plain)(plain, logits)
        for row, share in enumerate(shares):
            flat = logits[row].flatten(0, 1)
            truth = cross_entropy(flat, targets[0].flatten(), label_smoothing=share)
            torch.testing.assert_close(found[row], truth, rtol=0, atol=TOLERANCE)
    assert Smoothing([0.0] * 3, plain)(plain, logits) is plain
    left = Smoothing([0.0, 0.3, 0.1], plain)
    whole = left(plain, logits)
    left.keep(torch.tensor([2, 0]))
    assert torch.equal(left(plain[[2, 0]], logits[[2, 0]]), whole[[2, 0]])


def test_without_decay_and_clipping_the_optimiser_is_plain_adam() -> None:
    recipe = read_recipe(
        {"weight_decay": TRAINING_KNOBS["weight_decay"].neutral, "schedule": "constant"}
    )
    weights = torch.randn(1, 20, dtype=torch.float64, generator=rng())
    twin = weights[0].clone().requires_grad_()
    gradients = torch.zeros_like(weights)
    swarm = SwarmAdamW(weights, gradients, [replace(recipe, clip_norm=1e9)], 6)
    plain = torch.optim.Adam([twin], lr=recipe.lr, betas=(recipe.beta1, recipe.beta2))
    for step in range(6):
        drawn = torch.randn(20, dtype=torch.float64, generator=rng(step))
        gradients[0], twin.grad = drawn, drawn.clone()
        swarm.step(step)
        plain.step()
    torch.testing.assert_close(weights[0], twin.detach(), rtol=0, atol=TOLERANCE)


def test_without_warm_up_a_constant_rate_is_the_peak_from_the_first_step() -> None:
    neutral = {name: TRAINING_KNOBS[name].neutral for name in ("warmup", "schedule")}
    recipe = read_recipe({"lr": 0.02, **neutral})
    assert [recipe.rate(step, 7) for step in range(7)] == [0.02] * 7


def operands(layer: LayerSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k, v (1, B, H, T, d) that record gradients."""
    shape = (3, 1, 2, layer.heads, LENGTH, layer.head_dim)
    q, k, v = torch.randn(shape, generator=rng(), dtype=torch.float64)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def attended(layer: LayerSettings, causal: bool, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return the kernel's output under dropout at the layer's own rate."""
    kernel = MECHANISMS[layer.mechanism]([layer], LENGTH, causal, q)
    rate = torch.tensor([layer.drops.weights], dtype=torch.float64)
    return kernel(scaled(kernel, q), k, v, Noise(key_of(1), DropRates.of(rate)))


def assert_same(found: Tensor, plain: Tensor, *inputs: Tensor) -> None:
    """Assert equality in value and in the gradients of the inputs."""
    torch.testing.assert_close(found, plain, rtol=0, atol=TOLERANCE)
    pull = torch.randn(plain.shape, generator=rng(), dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, inputs, pull),
        torch.autograd.grad(plain, inputs, pull),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE)


def key_of(particles: int) -> Tensor:
    """Return dropout keys (P,)."""
    return keys(np.arange(particles), 1, 1)[0, 0]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_float32_is_torch_as_it_comes() -> None:
    neutral = str(TRAINING_KNOBS["precision"].neutral)
    x = torch.randn(4, 4, generator=rng())
    with autocast(neutral, x.device), products_in(neutral, x.device):
        assert torch.equal(x @ x, torch.ops.aten.mm(x, x))
        assert not torch.is_autocast_enabled("cpu")
    with autocast("bf16", x.device):
        assert (x @ x).dtype == torch.bfloat16


def test_a_head_without_a_window_sees_all_beside_one_that_has_one() -> None:
    stated = {"d_model": 16, "heads": 2, "window_tokens": [[None, 3]]}
    assert read_layer(stated, 0, LENGTH, True).sight.window_tokens == (LENGTH - 1, 3)
    none = {**stated, "window_tokens": [[None, None]]}
    assert read_layer(none, 0, LENGTH, True).sight.window_tokens is None
