from dataclasses import replace

import numpy as np
import pytest

from pso_attn.swarm.ledger import Ledger
from pso_attn.swarm.standing import POINTS, standing_of

NUMBER = np.array([False])


def ledger_of(particles, points, losses, fidelities=None):
    points, losses = np.reshape(points, (-1, 1)).astype(float), np.array(losses, dtype=float)
    fidelities = np.ones(len(losses)) if fidelities is None else np.array(fidelities)
    again = np.zeros(len(losses), dtype=bool)
    none = np.zeros(len(losses))
    return Ledger(
        np.array(particles), points, points, losses, fidelities, again, none, frozenset()
    )


def test_bests_are_the_least_losses_and_costs_rank_them():
    ledger = ledger_of([0, 1, 0, 1], [0.1, 0.9, 0.3, 0.7], [4.0, 2.0, 1.0, 3.0])
    standing = standing_of(ledger, NUMBER, 3)
    np.testing.assert_array_equal(standing.bests[:2], [2, 1])
    np.testing.assert_array_equal(standing.costs, [0.0, 1.0, np.inf])
    assert standing.best == pytest.approx(standing.surrogate.mean(ledger.points).min(), abs=1e-9)


def test_a_full_training_leads_a_pruned_one_of_the_same_merit():
    ledger = ledger_of([0, 1], [0.1, 0.9], [0.1, 2.0], [0.25, 1.0])
    standing = standing_of(ledger, NUMBER, 2)
    np.testing.assert_array_equal(standing.costs, [1.0, 0.0])
    assert standing.targets[0] == standing.targets[1]
    assert standing.best == pytest.approx(standing.surrogate.mean(ledger.points)[1], abs=1e-9)


def test_a_failure_is_nobodys_best():
    ledger = ledger_of([0, 0, 1], [0.1, 0.5, 0.9], [np.inf, 3.0, np.inf])
    standing = standing_of(ledger, NUMBER, 2)
    assert standing.bests[0] == 1
    np.testing.assert_array_equal(standing.costs, [0.0, np.inf])


def test_the_surrogate_is_not_told_of_failures_before_anything_worked_if_few_failed_since():
    points, losses = [0.3, 0.4, 0.1, 0.5, 0.9, 0.7], [np.inf, np.inf, 4.0, 1.0, 9.0, 5.0]
    whole, rest = (
        ledger_of([0, 1] * 3, points, losses),
        ledger_of([0, 1] * 2, points[2:], losses[2:]),
    )
    told = standing_of(replace(whole, barren=2), NUMBER, 2)
    asked = np.linspace(0.0, 1.0, 9)[:, None]
    alone = standing_of(rest, NUMBER, 2)
    np.testing.assert_array_equal(told.surrogate.mean(asked), alone.surrogate.mean(asked))
    np.testing.assert_array_equal(told.costs, alone.costs)
    losses[3:5] = np.inf, np.inf  # half of what came since: they count
    again = standing_of(replace(ledger_of([0, 1] * 3, points, losses), barren=2), NUMBER, 2)
    assert len(again.surrogate.weights) == 6


def test_a_lucky_draw_does_not_lead_where_losses_are_noisy():
    rng = np.random.default_rng(0)
    points = np.append(rng.random(60), 0.95)
    losses = (points - 0.3) ** 2 + 0.1 * rng.normal(size=61)
    losses[60] = losses.min() - 0.02  # where the others were bad
    standing = standing_of(ledger_of(np.arange(61) % 6, points, losses), NUMBER, 6)
    assert standing.is_noisy
    assert abs(points[np.argmin(standing.ranks)] - 0.3) < 0.2
    assert np.argmin(losses) == 60
    assert standing.best > standing.targets[60] + 0.3  # what is to be improved on is no luck


def test_without_noise_ranks_are_the_losses_in_their_order():
    points = np.random.default_rng(1).random(40)
    losses = (points - 0.3) ** 2
    standing = standing_of(ledger_of(np.arange(40) % 6, points, losses), NUMBER, 6)
    assert not standing.is_noisy
    np.testing.assert_array_equal(np.argsort(standing.ranks), np.argsort(losses))


def test_the_surrogate_sees_the_best_the_latest_and_some_of_the_rest():
    rng = np.random.default_rng(2)
    points = rng.random(900)
    losses = np.sin(9 * points)
    surrogate = standing_of(ledger_of(np.arange(900) % 6, points, losses), NUMBER, 6).surrogate
    seen = set(surrogate.points[:, 0])
    assert len(seen) == POINTS
    assert seen.issuperset(points[np.argsort(losses)[:200]])
    assert seen.issuperset(points[-100:])
    assert losses[np.argmax(losses)] - np.sin(9 * np.array(sorted(seen))).max() < 1e-9


def test_in_many_dimensions_the_surrogate_sees_fewer_trials():
    rng = np.random.default_rng(3)
    points, losses = rng.random((250, 300)), rng.random(250)
    always = np.zeros(250, dtype=bool)
    ledger = Ledger(
        np.arange(250) % 6,
        points,
        points,
        losses,
        np.ones(250),
        always,
        np.zeros(250),
        frozenset(),
    )
    surrogate = standing_of(ledger, np.zeros(300, dtype=bool), 6).surrogate
    assert 100 < len(surrogate.points) < 200
