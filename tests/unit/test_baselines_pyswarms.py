import logging
import os

import numpy as np
import pytest

from pso_attn.baselines import PySwarms
from pso_attn.baselines.pyswarms import OPTIONS, global_draws
from pso_attn.seeding import generator
from pso_attn.swarm.pyswarms_bridge import quiet_pyswarms
from pso_attn.testing import drive, finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.spaces import cube
from pso_attn.types import History

PARTICLES, DIMENSION, SEED = 6, 3, 4


def rugged(x):
    """A loss of positions, (..., D), whose minimum lies at an end."""
    return np.sin(5 * x).sum(axis=-1) + x.sum(axis=-1)


def test_a_whole_swarm_moves_as_pyswarms_own_optimiser_does():
    """`GlobalBestPSO`, begun where ours begins and with numpy seeded before each iteration."""
    with quiet_pyswarms():
        from pyswarms.single import GlobalBestPSO

        bounds = (np.zeros(DIMENSION), np.ones(DIMENSION))
        optimiser = GlobalBestPSO(PARTICLES, DIMENSION, dict(OPTIONS), bounds)
    space = cube(DIMENSION)
    history = drive(
        PySwarms(SEED, PARTICLES, PARTICLES, 12),
        space,
        lambda params: float(rugged(np.array(list(params.values())))),
        12,
    )
    ours = np.stack([trial.candidate.position for trial in history.trials])
    ours = ours.reshape(12, PARTICLES, DIMENSION)
    theirs = []

    def evaluate(positions):
        theirs.append(positions.copy())
        np.random.seed(int(generator(SEED, len(theirs), "pyswarms").integers(2**32)))  # noqa: NPY002  # pyswarms draws from it
        return rugged(np.round(positions, 10))  # as a position decodes

    begin = generator(SEED, "pyswarms", "first").random((2, PARTICLES, DIMENSION))
    optimiser.swarm.position, optimiser.swarm.velocity = begin[0].copy(), begin[1].copy()
    optimiser.swarm.position[0] = space.starts[0]
    with global_draws(0):
        optimiser.optimize(evaluate, 12, verbose=False)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert len(np.unique(ours[:, :, 0])) == 12 * PARTICLES


def test_a_small_batch_moves_only_its_own_particles():
    sampler, space = PySwarms(SEED, PARTICLES, 2, 9), cube(DIMENSION)
    history = drive(sampler, space, lambda params: sum(params.values()), 9)
    where = [trial.candidate.position for trial in history.trials]
    alone = PySwarms(SEED, PARTICLES, PARTICLES, 1).propose(space, History(MINIMISED)).positions
    np.testing.assert_array_equal(np.stack(where[:PARTICLES]), alone)


def test_a_swarm_of_failures_flies_on():
    sampler, space = PySwarms(SEED, 2, 2, 3), cube(1)
    first = sampler.propose(space, History(MINIMISED)).positions
    failed = tuple(finished(0, i, i, position, None) for i, position in enumerate(first))
    moved = sampler.propose(space, History(MINIMISED, (failed,))).positions
    velocity = generator(SEED, "pyswarms", "first").random((2, 2, 1))[1]
    wrapped = np.mod(first + OPTIONS["w"] * velocity, 1.0)
    np.testing.assert_allclose(moved, wrapped)


def test_global_draws_are_put_back_even_after_an_error():
    before = np.random.get_state(legacy=False)  # noqa: NPY002  # read, never drawn from
    with pytest.raises(ZeroDivisionError), global_draws(3):
        1 / np.random.randint(1)  # noqa: NPY002  # pyswarms draws like this
    after = np.random.get_state(legacy=False)  # noqa: NPY002  # read, never drawn from
    assert repr(before) == repr(after)


def test_it_is_quiet(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)
    drive(PySwarms(0, 4, 4, 4), cube(2), lambda params: sum(params.values()), 4)
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers
