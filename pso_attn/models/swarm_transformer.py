"""A whole swarm of transformers as one model: tensors carry a leading particle axis.

Particles are sorted by the shape of their attention. Everything outside attention is one batched
product over all of them; inside, one kernel call serves each run of particles that agree on
mechanism, heads, head width and rank. Nothing is padded.

Stacks of matrices are multiplied by `torch.bmm`: `@` folds and unfolds them first, and autograd
goes through five more nodes for each product, which is a tenth of a step of very small models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn.functional import embedding

from pso_attn.attention import MECHANISMS, Kernel, LayerSettings, Noise
from pso_attn.attention.alike import by_gemm
from pso_attn.attention.blend import Blend
from pso_attn.attention.kinds import PAIRING
from pso_attn.attention.learned import LearnedTensors
from pso_attn.attention.padding import Padding
from pso_attn.attention.pairs import side_by_side
from pso_attn.attention.positions import sinusoids
from pso_attn.attention.projected import by_heads, by_tokens
from pso_attn.counter import DropRates, dropout_scale
from pso_attn.models.feedforward import fed_forward
from pso_attn.models.info import TaskInfo, real_tokens
from pso_attn.models.norm import normed
from pso_attn.models.parameters import parameters_of
from pso_attn.models.settings import TransformerSettings
from pso_attn.models.shares import Shares
from pso_attn.models.storage import Layout
from pso_attn.models.swarm import Swarm
from pso_attn.models.transformer import Transformer

# attention weights, attention's output, the MLP's output; one more a layer, for whole heads,
# comes after those of all layers
SITES_PER_LAYER = 3


@dataclass(frozen=True, eq=False)
class _Group:
    """Particles start … stop-1 of one layer: they share a kernel."""

    start: int
    stop: int
    layer: LayerSettings
    kernel: Kernel
    in_token_order: bool  # whether the kernel takes q, k and v as the projection leaves them
    dropout: DropRates | None  # None where nobody drops attention weights
    head_dropout: DropRates | None  # None where nobody drops heads


@dataclass(frozen=True, eq=False)
class _Projection:
    """Particles start … stop-1 of one layer: their heads are as wide together.

    columns: (P, 1, 3 · inner), which column of the stored map each head uses, or None where
    every head has its own key and value. scale: of the columns, as the kernels want it, or None.
    """

    start: int
    stop: int
    columns: Tensor | None
    scale: Tensor | None
    groups: tuple[_Group, ...]


class SwarmTransformer(Swarm):
    """N transformers of one depth and width, of any attention, with flat storage.

    Kernel inputs are (P, B, H, T, d).
    """

    parameters_of = staticmethod(parameters_of)
    plain = Transformer
    settings: tuple[TransformerSettings, ...]

    def __init__(
        self,
        settings: Sequence[TransformerSettings],
        info: TaskInfo,
        weights: Tensor,
        layout: Layout,
    ) -> None:
        """Lay the parameters over `weights` (N, P), and prepare each group's kernels."""
        super().__init__(settings, info, weights, layout)
        self._positions = self._placed()
        self._dropout = _rates([s.dropout for s in settings] * 2 * settings[0].layers, weights)
        self._layers = [self._projections(index) for index in range(settings[0].layers)]
        self._shares = [self._shared(index) for index in range(settings[0].layers)]
        rows = torch.arange(len(settings), device=weights.device)
        self._first_token = (rows * (info.tokens or 0))[:, None]

    @property
    def sites(self) -> int:
        """How many places of the model draw dropout masks."""
        return (SITES_PER_LAYER + 1) * len(self._layers)

    def forward(self, inputs: Tensor, keys: Tensor | None = None) -> Tensor:
        """Return logits, as `Swarm.forward` does."""
        whole = self.storage.whole
        batch = inputs.shape[1]
        x = self._embedded(inputs)
        if self._positions is not None:
            learned = [segment.value for segment in self.storage.segments.get("positions", ())]
            x = x + self._positions(learned)[:, None]
        padding = self._padding(inputs)
        x = x.flatten(1, 2)  # (N, B·T, C)
        factors = self._dropped(tuple(x.shape[1:]), keys)
        for index, projections in enumerate(self._layers):
            prefix = f"blocks.{index}"
            attended = self._attended(index, projections, normed(x), keys, padding)
            x = x + (attended if factors is None else attended * factors[index, 0])
            x = fed_forward(
                x,
                whole(f"{prefix}.expand"),
                whole(f"{prefix}.contract"),
                None if factors is None else factors[index, 1],
            )
        x = normed(x)
        if not self.info.per_token:
            x = _mean(x.unflatten(1, (batch, -1)), padding)
        elif self.info.horizon:
            x = x.unflatten(1, (batch, -1))[:, :, -self.info.horizon :].flatten(1, 2)
        logits = by_gemm(torch.baddbmm, whole("head_bias")[:, None], x, whole("head"))
        return logits.unflatten(1, (batch, -1)) if self.info.per_token else logits

    def _embedded(self, inputs: Tensor) -> Tensor:
        """Return (N, B, T, C) in the weights' own numbers, whatever products are taken in."""
        table, count = self.storage.whole("embedding"), len(self)
        shape = (count, *inputs.shape[1:3], table.shape[-1])
        if self.info.tokens is not None:
            named = inputs[..., 0].long() if self.info.weighted else inputs
            ids = named.flatten(1, 2) + self._first_token  # (N, B·T), rows of all tables
            rows = embedding(ids, table.flatten(0, 1)).view(shape)
            return rows * inputs[..., 1:] if self.info.weighted else rows
        rows = torch.bmm(inputs.flatten(1, 2).expand(count, -1, -1), table)
        return rows.view(shape).to(table.dtype)

    def _padding(self, inputs: Tensor) -> Padding | None:
        """Return which tokens are padding, None on tasks without any."""
        real = real_tokens(inputs, self.info)
        return None if real is None else Padding.of(real.to(self.storage.weights))

    def _placed(self) -> Blend | None:
        """Return what is added to embeddings, (N, T, C), or None where nothing is."""
        kinds, like = [s.positions for s in self.settings], self.storage.weights
        if not {"learned", "sinusoidal"} & set(kinds):
            return None
        fixed = sinusoids(self.info.length, self.settings[0].d_model).to(like)
        constants = torch.stack([fixed * (kind == "sinusoidal") for kind in kinds])
        return Blend([kind == "learned" for kind in kinds], constants)

    def _dropped(self, shape: tuple[int, ...], keys: Tensor | None) -> Tensor | None:
        """Return the factors of the blocks' two outputs (layers, 2, N, *shape), drawn at once."""
        if keys is None or self._dropout is None:
            return None
        sites = keys[: SITES_PER_LAYER * len(self._layers)].unflatten(0, (-1, SITES_PER_LAYER))
        drawn = dropout_scale(sites[:, 1:].flatten(), self._dropout, shape)
        return drawn.view(-1, 2, len(self), *shape)

    def _attended(
        self,
        index: int,
        projections: tuple[_Projection, ...],
        x: Tensor,
        keys: Tensor | None,
        padding: Padding | None,
    ) -> Tensor:
        """Return the layer's attention output (N, B·T, C) for normed inputs of that shape."""
        maps = self.storage.segments[f"blocks.{index}.attention.qkv"]
        outputs = self.storage.segments[f"blocks.{index}.attention.output"]
        parts = _parted(x, [p.stop - p.start for p in projections])
        results, learned = [], iter(self._shares[index](x, x.shape[1] // self.info.length))
        for part, projection, qkv, output in zip(parts, projections, maps, outputs, strict=True):
            weight = qkv.value
            if projection.columns is not None:
                weight = weight.gather(2, projection.columns.expand(-1, weight.shape[1], -1))
            if projection.scale is not None:
                weight = weight * projection.scale
            sizes = [g.stop - g.start for g in projection.groups]
            projected = _parted(torch.bmm(part, weight), sizes)
            heads = [
                self._kernel(index, group, values, keys, next(learned), padding)
                for group, values in zip(projection.groups, projected, strict=True)
            ]
            results.append(by_gemm(torch.bmm, _joined(heads), output.value))
        return _joined(results)

    def _kernel(
        self,
        index: int,
        group: _Group,
        qkv: Tensor,
        keys: Tensor | None,
        learned: LearnedTensors,
        padding: Padding | None,
    ) -> Tensor:
        """Return the heads' outputs (P, B·T, H·d) from projected q, k, v (P, B·T, 3·H·d)."""
        layer = group.layer
        q, k, v = by_heads(qkv, self.info.length, layer.heads, group.in_token_order)
        padding = None if padding is None else padding.part(group.start, group.stop)
        if layer.mechanism == "low_rank":
            if padding is not None:
                k, v = k * padding.real, v * padding.real
            k = learned["project_keys"][0][:, None, None] @ k
            v = learned["project_values"][0][:, None, None] @ v
        noise = _noise(keys, SITES_PER_LAYER * index, group, group.dropout)
        heads = group.kernel(q, k, v, noise, learned, padding)
        drop = _noise(keys, SITES_PER_LAYER * len(self._layers) + index, group, group.head_dropout)
        if drop is not None:
            heads = drop.drop_heads(heads)
        return by_tokens(heads)

    def _shared(self, index: int) -> Shares:
        """Return what hands one layer's learned tensors to its groups."""
        prefix = f"blocks.{index}.attention."
        segments = {
            name.removeprefix(prefix): run
            for name, run in self.storage.segments.items()
            if name.startswith(prefix) and run and not name.endswith((".qkv", ".output"))
        }
        groups = [(g.start, g.stop) for p in self._layers[index] for g in p.groups]
        return Shares(segments, groups, len(self))

    def _projections(self, index: int) -> tuple[_Projection, ...]:
        layers = [settings.attention[index] for settings in self.settings]
        projections = []
        for segment in self.storage.segments[f"blocks.{index}.attention.qkv"]:
            members = layers[segment.start : segment.stop]
            columns = None
            if any(member.kv_heads != member.heads for member in members):
                columns = torch.stack([_columns(member) for member in members])[:, None]
                columns = columns.to(segment.value.device)
            groups = tuple(self._groups(layers, segment.start, segment.stop))
            scale = _scale(groups, self.storage.weights)
            projections.append(_Projection(segment.start, segment.stop, columns, scale, groups))
        return tuple(projections)

    def _groups(self, layers: Sequence[LayerSettings], start: int, stop: int) -> list[_Group]:
        like, groups = self.storage.weights, []
        for _, run in groupby(range(start, stop), key=lambda row: layers[row].group):
            rows = list(run)
            members = [layers[row] for row in rows]
            kernel = MECHANISMS[members[0].mechanism](
                members, self.info.length, self.info.causal, like
            )
            group = _Group(
                rows[0],
                rows[-1] + 1,
                members[0],
                kernel,
                members[0].mechanism in (*PAIRING, "linear")
                and side_by_side(
                    self.info.length, members[0].heads, members[0].head_dim, like.device
                ),
                _rates([member.drops.weights for member in members], like),
                _rates([member.drops.heads for member in members], like),
            )
            groups.append(group)
        return groups


def _mean(x: Tensor, padding: Padding | None) -> Tensor:
    """Return the mean of each example's real tokens, (N, B, C) of (N, B, T, C)."""
    if padding is None:
        return x.mean(2)
    real = padding.real[:, :, 0]  # (N or 1, B, T, 1)
    return (x * real).sum(2) / real.sum(2).clamp(min=1)


def _rates(rates: Sequence[float], like: Tensor) -> DropRates | None:
    """Return what dropout at these rates needs, None where nothing is dropped."""
    return DropRates.of(like.new_tensor(rates)) if any(rates) else None


def _noise(keys: Tensor | None, site: int, group: _Group, rates: DropRates | None) -> Noise | None:
    """Return a group's dropout at a site, None where nothing is dropped."""
    if keys is None or rates is None:
        return None
    return Noise(keys[site, group.start : group.stop], rates)


def _columns(layer: LayerSettings) -> Tensor:
    """Return which stored column each of the 3 · H · d columns uses; head h takes ⌊h·G/H⌋."""
    inner, width = layer.inner_dim, layer.head_dim
    shared = torch.arange(layer.heads) * layer.kv_heads // layer.heads  # (H,)
    kv = (shared[:, None] * width + torch.arange(width)).flatten()
    return torch.cat([torch.arange(inner), inner + kv, 2 * inner + kv])


def _scale(groups: Sequence[_Group], like: Tensor) -> Tensor | None:
    """Return by what columns of q, k and v are multiplied, (P, 1, 3 · inner), None if by 1."""
    if all(group.kernel.scale is None for group in groups):
        return None
    found = []
    for group in groups:
        scale = group.kernel.scale
        ones = like.new_ones(group.stop - group.start, group.layer.inner_dim)
        q = ones if scale is None else scale.repeat_interleave(group.layer.head_dim, 1)
        found.append(torch.cat([q, ones, ones], 1))
    return torch.cat(found)[:, None]


def _parted(x: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    return (x,) if len(sizes) == 1 else x.split(sizes)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
