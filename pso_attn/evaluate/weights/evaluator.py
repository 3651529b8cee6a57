"""How good weights are: particles of a generation see the same examples, those of their seeds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pso_attn.evaluate.evaluator import SwarmEvaluator
from pso_attn.types import Event, Generation, History


class WeightEvaluator(SwarmEvaluator):
    """Has the positions of a chunk scored in one batched forward pass."""

    seeds_by_generation = True

    def __init__(
        self, *parts: Any, begin: Callable[[], object], folder: Path | None, **hooks: Any
    ) -> None:
        """Take what a `SwarmEvaluator` takes.

        begin: called before the first evaluation; it leaves the model whose weights are searched
        in `folder`, the run's folder of models, where trainers find it.
        """
        super().__init__(*parts, **hooks)
        self._begin, self._folder = begin, None if folder is None else folder.absolute()

    def evaluate(
        self, generation: Generation, history: History, stop: Callable[[], bool]
    ) -> Iterator[Event]:
        """Yield an outcome for each unfinished candidate, and a new plan where one is needed."""
        self._begin()
        return super().evaluate(generation, history, stop)
