"""Every sampler of the package keeps the samplers' promises."""

from pso_attn.baselines import QuasiMonteCarlo, RandomSearch
from pso_attn.swarm import ClassicSwarm
from pso_attn.testing.samplers import SamplerContract


class TestRingSwarm(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return ClassicSwarm(seed, particles, batch, generations)


class TestStarSwarmWithInertia(SamplerContract):
    def make(self, seed, particles, batch, generations):
        options = {"rule": "inertia", "topology": "star", "stagnation": 2}
        return ClassicSwarm(seed, particles, batch, generations, options)


class TestRandomSearch(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return RandomSearch(seed, particles, batch, generations)


class TestQuasiMonteCarlo(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return QuasiMonteCarlo(seed, particles, batch, generations)
