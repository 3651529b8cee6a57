"""The swarm's cache of the fold equals the full fold, whatever histories it is shown."""

from dataclasses import fields

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pso_attn.swarm import BareBonesSwarm, ClassicSwarm, ClpsoSwarm, Spso2011Swarm
from pso_attn.swarm.bounds import reflect
from pso_attn.swarm.moves import Weights, copied_labels
from pso_attn.swarm.pyswarms_bridge import Pyramid, Random, Ring, Star, VonNeumann
from pso_attn.testing import finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.spaces import mixed
from pso_attn.types import History

SPACE = mixed()
PARTICLES, BATCH = 5, 3
LOSSES = st.one_of(
    st.none(),
    st.integers(0, 3).map(float),
    st.sampled_from([float("nan"), float("inf"), -float("inf")]),
)


@st.composite
def histories(draw):
    """Draw a history of up to eight generations: ties, failures and pruned trials among them."""
    seed = draw(st.integers(0, 5))
    generations = []
    for number in range(draw(st.integers(0, 8))):
        trials = []
        for slot in range(BATCH):
            trial = number * BATCH + slot
            position = np.random.default_rng([seed, trial]).random(SPACE.dimension)
            fidelity = draw(st.sampled_from([1.0, 1.0, 0.5, 0.25]))
            trials.append(
                finished(number, trial, trial % PARTICLES, position, draw(LOSSES), fidelity)
            )
        generations.append(tuple(trials))
    return History(MINIMISED, tuple(generations))


def make(stagnation, topology):
    options = {"stagnation": stagnation, "topology": topology}
    return ClassicSwarm(1, PARTICLES, BATCH, 8, options)


def make_spso(stagnation, topology):
    return Spso2011Swarm(1, PARTICLES, BATCH, 8, {"stagnation": stagnation, "topology": topology})


def make_bare_bones(stagnation, topology):
    return BareBonesSwarm(1, PARTICLES, BATCH, 8, {"stagnation": stagnation, "topology": topology})


def make_clpso(stagnation, topology):
    return ClpsoSwarm(1, PARTICLES, BATCH, 8, {"stagnation": stagnation, "refreshing_gap": 2})


@settings(max_examples=100, deadline=None)
@given(
    runs=st.lists(histories(), min_size=1, max_size=3),
    visits=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=1, max_size=8),
    stagnation=st.integers(0, 2),
    topology=st.sampled_from(["ring", "star", "von_neumann", "random", "pyramid"]),
    maker=st.sampled_from([make, make_spso, make_bare_bones, make_clpso]),
)
def test_a_cached_fold_equals_a_fresh_one(runs, visits, stagnation, topology, maker):
    cached = maker(stagnation, topology)
    for run, length in visits:
        history = runs[run % len(runs)].truncated(length)
        fresh = maker(stagnation, topology)
        one, two = cached.state(SPACE, history), fresh.state(SPACE, history)
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))
        np.testing.assert_array_equal(
            cached.propose(SPACE, history).positions, fresh.propose(SPACE, history).positions
        )


@settings(max_examples=40, deadline=None)
@given(head=histories(), tail=histories())
def test_a_run_that_shares_only_its_end_with_another_is_folded_anew(head, tail):
    length = min(len(head), len(tail))
    if length < 2:
        return
    spliced = History(MINIMISED, (head.generations[: length - 1] + tail.generations[length - 1 :]))
    cached = make(2, "ring")
    cached.state(SPACE, tail)
    one, two = cached.state(SPACE, spliced), make(2, "ring").state(SPACE, spliced)
    np.testing.assert_array_equal(one.best_loss, two.best_loss)
    np.testing.assert_array_equal(one.velocity, two.velocity)


@settings(max_examples=60, deadline=None)
@given(history=histories(), stagnation=st.integers(0, 2))
def test_a_personal_best_is_something_that_was_seen_to_be_finite(history, stagnation):
    state = make(stagnation, "ring").state(SPACE, history)
    seen = {
        (trial.candidate.particle, history.loss(trial), tuple(trial.candidate.position))
        for trial in history.trials
    }
    for i in np.flatnonzero(state.has_best):
        assert (i, state.best_loss[i], tuple(state.best_position[i])) in seen


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_reflection_ends_inside_and_keeps_what_is_inside(values):
    position = np.array(values)
    inside = reflect(position)
    assert np.all((inside >= 0) & (inside <= 1))
    np.testing.assert_array_equal(reflect(inside), inside)


@given(st.integers(0, 2**20), st.permutations(range(4)))
def test_moving_labels_commutes_with_renaming_them(seed, renamed):
    names = (np.array(renamed) + 0.5) / 4
    x, personal, social = np.random.default_rng(seed).integers(0, 4, size=(3, 6))
    levels, weights = np.full(6, 4), Weights(0.7, 1.5, 1.5)
    moved, moved_renamed = (
        copied_labels(*bests, levels, weights, 0.0, np.random.default_rng(seed + 1).random((3, 6)))
        for bests in (
            [(bins + 0.5) / 4 for bins in (x, personal, social)],
            [names[bins] for bins in (x, personal, social)],
        )
    )
    np.testing.assert_array_equal(names[(moved * 4).astype(int)], moved_renamed)


COSTS = st.lists(st.integers(0, 10**6), min_size=2, max_size=30, unique=True)


@given(COSTS, st.integers(0, 40), st.integers(1, 4))
def test_turning_a_ring_turns_its_leaders(costs, turn, neighbours):
    costs, topology = np.array(costs, dtype=float), Ring(neighbours)
    turned = topology.leaders(np.roll(costs, turn))
    np.testing.assert_array_equal(
        turned, np.roll(topology.leaders(costs) + turn, turn) % len(costs)
    )


@given(COSTS, st.randoms(use_true_random=False))
def test_renaming_the_particles_of_a_star_renames_its_leader(costs, shuffler):
    renamed = list(range(len(costs)))
    shuffler.shuffle(renamed)
    costs = np.array(costs, dtype=float)
    leader, other = Star().leaders(costs)[0], Star().leaders(costs[renamed])[0]
    assert renamed[other] == leader


@given(st.permutations(range(20)), st.integers(0, 3), st.integers(0, 4))
def test_shifting_a_grid_shifts_its_leaders(costs, down, along):
    places = np.arange(20).reshape(4, 5)
    shifted = np.roll(places, (down, along), axis=(0, 1)).ravel()  # who stands where it stood
    costs = np.array(costs, dtype=float)
    leaders = VonNeumann().leaders(costs)
    np.testing.assert_array_equal(shifted[VonNeumann().leaders(costs[shifted])], leaders[shifted])


@given(COSTS, st.integers(0, 5), st.sampled_from([Ring, Star, VonNeumann, Pyramid, Random]))
def test_nobody_follows_someone_worse_and_the_best_follows_itself(costs, drawn, kind):
    costs = np.array(costs, dtype=float)
    leaders = kind().leaders(costs, drawn)
    assert np.all(costs[leaders] <= costs)
    assert leaders[np.argmin(costs)] == np.argmin(costs)
