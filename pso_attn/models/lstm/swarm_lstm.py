"""A whole swarm of LSTMs with attention over their states as one model.

The LSTM runs over all particles, which agree on its shape; above it, one kernel call serves each
run of particles that agree on how they attend. Nothing is padded.
"""

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise

import torch
from torch import Tensor
from torch.nn.functional import embedding

from pso_attn.attention import Noise
from pso_attn.attention.states import Attend, Memory, States
from pso_attn.counter import DropRates
from pso_attn.models.info import TaskInfo
from pso_attn.models.lstm.ends import at_ends, before_ends, inputs_at_ends, lengths_of
from pso_attn.models.lstm.parameters import lstm_parameters
from pso_attn.models.lstm.plain_lstm import AttentiveLstm
from pso_attn.models.lstm.recurrence import WAYS, Weights
from pso_attn.models.lstm.settings import LstmSettings
from pso_attn.models.shares import Shares
from pso_attn.models.storage import Layout
from pso_attn.models.swarm import Swarm

ENCODER = ("embedding", "encoder.")  # whose parameters all particles share the shapes of


class SwarmLstm(Swarm):
    """N LSTMs of one depth, width and number of directions, with any attention over them."""

    parameters_of = staticmethod(lstm_parameters)
    plain = AttentiveLstm
    settings: tuple[LstmSettings, ...]

    def __init__(
        self, settings: Sequence[LstmSettings], info: TaskInfo, weights: Tensor, layout: Layout
    ) -> None:
        """Lay the parameters over `weights` (N, P), and prepare each group's kernel."""
        super().__init__(settings, info, weights, layout)
        self._first, self._run = settings[0], WAYS[settings[0].recurrence]
        runs = [list(run) for _, run in groupby(settings, key=lambda s: s.group)]
        self._sizes = [len(run) for run in runs]
        self._attends = [Attend([s.attention for s in run], weights) for run in runs]
        spans = list(pairwise(accumulate(self._sizes, initial=0)))
        above = {
            name.removeprefix("attention."): run
            for name, run in self.storage.segments.items()
            if run and not name.startswith(ENCODER)
        }
        self._shares = Shares(above, spans, len(self))
        rates = [s.dropout for s in settings]
        self._rates = DropRates.of(weights.new_tensor(rates)) if any(rates) else None
        self._is_penalised = any(s.attention.penalty for s in settings)
        self._has_sentinel = any(s.attention.sentinel for s in settings)
        rows = torch.arange(len(settings), device=weights.device)
        self._first_token = (rows * (info.tokens or 0))[:, None]

    @property
    def sites(self) -> int:
        """How many places of the model draw dropout masks: each layer's states."""
        return self._first.layers

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits, as `Swarm.forward` does."""
        lengths = lengths_of(inputs, self.info)  # (N or 1, B)
        whole, x = self.storage.whole, self._embedded(inputs)  # (N or 1, T, B, I)
        for layer in range(self._first.layers):
            prefix, below = f"encoder.{layer}", x
            weights = Weights(
                whole(f"{prefix}.weight_ih_l0"),
                whole(f"{prefix}.weight_hh_l0"),
                (whole(f"{prefix}.bias_ih_l0"), whole(f"{prefix}.bias_hh_l0")),
            )
            states, cells = self._run(x, weights, lengths)
            x = self._dropped(states, layer, keys)
        ends = (self._first.hidden, self._first.directions, lengths)
        last = at_ends(x, *ends)
        memory = None
        if self._has_sentinel:
            memory = Memory(
                inputs_at_ends(below, *ends[1:]).expand(len(self), -1, -1, -1),
                before_ends(states, *ends),
                cells.unflatten(-1, (ends[1], -1)),
            )
        return self._answers(x.permute(0, 2, 1, 3), last.flatten(2), memory, lengths)

    def _answers(
        self, states: Tensor, last: Tensor, memory: Memory | None, lengths: Tensor | None
    ) -> Tensor:
        """Return logits (N, B, outputs) from states (N, B, T, d) and the last ones (N, B, d)."""
        sizes, answers, added = self._sizes, [], []
        cut = [part.split(sizes) for part in (states, last)]
        memories = [None] * len(sizes) if memory is None else memory.split(sizes)
        counts = lengths.split(sizes) if lengths is not None and len(lengths) > 1 else None
        learned = self._shares(states, states.shape[1])
        row = 0
        for group, attend in enumerate(self._attends):
            own = lengths if counts is None else counts[group]
            given = States(cut[0][group], cut[1][group], own, memories[group])
            read, penalty = attend(given, learned[group])
            if self.settings[row].last_state:
                read = torch.cat([read, given.last], -1)
            bias, head = learned[group]["head_bias"][0], learned[group]["head"][0]
            answers.append(torch.baddbmm(bias[:, None], read, head))
            added.append(read.new_zeros(sizes[group]) if penalty is None else penalty)
            row += sizes[group]
        self.penalty = torch.cat(added) if self._is_penalised else None
        return torch.cat(answers)

    def _embedded(self, inputs: Tensor) -> Tensor:
        """Return what the first layer reads, (N or 1, T, B, I)."""
        if self.info.tokens is None:
            return inputs.transpose(1, 2)
        table = self.storage.whole("embedding")
        ids = inputs.transpose(1, 2).flatten(1) + self._first_token  # rows of all tables
        shape = (len(self), inputs.shape[2], inputs.shape[1], -1)
        return embedding(ids, table.flatten(0, 1)).view(shape)

    def _dropped(self, states: Tensor, layer: int, keys: Tensor | None) -> Tensor:
        """Return states (N, T, B, d) with entries dropped, while training."""
        if keys is None or self._rates is None:
            return states
        return Noise(keys[layer], self._rates).drop(states)
