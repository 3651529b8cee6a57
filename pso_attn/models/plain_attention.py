"""One particle's attention as a plain `nn.Module` of its true size.

Written apart from the batched form, with torch's own layers; what is added to the scores is the
one thing that both take from `pso_attn.attention`.
"""

from dataclasses import dataclass
from math import isinf

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    dropout,
    elu,
    normalize,
    pad,
    scaled_dot_product_attention,
    softplus,
)

from pso_attn.attention import LayerSettings, Noise
from pso_attn.attention.block_low_rank import far_and_near
from pso_attn.attention.drops import kept_share
from pso_attn.attention.kinds import PAIRING
from pso_attn.attention.padding import hiding
from pso_attn.attention.retention import retained
from pso_attn.attention.sharpness import COLDEST
from pso_attn.attention.span import ramp_tokens
from pso_attn.models.info import TaskInfo

# what each head learns, one number each, or one for each other head
BY_HEAD = ("qk_scale", "log_temperature", "span", "sink", "mix_scores", "mix_weights")


@dataclass(frozen=True)
class BlockNoise:
    """The dropout that a swarm would draw in one block; None where nothing is dropped."""

    weights: Noise | None
    heads: Noise | None
    attended: Noise | None
    expanded: Noise | None


class Attention(nn.Module):
    """Multi-head self-attention of one layer."""

    bias: Tensor  # (1, H or 1, T, T), where some tokens are out of sight
    temperature: Tensor  # (H, 1, 1)
    turns: Tensor  # (2, T, d/2)
    unseen: Tensor  # (T, T + blocks · r)
    kept: Tensor  # (H, T, T)
    qk_scale: Tensor  # (H,), like the next three
    log_temperature: Tensor
    span: Tensor
    sink: Tensor
    mix_scores: Tensor  # (H, H), like the one below
    mix_weights: Tensor

    def __init__(self, layer: LayerSettings, info: TaskInfo, d_model: int) -> None:
        """Make the maps of true size."""
        super().__init__()
        self.layer, self.causal = layer, info.causal
        kv_dim = layer.kv_heads * layer.head_dim
        self.query = nn.Linear(d_model, layer.inner_dim, bias=False)
        self.key = nn.Linear(d_model, kv_dim, bias=False)
        self.value = nn.Linear(d_model, kv_dim, bias=False)
        self.output = nn.Linear(layer.inner_dim, d_model, bias=False)
        if layer.rank:
            self.project_keys = nn.Linear(layer.block or info.length, layer.rank, bias=False)
            self.project_values = nn.Linear(layer.block or info.length, layer.rank, bias=False)
        self._learn(info.length, d_model)
        temperature = torch.tensor(layer.sharpness.temperature, dtype=torch.float64)[:, None, None]
        self.register_buffer("temperature", temperature, persistent=False)
        self.is_whole = layer.sight.is_whole(info.length)
        if layer.mechanism in PAIRING and not self.is_whole:
            bias = layer.sight.bias(info.length, info.causal)[None]  # torch's fused kernels take
            self.register_buffer("bias", bias, persistent=False)  # no (H, T, T)
        if layer.rope_base is not None:
            turns = _turns(info.length, layer.head_dim, layer.rope_base)
            self.register_buffer("turns", turns, persistent=False)
        if layer.block:
            unseen = ~far_and_near(info.length, layer.block, layer.rank, info.causal)
            self.register_buffer("unseen", unseen, persistent=False)
        if layer.mechanism == "retention":
            kept = retained(layer.forgetting, info.length)
            self.register_buffer("kept", kept, persistent=False)

    def forward(
        self, x: Tensor, noise: BlockNoise | None = None, real: Tensor | None = None
    ) -> Tensor:
        """Return (B, T, C) from (B, T, C); real: (B, T), False for padding."""
        layer = self.layer
        q = self.query(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)  # (B, H, T, d)
        if layer.rope_base is not None:
            turn = torch.complex(*self.turns.to(_precise(q)))
            q = _turned(q, turn)
        repeats = layer.heads // layer.kv_heads
        k, v = (
            m(x).unflatten(-1, (layer.kv_heads, -1)).transpose(1, 2).repeat_interleave(repeats, 1)
            for m in (self.key, self.value)
        )
        if layer.rope_base is not None:
            k = _turned(k, turn)
        if layer.mechanism == "linear":
            heads = self._linear(q, k, v, real)
        elif layer.mechanism == "low_rank":
            k, v = _real_ones(k, real), _real_ones(v, real)
            k = self.project_keys(k.transpose(-1, -2)).transpose(-1, -2)
            v = self.project_values(v.transpose(-1, -2)).transpose(-1, -2)
            q = q / self.temperature.to(q)
            heads = self._weighted(q, k, v, None, noise)
        elif layer.mechanism == "retention":
            heads = self._retained(q, _real_ones(k, real), v)
        elif layer.mechanism == "block_low_rank":
            heads = self._by_block(x, q, k, v, noise, real)
        else:
            q, k = self._sharpened(x, q, k)
            is_known = self.is_whole and real is None  # to SDPA, whose kernels need no mask then
            bias = None if is_known else _hiding(self._in_sight(q), real, real)
            heads = self._weighted(q, k, v, bias, noise, is_causal=is_known and self.causal)
        heads = self._without_dropped(heads, noise)
        joined: Tensor = self.output(heads.transpose(1, 2).flatten(-2))
        return joined

    def _without_dropped(self, heads: Tensor, noise: BlockNoise | None) -> Tensor:
        rate = self.layer.drops.heads
        if noise is not None:
            return heads if noise.heads is None else noise.heads.drop_heads(heads[None])[0]
        if not (self.training and rate):
            return heads
        factors = kept_share(dropout(heads.new_ones(heads.shape[:2]), rate))  # (B, H)
        kept: Tensor = heads * factors[..., None, None]
        return kept

    def _in_sight(self, q: Tensor) -> Tensor:
        """Return what is added to scores, of no more axes than (1, H, T, T), in q's dtype."""
        if not self.is_whole:
            return self.bias.to(q)
        return _later(q) if self.causal else q.new_zeros(())

    def _learn(self, length: int, d_model: int) -> None:
        """Make what the layer learns beside its maps."""
        for own in self.layer.learned(length, d_model):
            if own.name in BY_HEAD:
                self.register_parameter(own.name, nn.Parameter(torch.zeros(own.shape)))
        if self.layer.sharpness.learned == "token":
            self.token_temperature = nn.Linear(d_model, self.layer.heads)

    def _sharpened(self, x: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys whose products, times the scale, are scores before the cap."""
        sharpness = self.layer.sharpness
        if sharpness.qk_norm:
            q, k = normalize(q, dim=-1) * self.qk_scale[:, None, None], normalize(k, dim=-1)
        if sharpness.learned == "head":
            return q / self.log_temperature.exp()[:, None, None], k
        if sharpness.learned == "token":
            temperature = softplus(self.token_temperature(x), threshold=40.0)  # (B, T, H)
            temperature = temperature.clamp(min=COLDEST)
            return q / temperature.transpose(1, 2)[..., None], k
        return q / self.temperature.to(q), k

    def _weighted(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None,
        noise: BlockNoise | None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return heads' outputs (B, H, T, d); is_causal: no bias, but later keys are hidden."""
        cap, sink = self.layer.sharpness.softcap, self.layer.sink.kind
        scale = 1.0 if self.layer.sharpness.qk_norm else self.layer.head_dim**-0.5
        is_plain = self.layer.mechanism in ("softmax", "low_rank", "block_low_rank")
        is_plain = is_plain and isinf(cap) and sink == "none" and not self.layer.span.learned
        if noise is None and is_plain:
            rate = self.layer.drops.weights if self.training else 0.0
            return scaled_dot_product_attention(q, k, v, bias, rate, is_causal, scale=scale)
        scores = q @ k.transpose(-1, -2) * scale
        bias = _later(q) if is_causal else bias
        if not isinf(cap):
            scores = cap * torch.tanh(scores / cap)
        weights = self._normalised(scores, bias)
        if noise is None:
            weights = dropout(weights, self.layer.drops.weights, self.training)
        elif noise.weights is not None:
            weights = noise.weights.drop(weights[None])[0]
        attended: Tensor = weights @ v
        return attended

    def _normalised(self, scores: Tensor, bias: Tensor | None) -> Tensor:
        """Return weights (B, H, T, keys) from products of that shape."""
        mechanism, sink = self.layer.mechanism, self.layer.sink.kind
        if mechanism == "talking_heads":
            scores = torch.einsum("bhij,hg->bgij", scores, self.mix_scores)
        scores = scores if bias is None else scores + bias
        if self.layer.span.learned:
            scores = scores + self._faded(scores.shape[-1])
        if mechanism == "sparse":
            alpha = self.layer.entmax_alpha  # whose threshold needs digits
            return _entmax(scores.to(_precise(scores)), alpha).to(scores.dtype)
        if mechanism == "top_k":
            kept = min(self.layer.top_k, scores.shape[-1])
            least = scores.detach().sort(-1, descending=True).values[..., kept - 1, None]
            scores = scores.where(scores >= least, float("-inf"))
        weights = scores.softmax(-1)
        if sink != "none":  # a_ij = softmax_j(s_ij) · (1 − the share of the sink)
            logit = self.sink[:, None] if sink == "learned" else 0.0
            weights = weights * (scores.logsumexp(-1) - logit).sigmoid()[..., None]
        if mechanism == "talking_heads":
            weights = torch.einsum("bhij,hg->bgij", weights, self.mix_weights)
        return weights

    def _faded(self, length: int) -> Tensor:
        """Return the logarithm of what the learned spans leave of each pair, (H, T, T)."""
        place = torch.arange(length, device=self.span.device)
        ramp, distance = ramp_tokens(length), (place[:, None] - place).abs()
        left = (ramp + self.span.abs()[:, None, None] * length - distance) / ramp
        left = left.clamp(0.0, 1.0)
        return left.where(left > 0, 1.0).log().masked_fill(left == 0, float("-inf"))

    def _by_block(
        self,
        x: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        noise: BlockNoise | None,
        real: Tensor | None,
    ) -> Tensor:
        """Return heads' outputs from near tokens and far blocks' rows."""
        k, v = _real_ones(k, real), _real_ones(v, real)
        block, rows = self.layer.block, []
        for values, project in ((k, self.project_keys), (v, self.project_values)):
            parts = [
                pad(part, (0, 0, 0, block - part.shape[-2])) for part in values.split(block, -2)
            ]
            summed = [project(part.transpose(-1, -2)).transpose(-1, -2) for part in parts]
            rows.append(torch.cat([values, *summed], -2))
        q, k = self._sharpened(x, q, rows[0])
        bias = torch.zeros_like(self.unseen, dtype=x.dtype)
        bias = bias.masked_fill(self.unseen, float("-inf"))
        there = real
        if real is not None:
            parts = [part.any(-1, keepdim=True) for part in real.split(block, -1)]
            there = torch.cat([real, *(part.expand(-1, self.layer.rank) for part in parts)], -1)
        return self._weighted(q, k, rows[1], _hiding(bias, real, there), noise)

    def _retained(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        products = (q @ k.transpose(-1, -2)) / self.layer.head_dim**0.5
        out: Tensor = products * self.kept.to(q) @ v
        return out

    def _linear(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None) -> Tensor:
        q, k = _positive(q), _real_ones(_positive(k), real)
        products = q @ k.transpose(-1, -2)
        if self.causal:
            products = products.tril()
        return products @ v / (products.sum(-1, keepdim=True) + 1e-6)


def _positive(x: Tensor) -> Tensor:
    """Return elu(x) + 1, in bf16 by way of float32: there it would cancel."""
    return (elu(x.to(_precise(x))) + 1).to(x.dtype)


def _real_ones(x: Tensor, real: Tensor | None) -> Tensor:
    """Return x (B, H, T, d) with the vectors of padding zero."""
    return x if real is None else x.masked_fill(~real[:, None, :, None], 0.0)


def _later(q: Tensor) -> Tensor:
    """Return −∞ where a key comes after its query, else 0: (T, T)."""
    return q.new_full((q.shape[-2], q.shape[-2]), float("-inf")).triu(1)


def _hiding(bias: Tensor, real: Tensor | None, there: Tensor | None) -> Tensor:
    """Return bias (…, T, keys), for each example (B, H, T, keys) where some tokens are padding.

    real: (B, T) of queries. there: (B, keys), which keys stand for a real token.
    """
    if real is None or there is None:
        return bias
    return bias + hiding(real[:, None, :, None], there[:, None, None]).to(bias)


def _turns(length: int, width: int, base: float) -> Tensor:
    """Return the two parts of e^(i t base^(−2c/d)): cosines and sines, float64 (2, T, d/2)."""
    rate = base ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), rate)
    return torch.stack([angle.cos(), angle.sin()])


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    """Return (B, H, T, d), columns c and c + d/2 being a complex number's two parts.

    turn: complex (T, d/2), of at least float32: there are no complex numbers in bf16.
    """
    pairs = torch.complex(*x.to(turn.real.dtype).chunk(2, -1)) * turn
    return torch.cat([pairs.real, pairs.imag], -1).to(x.dtype)


def _precise(x: Tensor) -> torch.dtype:
    """Return the type of x, or float32 where that has fewer digits."""
    return torch.promote_types(x.dtype, torch.float32)


def _entmax(scores: Tensor, alpha: float) -> Tensor:
    """Return α-entmax of the last axis: the threshold by bisection, its gradient implicitly."""
    scaled, power = scores * (alpha - 1), 1 / (alpha - 1)
    with torch.no_grad():
        high = scaled.amax(-1, keepdim=True)
        low = high - 1
        for _ in range(60):
            middle = (low + high) / 2
            is_low = (scaled - middle).clamp(min=0).pow(power).sum(-1, keepdim=True) >= 1
            low, high = middle.where(is_low, low), high.where(is_low, middle)
        above = (scaled - low).clamp(min=0)
        slope = above.pow(power - 1).masked_fill(above == 0, 0.0).sum(-1, keepdim=True) * power
    excess = (scaled - low).clamp(min=0).pow(power).sum(-1, keepdim=True) - 1
    return (scaled - (low + excess / slope)).clamp(min=0).pow(power)
