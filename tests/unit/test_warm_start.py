"""Searches that begin with the best settings of another search."""

import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.config import read_configuration
from pso_attn.configured_space import make_bare_space
from pso_attn.errors import ConfigurationError, RunError
from pso_attn.types import Trial
from pso_attn.warm_start import WarmStart, warm_started

TINY = ("--particles", "6", "--generations", "1", "--set", "budget.steps=3")
LAYERED = 'search.temperature={low=0.5,high=2.0,per="layer"}'
TWO_LAYERS = (
    *("--set", "model.layers=2", "--set", LAYERED, "--set", "budget.rungs=[1.0]"),
    *("--set", "constraints.expressions=[]"),
)


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ranked(run: str, folder: Path) -> list[Trial]:
    """Return a run's completed trials, the best first."""
    history = load_run(run, folder).history
    return sorted((t for t in history.trials if t.is_full), key=history.loss)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one finished run, `source`."""
    folder = tmp_path_factory.mktemp("warm") / "runs"
    search = ("search", "digits", *TINY, *TWO_LAYERS)
    result = cli(*search, "--run", "source", "--runs-dir", folder)
    assert result.exit_code == 0, result.stderr
    return folder


def study(tmp_path: Path, *rows: dict[str, Any]) -> str:
    """Return the reference of a study whose trials have these parameters, the best first."""
    url = f"sqlite:///{tmp_path}/their.db"
    made = optuna.create_study(study_name="theirs", storage=url)
    for value, row in enumerate(rows):
        kinds = {
            name: optuna.distributions.CategoricalDistribution([held])
            if isinstance(held, str | bool)
            else optuna.distributions.FloatDistribution(-1e9, 1e9)
            for name, held in row.items()
        }
        trial = optuna.trial.create_trial(value=float(value), params=row, distributions=kinds)
        made.add_trial(trial)
    return f"{url}#theirs"


def warmed(reference: str, *sets: str, folder: Path = Path("runs")) -> WarmStart:
    return warm_started(read_configuration("digits", sets), reference, folder)


def test_a_start_of_the_file_is_not_tried_again(tmp_path: Path) -> None:
    reference = study(tmp_path, {"heads": 8.0}, {"heads": 2.0})
    found = warmed(reference, "start=[{heads=8}]").configuration.starts
    assert [start["heads"] for start in found] == [8, 2]


def test_the_best_settings_are_trained_first_and_stand_in_the_runs_own_configuration(
    runs: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(runs, folder)
    search = ("search", "digits", *TINY, *TWO_LAYERS, "--timeout", "0", "--run", "warm")
    said = cli(*search, "--warm-start", "source", "--runs-dir", folder)
    assert said.exit_code == 0, said.stderr
    assert "note: warm start from source: the best settings of " in said.stderr
    expected = [t for t in ranked("source", folder) if t.number != 0][:3]
    shutil.rmtree(folder / "source")
    assert cli("resume", "warm", "--runs-dir", folder).exit_code == 0
    trained = load_run("warm", folder).history.trials
    assert [trained[k].candidate.params for k in (1, 2, 3)] == [
        trial.candidate.params for trial in expected
    ]
    assert cli("verify", "warm", "--runs-dir", folder).exit_code == 0


def test_by_which_of_several_objectives_the_best_are_the_best_is_said(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/two.db"
    made = optuna.create_study(study_name="two", storage=url, directions=["maximize", "minimize"])
    made.optimize(lambda t: (lr := t.suggest_float("lr", 0.003, 0.008), lr), n_trials=4)
    warm = warmed(f"{url}#two")
    assert "the best are those of the most value 0, the first of its 2 objectives" in warm.notes[0]
    rows = sorted((trial.params["lr"] for trial in made.trials), reverse=True)
    assert [start["lr"] for start in warm.configuration.starts] == pytest.approx(rows)
    one = warmed(study(tmp_path, {"lr": 0.004}))
    assert not any("objectives" in note for note in one.notes)


def test_values_outside_the_space_are_dropped_with_a_word(tmp_path: Path) -> None:
    reference = study(tmp_path, {"heads": 64.0, "lr": 0.004, "mechanism": "linear", "kappa": 1.0})
    warm = warmed(reference)
    assert warm.configuration.starts == ({"mechanism": "linear", "lr": 0.004},)
    assert any("defaults stand in: heads 64" in note for note in warm.notes)
    assert any("not searched here: kappa" in note for note in warm.notes)


def test_better_trials_that_lie_outside_whole_are_counted_and_named(tmp_path: Path) -> None:
    rows = [{"lr": lr} for lr in (7.0, 8.0, 0.004, 9.0, 0.004, 0.006, 5.0)]
    warm = warmed(study(tmp_path, *rows))
    assert [start["lr"] for start in warm.configuration.starts] == [0.004, 0.006]
    tried, passed = (note.partition("#theirs: ")[2] for note in warm.notes)
    assert tried == (
        "the best settings that can be searched here, of 2 of 7 trials, are tried first, after "
        "the defaults"
    )
    assert passed == (
        "3 better trials are passed over for values outside the ranges here, lr 7, 8, 9; without "
        "these their settings are tried already"
    )


def test_where_all_but_the_defaults_lie_outside_no_start_is_claimed(tmp_path: Path) -> None:
    space = make_bare_space(read_configuration("digits", ()))
    usual = space.decode(space.encode({}))["lr"]
    warm = warmed(study(tmp_path, {"lr": 7.0}, {"lr": usual}))
    assert not warm.configuration.starts
    tried, passed = (note.partition("#theirs: ")[2] for note in warm.notes)
    assert tried == "it has nothing but the defaults that can be searched here"
    assert passed.startswith("1 trial is passed over for values outside the ranges here, lr 7;")


def test_whole_numbers_that_a_study_holds_as_floats_are_taken_as_whole(tmp_path: Path) -> None:
    warm = warmed(study(tmp_path, {"heads": 2.0}))
    assert warm.configuration.starts == ({"heads": 2},)
    assert isinstance(warm.configuration.starts[0]["heads"], int)


def test_starts_are_the_best_that_differ_half_a_swarm_at_most(tmp_path: Path) -> None:
    rows = [{"lr": lr} for lr in (0.004, 0.004, 0.006, 0.007, 0.008)]
    reference = study(tmp_path, *rows)
    two = warmed(reference, "budget.particles=4", "budget.batch=4").configuration.starts
    assert [start["lr"] for start in two] == [0.004, 0.006]
    one = warmed(reference, "budget.particles=1", "budget.batch=1").configuration.starts
    assert [start["lr"] for start in one] == [0.004]


def test_a_value_for_the_model_stands_for_each_layer_and_equal_layers_for_the_model(
    runs: Path, tmp_path: Path
) -> None:
    reference = study(tmp_path, {"temperature": 1.5})
    [start] = warmed(reference, "model.layers=2", LAYERED).configuration.starts
    assert start == {"temperature.0": 1.5, "temperature.1": 1.5}
    starts = warmed("source", "model.layers=2", folder=runs).configuration.starts
    assert starts
    assert not any("temperature" in start for start in starts)


@pytest.mark.parametrize(
    ("low", "expected", "refused"),
    [(0.005, 0.006, ""), (1.0, None, "no completed trial within its constraints to start from")],
)
def test_trials_that_violate_a_constraint_start_nothing(
    low: float, expected: float | None, refused: str, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/their.db"
    made = optuna.create_study(study_name="theirs", storage=url)
    distribution = optuna.distributions.FloatDistribution(0, 1)
    for lr in (0.004, 0.006):
        trial = optuna.trial.create_trial(
            value=lr,
            params={"lr": lr},
            distributions={"lr": distribution},
            constraints={"c": low - lr},
        )
        made.add_trial(trial)
    if refused:
        with pytest.raises(RunError, match=refused):
            warmed(f"{url}#theirs")
    else:
        assert warmed(f"{url}#theirs").configuration.starts == ({"lr": expected},)


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ([], RunError, "has no completed trial to start from"),
        ([{"x": 1.0}], ConfigurationError, "it varies x, and the space"),
        ([{"lr": 7.0}], ConfigurationError, "no value in the ranges that digits searches: lr 7$"),
    ],
)
def test_a_search_of_something_else_is_refused_in_one_sentence(
    tmp_path: Path, rows: list[dict[str, Any]], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        warmed(study(tmp_path, *rows))


def test_a_warm_start_from_what_is_not_there_leaves_no_run(tmp_path: Path) -> None:
    for reference in ("absent", "sqlite:///absent.db#a"):
        result = cli("search", "digits", *TINY, "--warm-start", reference, "--runs-dir", tmp_path)
        assert result.exit_code in (1, 2)
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
