"""One particle as a plain `nn.Module` of its true size: what a swarm's result is exported as.

Written apart from the batched form, with torch's own layers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu

from pso_attn.attention import Noise
from pso_attn.attention.positions import sinusoids
from pso_attn.counter import DropRates
from pso_attn.models.info import TaskInfo, real_tokens
from pso_attn.models.plain import PlainModel
from pso_attn.models.plain_attention import BY_HEAD, Attention, BlockNoise
from pso_attn.models.settings import TransformerSettings


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

    def forward(self, x: Tensor, noise: BlockNoise | None, real: Tensor | None = None) -> Tensor:
        """Return (B, T, C) from (B, T, C).

        noise: a swarm's, or None for torch's own dropout. real: (B, T), False for padding.
        """
        attended = self.attention(self.norm(x), noise, real)
        x = x + (self._dropped(attended, noise.attended) if noise else self._own(attended))
        expanded = self.contract(gelu(self.expand(self.norm(x))))
        return x + (self._dropped(expanded, noise.expanded) if noise else self._own(expanded))

    def _own(self, x: Tensor) -> Tensor:
        return dropout(x, self.rate, self.training)

    def _dropped(self, x: Tensor, noise: Noise | None) -> Tensor:
        if noise is None:
            return x
        flat = x.flatten(0, 1)  # (B·T, C): the swarm's own coordinates
        return noise.drop(flat[None])[0].view_as(x)


def _mean(x: Tensor, real: Tensor) -> Tensor:
    """Return the mean of each example's real tokens, (B, C) of (B, T, C); real: (B, T, 1)."""
    return x.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)


class Transformer(PlainModel):
    """A pre-norm transformer for classification, or for answers at every position or the last."""

    positions: Tensor | None  # (T, C)
    settings: TransformerSettings

    def __init__(self, settings: TransformerSettings, info: TaskInfo) -> None:
        """Make the model with torch's own start; `load_swarm_parameters` fills it."""
        super().__init__(settings, info)
        if info.tokens is not None:
            self.embedding: nn.Module = nn.Embedding(info.tokens, settings.d_model)
        else:
            self.embedding = nn.Linear(info.features or 0, settings.d_model, bias=False)
        self._place(settings)
        self.blocks = nn.ModuleList(Block(settings, i, info) for i in range(settings.layers))
        self.norm = nn.LayerNorm(settings.d_model, elementwise_affine=False)
        self.head = nn.Linear(settings.d_model, info.outputs)

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits (B, outputs), (B, T, outputs) or (B, horizon, outputs).

        inputs: as `TaskInfo` says. keys: int32 (sites, 1), to drop what a swarm drops
        for the same seed and step; None for torch's own dropout, while in training mode.
        """
        x, real = self._embedded(inputs), real_tokens(inputs, self.info)
        if self.positions is not None:
            x = x + self.positions.to(x)
        for index, block in enumerate(self.blocks):
            x = block(x, self._noise(index, keys), real)
        x = self.norm(x)
        if self.info.horizon:
            x = x[:, -self.info.horizon :]
        elif not self.info.per_token:
            x = x.mean(1) if real is None else _mean(x, real[..., None])
        logits: Tensor = self.head(x)
        return logits

    def _embedded(self, inputs: Tensor) -> Tensor:
        """Return (B, T, C) in the weights' own numbers, whatever products are taken in."""
        if self.info.weighted:
            rows: Tensor = self.embedding(inputs[..., 0].long())
            return rows * inputs[..., 1:]
        embedded: Tensor = self.embedding(inputs)
        return embedded.to(self.head.weight.dtype)

    def _place(self, settings: TransformerSettings) -> None:
        """Make what is added to embeddings: a parameter, a constant, or nothing."""
        length, width = self.info.length, settings.d_model
        if settings.positions == "learned":
            self.positions = nn.Parameter(torch.zeros(length, width))
        else:
            fixed = sinusoids(length, width) if settings.positions == "sinusoidal" else None
            self.register_buffer("positions", fixed, persistent=False)

    def load_swarm_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """Take one particle's parameters as `FlatStorage.true_parameters` names them."""
        state = {}
        for name, value in parameters.items():
            if name == "positions" or name.endswith(BY_HEAD):
                state[name] = value
            elif name.endswith("_bias"):
                state[f"{name.removesuffix('_bias')}.bias"] = value
            elif name.endswith(("project_keys", "project_values")) or (
                name == "embedding" and self.info.tokens is not None
            ):
                state[f"{name}.weight"] = value  # stored as torch stores it
            else:
                state[f"{name}.weight"] = value.T.contiguous()  # (in, out) -> (out, in)
        self.load_state_dict(state)

    def _noise(self, index: int, keys: Tensor | None) -> BlockNoise | None:
        """Return what a swarm would drop in one block: sites as in `SwarmTransformer`."""
        if keys is None:
            return None

        def drawn(site: int, rate: float) -> Noise | None:
            if not rate:
                return None
            return Noise(keys[site], DropRates.of(self.head.weight.new_full((1,), rate)))

        drops, rate = self.settings.attention[index].drops, self.settings.dropout
        return BlockNoise(
            weights=drawn(3 * index, drops.weights),
            heads=drawn(3 * self.settings.layers + index, drops.heads),
            attended=drawn(3 * index + 1, rate),
            expanded=drawn(3 * index + 2, rate),
        )
