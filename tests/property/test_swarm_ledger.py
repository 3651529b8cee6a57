"""The default swarm's cache of its ledger equals the full fold, whatever it is shown."""

from dataclasses import fields

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pso_attn.swarm import ScreenedSwarm
from pso_attn.swarm.targets import Warp, comparable, regrets
from pso_attn.testing import finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.spaces import mixed
from pso_attn.types import History

SPACE = mixed()
PARTICLES, BATCH = 5, 3
LOSSES = st.one_of(
    st.none(),
    st.integers(0, 3).map(float),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300]),
)


@st.composite
def histories(draw):
    """Draw a history of up to six generations: ties, failures and pruned trials among them.

    Of some the first generations failed altogether.
    """
    seed = draw(st.integers(0, 3))
    failed, generations = draw(st.sampled_from([0, 0, 1, 3])), []
    for number in range(draw(st.integers(0, 6))):
        trials = []
        for slot in range(BATCH):
            trial = number * BATCH + slot
            position = np.random.default_rng([seed, trial]).random(SPACE.dimension)
            fidelity = draw(st.sampled_from([1.0, 1.0, 0.5, 0.25]))
            loss = None if number < failed else draw(LOSSES)
            trials.append(finished(number, trial, trial % PARTICLES, position, loss, fidelity))
        generations.append(tuple(trials))
    return History(MINIMISED, tuple(generations))


@settings(max_examples=25, deadline=None)
@given(
    runs=st.lists(histories(), min_size=1, max_size=3),
    visits=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=1, max_size=6),
)
def test_a_cached_ledger_equals_a_fresh_one(runs, visits):
    cached = ScreenedSwarm(1, PARTICLES, BATCH, 6)
    for run, length in visits:
        history = runs[run % len(runs)].truncated(length)
        fresh = ScreenedSwarm(1, PARTICLES, BATCH, 6)
        one, two = cached.ledger(SPACE, history), fresh.ledger(SPACE, history)
        assert len(one) == len(history.trials)
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))
        np.testing.assert_array_equal(
            cached.propose(SPACE, history).positions, fresh.propose(SPACE, history).positions
        )


@settings(max_examples=15, deadline=None)
@given(
    runs=st.lists(histories(), min_size=1, max_size=2),
    visits=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=1, max_size=4),
    moves=st.sampled_from(["covariance", "both"]),
)
def test_a_cached_distribution_equals_a_fresh_one(runs, visits, moves):
    def make():
        return ScreenedSwarm(1, PARTICLES, BATCH, 6, {"moves": moves, "draws": 9})

    cached = make()
    for run, length in visits:
        history = runs[run % len(runs)].truncated(length)
        one, two = cached.learned(SPACE, history), make().learned(SPACE, history)
        assert len(one.ledger) == len(history.trials)
        assert (one.agreement, one.told) == (two.agreement, two.told)
        for field in fields(one.distribution):
            np.testing.assert_array_equal(
                getattr(one.distribution, field.name), getattr(two.distribution, field.name)
            )
        np.testing.assert_array_equal(
            cached.propose(SPACE, history).positions, make().propose(SPACE, history).positions
        )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.floats(-1e308, 1e308), st.just(float("inf"))),
            st.sampled_from([1.0, 0.5, 0.25]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_targets_are_finite_and_no_better_than_what_outlived_them(rows):
    losses, fidelities = np.array(rows).T
    seen = regrets(comparable(losses, fidelities, np.zeros(len(losses))))
    targets = Warp.of(seen, 0.5).targets(seen)
    assert np.all(np.isfinite(targets))
    finite = np.isfinite(losses)
    for i in np.flatnonzero(finite & (fidelities < 1.0)):
        survivors = finite & (fidelities > fidelities[i])
        assert np.all(targets[i] >= targets[survivors] - 1e-9)
