"""What a training is said to cost is what its plain module has and does."""

from itertools import product
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pso_attn.attention import read_layer
from pso_attn.errors import ConfigurationError
from pso_attn.evaluate import TRAINING_KNOBS, cost
from pso_attn.models import MODEL_KNOBS, SwarmTransformer, TaskInfo, Transformer, read_transformer
from pso_attn.models.footprint import FLAT, with_holes
from pso_attn.space import read_space

VECTORS = TaskInfo(tokens=None, features=3, length=12, outputs=5, causal=False, per_token=False)
LETTERS = TaskInfo(tokens=9, features=None, length=12, outputs=9, causal=True, per_token=True)
TAGS = TaskInfo(tokens=9, features=None, length=12, outputs=4, causal=False, per_token=True)
PLAIN = {"layers": 2, "d_model": 24, "feedforward_ratio": 2, "heads": 4}
OWN: list[dict[str, Any]] = [
    {},
    {"layers": 1},
    {"layers": 3, "feedforward_ratio": 0.5},
    {"feedforward_ratio": 4, "d_model": 32},
    {"heads": 1},
    {"heads": 6, "kv_heads": 3},
    {"heads": 6, "kv_heads": 1, "head_dim": 7},
    {"heads": [2, 4], "head_dim": [5, 8], "kv_heads": [1, 2]},
    {"mechanism": "linear", "head_dim": 3},
    {"mechanism": "linear", "kv_heads": 2},
    {"positions": "sinusoidal"},
    {"positions": "rotary"},
    {"positions": "none"},
    {"qk_norm": True, "sink": ["zero", "learned"]},
    {"learned_temperature": True, "adaptive_temperature": [True, False], "heads": 6},
    {"mechanism": "linear", "qk_norm": True, "sink": "learned", "adaptive_temperature": True},
    {"mechanism": ["softmax", "linear"], "window_tokens": 3},
]
OWN += [
    {"mechanism": "block_low_rank", "sink": "learned"},
    {"mechanism": "block_low_rank", "block_tokens": 5, "rank": 4, "kv_heads": 1},
    {"mechanism": ["top_k", "softmax"]},
    {"mechanism": ["talking_heads", "sparse"]},
    {"adaptive_span": True, "heads": 6},
    {"adaptive_span": True, "mechanism": ["sparse", "top_k"]},
]
LOW_RANK: list[dict[str, Any]] = [
    {"mechanism": "low_rank"},
    {"mechanism": "low_rank", "rank": 12, "kv_heads": 1},
    {"mechanism": ["linear", "low_rank"], "rank": 2},
]


def test_parameters_are_the_trainable_scalars_of_the_plain_module() -> None:
    for info in (VECTORS, LETTERS, TAGS):
        for own in OWN if info.causal else OWN + LOW_RANK:
            settings = {**PLAIN, **own}
            module = Transformer(read_transformer(settings, info), info)
            scalars = sum(p.numel() for p in module.parameters() if p.requires_grad)
            assert cost(settings, info)["parameters"] == scalars, settings


def test_parameters_of_a_tables_model_are_those_of_the_plain_module() -> None:
    """Rows of numbers and labels, and a bias for each column."""
    info = TaskInfo(9, None, length=4, outputs=1, causal=False, per_token=False, weighted=True)
    module = Transformer(read_transformer(PLAIN, info), info)
    held = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert held["embedding.weight"] == (9, 24)
    assert held["positions"] == (4, 24)
    assert held["head.weight"] == (1, 24)
    assert cost(PLAIN, info)["parameters"] == sum(p.numel() for p in module.parameters())


def test_the_columns_of_a_table_have_no_other_positions_than_biases() -> None:
    info = TaskInfo(9, None, length=4, outputs=3, causal=False, per_token=False, weighted=True)
    with pytest.raises(ConfigurationError) as raised:
        cost({**PLAIN, "positions": "rotary"}, info)
    assert_one_sentence(str(raised.value), "columns of a table have no order")


def test_a_predicted_number_has_no_classes_to_smooth() -> None:
    info = TaskInfo(None, 3, length=4, outputs=1, causal=False, per_token=False)
    with pytest.raises(ConfigurationError) as raised:
        cost({**PLAIN, "label_smoothing": 0.1}, info)
    assert_one_sentence(str(raised.value), "label_smoothing = 0.1")


def test_parameters_are_what_storage_holds_of_a_particle() -> None:
    for own in OWN + LOW_RANK:
        settings = {**PLAIN, **own}
        swarm = SwarmTransformer.started([read_transformer(settings, VECTORS)], VECTORS, [0])
        held = sum(value.numel() for value in swarm.storage.true_parameters(0).values())
        assert cost(settings, VECTORS)["parameters"] == held, settings


@pytest.mark.parametrize("info", [VECTORS, TAGS], ids=["vectors", "tags"])
@pytest.mark.parametrize(
    "own",
    [
        {},
        {"heads": 2, "head_dim": 7},
        {"layers": 3, "heads": 1},
        {"mechanism": "talking_heads"},
        {"mechanism": "sparse"},
        {"adaptive_temperature": True, "qk_norm": True, "softcap": 3.0, "sink": "learned"},
        {"adaptive_span": True},
    ],
    ids=str,
)
def test_flops_are_three_times_a_counted_forward_pass(own: dict[str, Any], info: TaskInfo) -> None:
    settings = {**PLAIN, **own}
    assert cost(settings, info)["flops"] == 3 * counted(settings, info)


def test_flops_of_low_rank_attention_are_three_times_a_counted_forward_pass() -> None:
    settings = {**PLAIN, "mechanism": "low_rank", "rank": 5}
    assert cost(settings, VECTORS)["flops"] == 3 * counted(settings, VECTORS)


def test_flops_of_block_low_rank_attention_are_those_counted_but_for_pairs_out_of_sight() -> None:
    settings = {**PLAIN, "mechanism": "block_low_rank", "block_tokens": 3, "rank": 2}
    near = 2 * (3 * 6 + 3 * 9)  # 12 tokens in 4 blocks, the outer two beside one, the inner two
    far = 2 * (3 * 2 + 3 * 1) * 2  # rows of the blocks that are left
    unseen = 12 * (12 + 4 * 2) - near - far
    found = cost(settings, VECTORS)["flops"]
    assert 3 * counted(settings, VECTORS) - found == 3 * 2 * 2 * 2 * unseen * 24


def test_flops_of_retention_are_those_of_its_pairs() -> None:
    found, plain = (cost({**PLAIN, **own}, LETTERS) for own in ({"mechanism": "retention"}, {}))
    assert found["flops"] == plain["flops"]
    assert found["parameters"] == plain["parameters"]


def test_flops_of_shared_heads_are_those_counted_but_for_the_maps_of_absent_heads() -> None:
    settings = {**PLAIN, "kv_heads": 2}
    assert cost(settings, VECTORS)["flops"] == 3 * counted(settings, VECTORS)
    unshared = cost(PLAIN, VECTORS)["flops"] - cost(settings, VECTORS)["flops"]
    assert unshared == 3 * 2 * (2 * 12 * 24 * 2 * 2 * 6)  # 2 layers; T C; keys, values; 2 heads


def test_causal_attention_and_windows_count_the_pairs_in_sight_alone() -> None:
    for info in (VECTORS, LETTERS):
        whole = {**PLAIN, "layers": 1, "kv_heads": 4}
        dense = cost({**whole, "window_tokens": 0}, info)["flops"]
        for window in (None, 1, 3, 11, 40):
            reach = info.length if window is None else window
            unseen = sum(
                not (0 <= i - j <= reach if info.causal else abs(i - j) <= reach)
                for i, j in product(range(info.length), repeat=2)
            )
            more = 144 - 12 - unseen  # pairs beyond the diagonal that a window of 0 leaves
            found = cost({**whole, "window_tokens": window}, info)["flops"]
            assert found - dense == 3 * 2 * 2 * more * 24  # scores and sums over H d = 24


def test_windows_given_per_head_count_each_head_by_its_own() -> None:
    each = [cost({**PLAIN, "window_tokens": w}, VECTORS)["flops"] for w in (0, 2, 5, 11)]
    mixed = cost({**PLAIN, "window_tokens": [[0, 2, 5, 11]] * 2}, VECTORS)["flops"]
    assert 4 * mixed == sum(each)


@pytest.mark.parametrize("index", [0, 1], ids=["even layer", "odd layer"])
@pytest.mark.parametrize(
    "own",
    [
        {"dilation": 3},
        {"dilation": [[1, 2, 5, 40]] * 2, "window_tokens": 4},
        {"block_tokens": 5},
        {"block_tokens": 1, "dilation": 2},
        {"block_tokens": 4, "window_tokens": [[0, 2, 3, 9]] * 2},
        {"block_tokens": 12},
    ],
    ids=str,
)
def test_pairs_in_sight_are_the_scores_that_are_not_masked(
    own: dict[str, Any], index: int
) -> None:
    for causal in (False, True):
        sight = read_layer({**PLAIN, **own}, index, 12, causal).sight
        seen = int(sight.bias(12, causal).expand(len(sight.decay), -1, -1).isfinite().sum())
        assert sight.pairs(12, causal) == seen


def test_linear_attention_costs_in_proportion_to_the_tokens() -> None:
    def of(length: int) -> int:
        info = TaskInfo(None, 3, length, 5, causal=False, per_token=True)
        return cost({**PLAIN, "mechanism": "linear"}, info)["flops"]

    assert of(40) == 2 * of(20) == 4 * of(10)


def test_memory_grows_with_the_batch_and_holds_the_optimiser() -> None:
    small, large = (cost({**PLAIN, "batch_size": size}, VECTORS) for size in (128, 256))
    assert small["parameters"] == large["parameters"]
    assert small["flops"] == large["flops"]
    fixed = 2 * small["memory_bytes"] - large["memory_bytes"]
    held = 4 * FLAT * small["parameters"]  # weights, gradients, two moments, found gradients
    assert fixed == pytest.approx(with_holes(held), abs=2)


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"heads": 4, "kv_heads": 3}, "kv_heads"),
        ({"heads": 2, "kv_heads": 4}, "kv_heads"),
        ({"heads": [4, 3], "kv_heads": [4, 2]}, "kv_heads"),
        ({"heads": 48}, "head_dim"),
        ({"mechanism": "low_rank", "rank": 13}, "rank"),
        ({"mechanism": ["softmax", "low_rank"], "rank": [40, 13]}, "rank"),
        ({"feedforward_ratio": 0.01}, "feedforward_ratio"),
        ({"mechanism": "block_low_rank", "block_tokens": 4, "rank": 5}, "rank"),
        ({"mechanism": "retention"}, "retention"),
        ({"positions": "rotary", "head_dim": 5}, "head_dim"),
        ({"positions": "rotary", "mechanism": "linear"}, "linear"),
        ({"positions": "rotary", "mechanism": ["softmax", "low_rank"]}, "low_rank"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused_in_one_sentence(
    own: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        cost({**PLAIN, **own}, VECTORS)
    assert_one_sentence(str(raised.value), named)


@pytest.mark.parametrize(
    "own",
    [
        {"heads": 0},
        {"heads": 2.5},
        {"head_dim": 0},
        {"kv_heads": 0},
        {"kv_heads": -1},
        {"rank": 0},
        {"layers": 0},
        {"d_model": 0},
        {"mechanism": "convolution"},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": [[1.0, 2.0], [1.0, 2.0]]},
        {"decay": -0.1},
        {"window_tokens": -1},
        {"dilation": 0},
        {"top_k": 0},
        {"entmax_alpha": 1.0},
        {"entmax_alpha": 2.5},
        {"forgetting": -1.0},
        {"softcap": 0.0},
        {"sink": "deep"},
        {"qk_norm": 2},
        {"adaptive_span": 16},
        {"block_tokens": 0},
        {"head_dropout": 1.0},
        {"attention_dropout": 1.0},
        {"dropout": -0.1},
        {"batch_size": 0},
        {"lr": "fast"},
    ],
    ids=str,
)
def test_a_value_that_no_model_can_have_is_refused_where_a_space_is_read(
    own: dict[str, Any],
) -> None:
    """What reads settings takes such values for granted: this is where they are stopped."""
    with pytest.raises(ConfigurationError) as raised:
        read_space(
            search={"beta1": {}},
            fixed={**PLAIN, **own},
            knobs={**MODEL_KNOBS, **TRAINING_KNOBS},
            constraints=[],
            starts=[],
            derive=None,
            where="space.toml",
        )
    assert_one_sentence(str(raised.value), f"space.toml: model.{next(iter(own))}")


def test_low_rank_is_refused_for_a_causal_task() -> None:
    with pytest.raises(ConfigurationError) as raised:
        cost({**PLAIN, "mechanism": "low_rank"}, LETTERS)
    assert_one_sentence(str(raised.value), "low_rank")
    with pytest.raises(ConfigurationError):
        cost({**PLAIN, "mechanism": ["softmax", "low_rank"]}, LETTERS)


def counted(settings: dict[str, Any], info: TaskInfo) -> int:
    """Return what torch counts in one example's forward pass, all scores explicit."""
    module = Transformer(read_transformer(settings, info), info).eval()
    shape = (1, info.length)
    if info.tokens is None:
        inputs = torch.zeros(*shape, info.features or 0)
    else:
        inputs = torch.zeros(shape, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(inputs)
    return int(counter.get_total_flops())


def assert_one_sentence(message: str, named: str) -> None:
    assert named in message
    assert "\n" not in message
    assert ". " not in message
    assert len(message) < 250


@pytest.mark.parametrize("mechanism", ["retention", "linear", "low_rank"])
def test_what_bounds_sight_costs_nothing_where_it_does_not_act(mechanism: str) -> None:
    info = LETTERS if mechanism == "retention" else VECTORS
    whole = cost({**PLAIN, "mechanism": mechanism}, info)
    for own in ({"window_tokens": 1}, {"dilation": 8}, {"decay": 1.0}):
        assert cost({**PLAIN, "mechanism": mechanism, **own}, info) == whole
