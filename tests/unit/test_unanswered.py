"""Calls that never return are left behind, and nothing waits for them at the end."""

import subprocess
import sys

import pytest

from pso_attn.unanswered import exit_past, in_time

SCRIPT = """
import atexit, sys, time
from pso_attn.unanswered import exit_past, in_time
atexit.register(print, "as Python ends")
print(in_time(lambda: time.sleep({asleep}) or "answer", 1.0))
exit_past(3)
"""


def test_an_answer_is_given_and_its_absence_said() -> None:
    assert in_time(lambda: 7, 10.0) == 7
    exit_past(3)  # nothing is left


@pytest.mark.parametrize(
    ("asleep", "code", "said"),
    [(600, 3, ["None"]), (0, 0, ["answer", "as Python ends"])],
)
def test_an_exit_goes_past_what_is_left(asleep: float, code: int, said: list[str]) -> None:
    """And keeps what was printed."""
    run = [sys.executable, "-c", SCRIPT.format(asleep=asleep)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (code, said)
