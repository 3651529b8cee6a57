"""Windows of series: some steps of the past, and those after them that are asked for.

Of each series the first steps are for training, those after them for validation, the last for the
test. A window belongs to the part in which all of its asked steps lie. What it sees before them
may lie in the part before, as the past does when one forecasts; so no asked step of one part is
asked in another, and no training window sees a step of the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pso_attn.errors import DataError
from pso_attn.tasks.clock import Clock
from pso_attn.tasks.histories import Histories
from pso_attn.tasks.splits import NAMES, SplitOptions
from pso_attn.types import Array

MOST_BYTES = 1_000_000_000  # of all windows
FLAGS = 2  # last entries of a token: whether it is asked, and 1


@dataclass(frozen=True)
class WindowShape:
    """context, horizon: steps seen, and asked for after them. patch: steps of one seen token."""

    context: int
    horizon: int
    patch: int

    @property
    def tokens(self) -> int:
        """How many tokens there are in all."""
        return self.source + self.horizon

    @property
    def source(self) -> int:
        """How many tokens are seen."""
        return self.context // self.patch

    @property
    def names(self) -> tuple[str, ...]:
        """What people call the tokens: by their steps, of which 0 is the last that is seen."""
        ends = range(self.patch - self.context, 1, self.patch)
        seen = (f"{end - self.patch + 1}…{end}" if self.patch > 1 else f"{end}" for end in ends)
        return (*seen, *(f"+{step}" for step in range(1, self.horizon + 1)))

    def features(self, past: int, known: int) -> int:
        """Return how wide a token is, for so many columns of covariates."""
        return self.patch * (1 + past + known) + FLAGS


@dataclass(frozen=True, eq=False)
class Cuts:
    """Where validation and test begin in each series, (S,) rows of all."""

    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    def training(self, histories: Histories) -> NDArray[np.int64]:
        """Return the rows that are for training."""
        ends = zip(histories.bounds, self.validation, strict=False)
        return np.concatenate([np.arange(first, end) for first, end in ends])


def cut_series(histories: Histories, shape: WindowShape, options: SplitOptions) -> Cuts:
    """Return where the parts begin: by shares of each series' steps, or as a column says.

    A share is at least a horizon long. Raises DataError for a series that is too short, or whose
    parts are not in the order of time.
    """
    borders = []
    for name, rows in histories.each():
        count = rows.stop - rows.start
        if histories.labels is not None:
            borders.append(_labelled(histories, name, rows, options))
            continue
        sizes = [
            max(round(share * count), shape.horizon)
            for share in (options.validation, options.test)
        ]
        cut = rows.stop - sum(sizes)
        if cut - rows.start < shape.context + shape.horizon:
            raise DataError(_too_short(histories, name, rows, cut, shape))
        borders.append((cut, rows.stop - sizes[1]))
    validation, test = np.array(borders, dtype=np.int64).T
    return Cuts(validation, test)


def place(histories: Histories, clock: Clock) -> NDArray[np.int64]:
    """Return each row's step within its series, (R,), gaps counted too."""
    found = []
    for _, rows in histories.each():
        places = clock.places(histories.times[rows])
        assert places is not None  # since the clock was read off these times
        found.append(places)
    return np.concatenate(found)


def origins(
    histories: Histories, places: NDArray[np.int64], cuts: Cuts, shape: WindowShape
) -> dict[str, NDArray[np.int64]]:
    """Return split -> the first asked row of each of its windows, in the order of rows.

    A window has no gap. Raises DataError for a series that has none in some part.
    """
    found: dict[str, list[NDArray[np.int64]]] = {name: [] for name in NAMES}
    for index, (name, rows) in enumerate(histories.each()):
        edges = (rows.start, cuts.validation[index], cuts.test[index], rows.stop)
        for split, first, last in zip(NAMES, edges, edges[1:], strict=False):
            asked = np.arange(max(first, rows.start + shape.context), last - shape.horizon + 1)
            begin, end = asked - shape.context, asked + shape.horizon - 1
            whole = places[end] - places[begin] == end - begin
            if not whole.any():
                raise DataError(_too_short(histories, name, rows, int(edges[1]), shape))
            found[split].append(asked[whole])
    return {split: np.concatenate(parts) for split, parts in found.items()}


def thinned(
    parts: Mapping[str, NDArray[np.int64]], bytes_each: int
) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Return every k-th window of each split, and k, so that all take `MOST_BYTES` at most."""
    needed = bytes_each * sum(len(part) for part in parts.values())
    every = max(-(-needed // MOST_BYTES), 1)
    return {split: part[::every] for split, part in parts.items()}, every


def tokens(
    columns: Array, past: int, asked: NDArray[np.int64], shape: WindowShape, level: Array
) -> Tensor:
    """Return windows as tokens, (n, context / patch + horizon, features), float32.

    columns: (R, 1 + past + known), the target first, then what is known up to the present, then
    what is known ahead. asked: (n,) first asked rows. level: (n,), taken off the target.
    An asked token has in its first step what is known ahead, and else zeros.
    """
    width = columns.shape[1]
    inputs = torch.zeros((len(asked), shape.tokens, shape.features(past, width - 1 - past)))
    columns = columns.astype(np.float32)
    seen = columns[asked[:, None] + np.arange(-shape.context, 0)]  # (n, context, columns)
    seen[..., 0] -= level.astype(np.float32)[:, None]
    inputs[:, : shape.source, :-FLAGS] = torch.from_numpy(seen).reshape(
        len(asked), shape.source, -1
    )
    ahead = columns[asked[:, None] + np.arange(shape.horizon), 1 + past :]
    inputs[:, shape.source :, 1 + past : width] = torch.from_numpy(ahead)
    inputs[:, shape.source :, -2] = 1
    inputs[..., -1] = 1
    return inputs


def levels(target: Array, asked: NDArray[np.int64], context: int) -> Array:
    """Return the mean of what each window sees of the target (R,), (n,)."""
    sums = np.concatenate([[0.0], np.cumsum(target, dtype=np.float64)])
    found: Array = (sums[asked] - sums[asked - context]) / context
    return found


def _labelled(
    histories: Histories, name: str, rows: slice, options: SplitOptions
) -> tuple[int, int]:
    """Return where validation and test begin, as a column says it."""
    assert histories.labels is not None  # it was looked at before
    said = [str(word).strip().lower() for word in histories.labels[rows]]
    for offset, word in enumerate(said):
        if word not in NAMES:
            raise DataError(
                f'split.column "{options.column}" holds "{word}" in row '
                f'{histories.rows[rows.start + offset] + 1}; expected "train", "validation" or '
                '"test"'
            )
    order = [NAMES.index(word) for word in said]
    if order != sorted(order):
        offset = next(i for i in range(1, len(order)) if order[i] < order[i - 1])
        raise DataError(
            f"{histories.called(name)} has {said[offset]} after {said[offset - 1]} in column "
            f'"{options.column}" (row {histories.rows[rows.start + offset] + 1}); in a forecast '
            "training comes before validation, and validation before the test"
        )
    return rows.start + order.count(0), rows.start + order.count(0) + order.count(1)


def _too_short(histories: Histories, name: str, rows: slice, cut: int, shape: WindowShape) -> str:
    """Return that a series, cut for training there, is too short, or too full of gaps."""
    count, trained = rows.stop - rows.start, max(cut - rows.start, 0)
    need = shape.context + shape.horizon
    gaps = " Gaps or the split leave no window." if trained >= need else ""
    return (
        f"{histories.called(name)} has {count} rows, {trained} of them to train on; a context of "
        f"{shape.context} and a horizon of {shape.horizon} need {need} there without a gap, and "
        f"{shape.horizon} each for validation and test.{gaps} Lower forecast.context or "
        "forecast.horizon, or leave the series out"
    )
