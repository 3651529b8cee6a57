"""What every sampler promises, as a suite of tests to inherit.

class TestMine(SamplerContract):
    def make(self, seed, particles, batch, generations):
        return Mine(seed, particles, batch, generations)
"""

from dataclasses import replace

import numpy as np
import pytest

from pso_attn.space import Space
from pso_attn.testing.driving import drive
from pso_attn.testing.spaces import cube, labels, mixed
from pso_attn.types import Array, History, Params, Proposal, Sampler

PARTICLES = 6
GENERATIONS = 6


class SamplerContract:
    """Inherit it, write `make`, and pytest runs the suite on your sampler."""

    def make(self, seed: int, particles: int, batch: int, generations: int) -> Sampler:
        """Return a fresh sampler."""
        raise NotImplementedError

    @pytest.fixture(params=["cube", "one knob", "labels", "mixed", "constrained"])
    def space(self, request: pytest.FixtureRequest) -> Space:
        """Return each of the spaces that a sampler has to cope with."""
        return {
            "cube": lambda: cube(4),
            "one knob": lambda: cube(1),
            "labels": lambda: labels(),
            "mixed": lambda: mixed(starts=[{"kind": "a", "slope": 1.5}]),
            "constrained": lambda: mixed(constraints=["heads * window <= 64"]),
        }[request.param]()

    @pytest.mark.parametrize("batch", [1, 4, PARTICLES])
    def test_positions_lie_in_the_cube_and_particles_take_turns(
        self, space: Space, batch: int
    ) -> None:
        """Generation g proposes (B, D) in [0, 1] for the particles (g * batch + i) mod P."""
        sampler = self.make(1, PARTICLES, batch, GENERATIONS)
        history = drive(sampler, space, roughness, GENERATIONS)
        for generation in range(GENERATIONS):
            proposal = sampler.propose(space, history.truncated(generation))
            assert proposal.positions.shape == (batch, space.dimension)
            assert proposal.positions.dtype == np.float64
            assert np.all((proposal.positions >= 0) & (proposal.positions <= 1))
            assert proposal.particles == tuple(
                (generation * batch + slot) % PARTICLES for slot in range(batch)
            )

    def test_proposing_twice_gives_the_same(self, space: Space) -> None:
        """`propose` is a function of the seed, the space and the history."""
        sampler = self.make(1, PARTICLES, 4, GENERATIONS)
        history = drive(sampler, space, roughness, GENERATIONS)
        assert_same(sampler.propose(space, history), sampler.propose(space, history))

    def test_earlier_calls_leave_no_trace(self, space: Space) -> None:
        """A sampler that saw this run and another proposes what a fresh one does."""
        used = self.make(1, PARTICLES, 4, GENERATIONS)
        other = drive(self.make(2, PARTICLES, 4, GENERATIONS), space, roughness, GENERATIONS)
        history = drive(used, space, roughness, GENERATIONS)
        used.propose(space, other)
        for length in (GENERATIONS, 2, 4, 0, GENERATIONS):
            past = history.truncated(length)
            fresh = self.make(1, PARTICLES, 4, GENERATIONS)
            assert_same(used.propose(space, past), fresh.propose(space, past))

    @pytest.mark.parametrize("kept", [0, 1, 3])
    def test_a_resumed_search_equals_the_uninterrupted_one(self, space: Space, kept: int) -> None:
        """Truncate the history, continue with a fresh sampler: the same trials, bit for bit."""
        whole = drive(self.make(1, PARTICLES, 4, GENERATIONS), space, roughness, GENERATIONS)
        resumed = drive(
            self.make(1, PARTICLES, 4, GENERATIONS),
            space,
            roughness,
            GENERATIONS,
            history=whole.truncated(kept),
        )
        np.testing.assert_array_equal(stored_positions(whole), stored_positions(resumed))

    def test_neither_history_nor_global_randomness_is_touched(self, space: Space) -> None:
        """The proposal neither writes to the records nor draws from numpy's global generator."""
        sampler = self.make(1, PARTICLES, 4, GENERATIONS)
        history = drive(sampler, space, roughness, 3)
        positions = stored_positions(history)
        before = np.random.get_state(legacy=False)  # noqa: NPY002  # read, never drawn from
        sampler.propose(space, history)
        after = np.random.get_state(legacy=False)  # noqa: NPY002  # read, never drawn from
        assert repr(before) == repr(after)
        np.testing.assert_array_equal(positions, stored_positions(history))

    def test_seeds_differ(self, space: Space) -> None:
        """Two seeds give two searches."""
        one, two = (
            drive(self.make(seed, PARTICLES, 4, GENERATIONS), space, roughness, GENERATIONS)
            for seed in (1, 2)
        )
        assert not np.array_equal(stored_positions(one), stored_positions(two))

    def test_starts_come_first(self) -> None:
        """Trials 0, 1, … are the defaults and the start settings, whatever the batch."""
        space = mixed(starts=[{"kind": "a", "slope": 1.5}, {"heads": 8, "gate": True}])
        for batch in (1, 2, PARTICLES):
            sampler = self.make(1, PARTICLES, batch, GENERATIONS)
            history = drive(sampler, space, roughness, GENERATIONS)
            starts = [trial.candidate.params for trial in history.trials[:3]]
            assert starts == [space.decode(position) for position in space.starts]

    @pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), None, 1.0])
    def test_losses_that_say_nothing_do_not_stop_the_search(
        self, space: Space, loss: float | None
    ) -> None:
        """All NaN, all infinite, all failed or all equal: it goes on, and goes on moving."""

        def useless(params: Params) -> float:
            if loss is None:
                raise ZeroDivisionError
            return loss

        sampler = self.make(1, PARTICLES, 4, GENERATIONS)
        positions = stored_positions(drive(sampler, space, useless, GENERATIONS))
        assert np.all(np.isfinite(positions))
        assert len(np.unique(positions[PARTICLES:], axis=0)) > 1

    def test_some_failures_are_survived(self, space: Space) -> None:
        """Failures and NaN among good losses keep their slots."""

        def flaky(params: Params) -> float:
            loss = roughness(params)
            if loss * 1e4 % 3 < 1:
                raise ZeroDivisionError
            return float("nan") if loss * 1e4 % 3 < 2 else loss

        history = drive(self.make(1, PARTICLES, 4, 20), space, flaky, 20)
        assert [trial.number for trial in history.trials] == list(range(80))
        assert np.all(np.isfinite(stored_positions(history)))

    def test_three_hundred_dimensions_work(self) -> None:
        """A space as wide as a small weight matrix is searched like any other."""
        positions = stored_positions(drive(self.make(1, PARTICLES, 4, 4), cube(300), roughness, 4))
        assert positions.shape == (16, 300)
        assert np.all((positions >= 0) & (positions <= 1))

    def test_numbers_do_not_depend_on_which_label_stands_in_which_bin(self) -> None:
        """Relabel the history's categories: the next numeric coordinates are the same."""
        space = mixed()
        sampler = self.make(1, PARTICLES, 4, GENERATIONS)
        history = drive(sampler, space, roughness, 4)
        relabelled = relabel(space, history)
        assert not np.array_equal(stored_positions(history), stored_positions(relabelled))
        numbers = ~space.categorical
        np.testing.assert_array_equal(
            sampler.propose(space, history).positions[:, numbers],
            sampler.propose(space, relabelled).positions[:, numbers],
        )


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
