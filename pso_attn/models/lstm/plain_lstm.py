"""One particle as a plain `nn.Module` of its true size: torch's own LSTM, and attention over it.

Written apart from the batched form; it is what a swarm's result is exported as.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pso_attn.attention.drops import Noise
from pso_attn.attention.states.settings import StateAttention
from pso_attn.counter import DropRates
from pso_attn.models.info import TaskInfo
from pso_attn.models.lstm.ends import lengths_of
from pso_attn.models.lstm.settings import LstmSettings
from pso_attn.models.plain import PlainModel


class ReadOut(nn.Module):
    """Attention over the states of an LSTM, for one query an example.

    It has those of the parameters that its settings ask for. score: a vector, or a map to hops.
    """

    query: nn.Parameter
    query_map: nn.Linear
    key_map: nn.Linear
    general: nn.Linear
    place_map: nn.Linear
    place: nn.Parameter
    score: Any
    flow_score: nn.Parameter
    flow_map: nn.Linear

    def __init__(self, settings: StateAttention, inputs: int, hidden: int) -> None:
        """Make the parameters. inputs, hidden: widths of the last LSTM layer."""
        super().__init__()
        self.settings = settings
        for own in settings.learned(inputs, hidden):
            name, shape = own.name, own.shape
            if name in ("sentinel_input", "sentinel_state"):
                for way in range(settings.width // hidden):
                    side = nn.Linear(shape[0], hidden, bias=False)
                    self.add_module(name + "_reverse" * way, side)
            elif len(shape) == 1:
                self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
            else:
                self.add_module(name, nn.Linear(shape[0], shape[1], bias=False))

    def forward(
        self,
        states: Tensor,
        last: Tensor,
        lengths: Tensor | None,
        memory: Sequence[tuple[Tensor, ...]],
        places: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what is read, (B, hops · d), and the penalty, or None.

        states: (B, T, d). last: (B, d). lengths: (B,), None where all have T. memory: for each
        direction the last input, the state before it and the cell after it, (B, ·) each. places:
        (B,), the query's own token, from 1; None where it is the last.
        """
        own = self.settings
        query = self.query[None] if own.query == "learned" else last
        scores = self._scores("key_map", states, query)  # (B, rows, T)
        seen, fade = self._sight(query, lengths, states, places)  # (B or 1, T) each, or None
        if seen is not None:
            scores = scores.masked_fill(~seen[:, None], float("-inf"))
        if own.sentinel:
            sentinel = self._sentinel(memory)[:, None]  # (B, 1, d)
            scores = torch.cat([scores, self._scores("sentinel_map", sentinel, query)], -1)
            fade = nn.functional.pad(fade, (0, 1), value=1) if fade is not None else None
            states = torch.cat([states, sentinel], 1)
        weights = scores.softmax(-1)
        if fade is not None:
            weights = weights * fade[:, None]
        if own.heads > 1:
            parts = states.unflatten(-1, (own.heads, -1)).transpose(1, 2)  # (B, H, T, d / H)
            return (weights[:, :, None] @ parts).flatten(1), None
        return (weights @ states).flatten(1), self._penalty(weights)

    def _scores(self, key_map: str, states: Tensor, query: Tensor) -> Tensor:
        """Return (B, heads or hops, T) for states (B, T, d)."""
        own, query = self.settings, query[:, None]
        if own.score == "self_attentive":
            scores: Tensor = self.score(self.key_map(states).tanh())
            return scores.mT
        if own.score in ("dot", "general"):
            parts = states * (self.general(query) if own.score == "general" else query)
        else:
            inside = self.query_map(query) + self.get_submodule(key_map)(states)
            parts = self.score * inside.tanh()
        scores = parts.unflatten(-1, (own.heads, -1)).sum(-1)
        return scores.mT

    def _sight(
        self, query: Tensor, lengths: Tensor | None, states: Tensor, places: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return which tokens are seen and how their weights fade, None where all and none."""
        own, tokens = self.settings, states.shape[1]
        if lengths is None and own.local == "none":
            return None, None
        place = torch.arange(1, tokens + 1, device=query.device)
        last = place[-1:] if lengths is None else lengths  # (1,) or (B,)
        seen, fade = place <= last[:, None], None
        if own.local != "none":
            centre = last if places is None else torch.minimum(places, last)
            if own.local == "predictive":
                asked = self.place_map(query).tanh() @ self.place
                centre = last * asked.to(self.place.dtype).sigmoid()
            distance = place - centre[:, None]
            seen = seen & (distance.abs() <= own.window)
            if own.local == "predictive":
                fade = (-distance.square() / (2 * (own.window / 2) ** 2)).exp()
        return seen, fade

    def flow(self, states: Tensor, decoder: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the encoder's states as each step of a decoder sees them, (B, U, T, d).

        states: (B, T, d). decoder: (B, U, d). lengths: (B,), None where all have T.
        """
        found = []
        weights = self.flow_score.chunk(3)
        for step in range(decoder.shape[1]):
            seen, whole = torch.zeros_like(states), torch.zeros_like(states[:, :1])
            if step:
                earlier = decoder[:, None, :step]  # (B, 1, step, d)
                each = states[:, :, None]  # (B, T, 1, d)
                pairs = (each, earlier, each * earlier)
                parts = [part @ weight for part, weight in zip(pairs, weights, strict=True)]
                scores = parts[0] + parts[1] + parts[2]  # (B, T, step)
                seen = scores.softmax(-1) @ decoder[:, :step]
                largest = scores.amax(-1)  # (B, T)
                if lengths is not None:
                    beyond = (
                        torch.arange(states.shape[1], device=states.device) >= lengths[:, None]
                    )
                    largest = largest.masked_fill(beyond, float("-inf"))
                whole = largest.softmax(-1)[:, None] @ states
            parts = [states, seen, states * seen, states * whole]
            found.append(self.flow_map(torch.cat(parts, -1)))
        return torch.stack(found, 1)

    def _sentinel(self, memory: Sequence[tuple[Tensor, ...]]) -> Tensor:
        """Return (B, d): each direction's memory cell, gated."""
        found = []
        for way, (inputs, before, cell) in enumerate(memory):
            side = "_reverse" * way
            asked = self.get_submodule("sentinel_input" + side)(inputs)
            asked = asked + self.get_submodule("sentinel_state" + side)(before)
            found.append(asked.sigmoid() * cell.tanh())
        return torch.cat(found, -1)

    def _penalty(self, weights: Tensor) -> Tensor | None:
        if not self.settings.penalty:
            return None
        same = torch.eye(self.settings.hops, device=weights.device, dtype=weights.dtype)
        apart = weights @ weights.mT - same
        norm: Tensor = torch.linalg.matrix_norm(apart).square().mean()
        return self.settings.penalty * norm


class AttentiveLstm(PlainModel):
    """An LSTM whose answers, one or a decoder's, are read by attention over its states."""

    settings: LstmSettings

    def __init__(self, settings: LstmSettings, info: TaskInfo) -> None:
        """Make the model with torch's own start; `load_swarm_parameters` fills it."""
        super().__init__(settings, info)
        layers = range(settings.layers)
        if info.tokens is not None:
            self.embedding = nn.Embedding(info.tokens, settings.hidden)
        self.encoder = nn.ModuleList(
            nn.LSTM(
                settings.inputs(layer, info),
                settings.hidden,
                batch_first=True,
                bidirectional=settings.directions == 2,
            )
            for layer in layers
        )
        if settings.horizon:
            width = settings.width
            self.bridge = nn.Linear(width, width, bias=False)
            self.decoder = nn.LSTM(settings.inputs(0, info), width, batch_first=True)
        self.attention = ReadOut(settings.attention, settings.asked(info), settings.asking[0])
        self.head = nn.Linear(settings.read, info.outputs)

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits (B, outputs), or (B, horizon, outputs) of a decoder.

        inputs: as `TaskInfo` says. keys: int32 (sites, 1), to drop what a swarm drops for the same
        seed and step; None for torch's own dropout, while in training mode.
        """
        lengths = lengths_of(inputs, self.info)
        x = self.embedding(inputs) if self.info.tokens is not None else inputs
        steps = self.settings.horizon
        x, targets = x.split([x.shape[1] - steps, steps], 1)
        for index, layer in enumerate(self.encoder):
            states, cells = self._run(layer, x, lengths)
            below, x = x, self._dropped(states, index, keys)
        last = torch.cat(self._ends(x.chunk(self.settings.directions, -1), lengths, 0), -1)
        if steps:
            return self._decoded(x, last, targets, lengths, keys)
        memory: list[tuple[Tensor, ...]] = []
        if self.settings.attention.sentinel:
            before = self._ends(states.chunk(self.settings.directions, -1), lengths, 1)
            asked = self._ends([below] * self.settings.directions, lengths, 0)
            memory = list(zip(asked, before, cells, strict=True))
        read, self.penalty = self.attention(x, last, lengths, memory)
        if self.settings.last_state:
            read = torch.cat([read, last], -1)
        logits: Tensor = self.head(read)
        return logits

    def _decoded(
        self,
        states: Tensor,
        last: Tensor,
        targets: Tensor,
        lengths: Tensor | None,
        keys: Tensor | None,
    ) -> Tensor:
        """Return logits (B, U, outputs) from states (B, T, d) and what is read, (B, U, I)."""
        steps = self.settings.horizon
        start = self.bridge(last).tanh()
        state = (start[None], torch.zeros_like(start)[None])
        memory: list[tuple[Tensor, ...]] = []
        if self.settings.attention.sentinel:  # whose cells nn.LSTM gives one by one alone
            found, befores, cells = [], [], []
            for token in targets.split(1, 1):
                befores.append(state[0][0])
                out, state = self.decoder(token, state)
                found.append(out)
                cells.append(state[1][0])
            own = torch.cat(found, 1)
            parts = (targets, torch.stack(befores, 1), torch.stack(cells, 1))
            memory = [tuple(part.flatten(0, 1) for part in parts)]
        else:
            own, _ = self.decoder(targets, state)
        asks = self._dropped(own, self.settings.layers, keys)
        if self.settings.attention.flow:
            seen = self.attention.flow(states, asks, lengths).flatten(0, 1)
        else:
            seen = states.repeat_interleave(steps, 0)  # (B · U, T, d)
        places = torch.arange(1, steps + 1, device=states.device).repeat(len(states))
        query = asks.flatten(0, 1)
        if lengths is not None:
            lengths = lengths.repeat_interleave(steps)
        read, self.penalty = self.attention(seen, query, lengths, memory, places)
        answers = self.head(torch.cat([read, query], -1))
        logits: Tensor = answers.unflatten(0, (len(states), steps))
        return logits

    def _run(self, layer: nn.Module, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return a layer's states (B, T, d), zero beyond an example, and cells (dirs, B, h)."""
        if lengths is None:
            states, (_, cells) = layer(x)
            return states, cells
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, (_, cells) = layer(packed)
        states, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        return states, cells

    def _ends(self, ways: Sequence[Tensor], lengths: Tensor | None, back: int) -> list[Tensor]:
        """Return what stands `back` tokens before the last that each direction reads, or zero.

        ways: (B, T, ·) for each direction. lengths: (B,), None where all examples have T.
        """
        padded = [nn.functional.pad(way, (0, 0, back, back)) if back else way for way in ways]
        if lengths is None:
            return [padded[0][:, -1 - 2 * back], *(way[:, 2 * back] for way in padded[1:])]
        rows = torch.arange(len(lengths), device=lengths.device)
        there = (lengths > back)[:, None]
        return [padded[0][rows, lengths - 1], *(way[:, 2 * back] * there for way in padded[1:])]

    def _dropped(self, states: Tensor, layer: int, keys: Tensor | None) -> Tensor:
        """Return states (B, T, d) with entries dropped; a swarm counts (T, B, d)."""
        rate = self.settings.dropout
        if keys is None:
            return dropout(states, rate, self.training)
        if not rate:
            return states
        noise = Noise(keys[layer], DropRates.of(self.head.weight.new_full((1,), rate)))
        return noise.drop(states.transpose(0, 1)[None])[0].transpose(0, 1)

    def load_swarm_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """Take one particle's parameters as `FlatStorage.true_parameters` names them."""
        state = {}
        for name, value in parameters.items():
            if name == "head_bias":
                state["head.bias"] = value
            elif name == "embedding":
                state["embedding.weight"] = value  # stored as torch stores it
            elif name.startswith(("encoder.", "decoder.")) or value.ndim == 1:
                state[name] = value.T.contiguous() if value.ndim > 1 else value
            else:
                state[f"{name}.weight"] = value.T.contiguous()  # (in, out) -> (out, in)
        self.load_state_dict(state)
