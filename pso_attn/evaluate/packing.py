"""Which trainings share a batched job: those of one outer shape, as many as memory holds."""

from collections.abc import Sequence

from pso_attn.evaluate.training import Member
from pso_attn.models import transformer_cost
from pso_attn.models.info import TaskInfo


def pack(
    candidates: Sequence[Sequence[Member]], info: TaskInfo, limit_bytes: int
) -> list[list[int]]:
    """Return chunks of indices into `candidates`, in their order; all seeds stay together.

    A candidate that alone is estimated above the limit gets a chunk of its own.
    """
    buckets: dict[tuple[int, ...], list[int]] = {}
    for index, members in enumerate(candidates):
        buckets.setdefault(members[0].bucket, []).append(index)
    chunks: list[list[int]] = []
    for bucket in buckets.values():
        room = 0
        for index in bucket:
            needed = sum(memory_bytes(member, info) for member in candidates[index])
            if needed > room:
                chunks.append([])
                room = limit_bytes
            room -= needed
            chunks[-1].append(index)
    return chunks


def memory_bytes(member: Member, info: TaskInfo) -> int:
    """Return the estimate for one training."""
    return transformer_cost(member.model, info, member.recipe.batch_size)["memory_bytes"]
