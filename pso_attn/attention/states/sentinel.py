"""When to look at the sequence at all: one more state to attend to, out of the LSTM's memory.

    g = σ(W_x x_t + W_h h_{t−1}), s = g ⊙ tanh(m_t), β = its weight beside those of the states

x_t, h_{t−1}, m_t: input, state before and memory cell of the last token; in a bidirectional LSTM
of each direction's last. Lu et al. 2016, eqs. 9-13; the sentinel's own key map is their W_s.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pso_attn.attention.alike import in_vectors
from pso_attn.attention.learned import LearnedTensors
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


@dataclass(frozen=True)
class Memory:
    """Of the last LSTM layer, where each direction k has read all of an example.

    inputs: (P, B, K, I), the token read last. before: (P, B, K, h), the state before it. cells:
    (P, B, K, h), the memory cell after it.
    """

    inputs: Tensor
    before: Tensor
    cells: Tensor

    def split(self, sizes: list[int]) -> list["Memory"]:
        """Return the memory of each group of so many particles."""
        parts = (part.split(sizes) for part in (self.inputs, self.before, self.cells))
        return [Memory(*own) for own in zip(*parts, strict=True)]


def sentinel_of(memory: Memory, learned: LearnedTensors) -> Tensor:
    """Return the gated memory of all directions side by side, (P, B, d)."""
    ways = memory.cells.shape[2]
    inputs, before = (
        torch.einsum("pbki,pikh->pbkh", values, learned[name][0].unflatten(-1, (ways, -1)))
        for name, values in (("sentinel_input", memory.inputs), ("sentinel_state", memory.before))
    )
    gates = in_vectors(torch.sigmoid, inputs + before)
    return (gates * memory.cells.tanh()).flatten(2)
