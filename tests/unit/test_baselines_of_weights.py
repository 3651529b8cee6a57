import math

import numpy as np
from cmaes import SepCMA

from pso_attn.baselines import OpenStrategy, SeparableCovarianceAdaptation
from pso_attn.baselines.open_es import RATE, SIGMA
from pso_attn.seeding import generator
from pso_attn.testing import drive
from pso_attn.testing.spaces import cube
from pso_attn.testing.swarms import extended


def bowl(params):
    return sum((x - 0.45) ** 2 for x in params.values())


def test_open_es_is_adam_on_centred_ranks():
    space, sampler = cube(4), OpenStrategy(1, 6, 6, 9)
    history = drive(sampler, space, bowl, 3)
    mean, first, second = [0.5] * 4, [0.0] * 4, [0.0] * 4
    for t, generation in enumerate(history.generations, start=1):
        losses = sorted(history.loss(trial) for trial in generation)
        for d in range(4):
            gradient = 0.0
            for trial in generation:
                utility = losses.index(history.loss(trial)) / 5 - 0.5
                noise = (trial.candidate.position[d] - mean[d]) / SIGMA
                gradient += utility * noise / (6 * SIGMA)
            first[d] = 0.9 * first[d] + 0.1 * gradient
            second[d] = 0.999 * second[d] + 0.001 * gradient**2
            root = math.sqrt(second[d] / (1 - 0.999**t))
            mean[d] -= RATE * first[d] / (1 - 0.9**t) / (root + 1e-8)
    proposed = sampler.propose(space, history).positions
    np.testing.assert_allclose((proposed[0] + proposed[1]) / 2, mean)
    np.testing.assert_allclose((proposed[4] + proposed[5]) / 2, mean)
    np.testing.assert_allclose(sampler._fold.state.first, first)


def test_open_es_makes_its_population_even_and_at_least_the_swarm():
    space = cube(4)
    for particles, batch in ((5, 5), (3, 2), (2, 1), (1, 1)):
        sampler = OpenStrategy(1, particles, batch, 9)
        history = drive(sampler, space, bowl, sampler._batches)
        size = sampler._batches * batch
        assert size % 2 == 0
        assert size >= particles
        moved = sampler.propose(space, history).positions
        assert np.abs(moved.mean(axis=0) - 0.5).max() > 1e-6


def test_separable_cma_goes_where_cmaes_goes_by_itself():
    space, sampler = cube(4), SeparableCovarianceAdaptation(1, 8, 8, 9)
    history = drive(sampler, space, bowl, 4)
    alone = SepCMA(mean=np.full(4, 0.5), sigma=0.05, population_size=8)
    for number, generation in enumerate(history.generations):
        rng = generator(1, number, "sepcmaes")
        alone.reseed_rng(int(rng.integers(2**31)))
        asked = np.clip([alone.ask() for _ in range(8)], 0.0, 1.0)
        trained = np.stack([trial.candidate.position for trial in generation])
        first = 1 if number == 0 else 0  # the start takes the first trial
        np.testing.assert_array_equal(trained[first:], asked[first:])
        alone.tell([(x, history.loss(t)) for x, t in zip(trained, generation, strict=True)])


def test_separable_cma_learns_nothing_of_failures_only_and_ranks_one_last():
    space, sampler = cube(4), SeparableCovarianceAdaptation(1, 8, 8, 9)
    history = drive(sampler, space, bowl, 1)
    positions = sampler.propose(space, history).positions
    before = sampler._fold.state.distribution.mean.copy()
    after = [
        sampler.propose(space, extended(history, positions, losses)).positions
        for losses in ([1.0, 2, 3, 4, 5, 6, 7, None], [1.0, 2, 3, 4, 5, 6, 7, 99.0])
    ]
    np.testing.assert_array_equal(*after)
    for told in (history, extended(history, positions, [None] * 8)):
        sampler.propose(space, told)
        np.testing.assert_array_equal(sampler._fold.state.distribution.mean, before)
