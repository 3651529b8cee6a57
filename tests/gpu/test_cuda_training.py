"""A swarm on a CUDA device: the floats of a CPU, recorded steps, lower precision, no memory left.

Twins on a CPU, in tests/unit: test_steps_on_a_device, test_step_graphs, test_memory_guard,
test_planner, test_fused_softmax, test_flexible_softmax, test_full_training, test_lstm_neutral and
test_swarm_training_compaction.
"""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend, sdpa_kernel

from pso_attn.attention.flexible import FLEX_TOKENS, Flexible
from pso_attn.attention.layer import FUSED_TOKENS
from pso_attn.attention.scores import Scores
from pso_attn.attention.softmax import Softmax
from pso_attn.evaluate import TRAINING_KNOBS, SwarmEvaluator
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.planner import Planner
from pso_attn.evaluate.precision import autocast, products_in
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.models import MODEL_KNOBS, TaskInfo
from pso_attn.space import read_space
from pso_attn.tasks import Split, Task, make_task
from pso_attn.tasks.classification import cross_entropy
from pso_attn.testing.mechanisms import make_layer, scaled
from pso_attn.types import Budget, Event, History, Objective, Outcome, Proposal, Replan, State

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here"),
]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
STEPS, TOLERANCE = 20, 5e-6
OUTER = {"layers": 2, "d_model": 16, "batch_size": 16}
# as many key/value heads as heads: gradients of shared ones are added in no fixed order there
KINDS: list[dict[str, Any]] = [
    {"heads": 2, "dropout": 0.1, "attention_dropout": 0.1, "head_dropout": 0.1},
    {"heads": 2, "decay": 1.0, "window_tokens": 3, "label_smoothing": 0.1},
    {"heads": 4, "positions": "rotary", "qk_norm": True, "softcap": 5.0, "sink": "learned"},
    {"heads": 4, "adaptive_temperature": True, "adaptive_span": True, "dilation": 2},
    {"mechanism": "linear", "heads": 2},
    {"mechanism": "low_rank", "heads": 2, "attention_dropout": 0.1},
    {"mechanism": "block_low_rank", "heads": 2},
    {"mechanism": "top_k", "heads": 2},
    {"mechanism": "sparse", "heads": 2},
    {"mechanism": "talking_heads", "heads": 2},
]
SHARED: dict[str, Any] = {"heads": 4, "kv_heads": 1}
LOOKING_BACK: list[dict[str, Any]] = [
    {"mechanism": "retention", "heads": 2, "positions": "none"},
    {"heads": 2, "learned_temperature": True, "positions": "sinusoidal", "sink": "zero"},
    {"heads": 2, "block_tokens": 5},
]
LSTM = {"family": "lstm", "hidden": 8, "layers": 2, "bidirectional": True, "batch_size": 16}
STATES: list[dict[str, Any]] = [
    {"heads": 2, "dropout": 0.1},
    {"score": "dot", "sentinel": True},
    {"score": "general", "local": "predictive", "window_tokens": 3},
    {"score": "self_attentive", "hops": 2, "hop_penalty": 0.1},
]


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


def begun(
    task: Any,
    device: torch.device = CUDA,
    kinds: list[dict[str, Any]] = KINDS,
    records: bool = True,
    precision: str = "float32",
) -> SwarmTraining:
    each = [{**OUTER, **kind, "precision": precision} for kind in kinds]
    training = SwarmTraining(task, [read_member(s, 3, task) for s in each], STEPS, device)
    training.records = training.records and records
    return training


def assert_same(one: SwarmTraining, other: SwarmTraining) -> None:
    assert torch.equal(one._losses, other._losses)
    for name, tensor in one.state.items():
        assert torch.equal(tensor, other.state[name]), name


@pytest.mark.parametrize("causal", [False, True])
def test_a_swarm_loses_what_it_loses_on_a_cpu(causal: bool, task: Task) -> None:
    own = words(12) if causal else task
    kinds = [*[kind for kind in KINDS if kind.get("mechanism") != "low_rank"], *LOOKING_BACK]
    kinds = kinds if causal else [*KINDS, SHARED]
    here, there = (begun(own, device, kinds) for device in (CPU, CUDA))
    here.advance(STEPS)
    there.advance(STEPS)
    assert there.is_recorded
    torch.testing.assert_close(there._losses.cpu(), here._losses, rtol=TOLERANCE, atol=0)


@pytest.mark.parametrize("recurrence", ["batched", "one_by_one"])
def test_lstms_lose_what_they_lose_on_a_cpu(task: Any, recurrence: str) -> None:
    settings = [{**LSTM, **own, "recurrence": recurrence} for own in STATES]
    members = [read_member(own, 3, task) for own in settings]
    here, there = (SwarmTraining(task, members, STEPS, device) for device in (CPU, CUDA))
    here.advance(STEPS)
    there.advance(STEPS)
    assert there.is_recorded
    torch.testing.assert_close(there._losses.cpu(), here._losses, rtol=10 * TOLERANCE, atol=0)


def test_recorded_steps_move_weights_to_the_floats_of_steps_as_they_are(task: Task) -> None:
    recorded, eager = begun(task), begun(task, records=False)
    for until in (1, 7, STEPS):
        recorded.advance(until)
        eager.advance(until)
    assert recorded.is_recorded
    assert not eager.is_recorded
    assert_same(recorded, eager)


def test_a_compacted_swarm_is_recorded_anew(task: Task) -> None:
    recorded, eager = begun(task), begun(task, records=False)
    for training in (recorded, eager):
        training.advance(8)
        training.keep([0, 2, 3, 7])
        training.advance(STEPS)
    assert recorded.is_recorded
    assert_same(recorded, eager)


def test_a_restored_training_goes_on_to_the_same_floats(task: Task) -> None:
    whole, restored = begun(task), begun(task)
    whole.advance(6)
    state = {name: tensor.clone() for name, tensor in whole.state.items()}
    whole.advance(STEPS)
    restored.advance(4)
    restored.restore(state, 6)
    restored.advance(STEPS)
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, restored.state[name]), name


def test_a_loss_that_reads_a_value_trains_as_it_is_after_a_warning(
    task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    def reading(logits: Tensor, targets: Tensor) -> Tensor:
        losses = task.loss(logits, targets)
        return losses if float(losses.detach().sum()) > 0 else losses * 2

    train = Split(task.train.inputs, task.train.targets)  # by which it is known as unrecordable
    reader = SimpleNamespace(name="reads", info=task.info, train=train, loss=reading)
    refused, eager = begun(reader), begun(reader, records=False)
    with caplog.at_level(logging.WARNING):
        refused.advance(STEPS)
    eager.advance(STEPS)
    assert not refused.is_recorded
    assert "without a CUDA graph" in caplog.text
    assert_same(refused, eager)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert not begun(reader).records
    assert begun(task).records


def test_the_quicker_recurrence_is_measured_there(task: Task, tmp_path: Path) -> None:
    outer = {"family": "lstm", "hidden": 8, "batch_size": 8}
    ways = {
        way: [read_member({**outer, "recurrence": way}, seed, task) for seed in range(3)]
        for way in ("batched", "one_by_one")
    }
    planner = Planner(task, CUDA, tmp_path / "known.json")
    chosen = planner.quickest(ways)
    (known,) = json.loads((tmp_path / "known.json").read_text(encoding="utf-8")).values()
    (seconds,) = known.values()
    assert chosen == min(seconds, key=seconds.__getitem__)


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 3e-3), ("bf16", 3e-2)])
def test_lower_precision_stays_near_float32(task: Task, precision: str, tolerance: float) -> None:
    exact, rounded = begun(task), begun(task, precision=precision)
    exact.advance(STEPS)
    rounded.advance(STEPS)
    assert rounded.is_recorded
    assert all(tensor.dtype == torch.float32 for tensor in rounded.state.values())
    assert not torch.equal(rounded._losses, exact._losses)
    torch.testing.assert_close(rounded._losses, exact._losses, rtol=tolerance, atol=0)
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("width", [8, 6])
def test_fused_attention_is_explicit_attention(causal: bool, width: int) -> None:
    """By kernels that never hold all weights."""
    length = FUSED_TOKENS + 2
    members = [
        make_layer("softmax", heads=2, head_dim=width, length=length, causal=causal, **knobs)
        for knobs in ({"decay": 0.3}, {"window_tokens": 5, "temperature": 0.7}, {})
    ]
    like = torch.zeros((), device=CUDA)
    shape = (3, 4, 2, length, width)
    q, k, v = (torch.randn(shape, device=CUDA, requires_grad=True) for _ in range(3))
    kernel, scores = Softmax(members, length, causal, like), Scores(members, length, causal, like)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]):
        found = kernel(scaled(kernel, q), k, v, None)
    expected = scores(scaled(scores, q), k, {}).softmax(-1) @ v
    pull = torch.randn_like(found)
    gradients = (torch.autograd.grad(out, (q, k, v), pull) for out in (found, expected))
    for one, other in ((found, expected), *zip(*gradients, strict=True)):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_bf16_is_explicit_attention_but_for_rounding(causal: bool) -> None:
    """At a length, and with scores so far down, for which cuDNN's gradients are NaN."""
    length, width = FUSED_TOKENS + 64, 32
    members = [
        make_layer("softmax", heads=2, head_dim=width, length=length, causal=causal, **knobs)
        for knobs in ({"decay": 4.0}, {"window_tokens": 5}, {})
    ]
    like = torch.zeros((), device=CUDA)
    shape = (3, 4, 2, length, width)
    q, k, v = (torch.randn(shape, device=CUDA) for _ in range(3))
    q[..., 0], k[..., 0] = 1.0, -128.0 * width**0.5  # of all keys alike: no weight changes
    for x in (q, k, v):
        x.requires_grad_()
    kernel, scores = Softmax(members, length, causal, like), Scores(members, length, causal, like)
    pull = torch.randn(shape, device=CUDA)
    with products_in("bf16", CUDA):
        with autocast("bf16", CUDA):
            found = kernel(scaled(kernel, q), k, v.bfloat16(), None)
        rounded = torch.autograd.grad(found, (q, k, v), pull.to(found.dtype))
    exact = scores(scaled(scores, q), k, {}).softmax(-1) @ v
    expected = torch.autograd.grad(exact, (q, k, v), pull)
    assert all(gradient.isfinite().all() for gradient in rounded)
    for one, other in ((found, exact), *zip(rounded[1:], expected[1:], strict=True)):
        torch.testing.assert_close(one.float(), other, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 3e-3), ("bf16", 3e-2)])
def test_long_sequences_of_lower_precision_are_recorded_with_a_compiled_kernel(
    precision: str, tolerance: float, compiles: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever layout rungs leave, of heads of several shapes."""
    task = words(FLEX_TOKENS)
    own = [{"heads": h, "decay": d} for h in (1, 2, 4) for d in (0.0, 1.0, 2.0)]
    own += [{"heads": 2, "window_tokens": 9}, {"heads": 2, "window_tokens": 200}]
    exact, rounded = (
        SwarmTraining(
            task,
            [
                read_member({**OUTER, "d_model": 64, **knobs, "precision": numbers}, 3, task)
                for knobs in own
            ],
            STEPS,
            CUDA,
        )
        for numbers in ("float32", precision)
    )
    compiled = [counters["stats"]["unique_graphs"]]
    for training in (exact, rounded):
        training.advance(7)
        training.keep([0, 1, 4, 7, 9, 10])
        training.advance(13)
        training.keep([1, 2, 4])
        training.advance(STEPS)
        compiled.append(counters["stats"]["unique_graphs"])
    assert rounded.is_recorded
    first, none, after = compiled
    assert none == first, "in float32 other kernels are quicker"
    assert after <= first + 6, "three widths, of few heads and many"
    assert set(compiles) == {FLEX_TOKENS}
    assert "without FlexAttention" not in caplog.text
    torch.testing.assert_close(rounded._losses, exact._losses, rtol=tolerance, atol=0)


def words(length: int) -> Any:
    """Return a task that continues random words."""
    info = TaskInfo(64, None, length, 64, causal=True, per_token=True)
    drawn = torch.randint(0, 64, (64, length + 1), generator=torch.Generator().manual_seed(0))
    split = Split(drawn[:, :-1], drawn[:, 1:])
    return SimpleNamespace(name="words", info=info, train=split, loss=cross_entropy)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 5e-3), ("bf16", 2e-2)])
@pytest.mark.parametrize(("width", "count"), [(8, 3), (24, 6), (64, 16), (64, 18)])
def test_a_compiled_kernel_is_explicit_attention_but_for_rounding(
    width: int, count: int, precision: str, tolerance: float, causal: bool, compiles: list[int]
) -> None:
    """For few heads, for many, for as many as a kernel takes, and for more."""
    length, own = FLEX_TOKENS + 44, [*({"decay": 0.7}, {"window_tokens": (9, 200)}, {})]
    own += [{"dilation": 3}, {"block_tokens": 50}, {"positions": "rotary", "temperature": 0.7}]
    own = (own * 3)[:count]
    members = [
        make_layer("softmax", heads=2, head_dim=width, length=length, causal=causal, **knobs)
        for knobs in own
    ]
    like = torch.zeros((), device=CUDA)
    drawn = torch.Generator(CUDA).manual_seed(0)
    shape = (len(members), 4, 2, length, width)
    q, k, v, pull = (torch.randn(shape, device=CUDA, generator=drawn) for _ in range(4))
    for x in (q, k, v):
        x.requires_grad_()
    kernel, scores = Softmax(members, length, causal, like), Scores(members, length, causal, like)
    with products_in(precision, CUDA):
        with autocast(precision, CUDA):
            values = v.bfloat16() if precision == "bf16" else v
            found = kernel(scaled(kernel, q), k, values, None)
        rounded = [found, *torch.autograd.grad(found, (q, k, v), pull.to(found.dtype))]
    assert compiles == [length]
    exact = scores(scaled(scores, q), k, {}).softmax(-1) @ v
    for one, other in zip(
        rounded, [exact, *torch.autograd.grad(exact, (q, k, v), pull)], strict=True
    ):
        assert float((one.float() - other).norm() / other.norm()) < tolerance


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tokens that compiled kernels were handed, one entry a call."""
    seen, attend = list[int](), Flexible.by

    def noted(self: Flexible, kernel: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        found = attend(self, kernel, q, k, v)
        seen.append(q.shape[3])
        return found

    monkeypatch.setattr(Flexible, "by", noted)
    return seen


def test_a_chunk_for_which_memory_runs_out_is_halved_and_gives_the_same(task: Task) -> None:
    whole = evaluated(task)
    assert not [event for event in whole if isinstance(event, Replan)]
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    evaluated(task)
    height, total = torch.cuda.max_memory_reserved(), device_bytes()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6 * height / total)
    try:
        halved = evaluated(task)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert [event for event in halved if isinstance(event, Replan)]
    expected, found = ([e for e in events if isinstance(e, Outcome)] for events in (whole, halved))
    assert [outcome.trial for outcome in found] == [outcome.trial for outcome in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.state is State.COMPLETE
        # cuBLAS takes other kernels for fewer particles
        assert one.values == pytest.approx(other.values, rel=10 * TOLERANCE)


def device_bytes() -> int:
    return int(torch.cuda.get_device_properties(CUDA).total_memory)


def evaluated(task: Task) -> list[Event]:
    """Return the events of one generation of eight wide particles."""
    count, objective = 8, Objective("loss", "minimize")
    fixed = {"d_model": 256, "layers": 2, "batch_size": 256}
    space = read_space({"lr": {}, "heads": [4, 8]}, fixed, {**MODEL_KNOBS, **TRAINING_KNOBS})
    budget = Budget(particles=count, batch=count, generations=1, steps=8, rungs=(1.0,))
    evaluator = SwarmEvaluator(space, task, (objective,), budget, 0, CUDA)
    positions = np.random.default_rng(3).random((count, 2))
    history = History((objective,))
    generation = evaluator.plan(Proposal(positions, tuple(range(count))), history)

    return list(evaluator.evaluate(generation, history, lambda: False))
