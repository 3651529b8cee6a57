"""The program: one loop. Every other file answers a question that this loop asks."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pso_attn.types import (
    Evaluator,
    Event,
    Generation,
    History,
    Moved,
    Replan,
    Sampler,
    Store,
)

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
        events = evaluator.evaluate(generation, history, stop=search.is_late)
        for together in by_chunk(generation, events):
            store.record(*together)
            for event in together:
                for observe in observers:
                    observe(event, history)
        history = store.history()
    return history


def by_chunk(generation: Generation, events: Iterable[Event]) -> Iterator[list[Event]]:
    """Yield events in the groups that are stored in one write: a chunk each, or a new plan.

    A chunk of which anything is missing is trained again, so a crash in between loses nothing.
    What is of no chunk goes with what comes next; the last group may be less.
    """
    chunks, group = generation.chunks, list[Event]()
    missing = _missing(generation, chunks)
    for event in events:
        group.append(event)
        if isinstance(event, Replan):
            missing = _missing(generation, event.chunks)
        elif isinstance(event, Moved) or event.trial not in missing:
            continue
        else:
            missing[event.trial].remove(event.trial)
            if missing.pop(event.trial):
                continue
        yield group
        group = []
    if group:
        yield group


def _missing(generation: Generation, chunks: Sequence[Sequence[int]]) -> dict[int, set[int]]:
    """Return for each unfinished trial those of its chunk that are, itself among them."""
    left = [{trial for trial in c if trial not in generation.outcomes} for c in chunks]
    return {trial: chunk for chunk in left for trial in chunk}
