"""Memory: estimated, probed, chunked, halved when it runs out; no generation is lost."""

import gc
import re
import weakref
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pso_attn.errors import DeviceError
from pso_attn.evaluate import TRAINING_KNOBS, SwarmEvaluator, rehearse
from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.device import is_out_of_memory
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.own_code import OwnCodeError
from pso_attn.evaluate.packing import pack
from pso_attn.evaluate.probe import probed_bytes
from pso_attn.evaluate.room import chunk_bytes, taken
from pso_attn.evaluate.training import SwarmTraining
from pso_attn.models import MODEL_KNOBS, SwarmTransformer
from pso_attn.models.footprint import SCORED_TOGETHER, with_holes
from pso_attn.space import read_space
from pso_attn.tasks import Task, make_task
from pso_attn.types import (
    Budget,
    Event,
    Generation,
    History,
    Objective,
    Outcome,
    Proposal,
    Replan,
    State,
)

CPU = torch.device("cpu")
LOSS = Objective("loss", "minimize")
COUNT = 5
BUDGET = Budget(particles=COUNT, batch=COUNT, generations=1, steps=12, rungs=(1.0,))
KNOBS = {**MODEL_KNOBS, **TRAINING_KNOBS}
SPACE = read_space({"lr": {}, "heads": [1, 2, 4]}, {"d_model": 16, "layers": 1}, KNOBS)
ALLOCATION = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


def planned(task: Task) -> tuple[SwarmEvaluator, Generation]:
    evaluator = SwarmEvaluator(SPACE, task, (LOSS,), BUDGET, 0, CPU)
    positions = np.random.default_rng(3).random((COUNT, 2))
    proposal = Proposal(positions, tuple(range(COUNT)))
    return evaluator, evaluator.plan(proposal, History((LOSS,)))


def evaluated(task: Task) -> list[Event]:
    evaluator, generation = planned(task)
    return list(evaluator.evaluate(generation, History((LOSS,)), lambda: False))


def room_for(monkeypatch: pytest.MonkeyPatch, particles: int) -> None:
    """Let allocation fail, as it does on a CPU, where more particles train together."""
    forward = SwarmTransformer.forward

    def fails(self: SwarmTransformer, *args: Any) -> torch.Tensor:
        if len(self) > particles:
            raise RuntimeError(ALLOCATION)
        return forward(self, *args)

    monkeypatch.setattr(SwarmTransformer, "forward", fails)


def test_a_chunk_that_runs_out_of_memory_is_halved_until_it_fits_and_gives_the_same(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [event for event in evaluated(task) if isinstance(event, Outcome)]
    room_for(monkeypatch, 2)
    events = evaluated(task)
    plans = [event.chunks for event in events if isinstance(event, Replan)]
    assert plans == [((0, 1), (2, 3, 4)), ((0, 1), (2,), (3, 4))]
    outcomes = [event for event in events if isinstance(event, Outcome)]
    assert [o.trial for o in outcomes] == [o.trial for o in expected] == list(range(COUNT))
    for one, other in zip(outcomes, expected, strict=True):
        assert (one.state, one.values, one.curve) == (other.state, other.values, other.curve)


def test_what_did_not_fit_is_freed_before_its_halves_train(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a collection of cycles, which a full device does not ask for."""
    begun, start = list[weakref.ref[SwarmTraining]](), SwarmTraining.__init__

    def counted(self: SwarmTraining, *args: Any, **more: Any) -> None:
        assert not [one for one in begun if one() is not None]
        begun.append(weakref.ref(self))
        start(self, *args, **more)

    monkeypatch.setattr(SwarmTraining, "__init__", counted)
    room_for(monkeypatch, 2)
    gc.collect()
    gc.disable()
    try:
        evaluated(task)
    finally:
        gc.enable()
    assert len(begun) == 5


def test_a_particle_that_does_not_fit_alone_fails_and_says_how_much_it_needed(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(monkeypatch, 0)
    outcomes = [event for event in evaluated(task) if isinstance(event, Outcome)]
    assert len(outcomes) == COUNT
    for outcome in outcomes:
        assert outcome.state is State.FAIL
        assert outcome.error is not None
        needed = round(outcome.metrics["memory_bytes"] / 2**20)
        assert f"does not fit into memory: about {needed} MiB are needed on cpu" in outcome.error


def test_another_error_is_not_taken_for_a_lack_of_memory(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(SwarmTransformer, "forward", fails)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        evaluated(task)


def test_a_rehearsal_that_runs_out_of_memory_says_so_in_a_sentence(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, generation = planned(task)
    room_for(monkeypatch, 0)
    with pytest.raises(DeviceError, match=r"memory ran out on cpu: .* needs about \d+ MiB"):
        rehearse(generation, task, BUDGET, CPU)


def test_chunks_are_as_large_as_the_limit_allows(task: Task) -> None:
    members = [[read_member({"heads": 4}, seed, task)] for seed in range(7)]
    one = taken([members[0][0]], task.info, 0).model_bytes
    roomy = pack(members, task, 0, CPU, 100 * one)
    assert roomy == [list(range(7))]
    tight = pack(members, task, 0, CPU, 7 * one // 2)  # it is probed: less or more than estimated
    assert tight == [[0, 1, 2], [3, 4, 5], [6]]
    assert pack(members, task, 0, CPU, one // 2) == [[index] for index in range(7)]


def test_a_chunk_is_packed_by_the_estimate_that_is_told_of_it(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows are as wide as the widest, and answers to the validation split are held."""
    monkeypatch.setattr("pso_attn.evaluate.packing.probed_bytes", lambda *_: 0)
    shapes = [{"heads": 2}, {"heads": 16}, {"heads": 1}, {"heads": 2, "kv_heads": 1}]
    members = [[read_member({"head_dim": 8, **own}, 1, task)] for own in shapes]
    together = [member for (member,) in members]
    examples = len(task.validation)
    limit = chunk_bytes(together, task.info, 7, examples)
    assert limit > sum(chunk_bytes([member], task.info, 7, examples) for member in together)
    assert chunk_bytes(together, task.info, 7) < limit - 4 * 4 * examples * task.info.outputs
    assert pack(members, task, 7, CPU, limit) == [[0, 1, 2, 3]]
    assert pack(members, task, 7, CPU, limit - 1) == [[0, 1, 2], [3]]


@pytest.mark.parametrize(
    ("family", "name", "values"),
    [
        ("transformer", "batch_size", (16, 32)),
        ("transformer", "precision", ("float32", "bf16")),
        ("transformer", "layers", (1, 2)),
        ("transformer", "d_model", (16, 32)),
        ("transformer", "feedforward_ratio", (1, 2)),
        ("lstm", "layers", (1, 2)),
        ("lstm", "hidden", (8, 16)),
        ("lstm", "bidirectional", (False, True)),
        ("lstm", "recurrence", ("batched", "one_by_one")),
    ],
)
def test_trainings_of_another_shape_share_no_chunk(
    task: Task, family: str, name: str, values: tuple[Any, Any]
) -> None:
    one, other = ({"family": family, name: value} for value in values)
    members = [[read_member(settings, 0, task)] for settings in (one, other, one)]
    assert pack(members, task, 0, CPU, 2**40) == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("height", "chunks"), [(2, [[0, 1], [2, 3], [4, 5]]), (0.5, [[0, 1, 2, 3], [4, 5]])]
)
def test_where_memory_is_short_a_probe_corrects_the_estimate(
    task: Task, monkeypatch: pytest.MonkeyPatch, height: float, chunks: list[list[int]]
) -> None:
    """Upwards alone: a probe may miss what a longer training takes."""
    members = [[read_member({"heads": 4}, seed, task)] for seed in range(6)]
    one = taken([members[0][0]], task.info, 0).model_bytes
    monkeypatch.setattr(
        "pso_attn.evaluate.packing.probed_bytes", lambda member, task, device: height * one
    )
    four = [member for (member,) in members[:4]]
    limit = chunk_bytes(four, task.info, 0, len(task.validation))
    assert pack(members, task, 0, CPU, limit) == chunks


def test_a_probe_whose_few_rows_a_task_of_ones_own_refuses_leaves_the_estimate(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_all_rows(*_: Any) -> Any:
        raise OwnCodeError("mine:Task.score raised ValueError: one class alone")

    monkeypatch.setattr(type(task), "score", of_all_rows)
    members = [[read_member({"heads": 4}, seed, task)] for seed in range(2)]
    limit = chunk_bytes([one for (one,) in members], task.info, 0, len(task.validation))
    assert pack(members, task, 0, CPU, limit) == [[0, 1]]


def test_what_a_probe_took_of_a_gpu_is_free_for_workers(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(*_: Any) -> int:
        raise MemoryError

    given = list[str]()
    monkeypatch.setattr("pso_attn.evaluate.packing.probed_bytes", probe)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given.append("back"))
    members = [[read_member({"heads": 4}, seed, task)] for seed in range(2)]
    pack(members, task, 0, CPU, taken([members[0][0]], task.info, 0).model_bytes)
    assert given == ["back"]


def test_only_what_is_within_the_limit_is_probed(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux a probe of more than there is would end the process that asks."""
    probed = list[int]()

    def probe(member: Member, *_: Any) -> int:
        probed.append(member.model.attention[0].head_dim)
        return 2 * taken([member], task.info, 0).model_bytes

    monkeypatch.setattr("pso_attn.evaluate.packing.probed_bytes", probe)
    wide = [[read_member({"head_dim": 8 * 10**k}, 0, task)] for k in (0, 1, 0, 9)]
    one, other = (taken([wide[k][0]], task.info, 0).model_bytes for k in (0, 1))
    both = chunk_bytes([wide[0][0], wide[1][0]], task.info, 0, len(task.validation))
    assert pack(wide, task, 0, CPU, one + other + both) == [[0, 1], [2], [3]]
    assert probed == [80]
    assert pack(wide[3:] * 2, task, 0, CPU, other) == [[0], [1]]
    assert probed == [80]


@pytest.mark.parametrize(
    ("settings", "steps", "said"),
    [
        (
            {"head_dim": 10**9},
            12,
            r"about \d{8,} MiB are needed on cpu \(the machine has \d+ MiB\)",
        ),
        ({"d_model": 3 * 10**9}, 12, r"about \d{8,} MiB are needed on cpu"),
        ({}, 10**12, r"about \d{8,} MiB \(most of it for 1000000000000 steps\) are needed on cpu"),
    ],
)
def test_what_no_machine_holds_fails_before_it_is_allocated_and_says_what_it_needed(
    task: Task, settings: dict[str, Any], steps: int, said: str
) -> None:
    """The search goes on with the others, and a rehearsal and a training alone are refused."""
    fixed = {"d_model": 16, "layers": 1, **settings}
    space = read_space({"lr": {}}, fixed, KNOBS)
    budget = replace(BUDGET, steps=steps)
    evaluator = SwarmEvaluator(space, task, (LOSS,), budget, 0, CPU)
    proposal = Proposal(np.full((COUNT, 1), 0.5), tuple(range(COUNT)))
    generation = evaluator.plan(proposal, History((LOSS,)))
    events = evaluator.evaluate(generation, History((LOSS,)), lambda: False)
    errors = [event.error for event in events if isinstance(event, Outcome)]
    assert len(errors) == COUNT
    for error in errors:
        assert error is not None
        assert re.search(f"one particle alone does not fit into memory: {said}", error)
    with pytest.raises(DeviceError, match=said.partition(" are needed")[0]):
        rehearse(generation, task, budget, CPU)
    with pytest.raises(MemoryError, match=r"the machine has \d+ MiB"):
        SwarmTraining(task, [read_member(space.settings({}), 0, task)], steps, CPU)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_seeds_of_a_particle_have_to_fit_together_however_they_are_cut(
    task: Task, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    budget = replace(BUDGET, particles=2, batch=1, seeds=8)
    evaluator = SwarmEvaluator(SPACE, task, (LOSS,), budget, 0, CPU)
    generation = evaluator.plan(Proposal(np.full((1, 2), 0.5), (0,)), History((LOSS,)))
    (candidate,) = generation.candidates
    members = [read_member(candidate.settings, seed, task) for seed in candidate.seeds]
    needed = chunk_bytes(members, task.info, budget.steps, len(task.validation))
    monkeypatch.setattr("pso_attn.evaluate.room.machine_bytes", lambda: 0.6 * needed)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    (outcome,) = evaluator.evaluate(generation, History((LOSS,)), lambda: False)
    assert isinstance(outcome, Outcome)
    assert outcome.error is not None
    told = f"about {needed / 2**20:.0f} MiB"
    assert f"{told} are needed" in outcome.error
    with pytest.raises(DeviceError, match=f"needs {told} for its 8 seeds; .*fewer budget.seeds"):
        rehearse(generation, task, budget, CPU)


def test_a_rehearsal_counts_the_order_of_data_once_for_all_who_share_it(task: Task) -> None:
    _, generation = planned(task)
    assert len({candidate.seeds for candidate in generation.candidates}) == 1
    (chunk,) = generation.chunks
    members = [read_member(c.settings, c.seeds[0], task) for c in generation.candidates]
    found = rehearse(generation, task, BUDGET, CPU)
    needed = chunk_bytes(members, task.info, BUDGET.steps, len(task.validation))
    assert found["memory_bytes_per_chunk"] == needed
    assert found["memory_bytes_per_chunk"] < len(chunk) * found["memory_bytes_per_training"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"heads": 8, "attention_dropout": 0.1, "dropout": 0.1, "batch_size": 64},
        {"mechanism": "linear", "d_model": 64},
        {"mechanism": "talking_heads", "layers": 4},
        {"family": "lstm", "hidden": 32},
        {"family": "lstm", "hidden": 16, "bidirectional": True, "layers": 2, "dropout": 0.1},
        {"family": "lstm", "hidden": 64, "score": "self_attentive", "hops": 4},
    ],
)
def test_the_estimate_is_near_what_a_probe_finds(task: Task, settings: dict[str, Any]) -> None:
    member = read_member(settings, 0, task)
    estimate = taken([member], task.info, 0).model_bytes
    assert 0.75 * estimate < probed_bytes(member, task, CPU) < 1.2 * estimate


def test_a_probe_on_a_gpu_counts_neither_the_data_nor_what_libraries_keep(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by an allocator of a training that takes what a real one does, one after another."""
    member = read_member({}, 0, task)
    weights, data, workspace, found = torch.zeros(1, 250), 10**6, 10**5, 777
    scored = 123  # beside what a step takes
    held = 4 * 4 * weights.numel()
    now = peak = 0

    def take(count: int) -> None:
        nonlocal now, peak
        now += count
        peak = max(peak, now)

    class Watched:
        swarm = SimpleNamespace(storage=SimpleNamespace(weights=weights))
        records = True

        def __init__(self, *_: Any) -> None:
            self.step = 0
            take(data + held)

        def advance(self, until: int) -> None:
            assert not self.records, "recording is no part of a step"
            for step in range(self.step, until):
                take(workspace if step == 0 else 0)
                take(found)
                take(-found)
            self.step = until

    def forget(device: torch.device) -> None:
        nonlocal peak
        peak = now

    def score(*_: Any) -> None:
        take(found + scored)
        take(-found - scored)

    monkeypatch.setattr("pso_attn.evaluate.probe.SwarmTraining", Watched)
    monkeypatch.setattr("pso_attn.evaluate.probe.score_split", score)
    monkeypatch.setattr("pso_attn.evaluate.probe.on_device", lambda split, *_: split)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: now)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", forget)
    assert probed_bytes(member, task, torch.device("cuda")) == with_holes(held + found + scored)


def test_a_training_alone_is_scored_in_batches_as_a_swarm_is(task: Task) -> None:
    alone = AloneTraining(task, read_member({}, 0, task), 2, CPU)
    sizes = list[int]()
    alone.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    found = alone.score()
    assert max(sizes) <= SCORED_TOGETHER < len(task.validation)
    assert sum(sizes) == len(task.validation)
    with torch.no_grad():
        whole = task.score(
            alone.model(task.validation.inputs)[None], task.validation.targets[None]
        )
    assert found == pytest.approx({name: float(value) for name, value in whole.items()})


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        (ALLOCATION, True),
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", True),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", True),
        ("CUDA error: invalid configuration argument", False),
    ],
)
def test_every_way_to_say_that_memory_is_short_is_known(said: str, is_memory: bool) -> None:
    assert is_out_of_memory(RuntimeError(said)) is is_memory
    assert not is_out_of_memory(ValueError(said))
