"""What a model must know of a task."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskInfo:
    """Shapes of a task's examples.

    tokens: vocabulary where inputs are int64 ids (B, T), else None. features: width of the
    vectors where inputs are floats (B, T, features), else None. length: T. outputs: classes.
    causal: a token may not see later ones. per_token: targets are (B, T) rather than (B,).
    """

    tokens: int | None
    features: int | None
    length: int
    outputs: int
    causal: bool
    per_token: bool
