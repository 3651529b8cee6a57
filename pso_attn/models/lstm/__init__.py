"""LSTMs whose answers are read by attention over their states."""

from pso_attn.models.lstm.plain_lstm import AttentiveLstm
from pso_attn.models.lstm.settings import LstmSettings, lstm_cost, read_lstm
from pso_attn.models.lstm.swarm_lstm import SwarmLstm

__all__ = ["AttentiveLstm", "LstmSettings", "SwarmLstm", "lstm_cost", "read_lstm"]
