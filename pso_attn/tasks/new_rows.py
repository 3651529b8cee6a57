"""New rows as an exported model takes them."""

from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.tasks.targets import Target


@dataclass(frozen=True, eq=False)
class NewRows:
    """Inputs (n, …), what is predicted of them, and, where the file says it, what is right."""

    inputs: Tensor
    target: Target
    targets: Tensor | None


def right_answers(frame: pd.DataFrame, target: Target, source: str) -> Tensor | None:
    """Return the targets (n,), None where the file has no such column or cannot be scored by it.

    That is where a value is missing, or is a class that the model does not know.
    """
    if target.name not in frame.columns or bool(frame[target.name].isna().any()):
        return None
    try:
        return target.encode(frame[target.name], source)
    except DataError:
        return None
