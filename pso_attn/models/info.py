"""What a model must know of a task."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TaskInfo:
    """Shapes of a task's examples.

    tokens: rows of the embedding where inputs name them, else None. features: width of the
    vectors where inputs are floats (B, T, features), else None. length: T. outputs: classes, or 1
    where a number is predicted. causal: a token may not see later ones. per_token: targets are
    (B, T) rather than (B,).
    weighted: with `tokens`, inputs are floats (B, T, 2), a row of the embedding and its weight,
    and not int64 ids (B, T): the columns of a table, whose order says nothing.
    padded: sequences end in padding where they are shorter than T, to which nobody attends: ids
    of 0, or vectors whose last entry is 0 and not 1.
    horizon: where above 0, the last `horizon` tokens say what is asked, and each has a target,
    (B, horizon); the T − horizon before are the source. An LSTM's decoder answers a token from the
    source, itself and those before it; a transformer from all tokens, or from those that `causal`
    leaves.
    """

    tokens: int | None
    features: int | None
    length: int
    outputs: int
    causal: bool
    per_token: bool
    weighted: bool = False
    padded: bool = False
    horizon: int = 0


def real_tokens(inputs: Tensor, info: TaskInfo) -> Tensor | None:
    """Return which tokens are no padding, (…, B, T), None on tasks without any.

    inputs: (…, B, T) ids or (…, B, T, features).
    """
    if not info.padded:
        return None
    return inputs != 0 if info.tokens is not None else inputs[..., -1] != 0
