"""LSTMs whose answers are read by attention over their states."""

from pso_attn.models.lstm.settings import read_lstm
from pso_attn.models.lstm.swarm_lstm import SwarmLstm

__all__ = ["SwarmLstm", "read_lstm"]
