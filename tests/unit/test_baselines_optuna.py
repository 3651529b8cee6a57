from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from pso_attn.baselines import CovarianceAdaptation, GaussianProcess, Genetic, PySwarms, TreeParzen
from pso_attn.baselines.rebuilt_study import (
    asked,
    conditional_waves,
    distributions,
    quiet_optuna,
    rebuilt_study,
)
from pso_attn.errors import ConfigurationError
from pso_attn.space import Knob, read_space
from pso_attn.testing import drive, finished
from pso_attn.testing.driving import MINIMISED, best_loss
from pso_attn.testing.samplers import roughness
from pso_attn.testing.spaces import cube, mixed, space_of
from pso_attn.types import History, Objective, State

MIXED = mixed()
PARAMS = {"kind": "b", "gate": True, "heads": 8, "window": 16, "rate": 0.01}


def history_of(*trials, objective=MINIMISED[0]):
    return History((objective,), (trials,))


def trial_at(number, params, loss, **rest):
    return finished(0, number, number, MIXED.encode(params), loss, params=params, **rest)


def rebuilt(history, space=MIXED):
    return rebuilt_study(space, history, RandomSampler(seed=0)).trials


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "nsga2", "pyswarms"])
def test_a_baseline_refuses_options_by_its_own_name(name):
    baseline = {
        "tpe": TreeParzen,
        "gp": GaussianProcess,
        "cmaes": CovarianceAdaptation,
        "nsga2": Genetic,
        "pyswarms": PySwarms,
    }[name]
    with pytest.raises(ConfigurationError, match=f'^{name} takes no options, and "gamma" was'):
        baseline(0, 8, 8, 10, {"gamma": 3})


def test_ordered_and_labelled_values_are_told_by_their_place():
    (trial,) = rebuilt(history_of(trial_at(0, PARAMS, 0.5)))
    assert trial.params == {"kind": 1, "gate": 1, "heads": 3, "window": 16, "rate": 0.01}
    assert trial.distributions["heads"] == optuna.distributions.IntDistribution(0, 3)
    assert trial.distributions["kind"] == optuna.distributions.CategoricalDistribution((0, 1, 2))
    assert trial.distributions["window"].log
    assert trial.value == 0.5


def test_a_knob_that_does_not_act_is_absent_from_its_trial():
    with_slope = {**PARAMS, "kind": "a", "slope": 1.5}
    one, two = rebuilt(history_of(trial_at(0, PARAMS, 1.0), trial_at(1, with_slope, 2.0)))
    assert "slope" not in one.params
    assert two.params["slope"] == 1.5


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf"), -float("inf")])
def test_a_trial_without_a_finite_loss_is_a_failure(loss):
    (trial,) = rebuilt(history_of(trial_at(0, PARAMS, loss)))
    assert trial.state is TrialState.FAIL


def test_what_is_maximised_is_told_as_a_loss():
    accuracy = Objective("accuracy", "maximize")
    whole, pruned = rebuilt(
        history_of(
            trial_at(0, PARAMS, 0.9), trial_at(1, PARAMS, 0.4, fidelity=0.5), objective=accuracy
        )
    )
    assert whole.value == -0.9
    assert pruned.intermediate_values == {1: -0.4}


def test_a_pruned_trial_is_told_with_its_learning_curve():
    trial = trial_at(0, PARAMS, 0.7, fidelity=0.5)
    curve = {25: 1.5, 50: 0.7}
    trial = replace(trial, outcome=replace(trial.outcome, curve=curve))
    (told,) = rebuilt(history_of(trial))
    assert told.state is TrialState.PRUNED
    assert told.intermediate_values == curve


def test_an_infeasible_trial_is_told_with_what_it_violates():
    trial = trial_at(0, PARAMS, None)
    candidate = replace(trial.candidate, violations={"heads * window <= 64": 64.0})
    (told,) = rebuilt(history_of(replace(trial, candidate=candidate)))
    assert told.state is TrialState.PRUNED
    assert told.constraints == {"heads * window <= 64": 64.0}


def test_a_batch_is_asked_with_its_earlier_trials_running():
    space = mixed(starts=[{"kind": "a", "slope": 1.5}])
    history = drive(TreeParzen(0, 6, 6, 3), space, roughness, 3)
    study = rebuilt_study(space, history.truncated(2), RandomSampler(seed=0))
    positions = asked(space, study, 12, 4)
    running = study.get_trials(states=[TrialState.RUNNING])
    assert len(running) == 4
    for position, trial in zip(positions, running, strict=True):
        known = distributions(space)
        names = space.decode(position).keys()
        assert trial.params.keys() == names
        assert trial.distributions == {name: known[name] for name in names}


def test_starts_are_told_and_not_asked_for():
    space = mixed(starts=[{"kind": "a", "slope": 1.5}])
    study = rebuilt_study(space, History(MINIMISED), RandomSampler(seed=0))
    positions = asked(space, study, 0, 3)
    np.testing.assert_array_equal(positions[:2], space.starts)
    assert study.trials[1].params["slope"] == 1.5


def test_a_knob_is_suggested_after_those_that_decide_about_it():
    space = space_of(
        [
            Knob("depth", "int", "Below both.", low=1, high=9, when={"kind": ("a",)}),
            Knob("kind", "categorical", "Decides.", choices=("a", "b"), when={"gate": (True,)}),
            Knob("gate", "bool", "Decides.", choices=(False, True), default=False),
        ]
    )
    names = [[space.names[column] for column in wave] for wave in conditional_waves(space)]
    assert names == [["gate"], ["kind"], ["depth"]]
    history = drive(TreeParzen(0, 8, 8, 3), space, roughness, 3)
    seen = {frozenset(trial.candidate.params) for trial in history.trials}
    assert seen == {
        frozenset({"gate"}),
        frozenset({"gate", "kind"}),
        frozenset({"gate", "kind", "depth"}),
    }


def test_layers_and_heads_are_suggested_before_what_there_is_one_of_for_each():
    knobs = {
        "layers": Knob("layers", "int", "", low=1, high=3, default=2),
        "heads": Knob("heads", "ordered", "", choices=(1, 2), default=2),
        "slope": Knob("slope", "float", "", low=0.0, high=1.0, per=("model", "layer", "head")),
    }
    search = {"slope": {"per": "head"}, "heads": {}, "layers": {}}
    space = read_space(search, {}, knobs, [], [], None, "testing")
    first, *later = [[space.names[c] for c in wave] for wave in conditional_waves(space)]
    assert set(first) == {"layers", "heads"}
    assert {name.split(".")[0] for wave in later for name in wave} == {"slope"}


def test_generations_of_the_genetic_algorithm_are_counted_as_optuna_counts_them():
    """A live study, asked and told in batches of 4 with a population of 6, some trials failing."""
    with quiet_optuna():
        study = optuna.create_study(sampler=NSGAIISampler(population_size=6, seed=0))
    key, space, history = "NSGAIISampler:generation", cube(2), History(MINIMISED)
    for generation in range(9):
        batch = [study.ask(distributions(space)) for _ in range(4)]
        trials = []
        for trial in batch:
            failed = trial.number % 3 == 1
            loss = None if failed else sum(trial.params.values())
            study.tell(trial, loss, TrialState.FAIL if failed else TrialState.COMPLETE)
            position = space.encode(trial.params)
            trials.append(
                finished(generation, trial.number, 0, position, loss, params=trial.params)
            )
        history = History(MINIMISED, (*history.generations, tuple(trials)))
    counted = Genetic(0, 6, 4, 9)._attributes(history)
    assert [each[key] for each in counted] == [t.system_attrs[key] for t in study.trials]
    assert counted[-1][key] > 1


def test_the_first_of_a_batch_is_what_optuna_itself_would_ask_next():
    """A live study of Optuna's with the same trials and the same seed."""
    space = cube(3)
    history = drive(TreeParzen(0, 8, 8, 3), space, roughness, 3)
    with quiet_optuna():
        live = optuna.create_study(sampler=TPESampler(seed=11))
        for trial in history.trials:
            live.enqueue_trial(dict(trial.candidate.params))
            live.tell(live.ask(distributions(space)), history.loss(trial))
        live.sampler = TPESampler(seed=11)
        expected = live.ask(distributions(space)).params
        study = rebuilt_study(space, history, TPESampler(seed=11))
    position = asked(space, study, 24, 1)[0]
    assert space.decode(position) == pytest.approx(expected)


@pytest.mark.parametrize("baseline", [TreeParzen, Genetic, GaussianProcess])
def test_losses_beyond_all_measure_do_not_stop_it(baseline):
    losses = iter([1e300, -1e300, 1.0, 0.0] * 4)
    history = drive(baseline(0, 4, 4, 4), cube(2), lambda params: next(losses), 4)
    assert all(trial.outcome.state is State.COMPLETE for trial in history.trials)


@pytest.mark.parametrize(("baseline", "gain"), [(TreeParzen, 2), (Genetic, 1.2)])
def test_it_learns(baseline, gain):
    def sphere(params):
        return sum((value - 0.3) ** 2 for value in params.values())

    late, early = [], []
    for seed in range(3):
        history = drive(baseline(seed, 10, 10, 12), cube(4), sphere, 12)
        early.append(best_loss(history.truncated(3)))
        late.append(best_loss(history))
    assert np.median(late) * gain < np.median(early)


@pytest.mark.parametrize("baseline", [TreeParzen, Genetic, GaussianProcess])
def test_optuna_says_nothing(baseline, capfd):
    before = optuna.logging.get_verbosity()
    drive(baseline(0, 4, 4, 4), mixed(), roughness, 4)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before
