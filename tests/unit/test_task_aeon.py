"""The series that aeon carries, where it is installed: its numba holds numpy back elsewhere."""

import numpy as np
import pytest

from pso_attn.errors import DataError
from pso_attn.tasks import make_task

pytest.importorskip("aeon", reason='pip install "pso-attn[series]"')


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of numba and its like are not ours
@pytest.mark.parametrize(
    ("name", "rows", "channels", "steps", "classes"),
    [
        ("ItalyPowerDemand", 1096, 1, 24, 2),
        ("ArrowHead", 211, 1, 251, 3),
        ("BasicMotions", 80, 6, 100, 4),
        ("JapaneseVowels", 640, 12, 29, 9),
    ],
)
def test_aeons_own_series_are_read_without_a_network(
    name: str, rows: int, channels: int, steps: int, classes: int
) -> None:
    task = make_task("series", f"aeon:{name}")
    found = task.describe()
    assert (found["rows"], found["channels"]) == (rows, channels)
    assert task.info.outputs == classes
    assert steps in np.atleast_1d(found["steps"])
    assert np.isfinite(task.train.inputs.numpy()).all()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("GunPont", 'labelled series GunPont on this machine; did you mean "GunPoint"?'),
        ("ElectricDevices", "labelled series ElectricDevices on this machine"),
        ("Covid3Month", "labelled series Covid3Month on this machine"),  # has numbers, not labels
    ],
)
def test_series_that_aeon_does_not_carry_are_refused_before_a_network_is_asked(
    name: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket", None)
    with pytest.raises(DataError) as raised:
        make_task("series", f"aeon:{name}")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
