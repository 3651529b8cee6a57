"""N models that differ in the searched weights, and maybe in settings, as one swarm."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pso_attn.evaluate.weights.searched import Searched
from pso_attn.models import Layout, ModelSettings, TaskInfo, swarm_type
from pso_attn.models.weights import Placed, drawn_parts, overlaid, placements


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
        kept = order == list(range(len(order)))
        self._order = None if kept else torch.tensor(order, device=device)
        self._runs: list[tuple[slice, list[Placed]]] = []
        first = 0
        while first < len(placed):
            last = first + 1
            while last < len(placed) and placed[last] == placed[first]:
                last += 1
            drawn = drawn_parts(placed[first], info, seed)
            parts = {name: p.to(device) for name, p in overlaid(drawn, searched.rest).items()}
            self.swarm.storage.take(first, parts)
            weights[first + 1 : last] = weights[first]
            places = placements(searched.matrices, placed[first], info, layout)
            self._runs.append((slice(first, last), places))
            first = last

    @torch.no_grad()
    def load(self, rows: Tensor) -> None:
        """Give each model its searched weights, (N, M), in the order of the settings."""
        placed = rows if self._order is None else rows[self._order]
        weights = self.swarm.storage.weights
        for run, places in self._runs:
            for place in places:
                place.in_storage(weights[run]).copy_(place.in_rows(placed[run]))

    def gradients(self, like: Tensor) -> Tensor:
        """Return what flat storage holds of the gradients of the searched weights, (N, M)."""
        placed, stored = torch.zeros_like(like), self.swarm.storage.gradients
        for run, places in self._runs:
            for place in places:
                place.in_rows(placed[run]).copy_(place.in_storage(stored[run]))
        if self._order is None:
            return placed
        found = torch.empty_like(placed)
        found[self._order] = placed
        return found
