"""Attention over states for one group of particles: what an LSTM's answer is read from.

P particle, B batch, T token, d columns of a state, R rows of weights (heads or hops), a width of
the layer inside a score.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pso_attn.attention.alike import by_gemm, in_vectors
from pso_attn.attention.learned import LearnedTensors
from pso_attn.attention.normalise import softmax
from pso_attn.attention.states.flow import fused
from pso_attn.attention.states.sentinel import Memory, sentinel_of
from pso_attn.attention.states.settings import StateAttention


@dataclass(frozen=True)
class States:
    """What a group attends to.

    states: (P, B, T, d). last: (P, B, d), the query where it is not learned. lengths: (P or 1, B),
    how many states of an example there are, None where all T are. memory: what a sentinel is made
    of, None where nobody has one. places: (1, B), the query's own token, from 1; None where it is
    the last.
    """

    states: Tensor
    last: Tensor
    lengths: Tensor | None
    memory: Memory | None
    places: Tensor | None = None

    def split(self, sizes: list[int]) -> list["States"]:
        """Return what each group of so many particles attends to."""
        states, last = self.states.split(sizes), self.last.split(sizes)
        memories = [None] * len(sizes) if self.memory is None else self.memory.split(sizes)
        counts: Sequence[Tensor | None] = [self.lengths] * len(sizes)
        if self.lengths is not None and len(self.lengths) > 1:
            counts = self.lengths.split(sizes)
        own = zip(states, last, counts, memories, strict=True)
        return [States(*parts, self.places) for parts in own]


class Attend:
    """Attends for one group of particles that agree on `StateAttention.group`."""

    def __init__(self, members: Sequence[StateAttention], like: Tensor) -> None:
        """Prepare the data of each particle; `like` gives dtype and device."""
        first = self._first = members[0]
        self._window = like.new_tensor([m.window for m in members])[:, None, None]  # (P, 1, 1)
        penalties = [member.penalty for member in members]
        self._penalty = like.new_tensor(penalties) if any(penalties) else None
        rows = first.heads if first.score != "self_attentive" else 1
        owner = torch.arange(max(first.inner, 1)) // max(first.inner // rows, 1)
        self._owners = (owner[:, None] == torch.arange(rows)).to(like)  # (a, R)
        self._identity = torch.eye(first.hops).to(like)

    def __call__(self, given: States, learned: LearnedTensors) -> tuple[Tensor, Tensor | None]:
        """Return what is read, (P, B, hops · d), and what it adds to the losses, (P,) or None."""
        first, given = self._first, self._by_query(given, learned)
        states, query = given.states, self._query(given, learned)
        scores = self._scores(states, query, "key_map", learned)  # (P, B, R, T)
        seen, fade = self._sight(given, query, learned)
        if seen is not None:
            scores = scores.masked_fill(~seen[:, :, None], float("-inf"))
        if first.sentinel and given.memory is not None:
            sentinel = sentinel_of(given.memory, learned)[:, :, None]  # (P, B, 1, d)
            extra = self._scores(sentinel, query, "sentinel_map", learned)
            weights, beta = softmax(torch.cat([scores, extra], -1)).split(
                [scores.shape[-1], 1], -1
            )
            looked = self._read(weights if fade is None else weights * fade[:, :, None], states)
            return looked + self._read(beta, sentinel), None
        weights = softmax(scores)
        if fade is not None:
            weights = weights * fade[:, :, None]
        return self._read(weights, states), self._added(weights)

    def _by_query(self, given: States, learned: LearnedTensors) -> States:
        """Return what is given with states (P, B · U, T, d), where a decoder asks U times."""
        if given.places is None:
            return given
        asks = given.last.unflatten(1, (given.states.shape[1], -1))  # (P, B, U, d)
        lengths = given.lengths
        if self._first.flow:
            states = fused(given.states, asks, learned, lengths)
        else:
            states = given.states[:, :, None].expand(-1, -1, asks.shape[2], -1, -1)
        if lengths is not None:
            lengths = lengths.repeat_interleave(asks.shape[2], -1)  # (P or 1, B · U)
        return replace(given, states=states.flatten(1, 2), lengths=lengths)

    def _query(self, given: States, learned: LearnedTensors) -> Tensor:
        """Return (P, B, d), or (P, 1, d) where it is learned."""
        if self._first.query != "learned":
            return given.last
        (query,) = learned["query"]
        return query[:, None]

    def _scores(self, states: Tensor, query: Tensor, key: str, learned: LearnedTensors) -> Tensor:
        """Return (P, B, R, T) for states (P, B, T, d)."""
        first = self._first
        if not first.inner:
            if first.score == "general":
                query = query @ learned["general"][0]
            products = states * query[:, :, None]
            scores: Tensor = products.unflatten(-1, (first.heads, -1)).sum(-1)
            return scores.transpose(2, 3)
        flat = states.flatten(1, 2)
        inside = by_gemm(torch.bmm, flat, learned[key][0]).unflatten(1, states.shape[1:3])
        if first.query:
            inside = inside + by_gemm(torch.bmm, query, learned["query_map"][0])[:, :, None]
        (score,) = learned["score"]  # (P, a), or (P, a, hops)
        rows = score if first.score == "self_attentive" else score[..., None] * self._owners
        scored = by_gemm(torch.bmm, inside.tanh().flatten(1, 2), rows)
        apart: Tensor = scored.unflatten(1, states.shape[1:3])
        return apart.transpose(2, 3)

    def _sight(
        self, given: States, query: Tensor, learned: LearnedTensors
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return which states are seen and by what their weights fade, (P or 1, B or 1, T).

        None where all are, and where none do. Tokens count from 1, as Luong et al. do.
        """
        tokens = given.states.shape[2]
        lengths = given.lengths
        place = torch.arange(1, tokens + 1, device=given.states.device)
        there = None if lengths is None else place <= lengths[..., None]
        if self._first.local == "none":
            return there, None
        if self._first.local == "monotonic":
            own = place[None, -1:] if lengths is None else lengths
            own = own if given.places is None else torch.minimum(given.places, own)
            near, fade = (own[..., None] - place).abs() <= self._window, None
        else:
            inside = by_gemm(torch.bmm, query, learned["place_map"][0]).tanh()
            place_vector = learned["place"][0][..., None]
            asked = by_gemm(torch.bmm, inside, place_vector)
            share = in_vectors(torch.sigmoid, asked.to(place_vector.dtype))  # (P, B or 1, 1)
            distance = (place - share * (tokens if lengths is None else lengths[..., None])).abs()
            near = distance <= self._window
            fade = (-2 * (distance / self._window).square()).exp()  # σ = D / 2
        return near if there is None else near & there, fade

    def _read(self, weights: Tensor, states: Tensor) -> Tensor:
        """Return (P, B, hops · d): states (P, B, T, d) under weights (P, B, R, T)."""
        if self._first.heads == 1:
            read: Tensor = weights @ states
        else:
            parts = states.unflatten(-1, (self._first.heads, -1))
            read = weights[:, :, :, None] @ parts.transpose(2, 3)  # (P, B, R, T, d / R)
        return read.flatten(2)

    def _added(self, weights: Tensor) -> Tensor | None:
        if self._penalty is None:
            return None
        apart = weights @ weights.transpose(2, 3) - self._identity
        added: Tensor = self._penalty * apart.square().sum((2, 3)).mean(1)
        return added
