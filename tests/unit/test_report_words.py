import math
import subprocess
import sys

import pytest

from pso_attn.report.words import ABSENT, count, duration, number, plus_minus, setting, short


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.95749, "0.9575"),
        (1.3, "1.300"),
        (22600, "22,600"),
        (123456.7, "123,457"),
        (0.000123, "1.23e-4"),
        (2.5e12, "2,500,000,000,000"),
        (-0.5, "\N{MINUS SIGN}0.5000"),
        (0.0, "0"),
        (None, ABSENT),
        (math.nan, ABSENT),
        (math.inf, ABSENT),
    ],
)
def test_a_number_has_four_digits_and_what_is_none_has_a_dash(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1, "0.1"), (1e-4, "0.0001"), (1e-5, "1e-5"), (12345, "12,345")]
)
def test_a_short_number_has_no_zeros_that_say_nothing(value, shown):
    assert short(value) == shown


def test_a_spread_decides_how_many_digits_its_value_has():
    assert plus_minus(1.19123, 0.01432) == "1.191 ± 0.014"
    assert plus_minus(0.5, None) == "0.5000"
    assert plus_minus(1.5, 0.0) == "1.500 ± 0"
    assert plus_minus(None, None) == ABSENT


def test_settings_read_as_written():
    assert setting(True) == "yes"
    assert setting([[0.5, 1.0], [2.0]]) == "[[0.5, 1], [2]]"
    assert setting("softmax") == "softmax"
    assert setting(None) == ABSENT


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.123, "0.12 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7860, "2 h 11 min")],
)
def test_a_time_has_its_two_largest_units(seconds, shown):
    assert duration(seconds) == shown


def test_one_trial_is_no_trials():
    assert count(1, "trial") == "1 trial"
    assert count(2000, "trial") == "2,000 trials"


def test_numbers_are_shown_without_loading_what_pictures_need():
    code = (
        "import sys, pso_attn.report.words, pso_attn.report;"
        "print({'pandas', 'matplotlib', 'optuna', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
