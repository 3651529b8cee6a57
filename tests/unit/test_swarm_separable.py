import math

import numpy as np
import pytest

from pso_attn.swarm import SeparableSwarm
from pso_attn.testing import best_loss, drive
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.spaces import cube, labelled
from pso_attn.testing.swarms import extended
from pso_attn.types import History

PARTICLES = 8


def bowl(params):
    return sum((x - 0.4) ** 2 for x in params.values())


def swarm(generations=20, **options):
    return SeparableSwarm(1, PARTICLES, PARTICLES, generations, options)


def told(sampler, space, losses, history=None):
    history = History(MINIMISED) if history is None else history
    return extended(history, sampler.propose(space, history).positions, losses)


def test_a_population_is_the_centre_where_it_coasts_and_mirrored_pairs():
    space, sampler = cube(5), swarm(spread=0.01)
    history = told(sampler, space, [4, 2, 3, 1, 8, 7, 6, 5])
    cloud = sampler.cloud(space, history)
    positions = sampler.propose(space, history).positions
    np.testing.assert_array_equal(positions[0], cloud.mean)
    for k in (2, 4, 6):
        np.testing.assert_allclose(positions[k] + positions[k + 1], 2 * cloud.mean)
        assert np.abs(positions[k] - cloud.mean).max() > 1e-3
    going = cloud.mean - space.starts[0]  # one population has moved it from rest
    left = (1 - 1 / 20) * 0.8 * math.sqrt(1.0)
    coasted = (positions[1] - positions[0]) / np.sqrt(cloud.variance)
    np.testing.assert_allclose(coasted, left * going, rtol=1e-9)


def test_the_centre_moves_by_the_ranks_of_what_was_trained():
    space, sampler = cube(3), swarm(rate=0.5)
    losses = [4.0, 2.0, 3.0, 1.0, 8.0, 7.0, 6.0, 5.0]
    history = told(sampler, space, losses)
    positions = [t.candidate.position for t in history.trials]
    utility = [3.5 - (sorted(losses).index(loss)) for loss in losses]
    norm = math.sqrt(sum(u * u for u in utility))
    longest = math.sqrt(3) + 6 / 5
    velocity = [0.0, 0.0, 0.0]
    for u, x in zip(utility, positions, strict=True):
        z = [(x[d] - 0.5) / 0.05 for d in range(3)]
        length = math.sqrt(sum(c * c for c in z))
        for d in range(3):
            velocity[d] += u / norm * z[d] * min(1.0, longest / max(length, 1e-300))
    cloud = sampler.cloud(space, history)
    np.testing.assert_allclose(cloud.velocity, velocity)
    np.testing.assert_allclose(cloud.mean, 0.5 + 0.5 * 0.05 * np.array(velocity))


def test_variances_grow_as_in_separable_cma_es():
    space, sampler = cube(30), swarm()
    losses = [4.0, 2.0, 3.0, 1.0, 8.0, 7.0, 6.0, 5.0]
    history = told(sampler, space, losses)
    z = np.stack([(t.candidate.position - 0.5) / 0.05 for t in history.trials])
    w = np.array([max(0.0, 3.5 - sorted(losses).index(loss)) for loss in losses])
    w /= w.sum()
    mu = 1 / (w**2).sum()
    c_one = 32 / 3 * 2 / (31.3**2 + mu)
    c_mu = 32 / 3 * 2 * (mu - 2 + 1 / mu) / (32**2 + mu)
    cloud = sampler.cloud(space, history)
    path = (1 - 0.8**2) * cloud.velocity**2
    expected = 1 - c_one - c_mu + c_one * path + c_mu * (w @ z**2)
    np.testing.assert_allclose(cloud.variance, expected)


def test_the_pace_follows_whether_coasting_was_better():
    space, sampler = cube(3), swarm()
    first = told(sampler, space, [4, 2, 3, 1, 8, 7, 6, 5])
    paces = []
    for coasting in ((9,), (9, 9), (9, 9, 2), (9, 9, 4), (2,)):
        history = first
        for loss in coasting:
            history = told(sampler, space, [4, loss, 3, 1, 8, 7, 6, 5], history)
        paces.append(sampler.cloud(space, history).pace)
    assert paces == pytest.approx([math.exp(-x) for x in (0.1, 0.2, 0.1, 0.2, 0.0)])


@pytest.mark.parametrize("loss", [1.0, None, float("nan")])
def test_losses_that_say_nothing_leave_the_centre_and_its_variances(loss):
    space, sampler = cube(5), swarm()
    cloud = sampler.cloud(space, told(sampler, space, [loss] * PARTICLES))
    np.testing.assert_array_equal(cloud.mean, space.starts[0])
    np.testing.assert_array_equal(cloud.variance, 1.0)


def test_a_failure_counts_as_the_worst():
    space = cube(5)
    failed, worst = (
        sampler.cloud(space, told(sampler, space, [4, 2, 3, 1, 8, 7, 6, last]))
        for sampler, last in ((swarm(), None), (swarm(), 9.0))
    )
    np.testing.assert_array_equal(failed.mean, worst.mean)


def test_steps_shrink_as_the_budget_is_spent_and_never_vanish():
    sampler = swarm(generations=10)
    rates = [sampler._rate(1.0, number) for number in (0, 5, 10, 1000)]
    assert rates == pytest.approx([0.2, 0.1, 0.01, 0.01])


def test_variances_learn_which_coordinates_matter():
    def valley(params):
        return 1e3 * (params["x0"] - 0.5) ** 2 + sum((x - 0.1) ** 2 for x in params.values())

    space = cube(6)
    sampler = SeparableSwarm(1, 16, 16, 40)
    cloud = sampler.cloud(space, drive(sampler, space, valley, 40))
    assert cloud.variance[0] < 0.5 * cloud.variance[1:].min()


def test_small_batches_make_up_one_population():
    space = cube(5)
    whole, parts = SeparableSwarm(1, 8, 8, 4), SeparableSwarm(1, 8, 2, 16)
    one, many = drive(whole, space, bowl, 3), drive(parts, space, bowl, 12)
    for a, b in zip(one.trials, many.trials, strict=True):
        np.testing.assert_array_equal(a.candidate.position, b.candidate.position)


def test_it_finds_the_bottom_of_a_bowl():
    space, sampler = cube(10), SeparableSwarm(1, 16, 16, 60)
    assert best_loss(drive(sampler, space, bowl, 60)) < 2e-3


def test_labels_come_from_the_best_fifth_without_jumps():
    space, sampler = labelled(), swarm(jump_rate=0.0)
    history = told(sampler, space, [4, 2, 3, 1, 8, 7, 6, 5])
    best = [history.trials[i].candidate.position for i in (3, 1)]
    labels = space.categorical
    for position in sampler.propose(space, history).positions:
        for column in np.flatnonzero(labels):
            assert position[column] in {b[column] for b in best}
    np.testing.assert_array_equal(
        sampler.propose(space, history).positions[0][labels], best[0][labels]
    )
