"""Which of a family's ways of computing is the quicker one here: measured before a search.

The ways agree up to rounding. A search that goes on must not round otherwise than it began, so
what is chosen is a knob, and stands in the run's configuration like any other.
"""

from collections.abc import Collection

import torch

from pso_attn.errors import ConfigurationError
from pso_attn.evaluate.device import give_freed_memory_back, is_out_of_memory, memory_budget_bytes
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.planner import CALIBRATED, Planner
from pso_attn.evaluate.room import chunk_bytes
from pso_attn.models import family_of
from pso_attn.space import Space
from pso_attn.tasks.task import Task

MOST = 16  # trainings that are timed together


def quickest_way(
    space: Space, named: Collection[str], task: Task, batch: int, device: torch.device
) -> dict[str, str]:
    """Return the knob that says who computes the space's defaults, at its quickest value.

    named: the knobs that a person named. batch: how many train at once. Nothing where the family
    has one way alone, where the knob is named, and where the device is a cluster's and not here.
    """
    defaults = space.settings(space.decode(space.starts[0]))
    knob = family_of(defaults).ways
    is_elsewhere = device.type == "cuda" and not torch.cuda.is_available()
    if knob is None or knob.name in named or is_elsewhere:
        return {}
    count = min(batch, MOST)
    try:
        members = {
            str(way): [
                read_member({**defaults, knob.name: way}, seed, task) for seed in range(count)
            ]
            for way in knob.choices
        }
    except ConfigurationError:  # the defaults of this space are no model; others may be
        return {}
    room = memory_budget_bytes(device)
    while count > 1 and any(
        chunk_bytes(own[:count], task.info, CALIBRATED) > room for own in members.values()
    ):
        count //= 2
    members = {way: own[:count] for way, own in members.items()}
    try:
        return {knob.name: Planner(task, device).quickest(members)}
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return {}  # trainings will say what they needed
    finally:
        give_freed_memory_back()  # to workers, if those train and not this process
