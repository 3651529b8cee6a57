import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

from pso_attn.swarm import trend
from pso_attn.swarm.screening import Fantasies, Forecast
from pso_attn.swarm.surrogate import (
    Hyperparameters,
    Pairs,
    fit,
    given,
    log_marginal_likelihood,
    log_warped_posterior,
)
from pso_attn.swarm.targets import regrets

COUNT, DIMENSION = 25, 3
SHAPE = Hyperparameters(np.array([0.3, 0.7, 1.6]), 1.7, 0.02, 0.6)
LOGARITHMS = np.log([*SHAPE.scales, SHAPE.variance, SHAPE.noise, SHAPE.trend])
SPREAD = np.sqrt(12 / DIMENSION)  # numbers in the trend: spread 1 over the cube, shared by all
NUMBERS = np.zeros(DIMENSION, dtype=bool)


def data(seed=0, count=COUNT):
    rng = np.random.default_rng(seed)
    points = rng.random((count, DIMENSION))
    return points, np.sin(5 * points[:, 0]) + points[:, 1] ** 2 + 0.05 * rng.normal(size=count)


def features(points):
    """Return points as scikit-learn's kernels have to see them, whose trend starts at 0."""
    return (points - 0.5) * SPREAD


def scikit(seen, targets, scales=SHAPE.scales * SPREAD):
    kernel = (
        ConstantKernel(SHAPE.variance) * Matern(scales, nu=2.5)
        + ConstantKernel(SHAPE.trend)
        * ConstantKernel(0.25, "fixed")
        * DotProduct(1.0, "fixed") ** 2
        + WhiteKernel(SHAPE.noise)
    )
    return GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(seen, targets)


def test_mean_and_variance_are_scikit_learns():
    points, targets = data()
    elsewhere = np.random.default_rng(1).random((40, DIMENSION))
    forecast = Forecast.of(given(Pairs.of(points, NUMBERS), targets, SHAPE), elsewhere)
    reference = scikit(features(points), targets)
    mean, deviation = reference.predict(features(elsewhere), return_std=True)
    np.testing.assert_allclose(forecast.mean, mean, atol=1e-10)
    np.testing.assert_allclose(forecast.variance, deviation**2 - SHAPE.noise, atol=1e-10)


def test_the_likelihood_and_its_gradient_are_scikit_learns():
    points, targets = data()
    reference = scikit(features(points), targets)
    theta = np.log([SHAPE.variance, *SHAPE.scales * SPREAD, SHAPE.trend, SHAPE.noise])
    expected, slope = reference.log_marginal_likelihood(theta, eval_gradient=True)
    pairs = Pairs.of(points, NUMBERS)
    found, gradient, by_target = log_marginal_likelihood(LOGARITHMS, pairs, targets)
    assert found == pytest.approx(expected, abs=1e-9)
    expected_slope = [*slope[1:4], slope[0], slope[5], slope[4]]
    np.testing.assert_allclose(gradient, expected_slope, atol=1e-8)
    steps = approx_fprime(
        targets, lambda x: log_marginal_likelihood(LOGARITHMS, pairs, x)[0], 1e-6
    )
    np.testing.assert_allclose(by_target, steps, rtol=1e-4, atol=1e-4)


def test_labels_count_as_one_hot_vectors_divided_by_the_root_of_two():
    rng = np.random.default_rng(2)
    bins, numbers, targets = rng.integers(0, 3, 30), rng.random((30, 2)), rng.normal(size=30)
    points = np.column_stack(((bins + 0.5) / 3, numbers))
    one_hot = np.eye(3)[bins] / np.sqrt(DIMENSION)  # a share of 1 / D in the trend
    scales = [*[SHAPE.scales[0] * np.sqrt(2 / DIMENSION)] * 3, *SHAPE.scales[1:] * SPREAD]
    reference = scikit(np.column_stack((one_hot, features(numbers))), targets, scales)
    surrogate = given(Pairs.of(points, np.array([True, False, False])), targets, SHAPE)
    shuffled = rng.permutation(30)  # labels beside numbers that they were not seen with
    elsewhere = np.column_stack((points[:, 0], numbers[shuffled]))
    mean, deviation = reference.predict(
        np.column_stack((one_hot, features(numbers[shuffled]))), return_std=True
    )
    forecast = Forecast.of(surrogate, elsewhere)
    np.testing.assert_allclose(forecast.mean, mean, atol=1e-10)
    np.testing.assert_allclose(forecast.variance, deviation**2 - SHAPE.noise, atol=1e-10)


def test_the_posterior_has_the_gradient_that_differences_show():
    points, targets = data(3)
    labels = np.array([False, True, False])
    pairs = Pairs.of(np.round(points * 4) / 4, labels)
    seen = regrets(targets)
    for at in (np.append(LOGARITHMS, 0.3), np.append(LOGARITHMS + 0.4, -1.0)):
        _, gradient = log_warped_posterior(at, pairs, seen)
        steps = approx_fprime(at, lambda x: log_warped_posterior(x, pairs, seen)[0], 1e-6)
        np.testing.assert_allclose(gradient, steps, rtol=1e-3, atol=1e-3)


def fitted(points, losses):
    return fit(points, NUMBERS, regrets(losses))


def test_a_fit_finds_what_matters_and_how_noisy_it_is():
    rng = np.random.default_rng(4)
    points = rng.random((120, DIMENSION))
    truth = np.sin(6 * points[:, 0])
    truth /= truth.std()
    shape = fitted(points, truth + 0.3 * rng.normal(size=120))[0].hyperparameters
    assert shape.scales[0] < 0.5 * min(shape.scales[1:])
    assert 0.04 < shape.noise < 0.16
    assert fitted(points, truth)[0].hyperparameters.noise < 1e-4


def test_a_fit_finds_how_losses_were_bent():
    points = np.random.default_rng(4).random((80, DIMENSION))
    bowl = np.sum((points - 0.4) ** 2, axis=1)
    straight, bent = (fitted(points, losses)[1].softness for losses in (bowl, np.exp(20 * bowl)))
    assert straight > 5.0
    assert bent < 0.5


def test_points_that_coincide_do_no_harm():
    points = np.repeat(data()[0][:4], 5, axis=0)
    surrogate, _ = fitted(points, np.tile([1.0, -1.0], 10))
    assert np.all(np.isfinite(surrogate.mean(points)))
    assert np.all(np.isfinite(fitted(points[:1], np.zeros(1))[0].weights))


def test_believing_is_conditioning_on_the_mean():
    points, targets = data(5)
    elsewhere = np.random.default_rng(6).random((12, DIMENSION))
    surrogate = given(Pairs.of(points, NUMBERS), targets, SHAPE)
    fantasies = Fantasies.none(surrogate)
    for index in (3, 7, 9):
        point = elsewhere[[index]]
        fantasies = fantasies.believing(point, Forecast.of(surrogate, point))
    forecast = fantasies.forecast(elsewhere)
    means = surrogate.mean(elsewhere[[3, 7, 9]])
    more = np.vstack((points, elsewhere[[3, 7, 9]]))
    whole = given(Pairs.of(more, NUMBERS), np.append(targets, means), SHAPE)
    anew = Forecast.of(whole, elsewhere)
    np.testing.assert_allclose(forecast.mean, anew.mean, atol=1e-10)
    np.testing.assert_allclose(forecast.variance, anew.variance, atol=1e-10)


def test_a_covariance_is_the_same_in_blocks_of_any_size(monkeypatch):
    points, targets = data()
    points[:, 1] = np.round(points[:, 1])
    surrogate = given(Pairs.of(points, np.array([False, True, False])), targets, SHAPE)
    elsewhere = np.random.default_rng(1).random((40, DIMENSION))
    elsewhere[:, 1] = np.round(elsewhere[:, 1])
    whole = surrogate.covariance(elsewhere, points)
    monkeypatch.setattr(trend, "BLOCK", 3 * len(points) + 1)
    np.testing.assert_array_equal(surrogate.covariance(elsewhere, points), whole)
