"""What the top of a report claims, and that it claims no more than was measured."""

from dataclasses import replace

import pytest

from pso_attn.report import findings as found
from pso_attn.report import plain_summary
from pso_attn.report.endings import reasons
from pso_attn.testing.reporting import sample_confirmation, sample_run
from pso_attn.types import History, Objective, State


@pytest.fixture(scope="module")
def run():
    return sample_run(4, 8)


def altered(run, change):
    """The run with every outcome as `change(trial)` gives it."""
    generations = tuple(
        tuple(replace(trial, outcome=change(trial)) for trial in generation)
        for generation in run.history.generations
    )
    return replace(run, history=History(run.history.objectives, generations))


def failed(trial):
    return replace(trial.outcome, state=State.FAIL, values=None, curve={}, error="diverged")


def test_the_best_is_the_lowest_complete_loss_and_ties_go_to_the_earlier(run):
    best = found.findings(run).best
    full = [trial for trial in run.history.trials if trial.is_full]
    assert run.history.loss(best) == min(map(run.history.loss, full))
    level = altered(run, lambda trial: replace(trial.outcome, values=(1.0,)))
    first = next(trial for trial in level.history.trials if trial.is_full)
    assert found.findings(level).best is first


def test_a_pruned_loss_is_never_the_best(run):
    pruned = [t for t in run.history.trials if t.outcome.state is State.PRUNED]
    assert pruned
    lowered = altered(
        run,
        lambda t: (
            replace(t.outcome, values=(-9.0,)) if t.outcome.state is State.PRUNED else t.outcome
        ),
    )
    assert found.findings(lowered).best.outcome.values != (-9.0,)


def test_a_maximised_objective_is_best_where_it_is_highest():
    run = sample_run(3, 8, objective=Objective("accuracy", "maximize"))
    full = [trial.outcome.values[0] for trial in run.history.trials if trial.is_full]
    assert found.value(found.findings(run).best) == max(full)


def test_an_unconfirmed_search_says_so_and_names_the_command(run):
    result = found.findings(run)
    assert result.standing == "unconfirmed"
    assert "not scored on the test split yet" in result.sentence
    assert plain_summary(run)[-1] == "Confirm it: pso-attn confirm sample"


def test_commands_quote_names_and_say_where_other_runs_lie(run):
    other = replace(run, name="a b", runs_dir="elsewhere")
    assert found.confirm_command(other) == "pso-attn confirm 'a b' --runs-dir elsewhere"
    assert found.repeat_command(run) == (
        "pso-attn search runs/sample/config.toml --run sample-again"
    )


def test_the_same_again_has_the_total_that_a_resume_gave(run):
    began = {**run.configuration["run"], "planned_generations": 8}
    budget = {**run.configuration["budget"], "generations": 12}
    raised = replace(run, configuration={**run.configuration, "run": began, "budget": budget})
    assert found.repeat_command(raised).endswith("--run sample-again --generations 12")
    budget["generations"] = 8
    assert found.repeat_command(raised) == found.repeat_command(run)


@pytest.mark.parametrize(
    ("gain", "standing"), [(0.2, "confirmed"), (0.04, "undecided"), (-0.2, "no gain")]
)
def test_the_standing_follows_the_confirmed_gain(run, gain, standing):
    confirmed = replace(run, confirmation=sample_confirmation(run, gain=gain))
    assert found.findings(confirmed).standing == standing


def test_a_gain_that_is_negative_within_the_noise_is_undecided(run):
    document = sample_confirmation(run)
    document["gain"] |= {"mean": -0.001, "significant": False}
    assert found.findings(replace(run, confirmation=document)).standing == "undecided"


def test_confirming_the_defaults_themselves_is_no_gain(run):
    document = sample_confirmation(run)
    zero = {"mean": 0.0, "std": 0.0, "per_seed": [0.0] * 5, "significant": False}
    document["gain"] |= zero
    assert found.findings(replace(run, confirmation=document)).standing == "no gain"


def test_a_gain_that_no_seed_could_measure_is_undecided(run):
    document = sample_confirmation(run)
    document["gain"] |= {"mean": None, "std": None, "per_seed": [], "significant": False}
    assert found.findings(replace(run, confirmation=document)).standing == "undecided"


def test_a_search_in_which_nothing_completed_says_so(run):
    result = found.findings(altered(run, failed))
    assert result.standing == "nothing"
    assert result.best is None
    assert "None of 32 trials completed" in result.sentence
    assert "most often: diverged" in result.sentence


def test_failures_that_differ_by_their_step_are_of_one_reason(run):
    errors = [f"diverged: the score at step {step} is no number" for step in (4, 22)]
    trials = [
        replace(trial, outcome=replace(trial.outcome, error=error))
        for trial, error in zip(
            run.history.trials[:4], [*errors, "mine raised", None], strict=True
        )
    ]
    assert reasons(trials) == [("diverged: the score is no number", 2), ("mine raised", 1)]
    assert reasons(trials[:1]) == [(errors[0], 1)]


def test_a_run_without_generations_is_empty(run):
    empty = replace(run, history=History(run.history.objectives))
    assert found.findings(empty).standing == "empty"
    assert plain_summary(empty)


def test_a_bigger_best_model_is_cautioned_about(run):
    best = found.findings(run).best
    grown = altered(
        run,
        lambda t: (
            replace(t.outcome, metrics={**t.outcome.metrics, "parameters": 90_000})
            if t.number == best.number
            else t.outcome
        ),
    )
    assert "bought by size" in found.findings(grown).caution
    assert found.findings(run).caution == ""


def test_failed_confirming_trainings_are_told(run):
    document = sample_confirmation(run)
    document["rows"][1]["failed"] = 2
    assert (
        "2 confirming trainings failed"
        in found.findings(replace(run, confirmation=document)).caution
    )


def test_every_line_of_the_summary_fits_80_columns(run):
    confirmed = replace(run, confirmation=sample_confirmation(run))
    for lines in map(plain_summary, (run, confirmed, altered(run, failed))):
        assert all(len(line) <= 80 for line in lines)
