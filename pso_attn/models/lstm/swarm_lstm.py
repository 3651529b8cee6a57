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
from pso_attn.attention.alike import by_gemm
from pso_attn.attention.states import Attend, Memory, States
from pso_attn.counter import DropRates
from pso_attn.models.info import TaskInfo
from pso_attn.models.lstm.ends import at_ends, before_ends, inputs_at_ends, lengths_of
from pso_attn.models.lstm.parameters import lstm_parameters
from pso_attn.models.lstm.plain_lstm import AttentiveLstm
from pso_attn.models.lstm.recurrence import WAYS, Weights, decoded
from pso_attn.models.lstm.settings import LstmSettings
from pso_attn.models.shares import Shares
from pso_attn.models.storage import Layout
from pso_attn.models.swarm import Swarm

SHARED = ("embedding", "encoder.", "bridge", "decoder.")  # of one shape in all particles


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
        self.waits = info.padded and self._first.recurrence == "one_by_one"  # for the lengths
        runs = [list(run) for _, run in groupby(settings, key=lambda s: s.group)]
        self._sizes = [len(run) for run in runs]
        self._attends = [Attend([s.attention for s in run], weights) for run in runs]
        spans = list(pairwise(accumulate(self._sizes, initial=0)))
        above = {
            name.removeprefix("attention."): run
            for name, run in self.storage.segments.items()
            if run and not name.startswith(SHARED)
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
        """How many places of the model draw dropout masks: the states of layers and decoder."""
        return self._first.layers + (self._first.horizon > 0)

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits, as `Swarm.forward` does; with a decoder, (N, B, horizon, outputs)."""
        lengths, x = lengths_of(inputs, self.info), self._embedded(inputs)  # (N or 1, T, B, I)
        steps = self._first.horizon
        x, targets = x.split([x.shape[1] - steps, steps], 1)
        for layer in range(self._first.layers):
            below = x
            states, cells = self._run(x, self._weights(f"encoder.{layer}"), lengths)
            x = self._dropped(states, layer, keys)
        ends = (self._first.hidden, self._first.directions, lengths)
        last = at_ends(x, *ends).flatten(2)
        if steps:
            return self._decoded(x.transpose(1, 2), last, targets, lengths, keys)
        memory = None
        if self._has_sentinel:
            memory = Memory(
                inputs_at_ends(below, *ends[1:]).expand(len(self), -1, -1, -1),
                before_ends(states, *ends),
                cells.unflatten(-1, (ends[1], -1)),
            )
        return self._answers(States(x.transpose(1, 2), last, lengths, memory))

    def _decoded(
        self,
        states: Tensor,
        last: Tensor,
        targets: Tensor,
        lengths: Tensor | None,
        keys: Tensor | None,
    ) -> Tensor:
        """Return logits (N, B, U, outputs): each step of the decoder asks the encoder's states.

        states: (N, B, T, d). last: (N, B, d). targets: (N or 1, U, B, I), what the decoder reads.
        lengths: (N or 1, B), of the sources.
        """
        start = (last @ self.storage.whole("bridge")).tanh()
        own, cells = decoded(targets, self._weights("decoder"), start)  # (N, U, B, d)
        before = torch.cat([start[:, None], own[:, :-1]], 1)
        asks = self._dropped(own, self._first.layers, keys).transpose(1, 2)  # (N, B, U, d)
        memory = None
        if self._has_sentinel:
            read = targets.expand(len(self), -1, -1, -1)
            parts = [part.transpose(1, 2).flatten(1, 2) for part in (read, before, cells)]
            memory = Memory(*(part[:, :, None] for part in parts))
        steps = torch.arange(1, asks.shape[2] + 1, device=states.device)
        places = steps.repeat(asks.shape[1])[None]  # (1, B · U)
        given = States(states, asks.flatten(1, 2), lengths, memory, places)
        logits: Tensor = self._answers(given).unflatten(1, asks.shape[1:3])
        return logits

    def _answers(self, given: States) -> Tensor:
        """Return logits (N, queries, outputs)."""
        answers, added = [], []
        handed = self._shares(given.states, given.states.shape[1])
        row = 0
        for attend, own, learned in zip(
            self._attends, given.split(self._sizes), handed, strict=True
        ):
            read, penalty = attend(own, learned)
            if self.settings[row].last_state or self.settings[row].horizon:
                read = torch.cat([read, own.last], -1)
            bias, head = learned["head_bias"][0], learned["head"][0]
            answers.append(by_gemm(torch.baddbmm, bias[:, None], read, head))
            added.append(read.new_zeros(len(read)) if penalty is None else penalty)
            row += len(read)
        self.penalty = torch.cat(added) if self._is_penalised else None
        return torch.cat(answers)

    def _weights(self, prefix: str) -> Weights:
        """Return the weights of an LSTM layer of all particles."""
        whole = self.storage.whole
        return Weights(
            whole(f"{prefix}.weight_ih_l0"),
            whole(f"{prefix}.weight_hh_l0"),
            (whole(f"{prefix}.bias_ih_l0"), whole(f"{prefix}.bias_hh_l0")),
        )

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
