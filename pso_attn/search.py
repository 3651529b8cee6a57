"""The program: one loop. Every other file answers a question that this loop asks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pso_attn.types import Evaluator, Event, History, Sampler, Store

Observer = Callable[[Event, History], None]


@dataclass(frozen=True)
class Search:
    """What is searched, and until when: `generations` in all, or `deadline_s` (monotonic)."""

    space: Any  # a pso_attn.space.Space
    generations: int
    deadline_s: float = float("inf")

    def is_late(self) -> bool:
        """Tell whether this invocation's time is over."""
        return time.monotonic() >= self.deadline_s

    def is_done(self, history: History) -> bool:
        """Tell whether the budget of generations or of time is spent."""
        return len(history) >= self.generations or self.is_late()


def run_search(
    search: Search,
    sampler: Sampler,
    evaluator: Evaluator,
    store: Store,
    observers: Sequence[Observer] = (),
) -> History:
    """Run generations until the budget is spent; call it again to resume."""
    history = store.history()
    while not search.is_done(history):
        generation = store.open(len(history)) or evaluator.plan(
            sampler.propose(search.space, history), history
        )
        store.begin(generation)  # idempotent: writes what is missing of it
        # only what is unfinished, and no further chunk once the time is over
        for event in evaluator.evaluate(generation, history, stop=search.is_late):
            store.record(event)
            for observe in observers:
                observe(event, history)
        history = store.history()
    return history
