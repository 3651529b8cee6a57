"""What every sampler promises, as a suite of tests to inherit.

class TestMine(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return Mine(seed, particles, batch, generations)
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import ClassVar

import numpy as np
import pytest

from pso_attn.errors import ConfigurationError
from pso_attn.space import Space
from pso_attn.testing.driving import drive
from pso_attn.testing.spaces import cube, four_points, labels, mixed
from pso_attn.types import Array, History, Params, Proposal, Sampler

PARTICLES = 6
GENERATIONS = 6

_searched: dict[tuple[type, Space, int, int], History] = {}  # what several tests only read


class SamplerContract:
    """Inherit it, write `make`, and pytest runs the suite on your sampler.

    generations: of most searches; a sampler that is slow may do with fewer, 4 at least.
    """

    generations: ClassVar[int] = GENERATIONS

    def make(self, seed: int, particles: int, batch: int, generations: int) -> Sampler:
        """Return a fresh sampler."""
        raise NotImplementedError

    def searched(self, space: Space, batch: int = 4, seed: int = 1) -> History:
        """Return a search by a sampler that nothing else was asked of; it is made once."""
        key = (type(self), space, batch, seed)
        if key not in _searched:
            sampler = self.make(seed, PARTICLES, batch, self.generations)
            _searched[key] = drive(sampler, space, roughness, self.generations)
        return _searched[key]

    @pytest.fixture(params=["cube", "one knob", "labels", "mixed", "constrained"])
    def space(self, request: pytest.FixtureRequest) -> Space:
        """Return each of the spaces that a sampler has to cope with."""
        return space_called(request.param)

    @pytest.mark.parametrize("batch", [1, 4, PARTICLES])
    def test_positions_lie_in_the_cube_and_particles_take_turns(
        self, space: Space, batch: int
    ) -> None:
        """Generation g proposes (B, D) in [0, 1] for the particles (g * batch + i) mod P."""
        sampler, history = self._made(batch), self.searched(space, batch)
        for generation in range(self.generations):
            proposal = sampler.propose(space, history.truncated(generation))
            assert proposal.positions.shape == (batch, space.dimension)
            assert proposal.positions.dtype == np.float64
            assert np.all((proposal.positions >= 0) & (proposal.positions <= 1))
            assert proposal.particles == tuple(
                (generation * batch + slot) % PARTICLES for slot in range(batch)
            )

    def test_proposing_twice_gives_the_same(self, space: Space) -> None:
        """`propose` is a function of the seed, the space and the history."""
        sampler, history = self._made(), self.searched(space)
        assert_same(sampler.propose(space, history), sampler.propose(space, history))

    def test_earlier_calls_leave_no_trace(self, space: Space) -> None:
        """A sampler that saw this run and another proposes what a fresh one does."""
        used, history = self._made(), self.searched(space)
        used.propose(space, self.searched(space, seed=2))
        for length in (self.generations, 2, 4, 0, self.generations):
            past = history.truncated(length)
            assert_same(used.propose(space, past), self._made().propose(space, past))

    @pytest.mark.parametrize("kept", [0, 1, 3])
    def test_a_resumed_search_equals_the_uninterrupted_one(self, space: Space, kept: int) -> None:
        """Truncate the history, continue with a fresh sampler: the same trials, bit for bit."""
        whole = self.searched(space)
        past = whole.truncated(kept)
        resumed = drive(self._made(), space, roughness, self.generations, history=past)
        np.testing.assert_array_equal(stored_positions(whole), stored_positions(resumed))

    def test_neither_history_nor_global_randomness_is_touched(self, space: Space) -> None:
        """The proposal neither writes to the records nor draws from numpy's global generator."""
        sampler, history = self._made(), self.searched(space).truncated(3)
        positions = stored_positions(history)
        before = np.random.get_state(legacy=False)  # noqa: NPY002  # read, never drawn from
        sampler.propose(space, history)
        after = np.random.get_state(legacy=False)  # noqa: NPY002  # read, never drawn from
        assert repr(before) == repr(after)
        np.testing.assert_array_equal(positions, stored_positions(history))

    def test_seeds_differ(self, space: Space) -> None:
        """Two seeds give two searches."""
        one, two = (self.searched(space, seed=seed) for seed in (1, 2))
        assert not np.array_equal(stored_positions(one), stored_positions(two))

    def test_starts_come_first(self) -> None:
        """Trials 0, 1, … are the defaults and the start settings, whatever the batch."""
        space = mixed(starts=[{"kind": "a", "slope": 1.5}, {"heads": 8, "gate": True}])
        for batch in (1, 2, PARTICLES):
            history = drive(self._made(batch), space, roughness, -(-3 // batch))
            starts = [trial.candidate.params for trial in history.trials[:3]]
            assert starts == [space.decode(position) for position in space.starts]

    @pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), None, 1.0, 1e300])
    def test_losses_that_say_nothing_do_not_stop_the_search(
        self, space: Space, loss: float | None
    ) -> None:
        """All NaN, infinite, failed, equal or huge: it goes on, and goes on moving."""

        def useless(params: Params) -> float:
            if loss is None:
                raise ZeroDivisionError
            return loss

        positions = stored_positions(drive(self._made(), space, useless, self.generations))
        assert np.all(np.isfinite(positions))
        assert len(np.unique(positions[PARTICLES:], axis=0)) > 1

    def test_some_failures_are_survived(self, space: Space) -> None:
        """Failures and NaN among good losses keep their slots."""

        def flaky(params: Params) -> float:
            loss = roughness(params)
            if loss * 1e4 % 3 < 1:
                raise ZeroDivisionError
            return float("nan") if loss * 1e4 % 3 < 2 else loss

        length = 2 * self.generations
        history = drive(self.make(1, PARTICLES, 4, length), space, flaky, length)
        assert [trial.number for trial in history.trials] == list(range(4 * length))
        assert np.all(np.isfinite(stored_positions(history)))

    def test_losses_as_large_as_floats_go_beside_small_ones_are_survived(
        self, space: Space
    ) -> None:
        """1e300 and its negative, the largest float and the smallest: none makes others vanish."""
        sizes = [1e300, -1e300, 1.8e308, 5e-324, 1.0, float("inf")]

        def wild(params: Params) -> float:
            loss = roughness(params)
            return sizes[int(loss * 1e4) % len(sizes)] * (1.0 if loss > 1 else 0.5)

        history = drive(self._made(), space, wild, self.generations)
        assert np.all(np.isfinite(stored_positions(history)))

    def test_a_space_of_four_points_is_searched_on_when_all_are_known(self) -> None:
        """What was trained is proposed again where nothing else is left: no endless look-out."""
        space = four_points()
        history = drive(self._made(PARTICLES), space, roughness, self.generations)
        assert len(history.trials) == PARTICLES * self.generations
        assert len({tuple(t.candidate.params.values()) for t in history.trials}) > 1

    @pytest.mark.parametrize("particles", [1, 2])
    def test_the_smallest_swarms_work_or_are_refused_in_one_sentence(self, particles: int) -> None:
        """Two particles are enough; one is, where nobody has to learn from another."""
        space = mixed()
        try:
            sampler = self.make(1, particles, particles, self.generations)
        except ConfigurationError as error:
            assert particles == 1
            assert "give at least 2 particles" in str(error)  # noqa: PT017  it may also work
            return
        positions = stored_positions(drive(sampler, space, roughness, self.generations))
        assert np.all((positions >= 0) & (positions <= 1))

    def test_three_hundred_dimensions_work(self) -> None:
        """A space as wide as a small weight matrix is searched like any other."""
        positions = stored_positions(drive(self._made(), cube(300), roughness, 4))
        assert positions.shape == (16, 300)
        assert np.all((positions >= 0) & (positions <= 1))

    def test_numbers_do_not_depend_on_which_label_stands_in_which_bin(self) -> None:
        """Relabel the history's categories: the next numeric coordinates are the same."""
        space = mixed()
        sampler, history = self._made(), drive(self._made(), space, roughness, 4)
        relabelled = relabel(space, history)
        assert not np.array_equal(stored_positions(history), stored_positions(relabelled))
        numbers = ~space.categorical
        np.testing.assert_array_equal(
            sampler.propose(space, history).positions[:, numbers],
            sampler.propose(space, relabelled).positions[:, numbers],
        )

    def _made(self, batch: int = 4) -> Sampler:
        return self.make(1, PARTICLES, batch, self.generations)


@cache
def space_called(name: str) -> Space:
    """Return the space of that name, the same one whenever it is asked for."""
    made: dict[str, Callable[[], Space]] = {
        "cube": lambda: cube(4),
        "one knob": lambda: cube(1),
        "labels": labels,
        "mixed": lambda: mixed(starts=[{"kind": "a", "slope": 1.5}]),
        "constrained": lambda: mixed(constraints=["heads * window <= 64"]),
    }
    return made[name]()


def roughness(params: Params) -> float:
    """Return a loss that any params have: numbers as they are, labels by their first letter."""
    total = 0.0
    for i, (name, value) in enumerate(sorted(params.items())):
        number = float(ord(value[0])) if isinstance(value, str) else float(value)
        total += (np.sin(number * (i + 1)) + number / 7 - len(name) / 5) ** 2
    return float(total)


def stored_positions(history: History) -> Array:
    """Return the positions of all trials, (trials, D)."""
    return np.stack([trial.candidate.position for trial in history.trials])


def relabel(space: Space, history: History) -> History:
    """Return the history with the bins of each categorical coordinate in reverse order.

    Losses stay: it is what a space would have given that declares its choices backwards.
    """

    def turned(position: Array) -> Array:
        return np.where(space.categorical, 1.0 - space.snap(position), position)

    return History(
        history.objectives,
        tuple(
            tuple(
                replace(
                    trial,
                    candidate=replace(trial.candidate, position=turned(trial.candidate.position)),
                )
                for trial in generation
            )
            for generation in history.generations
        ),
    )


def assert_same(one: Proposal, two: Proposal) -> None:
    """Assert that two proposals are equal, bit for bit."""
    np.testing.assert_array_equal(one.positions, two.positions)
    assert one.particles == two.particles
