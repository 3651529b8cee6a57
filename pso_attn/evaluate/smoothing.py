"""Label smoothing: each particle learns from targets that leave a share to all classes alike.

    loss = (1 − ε) L + ε mean_c(−log p_c)

with L the task's own loss: Szegedy et al. 2015, arXiv 1512.00567, section 7, for cross-entropy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pso_attn.errors import ConfigurationError
from pso_attn.models.info import TaskInfo
from pso_attn.space.knob import Knob

KNOBS = (
    Knob(
        "label_smoothing",
        "float",
        "share of each training target that is spread over all classes",
        low=0.0,
        high=0.3,
        minimum=0.0,
        maximum=0.95,
        default=0.0,
        neutral=0.0,
        source="Szegedy et al. 2015, arXiv 1512.00567, section 7",
    ),
)


def check_smoothing(share: float, info: TaskInfo) -> None:
    """Raise ConfigurationError where targets would be smoothed and there are no classes."""
    if share and info.outputs == 1:
        raise ConfigurationError(
            f"label_smoothing = {share}, but the task predicts a number and has no classes; "
            "leave it out"
        )


class Smoothing:
    """Smooths the training losses of particles, each by its own share; 0 leaves a loss alone."""

    def __init__(self, shares: Sequence[float], like: Tensor) -> None:
        """shares: ε, one a particle; `like` gives dtype and device."""
        self._shares = like.new_tensor(shares) if any(shares) else None

    def __call__(self, losses: Tensor, logits: Tensor) -> Tensor:
        """Return losses (N,) from the task's (N,) and the logits (N, …, classes)."""
        if self._shares is None:
            return losses
        even = -logits.log_softmax(-1).flatten(1).mean(1)
        return torch.lerp(losses, even, self._shares)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone."""
        self._shares = None if self._shares is None else self._shares[rows]
