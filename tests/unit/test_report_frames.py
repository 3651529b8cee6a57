"""The frames say what the history says, in numbers that were worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from pso_attn.report import frames
from pso_attn.report.endings import ending
from pso_attn.testing import finished
from pso_attn.testing.reporting import sample_run
from pso_attn.testing.spaces import labels, mixed
from pso_attn.types import History, Objective, State

MIDDLE = np.full(2, 0.5)


def history(losses, direction="minimize"):
    """One generation for each inner list; None failed, a tuple is (loss, fidelity)."""
    number, generations = 0, []
    for generation, row in enumerate(losses):
        trials = []
        for slot, given in enumerate(row):
            loss, fidelity = given if isinstance(given, tuple) else (given, 1.0)
            trial = finished(generation, number, slot, MIDDLE, loss, fidelity)
            trials.append(replace(trial, outcome=replace(trial.outcome, seconds=2.0)))
            number += 1
        generations.append(tuple(trials))
    return History((Objective("loss", direction),), tuple(generations))


def test_trials_frame_has_one_row_each_with_values_metrics_and_params():
    run = sample_run(3, 8)
    frame = frames.trials_frame(run.history)
    assert list(frame["number"]) == list(range(24))
    assert list(frame.columns[:5]) == ["number", "generation", "particle", "state", "values.loss"]
    assert frame.columns[-1] == "error"
    complete = frame[frame["state"] == "COMPLETE"]
    assert complete["values.loss"].notna().all()
    assert complete["metrics.parameters"].gt(0).all()
    assert {"params.heads", "params.lr", "metrics.flops", "seeds"} <= set(frame.columns)


def test_trials_frame_of_nothing_is_empty_and_still_has_its_columns():
    frame = frames.trials_frame(History((Objective("loss", "minimize"),)))
    assert frame.empty
    assert "values.loss" in frame


def test_best_so_far_counts_complete_trials_alone():
    frame = frames.convergence_frame(history([[3.0, (1.0, 0.5), None], [2.0, 4.0, float("inf")]]))
    np.testing.assert_array_equal(frame["best"], [3, 3, 3, 2, 2, 2])
    np.testing.assert_array_equal(frame["value"], [3, np.nan, np.nan, 2, 4, np.nan])
    np.testing.assert_array_equal(frame["seconds"], [2, 4, 6, 8, 10, 12])
    assert list(frame["ending"])[:3] == ["complete", "pruned", "failed"]


def test_a_maximised_metric_is_shown_as_itself():
    frame = frames.convergence_frame(history([[0.3, 0.9, 0.5]], "maximize"))
    np.testing.assert_array_equal(frame["best"], [0.3, 0.9, 0.9])


def test_quartiles_are_those_of_each_batch():
    frame = frames.batches_frame(history([[1.0, 2.0, 3.0, 4.0, 5.0], [None] * 5]))
    row = frame.iloc[0]
    assert (row["q25"], row["median"], row["q75"], row["of"]) == (2.0, 3.0, 4.0, 5)
    assert len(frame) == 1  # nothing completed in the second


def test_small_batches_are_put_together():
    frame = frames.batches_frame(history([[float(loss)] for loss in range(16)]))
    np.testing.assert_array_equal(frame["evaluations"], [8, 16])
    np.testing.assert_array_equal(frame["median"], [3.5, 11.5])


def test_very_many_batches_are_put_together():
    frame = frames.batches_frame(history([[1.0, 2.0, 3.0, 4.0]] * 150))
    assert len(frame) == 50
    assert frame["of"].iloc[0] == 12


def test_diversity_follows_every_particle_to_where_it_was_last():
    space = mixed()
    row = np.full(space.dimension, 0.5)
    first = [finished(0, 0, 0, row, 1.0), finished(0, 1, 1, np.zeros_like(row), 1.0)]
    then = finished(1, 2, 1, row, 1.0)  # particle 1 joins particle 0, which did not move
    objective = (Objective("loss", "minimize"),)
    frame = frames.diversity_frame(History(objective, (tuple(first), (then,))), space)
    assert frame["distance"].iloc[0] == pytest.approx(0.25)
    assert frame["distance"].iloc[1] == 0.0
    assert list(frame["particles"]) == [2, 2]


def test_a_space_of_labels_has_categories_and_no_distance():
    space = labels()
    rows = [np.zeros(3), np.full(3, 0.99)]
    trials = tuple(finished(0, k, k, row, 1.0) for k, row in enumerate(rows))
    frame = frames.diversity_frame(History((Objective("loss", "minimize"),), (trials,)), space)
    assert np.isnan(frame["distance"].iloc[0])
    assert frame["kinds"].iloc[0] == 1.0  # two particles can hold two categories, and do


def test_settings_stand_beside_the_defaults_and_changes_are_told():
    space = mixed()
    params = space.decode(space.starts[0]) | {"heads": 8}
    frame = frames.settings_frame(space, space.settings(params)).set_index("knob")
    assert frame.loc["heads", "default"] == 4
    assert frame.loc["heads", "best"] == 8
    assert list(frame.index[frame["changed"]]) == ["heads"]
    assert frame.loc["rate", "searched"] == "0.0001 to 0.1, log"
    assert frame.loc["slope", "default"] is None  # acts with kind = "a" alone


def test_an_infeasible_trial_is_not_called_a_failed_one():
    space = mixed()
    trial = finished(0, 0, 0, space.starts[0], None)
    blocked = replace(trial, candidate=replace(trial.candidate, violations={"heads <= 2": 2.0}))
    assert blocked.outcome.state is State.FAIL
    assert ending(trial) == "failed"
    assert ending(blocked) == "infeasible"


def test_curves_have_a_row_for_each_finite_point():
    run = sample_run(2, 8)
    frame = frames.curves_frame(run.history)
    points = sum(len(trial.outcome.curve) for trial in run.history.trials)
    assert len(frame) == points
    assert set(frame["ending"]) <= {"complete", "pruned", "failed"}
