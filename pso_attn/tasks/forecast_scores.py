"""How good forecasts are, and what simple ones reach.

logits: (N, B, horizon, 1), in deviations of the series. targets: (N or 1, B, horizon + 2): what
was right, in deviations as well; the series' deviation; and what turns an absolute error in the
series' units into the window's share of MASE. The last two stand there because `score` sees
batches, which do not say of which series they are.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.tasks.regression import mean_squared_error
from pso_attn.types import Array

BESIDE = 2  # numbers of a target after those of the horizon


def forecast_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return each particle's mean squared error, in squared deviations, (N,)."""
    answers, right = _both(logits, targets)
    return mean_squared_error(answers.flatten(1), right.flatten(1))


def forecast_scores(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return loss, MAE in the series' units, and MASE, (N,) each; means over windows and steps.

    MASE: Hyndman & Koehler 2006, doi 10.1016/j.ijforecast.2006.03.001, section 3, with the
    seasonal naive forecast in place of the naive one.
    """
    answers, right = _both(logits, targets)
    errors = (answers - right).abs().mean(-1) * targets[..., -2]  # (N, B), in units
    return {
        "loss": forecast_loss(logits, targets),
        "mae": errors.mean(1),
        "mase": (errors * targets[..., -1]).mean(1),
    }


def naive_error(values: Array, places: NDArray[np.int64], season: int) -> float:
    """Return the mean absolute change over a season of a series (n,), 0 where there is none.

    places: (n,), which step each value is of; steps across a gap are left out.
    """
    together = places[season:] - places[:-season] == season
    changes = np.abs(values[season:] - values[:-season])[together]
    return float(changes.mean()) if len(changes) else 0.0


def shares_of_mase(errors: Array, source: str, season: int) -> Array:
    """Return what an absolute error of each window is multiplied by, (n,), so that means are MASE.

    errors: (n,), `naive_error` of each window's series. A series without one has no MASE and is
    left out of the mean. Raises DataError where all are so.
    """
    there = errors > 0
    if not there.any():
        raise DataError(
            f"{source}: no series ever changes over {season} steps in its training part, so that "
            "there is nothing to forecast and MASE has no scale; set another forecast.season"
        )
    share = len(errors) / there.sum()
    found: Array = np.divide(share, errors, out=np.zeros(len(errors)), where=there)
    return found


def seasonal_naive(
    scaled: Array, asked: NDArray[np.int64], level: Array, horizon: int, season: int
) -> Array:
    """Return the values of the last season seen, repeated, (n, horizon), less each level.

    scaled: (R,), in deviations. asked: (n,) first asked rows.
    """
    back = season - np.arange(horizon) % season
    found: Array = scaled[asked[:, None] - back] - level[:, None]
    return found


def ridge(train: Any, targets: Any, test: Any, most_numbers: int = 20_000_000) -> Array:
    """Return ridge regression's forecasts, (n, horizon), from all numbers of a window at once.

    train, test: (n, F). targets: (n, horizon). Of many training windows an even choice is read.
    """
    from sklearn.linear_model import Ridge

    told = np.ptp(train, axis=0) > 0  # half of an asked token says nothing
    every = max(-(-len(train) * int(told.sum()) // most_numbers), 1)
    model = Ridge().fit(train[::every, told].astype(np.float64), targets[::every])
    found: Array = model.predict(test[:, told].astype(np.float64))
    return found.reshape(len(test), -1)


def _both(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return logits.squeeze(-1), targets[..., :-BESIDE]
