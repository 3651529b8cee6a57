"""When the steps of series are: how far apart, which times come next, and what recurs with them.

Times are numbers, or dates as microseconds since 1970 (UTC where a file names a zone, else as they
stand), which float64 holds exactly.
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import pi
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pso_attn.errors import DataError
from pso_attn.types import Array

Kind = Literal["rows", "number", "duration", "months", "month_ends", "weekdays"]
_MONTHS: tuple[Kind, ...] = ("months", "month_ends")
SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND
_CYCLES = {"day": DAY, "week": 7 * DAY, "year": round(365.2425 * DAY)}
_SUMMER_TIME = 3601 * SECOND  # more than midnights of one zone are off, all in UTC
_REGULAR = 0.5  # share of the commonest distance between steps from which it is the frequency
_MOST_STEPS = 288  # of a day, for it to be a season: 5 minutes
_UNITS = ((DAY, "day"), (3600 * SECOND, "hour"), (60 * SECOND, "minute"), (SECOND, "second"))


@dataclass(frozen=True)
class Clock:
    """The distance from a step to the next.

    kind: "rows" where there is none, so that steps are counted as they come; "weekdays" are
    Monday to Friday. step: in the units of a number, in microseconds, or in months. dates,
    zoned: whether times are dates, and in UTC.
    """

    kind: Kind
    step: float
    dates: bool
    zoned: bool

    @property
    def words(self) -> str:
        """What it is called."""
        if self.kind == "rows":
            return "irregular, so that steps are counted as they come"
        if self.kind == "weekdays":
            return "1 weekday"
        if self.kind in _MONTHS:
            years, months = divmod(int(self.step), 12)
            return _counted(years, "year") if not months else _counted(int(self.step), "month")
        if self.kind == "number":
            return f"{self.step:g}"
        size, unit = next((u for u in _UNITS if self.step % u[0] == 0), (1, "microsecond"))
        return _counted(int(self.step) // size, unit)

    @property
    def season(self) -> int:
        """After how many steps a pattern is expected again, 1 where nothing is."""
        if self.kind == "weekdays":
            return 5
        if self.kind in _MONTHS:
            return max(12 // int(self.step), 1)
        if self.kind != "duration":
            return 1
        if self.step < DAY:
            steps = int(DAY // self.step)
            return steps if DAY % self.step == 0 and steps <= _MOST_STEPS else 1
        return {DAY: 7, 7 * DAY: 52}.get(int(self.step), 1)

    def places(self, times: Array) -> NDArray[np.int64] | None:
        """Return the steps (n,) from the first of ascending times, None for times in between."""
        if self.kind == "rows":
            return np.arange(len(times))
        if self.kind == "weekdays":
            days = _days(times)
            if not bool(np.is_busday(days).all()):
                return None
            return np.asarray(np.busday_count(days[0], days), dtype=np.int64)
        steps = (_months(times) if self.kind in _MONTHS else times - times[0]) / self.step
        whole = np.round(steps - steps[0])
        is_local = self.zoned and self.kind == "duration" and self.step % DAY == 0
        slack = _SUMMER_TIME / self.step if is_local else 1e-3
        if np.abs(steps - steps[0] - whole).max() > slack or bool((np.diff(whole) == 0).any()):
            return None
        return np.asarray(whole, dtype=np.int64)

    def ahead(self, last: float, count: int) -> Array:
        """Return the next `count` times; zeros without a frequency."""
        ahead = np.arange(1, count + 1)
        if self.kind == "rows":
            return np.zeros(count)
        if self.kind in ("number", "duration"):
            return np.asarray(last + self.step * ahead, dtype=np.float64)
        if self.kind == "weekdays":
            days = np.busday_offset(_days(np.array([last]))[0], ahead)
            return np.asarray(days.astype("datetime64[us]"), dtype=np.float64) + last % DAY
        stamp = pd.Timestamp(int(last), unit="us")
        later = [stamp + pd.DateOffset(months=int(self.step) * int(k)) for k in ahead]
        if self.kind == "month_ends":
            later = [date + pd.offsets.MonthEnd(0) for date in later]
        moments = pd.DatetimeIndex(later).as_unit("us")
        return np.asarray(moments.astype("int64"), dtype=np.float64)

    def shown(self, time: float) -> str:
        """Return a time as a person writes it."""
        if not self.dates:
            return f"{time:.12g}"
        stamp = pd.Timestamp(int(time), unit="us", tz="UTC" if self.zoned else None)
        is_day = self.kind in (*_MONTHS, "weekdays") or self.step % DAY == 0
        return str(stamp.date()) if is_day and int(time) % DAY == 0 else stamp.isoformat()

    def cycles(self, span: float) -> tuple[str, ...]:
        """Return which of day, week and year times in a span (µs) tell something about.

        A cycle has at least two steps, and stands in the span twice.
        """
        if not self.dates or self.kind == "rows":
            return ()
        step = {"weekdays": DAY, **dict.fromkeys(_MONTHS, 30 * DAY * self.step)}.get(
            self.kind, self.step
        )
        return tuple(n for n, long in _CYCLES.items() if 2 * step <= long and span >= 2 * long)

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def read_times(values: pd.Series, source: str) -> tuple[Array, bool, bool]:
    """Return what a column of times holds, whether it is dates, and whether these have a zone.

    Raises DataError, naming the row, for what is neither a number nor a date.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    is_date = pd.api.types.is_datetime64_any_dtype(values)
    if not is_date and not numbers.isna().any() and bool(np.isfinite(numbers).all()):
        if not _are_days(numbers):
            return np.asarray(numbers, dtype=np.float64), False, False
        values = pd.Series(numbers.astype("int64").astype("str"), name=values.name)
    dates = _dates(values, source)
    with warnings.catch_warnings():  # of a day before its month, which was looked at
        warnings.simplefilter("ignore", UserWarning)
        zoned = pd.Timestamp(values.iloc[0]).tz is not None
    moments = dates.dt.as_unit("us").astype("int64")
    return np.asarray(moments, dtype=np.float64), True, zoned


def _dates(values: pd.Series, source: str) -> pd.Series:
    """Return dates in UTC, all read in one way; DataError where they cannot be, or in two."""
    read = [pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)]
    if read[0].isna().any():
        with warnings.catch_warnings():  # pandas says when it guesses; here both guesses are made
            warnings.simplefilter("ignore", UserWarning)
            read += [
                pd.to_datetime(values, errors="coerce", dayfirst=day_first, utc=True)
                for day_first in (False, True)
            ]
    whole = [dates for dates in read if dates.notna().all()]
    if not whole:
        odd = min((np.flatnonzero(dates.isna().to_numpy()) for dates in read), key=len)[0]
        raise DataError(
            f'{source}: time "{values.name}" is "{values.iloc[odd]}" in row {odd + 1}; expected a '
            "number or a date"
        )
    if not whole[0].equals(whole[-1]):
        odd = np.flatnonzero((whole[0] != whole[-1]).to_numpy())[0]
        raise DataError(
            f'{source}: time "{values.name}" is "{values.iloc[odd]}" in row {odd + 1}, of which '
            "day and month cannot be told apart; write dates as 2025-12-31"
        )
    return whole[0]


def _are_days(numbers: pd.Series) -> bool:
    """Tell whether all numbers are days as 20251231 is."""
    if not bool(((numbers % 1 == 0) & numbers.between(1000_01_01, 9999_12_31)).all()):
        return False
    days = pd.to_datetime(numbers.astype("int64").astype("str"), format="%Y%m%d", errors="coerce")
    return bool(days.notna().all())


def guess_clock(series: Sequence[Array], dates: bool, zoned: bool) -> Clock:
    """Return the clock of ascending times: the commonest distance, if all are multiples of it.

    Months and weekdays are looked for as well. Distances of which less than half are the
    commonest are no frequency.
    """
    distances = np.concatenate([np.diff(times) for times in series])
    rows = Clock("rows", 1.0, dates, zoned)
    if not len(distances):
        return rows
    candidates = [Clock("duration" if dates else "number", _commonest(distances), dates, zoned)]
    if dates:
        months = np.concatenate([np.diff(_months(times)) for times in series])
        every = np.concatenate([_days(times) for times in series])
        if candidates[0].step == DAY and len(every) > 5 and bool(np.is_busday(every).all()):
            candidates.insert(0, Clock("weekdays", 1.0, dates, zoned))
        for kind in _MONTHS if (months > 0).all() else ():
            if all(_on_one_day(times, kind) for times in series):
                candidates.insert(0, Clock(kind, _commonest(months), dates, zoned))
    for clock in candidates:
        placed = [clock.places(times) for times in series]
        if clock.step > 0 and all(places is not None for places in placed):
            steps = np.concatenate([np.diff(p) for p in placed if p is not None])
            if (steps == 1).mean() >= _REGULAR:
                return clock
    return rows


def waves(times: Array, cycles: Sequence[str]) -> Array:
    """Return the sine and cosine of where dates stand in each cycle, (n, 2 · cycles)."""
    angles = [2 * pi * (np.asarray(times) % _CYCLES[name]) / _CYCLES[name] for name in cycles]
    found: Array = np.array([wave(angle) for angle in angles for wave in (np.sin, np.cos)])
    return found.reshape(2 * len(angles), len(times)).T


def _commonest(distances: Array) -> float:
    found, counts = np.unique(distances, return_counts=True)
    return float(found[counts.argmax()])


def _months(times: Array) -> Array:
    """Return months since 1970."""
    moments = np.asarray(times).astype("int64").astype("datetime64[us]")
    return np.asarray(moments.astype("datetime64[M]").astype(np.int64), dtype=np.float64)


def _days(times: Array) -> Any:
    return np.asarray(times).astype("int64").astype("datetime64[us]").astype("datetime64[D]")


def _on_one_day(times: Array, kind: Kind) -> bool:
    """Tell whether all dates are of one day of the month, or of its last."""
    stamps = pd.DatetimeIndex(np.asarray(times).astype("int64").astype("datetime64[us]"))
    return bool(stamps.is_month_end.all()) if kind == "month_ends" else len(set(stamps.day)) == 1


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
