"""Optuna's own samplers, asked for whole batches and made anew from history for each of them."""

from abc import ABC, abstractmethod

import numpy as np
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler

from pso_attn.baselines.options import FOR_WEIGHTS, Baseline
from pso_attn.baselines.rebuilt_study import Attributes, asked, rebuilt_study
from pso_attn.errors import ConfigurationError
from pso_attn.seeding import generator
from pso_attn.space import Space
from pso_attn.swarm.slots import slots
from pso_attn.types import History, Proposal


class OptunaSampler(Baseline, ABC):
    """A sampler of Optuna, seeded for each generation, on a study rebuilt from history.

    What it would remember beside the study (fitted kernels, its random state) begins anew with
    each generation, so that a resumed search proposes what the uninterrupted one did.
    """

    def check_space(self, space: Space) -> None:
        """Raise ConfigurationError where weights are searched: Optuna knows knobs by name."""
        if space.weights:
            raise ConfigurationError(
                f"sampler {self.name} searches knobs by name, and {space.weights} weights have "
                f"none; choose {FOR_WEIGHTS}"
            )

    def propose(self, space: Space, history: History) -> Proposal:
        """Return the positions that the sampler suggests, each with those before it running."""
        generation = len(history)
        drawn = int(generator(self.seed, generation, self.name).integers(2**31))
        study = rebuilt_study(space, history, self._made(drawn), self._attributes(history))
        positions = asked(space, study, generation * self.batch, self.batch)
        return Proposal(positions, slots(generation, self.batch, self.particles))

    @abstractmethod
    def _made(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler with this seed."""

    def _attributes(self, history: History) -> list[Attributes] | None:
        """Return what the sampler would have noted at each trial of the history."""
        return None


class TreeParzen(OptunaSampler):
    """Tree-structured Parzen estimator (Bergstra et al. 2011): Optuna's default sampler.

    As Optuna 5 has it: multivariate, with a constant liar for what is running, conditional knobs
    on their own, ten random trials first.
    """

    name = "tpe"

    def _made(self, seed: int) -> BaseSampler:
        return TPESampler(seed=seed)


class GaussianProcess(OptunaSampler):
    """Gaussian process with log expected improvement: Optuna's GPSampler.

    As Optuna 5 has it: Matérn 5/2 with a length for each knob, what is running counted in by
    quasi-Monte Carlo, ten random trials first; conditional knobs are drawn at random. It is fitted
    anew for each particle.
    """

    name = "gp"

    def _made(self, seed: int) -> BaseSampler:
        return GPSampler(seed=seed, warn_independent_sampling=False)


class Genetic(OptunaSampler):
    """Genetic algorithm NSGA-II (Deb et al. 2002): Optuna's NSGAIISampler.

    The population is as large as the swarm; for one objective its selection is by rank. A
    generation of the algorithm is full when that many trials of it completed.
    """

    name = "nsga2"

    def _made(self, seed: int) -> BaseSampler:
        return NSGAIISampler(population_size=self._population, seed=seed)

    @property
    def _population(self) -> int:
        return max(self.particles, 2)

    def _attributes(self, history: History) -> list[Attributes]:
        """Return the algorithm's generation of each trial, as it was when the trial was asked."""
        key = NSGAIISampler._get_generation_key()  # what it looks for; it has no public name
        attributes: list[Attributes] = []
        born = completed = 0
        for trials in history.generations:
            if completed >= self._population:
                born, completed = born + 1, 0
            for trial in trials:
                attributes.append({key: born})
                completed += trial.is_full and bool(np.isfinite(history.loss(trial)))
        return attributes
