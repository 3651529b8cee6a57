"""A transformer for one particle and one example at a time, around the scalar attention.

Pre-norm blocks without biases, norms without gains, exact GELU, a mean over tokens or an answer at
each. It reads a particle's settings as a space file gives them, and weights by the names and
(in, out) shapes that storage gives them; it shares no code with the models that it checks.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from scalar_attention import (
    block_low_rank_attention,
    linear_attention,
    low_rank_attention,
    retention,
    softmax_attention,
    turned,
)
from torch import Tensor

Masks = Mapping[tuple[int, str], Tensor]  # (layer, site) -> what multiplies it, (B, ...)

FORMS: Mapping[str, Callable[..., Tensor]] = {  # mechanism -> its scalar form
    "softmax": softmax_attention,
    "top_k": softmax_attention,
    "sparse": softmax_attention,
    "talking_heads": softmax_attention,
    "linear": linear_attention,
    "retention": retention,
    "low_rank": low_rank_attention,
    "block_low_rank": block_low_rank_attention,
}


@dataclass(frozen=True)
class Shapes:
    """length: T. causal: no token sees later ones. per_token: one answer for each token."""

    length: int
    causal: bool
    per_token: bool


def logits(
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    shapes: Shapes,
    inputs: Tensor,
    masks: Masks,
    epsilon: float = 0.0,
) -> Tensor:
    """Return (B, outputs) or (B, T, outputs); inputs: (B, T) ids or (B, T, features)."""
    answers = []
    for b, example in enumerate(inputs):
        table = weights["embedding"]
        rows = [table[token] if token.dim() == 0 else token @ table for token in example]
        x = [row + place(settings, weights, t) for t, row in enumerate(rows)]
        for layer in range(settings["layers"]):
            own = {site: mask[b] for (index, site), mask in masks.items() if index == layer}
            x = block(layer, settings, weights, shapes, x, own, epsilon)
        x = [norm(row) for row in x]
        pooled = x if shapes.per_token else [sum(x[1:], x[0]) / len(x)]
        answered = [row @ weights["head"] + weights["head_bias"] for row in pooled]
        answers.append(torch.stack(answered) if shapes.per_token else answered[0])
    return torch.stack(answers)


def place(settings: Mapping[str, Any], weights: Mapping[str, Tensor], t: int) -> Tensor:
    """Return what token t, from 0, has added to its embedding: (C,)."""
    width = settings["d_model"]
    kind = settings.get("positions", "learned")
    if kind == "learned":
        return weights["positions"][t]
    row = torch.zeros(width, dtype=torch.float64)
    if kind == "sinusoidal":  # Vaswani et al. (2017), section 3.5
        for i in range(width):
            angle = t / 10_000.0 ** ((i - i % 2) / width)
            row[i] = (math.cos(angle) if i % 2 else math.sin(angle)) / math.sqrt(width)
    return row


def block(
    layer: int,
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    shapes: Shapes,
    x: list[Tensor],
    masks: Mapping[str, Tensor],
    epsilon: float,
) -> list[Tensor]:
    """Return T rows of width C from T rows of width C."""
    prefix = f"blocks.{layer}"
    attended = attention(
        layer, settings, weights, shapes, [norm(row) for row in x], masks, epsilon
    )
    x = [row + masked(attended[t], masks.get("attention output"), t) for t, row in enumerate(x)]
    inner = [gelu(norm(row) @ weights[f"{prefix}.expand"]) for row in x]
    outer = [row @ weights[f"{prefix}.contract"] for row in inner]
    return [row + masked(outer[t], masks.get("feedforward output"), t) for t, row in enumerate(x)]


def attention(
    layer: int,
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    shapes: Shapes,
    x: list[Tensor],
    masks: Mapping[str, Tensor],
    epsilon: float,
) -> list[Tensor]:
    """Return T rows of width C: heads side by side, mapped back."""
    prefix = f"blocks.{layer}.attention"
    mechanism = at(settings, "mechanism", layer, "softmax")
    heads = at(settings, "heads", layer, 4)
    width = at(settings, "head_dim", layer, settings["d_model"] // heads)
    shared = at(settings, "kv_heads", layer, heads)
    q = split([row @ weights[f"{prefix}.query"] for row in x], heads, width)
    k = split([row @ weights[f"{prefix}.key"] for row in x], shared, width)
    v = split([row @ weights[f"{prefix}.value"] for row in x], shared, width)
    if settings.get("positions") == "rotary":
        base = settings.get("rope_base", 10_000.0)
        q, k = (
            torch.stack(
                [torch.stack([turned(row, t, base) for t, row in enumerate(head)]) for head in x]
            )
            for x in (q, k)
        )
    start = f"{prefix}."
    own = {n.removeprefix(start): value for n, value in weights.items() if n.startswith(start)}
    temperature = each(at(settings, "temperature", layer, 1.0), heads)
    top = at(settings, "top_k", layer, max(1, shapes.length // 4))
    given = {
        "temperature": learned_temperature(prefix, weights, x, temperature),
        "decay": each(at(settings, "decay", layer, 0.0), heads),
        "window": each(at(settings, "window_tokens", layer, shapes.length), heads),
        "causal": shapes.causal,
        "dropout": masks.get("weights"),
        "unit_scale": own.get("qk_scale"),
        "cap": at(settings, "softcap", layer, None),
        "sink": sink(at(settings, "sink", layer, "none"), own.get("sink"), heads),
        "top": top if mechanism == "top_k" else None,
        "alpha": at(settings, "entmax_alpha", layer, 1.5) if mechanism == "sparse" else None,
        "mix": (own["mix_scores"], own["mix_weights"]) if "mix_scores" in own else None,
        "dilation": each(at(settings, "dilation", layer, 1), heads),
        "span": span(own.get("span"), shapes.length),
        "shorten_keys": own.get("project_keys"),
        "shorten_values": own.get("project_values"),
        "forgetting": each(at(settings, "forgetting", layer, 1.0), heads),
        "epsilon": epsilon,
        **blocks(at(settings, "block_tokens", layer, shapes.length), layer, shapes.length),
    }
    form = FORMS[mechanism]
    known = signature(form).parameters  # what else is given does not act on it
    result = form(q, k, v, **{name: value for name, value in given.items() if name in known})
    if "heads" in masks:
        kept = sum(float(mask) > 0 for mask in masks["heads"])
        result = torch.stack(
            [result[h] * (heads / kept if masks["heads"][h] > 0 else 0.0) for h in range(heads)]
        )
    rows = [torch.cat([result[h, t] for h in range(heads)]) for t in range(shapes.length)]
    return [row @ weights[f"{prefix}.output"] for row in rows]


def learned_temperature(
    prefix: str, weights: Mapping[str, Tensor], x: list[Tensor], fixed: list[float]
) -> list[float] | Tensor:
    """Return what heads learned, (H,), or tokens set, (H, T), in place of what is fixed."""
    if f"{prefix}.log_temperature" in weights:
        return [torch.exp(value) for value in weights[f"{prefix}.log_temperature"]]
    if f"{prefix}.token_temperature" not in weights:
        return fixed
    table, bias = (weights[f"{prefix}.token_temperature{end}"] for end in ("", "_bias"))
    return torch.stack(
        [
            torch.stack([torch.log1p(torch.exp((row * table[:, h]).sum() + bias[h])) for row in x])
            for h in range(len(fixed))
        ]
    )


def sink(kind: str, learned: Tensor | None, heads: int) -> Tensor | None:
    """Return the heads' additional logits, or None."""
    return torch.zeros(heads, dtype=torch.float64) if kind == "zero" else learned


def span(learned: Tensor | None, length: int) -> Tensor | None:
    """Return how many tokens far heads look, learned as a fraction of all, or None."""
    return None if learned is None else abs(learned) * length


def blocks(size: int, layer: int, length: int) -> dict[str, int]:
    """Return block and shift: by half a block in odd layers, unless one block holds all tokens."""
    return {"block": size, "shift": size // 2 if layer % 2 and size < length else 0}


def norm(x: Tensor) -> Tensor:
    """Return (x - mean) / sqrt(variance + 1e-5): Ba et al. (2016), eq. 4, without gains."""
    mean = x.sum() / len(x)
    variance = ((x - mean) ** 2).sum() / len(x)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def gelu(x: Tensor) -> Tensor:
    """Return x Phi(x): Hendrycks & Gimpel (2016), section 2, by the error function."""
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def split(rows: list[Tensor], heads: int, width: int) -> Tensor:
    """Return (heads, T, width) from T rows that hold the heads side by side."""
    return torch.stack(
        [torch.stack([row[h * width : (h + 1) * width] for row in rows]) for h in range(heads)]
    )


def masked(row: Tensor, mask: Tensor | None, t: int) -> Tensor:
    """Return the row with its dropout factors, mask: (T, C)."""
    return row if mask is None else row * mask[t]


def at(settings: Mapping[str, Any], name: str, layer: int, default: Any) -> Any:
    """Return a setting in one layer: given once, or as a list with one entry a layer."""
    value = settings.get(name, default)
    return value[layer] if isinstance(value, list) else value


def each(value: Any, heads: int) -> list[Any]:
    """Return one value a head: given once, or as a list already."""
    return value if isinstance(value, list) else [value] * heads
