import numpy as np
import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.seeding import generator
from pso_attn.swarm import CompetitiveSwarm
from pso_attn.testing import best_loss, drive
from pso_attn.testing.spaces import cube
from pso_attn.testing.swarms import extended


def bowl(params):
    return sum((x - 0.4) ** 2 for x in params.values())


def searched(batch=4, generations=5, dimension=3, **options):
    swarm = CompetitiveSwarm(1, 4, batch, generations, options)
    space = cube(dimension)
    return swarm, space, drive(swarm, space, bowl, generations)


def test_a_loser_moves_as_the_paper_says():
    swarm, space, history = searched(phi=0.3)
    pool = swarm.pool(space, history)
    generation, x, v = len(history), pool.position, pool.velocity
    losers, winners = swarm._movers(space, pool, generation)
    proposed = swarm.propose(space, history).positions
    for slot, (loser, winner) in enumerate(zip(losers, winners, strict=True)):
        r1, r2, r3 = generator(1, generation, slot, "move").random((3, 3))
        for d in range(3):
            mean = sum(x[:, d]) / len(x)
            step = r1[d] * v[loser, d]  # eq. 6
            step += r2[d] * (x[winner, d] - x[loser, d])
            step += 0.3 * r3[d] * (mean - x[loser, d])
            where = x[loser, d] + step  # eq. 7
            where = -where if where < 0 else 2 - where if where > 1 else where
            assert proposed[slot, d] == pytest.approx(where)


def test_a_generation_of_the_whole_batch_is_a_generation_of_the_paper():
    swarm, space, history = searched()
    pool = swarm.pool(space, history)
    losers, winners = swarm._movers(space, pool, len(history))
    assert swarm.members == 8
    assert sorted([*losers, *winners]) == list(range(8))
    for loser, winner in zip(losers, winners, strict=True):
        assert tuple(pool.merits[winner]) <= tuple(pool.merits[loser])


def test_only_losers_change_and_are_evaluated():
    swarm, space, history = searched()
    before, after = (swarm.pool(space, history.truncated(n)) for n in (4, 5))
    losers, winners = swarm._movers(space, before, 4)
    np.testing.assert_array_equal(before.position[winners], after.position[winners])
    np.testing.assert_array_equal(before.merits[winners], after.merits[winners])
    trained = np.stack([t.candidate.position for t in history.generations[4]])
    np.testing.assert_array_equal(after.position[losers], trained)
    np.testing.assert_array_equal(
        after.velocity[losers], after.position[losers] - before.position[losers]
    )


def test_a_failed_member_loses_to_any_other_and_a_pruned_one_to_a_full_one():
    swarm, space, history = searched(generations=2)
    failed = extended(history, np.full((4, 3), 0.5), [None, 3.0, 2.0, 1.0])
    ranked = swarm.pool(space, failed).ranked()
    loser = swarm._movers(space, swarm.pool(space, history), 2)[0][0]
    assert ranked[-1] == loser


def test_batches_that_do_not_divide_the_members_begin_with_whole_batches():
    assert CompetitiveSwarm(1, 5, 4, 9).members == 12
    assert CompetitiveSwarm(1, 5, 1, 9).members == 10


def test_it_finds_the_bottom_of_a_bowl():
    assert best_loss(searched(generations=60)[2]) < 1e-4


def test_an_unknown_option_is_refused_with_the_nearest():
    with pytest.raises(ConfigurationError, match=r'pso-competitive has no option "phy".*phi'):
        CompetitiveSwarm(1, 4, 4, 9, {"phy": 0.1})
    with pytest.raises(ConfigurationError, match="spread = 0 does not work"):
        CompetitiveSwarm(1, 4, 4, 9, {"spread": 0})
