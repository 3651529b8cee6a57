"""What the swarm is measured against: samplers that any search may use in its place."""

from pso_attn.baselines.cma_es import CovarianceAdaptation
from pso_attn.baselines.optuna_samplers import GaussianProcess, Genetic, TreeParzen
from pso_attn.baselines.pyswarms import PySwarms
from pso_attn.baselines.quasi_monte_carlo import QuasiMonteCarlo
from pso_attn.baselines.random_search import RandomSearch

__all__ = [
    "CovarianceAdaptation",
    "GaussianProcess",
    "Genetic",
    "PySwarms",
    "QuasiMonteCarlo",
    "RandomSearch",
    "TreeParzen",
]
