import math

import numpy as np
import pytest

from pso_attn.swarm import Spso2011Swarm
from pso_attn.swarm.spso2011 import Spso2011Options, gravity, on_sphere, turned_back
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


def test_the_constants_are_the_papers():
    options = Spso2011Options()
    assert options.inertia == pytest.approx(0.7213, abs=5e-5)
    assert options.pull == pytest.approx(1.1931, abs=5e-5)
    assert (options.topology, options.informed) == ("random", 3)


def test_the_centre_of_gravity_follows_the_equation():
    x, p, seen = np.array([0.1, 0.5]), np.array([0.4, 0.5]), np.array([0.7, 0.2])
    beyond_p, beyond_l = [0.1 + 1.2 * 0.3, 0.5], [0.1 + 1.2 * 0.6, 0.5 - 1.2 * 0.3]
    expected = [(x[d] + beyond_p[d] + beyond_l[d]) / 3 for d in range(2)]
    np.testing.assert_allclose(gravity(x, p, seen, 1.2), expected, rtol=1e-14)
    alone = [(x[d] + beyond_p[d]) / 2 for d in range(2)]
    np.testing.assert_allclose(gravity(x, p, None, 1.2), alone, rtol=1e-14)


def test_points_on_the_sphere_reach_to_x_evenly_along_the_radius_in_every_direction():
    centre, x = np.array([0.5, 0.5, 0.5]), np.array([0.5, 0.1, 0.8])
    rng = np.random.default_rng(0)
    drawn = np.stack([on_sphere(centre, x, rng) for _ in range(20_000)]) - centre
    share = np.linalg.norm(drawn, axis=1) / 0.5
    assert share.max() <= 1.0
    np.testing.assert_allclose(np.quantile(share, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.02)
    directions = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    np.testing.assert_allclose(np.cov(directions.T), np.eye(3) / 3, atol=0.02)


def test_a_sphere_of_no_coordinates_is_a_point():
    nowhere = np.zeros(0)
    assert on_sphere(nowhere, nowhere, np.random.default_rng(0)).shape == (0,)


def test_half_of_a_velocity_is_turned_back_where_it_struck_a_face():
    x = np.array([0.0, 0.0, 1.0, 1.0, 0.5])
    v = np.array([-0.4, 0.4, 0.2, -0.2, -0.4])
    np.testing.assert_allclose(turned_back(x, v), [0.2, 0.4, -0.1, -0.2, -0.4])


def test_a_particle_moves_by_inertia_and_a_point_of_the_sphere():
    start = [((0.2, 0.2), 1.0), ((0.6, 0.6), 2.0)]
    history = history_of(start, [((0.25, 0.2), 0.5), ((0.5, 0.6), 1.5)])
    swarm = Spso2011Swarm(0, 2, 2, 10, {"topology": "star"})
    moved = swarm.propose(cube(2), history).positions
    w, c = 1 / (2 * math.log(2)), 0.5 + math.log(2)
    at = {0: np.array([0.25, 0.2]), 1: np.array([0.5, 0.6])}
    best = at  # both improved with their last move, and particle 0 leads
    centres = {
        0: at[0],
        1: (3 * at[1] + c * (best[0] - at[1])) / 3,
    }
    steps = {0: np.array([0.05, 0.0]), 1: np.array([-0.1, 0.0])}
    np.testing.assert_allclose(moved[0], at[0] + w * steps[0], atol=1e-12)
    away = moved[1] - w * steps[1] - centres[1]
    assert 0 < np.linalg.norm(away) <= np.linalg.norm(centres[1] - at[1])


def test_a_move_beyond_the_cube_stops_at_its_face():
    start = [((0.5, 0.5), 1.0), ((0.5, 0.5), 1.0)]
    history = history_of(start, [((0.99, 0.5), 0.5), ((0.5, 0.01), 0.4)])
    swarm = Spso2011Swarm(0, 2, 2, 10, {"topology": "ring"})
    moved = swarm.propose(cube(2), history).positions
    assert moved[1, 1] == 0.0  # it led and flew straight on
    assert moved[1, 0] == pytest.approx(0.5)


def test_a_particle_that_struck_a_face_comes_back_with_half_of_what_was_left():
    history = history_of(
        [((0.3, 0.5), 1.0), ((0.5, 0.5), 2.0)], [((0.0, 0.5), 0.5), ((0.5, 0.5), 2.0)]
    )
    moved = Spso2011Swarm(0, 2, 2, 10, {"topology": "star"}).propose(cube(2), history).positions
    w = 1 / (2 * math.log(2))
    np.testing.assert_allclose(moved[0], (0.5 * w * 0.3, 0.5), atol=1e-12)


def test_a_leader_away_from_its_best_circles_what_lies_between():
    rows = [((0.5,), 1.0), ((0.9,), 3.0)]
    away = [((0.6,), 2.0), ((0.9,), 3.0)]
    history = history_of(rows, away, away)  # at rest in the end
    moved = [
        Spso2011Swarm(seed, 2, 2, 10, {"topology": "star"}).propose(cube(1), history).positions[0]
        for seed in range(400)
    ]
    c = 0.5 + math.log(2)
    assert np.mean(moved) == pytest.approx((0.6 + 0.6 - c * 0.1) / 2, abs=0.005)
    assert np.max(np.abs(np.array(moved) - (0.6 - c * 0.05))) <= c * 0.05 + 1e-12


def sight(particles, batch, losses):
    """Return the links after generations with these losses, each of a whole batch."""
    swarm = Spso2011Swarm(0, particles, batch, 50)
    generations = []
    for number, loss in enumerate(losses):
        first = number * batch
        generations.append(
            tuple(
                finished(number, first + s, (first + s) % particles, np.full(2, 0.5), loss + s)
                for s in range(batch)
            )
        )
    history = History(MINIMISED, tuple(generations))
    space = cube(2)
    return swarm._turn(space, len(history), *swarm._folded(space, history)).memory.drawn


def test_links_are_redrawn_after_a_move_of_the_swarm_without_a_better_best():
    assert [sight(4, 4, [5, 4, 4, 3, 3, 3][:n]) for n in range(7)] == [0, 0, 0, 3, 3, 5, 6]


def test_small_batches_wait_for_a_move_of_the_whole_swarm():
    losses = [5, 4, 4, 4, 4, 3, 3, 3, 3]
    assert [sight(4, 2, losses[:n]) for n in range(10)] == [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]


def test_informants_follow_from_seed_and_history_alone():
    history = history_of(*[[((0.1 * i, 0.5), float(i)) for i in range(8)]] * 4)
    one, two, other = (
        Spso2011Swarm(seed, 8, 8, 10).propose(cube(2), history).positions for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
