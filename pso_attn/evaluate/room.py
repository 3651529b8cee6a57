"""What trainings take of memory, as estimated, and whether a machine has it."""

from collections.abc import Sequence

import torch

from pso_attn.evaluate import order
from pso_attn.evaluate.device import MEMORY_SHARE, memory_budget_bytes
from pso_attn.evaluate.member import Member
from pso_attn.models import model_cost
from pso_attn.models.info import TaskInfo

TABLES, SITES = 4, 4  # numbers of 4 bytes a step; and of keys, at most so many a layer


def chunk_bytes(members: Sequence[Member], info: TaskInfo, steps: int) -> int:
    """Return the estimate for trainings that share a chunk, of so many steps each."""
    return sum(memory_bytes(member, info) for member in members) + steps_bytes(members, steps)


def steps_bytes(members: Sequence[Member], steps: int) -> int:
    """Return what of the estimate grows with the steps."""
    tables = sum(table_bytes(member, steps) for member in members)
    return tables + order_bytes(members[0], steps) * len({member.seed for member in members})


def in_words(members: Sequence[Member], info: TaskInfo, steps: int) -> str:
    """Return the estimate for trainings that share a chunk as "about 3 MiB"."""
    needed, stepped = chunk_bytes(members, info, steps), steps_bytes(members, steps)
    mostly = f" (most of it for {steps} steps)" if stepped > needed / 2 else ""
    return f"about {needed / 2**20:.0f} MiB{mostly}"


def memory_bytes(member: Member, info: TaskInfo) -> int:
    """Return the estimate for one training."""
    return model_cost(member.model, info, member.recipe.batch_size)["memory_bytes"]


def table_bytes(member: Member, steps: int) -> int:
    """Return what a training keeps for every step: its rates, its loss and keys of its dropout."""
    return steps * 4 * (TABLES + SITES * member.model.layers)


def order_bytes(member: Member, steps: int) -> int:
    """Return what the trainings of one seed keep of the order of data."""
    return steps * order.BYTES * member.recipe.batch_size


def module_steps_bytes(batch_size: int, steps: int) -> int:
    """Return what a training of a module of somebody's own keeps for its steps."""
    return steps * (4 * TABLES + order.BYTES * batch_size)


def check_machine(
    members: Sequence[Member], info: TaskInfo, steps: int, device: torch.device
) -> None:
    """Raise MemoryError for trainings together that the machine of a CPU can never hold.

    Linux promises more memory than there is and ends who uses it, so no allocation would fail.
    """
    if device.type == "cpu" and chunk_bytes(members, info, steps) > machine_bytes():
        raise MemoryError(f"the machine has {machine_bytes() / 2**20:.0f} MiB")


def machine_bytes() -> float:
    """Return all the memory that this process may ever have."""
    return memory_budget_bytes(torch.device("cpu")) / MEMORY_SHARE
