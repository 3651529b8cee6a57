"""What one step of a batched job costs beside arithmetic: operations, and memory kept."""

import sys
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.training import SwarmTraining

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "batched_training.py"
CPU = torch.device("cpu")
KINDS: dict[str, list[dict[str, Any]]] = {  # of attention and of models: what each particle has
    "fused": [{"heads": heads} for heads in (1, 2, 4, 8)],
    "masked": [{"heads": 2, "window_tokens": window, "decay": 0.3} for window in (70, 90, 110)],
    "near": [{"heads": 2, "window_tokens": window} for window in (3, 9, 16, 20, 32)],
    "near, narrow": [{"heads": heads, "window_tokens": 9} for heads in (4, 8)],
    "scores": [
        {"heads": 2, "softcap": 3.0, "qk_norm": True, "sink": "learned"},
        {"heads": 2, "adaptive_span": True, "adaptive_temperature": True, "sink": "zero"},
        {"heads": 2, "positions": "rotary", "learned_temperature": True, "dilation": 2},
    ],
    "dropped": [{"heads": heads, "attention_dropout": 0.1, "dropout": 0.1} for heads in (2, 4)],
    **{
        mechanism: [{"mechanism": mechanism, "heads": heads} for heads in (2, 2, 4)]
        for mechanism in ("linear", "block_low_rank", "top_k", "sparse", "talking_heads")
    },
    "retention": [{"mechanism": "retention", "heads": heads} for heads in (2, 2, 4)],
    "low_rank": [{"mechanism": "low_rank", "heads": heads, "rank": 4} for heads in (2, 2, 4)],
    "LSTMs": [{"family": "lstm", "score": score} for score in ("dot", "additive")],
    "LSTMs one by one": [
        {"family": "lstm", "score": score, "recurrence": "one_by_one"}
        for score in ("dot", "additive")
    ],
}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = spec_from_file_location("batched_training", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_sixty_four_particles_of_four_shapes_take_at_most_350_operations_a_step(
    benchmark: ModuleType,
) -> None:
    counts = benchmark.operations(benchmark.WORKS["nano-64"])
    assert counts["swarm"] <= 350
    assert counts["one"] > 100  # the count sees the operations of a plain training too


@pytest.mark.parametrize("work", ["nano-64", "micro-16", "lm-8"])
def test_activations_kept_are_at_most_1_4_times_those_of_the_trainings_alone(
    benchmark: ModuleType, work: str
) -> None:
    size = benchmark.WORKS[work]
    task = benchmark.make_task(size)
    assert 0.5 < ratio_kept(task, benchmark.make_members(size, task)) <= 1.4


@pytest.mark.parametrize(
    ("kind", "causal"),
    [
        (kind, causal)
        for kind in KINDS
        for causal in (False, True)
        if not (causal and kind.startswith(("LSTM", "low_rank")))
        and (causal or kind != "retention")
    ],
)
def test_other_kernels_keep_no_more(benchmark: ModuleType, kind: str, causal: bool) -> None:
    """Among them near blocks, whose neighbours are copies, and whose weights are explicit."""
    length = 16 if kind.startswith("LSTM") else 200  # from 192 blocks go to the fused kernel, too
    size = benchmark.Work(4, length, 16, 2, 4, is_language_model=causal)
    task, outer = benchmark.make_task(size), {"batch_size": 4, "d_model": 16, "hidden": 16}
    members = [read_member({**outer, **own}, seed, task) for seed, own in enumerate(KINDS[kind])]
    assert 0.2 < ratio_kept(task, members) <= 1.4


def ratio_kept(task: Any, members: Sequence[Member]) -> float:
    """Return what one batch keeps, as a multiple of what the members' trainings alone keep."""
    swarm = SwarmTraining(task, members, 1, CPU)
    rows, keys = swarm._order.at(0), swarm._keys[0]
    together = bytes_kept(
        lambda: task.loss(
            swarm.swarm.forward(task.train.inputs[rows], keys), task.train.targets[rows]
        )
    )
    apart = 0
    for index, member in enumerate(members):
        model = AloneTraining(task, member, 1, CPU).model.train()
        own = rows[index % len(rows)]
        apart += bytes_kept(
            lambda model=model, own=own: task.loss(
                model(task.train.inputs[own], None)[None], task.train.targets[own][None]
            )
        )
    return together / apart


def bytes_kept(forward: Callable[[], torch.Tensor]) -> int:
    """Return the bytes that autograd keeps of a pass: not what another pass keeps as well."""
    passes = list[dict[int, torch.UntypedStorage]]()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        passes[-1][storage.data_ptr()] = storage
        return tensor

    for _ in range(2):
        passes.append({})
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward()
    lasting, kept = passes  # weights and masks are in both
    return sum(storage.nbytes() for place, storage in kept.items() if place not in lasting)
