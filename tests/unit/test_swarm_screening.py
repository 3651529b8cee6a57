import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from pso_attn.space import Knob
from pso_attn.space.repair import Repaired
from pso_attn.swarm import screening
from pso_attn.swarm.ledger import keys
from pso_attn.swarm.screening import (
    Fantasies,
    Forecast,
    _climbed,
    chosen_moves,
    log_improvement,
)
from pso_attn.swarm.standing import Standing
from pso_attn.swarm.surrogate import Hyperparameters, Pairs, given
from pso_attn.testing.spaces import labels, space_of


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
    surrogate = given(Pairs.of(points, np.array([False])), np.array([0.0, 1.0]), shape)
    candidates = np.array([[0.12], [0.5], [0.9]])
    promise = Forecast.of(surrogate, candidates).promise(0.0)
    assert promise[2] > promise[0] > promise[1]


def test_what_was_chosen_makes_its_surroundings_less_promising():
    points = np.array([[0.1], [0.5]])
    shape = Hyperparameters(np.array([0.2]), 1.0, 1e-6, 0.0)
    surrogate = given(Pairs.of(points, np.array([False])), np.array([0.0, 1.0]), shape)
    fantasies, chosen = Fantasies.none(surrogate), np.array([[0.9]])
    places = np.array([[0.89], [0.9], [0.3]])
    before = fantasies.forecast(places).promise(0.0)
    believed = fantasies.believing(chosen, Forecast.of(surrogate, chosen))
    fall = before - believed.forecast(places).promise(0.0)
    assert fall[0] > 1.0
    assert fall[2] < 0.05


def chosen(
    drawn, *, breaks=None, repairs=None, known=(), again=(), order=(0, 1), space=None, noise=1e-6
):
    """Return the moves of two slots on a line, evaluated at .1 and .5.

    breaks: tells of a place that it cannot be trained. repairs: returns what one is repaired to.
    """
    points, targets = np.array([[0.1], [0.5]]), np.array([0.0, 1.0])
    shape = Hyperparameters(np.array([0.2]), 1.0, noise, 0.0)
    surrogate = given(Pairs.of(points, np.array([False])), targets, shape)
    standing = Standing(surrogate, targets, targets, 0.0, np.zeros(2), np.zeros(2))
    drawn = np.array(drawn)[:, :, None]

    def trained(slot, position):
        place = repairs(position[0]) if repairs else position[0]
        violations = {"x": 1.0} if breaks and breaks(place) else {}
        return Repaired(np.array([place]), {"x": place}, violations)

    rngs = [np.random.default_rng(slot) for slot in range(len(drawn))]
    names, twice = ({keys(np.array([[x]]))[0] for x in places} for places in (known, again))
    repair = trained if breaks or repairs else None
    line = space or space_of(LINE)
    moves = chosen_moves(line, standing, drawn, names, twice, np.array(order), rngs, repair)
    return moves[:, 0]


LINE = [Knob("x", "float", "A number.", low=0.0, high=1.0)]
DRAWN = [[0.9, 0.3], [0.9001, 0.85]]
FAR = [[0.3, 0.7], [0.5, 0.5]]


@pytest.fixture
def unimproved(monkeypatch):
    """Let moves stay where they were drawn."""
    monkeypatch.setattr(screening, "ROUNDS", 0)


@pytest.mark.usefixtures("unimproved")
def test_the_second_particle_does_not_go_where_the_first_went():
    assert chosen(DRAWN, order=(1, 0))[1] == 0.9001  # promises more than .85
    np.testing.assert_array_equal(chosen(DRAWN), [0.9, 0.85])


@pytest.mark.usefixtures("unimproved")
def test_two_particles_do_not_train_the_same_settings():
    drawn = [[0.9, 0.45], [0.9, 0.5]]  # so noisy that .9 stays the most uncertain
    np.testing.assert_array_equal(chosen(drawn, noise=1.0), [0.9, 0.5])


@pytest.mark.usefixtures("unimproved")
def test_what_cannot_be_trained_or_is_known_comes_last():
    assert chosen(DRAWN, breaks=lambda x: x == 0.9)[0] == 0.3
    assert chosen(DRAWN, known=[0.9])[0] == 0.3
    assert chosen(DRAWN, breaks=lambda x: x == 0.9, known=[0.3])[0] == 0.3
    assert chosen(DRAWN, known=[0.9, 0.3])[0] == 0.9


@pytest.mark.usefixtures("unimproved")
def test_what_is_repaired_to_what_is_known_hides_no_new_settings():
    seven = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.2]
    drawn = [seven, [0.7] * 7]

    def to_one(x):
        return 0.9 if x >= 0.9 else x

    assert chosen(drawn, repairs=to_one)[0] == 0.9
    assert chosen(drawn, repairs=to_one, known=[0.9])[0] == 0.2
    assert chosen(drawn, repairs=lambda x: 0.9, known=[0.9])[0] == 0.9


def test_a_chosen_move_is_improved_as_far_as_its_draws_are_apart():
    assert chosen([[0.3, 0.3], [0.5, 0.5]])[0] == 0.3  # a swarm that stands still
    near = chosen([[0.3, 0.301], [0.5, 0.5]])[0]
    assert 0.0 < abs(near - 0.3) < 0.01
    assert 0.8 < chosen(FAR)[0] <= 1.0  # where the surrogate knows least


def test_an_improved_move_keeps_the_constraints_as_it_is_repaired():
    assert 0.7 < chosen(FAR, breaks=lambda x: x > 0.8)[0] <= 0.8
    assert chosen(FAR, breaks=lambda x: x not in (0.3, 0.7))[0] == 0.7
    assert chosen(FAR, repairs=lambda x: min(x, 0.8))[0] == 0.8
    assert 0.7 < chosen(FAR, repairs=lambda x: min(x, 0.8), known=[0.8])[0] < 0.8


def test_what_is_looked_at_again_is_not_moved():
    drawn = [[0.1001, 0.85], [0.5, 0.55]]
    assert chosen(drawn, known=[0.85], again=[0.85])[0] == 0.85
    assert chosen(drawn, known=[0.85])[0] != 0.85


def test_an_improved_move_keeps_its_labels_and_is_nothing_known():
    free = space_of([Knob("count", "int", "A count.", low=0, high=4)])
    drawn = [[0.1, 0.7], [0.5, 0.7]]
    moves = chosen(drawn, space=free, known=[0.1, 0.3, 0.5, 0.7])
    assert moves[0] == 0.9  # the only one that is left
    labelled = labels(3)
    rng = np.random.default_rng(0)
    place = labelled.snap(np.full(3, 0.5))
    found = _climbed(labelled, place, 0.0, np.ones(3), lambda x: np.ones(len(x)), rng)
    np.testing.assert_array_equal(found, place)
