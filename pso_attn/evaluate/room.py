"""What trainings take of memory, as estimated, and whether a machine has it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch

from pso_attn.evaluate import order
from pso_attn.evaluate.device import MEMORY_SHARE, memory_budget_bytes
from pso_attn.evaluate.member import Member
from pso_attn.models import model_cost, parameters_of
from pso_attn.models.footprint import BYTES, FLAT, HELD, with_holes
from pso_attn.models.info import TaskInfo

TABLES, SITES = 4, 4  # numbers of 4 bytes a step; and of keys, at most so many a layer


@dataclass(frozen=True)
class Taken:
    """What trainings of one bucket take in a chunk; the sum of two, what both take in the same.

    model_bytes: of each by itself. kept_bytes: for their steps and answers. order_bytes: of the
    order of data, for each of the seeds. stored: numbers of flat storage that are theirs. widths:
    of each parameter's columns, which all rows have as the widest of them needs.
    """

    model_bytes: int
    kept_bytes: int
    order_bytes: int
    seeds: frozenset[int]
    trainings: int
    stored: int
    widths: Mapping[str, int]

    def __add__(self, other: "Taken") -> "Taken":
        """Return what both take in one chunk."""
        return Taken(
            self.model_bytes + other.model_bytes,
            self.kept_bytes + other.kept_bytes,
            self.order_bytes,
            self.seeds | other.seeds,
            self.trainings + other.trainings,
            self.stored + other.stored,
            _widest((self.widths, other.widths)),
        )

    def estimate_bytes(self, scale: float = 1.0) -> float:
        """Return all of it; scale: by what to multiply what each takes by itself."""
        unowned = self.trainings * sum(self.widths.values()) - self.stored
        filled = self.kept_bytes + with_holes(HELD * BYTES * unowned)
        return scale * self.model_bytes + filled + self.order_bytes * len(self.seeds)


def taken(members: Sequence[Member], info: TaskInfo, steps: int, examples: int = 0) -> Taken:
    """Return what trainings that share a bucket take, of so many steps each.

    examples: of the split that they are scored on, whose answers are held together.
    """
    answers = 0 if info.per_token else with_holes(BYTES * examples * info.outputs)
    columns = [_columns(member, info) for member in members]
    stored = [sum(own.values()) for own in columns]
    return Taken(
        sum(_model_bytes(one, info, own) for one, own in zip(members, stored, strict=True)),
        sum(table_bytes(member, steps) + answers for member in members),
        order_bytes(members[0], steps),
        frozenset(member.seed for member in members),
        len(members),
        sum(stored),
        _widest(columns),
    )


def chunk_bytes(members: Sequence[Member], info: TaskInfo, steps: int, examples: int = 0) -> int:
    """Return the estimate for trainings that share a chunk; arguments as in `taken`."""
    return int(taken(members, info, steps, examples).estimate_bytes())


def in_words(members: Sequence[Member], info: TaskInfo, steps: int, examples: int = 0) -> str:
    """Return the estimate for trainings that share a chunk as "about 3 MiB"."""
    needed = chunk_bytes(members, info, steps, examples)
    stepped = needed - chunk_bytes(members, info, 0, examples)
    mostly = f" (most of it for {steps} steps)" if stepped > needed / 2 else ""
    return f"about {needed / 2**20:.0f} MiB{mostly}"


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


def _columns(member: Member, info: TaskInfo) -> dict[str, int]:
    """Return how many numbers of flat storage each parameter of a training takes."""
    return {own.name: prod(own.shape) for own in parameters_of(member.model, info)}


def _widest(columns: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return columns that hold each of those given, as `Layout.of` does."""
    widest: dict[str, int] = {}
    for own in columns:
        for name, width in own.items():
            widest[name] = max(width, widest.get(name, 0))
    return widest


def _model_bytes(member: Member, info: TaskInfo, stored: int) -> int:
    """Return what a training takes by itself, whose model is stored in so many numbers.

    Shared keys and values have columns that no parameter owns, with gradients of their own.
    """
    cost = model_cost(member.model, info, member.recipe.batch_size)
    return cost["memory_bytes"] + with_holes(FLAT * BYTES * (stored - cost["parameters"]))
