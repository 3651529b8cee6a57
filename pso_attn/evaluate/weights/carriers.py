"""N models that differ in the searched weights, and maybe in settings, as one swarm."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pso_attn.evaluate.weights.searched import Searched
from pso_attn.models import Layout, ModelSettings, TaskInfo, swarm_type
from pso_attn.models.weights import Placement, drawn_parts, overlaid


class Carriers:
    """A swarm whose particles share all weights but the searched ones.

    rows: which of the settings each particle of the swarm has.
    """

    def __init__(
        self,
        models: Sequence[ModelSettings],
        info: TaskInfo,
        searched: Searched,
        seed: int,
        device: torch.device,
    ) -> None:
        """Lay out N models, who share a bucket, with the rest of the searched model in each.

        seed: of what other settings have beyond it.
        """
        order = sorted(range(len(models)), key=lambda row: models[row].group)
        placed = [models[row] for row in order]
        kind = swarm_type(placed[0])
        layout = Layout.of([tuple(kind.parameters_of(model, info)) for model in placed])
        weights = torch.zeros(len(models), layout.width, device=device)
        self.swarm = kind(placed, info, weights, layout)
        self.rows = order
        self._order = torch.tensor(order, device=device)
        self._runs: list[tuple[slice, Placement]] = []
        first = 0
        while first < len(placed):
            last = first + 1
            while last < len(placed) and placed[last] == placed[first]:
                last += 1
            drawn = drawn_parts(placed[first], info, seed)
            parts = {name: p.to(device) for name, p in overlaid(drawn, searched.rest).items()}
            self.swarm.storage.take(first, parts)
            weights[first + 1 : last] = weights[first]
            placement = Placement.of(searched.matrices, placed[first], info, layout)
            self._runs.append((slice(first, last), placement.to(device)))
            first = last

    @torch.no_grad()
    def load(self, rows: Tensor) -> None:
        """Give each model its searched weights, (N, M), in the order of the settings."""
        placed, weights = rows[self._order], self.swarm.storage.weights
        for run, placement in self._runs:
            weights[run, placement.target] = placed[run, placement.source].to(weights.dtype)

    def gradients(self, like: Tensor) -> Tensor:
        """Return what flat storage holds of the gradients of the searched weights, (N, M)."""
        found, stored = torch.zeros_like(like), self.swarm.storage.gradients
        placed = torch.zeros_like(like)
        for run, placement in self._runs:
            placed[run, placement.source] = stored[run, placement.target].to(like.dtype)
        found[self._order] = placed
        return found
