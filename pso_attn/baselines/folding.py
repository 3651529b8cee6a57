"""A state folded from history one generation at a time, remembered for the next proposal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pso_attn.space import Space
from pso_attn.types import History, Objective, Trial

State = TypeVar("State")
First = Callable[[Space], State]
Step = Callable[[Space, History, State, int], State]


@dataclass(frozen=True, eq=False)
class _Folded(Generic[State]):
    space: Space
    objectives: tuple[Objective, ...]
    generations: tuple[tuple[Trial, ...], ...]
    state: State

    def begins(self, space: Space, history: History) -> bool:
        """Tell whether this is a prefix of that history: the same trials, by identity."""
        return (
            self.space is space
            and self.objectives == history.objectives
            and self.generations == history.generations[: len(self.generations)]
        )


class Fold(Generic[State]):
    """Folds a history, from the beginning unless it continues the one folded last.

    first: the state before anything was evaluated. step: the state after one more generation,
    by its number; it leaves the state that it is given as it is.
    """

    def __init__(self, first: First[State], step: Step[State]) -> None:
        """Remember nothing yet."""
        self._first, self._step = first, step
        self._last: _Folded[State] | None = None

    def __call__(self, space: Space, history: History) -> State:
        """Return the state after the history."""
        last = self._last
        if last is None or not last.begins(space, history):
            last = _Folded(space, history.objectives, (), self._first(space))
        state = last.state
        for generation in range(len(last.generations), len(history)):
            state = self._step(space, history, state, generation)
        self._last = _Folded(space, history.objectives, history.generations, state)
        return state
