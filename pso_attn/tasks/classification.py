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


def macro_f1(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean F1 of the classes that occur, of each particle's likeliest ones, (N,).

    logits: (N, B, C). targets: (N or 1, B). F1 = 2 tp / (2 tp + fp + fn); a class counts where
    it is a target or an answer, as in scikit-learn's macro average.
    """
    classes = logits.shape[-1]
    answered = functional.one_hot(logits.argmax(dim=-1), classes).to(logits.dtype)  # (N, B, C)
    wanted = functional.one_hot(targets, classes).to(logits.dtype)
    right = (answered * wanted).sum(1)
    seen = answered.sum(1) + wanted.sum(1)  # 2 tp + fp + fn
    return (2 * right / seen.clamp_min(1)).sum(-1) / (seen > 0).sum(-1)
