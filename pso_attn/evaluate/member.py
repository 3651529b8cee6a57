"""One training of a built-in model, before it begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pso_attn.evaluate.optimiser import Recipe, read_recipe
from pso_attn.evaluate.smoothing import check_smoothing
from pso_attn.models import ModelSettings, read_model
from pso_attn.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Member:
    """One training: settings, typed, and the seed of its start, data order and dropout."""

    model: ModelSettings
    recipe: Recipe
    seed: int

    @property
    def bucket(self) -> tuple[int | str, ...]:
        """What must be equal for trainings to share a batched job."""
        return (*self.model.outer_shape, self.recipe.batch_size, self.recipe.precision)


def read_member(settings: Mapping[str, Any], seed: int, task: Task) -> Member:
    """Return a training of these settings; ConfigurationError where they cannot work."""
    recipe = read_recipe(settings)
    check_smoothing(recipe.label_smoothing, task.info)
    return Member(read_model(settings, task.info), recipe, seed)
