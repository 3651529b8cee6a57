"""An objective of one's own: what it is handed, who leaves, and what fails."""

import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pso_attn.baselines import RandomSearch
from pso_attn.errors import DeviceError
from pso_attn.evaluate import ObjectiveEvaluator, OwnObjective
from pso_attn.evaluate.jobs import Job, Lost, attempt
from pso_attn.evaluate.own_code import OwnCodeError
from pso_attn.evaluate.own_scoring import score_objective
from pso_attn.evaluate.own_trial import Run, curve_of
from pso_attn.space import own_knobs, read_space
from pso_attn.types import (
    Budget,
    Candidate,
    Generation,
    History,
    Objective,
    Outcome,
    Replan,
    State,
    Trial,
)

LOSS = Objective("loss", "minimize")
BUDGET = Budget(particles=4, batch=4, generations=1, steps=8, rungs=(0.25, 0.5, 1.0))
SEARCH: dict[str, Any] = {"x": {"low": 0.0, "high": 1.0}}
SPACE = read_space(SEARCH, {}, own_knobs(SEARCH, {}, (), "a"), where="a")
CPU = torch.device("cpu")


def evaluator(
    function: Callable[..., Any],
    batched: bool = False,
    budget: Budget = BUDGET,
    objective: Objective = LOSS,
    checkpoints: Path | None = None,
) -> ObjectiveEvaluator:
    own = OwnObjective(function, "mine:f", batched, CPU)
    return ObjectiveEvaluator(SPACE, own, (objective,), budget, 3, checkpoints)


def generation(
    xs: list[float], number: int = 0, seeds: int = 1, joint: bool = False
) -> Generation:
    candidates = tuple(
        Candidate(
            trial=number * len(xs) + slot,
            particle=slot,
            position=np.array([x]),
            params={"x": x},
            settings={"x": x},
            seeds=tuple(100 + r for r in range(seeds)),
        )
        for slot, x in enumerate(xs)
    )
    numbers = tuple(candidate.trial for candidate in candidates)
    return Generation(number, candidates, (numbers,) if joint else tuple((n,) for n in numbers))


def run(ours: ObjectiveEvaluator, planned: Generation, history: History) -> list[Outcome]:
    events = list(ours.evaluate(planned, history, lambda: False))
    return sorted((e for e in events if isinstance(e, Outcome)), key=lambda one: one.trial)


def extended(history: History, planned: Generation, outcomes: list[Outcome]) -> History:
    trials = tuple(
        Trial(planned.number, candidate, outcome)
        for candidate, outcome in zip(planned.candidates, outcomes, strict=True)
    )
    return History(history.objectives, (*history.generations, trials))


def curved(settings: Any, trial: Any) -> float | None:
    """Report x at every step and leave when told to."""
    for step in range(1, trial.steps + 1):
        trial.report(step, settings["x"])
        if trial.should_prune():
            return None
    return settings["x"]


def curved_lists(settings: Any, trials: Any) -> list[float]:
    going = list(range(len(trials)))
    for step in range(1, trials[0].steps + 1):
        for k in going:
            trials[k].report(step, settings[k]["x"])
        going = [k for k in going if not trials[k].should_prune()]
    return [one["x"] for one in settings]


def test_one_by_one_nobody_leaves_before_an_earlier_generation_has_stored_losses() -> None:
    outcomes = run(evaluator(curved), generation([0.1, 0.2, 0.8, 0.9]), History((LOSS,)))
    assert [o.state for o in outcomes] == [State.COMPLETE] * 4
    assert outcomes[2].curve == dict.fromkeys(range(1, 9), 0.8)
    assert outcomes[2].values == (0.8,)


def test_one_by_one_a_particle_leaves_by_what_earlier_generations_stored_alone() -> None:
    planned = generation([0.1, 0.2, 0.3, 0.4])
    history = extended(
        History((LOSS,)), planned, run(evaluator(curved), planned, History((LOSS,)))
    )
    later = generation([0.15, 0.35, 0.9, 0.95], 1)
    outcomes = run(evaluator(curved), later, history)
    assert [o.state for o in outcomes] == [
        State.COMPLETE,
        State.COMPLETE,  # three of five are better, not two thirds
        State.PRUNED,
        State.PRUNED,  # its sibling's 0.9 is not consulted
    ]
    assert outcomes[3].values == (0.95,)
    assert outcomes[3].fidelity == 0.25
    assert outcomes[3].curve == {1: 0.95, 2: 0.95}
    alone = replace(later, candidates=later.candidates[3:], chunks=later.chunks[3:])
    assert run(evaluator(curved), alone, history)[0].curve == outcomes[3].curve


def test_taking_lists_the_worst_third_of_the_generation_leaves_at_each_rung() -> None:
    planned = generation([0.1, 0.2, 0.8, 0.9], joint=True)
    outcomes = run(evaluator(curved_lists, batched=True), planned, History((LOSS,)))
    assert [o.state for o in outcomes] == [
        State.COMPLETE,
        State.COMPLETE,
        State.PRUNED,
        State.PRUNED,
    ]
    assert [max(o.curve) for o in outcomes] == [8, 8, 4, 2]


def test_a_maximised_objective_lets_the_smallest_leave() -> None:
    best = Objective("accuracy", "maximize")
    planned = generation([0.1, 0.5, 0.8], joint=True)
    ours = evaluator(curved_lists, batched=True, objective=best)
    outcomes = run(ours, planned, History((best,)))
    assert outcomes[0].state is State.PRUNED
    assert outcomes[2].metrics == {"accuracy": 0.8}


def test_the_first_report_beyond_a_rung_counts_there() -> None:
    def sparse(settings: Any, trial: Any) -> float:
        for step in (1, 3, 7):
            trial.report(step, settings["x"] + step)
            trial.should_prune()
        return settings["x"]

    (outcome,) = run(evaluator(sparse), generation([0.5]), History((LOSS,)))
    assert outcome.curve == {1: 1.5, 2: 3.5, 4: 7.5, 8: 0.5}


def test_an_objective_that_never_reports_has_its_value_at_the_end() -> None:
    (outcome,) = run(evaluator(lambda settings, trial: 0.5), generation([0.5]), History((LOSS,)))
    assert outcome.curve == {8: 0.5}
    assert outcome.fidelity == 1.0


def test_metrics_and_curves_are_means_over_seeds() -> None:
    def seeded(settings: Any, trial: Any) -> dict[str, float]:
        trial.report(4, float(trial.seed))
        return {"loss": float(trial.seed), "accuracy": 1.0}

    planned = generation([0.5], seeds=2)
    (outcome,) = run(evaluator(seeded), planned, History((LOSS,)))
    assert outcome.metrics == {"loss": 100.5, "accuracy": 1.0}
    assert outcome.curve == {4: 100.5, 8: 100.5}


def test_it_draws_from_its_seed_alone_and_leaves_the_generators_as_they_were() -> None:
    def drawing(settings: Any, trial: Any) -> float:
        return float(torch.rand(1)) + random.random() + np.random.rand()  # noqa: NPY002 - theirs

    torch.manual_seed(100)  # the seed that the trials have
    drawn = float(torch.rand(1)) + random.Random(100).random()
    drawn += np.random.RandomState(100).rand()
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002 - theirs
    torch.manual_seed(5)
    expected = float(torch.rand(1))
    torch.manual_seed(5)
    one, other = run(evaluator(drawing), generation([0.1, 0.2]), History((LOSS,)))
    assert one.values == other.values  # of one seed: common random numbers
    assert one.values == (drawn,)
    assert float(torch.rand(1)) == expected
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002 - theirs


def test_what_it_prints_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    def printing(settings: Any, trial: Any) -> float:
        print("hello")
        return 0.5

    run(evaluator(printing), generation([0.5]), History((LOSS,)))
    assert capsys.readouterr() == ("", "hello\n")


def test_a_trial_has_a_folder_for_its_files(tmp_path: Path) -> None:
    def keeping(settings: Any, trial: Any) -> float:
        (trial.checkpoint_dir / "model").write_text("kept")
        return 0.5

    run(evaluator(keeping, checkpoints=tmp_path), generation([0.5]), History((LOSS,)))
    assert (tmp_path / "trial-0" / "seed-100" / "model").read_text() == "kept"


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (
            lambda s, t: _raise(ValueError("no\nsuch")),
            r"mine:f raised ValueError: no such \(test_",
        ),
        (lambda s, t: _raise(SystemExit(3)), r"mine:f called sys.exit\(3\)"),
        (lambda s, t: math.nan, "mine:f returned loss = nan, not a finite number"),
        (lambda s, t: {"loss": math.inf}, "returned loss = inf"),
        (lambda s, t: None, "mine:f returned None; expected a number, or a dict that has"),
        (lambda s, t: "0.5", "mine:f returned a str; expected a number"),
        (lambda s, t: True, "mine:f returned a bool; expected a number"),
        (lambda s, t: {"los": 1.0}, 'a dict without "loss", which .* did you mean "los"'),
        (lambda s, t: {"loss": 1.0, "who": "me"}, 'returned "who" = a str; expected a number'),
        (lambda s, t: t.report(3, math.nan), "reported nan at step 3, not a finite number"),
        (lambda s, t: t.report(9, 1.0), "reported step 9, beyond the 8 of the budget"),
        (
            lambda s, t: [t.report(k, 1.0) for k in (2, 2)],
            "reported step 2 after step 2; expected",
        ),
        (lambda s, t: t.report(1, "a"), "reported str at step 1"),
    ],
)
def test_what_goes_wrong_fails_its_particle_in_one_sentence(
    function: Callable[..., Any], sentence: str
) -> None:
    bad, good = run(
        evaluator(lambda s, t: function(s, t) if s["x"] < 0.5 else 0.5),
        generation([0.1, 0.9]),
        History((LOSS,)),
    )
    assert bad.state is State.FAIL
    assert bad.error is not None
    assert re.search(sentence, bad.error), bad.error
    assert good.state is State.COMPLETE


def test_scalars_of_torch_and_numpy_are_numbers() -> None:
    one = 1
    for value in (torch.tensor(0.5), np.float32(0.5), np.array([0.5]), one):
        (outcome,) = run(evaluator(lambda s, t, v=value: v), generation([0.5]), History((LOSS,)))
        assert outcome.values == (1.0 if value is one else 0.5,)


def test_where_lists_fail_for_one_the_others_are_trained_without_it() -> None:
    def fails(settings: Any, trials: Any) -> list[float]:
        if any(one["x"] > 0.85 for one in settings):
            raise ValueError("too large")
        return [one["x"] for one in settings]

    ours = evaluator(fails, batched=True)
    planned = generation([0.1, 0.2, 0.8, 0.9], joint=True)
    events = list(ours.evaluate(planned, History((LOSS,)), lambda: False))
    plans = [event.chunks for event in events if isinstance(event, Replan)]
    assert plans[-1] == ((0, 1), (2,), (3,))
    states = {e.trial: e.state for e in events if isinstance(e, Outcome)}
    assert states == {0: State.COMPLETE, 1: State.COMPLETE, 2: State.COMPLETE, 3: State.FAIL}


def test_an_answer_that_is_no_list_of_the_right_length_fails_with_both_lengths() -> None:
    ours = evaluator(lambda settings, trials: [0.5, 0.5], batched=True)
    (outcome,) = run(ours, generation([0.1], joint=True), History((LOSS,)))
    assert outcome.error is not None
    assert "returned 2 answers; expected a list of 1" in outcome.error


def test_a_batched_plan_is_one_chunk_and_any_other_one_a_particle() -> None:
    proposal = RandomSearch(0, 4, 4, 1, {}).propose(SPACE, History((LOSS,)))
    assert evaluator(curved).plan(proposal, History((LOSS,))).chunks == ((0,), (1,), (2,), (3,))
    batched = evaluator(curved_lists, batched=True)
    assert batched.plan(proposal, History((LOSS,))).chunks == ((0, 1, 2, 3),)


def test_leaving_by_an_exception_is_leaving() -> None:
    class Left(Exception):
        pass

    def raises(settings: Any, trial: Any) -> float:
        if curved(settings, trial) is None:
            raise Left
        return settings["x"]

    planned = generation([0.1, 0.2, 0.3, 0.4])
    first = run(evaluator(raises), planned, History((LOSS,)))
    history = extended(History((LOSS,)), planned, first)
    (outcome,) = run(evaluator(raises), generation([0.9], 1), history)
    assert outcome.state is State.PRUNED


def test_a_failure_has_taken_its_time() -> None:
    def late(settings: Any, trial: Any) -> float:
        time.sleep(0.02)
        if settings["x"] < 0.5:
            raise ValueError("worn out")
        return math.nan

    for outcome in run(evaluator(late), generation([0.1, 0.9]), History((LOSS,))):
        assert outcome.state is State.FAIL
        assert outcome.seconds >= 0.02


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("ends", [lambda: _raise(ValueError("worn out")), lambda: math.nan])
def test_a_failure_keeps_what_it_reported(batched: bool, ends: Callable[[], Any]) -> None:
    def breaks(settings: Any, trials: Any) -> Any:
        for trial in trials if batched else [trials]:
            for step in (1, 3, 5):
                trial.report(step, 1.0 / step)
        return [ends()] if batched else ends()

    planned = generation([0.5], joint=batched)
    (outcome,) = run(evaluator(breaks, batched), planned, History((LOSS,)))
    assert outcome.state is State.FAIL
    assert outcome.curve == {1: 1.0, 2: 1.0 / 3, 4: 1.0 / 5}
    assert outcome.fidelity == 0.5


def test_a_failure_of_one_seed_reached_what_all_its_seeds_did() -> None:
    def breaks(settings: Any, trial: Any) -> float:
        for step in range(1, trial.steps + 1):
            trial.report(step, float(trial.seed))
            if step == 2 and trial.seed > 100:
                raise ValueError("worn out")
        return 0.5

    (outcome,) = run(evaluator(breaks), generation([0.5], seeds=2), History((LOSS,)))
    assert outcome.curve == {1: 100.5, 2: 100.5}
    assert outcome.fidelity == 0.25


def test_what_is_lost_with_its_worker_has_taken_its_time() -> None:
    class Losing:
        workers, notes = 1, ()

        def run(self, take: Any, hear: Any) -> Any:
            job = take()
            time.sleep(0.04)
            yield job, Lost("its worker fell")

    own = OwnObjective(curved_lists, "mine:f", True, CPU)
    ours = ObjectiveEvaluator(SPACE, own, (LOSS,), BUDGET, 3, executor=Losing())  # type: ignore[arg-type]  # no more is asked of it
    for outcome in run(ours, generation([0.1, 0.9], joint=True), History((LOSS,))):
        assert outcome.error == "its worker fell"
        assert 0.02 <= outcome.seconds < 0.04


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for CUDA, of whose two devices this process uses the second."""
    ours = SimpleNamespace(is_lost=False)

    def synchronize(index: int) -> None:
        assert index == 1, "to ask a GPU for which there is no use takes memory of it"
        if ours.is_lost:
            raise RuntimeError("CUDA error: device-side assert triggered\nCompile with …")

    for name, stands in {
        "is_initialized": lambda: True,
        "device_count": lambda: 2,
        "memory_reserved": lambda index: 2**20 * index,
        "synchronize": synchronize,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stands)
    return ours


@pytest.mark.parametrize("batched", [False, True])
def test_who_costs_the_process_its_gpu_ends_the_run_and_fails_nobody(
    gpu: SimpleNamespace, batched: bool
) -> None:
    """CUDA refuses all that comes after, so that the innocent would fail as well."""

    def asserts(settings: Any, trials: Any) -> Any:
        xs = [one["x"] for one in (settings if batched else [settings])]
        gpu.is_lost = gpu.is_lost or 0.3 in xs
        if gpu.is_lost:
            cause = RuntimeError("CUDA error: device-side assert triggered")
            raise OwnCodeError("my module raised it") from cause
        return xs if batched else xs[0]

    ours, planned = evaluator(asserts, batched), generation([0.1, 0.3, 0.2, 0.4], joint=batched)
    told, found = list[Any](), "^cuda:1 answers nothing .*: CUDA error: .* triggered; mend the"
    with pytest.raises(DeviceError, match=found):
        told.extend(ours.evaluate(planned, History((LOSS,)), lambda: False))
    assert [one.values for one in told if isinstance(one, Outcome)] == [(0.1,)] * (not batched)


def test_a_chunk_that_costs_the_process_its_gpu_is_not_tried_in_halves(
    gpu: SimpleNamespace,
) -> None:
    def train(job: Job, hear: Any) -> None:
        gpu.is_lost = True
        raise OwnCodeError("my module raised it") from RuntimeError("CUDA error: …")

    trainer: Any = SimpleNamespace(train=train, asks_for_less=lambda error: True)
    job = Job(0, generation([0.1, 0.3, 0.2, 0.4]).candidates, {})
    with pytest.raises(DeviceError, match="cuda:1 answers nothing in this process any more"):
        attempt(trainer, job, lambda said: None)


def test_a_finalist_that_costs_the_process_its_gpu_ends_its_confirmation_and_fails_nobody(
    gpu: SimpleNamespace,
) -> None:
    def asserts(settings: Any, trial: Any) -> Any:
        gpu.is_lost = True
        raise RuntimeError("CUDA error: device-side assert triggered")

    own = OwnObjective(asserts, "mine:f", False, torch.device("cpu"))
    with pytest.raises(DeviceError, match="cuda:1 answers nothing in this process any more"):
        score_objective(own, [{"x": 0.3}] * 2, [0, 1], BUDGET, LOSS, "test")


def test_a_cuda_error_after_which_the_gpu_answers_fails_its_particle_alone(
    gpu: SimpleNamespace,
) -> None:
    def launches(settings: Any, trial: Any) -> Any:
        if settings["x"] == 0.3:
            raise RuntimeError("CUDA error: invalid configuration argument")
        return settings["x"]

    outcomes = run(evaluator(launches), generation([0.1, 0.3, 0.2]), History((LOSS,)))
    assert [one.state for one in outcomes] == [State.COMPLETE, State.FAIL, State.COMPLETE]


def test_who_leaves_before_its_first_report_has_the_curve_of_its_other_seed() -> None:
    left = Run(0, {}, is_told=True)
    assert curve_of([Run(0, {5: 2.0}), left]) == {5: 2.0}


def test_a_report_that_passes_several_rungs_lets_others_be_judged_at_each() -> None:
    """Whoever of them reports first."""

    def sparse(order: tuple[int, ...]) -> list[Outcome]:
        def reports(settings: Any, trials: Any) -> list[float]:
            seen = {0: 2, 1: 3, 2: 8}  # C passes both rungs, 2 and 4, at once
            for k in order:
                trials[k].report(seen[k], settings[k]["x"])
            for k in order:
                trials[k].should_prune()
            return [one["x"] for one in settings]

        none, planned = History((LOSS,)), generation([0.1, 0.9, 0.2], joint=True)
        earlier = run(evaluator(curved_lists, batched=True), planned, none)
        later = generation([0.1, 0.95, 0.2], 1, joint=True)
        return run(evaluator(reports, batched=True), later, extended(none, planned, earlier))

    first, *others = [[one.state for one in sparse(order)] for order in permutations(range(3))]
    assert first[1] is State.PRUNED
    assert all(other == first for other in others)
