"""When to look at the sequence at all: one more state to attend to, out of the LSTM's memory.

    g = σ(W_x x_t + W_h h_{t−1}), s = g ⊙ tanh(m_t), β = its weight beside those of the states

x_t, h_{t−1}, m_t: input, state before and memory cell of the last token; in a bidirectional LSTM
of each direction's last. Lu et al. 2016, eqs. 9-13; the sentinel's own key map is their W_s.
"""

from pso_attn.attention.states.scores import QUERYING
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "sentinel",
        "bool",
        "attention may also go to a gated copy of the last memory cell, in place of the states",
        default=False,
        neutral=False,
        when={"score": QUERYING},
        source="Lu et al. 2016, arXiv 1612.01887, eqs. 9-13",
    ),
)
