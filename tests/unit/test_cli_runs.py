"""Real tiny searches through the command line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.errors import AddressError
from pso_attn.store.connection import database_of
from pso_attn.types import History

TINY = ("--particles", "4", "--generations", "2", "--set", "budget.steps=4")


def cli(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(*arguments: str | Path) -> Any:
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def floats(history: History) -> list[Any]:
    return [
        (
            trial.candidate.position.tolist(),
            trial.candidate.params,
            trial.candidate.seeds,
            trial.outcome.state,
            trial.outcome.values,
            trial.outcome.curve,
        )
        for trial in history.trials
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one finished run, `done`."""
    folder = tmp_path_factory.mktemp("cli") / "runs"
    result = cli("search", "digits", *TINY, "--run", "done", "--runs-dir", folder)
    assert result.exit_code == 0, result.stderr
    for following in ("confirm:  pso-attn confirm", "train:    pso-attn train"):
        assert f"{following} done --runs-dir {folder}" in result.stdout
    assert "best" in result.stdout
    assert "defaults" in result.stdout
    assert "2/2 generations · 8/8 particles" in result.stderr
    return folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with nothing in it; at the end there must be no run."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not list(tmp_path.glob("runs/*"))


def test_a_search_leaves_the_run_folder_of_the_contract(runs: Path) -> None:
    left = {path.name for path in (runs / "done").iterdir()}
    assert {"config.toml", "environment.json", "journal.log", "checkpoints", "lock"} <= left
    assert (runs / "done" / "checkpoints" / "best.safetensors").is_file()
    environment = json.loads((runs / "done" / "environment.json").read_text())
    assert (environment["device"], environment["threads"]) == ("cpu", 1)


def test_best_is_the_contracts_document(runs: Path) -> None:
    found = document("best", "done", "--runs-dir", runs)
    assert list(found) == [
        *("schema", "run", "generation", "particle", "trial", "loss", "metrics", "settings")
    ]
    run = load_run("done", runs)
    best = run.best()
    assert best is not None
    assert (found["trial"], found["particle"]) == (best.number, best.candidate.particle)
    assert found["settings"] == best.candidate.settings
    full = [trial for trial in run.history.trials if trial.is_full]
    assert found["loss"] == min(run.history.loss(trial) for trial in full)
    assert float(cli("best", "done", "--runs-dir", runs, "--quiet").stdout) == found["loss"]


def test_a_run_is_listed_shown_and_watched(runs: Path) -> None:
    listed = document("runs", "--runs-dir", runs)["runs"]
    assert [run["run"] for run in listed if run["run"] == "done"] == ["done"]
    shown = document("show", runs / "done")
    assert shown["state"] == "finished"
    assert shown["configuration"]["budget"]["steps"] == 4
    assert sum(shown["trials"].values()) == 8
    watched = document("watch", "done", "--runs-dir", runs)
    assert watched["generations"] == {"done": 2, "total": 2}
    assert "2/2 generations" in cli("show", "done", "--runs-dir", runs).stdout
    assert "finished" in cli("runs", "--runs-dir", runs).stdout


def test_one_damaged_run_hides_no_other(runs: Path) -> None:
    damaged = runs / "damaged"
    damaged.mkdir()
    (damaged / "config.toml").write_text("task = [")
    listed = {run["run"]: run["state"] for run in document("runs", "--runs-dir", runs)["runs"]}
    assert (listed["damaged"], listed["done"]) == ("damaged", "finished")
    assert cli("show", "damaged", "--runs-dir", runs).exit_code == 2


def test_a_run_that_was_stopped_before_its_study_is_not_begun_and_can_be(tmp_path: Path) -> None:
    search = (
        "search",
        "digits",
        *TINY,
        "--run",
        "early",
        "--timeout",
        "0",
        "--runs-dir",
        tmp_path,
    )
    assert cli(*search).exit_code == 0
    journal = tmp_path / "early" / "journal.log"
    for left in (None, b""):
        if left is None:
            journal.unlink()
        else:
            journal.write_bytes(left)
        listed = document("runs", "--runs-dir", tmp_path)["runs"]
        assert [run["state"] for run in listed] == ["not begun"]
        shown = cli("show", "early", "--runs-dir", tmp_path)
        assert shown.exit_code == 2
        start = f"pso-attn resume early --runs-dir {tmp_path.resolve()}"
        assert f"run early has not begun; start it with `{start}`" in shown.stderr
        assert cli("resume", "early", "--timeout", "0", "--runs-dir", tmp_path).exit_code == 0
        assert document("show", "early", "--runs-dir", tmp_path)["state"] == "interrupted"


def test_best_is_quietly_the_objective_itself(tmp_path: Path) -> None:
    by_accuracy = ("--set", 'objectives=["accuracy"]', "--run", "a", "--runs-dir", tmp_path)
    assert cli("search", "digits", *TINY, *by_accuracy).exit_code == 0
    found = document("best", "a", "--runs-dir", tmp_path)
    quiet = float(cli("best", "a", "--runs-dir", tmp_path, "--quiet").stdout)
    assert quiet == found["metrics"]["accuracy"] != found["loss"]


def test_searching_under_a_taken_name_names_resume_and_changes_nothing(runs: Path) -> None:
    before = (runs / "done" / "journal.log").read_bytes()
    result = cli("search", "digits", *TINY, "--run", "done", "--runs-dir", runs)
    assert result.exit_code == 2
    assert "pso-attn resume done" in result.stderr
    assert (runs / "done" / "journal.log").read_bytes() == before


def test_a_search_out_of_time_exits_0_and_resumes_to_the_uninterrupted_trajectory(
    runs: Path,
) -> None:
    stopped = cli(
        *("search", "digits", *TINY, "--run", "late", "--runs-dir", runs, "--timeout", "0")
    )
    assert stopped.exit_code == 0
    assert f"pso-attn resume late --runs-dir {runs}" in stopped.stdout
    assert document("show", "late", "--runs-dir", runs)["state"] == "interrupted"
    assert cli("best", "late", "--runs-dir", runs).exit_code == 2
    assert cli("confirm", "late", "--runs-dir", runs).exit_code == 2
    resumed = cli("resume", "late", "--runs-dir", runs, "--quiet")
    assert (resumed.exit_code, resumed.stdout, resumed.stderr) == (0, "late\n", "")
    assert floats(load_run("late", runs).history) == floats(load_run("done", runs).history)


def test_generations_on_resume_are_the_total_and_are_remembered(runs: Path) -> None:
    cli(*("search", "digits", *TINY, "--run", "longer", "--runs-dir", runs, "--seed", "5"))
    finished = cli("resume", "longer", "--runs-dir", runs)
    assert finished.exit_code == 0
    assert "has finished its 2 generations" in finished.stderr
    fewer = cli("resume", "longer", "--runs-dir", runs, "--generations", "1")
    assert fewer.exit_code == 2
    assert "has 2 generations already" in fewer.stderr
    resume = ("resume", "longer", "--runs-dir", runs)
    assert cli(*resume, "--generations", "3", "--timeout", "0").exit_code == 0
    assert document("show", "longer", "--runs-dir", runs)["state"] == "interrupted"
    assert document(*resume)["generations"] == {"done": 3, "total": 3}
    assert load_run("longer", runs).configuration.planned_generations == 2
    assert cli("verify", "longer", "--runs-dir", runs).stdout.startswith(
        "matches: the proposals of 3"
    )


def test_confirming_scores_fresh_seeds_on_the_test_split_and_logs_that(runs: Path) -> None:
    found = document("confirm", "done", "--top", "2", "--seeds", "2", "--runs-dir", runs)
    assert found == json.loads((runs / "done" / "confirm.json").read_text())
    run = load_run("done", runs)
    searched = {seed for trial in run.history.trials for seed in trial.candidate.seeds}
    assert not searched & set(found["seeds"])
    assert found["rows"][0]["role"] == "defaults"
    assert found["rows"][0]["trial"] == 0
    best = run.best()
    assert best is not None
    assert found["rows"][1]["trial"] == best.number
    assert "logistic regression" in found["baselines"]
    per_seed = found["rows"][0]["test"]["accuracy"]["per_seed"]
    assert len(per_seed) == 2
    uses = run.store.get_attribute("test_uses")
    assert uses[-1]["by"] == "confirm"
    again = cli("confirm", "done", "--top", "2", "--seeds", "2", "--runs-dir", runs, "--quiet")
    assert again.stdout.strip() == found["verdict"]
    assert len(load_run("done", runs).store.get_attribute("test_uses")) == len(uses) + 1


def test_a_dry_run_predicts_and_writes_nothing(empty: Path) -> None:
    found = document("search", "digits", *TINY, "--dry-run")
    assert found["batching_gain"] > 0
    assert found["search_seconds"] > 0
    assert "the whole search, at most" in cli("search", "digits", *TINY, "--dry-run").stdout


def test_a_run_on_sqlite_resumes_from_another_folder_and_is_deleted_with_its_study(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    here, there = tmp_path / "here", tmp_path / "there"
    search = ("search", "digits", *TINY, "--run", "s", "--storage", url, "--generations", "1")
    assert cli(*search, "--runs-dir", here).exit_code == 0
    taken = cli(*search, "--runs-dir", there)
    assert (taken.exit_code, there.exists()) == (2, False)
    adopted = cli("resume", f"{url}#s", "--runs-dir", there, "--generations", "2", "--json")
    assert json.loads(adopted.stdout)["generations"] == {"done": 2, "total": 2}
    assert document("show", "s", "--runs-dir", here)["generations"]["done"] == 2
    assert cli("delete", "s", "--yes", "--runs-dir", there).exit_code == 0
    gone = cli("resume", f"{url}#s", "--runs-dir", there)
    assert gone.exit_code == 2
    assert "no study named s" in gone.stderr


def test_a_default_outside_the_stated_range_is_replaced_and_said_so(tmp_path: Path) -> None:
    narrow = (
        "search",
        "digits",
        *TINY,
        "--timeout",
        "0",
        "--set",
        "search.lr={low=2e-3,high=9e-3}",
    )
    said = cli(*narrow, "--runs-dir", tmp_path)
    assert said.exit_code == 0
    assert said.stderr.startswith("note: ")
    assert "lr" in said.stderr
    assert cli(*narrow, "--runs-dir", tmp_path, "--quiet").stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "digits-2"]


def test_changed_data_are_refused_on_resume(tmp_path: Path) -> None:
    data = tmp_path / "a.txt"
    data.write_text("the quick brown fox jumps over the lazy dog. " * 400)
    search = ("search", "text", *TINY, "--set", f"data={data}", "--run", "t", "--timeout", "0")
    stopped = cli(*search, "--runs-dir", tmp_path / "runs")
    assert stopped.exit_code == 0, stopped.stderr
    data.write_text("pack my box with five dozen liquor jugs, if you please. " * 400)
    resumed = cli("resume", "t", "--runs-dir", tmp_path / "runs")
    assert resumed.exit_code == 2
    assert "began with other data" in resumed.stderr
    data.unlink()
    assert cli("show", "t", "--runs-dir", tmp_path / "runs").exit_code == 0


def test_deleting_asks_and_removes_only_a_run_that_nobody_drives(tmp_path: Path) -> None:
    search = ("search", "digits", *TINY, "--run", "d", "--timeout", "0")
    assert cli(*search, "--runs-dir", tmp_path).exit_code == 0
    delete = ("delete", "d", "--runs-dir", tmp_path)
    unasked = cli(*delete)
    assert (unasked.exit_code, (tmp_path / "d").exists()) == (2, True)
    assert "--yes" in unasked.stderr
    with load_run("d", tmp_path).folder.lock():
        assert document("show", "d", "--runs-dir", tmp_path)["state"] == "running"
        held = cli(*delete, "--yes")
        assert "in use" in held.stderr
        assert "in use" in cli("resume", "d", "--runs-dir", tmp_path).stderr
    assert (held.exit_code, (tmp_path / "d").exists()) == (2, True)
    (tmp_path / "mine").mkdir()
    other = cli("delete", tmp_path / "mine", "--yes", "--runs-dir", tmp_path)
    assert (other.exit_code, (tmp_path / "mine").exists()) == (2, True)
    assert document(*delete, "--yes")["deleted"] == str((tmp_path / "d").resolve())
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["digts"], 2, 'did you mean "digits"'),
        (["digits", "--sampler", "pos"], 2, 'did you mean "pso"'),
        (["digits", "--sampler", "gone.away:Sampler"], 2, "there is no module gone in"),
        (["digits", "--sampler", "json:Sampler"], 2, "json has no Sampler"),
        (["digits", "--sampler", "json:dumps", "--no-import"], 2, "--no-import refuses"),
        (["digits", "--set", "task=a:B", "--no-import"], 2, "--no-import refuses"),
        (["digits", "--sampler", "json:dumps"], 2, "cannot be called with seed"),
        (["digits", "--sampler", "a:"], 2, 'not of the form "module:Name"'),
        (["digits", "--set", "task=digts"], 2, 'digits: "digts" is not a task'),
        (
            ["digits", "--set", "swarm.topolgy=ring"],
            2,
            'digits: pso has no option "topolgy"; did you mean "topology"?',
        ),
        (["digits", "--set", "search.widow_tokens={}"], 2, 'did you mean "window_tokens"'),
        (["digits", "--set", "model.lyers=2"], 2, 'did you mean "layers"'),
        (["digits", "--set", "search.lr={low=2, high=1}"], 2, "search.lr"),
        (["digits", "--set", 'objectives=["acuracy"]'], 2, 'did you mean "accuracy"'),
        (["digits", "--set", 'constraints.expressions=["parameters <= 1"]'], 2, "parameters"),
        (["digits", "--set", "swarm.topologie=ring"], 2, 'did you mean "topology"'),
        (["digits", "--set", "data=a.csv"], 2, "digits"),
        (["text", "--set", "data=gone.txt"], 2, "gone.txt"),
        (["text", "--set", f"data={'a' * 300}.txt"], 2, "aaa.txt does not exist; data names"),
        (
            ["digits-weights", "--set", f"weights.start={'a' * 300}.safetensors"],
            2,
            "aaa.safetensors does not exist; check weights.start",
        ),
        (["digits", "--device", "tpu"], 2, "tpu"),
        (["digits", "--device", "cpu", "--precision", "tf32"], 2, "only CUDA devices have it"),
        (["digits", "--precision", "fp8"], 2, 'model.precision is "fp8"; choose one of'),
        (
            ["digits", "--device", "cpu", "--set", 'search.precision=["float32", "tf32"]'],
            2,
            "only CUDA devices have it",
        ),
        (["digits", "--executor", "rey"], 2, 'did you mean "ray"'),
        (["digits", "--run", "../x"], 2, "cannot be a run's name"),
        (["digits", "--storage", "nonsense"], 2, "not a database URL"),
        (["digits", "--storage", "postgresql://u:secret@127.0.0.1:1/d"], 1, "does not answer"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(
    empty: Path, arguments: list[str], code: int, said: str
) -> None:
    result = cli("search", *arguments)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    "command", ["resume", "report", "confirm", "verify", "show", "best", "watch", "delete"]
)
def test_an_unknown_run_names_the_nearest(runs: Path, command: str) -> None:
    result = cli(command, "don", "--runs-dir", runs)
    assert result.exit_code == 2
    assert 'did you mean "done"' in result.stderr


def test_a_confirmation_of_an_earlier_winner_is_not_told_of_a_later_one(tmp_path: Path) -> None:
    cli("search", "digits", *TINY, "--run", "later", "--runs-dir", tmp_path)
    loaded = load_run("later", tmp_path)
    best = loaded.best()
    assert best is not None
    rows = [{"trial": 0}, {"trial": best.number}]
    loaded.folder.write_json("confirm.json", {"rows": rows})
    assert load_run("later", tmp_path).report_input().confirmation is not None
    rows[1]["trial"] = best.number + 1
    loaded.folder.write_json("confirm.json", {"rows": rows})
    assert load_run("later", tmp_path).report_input().confirmation is None


def test_a_relative_database_is_the_one_of_the_folder_where_the_search_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        done = cli("search", "digits", *TINY, "--run", "demo", "--storage", "sqlite:///runs.db")
        assert done.exit_code == 0, done.stderr
    monkeypatch.chdir(tmp_path / "second")
    first = tmp_path / "first" / "runs"
    longer = cli("resume", "demo", "--runs-dir", first, "--generations", "3")
    assert longer.exit_code == 0, longer.stderr
    assert len(load_run("demo", first).history) == 3
    assert len(load_run("demo").history) == 2
    assert cli("delete", first / "demo", "--yes").exit_code == 0
    assert load_run("demo").best() is not None, "the other folder's study stays"


def test_a_study_that_was_lost_is_not_begun_anew_and_a_renamed_run_keeps_its_own(
    tmp_path: Path,
) -> None:
    runs, file = tmp_path / "runs", tmp_path / "all.db"
    url = f"sqlite:///{file}"
    cli("search", "digits", *TINY, "--run", "demo", "--storage", url, "--runs-dir", runs)
    (runs / "demo").rename(runs / "better")
    assert len(load_run("better", runs).history) == 2
    longer = cli("resume", "better", "--generations", "3", "--runs-dir", runs)
    assert longer.exit_code == 0, longer.stderr
    assert len(load_run("better", runs).history) == 3
    file.unlink()
    gone = cli("resume", "better", "--runs-dir", runs)
    assert (gone.exit_code, "is missing: there is no such file" in gone.stderr) == (2, True)
    assert not file.exists()
    cli("search", "digits", *TINY, "--run", "other", "--storage", url, "--runs-dir", runs)
    for command in ("resume", "best"):
        lost = cli(command, "better", "--runs-dir", runs)
        assert (lost.exit_code, "restore that database" in lost.stderr) == (2, True)
    assert cli("delete", "better", "--yes", "--runs-dir", runs).exit_code == 0
    file.unlink()
    assert cli("delete", "other", "--yes", "--runs-dir", runs).exit_code == 0


def test_a_run_named_by_its_database_is_not_the_one_of_that_name_here(tmp_path: Path) -> None:
    url, runs = f"sqlite:///{tmp_path}/all.db", tmp_path / "runs"
    cli("search", "digits", *TINY, "--run", "demo", "--storage", url, "--runs-dir", tmp_path / "a")
    cli("search", "digits", *TINY, "--run", "demo", "--runs-dir", runs)
    other = cli("resume", f"{url}#demo", "--generations", "3", "--runs-dir", runs)
    assert (other.exit_code, "is another one, demo in its own journal" in other.stderr) == (
        2,
        True,
    )
    assert len(load_run("demo", runs).history) == 2
    same = cli("resume", f"{url}#demo", "--generations", "3", "--runs-dir", tmp_path / "a")
    assert same.exit_code == 0, same.stderr


def test_urls_of_one_database_are_one_place_with_or_without_a_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    server = "postgresql://me@host/runs"
    for one, other in (
        (server, "postgresql+psycopg2://me:secret@host:5432/runs"),
        ("sqlite:///link/runs.db", f"sqlite:///{tmp_path}/runs.db"),
    ):
        assert database_of(one) == database_of(other)
    assert database_of(server) != database_of("postgresql://me@other/runs")
    with pytest.raises(AddressError, match="is not a database URL"):
        database_of("://")


def test_deleting_a_copy_of_a_run_leaves_the_study_to_the_other(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/all.db"
    cli("search", "digits", *TINY, "--run", "demo", "--storage", url, "--runs-dir", tmp_path)
    shutil.copytree(tmp_path / "demo", tmp_path / "copy")
    assert cli("delete", "copy", "--yes", "--runs-dir", tmp_path).exit_code == 0
    assert load_run("demo", tmp_path).best() is not None
    assert cli("delete", "demo", "--yes", "--runs-dir", tmp_path).exit_code == 0
    again = cli(
        "search", "digits", *TINY, "--run", "demo", "--storage", url, "--runs-dir", tmp_path
    )
    assert again.exit_code == 0, "its study is gone"


def test_a_database_whose_disk_is_not_there_keeps_its_run(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    url = f"sqlite:///{disk}/all.db"
    cli("search", "digits", *TINY, "--run", "demo", "--storage", url, "--runs-dir", tmp_path)
    disk.rename(tmp_path / "elsewhere")
    refused = cli("delete", "demo", "--yes", "--runs-dir", tmp_path)
    assert (refused.exit_code, "there is no such file" in refused.stderr) == (2, True)
    assert (tmp_path / "demo").is_dir()


def test_a_run_that_another_host_drives_is_locked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/all.db"
    cli("search", "digits", *TINY, "--run", "demo", "--storage", url, "--runs-dir", tmp_path)
    assert document("show", "demo", "--runs-dir", tmp_path)["state"] == "finished"
    storage = optuna.storages.get_storage(url)
    study = storage.get_study_id_from_name("demo")
    holder = {"host": "elsewhere", "pid": 12, "started": 1.7e9}
    storage.set_study_system_attr(study, "pso_attn:driver", holder)
    assert document("show", "demo", "--runs-dir", tmp_path)["state"] == "locked"
