"""What a plain module of any family is: one particle in its true size, as it is exported."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pso_attn.models.info import TaskInfo


class PlainModel(nn.Module):
    """One particle's model, written apart from the batched form, with torch's own layers.

    penalty: what the last forward pass adds to the training loss, or None.
    """

    penalty: Tensor | None = None

    def __init__(self, settings: Any, info: TaskInfo) -> None:
        """Remember what it is; a family makes its layers, with torch's own start."""
        super().__init__()
        self.settings, self.info = settings, info

    def load_swarm_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """Take one particle's parameters as `FlatStorage.true_parameters` names them."""
        raise NotImplementedError
