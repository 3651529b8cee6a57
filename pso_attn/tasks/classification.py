"""Cross-entropy and accuracy of many particles at once: the particle axis comes first and stays.

Axes: N particles, then any axes of examples and positions, then the classes C.
"""

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each particle's mean negative log-likelihood in nats, (N,).

    logits: (N, …, C). targets: (N or 1, …), int64, shared by all particles where the first is 1.
    """
    targets = targets.expand(logits.shape[:-1])
    losses = functional.cross_entropy(
        logits.flatten(end_dim=-2), targets.flatten(), reduction="none"
    )
    return losses.view(len(logits), -1).mean(dim=1)


def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the share of each particle's likeliest classes that are right, (N,).

    Arguments as in `cross_entropy`; the result has the logits' dtype.
    """
    return (logits.argmax(dim=-1) == targets).flatten(1).to(logits.dtype).mean(dim=1)
