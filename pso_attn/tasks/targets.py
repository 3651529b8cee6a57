"""What a file task predicts: one of some classes, or a number, as the training rows have it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.tasks.classification import accuracy, cross_entropy, macro_f1
from pso_attn.tasks.columns import ColumnOptions, as_labels, as_numbers, places_of
from pso_attn.tasks.regression import mean_absolute_error, mean_squared_error, r_squared
from pso_attn.types import Direction

FEW_NUMBERS = 20  # whole numbers that are at most so many are classes


class Target(Protocol):
    """What is predicted. logits: (N, B, outputs); targets: (N or 1, B)."""

    @property
    def name(self) -> str:
        """The column's name."""
        ...

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for each example."""
        ...

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """What `score` returns, each with the direction that is better."""
        ...

    def encode(self, values: pd.Series, source: str) -> Tensor:
        """Return the targets (n,) of a column; DataError for what training never met."""
        ...

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean loss, (N,)."""
        ...

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return every metric of each particle, (N,)."""
        ...

    def found(self, values: pd.Series) -> dict[str, Any]:
        """Return what a person should see of the whole column, as plain values."""
        ...

    def document(self) -> dict[str, Any]:
        """Return it as plain values, for `target_from`."""
        ...

    def predictions(self, logits: Tensor) -> list[dict[str, Any]]:
        """Return what the logits (n, outputs) say, in the column's own values."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """One of some classes. The loss is cross-entropy in nats."""

    name: str
    classes: tuple[str, ...]
    metrics: ClassVar[Mapping[str, Direction]] = {
        "loss": "minimize",
        "accuracy": "maximize",
        "macro_f1": "maximize",
    }

    @property
    def outputs(self) -> int:
        """One a class."""
        return len(self.classes)

    def encode(self, values: pd.Series, source: str) -> Tensor:
        """Return the classes' numbers, (n,) int64."""
        codes = places_of(values, self.classes)
        unknown = np.flatnonzero(codes < 0)
        if len(unknown):
            raise DataError(
                f'{source}: target "{self.name}" is "{values.iloc[unknown[0]]}" in row '
                f"{unknown[0] + 1}, a class that no training row has; give more rows of it, or "
                "take it out"
            )
        return torch.from_numpy(codes.astype(np.int64))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean cross-entropy, (N,)."""
        return cross_entropy(logits, targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return each particle's loss, accuracy and macro-averaged F1, (N,) each."""
        return {
            "loss": cross_entropy(logits, targets),
            "accuracy": accuracy(logits, targets),
            "macro_f1": macro_f1(logits, targets),
        }

    def found(self, values: pd.Series) -> dict[str, Any]:
        """Return how many rows each class has."""
        counts = as_labels(values).value_counts()
        return {"classes": {name: int(counts[name]) for name in self.classes}}

    def document(self) -> dict[str, Any]:
        """Return name and classes."""
        return {"name": self.name, "classes": list(self.classes)}

    def predictions(self, logits: Tensor) -> list[dict[str, Any]]:
        """Return the likeliest class of each row, and the probability of every class."""
        shares = logits.double().softmax(-1)
        return [
            {
                "prediction": self.classes[int(row.argmax())],
                "probabilities": dict(zip(self.classes, row.tolist(), strict=True)),
            }
            for row in shares
        ]


@dataclass(frozen=True)
class NumberTarget:
    """A number. The loss is the squared error of the standardised number.

    mean, deviation: of the training rows.
    """

    name: str
    mean: float
    deviation: float
    outputs: ClassVar[int] = 1
    metrics: ClassVar[Mapping[str, Direction]] = {
        "loss": "minimize",
        "rmse": "minimize",
        "mae": "minimize",
        "r2": "maximize",
    }

    def encode(self, values: pd.Series, source: str) -> Tensor:
        """Return the standardised numbers, (n,) float32."""
        numbers = (as_numbers(values, source, ways_out="") - self.mean) / self.deviation
        return torch.from_numpy(numbers.astype(np.float32))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean squared error, (N,)."""
        return mean_squared_error(logits.squeeze(-1), targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return each particle's loss, RMSE and MAE in the column's units, and R², (N,) each."""
        answers = logits.squeeze(-1)
        loss = mean_squared_error(answers, targets)
        return {
            "loss": loss,
            "rmse": loss.sqrt() * self.deviation,
            "mae": mean_absolute_error(answers, targets) * self.deviation,
            "r2": r_squared(answers, targets),
        }

    def found(self, values: pd.Series) -> dict[str, Any]:
        """Return where the numbers lie."""
        numbers = as_numbers(values, self.name)
        low, high = float(numbers.min()), float(numbers.max())
        return {"target_range": [low, high], "target_mean": float(numbers.mean())}

    def document(self) -> dict[str, Any]:
        """Return name, mean and deviation."""
        return {"name": self.name, "mean": self.mean, "deviation": self.deviation}

    def predictions(self, logits: Tensor) -> list[dict[str, Any]]:
        """Return the number of each row, in the column's units."""
        numbers = logits.double().squeeze(-1) * self.deviation + self.mean
        return [{"prediction": number} for number in numbers.tolist()]


def target_from(document: Mapping[str, Any]) -> Target:
    """Return the target that a `document` describes."""
    if "classes" in document:
        return ClassTarget(document["name"], tuple(document["classes"]))
    return NumberTarget(**document)


def labels_of(values: pd.Series, options: ColumnOptions, source: str) -> NDArray[Any] | None:
    """Return the classes of a target, or None where it is a number.

    Texts, and whole numbers of at most `FEW_NUMBERS` values, are classes; [columns] says
    otherwise. Raises DataError where the column cannot be predicted.
    """
    absent = np.flatnonzero(values.isna().to_numpy())
    if len(absent):
        count = f"row {absent[0] + 1}" + (f" and {len(absent) - 1} more" * (len(absent) > 1))
        raise DataError(
            f'{source}: target "{values.name}" is missing in {count}; take those rows out, or '
            "fill them"
        )
    kind = options.kind(values, source)
    if kind is None:
        raise DataError(
            f'{source}: target "{values.name}" holds {values.dtype}; expected numbers or classes'
        )
    if kind == "number":
        numbers = as_numbers(values, source)
        few = len(np.unique(numbers)) <= FEW_NUMBERS and bool((numbers % 1 == 0).all())
        if str(values.name) in options.numeric or not few:
            return None
    words = as_labels(values)
    if len(words) > FEW_NUMBERS and words.nunique() == len(words):
        raise DataError(
            f'{source}: target "{values.name}" differs in every row, and a class is learned from '
            "several; name another column"
        )
    return words.to_numpy()


def fit_target(
    values: pd.Series, labels: NDArray[Any] | None, train: NDArray[np.int64], source: str
) -> Target:
    """Return the target as the training rows have it; labels: its classes, None for a number."""
    name = str(values.name)
    if labels is not None:
        classes = tuple(sorted(set(labels[train]), key=_by_size))
        if len(classes) < 2:
            raise DataError(
                f'{source}: target "{name}" is "{classes[0]}" in every training row, and there is '
                "nothing to learn from one class; name another column"
            )
        return ClassTarget(name, classes)
    numbers = as_numbers(values, source)[train]
    if np.ptp(numbers) == 0:
        raise DataError(
            f'{source}: target "{name}" is {numbers[0]} in every training row, and there is '
            "nothing to learn from one number; name another column"
        )
    return NumberTarget(name, float(numbers.mean()), float(numbers.std()))


def _by_size(label: str) -> tuple[int, float, str]:
    """Order whole numbers by size, and other texts after them by their letters."""
    return (0, float(label), label) if label.lstrip("-").isdecimal() else (1, 0.0, label)
