"""Series in their own units and in their deviations, as the training parts have them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.tasks.forecast_scores import naive_error, shares_of_mase
from pso_attn.tasks.histories import Histories
from pso_attn.tasks.windows import Cuts
from pso_attn.types import Array


@dataclass(frozen=True, eq=False)
class ScaledSeries:
    """Series less their mean, in their deviation, both of the training part.

    scales: series -> mean and deviation. values, deviations, naive: (R,); naive is the mean change
    over a season in the training part of a row's series.
    """

    scales: Mapping[str, list[float]]
    values: Array
    deviations: Array
    naive: Array

    @classmethod
    def of(
        cls, histories: Histories, cuts: Cuts, places: NDArray[np.int64], season: int
    ) -> "ScaledSeries":
        """Return the series scaled by what comes before their cuts."""
        scales, errors = {}, []
        for (name, rows), cut in zip(histories.each(), cuts.validation, strict=True):
            seen = slice(rows.start, int(cut))
            scales[name] = scale_of(histories.values[seen])
            errors.append(naive_error(histories.values[seen], places[seen], season))
        counts = np.diff(histories.bounds)
        means, deviations = np.repeat(np.array(list(scales.values())), counts, axis=0).T
        values = (histories.values - means) / deviations
        return cls(scales, values, deviations, np.repeat(errors, counts))

    def targets(
        self, asked: NDArray[np.int64], level: Array, horizon: int, source: str, season: int
    ) -> Tensor:
        """Return (n, horizon + 2), as `pso_attn.tasks.forecast_scores` reads them."""
        right = self.values[asked[:, None] + np.arange(horizon)] - level[:, None]
        shares = shares_of_mase(self.naive[asked], source, season)
        joined = np.column_stack([right, self.deviations[asked], shares])
        return torch.from_numpy(joined.astype(np.float32))


def scale_of(values: Array) -> list[float]:
    """Return mean and deviation; 1 for the second where all values are equal."""
    deviation = float(values.std())
    return [float(values.mean()), deviation if np.ptp(values) > 0 else 1.0]
