"""Every sampler of the package keeps the samplers' promises."""

from pso_attn.baselines import QuasiMonteCarlo, RandomSearch
from pso_attn.swarm import BareBonesSwarm, ClassicSwarm, ClpsoSwarm, Spso2011Swarm
from pso_attn.testing.samplers import SamplerContract
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


class TestRandomSearch(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return RandomSearch(seed, particles, batch, generations)


class TestQuasiMonteCarlo(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return QuasiMonteCarlo(seed, particles, batch, generations)
