import numpy as np
import pytest
from scipy.optimize import approx_fprime

from pso_attn.swarm.targets import Warp, comparable, regrets

SKEWED = np.random.default_rng(1).lognormal(sigma=2.0, size=50)


def normalised(losses):
    seen = regrets(losses)
    return Warp.of(seen, 1.0).targets(seen)


def test_regrets_are_counted_in_the_median_of_what_is_worse_than_the_best():
    np.testing.assert_array_equal(regrets(np.array([4.0, 2.0, 3.0, 2.0, 8.0])), [1, 0, 0.5, 0, 3])


@pytest.mark.parametrize("softness", [0.1, 1.0, 100.0])
def test_targets_keep_the_order_and_are_standard(softness):
    seen = regrets(SKEWED)
    targets = Warp.of(seen, softness).targets(seen)
    kept = seen < seen.max()  # what is too bad to be told apart
    np.testing.assert_array_equal(np.argsort(targets[kept]), np.argsort(SKEWED[kept]))
    assert targets.mean() == pytest.approx(0.0, abs=1e-12)
    assert targets.std() == pytest.approx(1.0)


def test_the_softer_the_more_alike_are_targets_and_regrets():
    seen = np.linspace(0.0, 4.0, 9)
    gaps = [np.diff(Warp.of(seen, softness).targets(seen)) for softness in (0.1, 1.0, 1e4)]
    ratios = [gap[0] / gap[-1] for gap in gaps]
    assert ratios[0] > 5.0 > ratios[1] > 1.5 > 1.001 > ratios[2]


def test_slopes_of_a_warp_are_what_differences_show():
    seen = regrets(SKEWED)

    def warp(logarithm):
        return Warp.of(seen, float(np.exp(logarithm[0])))

    at = np.log([0.7])
    by_target, by_slope = warp(at).by_softness(seen)
    steps = approx_fprime(at, lambda x: warp(x).targets(seen), 1e-7)[:, 0]
    np.testing.assert_allclose(by_target, steps, atol=1e-5)
    assert by_slope == pytest.approx(
        approx_fprime(at, lambda x: warp(x).log_slope(seen), 1e-7)[0], abs=1e-4
    )
    fixed = warp(at)
    nudged = (fixed.targets(seen + 1e-7) - fixed.targets(seen)) / 1e-7
    assert fixed.log_slope(seen) == pytest.approx(np.log(nudged).sum(), abs=1e-4)


def test_targets_do_not_depend_on_the_unit_of_the_losses():
    losses = np.random.default_rng(2).lognormal(size=50)
    np.testing.assert_allclose(normalised(1e6 * losses + 3e5), normalised(losses), atol=1e-6)


def test_equal_losses_say_nothing():
    np.testing.assert_array_equal(normalised(np.full(7, 3.3)), 0.0)
    np.testing.assert_array_equal(normalised(np.array([5.0])), 0.0)


def test_one_huge_loss_does_not_hide_the_others():
    losses = np.r_[np.linspace(0.1, 1.0, 20), 1e300]
    targets = normalised(comparable(losses, np.ones(21), np.zeros(21)))
    assert np.all(np.isfinite(targets))
    assert np.all(np.diff(targets[:20]) > 0.01)


def test_losses_at_the_end_of_what_floats_hold_are_finite_targets():
    for losses in ([1e300, -1e300, 1.0], [1e308, 1e308, -1e308], [5e-324, 0.0, 1e-300]):
        assert np.all(
            np.isfinite(normalised(comparable(np.array(losses), np.ones(3), np.zeros(3))))
        )


def test_a_failure_is_as_bad_as_the_worst_that_was_seen():
    seen = comparable(np.array([1.0, np.inf, 3.0, np.inf]), np.ones(4), np.zeros(4))
    np.testing.assert_array_equal(seen, [1.0, 3.0, 3.0, 3.0])
    np.testing.assert_array_equal(
        comparable(np.array([np.inf, np.inf]), np.ones(2), np.zeros(2)), 0.0
    )


def test_a_pruned_loss_is_no_better_than_the_worst_survivor_of_its_rung():
    losses = np.array([1.0, 2.0, 0.5, 5.0, 0.1])
    fidelities = np.array([1.0, 1.0, 0.5, 0.5, 0.25])
    np.testing.assert_array_equal(
        comparable(losses, fidelities, np.zeros(5)), [1.0, 2.0, 2.0, 5.0, 5.0]
    )


def test_without_survivors_a_pruned_loss_stands_for_itself():
    seen = comparable(np.array([0.5, 0.7, np.inf]), np.array([0.5, 0.5, 1.0]), np.zeros(3))
    np.testing.assert_array_equal(seen, [0.5, 0.7, 0.7])


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e200])
def test_what_breaks_constraints_is_worse_the_further_it_does(scale):
    losses, full = np.array([1.0, np.inf, 3.0, np.inf, np.inf]), np.ones(5)
    violations = scale * np.array([0.0, 0.2, 0.0, 0.5, 0.1])
    seen = comparable(losses, full, violations)
    assert seen[0] < seen[2] == seen[4] < seen[1] < seen[3] < 5.0  # worst + spread
    alike = comparable(losses, full, scale * np.array([0.0, 1.0, 0.0, 1.0, 1.0]))
    np.testing.assert_array_equal(alike, comparable(losses, full, np.zeros(5)))
    none_feasible = comparable(np.full(3, np.inf), np.ones(3), scale * np.array([2.0, 1.0, 3.0]))
    assert none_feasible[1] < none_feasible[0] < none_feasible[2]
