"""What PSOSampler promises in anyone's study: Optuna's own suite, and its docstring."""

import multiprocessing
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from optuna.trial import TrialState

import pso_attn
from pso_attn.errors import ConfigurationError, StudyError
from pso_attn.samplers import SAMPLERS
from pso_attn.swarm import FOR_WEIGHTS, VARIANTS, ScreenedSwarm
from pso_attn.swarm.believing import Belief
from pso_attn.swarm.study_history import StudyReader
from pso_attn.swarm.study_space import Seen, declared_space, given_space, seen_space
from pso_attn.testing.spaces import mixed
from pso_attn.types import Direction, Objective, State

optuna.logging.set_verbosity(optuna.logging.ERROR)

DISTRIBUTIONS: dict[str, optuna.distributions.BaseDistribution] = {
    "grid": FloatDistribution(-1.0, 2.0, step=0.1),
    "heads": IntDistribution(1, 64, log=True),
    "kind": CategoricalDistribution((None, "a", 2)),
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "steps": IntDistribution(0, 98, step=7),
    "x": FloatDistribution(-5.0, 5.0),
}


MINIMISED = Objective("objective", "minimize")

Holding = Callable[[optuna.Study, dict[str, Any]], None]


class OnEveryVariant:
    @pytest.fixture(params=list(VARIANTS))
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return partial(pso_attn.PSOSampler, n_particles=4, seed=3, variant=request.param)


class TestOptunasBasics(OnEveryVariant, BasicSamplerTestCase):
    pass


class TestOptunasRelativeSampling(OnEveryVariant, RelativeSamplerTestCase):
    pass


class TestOptunasSingleObjective(OnEveryVariant, SingleOnlySamplerTestCase):
    pass


@pytest.fixture(params=["memory", "journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "journal":
        return JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    return optuna.storages.InMemoryStorage()


def suggested(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest a parameter of each kind, one of them only where another says so."""
    params = {name: trial._suggest(name, known) for name, known in DISTRIBUTIONS.items()}
    if params["kind"] == "a":
        params["only with a"] = trial.suggest_float("only with a", 0.0, 1.0)
    return params


def rough(params: dict[str, Any]) -> float:
    kind = {None: 0.0, "a": params.get("only with a", 0.0) - 0.5, 2: 2.0}[params["kind"]]
    return float(
        (params["x"] - 1.0) ** 2
        + (np.log10(params["lr"]) + 3) ** 2
        + abs(params["heads"] - 8) / 8
        + abs(params["grid"] - 0.3)
        + abs(params["steps"] - 49) / 49
        + kind
    )


def objective(trial: optuna.Trial) -> float:
    return rough(suggested(trial))


def bowl(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", -5, 5) ** 2 + trial.suggest_float("y", -5, 5) ** 2


def made(storage: Any = None, direction: str = "minimize", **arguments: Any) -> optuna.Study:
    """Return the study "s", begun or taken up again, with a sampler of its own."""
    arguments = {"n_particles": 4, "seed": 7, "variant": "pso-classic", **arguments}
    return optuna.create_study(
        storage=storage,
        study_name="s",
        sampler=pso_attn.PSOSampler(**arguments),
        direction=direction,
        load_if_exists=True,
    )


def all_params(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


def read(study: optuna.Study, particles: int = 4) -> tuple[Any, ...]:
    """Return the trials of the study as its sampler reads them."""
    space = seen_space(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))
    direction = "maximize" if study.direction.name == "MAXIMIZE" else "minimize"
    reader = StudyReader(0, particles)
    return reader.read(space, study.trials, Objective("objective", direction)).history.trials


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_reopened_study_goes_on_as_if_it_had_not_been_stopped(variant: str) -> None:
    whole = made(variant=variant)
    whole.optimize(objective, n_trials=14)
    storage = optuna.storages.InMemoryStorage()
    for count in (1, 5, 8):
        made(storage, variant=variant).optimize(objective, n_trials=count)
    assert all_params(made(storage, variant=variant)) == all_params(whole)


def test_it_goes_on_from_every_kind_of_storage(storage: Any) -> None:
    whole = made(variant="pso")
    whole.optimize(objective, n_trials=12)
    for count in (7, 5):
        if isinstance(storage, JournalStorage):  # what another process would open
            storage = JournalStorage(JournalFileBackend(storage._backend._file_path))
        made(storage, variant="pso").optimize(objective, n_trials=count)
    assert all_params(made(storage, variant="pso")) == all_params(whole)


def test_a_batch_that_was_asked_before_a_stop_is_told_after_it() -> None:
    whole, storage = made(), optuna.storages.InMemoryStorage()
    for study, reopened in ((whole, lambda: whole), (made(storage), lambda: made(storage))):
        for _ in range(4):
            trials = [study.ask() for _ in range(3)]
            values = [objective(trial) for trial in trials]
            study = reopened()
            for trial, value in zip(trials, values, strict=True):
                study.tell(trial.number, value)
    assert all_params(made(storage)) == all_params(whole)


@pytest.mark.parametrize("variant", ["pso", "pso-classic"])
@pytest.mark.parametrize("batch", [1, 3, 4, 11])
def test_batches_of_any_size_are_asked_and_told(variant: str, batch: int) -> None:
    study = made(variant=variant)
    for _ in range(-(-22 // batch)):
        trials = [study.ask() for _ in range(batch)]
        drawn = [suggested(trial) for trial in trials]
        for trial, params in zip(reversed(trials), reversed(drawn), strict=True):
            study.tell(trial, rough(params))
    assert len({trial.params["x"] for trial in study.trials}) == len(study.trials)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_sampler_remembers_changes_nothing(variant: str) -> None:
    """Asked and told in any order, a sampler proposes what a new one does at each trial."""
    used, fresh = made(variant=variant), made(variant=variant)
    rng, running = np.random.default_rng(5), []
    for _ in range(60):
        if len(running) < 2 or rng.random() < 0.5:
            fresh.sampler = made(variant=variant).sampler
            pair = [study.ask() for study in (used, fresh)]
            one, other = (suggested(trial) for trial in pair)
            assert one == other
            running.append((*pair, rough(one)))
        else:
            first, second, value = running.pop(int(rng.integers(len(running))))
            state = TrialState.FAIL if rng.random() < 0.2 else TrialState.COMPLETE
            for study, trial in ((used, first), (fresh, second)):
                study.tell(trial, value if state is TrialState.COMPLETE else None, state=state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_number_is_asked_before_any_is_told(variant: str) -> None:
    study = made(variant=variant, space=DISTRIBUTIONS)
    drawn = [study.ask(DISTRIBUTIONS).params for _ in range(20)]
    assert len({frozenset(params.items()) for params in drawn}) == 20


def test_values_lie_exactly_on_their_grids() -> None:
    study, space = made(space=DISTRIBUTIONS), declared_space(DISTRIBUTIONS, {})
    study.optimize(objective, n_trials=30)
    for trial in study.trials:
        for name, value in trial.params.items():
            known = trial.distributions[name]
            assert known._contains(known.to_internal_repr(value))
        # off its grid, Optuna would have dropped what the swarm proposed, without a word
        proposed = trial.system_attrs["pso_attn:position"]
        position = np.array([proposed[name] for name in space.space.names])
        assert space.params(space.space.decode(position)).items() <= trial.params.items()


@pytest.mark.parametrize("step", [0.1, 0.25, 1e-7, 3.3])
def test_no_proposal_is_dropped_for_being_off_its_step(step: float) -> None:
    known = FloatDistribution(-3.3, {0.1: 3.3, 0.25: 3.2, 1e-7: 3.3, 3.3: 3.3}[step], step=step)
    study, asked = made(space={"x": known}), []
    study.sampler.sample_independent = lambda *a: asked.append(a)  # type: ignore[method-assign]  # must not be called
    for _ in range(12):
        study.tell(study.ask({"x": known}), 0.0)
    assert asked == []


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("ends", [(1, 2**63 - 1), (-(2**62), 2**62), (-(2**70) - 1, 2**70 + 1)])
def test_integers_are_searched_however_wide_their_range(ends: tuple[int, int], log: bool) -> None:
    known = IntDistribution(max(ends[0], 1) if log else ends[0], ends[1], log=log)
    study = made(space={"x": known})
    for at in (0.0, 0.3, 1.0):
        study.enqueue_trial({"x": int(known.low + at * (known.high - known.low) * 0.999)})
    asked: list[Any] = []
    study.sampler.sample_independent = lambda *a: asked.append(a)  # type: ignore[method-assign]  # must not be called
    study.optimize(
        lambda trial: abs(trial.suggest_int("x", known.low, known.high, log=log) / ends[1] - 0.6),
        n_trials=30,
    )
    assert not asked
    drawn = [trial.params["x"] for trial in study.trials]
    assert all(isinstance(x, int) and known.low <= x <= known.high for x in drawn)
    assert study.best_value < 0.1
    space = declared_space({"x": known}, {})
    for x in (0.0, 1.0):
        told = space.params({"x": space.space.coordinates[0].scale.value(x)})["x"]
        assert known._contains(known.to_internal_repr(told))


@pytest.mark.parametrize("most", [2**54, 2**62, 2**70])
def test_wide_integers_on_a_log_scale_are_not_repeated(most: int) -> None:
    study = made(n_particles=8, variant="pso")
    study.optimize(lambda trial: abs(trial.suggest_int("x", 1, most, log=True) - 5.0), n_trials=40)
    assert study.best_params == {"x": 5}
    assert len({trial.params["x"] for trial in study.trials}) == 40


def test_a_wide_range_of_integers_is_drawn_from_before_it_is_known() -> None:
    study = made()
    study.optimize(lambda trial: trial.suggest_int("x", 0, 2**63 - 1) / 2**63, n_trials=12)
    assert study.best_value < 0.05
    with pytest.raises(StudyError, match=r"parameter y ranges from 0 to .* in steps of 3, more"):
        study.ask({"y": IntDistribution(0, 3 * 2**70, step=3)})


def test_the_swarm_beats_random_search_both_ways_round() -> None:
    random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    random.optimize(bowl, n_trials=60)
    smallest, largest = made(), made(direction="maximize")
    smallest.optimize(bowl, n_trials=60)
    largest.optimize(lambda trial: -bowl(trial), n_trials=60)
    assert smallest.best_value < random.best_value / 2
    assert all_params(smallest) == all_params(largest)


def test_the_default_variant_finds_the_bottom_of_a_bowl_in_thirty_trials() -> None:
    study = made(variant="pso", n_particles=8)
    study.optimize(bowl, n_trials=30)
    assert study.best_value < 0.05


@pytest.mark.parametrize("fail", [ZeroDivisionError, optuna.TrialPruned, None])
def test_a_study_whose_first_trials_failed_goes_on_as_if_it_began(fail: type | None) -> None:
    def mended(trial: optuna.Trial) -> float:
        value = bowl(trial) + trial.suggest_categorical("offset", [4.0, 0.0, 9.0])
        if trial.number >= 16:
            return value
        if fail is None:
            return float("inf")
        raise fail

    bests, storage = [], optuna.storages.InMemoryStorage()
    for seed in range(3):
        study = made(variant="pso", n_particles=8, seed=seed)
        study.optimize(mended, n_trials=46, catch=ZeroDivisionError)
        bests.append(study.best_value)
        if seed == 0:
            for count in (12, 9, 25):
                part = made(storage, variant="pso", n_particles=8, seed=0)
                part.optimize(mended, n_trials=count, catch=ZeroDivisionError)
            assert all_params(part) == all_params(study)
    assert max(bests) < 0.05, bests


def test_failures_keep_their_slot_and_never_lead() -> None:
    def flaky(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number % 3 == 1:
            raise ZeroDivisionError
        return float("nan") if trial.number % 7 == 2 else value

    study = made()
    study.optimize(flaky, n_trials=21, catch=ZeroDivisionError)
    trials = read(study)
    assert [trial.candidate.particle for trial in trials] == [n % 4 for n in range(21)]
    failed = [frozen.number for frozen in study.trials if frozen.state is TrialState.FAIL]
    assert failed
    assert all(trials[n].outcome.state is State.FAIL for n in failed)


def test_a_trial_that_failed_before_it_suggested_anything_repeats_its_particle() -> None:
    study = made()
    study.optimize(objective, n_trials=5)
    study.tell(study.ask(), state=TrialState.FAIL)
    study.optimize(objective, n_trials=3)
    trials = read(study)
    np.testing.assert_array_equal(trials[5].candidate.position, trials[1].candidate.position)
    assert trials[5].outcome.values == trials[1].outcome.values


def test_a_pruned_trial_counts_and_never_poses_as_full() -> None:
    def pruned(trial: optuna.Trial) -> float:
        value = objective(trial)
        for step in range(4):
            trial.report(value / (step + 1), step)
            if trial.number % 2 and step == 1:
                raise optuna.TrialPruned
        return value

    study = made()
    study.optimize(pruned, n_trials=12)
    for trial, frozen in zip(read(study), study.trials, strict=True):
        assert trial.is_full == (frozen.state is TrialState.COMPLETE)
        assert trial.outcome.values == (frozen.value,)
        assert trial.is_full or 0.4 < trial.outcome.fidelity < 0.6


def test_a_trial_that_violates_a_constraint_never_leads() -> None:
    def constrained(trial: optuna.Trial) -> float:
        value = bowl(trial)
        trial.set_constraint("right of 1", 1.0 - trial.params["x"])
        return value

    study = made(n_particles=8, variant="pso")
    study.optimize(constrained, n_trials=40)
    for trial, frozen in zip(read(study, 8), study.trials, strict=True):
        assert trial.is_full == (frozen.params["x"] >= 1.0)
    assert study.best_trial.params["x"] >= 1.0
    late = [trial.params["x"] >= 1.0 for trial in study.trials[20:]]
    assert sum(late) > 10


def test_a_constraint_counts_as_soon_as_a_running_trial_breaks_it() -> None:
    study = made()
    study.optimize(bowl, n_trials=6)
    space, reader = seen_space(study.trials), StudyReader(0, 4)
    running = study.ask()
    bowl(running)
    states = []
    for name, amount in (("met", -1.0), ("broken", 2.0)):
        running.set_constraint(name, amount)
        states.append(reader.read(space, study.trials, MINIMISED).history.trials[-1].outcome.state)
    assert states == [State.COMPLETE, State.FAIL]


def test_a_running_trial_stands_at_its_particles_best_until_it_is_told() -> None:
    study = made()
    study.optimize(bowl, n_trials=6)
    running = study.ask()
    bowl(running)
    best = min(study.trials[2].value, np.inf)
    assert read(study)[6].outcome.values == (best,)
    study.tell(running, 1e6)
    assert read(study)[6].outcome.values == (1e6,)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_surrogate_says_what_running_trials_may_give(direction: Direction) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    study = made(variant="pso", direction=direction)
    study.optimize(lambda trial: sign * bowl(trial), n_trials=20)
    for place in ({"x": 4.9, "y": 4.9}, study.best_params):
        study.enqueue_trial(place)
        bowl(study.ask())
    swarm, space = ScreenedSwarm(7, 4, 1, 1000), seen_space(study.trials[:20])
    objective = Objective("objective", direction)
    seen = StudyReader(7, 4).read(space, study.trials, objective)
    assert (seen.settled, seen.running) == (20, (20, 21))
    past = seen.history.truncated(20)
    belief = Belief.of(swarm.ledger(space.space, past), space.space, 4)
    told = belief.told(space.space, seen.history, seen.running)
    far, near = (told.loss(trial) for trial in told.trials[20:])
    best = sign * study.best_value
    assert far > 10.0 > near >= best
    assert told.generations[:20] == seen.history.generations[:20]


def test_batches_are_nearly_as_good_as_one_trial_at_a_time() -> None:
    study = made(variant="pso", n_particles=8)
    for _ in range(5):
        trials = [study.ask() for _ in range(8)]
        for trial, value in [(trial, bowl(trial)) for trial in trials]:
            study.tell(trial, value)
    assert study.best_value < 0.05


def test_what_a_running_trial_suggests_is_seen_as_it_comes() -> None:
    study = made()
    study.optimize(bowl, n_trials=1)
    space, reader = seen_space(study.trials), StudyReader(0, 4)
    running = study.ask()
    running.study.sampler = optuna.samplers.RandomSampler(seed=1)  # notes no position beforehand
    places = []
    for name in ("x", "y"):
        running.suggest_float(name, -5, 5)
        last = reader.read(space, study.trials, MINIMISED).history.trials[-1]
        places.append(last.candidate.position)
    assert places[0][0] == places[1][0] != 0.5
    assert places[0][1] == 0.5 != places[1][1]


def test_one_sampler_serves_two_studies_as_two_would() -> None:
    shared = pso_attn.PSOSampler(4, 7, "pso-classic", DISTRIBUTIONS)
    studies = [optuna.create_study(sampler=shared) for _ in range(2)]
    alone = [made(space=DISTRIBUTIONS) for _ in range(2)]
    losses = [lambda trial: -objective(trial), objective]
    for _ in range(8):
        for pair in zip(studies, alone, losses, strict=True):
            for study in pair[:2]:
                study.optimize(pair[2], n_trials=2)
    assert [all_params(study) for study in studies] == [all_params(study) for study in alone]


def test_one_sampler_serves_studies_of_one_name_in_two_storages() -> None:
    def labelled(trial: optuna.Trial, labels: tuple[str, ...]) -> float:
        return bowl(trial) + float(trial.suggest_categorical("label", labels) == labels[0])

    first, second = made(), made()
    first.optimize(partial(labelled, labels=("a", "b")), n_trials=7)
    second.sampler = optuna.samplers.RandomSampler(seed=1)
    second.optimize(partial(labelled, labels=("c", "d")), n_trials=6)
    second.sampler = first.sampler  # which last looked at six trials of the first
    second.optimize(partial(labelled, labels=("c", "d")), n_trials=6)
    assert {trial.params["label"] for trial in second.trials} <= {"c", "d"}


@pytest.mark.parametrize("variant", ["pso", "pso-classic"])
def test_a_study_of_the_same_trials_with_other_values_is_read_anew(variant: str) -> None:
    first, second, fresh = (made(variant=variant) for _ in range(3))
    first.optimize(bowl, n_trials=12)
    second.sampler = first.sampler
    for trial in first.get_trials():
        trial.value = -trial.value
        second.add_trial(trial)
        fresh.add_trial(trial)
    for study in (second, fresh):
        study.optimize(bowl, n_trials=8)
    assert all_params(second) == all_params(fresh)


def test_enqueued_trials_are_taken_as_they_are_and_learned_from() -> None:
    study = made(n_particles=6)
    study.enqueue_trial({"x": 0.01, "y": 0.01})
    study.enqueue_trial({"x": 0.02})
    study.optimize(bowl, n_trials=40)
    assert study.trials[0].params == {"x": 0.01, "y": 0.01}
    assert study.trials[1].params["x"] == 0.02
    assert np.median([trial.value for trial in study.trials[30:]]) < 5.0
    assert len({trial.params["x"] for trial in study.trials}) > 30


def test_trials_of_another_sampler_are_learned_from() -> None:
    study = made()
    study.sampler = optuna.samplers.RandomSampler(seed=1)
    study.optimize(objective, n_trials=10)
    study.sampler = made().sampler
    study.optimize(objective, n_trials=10)
    assert len(read(study)) == 20


@pytest.mark.parametrize("case", ["alike", "wider at last", "conditional at last", "conditional"])
def test_a_space_that_is_followed_from_trial_to_trial_is_that_of_all_trials(case: str) -> None:
    """Also where they end in another order, and the very same space where nothing is new."""

    def objective(trial: optuna.Trial) -> float:
        late = trial.number >= 12
        x = trial.suggest_float("x", 0.0, 2.0 if late and case == "wider at last" else 1.0)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        has_more = case == "conditional" or (late and case == "conditional at last")
        return x + (trial.suggest_int("n", 1, 9) if has_more and kind == "b" else 0)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=24)
    seen, trials = Seen(declared_space({}, {})), study.trials
    order = [*range(0, 24, 2), *range(1, 24, 2)]
    for count in range(25):
        so_far = [trials[k] for k in sorted(order[:count])]
        before, seen = seen.space, seen.after(so_far)
        expected = seen_space(so_far)
        assert seen.space.distributions == expected.distributions
        assert seen.space.space.coordinates == expected.space.coordinates
        if case == "alike" and count > 1:
            assert seen.space is before
    assert seen.after(trials) is seen


def test_a_fixed_parameter_stays_fixed_and_the_others_move() -> None:
    study = made()
    study.optimize(bowl, n_trials=6)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.sampler = optuna.samplers.PartialFixedSampler({"y": 1.5}, study.sampler)
    study.optimize(bowl, n_trials=10)
    assert {trial.params["y"] for trial in study.trials[6:]} == {1.5}
    assert len({trial.params["x"] for trial in study.trials[6:]}) == 10
    space = seen_space(study.trials)
    y = [trial.candidate.position[space.space.names.index("y")] for trial in read(study)[6:]]
    np.testing.assert_allclose(y, 0.65)


@pytest.mark.parametrize("variant", ["pso", "pso-classic"])
def test_where_a_parameter_is_held_the_others_are_searched_for_its_value(variant: str) -> None:
    def apart(trial: optuna.Trial) -> float:
        return float((trial.suggest_int("x", 0, 15) - trial.suggest_int("y", 0, 15)) ** 2)

    for seed in range(3):
        study = made(n_particles=8, seed=seed, variant=variant)
        study.optimize(apart, n_trials=16)
        swarm = study.sampler
        for y in (3, 12):
            with pytest.warns(optuna.exceptions.ExperimentalWarning):
                study.sampler = optuna.samplers.PartialFixedSampler({"y": y}, swarm)
            study.optimize(apart, n_trials=16)
            held = study.trials[-16:]
            assert {trial.params["y"] for trial in held} == {y}
            assert min(trial.values[0] for trial in held) <= 1


@pytest.fixture
def holding() -> Iterator[Holding]:
    """Return what holds parameters of a study from now on, without a word of how new that is."""

    def hold(study: optuna.Study, params: dict[str, Any]) -> None:
        study.sampler = optuna.samplers.PartialFixedSampler(params, study.sampler)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield hold


def test_a_failure_before_what_is_held_was_suggested_loses_no_history(holding: Holding) -> None:
    def flaky(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -5, 5)
        if trial.number == 20:
            raise ZeroDivisionError
        return x**2 + trial.suggest_float("y", -5, 5) ** 2

    def proposed(objective: Callable[[optuna.Trial], float]) -> Any:
        study = made()
        study.optimize(bowl, n_trials=6)
        holding(study, {"y": 1.5})
        study.optimize(objective, n_trials=16, catch=ZeroDivisionError)
        return [trial.params["x"] for trial in study.trials]

    assert proposed(flaky) == proposed(bowl)  # a classic swarm's next particle is another one


def test_what_is_held_need_not_act_in_every_trial(
    holding: Holding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gated(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", -5, 5) ** 2
        return value + 1.0 if trial.number % 2 else value + trial.suggest_float("y", -5, 5)

    study, told = made(), []
    study.optimize(gated, n_trials=8)
    holding(study, {"y": 1.5})
    plain = StudyReader.read

    def spied(*arguments: Any) -> Any:
        told.append(len(arguments[2]))
        return plain(*arguments)

    monkeypatch.setattr(StudyReader, "read", spied)
    study.optimize(gated, n_trials=8)
    assert told == list(range(8))


@pytest.mark.parametrize("variant", ["pso", "pso-classic"])
def test_workers_that_choose_at_once_go_apart_where_a_parameter_is_held(
    variant: str, holding: Holding
) -> None:
    storage = optuna.storages.InMemoryStorage()
    one, two = made(storage, variant=variant), made(storage, variant=variant)
    one.optimize(bowl, n_trials=6)
    ours = two.sampler
    for study in (one, two):
        holding(study, {"y": 1.5})
    one.optimize(bowl, n_trials=6)
    first = one.ask()  # before the other one, and it chooses while the other one does
    plain = ours._proposed

    def meanwhile(*arguments: Any) -> Any:
        position = plain(*arguments)
        bowl(first)
        return position

    ours._proposed = meanwhile
    bowl(two.ask())
    assert one.trials[-1].params["x"] != one.trials[-2].params["x"]


def test_one_sampler_serves_studies_of_other_labels_where_a_parameter_is_held(
    holding: Holding,
) -> None:
    shared = pso_attn.PSOSampler(4, 7, "pso-classic")
    for labels in (("a", "b"), ("c", "d")):

        def labelled(trial: optuna.Trial, labels: tuple[str, ...] = labels) -> float:
            return bowl(trial) + float(trial.suggest_categorical("label", labels) == labels[0])

        study = optuna.create_study(sampler=shared)
        study.optimize(labelled, n_trials=5)
        holding(study, {"y": 1.5})
        study.optimize(labelled, n_trials=5)
        assert {trial.params["label"] for trial in study.trials} == set(labels)


def layered(trial: optuna.Trial) -> float:
    """Have as many parameters as a parameter says."""
    total = 0.0
    for layer in range(trial.suggest_int("layers", 1, 3)):
        total += (trial.suggest_float(f"width{layer}", 0.0, 1.0) - 0.3) ** 2
    if trial.suggest_categorical("gate", [False, True]):
        total += trial.suggest_float("slope", 1e-3, 1.0, log=True)
    return total


def test_conditional_parameters_are_moved_by_the_swarm_too() -> None:
    study = made(n_particles=6)
    study.optimize(layered, n_trials=40)
    space = seen_space(study.trials).space
    when = {coordinate.name: dict(coordinate.when) for coordinate in space.coordinates}
    assert when["layers"] == when["width0"] == {}
    assert set(when["width1"]["layers"]) == {2, 3}
    assert set(when["width2"]["layers"]) == {3}
    assert when["slope"] == {"gate": (1,)}
    last = study.trials[-1]
    assert set(last.params) <= set(last.system_attrs["pso_attn:position"])


def test_a_study_of_changing_parameters_and_ranges_goes_on() -> None:
    study = made()
    study.optimize(lambda trial: trial.suggest_float("a", 0, 1), n_trials=5)
    study.optimize(lambda trial: trial.suggest_float("b", 0, 1), n_trials=5)
    study.optimize(lambda trial: trial.suggest_float("a", 5, 6) + bowl(trial), n_trials=8)
    assert all(5 <= trial.params["a"] <= 6 for trial in study.trials[10:])
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}


def test_first_draws_are_keyed_by_name_and_fill_each_range_evenly() -> None:
    one, two = made(n_particles=8), made(n_particles=8)
    trials = [(one.ask(), two.ask()) for _ in range(8)]
    xs = []
    for first, second in trials:
        x, y = first.suggest_float("x", 0, 1), first.suggest_float("y", 0, 1)
        assert (second.suggest_float("y", 0, 1), second.suggest_float("x", 0, 1)) == (y, x)
        assert x != y
        xs.append(x)
    assert sorted(int(x * 8) for x in xs) == list(range(8))


@pytest.mark.parametrize("variant", ["pso", "pso-classic"])
def test_threads_share_a_sampler(variant: str) -> None:
    study = made(variant=variant)
    study.optimize(objective, n_trials=20, n_jobs=4)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    # a particle whose last trial has not suggested anything yet may begin from rest, and stay
    assert len({trial.params["x"] for trial in study.trials}) >= 16


def _work(path: str, count: int) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made(JournalStorage(JournalFileBackend(path))).optimize(objective, n_trials=count)


def test_two_processes_work_on_one_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "journal.log")
    storage = JournalStorage(JournalFileBackend(path))
    made(storage)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(path, 10)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    trials = made(storage).trials
    assert [trial.number for trial in trials] == list(range(20))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({trial.params["x"] for trial in trials}) >= 16


def test_a_worker_that_was_killed_holds_nobody_up() -> None:
    study = made()
    study.optimize(bowl, n_trials=5)
    study.ask()
    bowl(study.ask())
    study.optimize(bowl, n_trials=10)
    assert len({trial.params.get("x") for trial in study.trials}) == 17


def test_what_runs_for_hundreds_of_trials_is_taken_for_failed() -> None:
    study = made()
    bowl(study.ask())
    study.sampler = optuna.samplers.RandomSampler(seed=1)
    study.optimize(bowl, n_trials=255)
    space, reader = seen_space(study.trials), StudyReader(0, 4)
    assert reader.read(space, study.trials, MINIMISED).settled == 0
    study.optimize(bowl, n_trials=1)
    seen = reader.read(space, study.trials, MINIMISED)
    assert seen.settled == 257
    assert seen.history.trials[0].outcome.state is State.FAIL


def test_a_pruner_that_hides_trials_hides_none_from_the_swarm() -> None:
    def reported(trial: optuna.Trial) -> float:
        value = bowl(trial)
        for step in range(9):
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    sampler = pso_attn.PSOSampler(n_particles=4, seed=1, variant="pso-classic")
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    study = optuna.create_study(sampler=sampler, pruner=pruner)
    study.optimize(reported, n_trials=30)
    assert len({trial.params["x"] for trial in study.trials}) == 30


def test_a_given_space_brings_its_starts_conditions_and_constraints() -> None:
    space = mixed(starts=[{"kind": "a", "slope": 1.5}], constraints=["heads * window <= 64"])
    known = given_space(space).distributions
    study = made(space=space)

    def asked(trial: optuna.Trial) -> float:
        always = ("kind", "gate", "heads", "window", "rate")
        params = {name: trial._suggest(name, known[name]) for name in always}
        if params["kind"] == "a":
            params["slope"] = trial._suggest("slope", known["slope"])
        return float(params["rate"]) + params.get("slope", 3.0)

    study.optimize(asked, n_trials=25)
    assert all_params(study)[:2] == [space.decode(start) for start in space.starts]
    assert all(trial.params["heads"] * trial.params["window"] <= 64 for trial in study.trials)


def test_a_study_of_two_objectives_is_refused_in_one_sentence() -> None:
    study = optuna.create_study(
        directions=["minimize", "minimize"], sampler=pso_attn.PSOSampler(seed=1)
    )
    with pytest.raises(StudyError, match=r"one objective and this study has 2; combine them"):
        study.ask({"x": FloatDistribution(0, 1)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_particles": 1}, "a swarm of 1 has nobody to learn from"),
        ({"variant": "pso-clasic"}, 'did you mean "pso-classic"'),
        (
            {"variant": "pso-competitive"},
            '"pso-competitive" is a swarm for searches of weights, not for a study; choose one of '
            "pso, pso-classic, pso-spso2011, pso-bare-bones, pso-clpso",
        ),
        ({"variant": "pso-social"}, '"pso-social" is a swarm for searches of weights'),
        ({"seed": -1}, "seed = -1 is negative"),
        ({"space": [1]}, "space is a list; give a pso_attn.Space"),
        ({"variant": "pso", "options": {"drows": 5}}, 'no option "drows"; did you mean "draws"'),
        ({"variant": "pso", "options": {"draws": 0}}, "draws = 0 does not work; give an integer"),
        ({"variant": "pso-classic", "options": {"draws": 5}}, 'pso-classic has no option "draws"'),
        ({"options": 5}, "options is of type int; give a dict of the variant's own"),
        ({"options": {1: 2}}, "options has 1 for a name; name each of the variant's own"),
        ({"n_trials": 0}, "n_trials = 0 is no number of trials; give 1 or more"),
        ({"n_particles": 8.0}, r"n_particles is 8\.0; give a whole number"),
        ({"n_particles": "8"}, "n_particles is '8'; give a whole number"),
        ({"n_particles": None}, "n_particles is None; give a whole number"),
        ({"n_particles": True}, "n_particles is True; give a whole number"),
        ({"seed": "x"}, "seed is 'x'; give a whole number"),
        ({"seed": 1.5}, r"seed is 1\.5; give a whole number"),
        ({"n_trials": 2.5}, r"n_trials is 2\.5; give a whole number"),
        ({"variant": None}, "variant is None; give a swarm's name: pso, pso-classic"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        pso_attn.PSOSampler(**arguments)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [(-1e308, 1e308, "more than a float can span"), (1e9, 1e9 + 1e-3, "too narrow for its size")],
)
def test_a_range_that_cannot_be_searched_is_refused_by_name(
    low: float, high: float, message: str
) -> None:
    with pytest.raises(StudyError, match=rf"parameter rate ranges from .*{message}"):
        made().ask({"rate": FloatDistribution(low, high)})


def test_a_space_of_one_point_needs_no_swarm() -> None:
    study = made(variant="pso")
    study.optimize(lambda trial: trial.suggest_int("one", 1, 1), n_trials=3)
    assert all_params(study) == [{"one": 1}] * 3


@pytest.mark.parametrize("value", [1.0, 1e300, float("inf"), -float("inf")])
def test_losses_that_say_nothing_do_not_stop_it(value: float) -> None:
    study = made(variant="pso")
    study.optimize(lambda trial: bowl(trial) * 0.0 + value, n_trials=12)
    assert len({frozenset(params.items()) for params in all_params(study)}) == 12


def test_the_options_are_those_of_a_space_file() -> None:
    star = {"topology": "star", "rule": "inertia"}
    study = made(options=star)
    study.optimize(bowl, n_trials=20)
    plain = made()
    plain.optimize(bowl, n_trials=20)
    assert all_params(study)[:4] == all_params(plain)[:4]  # drawn before any option counts
    assert all_params(study) != all_params(plain)
    few = made(variant="pso", options={"draws": 1, "topology": "pyramid"})
    few.optimize(bowl, n_trials=12)
    assert {trial.state for trial in few.trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize("variant", ["pso-classic", "pso-clpso"])
def test_inertia_falls_over_the_trials_that_were_announced(variant: str) -> None:
    options = {"rule": "inertia"} if variant == "pso-classic" else {}
    spreads = []
    for announced in (200, None):
        study = made(variant=variant, options=options, n_trials=announced)
        study.optimize(bowl, n_trials=200)
        spreads.append(np.std([trial.params["x"] for trial in study.trials[-40:]]))
    assert spreads[0] < spreads[1] / 2


def test_a_pickled_sampler_is_the_same_sampler() -> None:
    arguments = {"options": {"topology": "star"}, "n_trials": 9}
    study, other = made(**arguments), made(**arguments)
    study.optimize(objective, n_trials=9)
    other.optimize(objective, n_trials=6)
    other.sampler = pickle.loads(pickle.dumps(other.sampler))
    other.optimize(objective, n_trials=3)
    assert all_params(other) == all_params(study)


def test_the_variants_are_the_swarms_of_the_command_line() -> None:
    for name, swarm in VARIANTS.items():
        assert SAMPLERS[name] == f"pso_attn.swarm:{swarm.__name__}"
    swarms = {name for name in SAMPLERS if name.partition("-")[0] == "pso"}
    assert swarms == {*VARIANTS, *FOR_WEIGHTS}


@pytest.mark.parametrize("after", ["", "; pso_attn.Space"])
def test_importing_the_package_loads_no_optuna(after: str) -> None:
    code = f"import sys, pso_attn{after}; sys.exit(bool({{'optuna', 'torch'}} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_example_runs() -> None:
    path = Path(__file__).parents[2] / "examples" / "optuna_study.py"
    ran = subprocess.run([sys.executable, path], check=True, capture_output=True, text=True)
    assert "best" in ran.stdout
