"""Which chunks are tried again, which are copied for being late, and whose answer counts."""

from collections.abc import Sequence
from math import inf

from pso_attn.assembly import assemble
from pso_attn.config import read_configuration
from pso_attn.evaluate import SwarmTrainer
from pso_attn.evaluate.executors.attempts import LATE, TRIES, WORTH_S, Attempt, Attempts, End
from pso_attn.evaluate.jobs import Job, Lost, TooMuch, Trained
from pso_attn.evaluate.weights import OwnFitness, WeightTrainer
from pso_attn.testing.executors import BUDGET, CPU, LOSS, asked, digits, objective

TRAINED, END = Trained([]), End("fell")
KILLED = End("was killed", by_memory=True)


def test_a_chunk_is_late_once_half_are_finished_and_it_takes_longer_than_they_did() -> None:
    attempts, (one, two, three, four) = begun([1.0] * 4)
    assert attempts.answered(one, TRAINED, 100.0) == []
    assert attempts.next(inf) is None  # a quarter is finished
    assert attempts.answered(two, TRAINED, 100.0) == []
    assert attempts.next(LATE * 100.0) is None
    copies = attempts.next(LATE * 100.0 + 1), attempts.next(LATE * 100.0 + 1)
    assert [copy.job for copy in copies if copy] == [three.job, four.job]
    assert attempts.next(inf) is None  # each has its copy


def test_what_takes_no_longer_than_to_start_a_worker_is_not_copied() -> None:
    attempts, (one, _) = begun([1.0, 1.0])
    attempts.answered(one, TRAINED, 1.0)
    assert attempts.next(1.0 + WORTH_S) is None
    assert attempts.next(1.1 + WORTH_S) is not None


def test_more_work_may_take_longer_and_less_may_take_as_long() -> None:
    attempts, (one, big) = begun([2.0, 4.0])
    attempts.answered(one, TRAINED, 100.0)
    assert attempts.next(199 * LATE) is None
    assert job_of(attempts.next(201 * LATE)) is big.job
    attempts, (one, small) = begun([2.0, 0.5])
    attempts.answered(one, TRAINED, 100.0)
    assert attempts.next(99 * LATE) is None
    assert job_of(attempts.next(101 * LATE)) is small.job


def test_modules_of_no_operation_that_is_counted_may_take_as_long_as_others() -> None:
    attempts, (one, other) = begun([0.0, 100.0])
    attempts.answered(one, TRAINED, 100.0)
    assert attempts.next(99 * LATE) is None
    assert job_of(attempts.next(101 * LATE)) is other.job


def test_what_waits_goes_before_copies() -> None:
    attempts, (one, two) = begun([1.0, 1.0], waiting=1)
    attempts.answered(one, TRAINED, 100.0)
    third = attempts.next(1e6)
    assert third is not None
    assert third.job not in (one.job, two.job)
    assert attempts.next(1e6) is None  # one of three is finished


def test_a_chunk_that_waits_for_its_worker_is_late_as_well_and_is_timed_anew_once_it_begins() -> (
    None
):
    attempts, (one, two) = begun([1.0, 1.0])
    attempts.answered(one, TRAINED, 100.0)
    two.began_s = 50.0
    assert attempts.next(LATE * 100.0 + 1) is None
    assert job_of(attempts.next(LATE * 100.0 + 51)) is two.job


def test_a_chunk_that_leaves_something_behind_is_never_copied() -> None:
    attempts, (one, _) = begun([1.0, 1.0], is_repeatable=False)
    attempts.answered(one, TRAINED, 1.0)
    assert attempts.next(1e6) is None


def test_what_may_write_files_of_its_own_leaves_something_behind_and_our_models_do_not() -> None:
    assert not objective().is_repeatable
    assert SwarmTrainer(digits(), LOSS, BUDGET, CPU).is_repeatable
    weights = assemble(read_configuration("digits-weights")).weight_trainer()
    assert weights.is_repeatable
    own = OwnFitness(lambda model, batch: 0.0, "mine:f")
    assert not WeightTrainer(weights.start, digits(), LOSS, BUDGET, CPU, 1, own).is_repeatable


def test_the_first_answer_counts_and_the_other_copy_is_given_up() -> None:
    for first in (0, 1):
        attempts, (one, two) = begun([1.0, 1.0])
        attempts.answered(one, TRAINED, 1.0)
        pair = two, copied(attempts)
        assert [attempts.is_heard(each) for each in pair] == [True, False]
        assert attempts.answered(pair[first], TRAINED, 110.0) == [pair[1 - first]]
        assert attempts.next(inf) is None


def test_a_copy_that_is_lost_is_a_try_and_the_other_goes_on() -> None:
    for first in (0, 1):
        attempts, (one, two) = begun([1.0, 1.0])
        attempts.answered(one, TRAINED, 1.0)
        pair = two, copied(attempts)
        assert attempts.lost(pair[first], END) is None
        rest = pair[1 - first]
        assert attempts.is_heard(rest)
        third = copied(attempts, 200.0)  # again late: the last try
        assert attempts.lost(rest, END) is None
        assert attempts.next(inf) is None  # it still runs, and no try is left for a copy
        assert attempts.lost(third, END) == Lost(f"its worker fell, in the last of {TRIES} tries")


def test_a_chunk_without_copies_is_tried_three_times() -> None:
    attempts, (one,) = begun([1.0])
    for _ in range(TRIES - 1):
        assert attempts.lost(one, END) is None
        again = attempts.next(0.0)
        assert again is not None
        assert again.job is one.job
        one = again
    assert isinstance(attempts.lost(one, END), Lost)
    assert attempts.next(0.0) is None


def test_who_was_killed_each_time_is_told_what_memory_it_needs() -> None:
    for end, known, needed in (
        (END, "about 3 MiB", ""),
        (KILLED, "about 3 MiB", "; about 3 MiB are needed"),
        (KILLED, "", ""),
    ):
        jobs = iter([Job(0, asked([{}]).candidates, {})])
        attempts, lost = Attempts(lambda jobs=jobs: next(jobs, None), True), None
        for _ in range(TRIES):
            one = attempts.next(0.0)
            assert one is not None
            lost = attempts.lost(one, end)
        assert isinstance(lost, Lost)
        assert lost.told(known) == f"its worker {end.why}, in the last of {TRIES} tries{needed}"


def test_several_that_memory_may_have_run_out_for_twice_are_not_tried_together_again() -> None:
    candidates, killed = asked([{}, {}]).candidates, KILLED
    for count, ends, expected in (
        (2, [killed, killed], [None, TooMuch()]),
        (2, [END, killed], [None, TooMuch()]),
        (2, [killed, END], [None, None]),
        (1, [killed, killed], [None, None]),
    ):
        jobs = iter([Job(0, candidates[:count], {})])
        attempts = Attempts(lambda jobs=jobs: next(jobs, None), True)
        found = []
        for end in ends:
            one = attempts.next(0.0)
            assert one is not None
            found.append(attempts.lost(one, end))
        assert found == expected
        assert (attempts.next(0.0) is None) is (found[-1] is not None)


def test_a_copy_that_was_killed_leaves_its_chunk_to_the_other() -> None:
    attempts, (one, two) = begun([1.0, 1.0])
    attempts.answered(one, TRAINED, 1.0)
    copied(attempts)
    assert attempts.lost(two, KILLED) is None


def test_what_asks_for_less_says_nothing_of_how_long_chunks_take() -> None:
    attempts, (one, _) = begun([1.0, 1.0])
    attempts.answered(one, TooMuch(), 1.0)
    assert attempts.next(1e6) is None


def begun(
    work: Sequence[float], waiting: int = 0, is_repeatable: bool = True
) -> tuple[Attempts, list[Attempt]]:
    """Return tries of chunks of so much work that began at 0; `waiting` more are to be taken."""
    several = asked([{}, {}]).candidates
    jobs = [Job(0, several, {}, work=one) for one in [*work, *[1.0] * waiting]]
    queue = iter(jobs)
    attempts, tries = Attempts(lambda: next(queue, None), is_repeatable), []
    for _ in work:
        attempt = attempts.next(0.0)
        assert attempt is not None
        tries.append(attempt)
    return attempts, tries


def copied(attempts: Attempts, now_s: float = 100.0) -> Attempt:
    """Return the copy of what is late by now."""
    attempt = attempts.next(now_s)
    assert attempt is not None
    return attempt


def job_of(attempt: Attempt | None) -> Job | None:
    return None if attempt is None else attempt.job
