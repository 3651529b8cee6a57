"""What one training really takes of memory: one step of it, watched."""

import torch

from pso_attn.evaluate.training import Member, SwarmTraining
from pso_attn.tasks.task import Task

FLAT_TENSORS = 5  # weights, gradients, two moments, and gradients as they are found


def probed_bytes(member: Member, task: Task, device: torch.device) -> int:
    """Return the bytes that a training holds at the height of a step, by training one step.

    On a GPU as its allocator saw it; on a CPU what the backward pass keeps, and the flat tensors.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        SwarmTraining(task, [member], 1, device).advance(1)
        return torch.cuda.max_memory_allocated(device) - before
    training = SwarmTraining(task, [member], 1, device)
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        training.advance(1)
    weights = training.swarm.storage.weights
    kept.pop(weights.untyped_storage().data_ptr(), None)
    flat = FLAT_TENSORS * weights.numel() * weights.element_size()
    return flat + sum(storage.nbytes() for storage in kept.values())
