"""Every baseline keeps the samplers' promises."""

import pytest

from pso_attn.baselines import (
    CovarianceAdaptation,
    GaussianProcess,
    Genetic,
    PySwarms,
    TreeParzen,
)
from pso_attn.testing.samplers import SamplerContract
from pso_attn.testing.spaces import mixed


class TestTreeParzen(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return TreeParzen(seed, particles, batch, generations)


class TestGaussianProcess(SamplerContract):
    pytestmark = pytest.mark.slow  # it fits a Gaussian process for each particle

    @pytest.fixture
    def space(self):
        return mixed()

    def make(self, seed, particles, batch, generations):
        return GaussianProcess(seed, particles, batch, generations)


class TestGenetic(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return Genetic(seed, particles, batch, generations)


class TestCovarianceAdaptation(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return CovarianceAdaptation(seed, particles, batch, generations)


class TestPySwarms(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return PySwarms(seed, particles, batch, generations)
