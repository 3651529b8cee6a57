"""What a step may do on a GPU, seen without one: nothing waits, and the number may lie there.

PyTorch's "meta" device has shapes and no numbers, and takes the paths that a GPU takes: whatever
would read a value, or move one between host and device, fails on it or is seen.
"""

import gc
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pso_attn.errors import DeviceError
from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.device import resolve_device
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.module_stack import ModuleStack
from pso_attn.evaluate.optimiser import read_recipe
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.evaluate.precision import products_in
from pso_attn.evaluate.training import SwarmTraining, check_data_fit, on_device
from pso_attn.models import TaskInfo
from pso_attn.models.lstm.recurrence import GATES, Weights, _unadvised, one_by_one
from pso_attn.tasks.classification import cross_entropy
from pso_attn.tasks.forecast_scores import forecast_loss
from pso_attn.tasks.task import Split

CPU, META = torch.device("cpu"), torch.device("meta")
OUTER = {"layers": 2, "d_model": 12, "batch_size": 4, "feedforward_ratio": 2}
EVERYWHERE: list[dict[str, Any]] = [
    {"heads": 2, "dropout": 0.1, "attention_dropout": 0.1, "head_dropout": 0.1},
    {"heads": 2, "kv_heads": 1, "decay": 1.0, "window_tokens": 3, "label_smoothing": 0.1},
    {"heads": 3, "positions": "rotary", "qk_norm": True, "softcap": 5.0, "sink": "learned"},
    {"heads": 3, "positions": "sinusoidal", "learned_temperature": True, "sink": "zero"},
    {"heads": 3, "adaptive_temperature": True, "adaptive_span": True, "dilation": 2},
    {"mechanism": "linear", "heads": 2},
    {"mechanism": "block_low_rank", "heads": 2, "attention_dropout": 0.1},
    {"mechanism": "top_k", "heads": 2, "attention_dropout": 0.1},
    {"mechanism": "sparse", "heads": 2, "block_tokens": 4},
    {"mechanism": "talking_heads", "heads": 2},
]
LOOKING_BACK: list[dict[str, Any]] = [{"mechanism": "retention", "heads": 2}]
BOTH_WAYS: list[dict[str, Any]] = [{"mechanism": "low_rank", "heads": 2}]
LSTM = {"family": "lstm", "layers": 2, "hidden": 4, "bidirectional": True, "batch_size": 4}
LSTMS: list[dict[str, Any]] = [
    {"heads": 2, "dropout": 0.1},
    {"score": "dot", "sentinel": True, "label_smoothing": 0.1},
    {"score": "general", "local": "predictive", "window_tokens": 2},
    {"score": "concat", "local": "monotonic", "window_tokens": 2, "query": "learned"},
    {"score": "self_attentive", "hops": 3, "hop_penalty": 0.3, "last_state": True},
]


class RandomTask:
    """Random words, to be continued, or random vectors, to be classified."""

    name = "random"
    loss = staticmethod(cross_entropy)

    def __init__(self, causal: bool, length: int) -> None:
        rng = np.random.default_rng(0)
        if causal:
            self.info = TaskInfo(7, None, length, 7, causal=True, per_token=True)
            words = torch.from_numpy(rng.integers(0, 7, (32, length + 1)))
            self.train = Split(words[:, :-1], words[:, 1:])
        else:
            self.info = TaskInfo(None, 3, length, 5, causal=False, per_token=False)
            inputs = torch.from_numpy(rng.standard_normal((32, length, 3), dtype=np.float32))
            self.train = Split(inputs, torch.from_numpy(rng.integers(0, 5, 32)))


def begun(causal: bool, device: torch.device = CPU, length: int = 9, **more: Any) -> SwarmTraining:
    task: Any = RandomTask(causal, length)
    kinds = EVERYWHERE + (LOOKING_BACK if causal else BOTH_WAYS)
    members = [read_member({**OUTER, **kind, **more}, 3, task) for kind in kinds]
    return SwarmTraining(task, members, 6, device)


def begun_lstms(device: torch.device = CPU, **more: Any) -> SwarmTraining:
    task: Any = RandomTask(causal=False, length=9)
    members = [read_member({**LSTM, **kind, **more}, 3, task) for kind in LSTMS]
    return SwarmTraining(task, members, 6, device)


COLUMNS = TaskInfo(7, None, 9, 5, causal=False, per_token=False, weighted=True)
PADDED = TaskInfo(None, 3, 9, 5, causal=False, per_token=False, padded=True)
PADDED_WORDS = TaskInfo(7, None, 9, 5, causal=False, per_token=False, padded=True)
ON_FILES = pytest.mark.parametrize(
    "info", [COLUMNS, PADDED, PADDED_WORDS], ids=["columns", "padded", "padded words"]
)


def begun_on(
    info: TaskInfo, device: torch.device = CPU, lstms: bool = False, **more: Any
) -> SwarmTraining:
    """Return trainings on columns of a table, or on sequences of which half is padding."""
    task: Any = RandomTask(causal=False, length=9)
    task.info, drawn = info, torch.Generator().manual_seed(0)
    ids = torch.randint(1, 7, (32, 9), generator=drawn)
    inputs = torch.stack([ids.float(), torch.randn(32, 9, generator=drawn)], -1)
    if info.padded:
        words = info.tokens is not None
        inputs = ids if words else torch.cat([inputs, torch.ones(32, 9, 1)], -1)
        inputs[::2, 4:] = 0
    task.train = Split(inputs, task.train.targets)
    kinds = [kind for kind in EVERYWHERE + BOTH_WAYS if "positions" not in kind]
    own = [{**LSTM, **kind} for kind in LSTMS] if lstms else [{**OUTER, **kind} for kind in kinds]
    members = [read_member({**settings, **more}, 3, task) for settings in own]
    return SwarmTraining(task, members, 6, device)


def alone(*trainings: SwarmTraining) -> Iterator[tuple[AloneTraining, Tensor]]:
    """Yield each training's members as plain modules, with inputs of a batch."""
    for training in trainings:
        for model in training.swarm.settings:
            recipe = read_recipe({"batch_size": 4})
            member = Member(model, recipe, 3)
            yield (
                AloneTraining(training.task, member, 6, CPU, swarm_dropout=True),
                (training.task.train.inputs[:4]),
            )


def flat(training: AloneTraining) -> Tensor:
    return torch.cat([p.detach().flatten() for p in training.model.parameters()])


class OneDevice(TorchDispatchMode):
    """Sees to it that every operation takes and gives tensors of one device alone."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.seen = device, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen += 1
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, Tensor):
                assert leaf.device == self.device, f"{func} on {leaf.device}"
        return result


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [9, 200])
def test_a_step_neither_reads_a_value_nor_leaves_the_device(causal: bool, length: int) -> None:
    training = begun(causal, META, length)
    training.train_step(0)  # takes constants there
    with OneDevice(META) as watching:
        training.train_step(torch.empty(1, dtype=torch.int64, device=META))
    assert watching.seen > 300


def test_trainings_share_the_data_of_a_device_which_goes_with_them() -> None:
    """A dry run has nine at once, and each may take a quarter of the device for its data."""
    first = begun(False, META)
    alone = AloneTraining(first.task, read_member(OUTER, 3, first.task), 6, META)
    assert alone._train is first._train
    other = SwarmTraining(first.task, [read_member(OUTER, 3, first.task)], 6, META, torch.float64)
    assert other._train.inputs.dtype == torch.float64
    there, task = weakref.ref(first._train), first.task
    del first, alone
    gc.collect()
    assert there() is None
    assert SwarmTraining(task, [read_member(OUTER, 3, task)], 6, META)._train.inputs.is_meta


@pytest.mark.parametrize("outer", [OUTER, LSTM], ids=["transformer", "lstm"])
def test_a_step_of_a_forecast_neither_reads_a_value_nor_leaves_the_device(
    outer: dict[str, Any],
) -> None:
    task: Any = RandomTask(causal=False, length=9)
    task.info = TaskInfo(None, 3, 9, 1, causal=False, per_token=True, horizon=2)
    task.loss, task.train = forecast_loss, Split(task.train.inputs, torch.ones(32, 4))
    kinds = [{"heads": 2, "dropout": 0.1}, {"heads": 1}]
    members = [read_member({**outer, **kind}, 3, task) for kind in kinds]
    training = SwarmTraining(task, members, 6, META)
    training.train_step(0)
    with OneDevice(META) as watching:
        training.train_step(torch.empty(1, dtype=torch.int64, device=META))
    assert watching.seen > 100


@pytest.mark.parametrize(
    "own",
    [{"recurrence": "batched"}, {"recurrence": "one_by_one", "layers": 1}],  # torch is slow there
    ids=lambda own: own["recurrence"],
)
def test_a_step_of_lstms_neither_reads_a_value_nor_leaves_the_device(own: dict[str, Any]) -> None:
    training = begun_lstms(META, **own)
    training.train_step(0)
    with OneDevice(META) as watching:
        training.train_step(torch.empty(1, dtype=torch.int64, device=META))
    assert watching.seen > 300


@pytest.mark.parametrize(
    ("info", "lstms"),
    [
        (COLUMNS, False),
        *[(info, lstms) for info in (PADDED, PADDED_WORDS) for lstms in (False, True)],
    ],
)
def test_a_step_on_columns_or_padding_does_not_either(info: TaskInfo, lstms: bool) -> None:
    training = begun_on(info, META, lstms)
    training.train_step(0)
    with OneDevice(META) as watching:
        training.train_step(torch.empty(1, dtype=torch.int64, device=META))
    assert watching.seen > 300


@pytest.mark.parametrize("info", [PADDED, PADDED_WORDS], ids=["padded", "padded words"])
def test_lengths_that_torchs_lstm_wants_on_the_host_are_not_recorded(info: TaskInfo) -> None:
    training = begun_on(info, lstms=True, recurrence="one_by_one")
    assert not training.records
    training.keep([0])
    assert not training.records
    assert begun_on(info, lstms=True, recurrence="batched").records
    assert begun_lstms(recurrence="one_by_one").records


@pytest.mark.parametrize("count", [1, 3], ids=["alone", "as one batch"])
def test_steps_of_modules_of_ones_own_do_not_either(count: int) -> None:
    task: Any = RandomTask(causal=False, length=9)

    def made(settings: Any, info: Any) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(27, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))

    factory = OwnFactory(made, "mine:f", task)
    modules = [factory.make({}, seed).to(META) for seed in range(count)]
    recipes = [read_recipe({"batch_size": 4, "label_smoothing": 0.1})] * count
    train = on_device(task.train, META, torch.float32)
    stack = ModuleStack(factory, modules, recipes, range(count), 6, train, META)
    stack.advance(1)  # takes constants there
    with OneDevice(META) as watching:
        stack.advance(6)
    assert watching.seen > 300


@pytest.mark.parametrize("causal", [False, True])
def test_a_step_of_a_plain_module_does_not_either(causal: bool) -> None:
    """Else a graph of it could not be recorded, and it would be a weak peer on a GPU."""
    for training, inputs in alone(begun(causal), begun_lstms(), *map(begun_on, (COLUMNS, PADDED))):
        model, there = training.model.to(META).train(), inputs.to(META)
        with OneDevice(META) as watching:
            logits = model(there)
            loss = logits.sum() if model.penalty is None else logits.sum() + model.penalty
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert watching.seen > 50


@pytest.mark.parametrize("causal", [False, True])
def test_plain_modules_train_in_bf16_as_a_swarm_does(causal: bool) -> None:
    begins = (begun(causal), begun_lstms(), *map(begun_on, (COLUMNS, PADDED, PADDED_WORDS)))
    for exact, inputs in alone(*begins):
        recipe = replace(exact.member.recipe, precision="bf16")
        member = replace(exact.member, recipe=recipe)
        rounded = AloneTraining(exact.task, member, 6, CPU, swarm_dropout=True)
        rounded.advance(1)
        exact.advance(1)
        assert not torch.equal(flat(rounded), flat(exact))
        torch.testing.assert_close(flat(rounded), flat(exact), rtol=0, atol=3e-3)
        cast = inputs.bfloat16() if inputs.is_floating_point() else inputs
        assert rounded.model.bfloat16()(cast).isfinite().all(), "whole in bf16, as a person may"


def test_what_stands_beside_a_particle_does_not_round_what_it_adds_up_in_bf16() -> None:
    """Positions that others learn are float32, and would have made all embeddings so."""
    task: Any = RandomTask(causal=False, length=9)
    own = {**OUTER, "heads": 2, "positions": "rotary", "precision": "bf16"}
    members = [read_member({**own, **more}, 3, task) for more in ({}, {"positions": "learned"})]
    alone_, together = (SwarmTraining(task, some, 6, CPU) for some in (members[:1], members))
    alone_.advance(6)
    together.advance(6)
    row = together.rows.index(0)
    torch.testing.assert_close(together._losses[:, row], alone_._losses[:, 0], rtol=0, atol=5e-6)


def test_smoothed_targets_of_a_plain_module_may_hold_what_is_the_tasks_own() -> None:
    task: Any = RandomTask(causal=False, length=9)
    wider = torch.stack([task.train.targets, task.train.targets], 1)
    task.train, exact = Split(task.train.inputs, wider), task.train
    task.loss = lambda logits, targets: cross_entropy(logits, targets[..., 0])
    member = read_member({**OUTER, "heads": 2, "label_smoothing": 0.2}, 3, task)
    found = AloneTraining(task, member, 6, CPU, swarm_dropout=True)
    found.advance(2)
    task.train, task.loss = exact, cross_entropy
    truth = AloneTraining(task, member, 6, CPU, swarm_dropout=True)
    truth.advance(2)
    assert torch.equal(flat(found), flat(truth))


def test_cudnn_does_not_advise_to_keep_weights_that_particles_cannot_keep_together() -> None:
    said = "RNN module weights are not part of single contiguous chunk of memory."
    with _unadvised(torch.device("cuda")):
        warnings.warn(said, UserWarning, stacklevel=1)
        with pytest.warns(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)
    with _unadvised(CPU), pytest.warns(UserWarning, match=said):
        warnings.warn(said, UserWarning, stacklevel=1)


@pytest.mark.parametrize("recurrence", ["batched", "one_by_one"])
def test_bf16_rounds_products_of_lstms_and_keeps_weights_and_losses_in_float32(
    recurrence: str,
) -> None:
    exact = begun_lstms(recurrence=recurrence)
    rounded = begun_lstms(recurrence=recurrence, precision="bf16")
    exact.advance(6)
    rounded.advance(6)
    assert all(tensor.dtype == torch.float32 for tensor in rounded.state.values())
    assert not torch.equal(exact._losses, rounded._losses)
    torch.testing.assert_close(rounded._losses, exact._losses, rtol=0.03, atol=0.0)


@ON_FILES
def test_bf16_trains_on_columns_and_padding_as_float32_does(info: TaskInfo) -> None:
    exact, rounded = begun_on(info), begun_on(info, precision="bf16")
    exact.advance(6)
    rounded.advance(6)
    assert not torch.equal(exact._losses, rounded._losses)
    torch.testing.assert_close(rounded._losses, exact._losses, rtol=0.03, atol=0.0)


@pytest.mark.parametrize("causal", [False, True])
def test_a_step_whose_number_lies_on_the_device_moves_weights_to_the_same_floats(
    causal: bool,
) -> None:
    told, looked_up = begun(causal), begun(causal)
    told.advance(6)
    number = torch.tensor([0])
    for _ in range(6):
        looked_up.train_step(number)
        number += 1
    for name, tensor in told.state.items():
        assert torch.equal(tensor, looked_up.state[name]), name
    assert torch.equal(told._losses, looked_up._losses)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("length", "steps"), [(9, 6), (130, 2)])
def test_bf16_rounds_products_and_keeps_weights_and_losses_in_float32(
    causal: bool, length: int, steps: int
) -> None:
    exact, rounded = begun(causal, CPU, length), begun(causal, CPU, length, precision="bf16")
    exact.advance(steps)
    rounded.advance(steps)
    assert all(tensor.dtype == torch.float32 for tensor in rounded.state.values())
    assert rounded._losses.dtype == torch.float32
    assert not torch.equal(exact._losses[:steps], rounded._losses[:steps])
    torch.testing.assert_close(rounded._losses, exact._losses, rtol=0.03, atol=0.0)


def test_trainings_of_different_precision_share_no_batch() -> None:
    task: Any = RandomTask(causal=False, length=4)
    exact, rounded = (read_member({**OUTER, "precision": p}, 0, task) for p in ("float32", "bf16"))
    assert exact.bucket != rounded.bucket


def test_tf32_on_a_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match='"tf32" was asked for on cpu, and only CUDA devices'):
        begun(causal=False, precision="tf32")


def test_data_that_take_more_than_their_share_of_a_device_are_refused() -> None:
    split = Split(torch.zeros(2**10, 510), torch.zeros(2**10, dtype=torch.int64))  # 2 MiB
    check_data_fit(split, 8 * 2**20, torch.device("cuda"))
    with pytest.raises(DeviceError, match="1024 examples take 2 MiB, more than 25% of the 8 MiB"):
        check_data_fit(split, 8 * 2**20 - 4, torch.device("cuda"))


@pytest.mark.parametrize("name", ["gpu", "cpu:", "cuda:", "cuda:first", "cuda:-1", ""])
def test_a_device_that_there_cannot_be_is_named(name: str) -> None:
    with pytest.raises(DeviceError, match=f'^device "{name}" is unknown; choose auto, cpu, cuda'):
        resolve_device(name)


@pytest.mark.parametrize("theirs", ["none", "tf32"])
def test_products_on_cuda_round_as_asked_and_afterwards_as_before(theirs: str) -> None:
    """Those of cuDNN too, which round to tf32 by default; whatever anybody has set before."""
    cudnn: Any = torch.backends.cudnn
    kinds = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [kind.fp32_precision for kind in kinds]
    assert "tf32" in before
    try:
        for kind in kinds:
            kind.fp32_precision = theirs
        for precision, expected in (("float32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")):
            with products_in(precision, torch.device("cuda")):
                assert {kind.fp32_precision for kind in kinds} == {expected}
                assert not torch.backends.cuda.cudnn_sdp_enabled()
            assert {kind.fp32_precision for kind in kinds} == {theirs}
            assert torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        for kind, earlier in zip(kinds, before, strict=True):
            kind.fp32_precision = earlier


@pytest.mark.parametrize("theirs", ["highest", "high", "medium"])
def test_the_older_switches_of_products_which_compilers_read_say_the_same(theirs: str) -> None:
    cudnn: Any = torch.backends.cudnn
    cpus: Any = torch.backends.mkldnn
    kinds = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, cpus.matmul)
    before = [torch.get_float32_matmul_precision(), *(kind.fp32_precision for kind in kinds)]
    try:
        torch.set_float32_matmul_precision(theirs)
        cpus.matmul.fp32_precision = "none"  # as at first, and not as the older sets it
        known = [theirs, *(kind.fp32_precision for kind in kinds)]
        for precision, expected in (("float32", "highest"), ("tf32", "high"), ("bf16", "highest")):
            with products_in(precision, torch.device("cuda")):
                assert torch.get_float32_matmul_precision() == expected
                assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
                assert cudnn.allow_tf32 == (precision == "tf32")
            found = torch.get_float32_matmul_precision()
            assert [found, *(kind.fp32_precision for kind in kinds)] == known
    finally:
        torch.set_float32_matmul_precision(before[0])
        for kind, earlier in zip(kinds, before[1:], strict=True):
            kind.fp32_precision = earlier


def test_torchs_lstm_is_handed_weights_that_cudnn_can_copy_through_a_flat_view(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handed = list[Tensor]()

    def lstm(x: Tensor, states: Any, weights: list[Tensor], *rest: Any) -> Any:
        handed.extend(weights)
        return x.new_empty(*x.shape[:2], 2 * 4), *states

    monkeypatch.setattr(torch._VF, "lstm", lstm)
    wide = 2 * GATES * 4  # both directions of 4 units
    biases = [torch.empty(3, wide, device=META) for _ in range(2)]
    weights = Weights(
        torch.empty(3, 5, wide, device=META),
        torch.empty(3, 4, wide, device=META),
        (biases[0], biases[1]),
    )
    one_by_one(torch.empty(1, 6, 2, 5, device=META), weights, None)
    assert len(handed) == 3 * 2 * 4
    assert all(weight.is_contiguous() for weight in handed)
