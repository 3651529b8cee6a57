import numpy as np
import pytest

from pso_attn.baselines import RandomSearch
from pso_attn.swarm import ClassicSwarm, family
from pso_attn.testing import best_loss, drive, finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.samplers import roughness
from pso_attn.testing.spaces import cube, labels, mixed
from pso_attn.types import History, Objective


def sphere(params):
    x = np.array(list(params.values()))
    return float(np.sum((x - 0.3) ** 2))


def rosenbrock(params):
    x = 4.0 * np.array(list(params.values())) - 2.5  # the defaults are no head start
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def positions_of(history):
    return np.stack([trial.candidate.position for trial in history.trials])


def history_of(*generations):
    """Make a history from generations of (particle, position, loss).

    Particles that stay where they were are at rest afterwards.
    """
    return History(
        MINIMISED,
        tuple(
            tuple(
                finished(number, number * len(rows) + slot, particle, np.array(position), loss)
                for slot, (particle, position, loss) in enumerate(rows)
            )
            for number, rows in enumerate(generations)
        ),
    )


@pytest.mark.parametrize("function", [sphere, rosenbrock])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"topology": "star"},
        {"rule": "inertia", "velocity_limit": 0.2},
    ],
    ids=["ring", "star", "inertia"],
)
def test_the_swarm_clearly_beats_random_search(function, options):
    gains = []
    for seed in range(6):
        swarm = drive(ClassicSwarm(seed, 16, 16, 40, options), cube(5), function, 40)
        random = drive(RandomSearch(seed, 16, 16, 40), cube(5), function, 40)
        gains.append(np.log10(best_loss(random) / best_loss(swarm)))
    assert min(gains) > 0, gains  # six of six: one-sided sign test, p = 1/64
    assert np.median(gains) > 0.7, gains


def test_labels_are_found_without_an_order():
    def misses(params):
        wanted = dict(zip(sorted(params), "bacedb", strict=True))
        return float(sum(params[name] != wanted[name] for name in params))

    space = labels(6)  # 2 * 3 * 4 * 5 * 6 * 7 = 5040 settings
    found = [best_loss(drive(ClassicSwarm(s, 16, 16, 40), space, misses, 40)) for s in range(4)]
    chance = [best_loss(drive(RandomSearch(s, 16, 16, 40), space, misses, 40)) for s in range(4)]
    assert sum(found) < sum(chance)


def test_the_first_trials_are_an_even_design_that_differs_by_seed():
    def design(seed, batch):
        generations = 16 // batch
        swarm = ClassicSwarm(seed, 16, batch, 40)
        return positions_of(drive(swarm, cube(3), sphere, generations))

    np.testing.assert_array_equal(design(1, 16), design(1, 4))
    assert not np.allclose(design(1, 16), design(2, 16))
    bins = np.sort(np.floor(design(1, 16)[1:] * 16), axis=0)  # the first is the defaults
    assert np.all(np.diff(bins, axis=0) == 1 + (np.diff(bins, axis=0) == 2))


def test_a_particle_at_rest_is_drawn_to_the_best_and_the_best_rests():
    rows = [(0, (0.5, 0.5), 2.0), (1, (0.9, 0.1), 1.0), (2, (0.5, 0.5), 3.0)]
    moved = ClassicSwarm(0, 3, 3, 10).propose(cube(2), history_of(rows, rows)).positions
    assert np.all(moved[[0, 2], 0] > 0.5)
    assert np.all(moved[[0, 2], 1] < 0.5)
    np.testing.assert_array_equal(moved[1], (0.9, 0.1))


def test_nobody_is_evaluated_twice_at_its_first_place():
    positions = positions_of(drive(ClassicSwarm(0, 12, 12, 10), cube(2), sphere, 2))
    assert len(np.unique(positions, axis=0)) == 24


def test_a_move_crosses_no_more_than_the_velocity_limit():
    swarm = ClassicSwarm(3, 8, 8, 30, {"velocity_limit": 0.05, "stagnation": 0})
    steps = np.diff(positions_of(drive(swarm, cube(4), sphere, 30)).reshape(30, 8, 4), axis=0)
    assert np.max(np.abs(steps)) <= 0.05 + 1e-12
    assert np.max(np.abs(steps)) > 0.049


def test_a_label_only_takes_a_bin_that_is_in_sight_unless_it_jumps():
    space = labels(1)  # two choices: centres .25 and .75
    history = history_of([(i, (0.25,), float(i)) for i in range(4)])
    still = ClassicSwarm(0, 4, 4, 10, {"jump_rate": 0.0}).propose(space, history)
    np.testing.assert_array_equal(still.positions, 0.25)
    jumps = ClassicSwarm(0, 4, 4, 10, {"jump_rate": 1.0})
    seen = {
        x for g in range(1, 6) for x in jumps.propose(space, repeat(history, g)).positions.flat
    }
    assert seen == {0.25, 0.75}


def repeat(history, times):
    return History(history.objectives, history.generations * times)


def test_labels_always_stand_at_the_centres_of_their_bins():
    space = mixed()
    positions = positions_of(drive(ClassicSwarm(1, 6, 6, 20), space, lambda p: p["rate"], 20))
    np.testing.assert_array_equal(
        positions[:, space.categorical], space.snap(positions)[:, space.categorical]
    )


def test_a_stagnated_particle_is_redrawn_and_the_leader_is_not():
    generations = [[(i, (0.2, 0.1 * i), 1.0 + i) for i in range(4)]] * 4
    history = history_of(*generations)
    patient = ClassicSwarm(0, 4, 4, 10, {"stagnation": 4}).propose(cube(2), history).positions
    np.testing.assert_allclose(patient[:, 0], 0.2)  # all bests stand there: nothing pulls away
    restarted = ClassicSwarm(0, 4, 4, 10, {"stagnation": 3}).propose(cube(2), history).positions
    assert restarted[0][0] == 0.2
    assert len(np.unique(restarted[:, 0])) == 4


def test_after_a_restart_the_old_best_is_forgotten():
    stuck = [[(i, (0.2, 0.1 * i), 1.0 + i) for i in range(4)]] * 4
    after = [(i, (0.9, 0.9), 10.0 + i) for i in range(4)]
    swarm = ClassicSwarm(0, 4, 4, 10, {"stagnation": 3})
    state = swarm.state(cube(2), history_of(*stuck, after))
    np.testing.assert_array_equal(state.best_loss, [1.0, 11.0, 12.0, 13.0])
    np.testing.assert_array_equal(state.velocity[1:], 0.0)
    np.testing.assert_allclose(state.velocity[0], [0.7, 0.9])


def test_a_swarm_in_which_everything_failed_looks_elsewhere():
    history = history_of([(i, (0.2, 0.1 * i), None) for i in range(4)])
    positions = ClassicSwarm(0, 4, 4, 10).propose(cube(2), history).positions
    assert np.all(positions[:, 0] != 0.2)


def test_star_and_ring_follow_different_leaders():
    history = history_of(*[[(i, (0.1 * i, 0.5), float(i)) for i in range(6)]] * 2)
    ring = ClassicSwarm(0, 6, 6, 10).propose(cube(2), history).positions
    star = ClassicSwarm(0, 6, 6, 10, {"topology": "star"}).propose(cube(2), history).positions
    assert star[3][0] < ring[3][0] < 0.3  # particle 3 goes to 0 in the star, to 2 in the ring


def test_a_wider_neighbourhood_sees_further():
    history = history_of(*[[(i, (0.1 * i, 0.5), float(i)) for i in range(7)]] * 2)
    near, far = (
        ClassicSwarm(0, 7, 7, 10, {"neighbours": n}).propose(cube(2), history).positions
        for n in (1, 3)
    )
    assert far[3][0] < near[3][0] < 0.3


def test_a_fold_is_not_reused_for_another_space_or_objective():
    history = history_of(
        [(i, (0.25, 0.5), float(i)) for i in range(3)],
        [(i, (0.75, 0.5), float(-i)) for i in range(3)],
    )
    swarm = ClassicSwarm(0, 3, 3, 10)
    assert swarm.state(cube(2), history).velocity[0][0] == 0.5
    assert swarm.state(labels(2), history).velocity[0][0] == 0.0
    maximised = History((Objective("accuracy", "maximize"),), history.generations)
    space = cube(2)
    assert swarm.state(space, history).best_loss[2] == -2.0
    assert swarm.state(space, maximised).best_loss[2] == -2.0
    np.testing.assert_array_equal(swarm.state(space, maximised).best_position[2], [0.25, 0.5])


def test_inertia_depends_on_the_original_budget_and_constriction_does_not():
    history = history_of(
        [(i, (0.1 * i, 0.4), float(i)) for i in range(4)],
        [(i, (0.1 * i, 0.5), float(i)) for i in range(4)],
    )

    def proposed(generations, **options):
        return ClassicSwarm(0, 4, 4, generations, options).propose(cube(2), history).positions

    assert not np.array_equal(proposed(5, rule="inertia"), proposed(50, rule="inertia"))
    np.testing.assert_array_equal(proposed(5), proposed(50))


def test_a_small_batch_moves_on_what_the_last_one_found():
    one = history_of([(0, (0.5, 0.5), 2.0), (1, (0.1, 0.1), 1.0)], [(2, (0.9, 0.9), 3.0)] * 1)
    two = history_of([(0, (0.5, 0.5), 2.0), (1, (0.1, 0.1), 1.0)], [(2, (0.9, 0.9), 0.0)] * 1)
    swarm = ClassicSwarm(0, 3, 2, 10)
    moves = [swarm.propose(cube(2), history) for history in (one, two)]
    assert moves[0].particles == moves[1].particles == (1, 2)
    assert not np.array_equal(moves[0].positions, moves[1].positions)


def test_particles_go_where_each_would_go_alone(monkeypatch):
    whole = drive(ClassicSwarm(3, 12, 12, 5), mixed(), roughness, 5)
    monkeypatch.setattr(family, "AT_ONCE", 1)  # one after another
    alone = drive(ClassicSwarm(3, 12, 12, 5), mixed(), roughness, 5)
    np.testing.assert_array_equal(positions_of(whole), positions_of(alone))
