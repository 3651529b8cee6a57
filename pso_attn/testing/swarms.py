"""What every swarm promises beside what every sampler does, as a suite of tests to inherit.

class TestMine(SwarmContract):
    def make(self, seed, particles, batch, generations, **options):
        return Mine(seed, particles, batch, generations, options)
"""

from typing import Any

import numpy as np
import pytest

from pso_attn.swarm.family import FoldedSwarm
from pso_attn.testing.driving import MINIMISED, drive, finished
from pso_attn.testing.samplers import (
    GENERATIONS,
    PARTICLES,
    SamplerContract,
    assert_same,
    roughness,
    stored_positions,
)
from pso_attn.testing.spaces import cube, labels, mixed
from pso_attn.types import Array, History, Params


class SwarmContract(SamplerContract):
    """Inherit it, write `make`, and pytest runs both suites on your swarm.

    It must take the option `stagnation`.
    """

    def make(
        self, seed: int, particles: int, batch: int, generations: int, **options: Any
    ) -> FoldedSwarm[Any]:
        """Return a fresh swarm with these options beside its usual ones."""
        raise NotImplementedError

    @pytest.mark.parametrize("batch", [2, PARTICLES])
    def test_the_order_within_a_generation_does_not_matter(self, batch: int) -> None:
        """Trials of a generation are told in any order: the next proposal is the same."""
        space = mixed()
        sampler = self.make(1, PARTICLES, batch, 12, stagnation=2)
        history = drive(sampler, space, roughness, 12)
        shuffled = History(
            history.objectives, tuple(tuple(reversed(trials)) for trials in history.generations)
        )
        assert_same(sampler.propose(space, history), sampler.propose(space, shuffled))

    @pytest.mark.parametrize("kept", [1, 5, 9])
    def test_a_search_with_restarts_resumes_to_the_same_trials(self, kept: int) -> None:
        """Restarts are part of what is folded from history, bit for bit."""
        space = mixed()

        def plateau(params: Params) -> float:
            return float(np.floor(roughness(params)))

        whole, resumed = (
            drive(self.make(1, PARTICLES, 4, 12, stagnation=1), space, plateau, length)
            for length in (12, kept)
        )
        resumed = drive(
            self.make(1, PARTICLES, 4, 12, stagnation=1), space, plateau, 12, history=resumed
        )
        np.testing.assert_array_equal(stored_positions(whole), stored_positions(resumed))

    def test_stagnated_particles_are_redrawn_and_the_best_is_not(self) -> None:
        """After `stagnation` moves in vain a particle is drawn uniformly; the best one rests."""
        patient, restarted = (self._after_standing_still(4, limit) for limit in (4, 3))
        np.testing.assert_allclose(patient, 0.2, atol=1e-12)
        np.testing.assert_allclose(restarted[0], 0.2, atol=1e-12)
        redrawn = np.abs(restarted - 0.2).max(axis=1) > 1e-3
        assert 0 < redrawn.sum() < PARTICLES
        assert len(np.unique(restarted[redrawn], axis=0)) == redrawn.sum()

    def test_no_stagnation_is_never_a_restart(self) -> None:
        """With the option at 0 nobody is redrawn, however long nothing improves."""
        np.testing.assert_allclose(self._after_standing_still(40, 0), 0.2, atol=1e-12)

    def test_a_redrawn_particle_forgets_its_best(self) -> None:
        """Its first loss afterwards is its personal best, even if it is a worse one."""
        sampler = self.make(0, PARTICLES, PARTICLES, GENERATIONS, stagnation=3)
        space, still = cube(2), standing_still(4)
        away = sampler.propose(space, still).positions
        losses = [10.0 + i for i in range(PARTICLES)]
        state = sampler.state(space, extended(still, away, losses))
        redrawn = np.abs(away - 0.2).max(axis=1) > 1e-3
        expected = np.where(redrawn, losses, 1.0 + np.arange(PARTICLES))
        np.testing.assert_array_equal(state.best_loss, expected)

    def test_a_label_comes_from_someone_unless_it_jumps(self) -> None:
        """Without jumps, a label that nobody holds is never drawn; with jumps, it is."""
        space = labels(2)
        position = space.snap(np.zeros((PARTICLES, 2)))
        history = extended(History(MINIMISED), position, list(map(float, range(PARTICLES))))
        still = self.make(0, PARTICLES, PARTICLES, GENERATIONS, jump_rate=0.0)
        np.testing.assert_array_equal(still.propose(space, history).positions, position)
        jumping = self.make(0, PARTICLES, PARTICLES, GENERATIONS, jump_rate=1.0)
        assert not np.array_equal(jumping.propose(space, history).positions, position)

    def test_losses_of_any_size_are_only_compared(self) -> None:
        """A loss a power of two as large, up to 1e300, leads to the same positions."""

        def large(params: Params) -> float:
            return roughness(params) * 2.0**990

        small, great = (
            drive(self.make(1, PARTICLES, 4, GENERATIONS), mixed(), function, GENERATIONS)
            for function in (roughness, large)
        )
        np.testing.assert_array_equal(stored_positions(small), stored_positions(great))

    def _after_standing_still(self, generations: int, stagnation: int) -> Array:
        sampler = self.make(0, PARTICLES, PARTICLES, GENERATIONS, stagnation=stagnation)
        return sampler.propose(cube(2), standing_still(generations)).positions


def standing_still(generations: int) -> History:
    """Return a history in which all particles stay at .2, particle i with the loss i + 1."""
    history = History(MINIMISED)
    for _ in range(generations):
        losses = [1.0 + i for i in range(PARTICLES)]
        history = extended(history, np.full((PARTICLES, 2), 0.2), losses)
    return history


def extended(history: History, positions: Array, losses: list[float]) -> History:
    """Return the history with one more generation: a move of the whole swarm."""
    number = len(history)
    trials = tuple(
        finished(number, number * len(losses) + i, i, positions[i], loss)
        for i, loss in enumerate(losses)
    )
    return History(history.objectives, (*history.generations, trials))
