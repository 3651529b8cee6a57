"""The task of a forecast: its windows, how answers are scored, and what simple ones reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.tasks.forecast_options import steps
from pso_attn.tasks.forecast_scores import (
    BESIDE,
    forecast_loss,
    forecast_scores,
    ridge,
    seasonal_naive,
)
from pso_attn.tasks.task import Split, TaskInfo
from pso_attn.types import Array, Direction


@dataclass(frozen=True, eq=False)
class ForecastTask:
    """Forecasts of the series of a table. found: what `describe` returns; learned: for an export.

    scaled: (R,), all series in their deviations. asked, level: split -> first asked row and level
    of each window.
    """

    info: TaskInfo
    train: Split
    validation: Split
    test: Split
    learned: Mapping[str, Any]
    found: Mapping[str, Any]
    fingerprint: str
    scaled: Array
    asked: Mapping[str, NDArray[np.int64]]
    level: Mapping[str, Array]
    name: ClassVar[str] = "series"
    metrics: ClassVar[Mapping[str, Direction]] = {
        "loss": "minimize",
        "mae": "minimize",
        "mase": "minimize",
    }

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each particle's mean squared error, in squared deviations, (N,)."""
        return forecast_loss(logits, targets)

    def score(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return each particle's loss, MAE and MASE, (N,) each."""
        return forecast_scores(logits, targets)

    def describe(self) -> dict[str, Any]:
        """Return what was found in the data, and how it is read."""
        return dict(self.found)

    def preprocessing(self) -> dict[str, Any]:
        """Return how tables are read and what the training parts told."""
        return dict(self.learned)

    def baselines(self) -> dict[str, dict[str, float]]:
        """Return what naive forecasts and ridge regression reach from the test's origins."""
        test = (self.scaled, self.asked["test"], self.level["test"], self.info.horizon)
        season = self.learned["season"]
        answers = {f"seasonal naive ({steps(season)})": seasonal_naive(*test, season)}
        if season > 1:
            answers["last value"] = seasonal_naive(*test, 1)
        answers["ridge regression"] = ridge(
            self.train.inputs.flatten(1).numpy(),
            self.train.targets[:, :-BESIDE].double().numpy(),
            self.test.inputs.flatten(1).numpy(),
        )
        return {name: self._scored(found) for name, found in answers.items()}

    def _scored(self, answers: Array) -> dict[str, float]:
        logits = torch.from_numpy(answers)[None, ..., None]
        scores = self.score(logits, self.test.targets[None])
        return {name: float(value[0]) for name, value in scores.items()}
