"""What is trained: transformers and LSTMs, as one batched swarm and as plain modules."""

from pso_attn.models.families import (
    DEFAULT_FAMILY,
    FAMILIES,
    FAMILY_KNOB,
    family_of,
    model_cost,
    parameters_of,
    read_model,
    swarm_type,
)
from pso_attn.models.info import TaskInfo
from pso_attn.models.lstm import SwarmLstm, read_lstm
from pso_attn.models.plain import PlainModel
from pso_attn.models.settings import read_transformer, transformer_cost
from pso_attn.models.storage import Layout
from pso_attn.models.swarm import ModelSettings, Swarm
from pso_attn.models.swarm_transformer import SwarmTransformer
from pso_attn.models.transformer import Transformer

MODEL_KNOBS = {knob.name: knob for knob in FAMILIES[DEFAULT_FAMILY].knobs}

__all__ = [
    "DEFAULT_FAMILY",
    "FAMILIES",
    "FAMILY_KNOB",
    "MODEL_KNOBS",
    "Layout",
    "ModelSettings",
    "PlainModel",
    "Swarm",
    "SwarmLstm",
    "SwarmTransformer",
    "TaskInfo",
    "Transformer",
    "family_of",
    "model_cost",
    "parameters_of",
    "read_lstm",
    "read_model",
    "read_transformer",
    "swarm_type",
    "transformer_cost",
]
