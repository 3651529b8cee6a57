import numpy as np
import pytest

from pso_attn.baselines import OpenStrategy, SeparableCovarianceAdaptation
from pso_attn.swarm import (
    BareBonesSwarm,
    ClassicSwarm,
    CompetitiveSwarm,
    ScreenedSwarm,
    SeparableSwarm,
    SocialSwarm,
)
from pso_attn.testing import drive
from pso_attn.testing.samplers import stored_positions
from pso_attn.testing.spaces import cube

WIDE = cube(300)
MOVERS = [
    BareBonesSwarm,
    ClassicSwarm,
    CompetitiveSwarm,
    OpenStrategy,
    ScreenedSwarm,
    SeparableCovarianceAdaptation,
    SeparableSwarm,
    SocialSwarm,
]


def bowl(params):
    return sum((x - 0.4) ** 2 for x in params.values())


@pytest.mark.parametrize("mover", MOVERS)
def test_what_is_proposed_in_a_wide_space_is_kept_exactly_by_single_precision(mover):
    positions = stored_positions(drive(mover(1, 6, 6, 5), WIDE, bowl, 5))
    np.testing.assert_array_equal(positions, positions.astype(np.float32))


@pytest.mark.parametrize("mover", [BareBonesSwarm, ClassicSwarm, CompetitiveSwarm, SocialSwarm])
def test_a_wide_swarm_begins_around_the_start_and_a_narrow_one_everywhere(mover):
    begun = mover(1, 6, 6, 5, {"spread": 0.01})
    first = drive(begun, WIDE, bowl, 1)
    positions = stored_positions(first)
    np.testing.assert_array_equal(positions[0], WIDE.starts[0])
    assert 0.009 < positions[1:].std() < 0.011
    assert np.abs(begun.propose(WIDE, first).positions - 0.5).max() < 0.1
    narrow = stored_positions(drive(mover(1, 6, 6, 5, {"spread": 0.01}), cube(200), bowl, 1))
    assert narrow[1:].std() > 0.25


@pytest.mark.parametrize("mover", [m for m in MOVERS if m != SeparableCovarianceAdaptation])
def test_a_wide_bowl_is_descended(mover):
    history = drive(mover(1, 8, 8, 40), WIDE, bowl, 40)
    losses = [[history.loss(t) for t in generation[1:]] for generation in history.generations]
    assert np.mean(losses[-1]) < 0.95 * np.mean(losses[0])


def test_the_default_swarm_hands_wide_spaces_to_the_covariance_swarm():
    default, covariance = (
        stored_positions(drive(mover(3, 6, 4, 5), WIDE, bowl, 5))
        for mover in (ScreenedSwarm, SeparableSwarm)
    )
    np.testing.assert_array_equal(default, covariance)
