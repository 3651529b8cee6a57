"""A state folded from history one generation at a time, and kept for the next proposal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pso_attn.space import Space
from pso_attn.types import History, Objective, Trial

State = TypeVar("State")


@dataclass(frozen=True, eq=False)
class Fold(Generic[State]):
    """The state after the first generations of some history: a cache, equal to folding anew."""

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


def folded(
    known: Fold[State] | None,
    space: Space,
    history: History,
    first: Callable[[Space], State],
    step: Callable[[Space, History, State, int], State],
) -> Fold[State]:
    """Return the fold of a history, from `known` on where that begins it, else from the start.

    first: the state before anything was evaluated. step: the state after one more generation,
    by its number; it leaves the state that it is given as it is.
    """
    if known is None or not known.begins(space, history):
        known = Fold(space, history.objectives, (), first(space))
    state = known.state
    for generation in range(len(known.generations), len(history)):
        state = step(space, history, state, generation)
    return Fold(space, history.objectives, history.generations, state)
