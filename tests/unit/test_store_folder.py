"""A run's folder: whole or not there, and never outside the runs folder."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pso_attn.errors import ConfigurationError, RunError, StorageError
from pso_attn.store import RunFolder, describe_environment, free_name
from pso_attn.store.atomic import write_atomically

CONFIGURATION = {"task": "digits", "seed": 3, "budget": {"rungs": [0.5, 1.0], "lr": 0.1 + 0.2}}


def make(runs: Path, name: str = "demo") -> RunFolder:
    return RunFolder.create(runs, name, CONFIGURATION, {"threads": 2})


def test_a_new_run_holds_its_configuration_and_environment(tmp_path: Path) -> None:
    folder = make(tmp_path / "runs")
    assert folder.name == "demo"
    assert folder.path == tmp_path / "runs" / "demo"
    assert folder.configuration() == CONFIGURATION
    assert folder.environment() == {"threads": 2}
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["demo"]


def test_toml_leaves_out_what_has_no_value(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "demo", {"a": None, "b": [{"c": None, "d": 1}]}, {})
    assert folder.configuration() == {"b": [{"d": 1}]}


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/b", "/tmp/a", "-a", ".a", " a", "a\n", "a\\b", "x" * 101]
)
def test_a_name_that_leaves_the_runs_folder_is_refused(tmp_path: Path, name: str) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(RunError, match="cannot be a run's name"):
        make(runs, name)
    assert not runs.exists()


@pytest.mark.parametrize("name", ["demo", "digits-2", "a.b", "Lauf 3", "größe"])
def test_an_ordinary_name_is_taken(tmp_path: Path, name: str) -> None:
    assert make(tmp_path, name).name == name


def test_a_name_that_is_taken_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder.path / "note").write_text("mine")
    with pytest.raises(RunError, match="run demo exists already; continue it with"):
        make(tmp_path)
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match="exists and is not a run"):
        make(tmp_path, "other")
    assert (folder.path / "note").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo", "other"]


def test_a_runs_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be made \(Not a directory\)"):
        make(tmp_path / "file")


def test_a_run_opens_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make(tmp_path / "runs")
    assert RunFolder.open("demo", tmp_path / "runs") == folder
    assert RunFolder.open(str(folder.path), tmp_path / "elsewhere") == folder
    monkeypatch.chdir(tmp_path)
    assert RunFolder.open("runs/demo", Path("runs")) == folder
    assert RunFolder.open("demo", Path("runs")).path.is_absolute()


def test_an_unknown_run_names_the_nearest(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(RunError, match=r'no run "dmo".*did you mean "demo"'):
        RunFolder.open("dmo", tmp_path)
    with pytest.raises(RunError, match='no run "x/y"'):
        RunFolder.open("x/y", tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(RunError, match=r"is not a run: it has no config\.toml"):
        RunFolder.open("other", tmp_path)
    assert RunFolder.list(tmp_path) == ()


@pytest.mark.parametrize("run", ["", ".", ".."])
def test_the_runs_folder_itself_is_no_run(tmp_path: Path, run: str) -> None:
    with pytest.raises(RunError):
        RunFolder.open(run, tmp_path)


def test_runs_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        make(tmp_path, name)
    (tmp_path / "README.md").write_text("")
    assert [folder.name for folder in RunFolder.list(tmp_path)] == ["a", "b", "c"]
    assert RunFolder.list(tmp_path / "missing") == ()


def test_a_free_name_counts_on(tmp_path: Path) -> None:
    assert free_name(tmp_path, "digits") == "digits"
    make(tmp_path, "digits")
    make(tmp_path, "digits-2")
    assert free_name(tmp_path, "digits") == "digits-3"


def test_a_deleted_run_is_gone(tmp_path: Path) -> None:
    folder = make(tmp_path)
    folder.write_json("confirm.json", {"gain": 0.5})
    folder.delete()
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_use_is_not_deleted(tmp_path: Path) -> None:
    folder = make(tmp_path)
    with folder.lock(), pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        folder.delete()
    assert folder.configuration() == CONFIGURATION


def test_a_document_is_written_whole_and_read_back(tmp_path: Path) -> None:
    folder = make(tmp_path)
    assert folder.read_json("confirm.json") is None
    path = folder.write_json("confirm.json", {"gain": 1 / 3})
    assert json.loads(path.read_text()) == folder.read_json("confirm.json") == {"gain": 1 / 3}
    path.write_text("{")
    with pytest.raises(RunError, match=r"confirm\.json cannot be read"):
        folder.read_json("confirm.json")


def test_a_damaged_configuration_is_one_sentence(tmp_path: Path) -> None:
    folder = make(tmp_path)
    (folder.path / "config.toml").write_bytes(b"a = \xff")
    with pytest.raises(RunError, match=r"config\.toml is damaged"):
        folder.configuration()


def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.bin"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["best.bin"]
    assert path.read_bytes() == b"old"


def test_the_environment_names_versions_device_and_threads() -> None:
    environment = describe_environment("cpu", 1)
    assert environment["device"] == "cpu"
    assert environment["threads"] == 1
    assert environment["versions"]["optuna"].startswith("5.")
    assert json.loads(json.dumps(environment)) == environment


def test_a_run_whose_files_cannot_all_go_is_deleted_and_says_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.create(tmp_path, "demo", {"task": "digits"}, {})

    def refuse(path: Path) -> None:
        folder_is_free = RunFolder(path).lock()
        folder_is_free.release()
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr("pso_attn.store.folder.shutil.rmtree", refuse)
    with pytest.raises(StorageError, match=r"run demo is deleted, .* stay in .*\.demo\."):
        folder.delete()
    assert RunFolder.list(tmp_path) == ()


def test_what_nobody_may_look_into_hides_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder.create(tmp_path, "demo", {"task": "digits"}, {})
    (tmp_path / "lost+found").mkdir()
    stat = os.stat

    def refused(path: Any, *arguments: Any, **more: Any) -> Any:
        if "lost+found" in str(path) and str(path) != str(tmp_path / "lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **more)

    monkeypatch.setattr(os, "stat", refused)
    assert [folder.name for folder in RunFolder.list(tmp_path)] == ["demo"]
    with pytest.raises(RunError, match='did you mean "demo"'):
        RunFolder.open("demp", tmp_path)
    with pytest.raises(RunError, match="there is no run"):
        RunFolder.open("d" * 300, tmp_path)


def test_a_path_that_no_text_can_hold_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written as UTF-8"):
        RunFolder.create(tmp_path, "demo", {"data": "caf\udce9.csv"}, {})
    assert list(tmp_path.iterdir()) == []
