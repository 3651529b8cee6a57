"""What one training really takes of memory: a step of it, watched."""

import torch

from pso_attn.evaluate.training import Member, SwarmTraining
from pso_attn.tasks.task import Task

# weights, gradients, two moments; one more holds gradients as they are found
HELD_TENSORS = 4


def probed_bytes(member: Member, task: Task, device: torch.device) -> int:
    """Return the bytes that a training holds at the height of a step, by training one or two.

    On a GPU as its allocator saw it; on a CPU what the backward pass keeps, and the flat tensors.
    Neither counts the data, which a chunk's trainings share.
    """
    training = SwarmTraining(task, [member], 2, device)
    weights = training.swarm.storage.weights
    flat = weights.numel() * weights.element_size()
    if device.type == "cuda":
        training.records = False
        training.advance(1)  # what libraries take, once and for all trainings, comes with it
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        training.advance(2)
        return HELD_TENSORS * flat + torch.cuda.max_memory_allocated(device) - before
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        training.advance(1)
    kept.pop(weights.untyped_storage().data_ptr(), None)
    return (HELD_TENSORS + 1) * flat + sum(storage.nbytes() for storage in kept.values())
