"""How far apart steps are, what comes next, and what recurs."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pso_attn.errors import DataError
from pso_attn.tasks.clock import Clock, guess_clock, read_times, waves


def clock_of(values: Any) -> tuple[Clock, Any]:
    times, dates, zoned = read_times(pd.Series(values, name="when"), "data.csv")
    return guess_clock([times], dates, zoned), times


@pytest.mark.parametrize(
    ("frequency", "words", "season", "after"),
    [
        ("15min", "15 minutes", 96, "2020-01-11T10:00:00"),
        ("50min", "50 minutes", 1, "2020-02-04T17:20:00"),
        ("h", "1 hour", 24, "2020-02-11T16:00:00"),
        ("D", "1 day", 7, "2022-09-27"),
        ("W", "7 days", 52, "2039-03-06"),
        ("B", "1 weekday", 5, "2023-11-01"),
        ("MS", "1 month", 12, "2103-05-01"),
        ("ME", "1 month", 12, "2103-05-31"),
        ("QS", "3 months", 4, "2270-01-01"),
    ],
)
def test_the_frequency_of_dates_is_found_and_says_season_and_next_time(
    frequency: str, words: str, season: int, after: str
) -> None:
    dates = pd.date_range("2020-01-01", periods=1000, freq=frequency)
    for given in (dates, dates.delete([400, 401, 700])):
        clock, times = clock_of(given.astype(str))
        assert (clock.words, clock.season) == (words, season)
        places = clock.places(times)
        assert places is not None
        assert places[-1] == 999
        assert clock.shown(clock.ahead(times[-1], 1)[0]) == after


def test_what_comes_next_keeps_the_day_of_the_month_and_the_time_of_the_day() -> None:
    days = [f"2024-{month:02}-28" for month in range(3, 13)] + ["2025-01-28", "2025-02-28"]
    clock, times = clock_of(days)
    assert clock.shown(clock.ahead(times[-1], 1)[0]) == "2025-03-28"  # and not the month's end
    clock, times = clock_of([f"2025-03-{day:02} 17:30" for day in (3, 4, 5, 6, 7, 10, 11, 14)])
    assert clock.words == "1 weekday"
    assert clock.shown(clock.ahead(times[-1], 1)[0]) == "2025-03-17T17:30:00"


def test_numbers_are_steps_too_and_irregular_ones_are_counted_as_they_come() -> None:
    clock, times = clock_of(range(1700, 2000, 5))
    assert (clock.words, clock.ahead(times[-1], 2).tolist()) == ("5", [2000, 2005])
    irregular, times = clock_of([0.0, 1.0, 2.5, 7.0, 7.1, 12.0])
    assert irregular.kind == "rows"
    assert irregular.places(times).tolist() == [0, 1, 2, 3, 4, 5]  # type: ignore[union-attr]


def test_numbers_that_are_days_are_read_as_dates() -> None:
    days = pd.date_range("2024-12-20", periods=30).strftime("%Y%m%d").astype(int)
    clock, times = clock_of(days)
    assert (clock.words, clock.shown(times[-1])) == ("1 day", "2025-01-18")
    assert clock_of(range(20_251_220, 20_251_250))[0].kind == "number"  # of no calendar


def test_zones_are_read_as_utc_and_said_so() -> None:
    clock, times = clock_of(["2025-03-30T01:00+01:00", "2025-03-30T03:00+02:00"] + [
        f"2025-03-30T0{hour}:00+02:00" for hour in (4, 5)])  # fmt: skip
    assert clock.words == "1 hour"  # though the clock on the wall jumps by two
    assert clock.shown(times[0]) == "2025-03-30T00:00:00+00:00"


def test_a_time_that_nobody_can_read_is_named_with_its_row() -> None:
    with pytest.raises(DataError, match=r'data.csv: time "when" is "soon" in row 2; expected a'):
        clock_of(["2025-01-01", "soon"])


def test_day_and_month_are_read_alike_in_all_rows_and_not_guessed() -> None:
    days = pd.date_range("2025-01-05", periods=20)
    assert clock_of(days[9:].strftime("%d/%m/%Y"))[0].words == "1 day"
    for form in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d %B %Y"):
        clock, times = clock_of(days.strftime(form))
        assert (clock.words, clock.shown(times[0])) == ("1 day", "2025-01-05"), form
    told = r'is "05/01/2025" in row 1, of which day and month cannot be told apart; write dates'
    with pytest.raises(DataError, match=told):
        clock_of(days[:5].strftime("%d/%m/%Y"))


def test_cycles_have_two_steps_and_stand_in_the_span_twice() -> None:
    hours, times = clock_of(pd.date_range("2020-01-01", periods=24 * 20, freq="h"))
    assert hours.cycles(float(np.ptp(times))) == ("day", "week")
    days, times = clock_of(pd.date_range("2020-01-01", periods=800, freq="D"))
    assert days.cycles(float(np.ptp(times))) == ("week", "year")
    noon = waves(np.array([43_200e6, 86_400e6]), ["day"])
    np.testing.assert_allclose(noon, [[0, -1], [0, 1]], atol=1e-9)


def test_days_of_one_zone_are_an_hour_off_in_summer_and_still_days() -> None:
    days = pd.date_range("2023-01-01", periods=730, freq="D", tz="Europe/Berlin")
    clock, times = clock_of(days.delete([100, 101]).astype(str))
    assert (clock.words, clock.season) == ("1 day", 7)
    places = clock.places(times)
    assert places is not None
    assert places[-1] == 729, "two days are missing, and none is counted twice"
