"""What an objective of one's own returned, as metrics, or a sentence that says why not."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from pso_attn.errors import nearest
from pso_attn.evaluate.own_code import OwnCodeError, read_number


def read_answer(answer: Any, objective: str, name: str) -> dict[str, float]:
    """Return the metrics of what the function `name` returned, the objective first among them.

    A number is the objective itself. Metrics that are not finite are left out; OwnCodeError where
    the objective is missing, is no number or is not finite.
    """
    number = read_number(answer)
    metrics = answer if isinstance(answer, Mapping) else {objective: answer}
    if number is None and not isinstance(answer, Mapping):
        raise OwnCodeError(
            f"{name} returned {_shown(answer)}; expected a number, or a dict that has "
            f'"{objective}"'
        )
    if objective not in metrics:
        raise OwnCodeError(
            f'{name} returned a dict without "{objective}", which objectives names'
            f"{nearest(objective, map(str, metrics))}"
        )
    read = {}
    for key in (objective, *(key for key in metrics if key != objective)):
        value = read_number(metrics[key])
        if value is None:
            raise OwnCodeError(
                f'{name} returned "{key}" = {_shown(metrics[key])}; expected a number'
            )
        read[str(key)] = value
    if not isfinite(read[objective]):
        raise OwnCodeError(f"{name} returned {objective} = {read[objective]}, not a finite number")
    return {key: value for key, value in read.items() if isfinite(value)}


def mean_metrics(rows: list[dict[str, float]]) -> dict[str, float]:
    """Return the means over seeds of the metrics that all of them gave."""
    shared = [key for key in rows[0] if all(key in row for row in rows)]
    return {key: sum(row[key] for row in rows) / len(rows) for key in shared}


def _shown(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
