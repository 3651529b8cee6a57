"""What all evaluators share: from a proposal to a plan, and from a plan's chunks to events."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from pso_attn.seeding import training_seed
from pso_attn.space import Space
from pso_attn.types import (
    Budget,
    Candidate,
    Event,
    Generation,
    History,
    Moved,
    Objective,
    Outcome,
    Proposal,
    Replan,
    Settings,
    State,
)

Chunks = tuple[tuple[int, ...], ...]
Train = Callable[
    [Sequence[Candidate], tuple[int, int], Mapping[int, Outcome]], Sequence[Outcome | Moved]
]


def plan_generation(
    space: Space,
    budget: Budget,
    seed: int,
    proposal: Proposal,
    history: History,
    impossible: Callable[[Settings], Mapping[str, float]],
    chunks: Callable[[Sequence[Candidate]], Chunks],
    seeds_by_generation: bool = False,
) -> Generation:
    """Return the proposal with constraints repaired, settings, seeds and chunks.

    impossible: what settings that meet all constraints violate nevertheless. chunks: the trials,
    of those that are trained, that share a job. seeds_by_generation: whether the particles of a
    generation have the same seeds, new in each, rather than the k-th training of settings seed k.
    """
    number = len(history)
    trainings = Counter[Any]()
    for trial in history.trials:
        trainings[_identity(trial.candidate.params)] += len(trial.candidate.seeds)
    candidates = []
    for slot, particle in enumerate(proposal.particles):
        repaired = space.repair(proposal.positions[slot], seed, number, particle)
        settings = space.settings(repaired.params)
        violations = repaired.violations or impossible(settings)
        count = 0 if violations else budget.seeds
        earlier = trainings[_identity(repaired.params)]
        keys: list[tuple[int, ...]] = [(earlier + r,) for r in range(count)]
        if seeds_by_generation:
            keys = [(number, r) for r in range(count)]
        elif not budget.common_random_numbers:
            keys = [(number, particle, r) for r in range(count)]
        candidate = Candidate(
            trial=number * budget.batch + slot,
            particle=particle,
            position=repaired.position,
            params=repaired.params,
            settings=settings,
            seeds=tuple(training_seed(seed, *key) for key in keys),
            violations=violations,
        )
        trainings[_identity(repaired.params)] += count
        candidates.append(candidate)
    trained = [candidate for candidate in candidates if not candidate.violations]
    return Generation(number, tuple(candidates), chunks(trained))


def evaluate_chunks(
    generation: Generation,
    stop: Callable[[], bool],
    train: Train,
    should_halve: Callable[[Exception], bool],
    failed_alone: Callable[[Candidate, Exception], Outcome],
) -> Iterator[Event]:
    """Yield an outcome for each unfinished candidate, and a new plan where one is needed.

    train: a chunk's candidates, its place (index, of how many) and what is finished of the
    generation -> outcomes, and before them where it moved particles to. should_halve: whether an
    error of it asks for a smaller chunk, and no other is caught; failed_alone: the outcome of a
    candidate that fails so by itself.
    """
    by_trial = {candidate.trial: candidate for candidate in generation.candidates}
    for candidate in generation.candidates:
        if candidate.violations and candidate.trial not in generation.outcomes:
            expression = next(iter(candidate.violations))
            yield failed(candidate, f"infeasible: {expression}")
    chunks, finished = list(generation.chunks), dict(generation.outcomes)
    index = 0
    while index < len(chunks):
        chunk = chunks[index]
        if all(trial in generation.outcomes for trial in chunk):
            index += 1
            continue
        if stop():
            return
        members = [by_trial[trial] for trial in chunk]
        try:
            events = train(members, (index, len(chunks)), finished)
        except Exception as error:
            if not should_halve(error):
                raise
            if len(chunk) > 1:  # a fresh attempt on two halves; nothing was recorded yet
                half = len(chunk) // 2
                chunks[index : index + 1] = [chunk[:half], chunk[half:]]
                yield Replan(generation.number, tuple(chunks))
                continue
            events = [failed_alone(members[0], error)]
        outcomes = {event.trial: event for event in events if isinstance(event, Outcome)}
        finished |= outcomes
        known = [outcomes[trial] for trial in outcomes if trial in generation.outcomes]
        yield from (event for event in events if event not in known)
        index += 1


def failed(
    candidate: Candidate, error: str, metrics: Mapping[str, float] | None = None
) -> Outcome:
    """Return the outcome of a candidate that gave nothing."""
    return Outcome(
        trial=candidate.trial,
        state=State.FAIL,
        values=None,
        curve={},
        metrics=metrics or {},
        seconds=0.0,
        fidelity=0.0,
        error=error,
    )


def record_index(
    outcomes: Sequence[Outcome],
    history: History,
    finished: Mapping[int, Outcome],
) -> int | None:
    """Return which of a chunk's outcomes is the best of all so far, None where none is.

    finished: those of this generation that are known before.
    """
    objective = history.objectives[0]
    before = (*(trial.outcome for trial in history.trials), *finished.values())
    record = min((_loss(objective, outcome) for outcome in before), default=inf)
    winner = None
    for index, outcome in enumerate(outcomes):
        if _loss(objective, outcome) < record:
            record, winner = _loss(objective, outcome), index
    return winner


def _loss(objective: Objective, outcome: Outcome) -> float:
    """Return the objective of a completed training as a loss, infinity for any other."""
    if outcome.state is not State.COMPLETE or outcome.values is None:
        return inf
    return objective.loss(outcome.values[0])


def _identity(params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return what tells settings apart."""
    return tuple(sorted(params.items()))
