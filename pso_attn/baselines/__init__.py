"""What the swarm is measured against: samplers that any search may use in its place."""

from pso_attn.baselines.quasi_monte_carlo import QuasiMonteCarlo
from pso_attn.baselines.random_search import RandomSearch

__all__ = ["QuasiMonteCarlo", "RandomSearch"]
