"""What the particles of one layer learn beside their maps, handed to the groups they are in."""

from collections.abc import Mapping, Sequence

from torch import Tensor, baddbmm
from torch.nn.functional import softplus

from pso_attn.attention.alike import by_gemm, in_vectors
from pso_attn.attention.learned import NOTHING, LearnedTensors
from pso_attn.attention.sharpness import COLDEST
from pso_attn.models.storage import Segment


class Shares:
    """Cuts one layer's learned tensors at the borders of its groups."""

    def __init__(
        self,
        segments: Mapping[str, Sequence[Segment]],
        groups: Sequence[tuple[int, int]],
        particles: int,
    ) -> None:
        """segments: by name. groups: first and last + 1 particle of each, in order."""
        self._segments, self._groups, self._particles = segments, len(groups), particles
        self._cuts = {
            name: [_cut(segment, groups) for segment in run] for name, run in segments.items()
        }

    def __call__(self, x: Tensor, batch: int) -> list[LearnedTensors]:
        """Return each group's tensors; x: the layer's inputs (N, B·T, C)."""
        if not self._segments:
            return [NOTHING] * self._groups
        handed: list[dict[str, list[Tensor]]] = [{} for _ in range(self._groups)]
        for name, run in self._segments.items():
            if name == "token_temperature_bias":
                continue
            if name == "token_temperature":
                values = self._by_token(x, batch)
            else:
                values = [segment.value for segment in run]
            for value, (sizes, owners) in zip(values, self._cuts[name], strict=True):
                pieces = (value,) if len(sizes) == 1 else value.split(sizes)
                for piece, owner in zip(pieces, owners, strict=True):
                    handed[owner].setdefault(name, []).append(piece)
        return list(handed)

    def _by_token(self, x: Tensor, batch: int) -> list[Tensor]:
        """Return for each segment the tokens' temperatures softplus(x·w + b), (p, B, H, T, 1)."""
        maps = self._segments["token_temperature"]
        sizes, done = [], 0
        for segment in maps:
            sizes += [segment.start - done, segment.stop - segment.start]
            done = segment.stop
        rows = x.split([*sizes, self._particles - done])[1::2]
        return [
            in_vectors(_temperatures, by_gemm(baddbmm, bias.value[:, None], row, weight.value))
            .unflatten(1, (batch, -1))
            .transpose(2, 3)[..., None]
            for row, weight, bias in zip(
                rows, maps, self._segments["token_temperature_bias"], strict=True
            )
        ]


def _temperatures(x: Tensor) -> Tensor:
    return softplus(x, threshold=40.0).clamp(min=COLDEST)


def _cut(segment: Segment, groups: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return the sizes of a segment's pieces and the groups that they belong to."""
    sizes, owners = [], []
    for owner, (start, stop) in enumerate(groups):
        size = min(stop, segment.stop) - max(start, segment.start)
        if size > 0:
            sizes.append(size)
            owners.append(owner)
    return sizes, owners
