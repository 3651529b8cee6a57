"""What one particle's attention over states does, read from its settings and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pso_attn.attention.learned import Learned
from pso_attn.attention.states.scores import INNER, QUERYING
from pso_attn.attention.states.subspaces import check_heads
from pso_attn.errors import ConfigurationError


@dataclass(frozen=True)
class StateAttention:
    """How a particle attends to its states; each knob stands in its own file.

    width: d, columns of a state. inner: of the layer inside the score, 0 where there is none.
    query: "last" or "learned", "" where the score has none. flow: whether states first attend to
    those of the decoder. window: D, 0 where `local` is "none".
    hops: rows of weights, each over whole states. heads: each over its part of the columns.
    """

    width: int
    score: str
    inner: int
    query: str
    heads: int
    local: str
    window: int
    hops: int
    penalty: float
    sentinel: bool
    flow: bool

    @property
    def group(self) -> tuple[str | int, ...]:
        """What must be equal for particles to share a kernel."""
        shape = (self.score, self.inner, self.query, self.heads, self.hops)
        return (*shape, self.local, self.sentinel, self.flow)

    @property
    def read(self) -> int:
        """How wide what it returns is."""
        return self.hops * self.width

    def learned(self, inputs: int, hidden: int) -> tuple[Learned, ...]:
        """Return what it learns.

        inputs, hidden: of the LSTM whose memory a sentinel is, the widths of what it reads and of
        its states; of two directions each has maps of its own, side by side.
        """
        d, a = self.width, self.inner
        outer, inside = d**-0.5, max(a, 1) ** -0.5
        found = [Learned("query", (d,), (0.0,), outer)] if self.query == "learned" else []
        if self.score == "general":
            found.append(Learned("general", (d, d), (0.0,), outer))
        if a:
            found.append(Learned("key_map", (d, a), (0.0,), outer))
            if self.query:
                found.append(Learned("query_map", (d, a), (0.0,), outer))
            shape = (a, self.hops) if self.score == "self_attentive" else (a,)
            found.append(Learned("score", shape, (0.0,), inside))
        if self.local == "predictive":
            found.append(Learned("place_map", (d, d), (0.0,), outer))
            found.append(Learned("place", (d,), (0.0,), outer))
        if self.flow:
            found.append(Learned("flow_score", (3 * d,), (0.0,), (3 * d) ** -0.5))
            found.append(Learned("flow_map", (4 * d, d), (0.0,), (4 * d) ** -0.5))
        if self.sentinel:
            found.append(Learned("sentinel_input", (inputs, d), (0.0,), inputs**-0.5))
            found.append(Learned("sentinel_state", (hidden, d), (0.0,), hidden**-0.5))
            if a:
                found.append(Learned("sentinel_map", (d, a), (0.0,), outer))
        return tuple(found)


def read_attention(settings: Mapping[str, Any], width: int, horizon: int = 0) -> StateAttention:
    """Return how states of `width` columns are attended to, once or by each step of a decoder.

    horizon: how many steps a decoder has, 0 where there is none. Raises ConfigurationError where
    the settings cannot work.
    """
    score = settings.get("score", "additive")
    is_querying = score in QUERYING
    inner = settings.get("attention_dim", width) if score in INNER else 0
    inner = width if score == "concat" else inner
    heads = settings.get("heads", 1) if is_querying else 1
    local = settings.get("local", "none") if is_querying else "none"
    window = settings.get("window_tokens", 10) if local != "none" else 0
    hops = settings.get("hops", 1) if score == "self_attentive" else 1
    if hops < 1:
        raise ConfigurationError(
            f"hops = {hops} leaves nothing to read; choose at least 1 row of weights"
        )
    if local != "none" and window < 1:
        raise ConfigurationError(
            f"window_tokens = {window} leaves a Gaussian of no width; choose at least 1"
        )
    query = settings.get("query", "last") if is_querying else ""
    flow = bool(settings.get("bidirectional_attention", False))
    is_decoding = horizon > 0
    if flow and not is_decoding:
        raise ConfigurationError(
            "bidirectional_attention = true is between an encoder and a decoder, and this task "
            "asks for one answer to a sequence, which no decoder gives; leave it out"
        )
    if flow and horizon == 1:
        raise ConfigurationError(
            "bidirectional_attention = true shows the encoder the decoder's earlier states, and a "
            "horizon of 1 has none; leave it out, or forecast further"
        )
    if is_decoding and query != "last":
        asked = f'query = "{query}"' if query else f'score = "{score}"'
        raise ConfigurationError(
            f"{asked} looks at the source in the same way at each step of a decoder; choose a "
            'score with query = "last", the decoder\'s own state'
        )
    check_heads(heads, width, inner)
    return StateAttention(
        width=width,
        score=score,
        inner=inner,
        query=query,
        heads=heads,
        local=local,
        window=window,
        hops=hops,
        penalty=float(settings.get("hop_penalty", 0.0)) if score == "self_attentive" else 0.0,
        sentinel=bool(settings.get("sentinel", False)) if is_querying else False,
        flow=flow,
    )
