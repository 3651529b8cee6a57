"""One attention layer's settings, read from a particle's settings and checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from pso_attn.counter import dropout_scale
from pso_attn.errors import ConfigurationError


@dataclass(frozen=True)
class LayerSettings:
    """What one particle's attention layer does. Per-head values have one entry a head."""

    mechanism: str
    heads: int
    head_dim: int
    kv_heads: int
    temperature: tuple[float, ...]
    decay: tuple[float, ...]
    window_tokens: tuple[int, ...] | None
    attention_dropout: float
    rank: int

    @property
    def group(self) -> tuple[str, int, int, int]:
        """What must be equal for particles to share a kernel."""
        return (self.mechanism, self.head_dim, self.heads, self.rank)

    @property
    def inner_dim(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim


@dataclass(frozen=True)
class Noise:
    """Dropout of one site at one step. key: int32 (P,); rate: (P,), in [0, 1)."""

    key: torch.Tensor
    rate: torch.Tensor

    def drop(self, values: torch.Tensor) -> torch.Tensor:
        """Return `values` (P, …) with entries dropped and the rest scaled up."""
        return values * dropout_scale(self.key, self.rate, tuple(values.shape[1:]))


class Kernel(Protocol):
    """A mechanism: attends for one group of particles, P in all, that agree on `group`."""

    def __init__(
        self, members: Sequence[LayerSettings], length: int, causal: bool, like: torch.Tensor
    ) -> None:
        """Prepare the data of each particle. length: T; `like` gives dtype and device."""
        ...

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, noise: Noise | None
    ) -> torch.Tensor:
        """Return (P, B, H, T, d) from q of that shape and k, v (P, B, H, keys, d)."""
        ...


def read_layer(
    settings: Mapping[str, Any], layer: int, length: int, causal: bool
) -> LayerSettings:
    """Return the settings of one layer; length: T in tokens.

    Raises ConfigurationError where they cannot work.
    """
    mechanism = _at(settings.get("mechanism", "softmax"), layer)
    heads = _at(settings.get("heads", 4), layer)
    head_dim = _at(settings.get("head_dim"), layer)
    kv_heads = _at(settings.get("kv_heads"), layer)
    if heads < 1 or (kv_heads is not None and kv_heads < 1):
        raise ConfigurationError(
            f"heads = {heads} and kv_heads = {kv_heads} leave nothing to attend with; "
            "each must be at least 1"
        )
    head_dim = settings["d_model"] // heads if head_dim is None else head_dim
    kv_heads = heads if kv_heads is None else kv_heads
    window = _at(settings.get("window_tokens"), layer)
    rank = _at(settings.get("rank"), layer) if mechanism == "low_rank" else 0
    if mechanism == "low_rank":
        rank = max(1, length // 4) if rank is None else rank
    if head_dim < 1:
        raise ConfigurationError(
            f"heads = {heads} leaves head_dim = {head_dim} of d_model = {settings['d_model']}; "
            "use fewer heads or set head_dim"
        )
    if heads % kv_heads:
        raise ConfigurationError(
            f"kv_heads = {kv_heads} does not divide heads = {heads}; choose a divisor"
        )
    if mechanism == "low_rank" and causal:
        raise ConfigurationError(
            'mechanism "low_rank" mixes all tokens and is not defined for a causal task; '
            'choose "softmax" or "linear"'
        )
    if rank > length:
        raise ConfigurationError(
            f"rank = {rank} exceeds the {length} tokens of a sequence; choose at most {length}"
        )
    return LayerSettings(
        mechanism=mechanism,
        heads=heads,
        head_dim=head_dim,
        kv_heads=kv_heads,
        temperature=_per_head(_at(settings.get("temperature", 1.0), layer), heads),
        decay=_per_head(_at(settings.get("decay", 0.0), layer), heads),
        window_tokens=None if window is None else _per_head(window, heads),
        attention_dropout=float(_at(settings.get("attention_dropout", 0.0), layer)),
        rank=rank,
    )


def _at(value: Any, layer: int) -> Any:
    """Return a knob's value for one layer: itself, or its entry where given per layer."""
    return value[layer] if isinstance(value, list | tuple) else value


def _per_head(value: Any, heads: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * heads
