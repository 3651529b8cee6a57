"""How good: batched training, scoring, rungs, and what a training costs."""

from pso_attn.evaluate.chunk import LongTraining
from pso_attn.evaluate.device import resolve_device
from pso_attn.evaluate.evaluator import SwarmEvaluator
from pso_attn.evaluate.generations import Progress
from pso_attn.evaluate.member import read_member
from pso_attn.evaluate.module_evaluator import ModuleEvaluator
from pso_attn.evaluate.module_runs import rehearse_modules
from pso_attn.evaluate.module_trainer import ModuleTrainer
from pso_attn.evaluate.module_training import ModuleMember, ModuleTraining
from pso_attn.evaluate.optimiser import KNOBS, check_batch
from pso_attn.evaluate.own_factory import OwnFactory
from pso_attn.evaluate.own_objective import ObjectiveEvaluator
from pso_attn.evaluate.own_scoring import rehearse_objective, train_objective
from pso_attn.evaluate.own_trainer import ObjectiveTrainer, OwnObjective
from pso_attn.evaluate.rehearsal import rehearse
from pso_attn.evaluate.swarm_runs import Scored, train_swarm
from pso_attn.evaluate.swarm_trainer import SwarmTrainer, cost
from pso_attn.evaluate.training import SwarmTraining

TRAINING_KNOBS = {knob.name: knob for knob in KNOBS}

__all__ = [
    "TRAINING_KNOBS",
    "LongTraining",
    "ModuleEvaluator",
    "ModuleMember",
    "ModuleTrainer",
    "ModuleTraining",
    "ObjectiveEvaluator",
    "ObjectiveTrainer",
    "OwnFactory",
    "OwnObjective",
    "Progress",
    "Scored",
    "SwarmEvaluator",
    "SwarmTrainer",
    "SwarmTraining",
    "check_batch",
    "cost",
    "read_member",
    "rehearse",
    "rehearse_modules",
    "rehearse_objective",
    "resolve_device",
    "train_objective",
    "train_swarm",
]
