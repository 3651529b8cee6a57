"""Every baseline keeps the samplers' promises."""

import pytest

from pso_attn.baselines import (
    CovarianceAdaptation,
    GaussianProcess,
    Genetic,
    PySwarms,
    TreeParzen,
)
from pso_attn.testing.samplers import SamplerContract, space_called


class TestTreeParzen(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return TreeParzen(seed, particles, batch, generations)


class TestGaussianProcess(SamplerContract):
    pytestmark = pytest.mark.slow  # it fits a Gaussian process for each particle
    generations = 4  # of 4: the first ten trials are random

    @pytest.fixture
    def space(self):
        return space_called("mixed")

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
