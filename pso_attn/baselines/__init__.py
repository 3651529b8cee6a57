"""What the swarm is measured against: samplers that any search may use in its place."""

from pso_attn.baselines.cma_es import CovarianceAdaptation
from pso_attn.baselines.open_es import OpenStrategy
from pso_attn.baselines.optuna_samplers import GaussianProcess, Genetic, TreeParzen
from pso_attn.baselines.pyswarms import PySwarms
from pso_attn.baselines.quasi_monte_carlo import QuasiMonteCarlo
from pso_attn.baselines.random_search import RandomSearch
from pso_attn.baselines.sep_cma_es import SeparableCovarianceAdaptation

__all__ = [
    "CovarianceAdaptation",
    "GaussianProcess",
    "Genetic",
    "OpenStrategy",
    "PySwarms",
    "QuasiMonteCarlo",
    "RandomSearch",
    "SeparableCovarianceAdaptation",
    "TreeParzen",
]
