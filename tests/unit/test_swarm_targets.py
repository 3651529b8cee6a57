import numpy as np
import pytest
from scipy.stats import yeojohnson, yeojohnson_llf

from pso_attn.swarm.targets import (
    comparable,
    likeliest_power,
    normalised,
    standardised,
    yeo_johnson,
)


@pytest.mark.parametrize("power", [-3.0, -0.5, 0.0, 1.0, 2.0])
def test_the_transformation_is_yeos_and_johnsons(power):
    values = np.linspace(-4, 4, 81)
    np.testing.assert_allclose(yeo_johnson(values, power), yeojohnson(values, power), atol=1e-12)


def test_the_power_is_the_likeliest():
    values = standardised(np.random.default_rng(0).lognormal(size=200))
    powers = np.linspace(-3, 2, 501)
    likelihoods = [yeojohnson_llf(power, values) for power in powers]
    assert likeliest_power(values) == pytest.approx(powers[np.argmax(likelihoods)], abs=0.02)


def test_targets_keep_the_order_and_are_standard():
    losses = np.random.default_rng(1).lognormal(sigma=2.0, size=50)
    targets = normalised(losses)
    np.testing.assert_array_equal(np.argsort(targets), np.argsort(losses))
    assert targets.mean() == pytest.approx(0.0, abs=1e-12)
    assert targets.std() == pytest.approx(1.0)


def test_targets_do_not_depend_on_the_unit_of_the_losses():
    losses = np.random.default_rng(2).lognormal(size=50)
    np.testing.assert_allclose(normalised(1e6 * losses + 3e5), normalised(losses), atol=1e-6)


def test_equal_losses_say_nothing():
    np.testing.assert_array_equal(normalised(np.full(7, 3.3)), 0.0)
    np.testing.assert_array_equal(normalised(np.array([5.0])), 0.0)


def test_one_huge_loss_does_not_hide_the_others():
    losses = np.r_[np.linspace(0.1, 1.0, 20), 1e300]
    targets = normalised(comparable(losses, np.ones(21)))
    assert np.all(np.isfinite(targets))
    assert np.all(np.diff(targets[:20]) > 0.01)


def test_losses_at_the_end_of_what_floats_hold_are_finite_targets():
    for losses in ([1e300, -1e300, 1.0], [1e308, 1e308, -1e308], [5e-324, 0.0, 1e-300]):
        assert np.all(np.isfinite(normalised(comparable(np.array(losses), np.ones(3)))))


def test_a_failure_is_as_bad_as_the_worst_that_was_seen():
    seen = comparable(np.array([1.0, np.inf, 3.0, np.inf]), np.ones(4))
    np.testing.assert_array_equal(seen, [1.0, 3.0, 3.0, 3.0])
    np.testing.assert_array_equal(comparable(np.array([np.inf, np.inf]), np.ones(2)), 0.0)


def test_a_pruned_loss_is_no_better_than_the_worst_survivor_of_its_rung():
    losses = np.array([1.0, 2.0, 0.5, 5.0, 0.1])
    fidelities = np.array([1.0, 1.0, 0.5, 0.5, 0.25])
    np.testing.assert_array_equal(comparable(losses, fidelities), [1.0, 2.0, 2.0, 5.0, 5.0])


def test_without_survivors_a_pruned_loss_stands_for_itself():
    seen = comparable(np.array([0.5, 0.7, np.inf]), np.array([0.5, 0.5, 1.0]))
    np.testing.assert_array_equal(seen, [0.5, 0.7, 0.7])
