"""How quick nodes are, as far as the chunks that they trained say."""

import numpy as np
import pytest

from pso_attn.evaluate.executors.speeds import ALIKE, MEASURED, Speeds
from pso_attn.evaluate.jobs import Job
from pso_attn.types import Candidate

NODES = ("a", "b", "c")


def test_nodes_are_equally_quick_until_enough_is_measured() -> None:
    speeds = Speeds()
    assert speeds.of(NODES) == dict.fromkeys(NODES, 1.0)
    for k in range(MEASURED):
        assert speeds.of(NODES) == dict.fromkeys(NODES, 1.0)
        speeds.measured("a", chunk(8.0), 2.0)
        speeds.measured("a", chunk(8.0), 2.0)
        speeds.measured("b", chunk(8.0), 6.0 + k / 100)
    found = speeds.of(NODES)
    assert found["a"] / found["b"] == pytest.approx(3.0, rel=0.01)
    assert found["c"] == 1.0
    assert speeds.of([]) == {}


def test_small_differences_count_as_none() -> None:
    for factor, is_alike in ((ALIKE - 0.01, True), (ALIKE + 0.01, False)):
        speeds = Speeds()
        for _ in range(MEASURED):
            speeds.measured("a", chunk(8.0), 2.0)
            speeds.measured("b", chunk(8.0), 2.0 * factor)
        assert (set(speeds.of(["a", "b"]).values()) == {1.0}) is is_alike


def test_a_node_that_got_the_small_models_is_not_called_slow() -> None:
    """Small models do a tenth of the work a second; nodes are alike, and then one is not."""
    for slow in (1.0, 3.0):
        speeds = Speeds()
        for node, many_small in (("a", 1), ("b", 6)):
            time = slow if node == "b" else 1.0
            for _ in range(many_small):
                speeds.measured(node, chunk(1.0), 2.0 * time)
            for _ in range(7 - many_small):
                speeds.measured(node, chunk(100.0), 20.0 * time)
        found = speeds.of(["a", "b"])
        assert found["a"] / found["b"] == pytest.approx(slow)


def test_shares_that_differ_leave_the_speeds_as_they_are() -> None:
    """Work that was given by speed takes all as long, and the speeds are found again."""
    speeds = Speeds()
    for _ in range(MEASURED):
        speeds.measured("a", chunk(2.0, 6), 5.0)
        speeds.measured("b", chunk(2.0, 2), 5.0)
    found = speeds.of(["a", "b"])
    assert found["a"] / found["b"] == pytest.approx(3.0)


def test_what_is_over_at_once_says_nothing() -> None:
    speeds = Speeds()
    for _ in range(MEASURED):
        speeds.measured("a", chunk(8.0), 0.1)
        speeds.measured("b", chunk(8.0), 0.9)
    assert speeds.of(["a", "b"]) == {"a": 1.0, "b": 1.0}


def chunk(work: float, candidates: int = 1) -> Job:
    """Return a chunk of candidates of so much work each."""
    one = Candidate(0, 0, np.zeros(1), {}, {}, seeds=(0,))
    return Job(0, (one,) * candidates, {}, work=work * candidates)
