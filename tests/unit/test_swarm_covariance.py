import math

import numpy as np
import pytest
from cmaes import CMA

from pso_attn.baselines import RandomSearch
from pso_attn.errors import ConfigurationError
from pso_attn.space import Knob
from pso_attn.swarm import ClassicSwarm, ScreenedSwarm
from pso_attn.swarm.covariance import SIGMAS, Distribution, Learned, recombination_weights
from pso_attn.testing import best_loss, drive, finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.spaces import cube, labels, space_of
from pso_attn.types import History

FREE = np.zeros(4)  # no least spread


def rosenbrock(params):
    x = 4.0 * np.array(list(params.values())) - 2.5  # the defaults are no head start
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def swarm(seed=0, particles=10, batch=10, generations=8, **options):
    return ScreenedSwarm(seed, particles, batch, generations, {"moves": "covariance", **options})


def learned(space, losses_at, particles=10, populations=3):
    """Return what is known after so many populations of uniform points."""
    known, rng, past = Learned.first(space), np.random.default_rng(0), ()
    for number in range(populations):
        positions = space.snap(rng.random((particles, space.dimension)))
        past += (
            tuple(
                finished(number, number * particles + slot, slot, x, losses_at(x))
                for slot, x in enumerate(positions)
            ),
        )
        known = known.extended(space, past[-1], History(MINIMISED, past), particles)
    return known


def test_updates_are_those_of_the_package_cmaes_without_negative_weights():
    peer = CMA(mean=np.full(4, 0.5), sigma=0.2, population_size=10)
    peer._weights[5:] = 0.0
    ours, rng = Distribution.around(np.full(4, 0.5)), np.random.default_rng(3)
    for _ in range(6):
        points = ours.mean + 0.5 * ours.sigma * rng.normal(size=(10, 4))  # none is far
        points = points[np.argsort(points[:, 0])]
        ours = ours.told(points, 10, FREE)
        peer.tell([(x, float(rank)) for rank, x in enumerate(points)])
        np.testing.assert_allclose(ours.mean, peer._mean, rtol=1e-9)
        np.testing.assert_allclose(ours.covariance, peer._C, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.sigma_path, peer._p_sigma, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.path, peer._pc, rtol=1e-9, atol=1e-12)
        assert ours.sigma == pytest.approx(peer._sigma)


def test_an_update_of_one_number_by_hand():
    told = Distribution.around(np.array([0.5])).told(np.array([[0.6], [0.1]]), 2, np.zeros(1))
    # one parent, half a deviation away: mu_eff 1, c_sigma 3/7, d_sigma 10/7, c_c 5/7, c_mu 0
    c_one = 2.0 / (2.3**2 + 1.0)
    sigma_path = math.sqrt(3 / 7 * (2 - 3 / 7)) * 0.5
    path = math.sqrt(5 / 7 * (2 - 5 / 7)) * 0.5
    expected = 1.0 - 1.0 / 4.0 + 1.0 / 21.0
    assert told.mean[0] == pytest.approx(0.6)
    assert told.sigma == pytest.approx(0.2 * math.exp(0.3 * (sigma_path / expected - 1.0)))
    assert told.covariance[0, 0] == pytest.approx(1.0 - c_one + c_one * path**2)


@pytest.mark.parametrize(("ratio", "stalls"), [(0.9, False), (1.1, True)])
def test_a_first_step_that_is_too_long_stalls_the_path(ratio, stalls):
    """h_sigma of Hansen (2016), the tutorial: ‖p_σ‖ / √(1 − (1 − c_σ)^(2(g + 1))), from g = 0."""
    count, size = 10, 10
    weights = recombination_weights(size) / recombination_weights(size).sum()
    expected = math.sqrt(count) * (1.0 - 1.0 / (4.0 * count) + 1.0 / (21.0 * count**2))
    # the first path is √(c_σ (2 − c_σ) mu_eff) ‖step‖, whose first factor is the root above
    length = ratio * (1.4 + 2.0 / (count + 1.0)) * expected * math.sqrt(weights @ weights)
    around = Distribution.around(np.full(count, 0.5))
    told = around.told(0.5 + 0.2 * length / math.sqrt(count) * np.ones((5, count)), size, 0.0)
    assert (not told.path.any()) == stalls


def test_on_a_quadratic_the_covariance_turns_to_the_inverse_of_its_hessian():
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    hessian = turn @ np.diag([1.0, 10.0, 100.0, 1000.0]) @ turn.T
    known = Distribution.around(np.full(4, 0.6))
    for _ in range(150):
        points = known.drawn(20, rng)
        losses = np.einsum("ni,ij,nj->n", points - 0.4, hessian, points - 0.4)
        known = known.told(points[np.argsort(losses)], 20, FREE)
    product = known.covariance @ hessian
    eigenvalues = np.linalg.eigvals(product).real
    assert eigenvalues.max() / eigenvalues.min() < 8.0  # of the identity 1, at the start 1000


def test_a_far_point_moves_the_mean_by_a_bounded_step():
    known = Distribution.around(np.full(4, 0.5))
    told = known.told(np.full((2, 4), 40.0), 4, FREE)
    step = np.linalg.norm(told.mean - known.mean) / known.sigma
    assert step == pytest.approx(2.0 + 8.0 / 6.0)
    assert SIGMAS[0] <= told.sigma <= SIGMAS[1]


def test_of_failures_alone_nothing_is_learned():
    known = Distribution.around(np.full(4, 0.5))
    assert known.told(np.empty((0, 4)), 10, FREE) is known


def test_failures_draw_nobody_where_most_of_a_population_failed():
    space, rows = cube(2), [((0.4, 0.4), 1.0)] + [((0.9, 0.9), None)] * 7
    past = History(
        MINIMISED,
        (tuple(finished(0, i, i, np.array(x), loss) for i, (x, loss) in enumerate(rows)),),
    )
    known = Learned.first(space).extended(space, past.generations[0], past, 8)
    np.testing.assert_allclose(known.distribution.mean, [0.4, 0.4])


def test_whole_numbers_keep_a_third_of_a_bin_and_others_do_not():
    space = space_of(
        [
            Knob("count", "int", "A count.", low=0, high=9),
            Knob("rate", "float", "A rate.", low=0.0, high=1.0),
        ]
    )
    known, past = Learned.first(space), ()
    for number in range(50):  # nothing but the middle is ever the best
        rows = [space.snap(known.distribution.mean)] * 4
        trials = [finished(number, 4 * number + i, i, x, 0.0) for i, x in enumerate(rows)]
        past += (tuple(trials),)
        known = known.extended(space, past[-1], History(MINIMISED, past), 4)
    distribution = known.distribution
    spreads = distribution.sigma * np.sqrt(np.diag(distribution.covariance))
    assert spreads[0] >= 0.035 * (1.0 - 1e-9)
    assert spreads[1] < 0.01


def test_labels_are_copied_from_the_best_fifth_unless_they_jump():
    space = labels(3)
    best = space.snap(np.array([0.9, 0.9, 0.9]))
    known = learned(space, lambda x: float(np.abs(x - best).sum()), populations=5)
    standing = known.current(space, 10)
    elite = known.ledger.positions[np.argsort(standing.ranks)[:10]]
    rng = np.random.default_rng(0)
    copied = known.moves(space, standing, 9000, 0.0, rng)
    for column in range(3):
        assert set(copied[:, column]) == set(elite[:, column])
        share = np.mean(copied[:, column] == best[column])
        assert share == pytest.approx(np.mean(elite[:, column] == best[column]), abs=0.05)
    jumps = known.moves(space, standing, 9000, 1.0, rng)
    assert len(np.unique(jumps[:, 2])) == space.levels[2]


def test_a_surrogate_that_foresees_gets_more_draws_to_choose_from():
    space, noise = cube(2), np.random.default_rng(1)
    foreseen = learned(space, lambda x: float(np.sum((x - 0.3) ** 2)), populations=6)
    unforeseen = learned(space, lambda x: float(noise.normal()), populations=6)
    assert foreseen.agreement > 0.7
    assert unforeseen.agreement < 0.3
    counts = [
        len(known.moves(space, known.current(space, 10), 80, 0.15, noise))
        for known in (foreseen, unforeseen)
    ]
    assert counts == [
        1 + round(80 * max(0.0, known.agreement)) for known in (foreseen, unforeseen)
    ]


def test_a_population_smaller_than_the_swarm_waits_to_be_told():
    space = cube(2)
    history = drive(swarm(particles=6, batch=4, generations=6), space, rosenbrock, 5)
    told = [
        swarm(particles=6, batch=4).learned(space, history.truncated(length)).told
        for length in range(6)
    ]
    assert told == [0, 0, 8, 8, 16, 16]


@pytest.mark.parametrize("batch", [2, 10])
def test_it_beats_the_textbook_and_chance_at_equal_evaluations(batch):
    gains = []
    for seed in range(3):
        ours, textbook, chance = (
            best_loss(drive(made, cube(5), rosenbrock, 80 // batch))
            for made in (
                swarm(seed, batch=batch, generations=80 // batch),
                ClassicSwarm(seed, 10, batch, 80 // batch),
                RandomSearch(seed, 10, batch, 80 // batch),
            )
        )
        gains.append(np.log10(min(textbook, chance) / ours))
    assert np.median(gains) > 0.3, gains


def test_of_both_kinds_half_of_the_draws_are_velocities():
    first = [(i, (0.2 + 0.001 * i, 0.2), 1.0 + i) for i in range(10)]  # velocities are short here
    history = History(
        MINIMISED,
        (
            tuple(
                finished(0, i, particle, np.array(x), y)
                for i, (particle, x, y) in enumerate(first)
            ),
        ),
    )
    both, space = swarm(moves="both", draws=400), cube(2)
    known = both.learned(space, history)
    drawn = both._drawn(space, history, known.current(space, 10), 3, set())
    assert len(drawn) == 200 + 1 + round(200 * 0.3)
    far = np.abs(drawn - 0.2).max(axis=1) > 0.2
    assert far[200:].mean() > far[:200].mean()


def test_what_acts_on_velocities_only_is_refused():
    with pytest.raises(ConfigurationError, match="topology acts on velocities only"):
        swarm(topology="ring")
    with pytest.raises(ConfigurationError, match='"velocity", "covariance" or "both"'):
        swarm(moves="normal")
