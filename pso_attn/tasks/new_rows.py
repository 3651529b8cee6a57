"""New rows as an exported model takes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.tasks.targets import Target


@dataclass(frozen=True, eq=False)
class NewRows:
    """Inputs (n, …), and what a model's answers (n, …) to them say.

    target: what is predicted, for people. metrics: where the file says what is right. notes: what
    a person should hear of the rows.
    """

    inputs: Tensor
    target: str
    predictions: Callable[[Tensor], list[dict[str, Any]]]
    metrics: Callable[[Tensor], Mapping[str, float]] | None = None
    notes: tuple[str, ...] = ()


def labelled_rows(inputs: Tensor, target: Target, frame: pd.DataFrame, source: str) -> NewRows:
    """Return rows with a target each, scored where the file has it too.

    They are not where a value is missing, or is a class that the model does not know.
    """
    right = _right_answers(frame, target, source)

    def metrics(logits: Tensor) -> dict[str, float]:
        assert right is not None  # else it is not called
        scores = target.score(logits[None], right[None])
        return {name: float(value[0]) for name, value in scores.items()}

    return NewRows(inputs, target.name, target.predictions, None if right is None else metrics)


def _right_answers(frame: pd.DataFrame, target: Target, source: str) -> Tensor | None:
    """Return the targets (n,), None where the file has none or cannot be scored by them."""
    if target.name not in frame.columns or bool(frame[target.name].isna().any()):
        return None
    try:
        return target.encode(frame[target.name], source)
    except DataError:
        return None
