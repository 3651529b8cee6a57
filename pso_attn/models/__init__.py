"""What is trained: transformers, as one batched swarm and as plain modules of true size."""

from pso_attn.attention import KNOBS as ATTENTION_KNOBS
from pso_attn.models.info import TaskInfo
from pso_attn.models.parameters import parameters_of
from pso_attn.models.settings import (
    KNOBS,
    TransformerSettings,
    read_transformer,
    transformer_cost,
)
from pso_attn.models.storage import Layout
from pso_attn.models.swarm_transformer import SwarmTransformer
from pso_attn.models.transformer import Transformer

MODEL_KNOBS = {knob.name: knob for knob in (*KNOBS, *ATTENTION_KNOBS)}

__all__ = [
    "MODEL_KNOBS",
    "Layout",
    "SwarmTransformer",
    "TaskInfo",
    "Transformer",
    "TransformerSettings",
    "parameters_of",
    "read_transformer",
    "transformer_cost",
]
