"""The movers of weight matrices keep the samplers' promises."""

from pso_attn.baselines import OpenStrategy, SeparableCovarianceAdaptation
from pso_attn.swarm import CompetitiveSwarm, ConsensusSwarm, SeparableSwarm, SocialSwarm
from pso_attn.testing.samplers import SamplerContract


class TestCompetitiveSwarm(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return CompetitiveSwarm(seed, particles, batch, generations, {"phi": 0.1})


class TestSocialSwarm(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return SocialSwarm(seed, particles, batch, generations)


class TestSeparableSwarm(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return SeparableSwarm(seed, particles, batch, generations)


class TestOpenStrategy(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return OpenStrategy(seed, particles, batch, generations)


class TestSeparableCovarianceAdaptation(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return SeparableCovarianceAdaptation(seed, particles, batch, generations)


class TestConsensusSwarm(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return ConsensusSwarm(seed, particles, batch, generations)
