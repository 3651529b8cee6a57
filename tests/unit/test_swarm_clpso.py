import numpy as np
import pytest

from pso_attn.swarm import ClpsoSwarm
from pso_attn.swarm.clpso import ClpsoOptions, chosen, learning_probability
from pso_attn.testing import finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.spaces import cube
from pso_attn.types import History


def history_of(*generations):
    """Make a history from generations of (position, loss), a row for each particle."""
    return History(
        MINIMISED,
        tuple(
            tuple(
                finished(number, number * len(rows) + i, i, np.array(position), loss)
                for i, (position, loss) in enumerate(rows)
            )
            for number, rows in enumerate(generations)
        ),
    )


def exemplars(swarm, history, dimension=3):
    """Return the exemplars with which the generation after the history moves, (P, D)."""
    space = cube(dimension)
    return swarm._turn(space, len(history), *swarm._folded(space, history)).memory


def test_the_constants_are_the_papers():
    assert ClpsoOptions() == ClpsoOptions(pull=1.49445, refreshing_gap=7, velocity_limit=0.2)


def test_learning_probabilities_rise_from_a_twentieth_to_a_half():
    chances = learning_probability(30)
    assert (chances[0], chances[-1]) == (pytest.approx(0.05), pytest.approx(0.5))
    assert np.all(np.diff(chances) > 0)
    assert chances[14] == pytest.approx(0.05 + 0.45 * (np.exp(140 / 29) - 1) / (np.exp(10) - 1))


@pytest.mark.parametrize("particles", [2, 3, 10])
def test_coordinates_learn_from_others_as_often_as_their_probability_says(particles):
    last, ranks = particles - 1, np.arange(particles, dtype=float)
    found = chosen(last, ranks, 40_000, np.random.default_rng(0))
    assert np.mean(found != last) == pytest.approx(0.5, abs=0.01)
    assert set(found) <= set(range(particles))


def test_the_better_of_two_different_others_is_the_exemplar():
    found = chosen(4, np.array([3.0, 2.0, 1.0, 0.0, 9.0]), 60_000, np.random.default_rng(0))
    chances = [np.mean(found[found != 4] == i) for i in range(4)]
    # of the six pairs of the four others: the best wins three, the worst none
    np.testing.assert_allclose(chances, [0, 1 / 6, 2 / 6, 3 / 6], atol=0.01)


def test_who_would_learn_from_itself_alone_learns_one_coordinate_from_another():
    for seed in range(50):
        found = chosen(0, np.arange(4.0), 3, np.random.default_rng(seed))
        assert np.any(found != 0)


def test_a_particle_keeps_its_exemplars_until_it_stopped_improving_for_the_gap():
    rows = [((0.1 * i, 0.5, 0.5), 1.0 + i) for i in range(6)]
    worse = [(position, 9.0) for position, _ in rows]
    better = [
        (position, 0.1) if i == 5 else (position, 9.0) for i, (position, _) in enumerate(rows)
    ]
    swarm = ClpsoSwarm(0, 6, 6, 20, {"refreshing_gap": 3})
    course = [rows, worse, worse, better, worse, worse, worse]
    seen = [exemplars(swarm, history_of(*course[:n])) for n in range(1, 8)]
    assert np.all(seen[0] >= 0)
    np.testing.assert_array_equal(seen[0], seen[1])  # one move in vain, and two
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[2][:5], seen[3][:5])  # three: chosen anew
    np.testing.assert_array_equal(seen[2][5], seen[5][5])  # but for the one that improved
    assert not np.array_equal(seen[5][5], seen[6][5])


def test_only_those_who_move_choose_exemplars():
    rows = [((0.1 * i, 0.5, 0.5), 1.0 + i) for i in range(4)]
    swarm = ClpsoSwarm(0, 4, 2, 20)
    halves = [
        tuple(
            finished(
                number, 2 * number + s, 2 * number + s, np.array(rows[2 * number + s][0]), 1.0
            )
            for s in range(2)
        )
        for number in range(2)
    ]
    first = exemplars(swarm, History(MINIMISED, tuple(halves[:1])))
    np.testing.assert_array_equal(first, -1)
    second = exemplars(swarm, History(MINIMISED, tuple(halves)))
    assert np.all(second[:2] >= 0)
    np.testing.assert_array_equal(second[2:], -1)


def test_a_coordinate_is_drawn_to_its_exemplars_best_and_no_further_than_the_limit():
    rows = [((0.3, 0.3, 0.3), 1.0), ((0.5, 0.5, 0.5), 2.0)]
    history = history_of(rows, rows)  # so at rest
    swarm = ClpsoSwarm(3, 2, 2, 20)
    learnt = exemplars(swarm, history)
    moved = swarm.propose(cube(3), history).positions
    for i, towards in ((0, 1), (1, -1)):
        others = learnt[i] != i
        assert others.any()
        steps = towards * (moved[i] - rows[i][0])
        assert np.all(steps[others] > 0)
        np.testing.assert_allclose(steps[~others], 0.0, atol=1e-12)
        assert np.all(steps <= 0.2 + 1e-12)


def test_a_far_exemplar_is_approached_by_the_limit_at_a_time():
    rows = [((0.05,) * 20, 1.0), ((0.95,) * 20, 2.0)]
    swarm = ClpsoSwarm(3, 2, 2, 20, {"velocity_limit": 0.1})
    steps = swarm.propose(cube(20), history_of(rows, rows)).positions[0] - 0.05
    assert np.max(steps) == pytest.approx(0.1, abs=1e-12)


def test_an_exemplar_without_a_best_teaches_nothing():
    rows = [((0.3, 0.3, 0.3), 1.0), ((0.5, 0.5, 0.5), None)]
    swarm = ClpsoSwarm(3, 2, 2, 20)
    moved = swarm.propose(cube(3), history_of(rows, rows)).positions
    np.testing.assert_allclose(moved[0], 0.3, atol=1e-12)


def test_inertia_falls_over_the_budget_that_the_search_began_with():
    rows = [((0.3, 0.3, 0.3), 1.0), ((0.4, 0.4, 0.4), 2.0)]
    on = [((0.4, 0.3, 0.3), 0.5), ((0.4, 0.4, 0.4), 2.0)]
    one, two = (
        ClpsoSwarm(3, 2, 2, generations).propose(cube(3), history_of(rows, on)).positions
        for generations in (3, 30)
    )
    assert not np.array_equal(one, two)
