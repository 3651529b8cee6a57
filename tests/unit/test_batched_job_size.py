"""What one step of a batched job costs beside arithmetic: operations, and memory kept."""

import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch

from pso_attn.evaluate.alone import AloneTraining
from pso_attn.evaluate.training import SwarmTraining

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "batched_training.py"
CPU = torch.device("cpu")


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


@pytest.mark.parametrize("work", ["nano-64", "micro-16"])
def test_activations_kept_are_at_most_1_4_times_those_of_the_trainings_alone(
    benchmark: ModuleType, work: str
) -> None:
    size = benchmark.WORKS[work]
    task = benchmark.make_task(size)
    members = benchmark.make_members(size, task)
    swarm = SwarmTraining(task, members, 1, CPU)
    rows, keys = swarm._order.at(0), swarm._keys[0]
    together = bytes_kept(
        lambda: task.loss(
            swarm.swarm.forward(task.train.inputs[rows], keys), task.train.targets[rows]
        ),
        [swarm.swarm.storage.weights],
    )
    apart = 0
    for index, member in enumerate(members):
        alone = AloneTraining(task, member, 1, CPU)
        model, own = alone.model.train(), rows[index % len(rows)]
        apart += bytes_kept(
            lambda model=model, own=own: task.loss(
                model(task.train.inputs[own], None)[None], task.train.targets[own][None]
            ),
            [*model.parameters(), *model.buffers()],
        )
    assert 0.5 * apart < together <= 1.4 * apart


def bytes_kept(forward: Callable[[], torch.Tensor], known: list[torch.Tensor]) -> int:
    """Return the bytes that autograd keeps for the backward pass, without those known before."""
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    before = {tensor.untyped_storage().data_ptr() for tensor in known}
    return sum(storage.nbytes() for place, storage in kept.items() if place not in before)
