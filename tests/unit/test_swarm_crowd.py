"""A batch of hundreds moves in one sweep, and is still a swarm: pure, inside, and better so."""

from typing import Any

import numpy as np
import pytest

from pso_attn.baselines import RandomSearch
from pso_attn.swarm import ScreenedSwarm, screened
from pso_attn.swarm.crowd import (
    CROWD,
    FEWER,
    MANY,
    SCREENED,
    _paths,
    crowd_choice,
    draws_each,
)
from pso_attn.swarm.ledger import Ledger
from pso_attn.swarm.standing import POINTS, Standing, standing_of
from pso_attn.testing import best_loss, drive
from pso_attn.testing.samplers import roughness, stored_positions
from pso_attn.testing.spaces import cube, four_points, mixed
from pso_attn.types import Params

SLOTS = CROWD + 8


def swarm(**options: object) -> ScreenedSwarm:
    return ScreenedSwarm(3, SLOTS, SLOTS, 6, options)


def bowl(params: Params) -> float:
    return sum((float(value) - 0.7) ** 2 for value in params.values())


@pytest.mark.parametrize("moves", ["velocity", "covariance", "both"])
def test_a_crowd_resumes_to_the_same_positions(moves: str) -> None:
    space = mixed()
    whole = drive(swarm(moves=moves, draws=9), space, roughness, 3)
    resumed = drive(swarm(moves=moves, draws=9), space, roughness, 3, history=whole.truncated(1))
    np.testing.assert_array_equal(stored_positions(whole), stored_positions(resumed))
    assert np.all((stored_positions(whole) >= 0) & (stored_positions(whole) <= 1))


def test_a_crowd_comes_nearer_than_random_search() -> None:
    space = cube(6)
    ours = drive(swarm(), space, bowl, 4)
    other = drive(RandomSearch(3, SLOTS, SLOTS, 4), space, bowl, 4)
    assert best_loss(ours) < 0.2 * best_loss(other)


def test_a_crowd_tries_nothing_twice_while_there_is_anything_new() -> None:
    positions = stored_positions(drive(swarm(draws=9), cube(4), bowl, 3))
    assert len(np.unique(positions, axis=0)) == len(positions)


def test_a_crowd_of_failures_and_of_four_settings_goes_on() -> None:
    def failing(params: Params) -> float:
        raise ArithmeticError

    for function in (failing, roughness):
        for space in (four_points(), cube(3)):
            assert np.isfinite(stored_positions(drive(swarm(draws=9), space, function, 3))).all()


def test_a_slot_leaves_what_is_taken_to_whoever_ranks_before_it() -> None:
    promise = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    names = [b"a", b"b", b"c", b"b", b"b", b"b"]
    chosen = crowd_choice(promise, names, {b"x"}, np.array([1, 0, 2]))
    assert chosen.tolist() == [0, 1, 0]  # b is taken by slot 1; slot 2 has nothing else


@pytest.mark.parametrize(("slots", "points"), [(MANY, POINTS), (MANY + 1, FEWER)])
def test_very_many_particles_have_a_surrogate_of_fewer_trials(
    slots: int, points: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def watched(*asked: Any) -> Standing:
        found.append(standing_of(*asked))
        return found[-1]

    monkeypatch.setattr(screened, "standing_of", watched)
    drive(ScreenedSwarm(3, slots, slots, 2), cube(2), bowl, 2)
    assert [len(standing.surrogate.points) for standing in found] == [points]


def test_draws_grow_fewer_with_the_crowd() -> None:
    assert [draws_each(80, slots) for slots in (65, 512, 4096, 65536)] == [80, 32, 4, 4]
    assert draws_each(3, 65) == 3
    assert 512 * draws_each(80, 512) <= SCREENED


def test_a_paths_ends_are_the_last_two_moves_and_looking_again_is_none() -> None:
    rng, moves = np.random.default_rng(0), 40
    ledger = Ledger(
        rng.integers(0, 6, size=moves),
        np.arange(moves)[:, None] / moves,
        np.zeros((moves, 1)),
        np.zeros(moves),
        np.ones(moves),
        rng.random(moves) < 0.3,
        np.zeros(moves),
        frozenset(),
    )
    last, before = _paths(ledger, 8)
    for particle in range(8):
        path = ledger.path(particle)[:, 0] * moves
        assert [last[particle], before[particle]] == [*path[::-1][:2], -1, -1][:2]
