"""What a search stores in one write: a chunk's outcomes together, a new plan at once."""

import numpy as np

from pso_attn.search import by_chunk
from pso_attn.types import Candidate, Event, Generation, Moved, Outcome, Replan, State


def outcome(trial: int) -> Outcome:
    return Outcome(trial, State.COMPLETE, (0.5,), {}, {}, 1.0, 1.0)


def generation(*chunks: tuple[int, ...], finished: tuple[int, ...] = ()) -> Generation:
    candidates = tuple(Candidate(n, n, np.zeros(1), {}, {}, ()) for n in range(8))
    return Generation(0, candidates, chunks, {n: outcome(n) for n in finished})


def trials(groups: list[list[Event]]) -> list[list[int | str]]:
    return [[e.trial if isinstance(e, Outcome) else type(e).__name__ for e in g] for g in groups]


def test_a_chunk_is_stored_when_all_of_it_is_known() -> None:
    events = map(outcome, (2, 0, 1, 3))
    assert trials(list(by_chunk(generation((0, 1), (2, 3)), events))) == [[2, 0, 1], [3]]


def test_what_was_finished_before_is_not_waited_for() -> None:
    events = map(outcome, (1, 2, 3))
    planned = generation((0, 1), (2, 3), finished=(0,))
    assert trials(list(by_chunk(planned, events))) == [[1], [2, 3]]


def test_an_infeasible_trial_goes_with_the_next_chunk_or_comes_last() -> None:
    planned = generation((0, 1))
    assert trials(list(by_chunk(planned, map(outcome, (5, 0, 1, 6))))) == [[5, 0, 1], [6]]


def test_a_new_plan_is_stored_at_once_and_counts_from_then_on() -> None:
    events = [Replan(0, ((0,), (1, 2))), outcome(0), outcome(1), outcome(2)]
    groups = trials(list(by_chunk(generation((0, 1, 2)), events)))
    assert groups == [["Replan"], [0], [1, 2]]


def test_where_particles_moved_precedes_their_outcomes_in_one_group() -> None:
    events = [Moved(0, (0, 1), np.zeros((2, 1))), outcome(0), outcome(1)]
    assert trials(list(by_chunk(generation((0, 1)), events))) == [["Moved", 0, 1]]


def test_no_group_waits_for_the_training_of_the_next_chunk() -> None:
    asked = []

    def events():  # type: ignore[no-untyped-def]  # a generator of events
        for trial in (0, 1, 2):
            asked.append(trial)
            yield outcome(trial)

    groups = by_chunk(generation((0, 1), (2,)), events())
    next(groups)
    assert asked == [0, 1]
