"""Flat storage: one (N, P) tensor for the weights of all particles and one for their gradients.

Each parameter has one column range, as wide as its widest particle; particles that follow each
other and agree on its true shape share one view of it. An optimiser then works on two tensors
instead of thousands, and gradients need no gathering.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from math import prod

import torch

from pso_attn.models.parameters import Parameter, start


@dataclass(frozen=True, eq=False)
class Segment:
    """One parameter of consecutive particles of one shape: (stop − start, *shape) each."""

    start: int
    stop: int
    value: torch.Tensor
    gradient: torch.Tensor


@dataclass(frozen=True)
class Layout:
    """The columns of flat storage. offsets: each parameter's first. width: of all."""

    offsets: Mapping[str, int]
    width: int

    @classmethod
    def of(cls, particles: Sequence[Sequence[Parameter]]) -> "Layout":
        """Return columns that hold the widest of each parameter."""
        widths: dict[str, int] = {}
        for row in particles:
            for parameter in row:
                known = widths.get(parameter.name, 0)
                widths[parameter.name] = max(known, prod(parameter.shape))
        ends = [0, *accumulate(widths.values())]
        return cls(dict(zip(widths, ends, strict=False)), ends[-1])


class FlatStorage:
    """Weights and gradients of N particles as two flat tensors, and views of true shape."""

    def __init__(
        self,
        particles: Sequence[Sequence[Parameter]],
        weights: torch.Tensor,
        layout: Layout,
    ) -> None:
        """Lay parameters over `weights` (N, P); the layout may be of more particles than these."""
        self.weights, self.layout = weights, layout
        self.gradients = torch.zeros_like(weights)
        self._tables = [{parameter.name: parameter for parameter in row} for row in particles]
        self.segments = {name: self._segments(name) for name in layout.offsets}

    def _segments(self, name: str) -> tuple[Segment, ...]:
        offset, segments = self.layout.offsets[name], []
        rows = range(len(self._tables))
        for shape, run in groupby(rows, key=lambda row: _shape(self._tables[row], name)):
            members = list(run)
            if shape is None:
                continue
            first, last = members[0], members[-1] + 1
            columns = slice(offset, offset + prod(shape))
            value, gradient = (
                flat[first:last, columns].view(last - first, *shape).detach()
                for flat in (self.weights, self.gradients)
            )
            segments.append(Segment(first, last, value.requires_grad_(), gradient))
        return tuple(segments)

    def differentiate(self, loss: torch.Tensor) -> None:
        """Put the gradient of a scalar with respect to every weight into `gradients`."""
        segments = [segment for run in self.segments.values() for segment in run]
        found = torch.autograd.grad(loss, [segment.value for segment in segments])
        torch._foreach_copy_([segment.gradient for segment in segments], found)

    def whole(self, name: str) -> torch.Tensor:
        """Return a parameter that all particles share the shape of: (N, *shape)."""
        (segment,) = self.segments[name]
        return segment.value

    def true_parameters(self, row: int) -> dict[str, torch.Tensor]:
        """Return copies of one particle's parameters of the stand-alone model, by name."""
        parts = {}
        for name, parameter in self._tables[row].items():
            offset = self.layout.offsets[name]
            stored = self.weights[row, offset : offset + prod(parameter.shape)]
            for part, first, last in parameter.true:
                parts[part] = stored.view(parameter.shape)[..., first:last].clone()
        return parts

    @torch.no_grad()
    def take(self, row: int, parts: Mapping[str, torch.Tensor]) -> None:
        """Give one particle these parameters: the inverse of `true_parameters`."""
        for name, parameter in self._tables[row].items():
            offset = self.layout.offsets[name]
            stored = self.weights[row, offset : offset + prod(parameter.shape)]
            for part, first, last in parameter.true:
                stored.view(parameter.shape)[..., first:last] = parts[part]


def starting_weights(
    particles: Sequence[Sequence[Parameter]],
    seeds: Sequence[int],
    layout: Layout,
    dtype: torch.dtype,
    device: torch.device,
) -> torch.Tensor:
    """Return (N, P) weights, each particle started from its own seed."""
    weights = torch.zeros(len(particles), layout.width, dtype=dtype)
    for row, (parameters, seed) in zip(weights, zip(particles, seeds, strict=True), strict=True):
        for parameter in parameters:
            values, first = start(parameter, seed).ravel(), layout.offsets[parameter.name]
            row[first : first + values.size] = torch.from_numpy(values)
    return weights.to(device)


def gathered(flat: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Return these rows, ascending, of flat (N, P), which they are moved to the top of.

    A copy would take as much memory again, at the moment when most is taken.
    """
    for place, row in enumerate(rows):
        if place != row:
            flat[place] = flat[row]
    return flat[: len(rows)]


def _shape(table: dict[str, Parameter], name: str) -> tuple[int, ...] | None:
    return table[name].shape if name in table else None
