"""One particle as a plain `nn.Module` of its true size: what a swarm's result is exported as.

Written apart from the batched form, with torch's own layers; the bias on the scores is the one
thing that both take from `pso_attn.attention`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, elu, gelu, scaled_dot_product_attention

from pso_attn.attention import LayerSettings, Noise
from pso_attn.attention.softmax import score_bias
from pso_attn.models.info import TaskInfo
from pso_attn.models.settings import TransformerSettings


class Attention(nn.Module):
    """Multi-head self-attention of one layer."""

    bias: Tensor  # (H, T, T)
    temperature: Tensor  # (H, 1, 1)

    def __init__(self, layer: LayerSettings, info: TaskInfo, d_model: int) -> None:
        """Make the maps of true size."""
        super().__init__()
        self.layer, self.causal = layer, info.causal
        kv_dim = layer.kv_heads * layer.head_dim
        self.query = nn.Linear(d_model, layer.inner_dim, bias=False)
        self.key = nn.Linear(d_model, kv_dim, bias=False)
        self.value = nn.Linear(d_model, kv_dim, bias=False)
        self.output = nn.Linear(layer.inner_dim, d_model, bias=False)
        if layer.mechanism == "low_rank":
            self.project_keys = nn.Linear(info.length, layer.rank, bias=False)
            self.project_values = nn.Linear(info.length, layer.rank, bias=False)
        temperature = torch.tensor(layer.temperature, dtype=torch.float64)[:, None, None]
        self.register_buffer("temperature", temperature, persistent=False)
        bias = score_bias(layer, info.length, info.causal)  # (H, T, T)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """Return (B, T, C) from (B, T, C)."""
        layer = self.layer
        q = self.query(x).unflatten(-1, (layer.heads, -1)).transpose(1, 2)  # (B, H, T, d)
        repeats = layer.heads // layer.kv_heads
        k, v = (
            m(x).unflatten(-1, (layer.kv_heads, -1)).transpose(1, 2).repeat_interleave(repeats, 1)
            for m in (self.key, self.value)
        )
        if layer.mechanism == "linear":
            heads = self._linear(q, k, v)
        elif layer.mechanism == "low_rank":
            k = self.project_keys(k.transpose(-1, -2)).transpose(-1, -2)
            v = self.project_values(v.transpose(-1, -2)).transpose(-1, -2)
            heads = self._softmax(q, k, v, None, noise)
        else:
            heads = self._softmax(q, k, v, self.bias.to(q), noise)
        joined: Tensor = self.output(heads.transpose(1, 2).flatten(-2))
        return joined

    def _softmax(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, noise: Noise | None
    ) -> Tensor:
        q = q / self.temperature.to(q)
        if noise is None:
            rate = self.layer.attention_dropout if self.training else 0.0
            return scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=rate)
        scores = q @ k.transpose(-1, -2) / self.layer.head_dim**0.5
        weights = (scores if bias is None else scores + bias).softmax(-1)
        return noise.drop(weights[None])[0] @ v

    def _linear(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = elu(q) + 1, elu(k) + 1
        products = q @ k.transpose(-1, -2)
        if self.causal:
            products = products.tril()
        return products @ v / (products.sum(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    """Attention and a feed-forward part, each behind a norm and beside the residual stream."""

    def __init__(self, settings: TransformerSettings, index: int, info: TaskInfo) -> None:
        """Make the block of layer `index`."""
        super().__init__()
        self.rate = settings.dropout
        self.attention = Attention(settings.attention[index], info, settings.d_model)
        self.norm = nn.LayerNorm(settings.d_model, elementwise_affine=False)
        self.expand = nn.Linear(settings.d_model, settings.feedforward, bias=False)
        self.contract = nn.Linear(settings.feedforward, settings.d_model, bias=False)

    def forward(self, x: Tensor, noise: tuple[Noise | None, Noise | None, Noise | None]) -> Tensor:
        """Return (B, T, C) from (B, T, C); noise: for attention weights and both outputs."""
        x = x + self._dropped(self.attention(self.norm(x), noise[0]), noise[1])
        return x + self._dropped(self.contract(gelu(self.expand(self.norm(x)))), noise[2])

    def _dropped(self, x: Tensor, noise: Noise | None) -> Tensor:
        if noise is None:
            return dropout(x, self.rate, self.training)
        flat = x.flatten(0, 1)  # (B·T, C): the swarm's own coordinates
        return noise.drop(flat[None])[0].view_as(x)


class Transformer(nn.Module):
    """A pre-norm transformer for classification, or for the next token at every position."""

    def __init__(self, settings: TransformerSettings, info: TaskInfo) -> None:
        """Make the model with torch's own start; `load_swarm_parameters` fills it."""
        super().__init__()
        self.settings, self.info = settings, info
        if info.tokens is not None:
            self.embedding: nn.Module = nn.Embedding(info.tokens, settings.d_model)
        else:
            self.embedding = nn.Linear(info.features or 0, settings.d_model, bias=False)
        self.positions = nn.Parameter(torch.zeros(info.length, settings.d_model))
        self.blocks = nn.ModuleList(Block(settings, i, info) for i in range(settings.layers))
        self.norm = nn.LayerNorm(settings.d_model, elementwise_affine=False)
        self.head = nn.Linear(settings.d_model, info.outputs)

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits (B, outputs) or (B, T, outputs).

        inputs: (B, T) ids or (B, T, features). keys: int32 (sites, 1), to drop what a swarm drops
        for the same seed and step; None for torch's own dropout, while in training mode.
        """
        x = self.embedding(inputs) + self.positions
        for index, block in enumerate(self.blocks):
            x = block(x, self._noise(index, keys))
        x = self.norm(x)
        logits: Tensor = self.head(x if self.info.per_token else x.mean(1))
        return logits

    def load_swarm_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """Take one particle's parameters as `FlatStorage.true_parameters` names them."""
        state = {}
        for name, value in parameters.items():
            if name == "positions":
                state[name] = value
            elif name == "head_bias":
                state["head.bias"] = value
            elif name.endswith(("project_keys", "project_values")) or (
                name == "embedding" and self.info.tokens is not None
            ):
                state[f"{name}.weight"] = value  # stored as torch stores it
            else:
                state[f"{name}.weight"] = value.T.contiguous()  # (in, out) -> (out, in)
        self.load_state_dict(state)

    def _noise(self, index: int, keys: Tensor | None) -> tuple[Noise | None, ...]:
        if keys is None:
            return (None, None, None)
        rates = (
            self.settings.attention[index].attention_dropout,
            self.settings.dropout,
            self.settings.dropout,
        )
        return tuple(
            Noise(keys[3 * index + site], self.positions.new_full((1,), rate)) if rate else None
            for site, rate in enumerate(rates)
        )
