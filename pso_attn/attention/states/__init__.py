"""Attention over an LSTM's states: one file a family of knobs, on tensors (P, B, T, d).

P particle, B batch, T token, d columns of a state.
"""

from pso_attn.attention.states import flow, hops, local, query, scores, sentinel, subspaces
from pso_attn.attention.states.attend import Attend, States
from pso_attn.attention.states.sentinel import Memory
from pso_attn.attention.states.settings import StateAttention, read_attention

KNOBS = (
    *scores.KNOBS,
    *query.KNOBS,
    *subspaces.KNOBS,
    *local.KNOBS,
    *hops.KNOBS,
    *sentinel.KNOBS,
    *flow.KNOBS,
)

__all__ = ["KNOBS", "Attend", "Memory", "StateAttention", "States", "read_attention"]
