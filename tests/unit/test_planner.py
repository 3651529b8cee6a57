"""The planner: what it chooses from what it measured, and what it keeps."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from pso_attn.evaluate.member import Member, read_member
from pso_attn.evaluate.planner import (
    ENOUGH,
    LOOKS,
    START_S,
    Forecast,
    Planner,
    _machine,
    _signature,
)
from pso_attn.evaluate.tiles import Cut
from pso_attn.tasks import Task, make_task

CPU = torch.device("cpu")
COUNT = 12


@pytest.fixture(scope="module")
def task() -> Task:
    return make_task("digits")


@pytest.fixture(scope="module")
def members(task: Task) -> list[Member]:
    settings: dict[str, Any] = {"d_model": 16, "layers": 1, "batch_size": 8}
    return [read_member({**settings, "heads": 2}, seed, task) for seed in range(COUNT)]


def knowing(file: Path, task: Task, members: list[Member], times: dict[str, float]) -> Planner:
    """Return a planner whose machine has measured these seconds of a step."""
    known = {_signature(members, task, threads): {**times, LOOKS: ENOUGH} for threads in (1, 2)}
    file.write_text(json.dumps({_machine(CPU): known}), encoding="utf-8")
    return Planner(task, CPU, file)


TIMES = {
    "1 on 1": 5.0,
    "2 on 1": 4.0,
    "4 on 1": 3.0,
    "2 on 2": 2.0,
    "4 on 2": 6.0,
    "alone": 0.5,
}  # ms
SLOWER = {"4 on 2": 9.0, "8 on 2": 9.0}  # the cuts on two threads that nobody chooses


@pytest.mark.parametrize(
    ("changed", "threads", "quickest"),
    [
        ({}, 1, Cut(4, 1)),
        ({"2 on 1": 1.0}, 1, Cut(2, 1)),
        ({"1 on 1": 1.0}, 1, Cut(1, 1)),
        ({}, 2, Cut(2, 2)),
        ({"4 on 2": 1.0}, 2, Cut(4, 2)),
        ({"1 on 1": 1.0}, 2, Cut(1, 1)),  # threads that get in each other's way
    ],
)
def test_the_quickest_cut_is_chosen(
    tmp_path: Path,
    task: Task,
    members: list[Member],
    changed: dict[str, float],
    threads: int,
    quickest: Cut,
) -> None:
    milliseconds = {**TIMES, "8 on 1": 9.0, "8 on 2": 9.0, **changed}
    times = {name: value / 1e3 for name, value in milliseconds.items()}
    planner = knowing(tmp_path / "known.json", task, members, times)
    forecast = planner.forecast(members, 300, threads)
    assert forecast.cut == quickest
    assert forecast.step_seconds == times[str(quickest)]
    assert forecast.alone_seconds == pytest.approx(0.5e-3 * COUNT / threads)
    assert forecast.gain == pytest.approx(forecast.alone_seconds / forecast.step_seconds)


def test_helpers_are_tried_where_all_that_they_gain_outweighs_their_start(
    tmp_path: Path, task: Task, members: list[Member]
) -> None:
    """Two threads gain a quarter, two cores could gain a half: 1 ms of each step."""
    times = {**SLOWER, "1 on 1": 4e-3, "2 on 2": 3e-3, "alone": 0.5}
    planner = knowing(tmp_path / "known.json", task, members, times)
    longest = round(START_S / 1e-3)
    assert planner.forecast(members, longest // 10, 2, times=9).cut == Cut(2, 2)
    assert not planner.helpers.are_running
    planner.forecast(members, longest // 10, 2, times=11)
    assert planner.helpers.are_running
    file = tmp_path / "known.json"
    known = json.loads(file.read_text(encoding="utf-8"))[_machine(CPU)]
    assert known[_signature(members, task, 2)]["2 on 2 apart"] > 0
    planner.helpers.close()


@pytest.mark.parametrize(("seconds", "is_chosen"), [(2e-3, True), (3.1e-3, False)])
def test_helpers_train_where_they_were_measured_to_be_quicker(
    tmp_path: Path, task: Task, members: list[Member], seconds: float, is_chosen: bool
) -> None:
    times = {**SLOWER, "1 on 1": 4e-3, "2 on 2": 3e-3, "2 on 2 apart": seconds, "alone": 0.5}
    planner = knowing(tmp_path / "known.json", task, members, times)
    for steps in (5_000, 50):  # and where they run already, for whatever they gain
        forecast = planner.forecast(members, steps, 2)
        assert forecast.cut == Cut(2, 2, apart=is_chosen)
        assert planner.helpers.are_running == is_chosen
    planner.helpers.close()


def test_a_machine_measures_in_three_processes_and_remembers_the_quickest(
    tmp_path: Path, task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cache" / "known.json"

    def known() -> dict[str, float]:
        read: dict[str, dict[str, float]]
        read = json.loads(file.read_text(encoding="utf-8"))[_machine(CPU)]
        return read[_signature(members, task, 1)]

    def forecast(each_takes_s: float) -> Forecast:
        """Return what a process expects; one planner stands for it."""
        times, planner = count(1), Planner(task, CPU, file)
        monkeypatch.setattr(
            "pso_attn.evaluate.planner._quickest_step", lambda *_: next(times) * each_takes_s
        )
        found = planner.forecast(members, 100_000, 1)
        assert planner.forecast(members, 100_000, 1) == found  # it measures once
        return found

    busy = forecast(0.2)
    assert busy.step_seconds == 0.2
    assert set(known()) == {"1 on 1", "2 on 1", "4 on 1", "8 on 1", "alone", LOOKS}
    quiet = forecast(0.1)
    assert quiet.step_seconds == 0.1
    assert forecast(0.3) == quiet
    before = known()
    assert forecast(0.001) == quiet  # nothing is timed again
    assert known() == before


def test_processes_at_once_keep_what_the_others_measured(
    tmp_path: Path, task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, few = tmp_path / "known.json", members[: COUNT // 2]
    planners = [Planner(task, CPU, file) for _ in range(3)]  # all before any has measured

    def measured(number: int, members: list[Member], seconds: float) -> Forecast:
        monkeypatch.setattr("pso_attn.evaluate.planner._quickest_step", lambda *_: seconds)
        return planners[number].forecast(members, 100_000, 1)

    measured(0, members, 0.2)
    measured(1, few, 0.3)
    assert measured(1, members, 0.5).step_seconds == 0.2
    assert measured(2, members, 0.1).step_seconds == 0.1
    known = json.loads(file.read_text(encoding="utf-8"))[_machine(CPU)]
    shared, own = (known[_signature(chosen, task, 1)] for chosen in (members, few))
    assert (shared["1 on 1"], shared[LOOKS]) == (0.1, 3)
    assert (own["1 on 1"], own[LOOKS]) == (0.3, 1)


def test_swarms_of_about_as_many_shapes_share_a_calibration(task: Task) -> None:
    def of_shapes(count: int) -> str:
        heads = [(1, 2, 4, 8, 16)[row % count] for row in range(COUNT)]
        settings = [{"d_model": 16, "batch_size": 8, "heads": number} for number in heads]
        return _signature([read_member(s, 0, task) for s in settings], task, 1)

    assert of_shapes(3) == of_shapes(4)
    assert len({of_shapes(count) for count in (1, 2, 4, 5)}) == 4


def test_a_short_search_is_calibrated_shortly(
    tmp_path: Path, task: Task, members: list[Member]
) -> None:
    file = tmp_path / "known.json"
    Planner(task, CPU, file).forecast(members, 60, 1)
    known = json.loads(file.read_text(encoding="utf-8"))[_machine(CPU)][
        _signature(members, task, 1)
    ]
    assert known["1 on 1"] > 0
    assert "8 on 1" not in known


def test_many_short_trainings_leave_time_for_a_whole_calibration(
    tmp_path: Path, task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pso_attn.evaluate.planner._quickest_step", lambda *_: 0.1)
    file = tmp_path / "known.json"
    Planner(task, CPU, file).forecast(members, 60, 1, times=10_000)
    known = json.loads(file.read_text(encoding="utf-8"))[_machine(CPU)]
    assert "8 on 1" in known[_signature(members, task, 1)]


def test_a_long_search_tries_what_short_ones_left_out(
    tmp_path: Path, task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pso_attn.evaluate.planner._quickest_step", lambda *_: 0.1)
    file = tmp_path / "known.json"
    knowing(file, task, members, {"1 on 1": 0.2, "alone": 0.5})
    Planner(task, CPU, file).forecast(members, 100_000, 1)
    known = json.loads(file.read_text(encoding="utf-8"))[_machine(CPU)]
    assert {"1 on 1", "2 on 1", "4 on 1", "8 on 1"} <= known[_signature(members, task, 1)].keys()


def test_calibrating_leaves_torchs_generator_as_it_was(
    tmp_path: Path, task: Task, members: list[Member]
) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Planner(task, CPU, tmp_path / "known.json").forecast(members, 60, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_trainings_of_few_steps_are_cut_by_cores_and_not_measured(
    tmp_path: Path, task: Task, members: list[Member]
) -> None:
    file = tmp_path / "known.json"
    forecast = Planner(task, CPU, file).forecast(members, 10, 3)
    assert forecast.cut == Cut(3, 3)
    assert forecast.gain is None
    assert not file.exists()


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[1]", '{"a": {"b": {"c": "d"}}}', '{"a": {"b": {}}}'),
        '{"a": {"b": {"c": [1], "d": 1}}}',
        pytest.param(f'{{"a": {{"b": {{"c": 1{400 * "0"}, "d": 1}}}}}}', id="beyond floats"),
        pytest.param(100_000 * "[", id="deep"),
    ],
)
def test_a_damaged_cache_is_measured_anew(
    tmp_path: Path, task: Task, members: list[Member], content: str
) -> None:
    file = tmp_path / "known.json"
    file.write_text(content, encoding="utf-8")
    assert Planner(task, CPU, file).forecast(members, 60, 1).gain is not None
    assert _machine(CPU) in json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "times",
    [
        {"x": 1.0},
        {"alone": 1.0},
        {"1 on 1": 1.0, "x": 1.0},
        {"1 on 1": 0.0, "alone": 0.5},
        {"1 on 1": -1.0, "alone": 0.5},
        {"1 on 1": float("nan"), "alone": 0.5},
    ],
    ids=str,
)
def test_a_calibration_that_lacks_what_a_choice_needs_is_taken_again(
    tmp_path: Path, task: Task, members: list[Member], times: dict[str, float]
) -> None:
    file = tmp_path / "known.json"
    forecast = knowing(file, task, members, times).forecast(members, 60, 1)
    assert 0 < forecast.alone_seconds < 1
    known = json.loads(file.read_text(encoding="utf-8"))[_machine(CPU)]
    assert {"alone", "1 on 1"} <= known[_signature(members, task, 1)].keys()


def test_seconds_that_somebody_wrote_as_texts_are_numbers(
    tmp_path: Path, task: Task, members: list[Member]
) -> None:
    texts: Any = {"1 on 1": "0.25", "alone": "0.5"}
    forecast = knowing(tmp_path / "known.json", task, members, texts).forecast(members, 60, 1)
    assert (forecast.step_seconds, forecast.alone_seconds) == (0.25, 0.5 * COUNT)


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, task: Task, members: list[Member]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    planner = Planner(task, CPU, tmp_path / "file" / "known.json")
    assert planner.forecast(members, 60, 1).gain is not None
    (tmp_path / "known.json").mkdir()  # so that nothing can take its place
    assert Planner(task, CPU, tmp_path / "known.json").forecast(members, 60, 1).gain is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "known.json"]


def test_who_has_no_home_has_no_cache(
    task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert Planner(task, CPU).forecast(members, 60, 1).gain is not None


def test_the_quicker_recurrence_is_measured_and_remembered(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = {"family": "lstm", "hidden": 8, "batch_size": 8}
    ways = {
        way: [read_member({**outer, "recurrence": way}, seed, task) for seed in range(3)]
        for way in ("batched", "one_by_one")
    }
    file = tmp_path / "known.json"
    chosen = Planner(task, CPU, file).quickest(ways)
    (known,) = json.loads(file.read_text(encoding="utf-8"))[_machine(CPU)].values()
    assert set(known) == set(ways)
    assert chosen == min(known, key=known.__getitem__)
    monkeypatch.setattr("pso_attn.evaluate.planner._quickest_step", None)  # nothing is timed again
    assert Planner(task, CPU, file).quickest(ways) == chosen
    slow = {way: 1.0 + (way == chosen) for way in ways}
    content = json.loads(file.read_text(encoding="utf-8"))
    content[_machine(CPU)] = dict.fromkeys(content[_machine(CPU)], slow)
    file.write_text(json.dumps(content), encoding="utf-8")
    assert Planner(task, CPU, file).quickest(ways) != chosen


def test_the_choice_is_said_in_words() -> None:
    assert str(Forecast(16, Cut(2, 2), 1.0, 3.04)) == (
        "16 trainings in 2 batches of 8 on 2 threads: "
        "predicted 3.0 times as fast as one by one on as many"
    )
    assert str(Forecast(5, Cut(1, 1), 0.0, 0.0)) == "5 trainings at once on 1 thread"
    assert str(Forecast(4, Cut(2, 2, apart=True), 0.0, 0.0)) == (
        "4 trainings in 2 batches of 2 on 2 processes"
    )
    assert "batches of 3" in str(Forecast(5, Cut(2, 1), 0.0, 0.0))


def test_what_another_version_measured_is_measured_anew(
    tmp_path: Path, task: Task, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "known.json"
    knowing(file, task, members, {"1 on 1": 1e3, "alone": 1e3})
    monkeypatch.setattr("pso_attn.evaluate.planner.__version__", "0.0.0")
    assert Planner(task, CPU, file).forecast(members, 60, 1).step_seconds < 1e3


def test_what_was_measured_on_another_gpu_of_the_machine_is_measured_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of(name: str) -> str:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
        return _machine(torch.device("cuda"))

    assert of("one") == of("one") != of("another")
