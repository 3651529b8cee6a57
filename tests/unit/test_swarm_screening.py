import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from pso_attn.swarm.screening import Forecast, log_improvement
from pso_attn.swarm.surrogate import Hyperparameters, given


@pytest.mark.parametrize("z", [-8.0, -3.0, -1.001, -0.999, 0.0, 1.5, 6.0])
def test_expected_improvement_is_the_integral_that_defines_it(z):
    defined, _ = quad(lambda x: (z - x) * norm.pdf(x), -12.0, z, epsabs=0, epsrel=1e-10)
    assert log_improvement(np.array([z]))[0] == pytest.approx(math.log(defined), abs=1e-7)


def test_expected_improvement_still_ranks_what_has_next_to_none():
    z = -np.logspace(0, 12, 400)
    found = log_improvement(z)
    assert np.all(np.isfinite(found))
    assert np.all(np.diff(found) < 0)
    series = -0.5 * z * z - 0.5 * np.log(2 * np.pi) - 2 * np.log(-z)  # leading term
    np.testing.assert_allclose(found[z < -30], series[z < -30], rtol=1e-5)


def test_improvement_is_sought_where_the_mean_is_low_or_unsure():
    points = np.array([[0.1], [0.5]])
    shape = Hyperparameters(np.array([0.2]), 1.0, 1e-6)
    surrogate = given(points, np.array([False]), np.array([0.0, 1.0]), shape)
    candidates = np.array([[0.12], [0.5], [0.9]])
    promise = Forecast.of(surrogate, candidates).promise(0.0)
    assert promise[2] > promise[0] > promise[1]


def test_what_was_chosen_makes_its_surroundings_less_promising():
    points = np.array([[0.1], [0.5]])
    shape = Hyperparameters(np.array([0.2]), 1.0, 1e-6)
    surrogate = given(points, np.array([False]), np.array([0.0, 1.0]), shape)
    before = Forecast.of(surrogate, np.array([[0.89], [0.9], [0.3]]))
    after = before.pretending(1)
    fall = before.promise(0.0) - after.promise(0.0)
    assert fall[0] > 1.0
    assert fall[2] < 0.05
