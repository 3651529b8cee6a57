"""Weights as positions: what they are worth to a model, without gradients."""

from pso_attn.evaluate.weights.control import descend, examples_spent, soups
from pso_attn.evaluate.weights.descent import Descent
from pso_attn.evaluate.weights.evaluator import WeightEvaluator
from pso_attn.evaluate.weights.first_model import train_first
from pso_attn.evaluate.weights.fitness import Fitness, OwnFitness
from pso_attn.evaluate.weights.rehearsal import rehearse_weights
from pso_attn.evaluate.weights.searched import Searched, Start
from pso_attn.evaluate.weights.trainer import WeightTrainer

__all__ = [
    "Descent",
    "Fitness",
    "OwnFitness",
    "Searched",
    "Start",
    "WeightEvaluator",
    "WeightTrainer",
    "descend",
    "examples_spent",
    "rehearse_weights",
    "soups",
    "train_first",
]
