"""Quasi-Monte Carlo search: a design that fills the cube evenly."""

from pso_attn.baselines.options import Baseline
from pso_attn.seeding import check_sobol, sobol
from pso_attn.space import Space
from pso_attn.swarm.slots import slots
from pso_attn.types import History, Proposal


class QuasiMonteCarlo(Baseline):
    """Scrambled Sobol sequence: trial n is its point n."""

    name = "qmc"

    def check_space(self, space: Space) -> None:
        """Raise ConfigurationError where the sequence has too few dimensions."""
        check_sobol(space.dimension)

    def propose(self, space: Space, history: History) -> Proposal:
        """Return the sequence's next points; of the history only its length matters."""
        first = len(history) * self.batch
        positions = sobol(self.seed, space.dimension, first, self.batch)
        particles = slots(len(history), self.batch, self.particles)
        return Proposal(space.with_starts(positions, first), particles)
