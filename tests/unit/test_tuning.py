"""A search from Python."""

import copy
import doctest
import importlib
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import pso_attn
import pso_attn.tuning
from pso_attn.errors import ConfigurationError, DeviceError, RunError

SEARCH: dict[str, Any] = {"x": {"low": 0.0, "high": 1.0}}
SMALL: dict[str, Any] = {"particles": 3, "generations": 2, "steps": 4}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def far(settings: Any, trial: Any) -> float:
    return abs(settings["x"] - 0.3)


def test_the_docstrings_example_runs() -> None:
    assert doctest.testmod(pso_attn.tuning).failed == 0


def test_a_search_gives_its_best_a_frame_and_a_report() -> None:
    found = pso_attn.tune(SEARCH, far, run="a", **SMALL)
    assert found.best.value == far(found.best.settings, None)
    frame = found.frame
    assert len(frame) == 6
    assert frame["values.loss"].min() == found.best.value
    assert frame["number"][frame["values.loss"].idxmin()] == found.best.trial
    assert found.report().is_file()


def test_the_same_call_with_more_generations_goes_on_to_the_same_trajectory() -> None:
    pso_attn.tune(SEARCH, far, run="a", **SMALL)
    longer = pso_attn.tune(SEARCH, far, run="a", **{**SMALL, "generations": 4})
    whole = pso_attn.tune(SEARCH, far, run="b", **{**SMALL, "generations": 4})
    assert list(longer.frame["params.x"]) == list(whole.frame["params.x"])
    assert len(longer.frame) == 12


def test_a_run_that_began_otherwise_is_not_taken_up() -> None:
    pso_attn.tune(SEARCH, far, run="a", **SMALL)
    with pytest.raises(RunError, match=r"run a began with search = .* and now it is"):
        pso_attn.tune({"x": {"low": 0.0, "high": 2.0}}, far, run="a", **SMALL)


def test_a_space_is_a_file_a_name_a_text_or_a_dict(tmp_path: Path) -> None:
    text = 'objectives = ["loss"]\n[search]\nx = { low = 0.0, high = 1.0 }\n'
    (tmp_path / "a.toml").write_text(text)
    spaces = (tmp_path / "a.toml", str(tmp_path / "a.toml"), text, {"search": SEARCH}, SEARCH)
    settings = [pso_attn.tune(space, far, **SMALL).best.settings for space in spaces]
    assert all(one == settings[0] for one in settings)
    with pytest.raises(ConfigurationError, match='"digts" is not a built-in space'):
        pso_attn.tune("digts", **SMALL)
    with pytest.raises(ConfigurationError, match="the space's text is not valid TOML"):
        pso_attn.tune("a = \n b", far)


def test_more_is_better_where_it_is_said() -> None:
    def near(settings: Any, trial: Any) -> float:
        return -far(settings, trial)

    found = pso_attn.tune(SEARCH, near, maximize=True, **SMALL)
    assert found.best.value == found.frame["values.loss"].max()


def test_lists_are_taken_where_it_is_said() -> None:
    def lists(settings: Any, trials: Any) -> list[float]:
        return [one["x"] for one in settings]

    assert len(pso_attn.tune(SEARCH, lists, batched=True, **SMALL).frame) == 6


def test_without_one_completed_trial_there_is_no_best() -> None:
    found = pso_attn.tune(SEARCH, lambda settings, trial: None, **SMALL)
    with pytest.raises(RunError, match="no completed trial to be the best: of 6, 6 failed"):
        _ = found.best


def test_what_a_script_defines_is_resumed_by_the_script(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pso_attn.cli.app import app

    pso_attn.tune(SEARCH, lambda settings, trial: settings["x"], run="a", **SMALL)
    assert CliRunner().invoke(app, ["best", "a"]).exit_code == 0
    resumed = CliRunner().invoke(app, ["resume", "a", "--generations", "3"])
    assert resumed.exit_code == 2
    assert "call tune again with the same run name" in resumed.stderr


def test_how_an_objective_is_read_needs_one() -> None:
    with pytest.raises(ConfigurationError, match="say how an objective is read, and none is"):
        pso_attn.tune("digits", maximize=True)


def test_the_extra_is_named_where_transformers_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "pso_attn.hugging_face", raising=False)
    with pytest.raises(ConfigurationError, match=r'pip install "pso-attn\[transformers\]"'):
        importlib.import_module("pso_attn.hugging_face")


def test_a_run_of_before_with_a_relative_database_or_without_a_study_is_taken_up(
    tmp_path: Path,
) -> None:
    where = {"run": "a", "storage": "sqlite:///all.db", **SMALL}
    pso_attn.tune(SEARCH, far, **where)
    config = tmp_path / "runs" / "a" / "config.toml"
    config.write_text(config.read_text().replace(f"sqlite:///{tmp_path}/", "sqlite:///"))
    assert len(pso_attn.tune(SEARCH, far, **where).frame) == 6
    pso_attn.tune(SEARCH, far, run="b", **SMALL)
    (tmp_path / "runs" / "b" / "journal.log").unlink()  # as if it was stopped before its study
    small = {**SMALL, "generations": None}
    assert (
        len(
            pso_attn.tune(
                {"search": SEARCH, "budget": {"generations": 2}}, far, run="b", **small
            ).frame
        )
        == 6
    )


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ({"layers": 1, "d_model": 8}, {"search": {}, "weights": {"examples": 16}}),
        ({"family": "lstm", "layers": 1, "hidden": 4}, {"search": {"lr": {}}}),
    ],
)
def test_the_same_call_goes_on_where_what_was_chosen_at_the_start_stands_in_the_run(
    model: dict[str, Any], more: dict[str, Any]
) -> None:
    space = {"task": "digits", "model": model, **more}
    small = {"particles": 2, "generations": 1, "steps": 2}
    first = pso_attn.tune(copy.deepcopy(space), run="a", **small)
    again = pso_attn.tune(copy.deepcopy(space), run="a", **small)
    assert len(again.frame) == len(first.frame) == 2
    longer = pso_attn.tune({**space, "budget": {"generations": 2}}, run="a", particles=2, steps=2)
    assert len(longer.frame) == 4
    kept = pso_attn.tune(copy.deepcopy(space), run="a", **{**small, "generations": None})
    assert len(kept.frame) > 4, "the budget that the space says by itself"
    with pytest.raises(DeviceError):
        pso_attn.tune(copy.deepcopy(space), run="a", device="banana", **small)


def test_what_names_a_task_is_a_whole_file_though_it_has_no_search_table() -> None:
    text = 'task = "digits"\n[model]\nlayers = 1\nd_model = 8\n[weights]\nexamples = 16\n'
    small = {"particles": 2, "generations": 1, "steps": 2}
    for space in (text, tomllib.loads(text)):
        found = pso_attn.tune(space, **small)
        assert found.run.configuration.weights == {"examples": 16}
    knob = pso_attn.tune({"task": ["a", "b"]}, lambda settings, trial: 1.0, **small)
    assert set(knob.best.settings) == {"task"}
