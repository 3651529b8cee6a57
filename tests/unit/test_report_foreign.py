"""Anyone's Optuna study, through `report`."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner

from pso_attn.cli.app import app
from pso_attn.errors import RunError, StorageError
from pso_attn.store import foreign
from pso_attn.store.foreign import foreign_history, foreign_space, is_foreign, open_foreign


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -3, 3)
    kind = trial.suggest_categorical("kind", ["a", None])
    trial.suggest_int("constant", 3, 3)
    depth = trial.suggest_int("depth", 1, 4 + trial.number % 3) if kind == "a" else 0
    trial.report(x, 1)
    if trial.number == 4:
        raise optuna.TrialPruned
    if trial.number == 5:
        raise ValueError("boom")
    return x * x + depth


@pytest.fixture
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the study `theirs`."""
    path = tmp_path_factory.mktemp("theirs") / "their.db"
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(study_name="theirs", storage=f"sqlite:///{path}", sampler=sampler)
    study.optimize(objective, n_trials=14, catch=ValueError)
    study.ask()
    optuna.logging.set_verbosity(before)
    return path


@pytest.fixture
def url(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: None) -> str:
    """Return the URL of a copy of the database, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(database, "their.db")
    return "sqlite:///their.db"


def test_a_study_reads_as_its_finished_trials_and_their_widest_ranges(url: str) -> None:
    study = open_foreign(f"{url}#theirs")
    history, space = foreign_history(study), foreign_space(study)
    assert [trial.number for trial in history.trials] == list(range(14))
    ended = [str(trial.outcome.state) for trial in history.trials]
    assert (ended[4], ended[5], ended.count("COMPLETE")) == ("PRUNED", "FAIL", 12)
    assert set(space.names) == {"x", "kind", "depth"}
    ranges = {coordinate.name: coordinate.knob for coordinate in space.coordinates}
    assert (ranges["depth"].low, ranges["depth"].high) == (1, 6)
    assert ranges["kind"].choices == ("a", "None")


def test_the_report_of_a_study_is_a_page_that_promises_no_confirmation(url: str) -> None:
    before = Path("their.db").read_bytes()
    result = cli("report", f"{url}#theirs")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("As the study says: Trial ")
    folder = Path("runs/theirs-report")
    assert Path("their.db").read_bytes() == before
    page = (folder / "index.html").read_text()
    for absent in ("confirm", "Swarm diversity", "defaults", "validation", "generation"):
        assert absent not in page.split("<body>")[1]
    trials = pd.read_csv(folder / "trials.csv")
    assert {"params.x", "params.depth", "values.value"} <= set(trials.columns)
    assert not (folder / "diversity.png").exists()
    assert (folder / "importances.png").is_file()


def test_a_journal_several_objectives_and_infinite_values_are_reported(
    tmp_path: Path, quiet: None
) -> None:
    journal = tmp_path / "their.log"
    study = optuna.create_study(
        study_name="a/b",
        storage=JournalStorage(JournalFileBackend(str(journal))),
        directions=["maximize", "minimize"],
    )
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["accuracy", "size"])
    infinite = float("inf")
    study.optimize(
        lambda t: (t.suggest_float("x", 0, 1), infinite if t.number == 1 else 1.0), n_trials=12
    )
    copied = shutil.copy(journal, tmp_path / "copied.log")
    result = cli("report", f"{journal}#a/b", f"{copied}#a/b", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "has the best accuracy, 0." in result.stdout
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert folders == {"a-b", "a-b-2"}
    assert "a/b and a/b (2) have the best accuracy" in result.stdout
    assert result.stdout.splitlines()[-1] == f"together: {tmp_path / 'out' / 'index.html'}"


def test_another_study_of_the_same_name_gets_a_folder_of_its_own(url: str) -> None:
    shutil.copy("their.db", "other.db")

    def index(*arguments: str) -> list[str]:
        result = cli("report", *arguments, "--json")
        assert result.exit_code == 0, result.stderr
        document = json.loads(result.stdout)
        together = [document["together"]["index"]] if document["together"] else []
        return [*(one["index"] for one in document["reports"]), *together]

    first, second = "sqlite:///their.db#theirs", "sqlite:///other.db#theirs"
    assert index(first) == ["runs/theirs-report/index.html"]
    before = Path("runs/theirs-report/index.html").read_bytes()
    assert index(second) == ["runs/theirs-report-2/index.html"]
    assert Path("runs/theirs-report/index.html").read_bytes() == before
    assert index(second) == ["runs/theirs-report-2/index.html"]  # its own, written anew
    absolute = f"sqlite:///{Path('their.db').resolve()}#theirs"
    assert index(absolute) == ["runs/theirs-report/index.html"]  # the same study
    both = [f"runs/{name}/index.html" for name in ("theirs-report", "theirs-report-2")]
    assert index(second, first) == [*both[::-1], "runs/theirs-theirs-report/index.html"]
    assert index(first, second) == [*both, "runs/theirs-theirs-report-2/index.html"]
    for folder, storage in (("theirs-report", "their.db"), ("theirs-report-2", "other.db")):
        assert f"an Optuna study of {storage}<" in Path(f"runs/{folder}/index.html").read_text()


def test_the_folder_of_something_else_is_not_written_into(url: str) -> None:
    taken = Path("runs/theirs-report")
    taken.mkdir(parents=True)
    (taken / "config.toml").write_text("")
    assert "runs/theirs-report-2/index.html" in cli("report", f"{url}#theirs").stdout
    assert [path.name for path in taken.iterdir()] == ["config.toml"]


def test_the_same_study_twice_is_refused(url: str) -> None:
    result = cli("report", f"{url}#theirs", f"sqlite:///{Path('their.db').resolve()}#theirs")
    assert result.exit_code == 2
    assert result.stderr.endswith("#theirs twice; name each RUN once\n")
    assert result.stderr.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize("file", ["a.db", "a#b.db", "a.log", "a#b.log"])
def test_names_and_files_may_hold_the_sign_that_parts_them(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: None
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("#c#d", "c", f"{'e' * 300}#f")
    where = f"sqlite:///{file}" if file.endswith("db") else file
    storage = where if "://" in where else JournalStorage(JournalFileBackend(file))
    for name in names:
        optuna.create_study(study_name=name, storage=storage)
    for name in names:
        assert is_foreign(f"{where}#{name}")
        assert open_foreign(f"{where}#{name}").study_name == name
    with pytest.raises(RunError, match=f'no study "d#c" in {where}'):
        open_foreign(f"{where}#d#c")
    assert not is_foreign("absent.log#c#d")
    with pytest.raises(StorageError, match="there is no such file"):
        open_foreign("sqlite:///absent.db#c#d")


def test_the_address_of_a_server_ends_at_the_first_sign_behind_its_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def connect(url: str, journal: Path | None, create: bool) -> Any:
        asked.append(url)
        raise StorageError("not asked")

    monkeypatch.setattr(foreign, "connect", connect)
    for url in ("postgresql://me:s#cret@host:1/x", "mysql+pymysql://host/x"):
        for name in ("c", "c#d"):
            with pytest.raises(StorageError):
                open_foreign(f"{url}#{name}")
            assert asked.pop() == url


def constrained(url: str, name: str, least: float, old: bool = False) -> optuna.Study:
    """Return a study of x, minimised, in which x below `least` violates a constraint."""
    distribution = optuna.distributions.FloatDistribution(0, 1)
    study = optuna.create_study(study_name=name, storage=url)
    for x in (0.1, 0.3, 0.5, 0.7):
        broken: Any = {"system_attrs": {"constraints": [least - x, -1.0]}}
        if not old:
            broken = {"constraints": {"c": least - x, "d": -1.0}}
        study.add_trial(
            optuna.trial.create_trial(
                value=x,
                params={"x": x},
                distributions={"x": distribution},
                intermediate_values={1: x, 2: x},
                **broken,
            )
        )
    return study


@pytest.mark.parametrize("old", [False, True])
def test_the_best_of_a_study_is_the_best_that_keeps_to_its_constraints(
    url: str, old: bool
) -> None:
    study = constrained(url, "bound", 0.4, old)
    history = foreign_history(open_foreign(f"{url}#bound"))
    full = [trial.number for trial in history.trials if trial.is_full]
    assert full == [2, 3]
    assert study.best_trial.number == 2
    result = cli("report", f"{url}#bound")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(
        "As the study says: Trial 2 has the best value, 0.5000, of 2 that completed\n"
        "within its constraints;"
    )
    assert "Trials: 2 complete, 2 infeasible." in result.stdout
    page = Path("runs/bound-report/index.html").read_text()
    assert f"constraint {0 if old else 'c'} &gt; 0" in page
    assert "not trained" not in page


def test_a_study_without_a_feasible_a_finite_or_any_trial_is_said_to_be_that(url: str) -> None:
    constrained(url, "bound", 2.0)
    infinite = optuna.create_study(study_name="infinite", storage=url)
    infinite.optimize(lambda t: t.suggest_float("x", 0, 1) + float("inf"), n_trials=3)
    optuna.create_study(study_name="empty", storage=url)
    said = {
        name: cli("report", f"{url}#{name}").stdout.replace("\n", " ")
        for name in ("bound", "infinite", "empty")
    }
    assert "None of 4 trials completed within its constraints, so nothing" in said["bound"]
    assert "Nothing finite: None of 3 trials completed with a finite value," in said["infinite"]
    assert "Trials: 3 complete." in said["infinite"]
    assert "No trial has finished yet" in said["empty"]
    page = Path("runs/infinite-report/index.html").read_text()
    assert page.count("No evaluation completed with a finite value") == 2


@pytest.mark.parametrize(
    ("reference", "code", "said"),
    [
        ("sqlite:///their.db#their", 2, 'no study "their" in sqlite:///their.db; did you'),
        ("sqlite:///their.db", 2, "names no study; give URL#NAME; it has theirs"),
        ("sqlite:///absent.db#a", 2, "there is no such file"),
        ("sqlite:///text.txt#a", 1, "file is not a database"),
        ("text.txt#a", 1, "text.txt is damaged at line 1; restore"),
        ("their.db#theirs", 2, "is an SQLite database and not a journal; name it as sqlite:///"),
        ("foo://x#y", 2, "is not a database URL"),
        ("postgresql://me:secret@localhost:1/x#y", 1, "me:***@localhost:1/x does not answer"),
        ("nothing#y", 2, "there is no run"),
        ("nothing.log#y", 2, "nothing.log does not exist; a study is named by URL#NAME"),
        ("no/folder#y", 2, "no/folder does not exist; a study is named by URL#NAME"),
    ],
)
def test_a_study_that_is_not_there_is_one_sentence(
    url: str, reference: str, code: int, said: str
) -> None:
    Path("text.txt").write_text("not a database, and not a journal either\n" * 30)
    result = cli("report", reference)
    assert result.exit_code == code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "attribute", ["baseline-A", {"objectives": ["a", "b"]}, {"objectives": 3}]
)
def test_an_attribute_of_somebody_elses_that_is_called_as_ours_is_not_ours(
    url: str, attribute: Any
) -> None:
    study = optuna.create_study()
    study.set_user_attr("configuration", attribute)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert foreign_history(study).objectives[0].name == "value"
