"""A journal that was cut off anywhere can be appended to, and nothing written before is lost."""

import json
import os
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from pso_attn.errors import StorageError
from pso_attn.store.connection import connect
from pso_attn.store.journal import BatchingJournal, repair_journal


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    for k in range(3):
        storage.set_study_user_attr(study, f"key{k}", "é" * 40)
    return path


def attributes(path: Path) -> dict[str, str]:
    storage = JournalStorage(JournalFileBackend(str(path)))
    return storage.get_study_user_attrs(storage.get_study_id_from_name("demo"))


def append(path: Path) -> None:
    storage = connect(None, path, create=True).storage
    storage.set_study_user_attr(storage.get_study_id_from_name("demo"), "later", "x")


def test_a_good_journal_is_left_alone(journal: Path, tmp_path: Path) -> None:
    before = journal.read_bytes()
    assert repair_journal(journal) is None
    assert journal.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["journal.log"]


def test_every_torn_last_line_is_cut_off_and_backed_up(journal: Path, tmp_path: Path) -> None:
    whole = journal.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for n, size in enumerate(range(start + 1, len(whole), 7), 1):
        journal.write_bytes(whole[:size])
        backup = repair_journal(journal)
        assert backup == tmp_path / f"journal.log.torn-{n}"
        assert backup.read_bytes() == whole[:size]
        assert journal.read_bytes() == whole[:start]
        append(journal)
        assert set(attributes(journal)) == {"key0", "key1", "later"}


def test_an_append_to_a_torn_line_would_be_fatal(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:-5])
    append(journal)
    with pytest.raises(json.JSONDecodeError):
        append(journal)


@pytest.mark.parametrize("junk", [b"{broken}\n", b"\x00" * 5000, b"12\n", b"\xff\xfe\n", b"\n"])
def test_a_last_line_of_no_record_is_cut_off(journal: Path, junk: bytes) -> None:
    whole = journal.read_bytes()
    journal.write_bytes(whole + junk)
    assert repair_journal(journal) is not None
    assert journal.read_bytes() == whole


def test_a_journal_torn_in_its_first_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(b'{"op_code":0,"work')
    assert repair_journal(path) == tmp_path / "journal.log.torn-1"
    assert path.read_bytes() == b""
    assert repair_journal(tmp_path / "missing.log") is None


def test_damage_in_the_middle_is_refused_and_kept(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = b"{broken}\n"
    journal.write_bytes(b"".join(lines))
    assert repair_journal(journal) is None
    with pytest.raises(
        StorageError, match=r"journal\.log is damaged at line 2; restore it from a copy"
    ):
        connect(None, journal, create=True)
    assert journal.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("target", ["journal.log", "nowhere"])
def test_a_stale_lock_of_optuna_is_removed(journal: Path, tmp_path: Path, target: str) -> None:
    os.symlink(tmp_path / target, tmp_path / "journal.log.lock")
    (tmp_path / "journal.log.lock0123.rename").write_text("")
    repair_journal(journal)
    assert [p.name for p in tmp_path.iterdir()] == ["journal.log"]
    append(journal)


def test_records_written_together_are_one_append(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    monkeypatch.setattr(os, "fsync", syncs.append)
    connection = connect(None, journal, create=True)
    study = connection.storage.get_study_id_from_name("demo")
    with connection.together():
        for k in range(10):
            connection.storage.set_study_user_attr(study, f"key{k}", k)
    assert len(syncs) == 1
    assert connection.storage.get_study_user_attrs(study)["key9"] == 9
    assert attributes(journal)["key9"] == 9


def test_a_full_disk_leaves_no_half_line(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = journal.read_bytes()
    connection = connect(None, journal, create=True)
    study = connection.storage.get_study_id_from_name("demo")

    def full(_: int) -> None:
        with open(journal, "r+b") as file:
            file.truncate(len(whole) + 20)  # only so much fitted
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with (
            pytest.raises(StorageError, match="No space left on device; the run can be resumed"),
            connection.guard(),
        ):
            connection.storage.set_study_user_attr(study, "key3", "x")
    assert journal.read_bytes() == whole
    append(journal)  # there is room again
    assert set(attributes(journal)) == {"key0", "key1", "key2", "later"}


def test_a_living_writers_lock_is_waited_for(journal: Path) -> None:
    backend = BatchingJournal(journal)
    assert os.path.isabs(os.fspath(backend._file_path))
    optuna.storages.journal.JournalFileSymlinkLock(str(journal)).acquire()
    assert repair_journal(journal) is None
    assert not os.path.lexists(f"{journal}.lock")
