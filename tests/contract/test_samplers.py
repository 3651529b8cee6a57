"""Every sampler of the package keeps the samplers' promises."""

import numpy as np

from pso_attn.baselines import QuasiMonteCarlo, RandomSearch
from pso_attn.swarm import BareBonesSwarm, ClassicSwarm, ClpsoSwarm, ScreenedSwarm, Spso2011Swarm
from pso_attn.testing import drive
from pso_attn.testing.samplers import SamplerContract, relabel, roughness
from pso_attn.testing.spaces import labelled
from pso_attn.testing.swarms import SwarmContract


class TestRingSwarm(SwarmContract):
    def make(self, seed, particles, batch, generations, **options):
        return ClassicSwarm(seed, particles, batch, generations, options)


class TestStarSwarmWithInertia(SwarmContract):
    def make(self, seed, particles, batch, generations, **options):
        usual = {"rule": "inertia", "topology": "star", "stagnation": 2}
        return ClassicSwarm(seed, particles, batch, generations, {**usual, **options})


class TestSwarmWithRandomInformants(SwarmContract):
    def make(self, seed, particles, batch, generations, **options):
        usual = {"topology": "random", "informed": 2}
        return ClassicSwarm(seed, particles, batch, generations, {**usual, **options})


class TestSpso2011(SwarmContract):
    def make(self, seed, particles, batch, generations, **options):
        return Spso2011Swarm(seed, particles, batch, generations, options)


class TestBareBones(SwarmContract):
    def make(self, seed, particles, batch, generations, **options):
        return BareBonesSwarm(seed, particles, batch, generations, options)


class TestClpso(SwarmContract):
    def make(self, seed, particles, batch, generations, **options):
        usual = {"refreshing_gap": 2}
        return ClpsoSwarm(seed, particles, batch, generations, {**usual, **options})


class TestScreenedSwarm(SamplerContract):
    def make(self, seed, particles, batch, generations, **options):
        return ScreenedSwarm(seed, particles, batch, generations, options)

    def test_numbers_do_not_depend_on_which_label_stands_in_which_bin(self):
        """Without jumps, which go to a bin, and conditions, which name a label."""
        space = labelled()
        sampler = self.make(1, 6, 4, 6, jump_rate=0.0)
        history = drive(sampler, space, roughness, 4)
        np.testing.assert_array_equal(
            sampler.propose(space, history).positions[:, ~space.categorical],
            sampler.propose(space, relabel(space, history)).positions[:, ~space.categorical],
        )


class TestScreenedSwarmOfALongStart(TestScreenedSwarm):
    def make(self, seed, particles, batch, generations, **options):
        usual = {"topology": "von_neumann", "draws": 7}
        return ScreenedSwarm(seed, particles, batch, 100, {**usual, **options})


class TestScreenedSwarmByCovariance(TestScreenedSwarm):
    def make(self, seed, particles, batch, generations, **options):
        usual = {"moves": "covariance", "draws": 20}
        return ScreenedSwarm(seed, particles, batch, generations, {**usual, **options})


class TestRandomSearch(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return RandomSearch(seed, particles, batch, generations)


class TestQuasiMonteCarlo(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return QuasiMonteCarlo(seed, particles, batch, generations)
