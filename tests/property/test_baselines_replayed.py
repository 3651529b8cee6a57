"""A baseline that saw other histories proposes what a fresh one does, whatever was in them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pso_attn.baselines import CovarianceAdaptation, Genetic, PySwarms, TreeParzen
from pso_attn.testing import drive, finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.samplers import roughness
from pso_attn.testing.spaces import mixed
from pso_attn.types import History

SPACE = mixed()
PARTICLES, BATCH, LENGTH = 5, 3, 8
LOSSES = st.one_of(
    st.none(),
    st.integers(0, 3).map(float),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e300]),
)


@st.composite
def histories(draw, maker):
    """Draw a history of what the baseline proposes or, as a repair would, of somewhere else."""
    sampler, history = maker(draw(st.integers(0, 2))), History(MINIMISED)
    for number in range(draw(st.integers(0, LENGTH))):
        proposal = sampler.propose(SPACE, history)
        trials = []
        for slot, position in enumerate(proposal.positions):
            trial = number * BATCH + slot
            if draw(st.booleans()):
                elsewhere = np.random.default_rng(trial).random(SPACE.dimension)
                position = np.where(elsewhere < 0.3, elsewhere, position)
            loss, fidelity = draw(LOSSES), draw(st.sampled_from([1.0, 1.0, 0.5, 0.25]))
            params, particle = SPACE.decode(position), proposal.particles[slot]
            trials.append(finished(number, trial, particle, position, loss, fidelity, params))
        history = History(MINIMISED, (*history.generations, tuple(trials)))
    return history


def check(data, maker):
    runs = [data.draw(histories(maker)) for _ in range(2)]
    used = maker(1)
    visits = data.draw(st.lists(st.tuples(st.integers(0, 1), st.integers(0, LENGTH)), min_size=1))
    for run, length in visits:
        history = runs[run].truncated(length)
        one, two = used.propose(SPACE, history), maker(1).propose(SPACE, history)
        np.testing.assert_array_equal(one.positions, two.positions)
        assert np.all((one.positions >= 0) & (one.positions <= 1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cached_distribution_equals_a_replayed_one(data):
    check(data, lambda seed: CovarianceAdaptation(seed, PARTICLES, BATCH, LENGTH))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_cached_velocities_equal_replayed_ones(data):
    check(data, lambda seed: PySwarms(seed, PARTICLES, BATCH, LENGTH))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_sampler_of_optuna_keeps_nothing_between_proposals(data):
    for baseline in (TreeParzen, Genetic):
        check(data, lambda seed, made=baseline: made(seed, PARTICLES, BATCH, LENGTH))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 7))
def test_every_batch_size_is_searched(seed, batch):
    for baseline in (CovarianceAdaptation, Genetic, PySwarms, TreeParzen):
        history = drive(baseline(seed, 7, batch, 4), SPACE, roughness, 4)
        assert [trial.number for trial in history.trials] == list(range(4 * batch))
