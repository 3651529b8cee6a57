"""What PSOSampler promises to several workers of one study: threads, processes, batches."""

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import pso_attn
from pso_attn.swarm import VARIANTS
from pso_attn.swarm.study_space import given_space
from pso_attn.testing.spaces import mixed

optuna.logging.set_verbosity(optuna.logging.ERROR)

DISCRETE: dict[str, BaseDistribution] = {
    "heads": IntDistribution(1, 8),
    "kind": CategoricalDistribution(("a", "b", "c")),
    "layers": IntDistribution(1, 4),
}  # 96 settings


def study(storage: Any, variant: str = "pso", **given: Any) -> optuna.Study:
    sampler = pso_attn.PSOSampler(4, 3, variant, **given)
    return optuna.create_study(
        storage=storage, study_name="s", sampler=sampler, load_if_exists=True
    )


def suggested(trial: optuna.Trial) -> tuple[Any, ...]:
    return tuple(trial._suggest(name, known) for name, known in DISCRETE.items())


def loss(point: tuple[Any, ...]) -> float:
    heads, kind, layers = point
    return float((heads - 5) ** 2 + "cab".index(kind) + abs(layers - 2))


def points(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[Any, ...]]:
    return [tuple(trial.params[name] for name in DISCRETE) for trial in trials]


def opened(kind: str, path: Path) -> Any:
    if kind == "journal":
        return JournalStorage(JournalFileBackend(str(path / "journal.log")))
    return f"sqlite:///{path / 'study.db'}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_later_trial_that_chose_first_is_not_chosen_again(variant: str) -> None:
    """Trials suggest when they are first asked, in whatever order workers come to it."""
    tried = study(None, variant, space=DISCRETE)
    for _ in range(12):
        first, second, third = (tried.ask() for _ in range(3))
        drawn = {trial.number: suggested(trial) for trial in (third, second, first)}
        assert len(set(drawn.values())) == 3
        for trial in (first, second, third):
            tried.tell(trial, loss(drawn[trial.number]))


def test_no_setting_is_tried_twice_in_whatever_order_trials_choose() -> None:
    tried = study(None, space=DISCRETE)
    for _ in range(12):
        trials = [tried.ask() for _ in range(3)]
        for trial in reversed(trials):
            tried.tell(trial, loss(suggested(trial)))
    assert len(set(points(tried.trials))) == 36


def test_a_small_space_that_is_used_up_is_searched_on() -> None:
    few = {"kind": CategoricalDistribution(("a", "b")), "heads": IntDistribution(1, 2)}
    tried = study(None, space=few)
    for _ in range(10):
        for trial in reversed([tried.ask() for _ in range(3)]):
            heads = trial.suggest_int("heads", 1, 2)
            tried.tell(trial, heads + len(trial.suggest_categorical("kind", ("a", "b"))))
    assert {trial.state for trial in tried.trials} == {TrialState.COMPLETE}
    assert len({tuple(trial.params.items()) for trial in tried.trials}) == 4


def test_the_trial_that_moves_aside_keeps_to_the_constraints() -> None:
    space = mixed(constraints=["heads * window <= 64"])
    known = given_space(space).distributions
    tried = study(None, "pso-classic", space=space)
    for _ in range(8):
        for trial in reversed([tried.ask() for _ in range(4)]):
            params = {name: trial._suggest(name, known[name]) for name in ("heads", "window")}
            tried.tell(trial, float(params["heads"]))
            assert params["heads"] * params["window"] <= 64


def test_a_setting_that_is_enqueued_and_waits_is_left_to_its_trial() -> None:
    tried = study(None, space=DISCRETE)
    for _ in range(3):
        tried.tell(trial := tried.ask(), loss(suggested(trial)))
    ahead = study(None, space=DISCRETE)
    for _ in range(3):
        ahead.tell(trial := ahead.ask(), loss(suggested(trial)))
    wanted = dict(zip(DISCRETE, suggested(ahead.ask()), strict=True))
    running = tried.ask()  # where this one would go, another is told to go
    tried.enqueue_trial(wanted)
    assert dict(zip(DISCRETE, suggested(running), strict=True)) != wanted


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_two_processes_that_choose_at_once_choose_differently(kind: str, tmp_path: Path) -> None:
    study(opened(kind, tmp_path), space=DISCRETE)
    context = multiprocessing.get_context("fork")
    together = context.Barrier(2, timeout=60)
    workers = [context.Process(target=_in_step, args=(kind, tmp_path, together)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    tried = points(study(opened(kind, tmp_path), space=DISCRETE).trials)
    rounds = list(zip(tried[::2], tried[1::2], strict=True))
    assert len(rounds) == 8
    assert all(one != other for one, other in rounds)


def _in_step(kind: str, path: Path, together: Any) -> None:
    """Ask and suggest when the other does, and tell once both have."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mine = study(opened(kind, path), space=DISCRETE)
    for _ in range(8):
        trial = mine.ask()
        together.wait()  # both are asked for, neither has chosen
        point = suggested(trial)
        together.wait()
        mine.tell(trial, loss(point))
        together.wait()


def test_threads_that_train_at_once_train_different_settings() -> None:
    tried, together, drawn = study(None, space=DISCRETE), threading.Barrier(4, timeout=60), []

    def trained(trial: optuna.Trial) -> float:
        point = suggested(trial)
        drawn.append(point)
        together.wait()  # all four have chosen, and none is told yet
        return loss(point)

    tried.optimize(trained, n_trials=24, n_jobs=4)
    assert [len(set(drawn[first : first + 4])) for first in range(0, 24, 4)] == [4] * 6
