from dataclasses import replace

import numpy as np
import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.swarm.restarts import to_redraw
from pso_attn.swarm.state import SwarmState, advance, unborn
from pso_attn.testing import finished
from pso_attn.types import History, Objective, State

NUMBERS = np.zeros(2, dtype=bool)


def fold(*generations, particles=3, anew=(), categorical=NUMBERS, direction="minimize", seed=0):
    """Fold generations of (particle, position, loss[, fidelity]), redrawing `anew` in the last."""
    history = History((Objective("loss", direction),))
    state = unborn(particles, 2)
    for number, rows in enumerate(generations):
        trials = tuple(
            finished(number, slot, particle, np.array(position), *rest)
            for slot, (particle, position, *rest) in enumerate(rows)
        )
        flags = np.isin(np.arange(particles), anew) & (number == len(generations) - 1)
        state = advance(state, trials, history, flags, categorical, seed)
    return state


def test_velocity_is_the_difference_of_the_last_two_positions():
    state = fold([(0, (0.2, 0.9), 1.0)], [(0, (0.3, 0.5), 2.0)])
    np.testing.assert_allclose(state.velocity[0], [0.1, -0.4])


def test_the_first_velocity_is_half_the_way_to_some_point_of_the_cube():
    rows = [(0, (0.2, 0.9), 1.0), (1, (0.2, 0.9), 1.0)]
    state = fold(rows)
    ends = state.position[:2] + 2 * state.velocity[:2]
    assert np.all((ends >= 0) & (ends < 1))
    assert len(np.unique(ends)) == 4
    np.testing.assert_array_equal(fold(rows).velocity, state.velocity)
    assert not np.allclose(fold(rows, seed=1).velocity[:2], state.velocity[:2])


def test_what_was_pruned_after_its_last_step_is_not_taken_for_full():
    history, state = History((Objective("loss", "minimize"),)), unborn(1, 2)
    trials = [finished(n, n, 0, np.full(2, x), x) for n, x in enumerate((0.1, 0.2, 0.1))]
    for trial in trials:
        ended = State.COMPLETE if trial.outcome.values == (0.2,) else State.PRUNED
        trial = replace(trial, outcome=replace(trial.outcome, state=ended))
        state = advance(state, (trial,), history, np.zeros(1, dtype=bool), NUMBERS, 0)
    np.testing.assert_array_equal(state.best_position[0], [0.2, 0.2])


def test_a_label_has_no_velocity():
    state = fold(
        [(0, (0.2, 0.9), 1.0)], [(0, (0.3, 0.5), 2.0)], categorical=np.array([False, True])
    )
    np.testing.assert_allclose(state.velocity[0], [0.1, 0.0])
    first = fold([(0, (0.2, 0.9), 1.0)], categorical=np.array([False, True]))
    assert first.velocity[0][0] != 0.0
    assert first.velocity[0][1] == 0.0


def test_the_personal_best_is_kept_until_something_better_comes():
    state = fold(
        [(0, (0.1, 0.1), 2.0)],
        [(0, (0.2, 0.2), 1.0)],
        [(0, (0.3, 0.3), 1.0)],
        [(0, (0.4, 0.4), 5.0)],
    )
    np.testing.assert_array_equal(state.best_position[0], [0.2, 0.2])
    assert state.best_loss[0] == 1.0
    assert state.idle[0] == 2
    np.testing.assert_array_equal(state.position[0], [0.4, 0.4])


def test_a_maximised_objective_is_negated():
    state = fold([(0, (0.1, 0.1), 2.0)], [(0, (0.2, 0.2), 3.0)], direction="maximize")
    assert state.best_loss[0] == -3.0


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf"), -float("inf")])
def test_failed_and_non_finite_losses_move_the_particle_and_never_become_best(loss):
    state = fold([(0, (0.1, 0.1), 2.0)], [(0, (0.2, 0.2), loss)])
    np.testing.assert_array_equal(state.best_position[0], [0.1, 0.1])
    np.testing.assert_allclose(state.velocity[0], 0.1)
    assert state.idle[0] == 1
    state = fold([(0, (0.1, 0.1), loss)], [(0, (0.2, 0.2), 2.0, 0.5)])
    assert state.best_loss[0] == 2.0  # nor stands in the way of one that was pruned


def test_a_pruned_loss_never_beats_a_full_one():
    state = fold([(0, (0.1, 0.1), 2.0)], [(0, (0.2, 0.2), 1.0, 0.5)])
    assert state.best_loss[0] == 2.0
    assert state.idle[0] == 1


def test_a_full_loss_beats_any_pruned_one():
    state = fold([(0, (0.1, 0.1), 1.0, 0.5)], [(0, (0.2, 0.2), 2.0)])
    assert state.best_loss[0] == 2.0
    assert state.best_fidelity[0] == 1.0


def test_ranks_put_fidelity_before_loss_and_share_ties():
    state = fold(
        [
            (0, (0.1, 0.1), 1.0, 0.5),
            (1, (0.1, 0.1), 3.0),
            (2, (0.1, 0.1), 2.0),
            (3, (0.1, 0.1), None),
            (4, (0.1, 0.1), 2.0),
        ],
        particles=5,
    )
    np.testing.assert_array_equal(state.ranks(), [2.0, 1.0, 0.0, np.inf, 0.0])


def test_a_redrawn_particle_forgets_its_best_and_its_velocity():
    state = fold([(0, (0.1, 0.1), 1.0)], [(0, (0.8, 0.8), 5.0)], anew=[0])
    np.testing.assert_array_equal(state.velocity[0], 0.0)
    np.testing.assert_array_equal(state.best_position[0], [0.8, 0.8])
    assert state.best_loss[0] == 5.0
    assert state.idle[0] == 0


def test_a_missing_best_is_stood_for_by_the_position():
    state = fold([(0, (0.1, 0.1), 1.0), (1, (0.7, 0.7), None)], [(0, (0.2, 0.2), 3.0)])
    np.testing.assert_array_equal(state.attractors()[:2], [[0.1, 0.1], [0.7, 0.7]])


def test_folding_leaves_the_earlier_state_as_it_was():
    before = unborn(3, 2)
    history = History((Objective("loss", "minimize"),))
    trial = finished(0, 0, 0, np.ones(2), 1.0)
    advance(before, (trial,), history, np.zeros(3, dtype=bool), NUMBERS, 0)
    np.testing.assert_array_equal(before.position, 0.0)
    assert not before.evaluated.any()


@pytest.mark.parametrize("row", [(3, (0.1, 0.1), 1.0), (0, (0.1,), 1.0)])
def test_the_history_of_another_swarm_is_refused(row):
    with pytest.raises(ConfigurationError, match="that the search began with"):
        fold([row])


def stagnated(idle, losses) -> SwarmState:
    rows = [(i, (0.1, 0.1), loss) for i, loss in enumerate(losses)]
    repeats = [[(i, (0.1, 0.1), None)] for i, n in enumerate(idle) for _ in range(n)]
    return fold(rows, *repeats, particles=len(losses))


def test_a_stagnated_particle_is_redrawn_unless_it_leads():
    state = stagnated(idle=[2, 2, 1], losses=[1.0, 2.0, 3.0])
    np.testing.assert_array_equal(to_redraw(state, np.array([0, 0, 0]), 2), [False, True, False])


def test_no_stagnation_is_never_a_restart():
    state = stagnated(idle=[9, 9, 9], losses=[1.0, 2.0, 3.0])
    assert not to_redraw(state, np.array([0, 0, 0]), 0).any()


def test_a_particle_that_sees_no_best_is_redrawn_at_once():
    state = stagnated(idle=[0, 0, 0], losses=[None, None, 1.0])
    np.testing.assert_array_equal(to_redraw(state, np.array([0, 2, 2]), 0), [True, False, False])


def test_a_particle_that_was_never_evaluated_is_not_redrawn():
    assert not to_redraw(unborn(3, 2), np.zeros(3, dtype=np.int64), 1).any()
