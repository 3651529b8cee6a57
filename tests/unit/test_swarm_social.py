import math

import numpy as np
import pytest

from pso_attn.seeding import generator
from pso_attn.swarm import SocialSwarm
from pso_attn.swarm.social import learning_chances
from pso_attn.testing import best_loss, drive
from pso_attn.testing.spaces import cube


def bowl(params):
    return sum((x - 0.4) ** 2 for x in params.values())


def searched(generations=5):
    swarm, space = SocialSwarm(1, 4, 4, generations, {"beta": 2.0}), cube(3)
    return swarm, space, drive(swarm, space, bowl, generations)


def test_a_learner_moves_as_the_paper_says():
    swarm, space, history = searched()
    pool = swarm.pool(space, history)
    generation, x, v = len(history), pool.position, pool.velocity
    ranked = [int(i) for i in pool.ranked()]
    learners, _ = swarm._movers(space, pool, generation)
    proposed = swarm.propose(space, history).positions
    for slot, i in enumerate(learners):
        rng = generator(1, generation, slot, "move")
        r1, r2, r3 = rng.random((3, 3))
        better = ranked[: ranked.index(i)]
        demonstrators = rng.integers(len(better), size=3)
        for d in range(3):
            imitation = x[better[demonstrators[d]], d] - x[i, d]
            influence = sum(x[:, d]) / len(x) - x[i, d]
            step = r1[d] * v[i, d] + r2[d] * imitation + r3[d] * 2.0 * 3 / 100 * influence
            where = x[i, d] + step
            where = -where if where < 0 else 2 - where if where > 1 else where
            assert proposed[slot, d] == pytest.approx(where)


def test_the_chances_to_learn_are_the_papers():
    np.testing.assert_array_equal(learning_chances(6, 30), 1.0)  # log(ceil(30 / 100)) = 0
    wide = learning_chances(64, 4096)
    assert wide[-1] == 1.0
    for worse in (1, 30, 63):  # i - 1
        expected = (1 - worse / 64) ** (0.5 * math.log(41))
        assert wide[63 - worse] == pytest.approx(expected)


def test_the_best_never_moves_and_who_is_worse_moves_more_often():
    swarm, space, history = searched()
    pool = swarm.pool(space, history)
    wide = cube(2000)
    moved = np.zeros(8, dtype=int)
    for generation in range(300):
        np.add.at(moved, swarm._movers(wide, pool, generation)[0], 1)
    by_rank = moved[pool.ranked()]
    assert by_rank[0] == 0
    assert moved.sum() == 4 * 300
    assert by_rank[1] < by_rank[4] < by_rank[7]
    assert space.dimension == 3


def test_it_finds_the_bottom_of_a_bowl():
    assert best_loss(searched(generations=60)[2]) < 1e-4
