import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pso_attn.config import read_configuration
from pso_attn.driving import start_run
from pso_attn.runs import LoadedRun, load_run
from pso_attn.types import History
from pso_attn.verify import verify_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    """A finished run of two generations."""
    runs_dir = tmp_path_factory.mktemp("verify")
    sets = ["budget.steps=2", "budget.rungs=[]"]
    configuration = read_configuration("digits", sets, {"particles": 3, "generations": 2})
    with start_run(configuration, "a", runs_dir) as driven:
        driven.run(float("inf"))
    return load_run("a", runs_dir)


@pytest.fixture
def copy(run: LoadedRun, tmp_path: Path) -> LoadedRun:
    """The same run, to be damaged."""
    shutil.copytree(run.folder.path, tmp_path / "a")
    return load_run("a", tmp_path)


def edit(run: LoadedRun, key: str, change: Callable[[Any], Any]) -> None:
    """Rewrite the journal's last record that holds `key`, at any depth."""

    def edited(value: Any) -> tuple[Any, bool]:
        if isinstance(value, dict) and key in value:
            return {**value, key: change(value[key])}, True
        if isinstance(value, dict):
            inside = {name: edited(item) for name, item in value.items()}
            return {name: item for name, (item, _) in inside.items()}, any(
                found for _, found in inside.values()
            )
        return value, False

    lines = run.folder.journal.read_text().splitlines()
    for number in reversed(range(len(lines))):
        record, found = edited(json.loads(lines[number]))
        if found:
            lines[number] = json.dumps(record)
            run.folder.journal.write_text("\n".join(lines) + "\n")
            return
    raise AssertionError(f"the journal has no {key}")


def changed(run: LoadedRun, **fields: object) -> History:
    """The run's history with the last trial's candidate changed."""
    history = run.history
    last = history.generations[-1]
    trial = replace(last[-1], candidate=replace(last[-1].candidate, **fields))
    return History(history.objectives, (*history.generations[:-1], (*last[:-1], trial)))


def test_a_run_is_what_its_seed_and_history_make_of_it(run: LoadedRun) -> None:
    assert verify_run(run, run.history) is None


def test_a_position_that_differs_in_the_last_bit_is_found(run: LoadedRun) -> None:
    position = run.history.trials[-1].candidate.position.copy()
    position[1] += 1e-16 + position[1] * 3e-16
    difference = verify_run(run, changed(run, position=position))
    assert difference is not None
    assert (difference.generation, difference.trial, difference.what) == (1, 5, "position[1]")
    assert "generation 1, trial 5: the stored position[1] is" in difference.sentence()


@pytest.mark.parametrize(
    ("what", "value"), [("seeds", (1,)), ("particle", 0), ("settings.family", {})]
)
def test_whatever_else_of_a_plan_differs_is_found(
    run: LoadedRun, what: str, value: object
) -> None:
    difference = verify_run(run, changed(run, **{what.partition(".")[0]: value}))
    assert difference is not None
    assert difference.what == what


@pytest.mark.parametrize(
    ("key", "change", "what"),
    [
        ("position", lambda position: [position[0] / 2 + 0.1, *position[1:]], "position[0]"),
        ("seeds", lambda seeds: [seeds[0] + 1], "seeds"),
        ("params", lambda params: {**params, "lr": params["lr"] * 1.01}, "params.lr"),
    ],
)
def test_a_stored_trial_that_is_not_its_plan_is_found(
    copy: LoadedRun, key: str, change: Callable[[Any], Any], what: str
) -> None:
    edit(copy, key, change)
    difference = verify_run(copy, copy.history)
    assert difference is not None
    assert difference.what == what
