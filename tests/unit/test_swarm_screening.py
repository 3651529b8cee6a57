import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from pso_attn.swarm.screening import Forecast, chosen_moves, log_improvement
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
    shape = Hyperparameters(np.array([0.2]), 1.0, 1e-6, 0.0)
    surrogate = given(points, np.array([False]), np.array([0.0, 1.0]), shape)
    candidates = np.array([[0.12], [0.5], [0.9]])
    promise = Forecast.of(surrogate, candidates).promise(0.0)
    assert promise[2] > promise[0] > promise[1]


def test_what_was_chosen_makes_its_surroundings_less_promising():
    points = np.array([[0.1], [0.5]])
    shape = Hyperparameters(np.array([0.2]), 1.0, 1e-6, 0.0)
    surrogate = given(points, np.array([False]), np.array([0.0, 1.0]), shape)
    before = Forecast.of(surrogate, np.array([[0.89], [0.9], [0.3]]))
    after = before.pretending(1)
    fall = before.promise(0.0) - after.promise(0.0)
    assert fall[0] > 1.0
    assert fall[2] < 0.05


def forecast_at(*places, noise=1e-6):
    points = np.array([[0.1], [0.5]])
    shape = Hyperparameters(np.array([0.2]), 1.0, noise, 0.0)
    surrogate = given(points, np.array([False]), np.array([0.0, 1.0]), shape)
    return Forecast.of(surrogate, np.array(places)[:, None])


NAMES = [b"a", b"b", b"c", b"d"]
BOTH = np.array([[True, True], [True, True]])


def test_the_second_particle_does_not_go_where_the_first_went():
    forecast = forecast_at(0.9, 0.3, 0.9001, 0.85)
    alone = chosen_moves(forecast, BOTH, NAMES, set(), 0.0, np.array([1, 0]))
    assert alone[1] == 0  # .9001 promises more than .85
    both = chosen_moves(forecast, BOTH, NAMES, set(), 0.0, np.array([0, 1]))
    np.testing.assert_array_equal(both, [0, 1])


def test_two_particles_do_not_train_the_same_settings():
    forecast = forecast_at(0.9, 0.45, 0.9, 0.5, noise=1.0)  # .9 stays uncertain
    names, order = [b"a", b"b", b"a", b"d"], np.array([0, 1])
    np.testing.assert_array_equal(chosen_moves(forecast, BOTH, names, set(), 0.0, order), [0, 1])
    assert forecast.pretending(0).promise(0.0)[2] > forecast.pretending(0).promise(0.0)[3]


def test_what_cannot_be_trained_or_is_known_comes_last():
    forecast = forecast_at(0.9, 0.3, 0.9001, 0.85)
    order = np.array([0, 1])
    feasible = np.array([[False, True], [True, True]])
    assert chosen_moves(forecast, feasible, NAMES, set(), 0.0, order)[0] == 1
    assert chosen_moves(forecast, BOTH, NAMES, {b"a"}, 0.0, order)[0] == 1
    assert chosen_moves(forecast, feasible, NAMES, {b"b"}, 0.0, order)[0] == 1
    assert chosen_moves(forecast, BOTH, NAMES, {b"a", b"b"}, 0.0, order)[0] == 0
