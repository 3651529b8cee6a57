"""Which trainings share a batched job: those of one outer shape, as many as memory holds."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import reduce
from itertools import accumulate, islice
from math import ceil
from operator import add

import torch

from pso_attn.evaluate.device import give_freed_memory_back, is_out_of_memory, memory_budget_bytes
from pso_attn.evaluate.member import Member
from pso_attn.evaluate.own_code import OwnCodeError
from pso_attn.evaluate.probe import probed_bytes
from pso_attn.evaluate.room import Taken, taken
from pso_attn.evaluate.tiles import even_parts
from pso_attn.tasks.task import Task

PROBED_SHARE = 0.1  # of the limit: what is estimated below needs no closer look
ROUNDING = 1e-6  # of a sum of floats, above which a share is another part


def pack(
    candidates: Sequence[Sequence[Member]],
    task: Task,
    steps: int,
    device: torch.device,
    limit_bytes: int | None = None,
    split: str = "validation",
) -> list[list[int]]:
    """Return chunks of indices into `candidates`, in their order; all seeds stay together.

    Memory is estimated; where it may be short, the largest training of a bucket that is within the
    limit is probed, and the estimates of all are scaled by what it took. steps: of each training.
    limit_bytes: of one chunk, by default the device's share. A candidate that alone is above the
    limit gets a chunk of its own. split: that they are scored on, whose answers are held.
    """
    limit = memory_budget_bytes(device) if limit_bytes is None else limit_bytes
    buckets: dict[tuple[int | str, ...], list[int]] = {}
    for index, members in enumerate(candidates):
        buckets.setdefault(members[0].bucket, []).append(index)
    examples = len(getattr(task, split))
    chunks: list[list[int]] = []
    for bucket in buckets.values():
        trainings = [member for index in bucket for member in candidates[index]]
        each = [taken([member], task.info, steps, examples) for member in trainings]
        own_bytes = [one.model_bytes for one in each]
        scale = _probed_scale(trainings, own_bytes, task, device, limit)
        rest = iter(each)
        together: Taken | None = None
        for index in bucket:
            needed = reduce(add, islice(rest, len(candidates[index])))
            joined = needed if together is None else together + needed
            if together is None or joined.estimate_bytes(scale) > limit:
                chunks.append([])
                joined = needed
            together = joined
            chunks[-1].append(index)
    return chunks


def by_memory(needed_bytes: Sequence[int], limit_bytes: int) -> list[list[int]]:
    """Return indices in their order, in runs that need no more than the limit each.

    What alone needs more gets a run of its own.
    """
    room, runs = 0, list[list[int]]()
    for index, needed in enumerate(needed_bytes):
        if needed > room:
            runs.append([])
            room = limit_bytes
        room -= needed
        runs[-1].append(index)
    return runs


def shared_out(
    chunks: Sequence[Sequence[int]], weights: Sequence[float], speeds: Sequence[float]
) -> list[list[int]]:
    """Return the chunks cut so that all workers take about as long.

    weights: about how long each candidate takes. speeds: how quick each worker is. Chunks that
    take long come first, if several train at once, so that none of them is waited for alone.
    """
    if len(speeds) == 1:
        return [list(chunk) for chunk in chunks]
    loads = [sum(weights[index] for index in chunk) for chunk in chunks]
    if min(speeds) < max(speeds):
        largest_first = sorted(zip(loads, chunks, strict=True), key=lambda one: -one[0])
        parts = _by_speed([chunk for _, chunk in largest_first], weights, speeds)
    else:
        total = sum(loads) or 1.0
        parts = [
            part
            for chunk, load in zip(chunks, loads, strict=True)
            for part in even_parts(chunk, max(1, ceil(len(speeds) * load / total - ROUNDING)))
        ]
    return sorted(parts, key=lambda part: -sum(weights[index] for index in part))


def _by_speed(
    chunks: Sequence[Sequence[int]], weights: Sequence[float], speeds: Sequence[float]
) -> list[list[int]]:
    """Return the chunks, laid end to end, cut where the shares of workers end, quickest first."""
    unit = sum(weights[index] for chunk in chunks for index in chunk) / sum(speeds)
    ends = [unit * end for end in accumulate(sorted(speeds, reverse=True))]
    parts, done = list[list[int]](), 0.0
    for chunk in chunks:
        last = None
        for index in chunk:
            worker = bisect_left(ends, done + weights[index] / 2)  # whose share its middle is in
            if worker != last:
                parts.append([])
            parts[-1].append(index)
            last, done = worker, done + weights[index]
    return parts


def _probed_scale(
    members: Sequence[Member],
    estimates: Sequence[int],
    task: Task,
    device: torch.device,
    limit_bytes: int,
) -> float:
    """Return by what to multiply estimates, of each by itself: at least 1.

    It is 1 where memory is not short.
    """
    within = [row for row, estimate in enumerate(estimates) if estimate <= limit_bytes]
    if len(members) == 1 or sum(estimates) <= PROBED_SHARE * limit_bytes or not within:
        return 1.0
    if device.type == "cuda" and not torch.cuda.is_available():
        return 1.0  # another machine's, which halves what does not fit there
    largest = max(within, key=estimates.__getitem__)
    try:
        height = probed_bytes(members[largest], task, device)
    except OwnCodeError:
        return 1.0  # a task of one's own may refuse so few rows; of a training it fails that alone
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return 1.0  # its own training will fail, and say what it needed
    finally:
        give_freed_memory_back()  # to workers, if those train and not this process
    return max(1.0, height / estimates[largest])
