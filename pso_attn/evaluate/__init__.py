"""How good: batched training, scoring, rungs, and what a training costs."""

from pso_attn.evaluate.device import resolve_device
from pso_attn.evaluate.evaluator import Progress, SwarmEvaluator, cost
from pso_attn.evaluate.module_evaluator import ModuleEvaluator, train_modules
from pso_attn.evaluate.optimiser import KNOBS
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.evaluate.own_objective import ObjectiveEvaluator, OwnObjective
from pso_attn.evaluate.own_scoring import rehearse_objective, score_objective
from pso_attn.evaluate.planner import Forecast
from pso_attn.evaluate.rehearsal import rehearse
from pso_attn.evaluate.swarm_runs import Scored, train_swarm

TRAINING_KNOBS = {knob.name: knob for knob in KNOBS}

__all__ = [
    "TRAINING_KNOBS",
    "Forecast",
    "ModuleEvaluator",
    "ObjectiveEvaluator",
    "OwnFactory",
    "OwnObjective",
    "Progress",
    "Scored",
    "SwarmEvaluator",
    "cost",
    "rehearse",
    "rehearse_objective",
    "resolve_device",
    "score_objective",
    "train_modules",
    "train_swarm",
]
