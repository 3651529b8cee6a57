"""Many trainings of modules of a user's own, advanced together from one scoring to the next."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pso_attn.evaluate.module_groups import grouped
from pso_attn.evaluate.module_stack import ModuleStack
from pso_attn.evaluate.optimiser import Recipe, read_recipe
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.evaluate.training import on_device
from pso_attn.tasks.task import Split
from pso_attn.types import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ModuleMember:
    """One training: settings, how it is trained, and the seed of its start and data order."""

    settings: Settings
    recipe: Recipe
    seed: int

    @classmethod
    def of(cls, settings: Settings, seed: int) -> "ModuleMember":
        """Return the training of some settings."""
        return cls(settings, read_recipe(settings), seed)


class ModuleTraining:
    """N trainings in groups; positions count through the groups, in their order."""

    def __init__(
        self,
        factory: OwnFactory,
        members: Sequence[ModuleMember],
        steps: int,
        device: torch.device,
        is_batched: bool = True,
    ) -> None:
        """Start the members from their seeds; `steps` is the full budget.

        is_batched: whether modules that are alike may train as one batch.
        """
        self.steps, self.step = steps, 0
        self._factory, self._device = factory, device
        task = factory.task
        self._splits = {"train": on_device(task.train, device, torch.float32)}
        if device.type != "cpu":
            for one in members:  # looked at once, before any is moved: so what they share is known
                factory.cost(one.settings)
        with factory.running():
            modules = [factory.make(one.settings, one.seed, device) for one in members]

        def make(chosen: Sequence[nn.Module], rows: Sequence[int]) -> ModuleStack:
            own = [members[row] for row in rows]
            recipes, seeds = [one.recipe for one in own], [one.seed for one in own]
            return ModuleStack(
                factory, chosen, recipes, seeds, steps, self._splits["train"], device
            )

        kinds = [
            (one.recipe.batch_size, one.recipe.precision, *([] if is_batched else [row]))
            for row, one in enumerate(members)
        ]
        with factory.running():
            self._groups, self.reason = grouped(modules, kinds, make, self._splits["train"])
        if self.reason is not None:
            log.info("%s: modules that are alike train one by one: %s", factory.name, self.reason)

    @property
    def groups(self) -> list[list[int]]:
        """The members of each group."""
        return [rows for rows, _ in self._groups]

    @property
    def rows(self) -> list[int]:
        """Which of the members stands at each position."""
        return [row for rows, _ in self._groups for row in rows]

    def advance(self, until: int, on_step: Callable[[int], None] | None = None) -> None:
        """Train all up to step `until`; on_step hears of their mean step.

        Raises OwnCodeError where a module raises, as scoring does.
        """
        for done, (_, stack) in enumerate(self._groups, start=1):
            with self._factory.running():
                stack.advance(until)
            if on_step is not None:
                on_step(self.step + (until - self.step) * done // len(self._groups))
        self.step = until

    def score(self, split: str = "validation") -> list[dict[str, float]]:
        """Return the task's metrics on a split for each position."""
        if split not in self._splits:
            data: Split = getattr(self._factory.task, split)
            self._splits[split] = on_device(data, self._device, torch.float32)
        with self._factory.running():
            return [row for _, stack in self._groups for row in stack.score(self._splits[split])]

    def first_bad_steps(self) -> list[int | None]:
        """Return for each position the first step, from 1, whose training loss was not finite."""
        return [step for _, stack in self._groups for step in stack.first_bad_steps()]

    def true_parameters(self, position: int) -> dict[str, Tensor]:
        """Return copies of one module's parameters and buffers, by name."""
        for rows, stack in self._groups:
            if position < len(rows):
                return stack.true_parameters(position)
            position -= len(rows)
        raise IndexError(position)

    def keep(self, positions: Sequence[int]) -> None:
        """Go on with these positions alone, in ascending order; schedules stay as they were."""
        first, groups = 0, []
        for rows, stack in self._groups:
            staying = [p - first for p in positions if first <= p < first + len(rows)]
            first += len(rows)
            if staying and len(staying) < len(rows):
                stack.keep(staying)
            if staying:
                groups.append(([rows[p] for p in staying], stack))
        self._groups = groups

    @property
    def state(self) -> dict[str, Tensor]:
        """All that one training alone carries from step to step."""
        return self._groups[0][1].state

    def restore(self, state: Mapping[str, Tensor], step: int) -> None:
        """Go on with one training alone as after `step` steps that left `state`."""
        self._groups[0][1].restore(state, step)
        self.step = step

    def __str__(self) -> str:
        """Return how it is cut, in words."""
        together = [len(rows) for rows, _ in self._groups if len(rows) > 1]
        alone = sum(len(rows) == 1 for rows, _ in self._groups)
        parts = [f"{size} modules alike as one batch" for size in together]
        parts += [f"{alone} one by one"] if alone else []
        said = f"{len(self.rows)} trainings: {', '.join(parts)}"
        return said if self.reason is None else f"{said} ({self.reason})"
