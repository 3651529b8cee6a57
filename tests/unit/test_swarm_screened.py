import numpy as np
import pytest

from pso_attn.baselines import RandomSearch
from pso_attn.errors import ConfigurationError
from pso_attn.space import Knob
from pso_attn.swarm import ClassicSwarm, ScreenedSwarm
from pso_attn.swarm.draws import SHORT, moves, start
from pso_attn.swarm.ledger import keys, modelled
from pso_attn.swarm.screened import _followed
from pso_attn.swarm.standing import standing_of
from pso_attn.testing import best_loss, drive, finished
from pso_attn.testing.driving import MINIMISED
from pso_attn.testing.samplers import roughness, stored_positions
from pso_attn.testing.spaces import cube, labels, mixed, space_of
from pso_attn.types import History


def integers(most, *constraints):
    return space_of(
        [Knob(name, "int", "A number.", low=1, high=most, default=5) for name in "ab"],
        constraints=constraints,
    )


def rosenbrock(params):
    x = 4.0 * np.array(list(params.values())) - 2.5  # the defaults are no head start
    return float(np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2))


def history_of(*generations):
    """Make a history from generations of (particle, position, loss[, fidelity])."""
    return History(
        MINIMISED,
        tuple(
            tuple(
                finished(number, number * len(rows) + slot, row[0], np.array(row[1]), *row[2:])
                for slot, row in enumerate(rows)
            )
            for number, rows in enumerate(generations)
        ),
    )


@pytest.mark.parametrize("batch", [2, 10])
def test_the_default_swarm_beats_the_textbooks_and_chance_at_equal_evaluations(batch):
    gains = []
    for seed in range(4):
        ours, textbook, chance = (
            best_loss(drive(made(seed, 10, batch, 80 // batch), cube(5), rosenbrock, 80 // batch))
            for made in (ScreenedSwarm, ClassicSwarm, RandomSearch)
        )
        gains.append(np.log10(min(textbook, chance) / ours))
    assert min(gains) > 0, gains
    assert np.median(gains) > 0.5, gains


def test_the_start_is_even_around_the_defaults_and_continues_across_batches():
    space = mixed()
    whole = start(space, 3, 0, 16)
    np.testing.assert_array_equal(whole[5:9], start(space, 3, 5, 4))
    slope = space.names.index("slope")
    wide = start(cube(1), 0, 0, 256)
    assert abs(wide.mean() - 0.5) < 0.01
    assert 0.17 < wide.std() < 0.21
    assert whole[:, slope].std() > 0.1
    bins = np.floor(3 * whole[:, space.names.index("kind")]).astype(int)
    assert np.ptp(np.bincount(bins)) <= 1


def test_a_default_at_an_end_of_its_range_does_not_hide_the_other_end():
    space = space_of([Knob("rate", "float", "A rate.", low=0.0, high=1.0, default=0.0)])
    rates = start(space, 1, 0, 512)
    assert rates.min() < 0.01
    assert np.mean(rates > 0.5) > 0.05


@pytest.mark.parametrize(
    ("particles", "batch", "started"), [(10, 10, 10), (8, 3, 9), (8, 1, 8), (2, 1, 2)]
)
def test_the_start_lasts_until_each_particle_has_a_place(particles, batch, started):
    space, generations = cube(6), started // batch + 1
    history = drive(ScreenedSwarm(0, particles, batch, 40), space, rosenbrock, generations)
    positions, first = stored_positions(history), len(space.starts)
    even = start(space, 0, 0, started + batch)
    np.testing.assert_array_equal(positions[first:started], even[first:started])
    assert not np.any(np.all(positions[started:] == even[started:], axis=1))


class Failing:
    """A bowl of numbers and labels whose first evaluations fail, wherever they are."""

    def __init__(self, failures):
        self.left = failures

    def __call__(self, params):
        self.left -= 1
        if self.left >= 0:
            return np.inf
        return (params["x"] - 0.62) ** 2 + (params["y"] - 13) ** 2 / 100 + "bca".index(params["c"])


def bowl_space():
    x = Knob("x", "float", "A number.", low=0.0, high=1.0, default=0.5)
    y = Knob("y", "int", "A number.", low=0, high=20, default=10)
    c = Knob("c", "categorical", "A label.", choices=("a", "b", "c"), default="a")
    return space_of([x, y, c])


@pytest.mark.parametrize(("batch", "failures"), [(1, 8), (1, 20), (4, 16)])
def test_failures_before_anything_worked_cost_the_search_nothing_else(batch, failures):
    for seed in range(4):
        swarm, trials = ScreenedSwarm(seed, 8, batch, 40), failures + 32
        history = drive(swarm, bowl_space(), Failing(failures), trials // batch)
        assert best_loss(history) < 1e-2, seed


@pytest.mark.parametrize(("batch", "failures"), [(1, 11), (4, 16)])
def test_the_start_begins_again_once_something_works(batch, failures):
    space = bowl_space()
    history = drive(
        ScreenedSwarm(2, 8, batch, 40), space, Failing(failures), failures // batch + 9
    )
    first, last = failures + batch, failures + 8  # what worked first was proposed unknowing
    even = start(space, 2, first, 8)
    positions = stored_positions(history)
    np.testing.assert_array_equal(positions[first:last], even[: last - first])
    assert not np.any(np.all(positions[last : first + 8] == even[last - first :], axis=1))


def rising(params):
    return sum(float(ord(v) if isinstance(v, str) else v) ** 2 for v in params.values())


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        (labels(3), 24),
        (integers(8), 64),
        (integers(8, "a <= 8"), 64),
        (integers(8, "a * b <= 16"), 34),
        (integers(8, "a + b == 9"), 8),
    ],
)
@pytest.mark.parametrize("batch", [1, 8])
def test_nothing_is_evaluated_twice_while_anything_new_is_left(space, settings, batch):
    def evaluated(trials):
        history = drive(ScreenedSwarm(0, 8, batch, 9), space, rising, trials // batch)
        return len(set(keys(modelled(space, stored_positions(history)))))

    assert evaluated(8) >= 6  # so many random ones, after 32 tries each, of 8 settings
    assert evaluated(min(40, settings // 8 * 8 + 8)) == min(40, settings)


def test_what_does_not_act_makes_no_point_a_new_one():
    space = mixed()
    kind, slope = space.names.index("kind"), space.names.index("slope")
    positions = np.tile(space.encode({"kind": "b"}), (2, 1))
    positions[1, slope] = 0.9
    one, two = keys(modelled(space, positions))
    assert one == two
    positions[:, kind] = space.encode({"kind": "a"})[kind]
    one, two = keys(modelled(space, positions))
    assert one != two


def test_a_pruned_loss_never_becomes_what_the_swarm_is_drawn_to():
    def proposed(loss):
        rows = [(i, (0.8, 0.1 * i), 1.0 + 0.1 * i) for i in range(5)]
        rows += [(5, (0.1, 0.9), loss, 0.25)]  # left early
        return ScreenedSwarm(0, 6, 6, 10).propose(cube(2), history_of(rows, rows)).positions

    np.testing.assert_array_equal(proposed(-50.0), proposed(1.4))  # as the worst that stayed
    assert not np.array_equal(proposed(-50.0), proposed(9.0))


def test_a_failing_region_is_learned():
    def half(params):
        if params["x0"] > 0.6:
            raise ArithmeticError
        return (params["x0"] - 0.55) ** 2 + (params["x1"] - 0.3) ** 2

    history = drive(ScreenedSwarm(2, 8, 8, 12), cube(2), half, 12)
    late = stored_positions(history)[48:]
    assert np.mean(late[:, 0] > 0.6) < 0.2
    assert best_loss(history) < 1e-3


def noisy_bowl(noise):
    rng = np.random.default_rng(4)
    return lambda params: (params["x0"] - 0.4) ** 2 + noise * float(rng.normal())


def test_where_losses_are_noisy_some_of_the_bests_are_looked_at_again():
    def looked_again(noise):
        swarm, space = ScreenedSwarm(0, 6, 6, 12), cube(1)
        return swarm.ledger(space, drive(swarm, space, noisy_bowl(noise), 12)).again.sum()

    assert 1 <= looked_again(0.1) <= 40
    assert looked_again(0.0) == 0


def test_looking_again_moves_no_particle():
    first = [(i, (0.1 * i, 0.2), 1.0 + i) for i in range(4)]
    moved = [(i, (0.1 * i, 0.3), 5.0 + i) for i in range(4)]
    ledger = ScreenedSwarm(0, 4, 4, 20).ledger(cube(2), history_of(first, moved, first))
    np.testing.assert_array_equal(ledger.again, [False] * 8 + [True] * 4)
    np.testing.assert_array_equal(ledger.path(2), [(0.2, 0.2), (0.2, 0.3)])


def test_a_slow_swarm_can_still_leave_the_bin_of_a_whole_number():
    space = space_of([Knob("count", "int", "A count.", low=0, high=9)])
    x = space.encode({"count": 4})
    drawn = moves(space, x, np.zeros((400, 1)), x, x, 0.0, np.random.default_rng(0))
    counts = np.bincount([space.decode(position)["count"] for position in drawn])
    assert counts[4] > 300
    assert counts[3] > 10
    assert counts[5] > 10


def test_half_of_the_moves_beyond_a_face_stop_there_and_half_are_mirrored():
    space, x = cube(1), np.array([0.98])
    ahead = np.full((4000, 1), 0.5)  # a velocity that leads out of the cube
    drawn = moves(space, x, ahead, x, x, 0.0, np.random.default_rng(0))
    assert np.mean(drawn == 1.0) == pytest.approx(0.5, abs=0.05)
    between = np.mean((drawn < 1.0) & (drawn > 0.98))  # those that end nearer to x, its leader
    assert between < SHORT


def test_a_quarter_of_the_moves_end_near_the_leader_in_all_orders_of_magnitude():
    space, x, leader = cube(1), np.array([0.2]), np.array([0.5])
    far = moves(space, x, np.zeros((8000, 1)), x, leader, 0.0, np.random.default_rng(0))
    off = np.sort(np.abs(far - leader)[:, 0])
    near = [np.mean(off < 10.0**-power) for power in (2.0, 2.5, 3.0)]
    assert near[0] > near[1] + 0.04 > near[2] + 0.08


def test_half_of_the_moves_follow_anybody_instead_of_the_neighbourhoods_best():
    first = [(i, (0.1 * i, 0.2), float(i)) for i in range(10)]
    swarm, space = ScreenedSwarm(0, 10, 10, 20), cube(2)
    standing = standing_of(swarm.ledger(space, history_of(first)), space.categorical, 10)
    followed = _followed(standing, 3, 2000, np.random.default_rng(0))
    shares = np.bincount(followed, minlength=10) / 2000
    np.testing.assert_allclose(shares, [0.05] * 3 + [0.55] + [0.05] * 6, atol=0.03)


def test_proposals_meet_the_constraints_where_that_can_be():
    space = mixed(constraints=["heads * window <= 16"])

    def more_is_better(params):
        return -params["heads"] * params["window"] + roughness(params)

    history = drive(ScreenedSwarm(0, 6, 6, 8), space, more_is_better, 8)
    for generation in range(2, 8):
        proposal = ScreenedSwarm(0, 6, 6, 8).propose(space, history.truncated(generation))
        for position in proposal.positions:
            assert not space.violations(space.decode(position))


def test_a_longer_budget_changes_nothing():
    short = drive(ScreenedSwarm(0, 5, 5, 4), cube(8), rosenbrock, 4)
    long = drive(ScreenedSwarm(0, 5, 5, 40), cube(8), rosenbrock, 4)
    np.testing.assert_array_equal(stored_positions(short), stored_positions(long))


def test_beyond_four_hundred_trials_the_cost_is_bounded_and_the_search_goes_on():
    history = drive(RandomSearch(0, 20, 20, 30), cube(3), rosenbrock, 30)
    before = best_loss(history)
    after = drive(ScreenedSwarm(0, 20, 20, 40), cube(3), rosenbrock, 32, history=history)
    assert best_loss(after) < 0.5 * before


def test_labels_are_copied_from_what_is_known_unless_they_jump():
    space, rng = labels(3), np.random.default_rng(0)
    x, personal, social = (space.snap(np.full(3, at)) for at in (0.1, 0.4, 0.9))
    drawn = moves(space, x, np.zeros((2000, 3)), personal, social, 0.0, rng)
    shares = [np.mean(drawn[:, 2] == at[2]) for at in (x, personal, social)]
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5], atol=0.05)
    jumps = moves(space, x, np.zeros((2000, 3)), personal, social, 1.0, rng)
    assert len(np.unique(jumps[:, 2])) == space.levels[2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"drawz": 3}, 'did you mean "draws"'),
        ({"rule": "inertia"}, "pso-classic"),
        ({"draws": 0}, "from 1 to 10000"),
        ({"jump_rate": 2}, "from 0 to 1"),
        ({"topology": "torus"}, "von_neumann"),
        ({"topology": "star", "neighbours": 2}, "ring only"),
    ],
)
def test_options_that_cannot_work_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        ScreenedSwarm(0, 4, 4, 5, options)


@pytest.mark.parametrize(("particles", "batch"), [(1, 1), (4, 5), (4, 0)])
def test_a_swarm_that_cannot_be_is_refused(particles, batch):
    with pytest.raises(ConfigurationError):
        ScreenedSwarm(0, particles, batch, 5)


@pytest.mark.parametrize("topology", ["star", "von_neumann", "pyramid"])
def test_other_topologies_search_as_well(topology):
    history = drive(ScreenedSwarm(0, 8, 8, 8, {"topology": topology}), cube(3), rosenbrock, 8)
    assert best_loss(history) < best_loss(history.truncated(1))
