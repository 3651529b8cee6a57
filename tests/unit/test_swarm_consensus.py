"""The consensus swarm: the mean of what validation kept, of weights alone."""

import numpy as np
import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.swarm import ClassicSwarm, ConsensusSwarm
from pso_attn.testing import drive
from pso_attn.testing.driving import MINIMISED, finished
from pso_attn.testing.spaces import cube
from pso_attn.types import History

KNOBS, WEIGHTS = 2, 5
SPACE = cube(KNOBS).with_weights(np.linspace(0.3, 0.6, WEIGHTS)[None])
RNG = np.random.default_rng(0)


def history(*losses):
    """Make a history of four particles whose generations had these losses, at random places."""
    generations = []
    for number, row in enumerate(losses):
        places = RNG.random((len(row), KNOBS + WEIGHTS))
        trials = [
            finished(number, number * len(row) + i, i, place, loss)
            for i, (place, loss) in enumerate(zip(places, row, strict=True))
        ]
        generations.append(tuple(trials))
    return History(MINIMISED, tuple(generations))


def place(known, trial):
    return known.trials[trial].candidate.position[KNOBS:]


def test_all_weights_begin_at_the_start_and_knobs_everywhere():
    begun = ConsensusSwarm(1, 4, 4, 5).propose(SPACE, History(MINIMISED)).positions
    np.testing.assert_array_equal(begun[:, KNOBS:], np.tile(SPACE.starts[0][KNOBS:], (4, 1)))
    assert begun[:, :KNOBS].std() > 0.1


def test_weights_go_to_the_mean_of_the_personal_bests_in_sight_and_failures_have_none():
    known = history((0.3, 0.4, None, 0.2), (0.2, 0.5, None, 0.1))
    bests = {0: 4, 1: 1, 3: 7}  # trials; particle 2 never had a loss
    mean = np.mean([place(known, trial) for trial in bests.values()], axis=0)
    found = ConsensusSwarm(1, 4, 4, 5).propose(SPACE, known).positions[:, KNOBS:]
    np.testing.assert_allclose(found, np.tile(mean, (4, 1)))
    ringed = ConsensusSwarm(1, 4, 4, 5, {"topology": "ring"}).propose(SPACE, known).positions
    of_two = np.mean([place(known, bests[0]), place(known, bests[1])], axis=0)
    of_three = np.mean([place(known, bests[i]) for i in (0, 1, 3)], axis=0)
    np.testing.assert_allclose(ringed[0, KNOBS:], of_three)
    np.testing.assert_allclose(ringed[1, KNOBS:], of_two)  # it sees 0, itself and 2


def test_knobs_move_as_those_of_the_textbook_swarm():
    known = history((0.3, 0.4, 0.5, 0.2), (0.2, 0.5, 0.3, 0.1))
    found = ConsensusSwarm(1, 4, 4, 5).propose(SPACE, known).positions[:, :KNOBS]
    textbook = ClassicSwarm(1, 4, 4, 5, {"topology": "star"}).propose(SPACE, known).positions
    np.testing.assert_array_equal(found, textbook[:, :KNOBS])
    assert np.ptp(found, axis=0).min() > 0


def test_a_valley_with_noise_of_each_particle_is_left_by_averaging():
    """Particles that descend with noise of their own stand nearer the bottom after a mean."""
    wide = cube(KNOBS).with_weights(np.full((1, 400), 0.5))
    ends = 0.4 + 0.05 * RNG.standard_normal((4, 400))
    row = tuple(
        finished(0, i, i, np.concatenate([[0.5, 0.5], end]), 1.0) for i, end in enumerate(ends)
    )
    found = ConsensusSwarm(1, 4, 4, 5).propose(wide, History(MINIMISED, (row,))).positions
    before, after = np.linalg.norm(ends - 0.4, axis=1), np.linalg.norm(found[:, 2:] - 0.4, axis=1)
    assert after.max() < 0.6 * before.min()


def test_options_are_those_of_the_textbook_swarm_by_this_name():
    with pytest.raises(ConfigurationError, match=r'pso-consensus has no option "pulls"'):
        ConsensusSwarm(1, 4, 4, 5, {"pulls": 1})
    plain = drive(ConsensusSwarm(1, 4, 4, 5), cube(3), lambda params: sum(params.values()), 5)
    textbook = ClassicSwarm(1, 4, 4, 5, {"topology": "star", "stagnation": 0})
    same = drive(textbook, cube(3), lambda params: sum(params.values()), 5)
    for one, other in zip(plain.trials, same.trials, strict=True):
        np.testing.assert_array_equal(one.candidate.position, other.candidate.position)
