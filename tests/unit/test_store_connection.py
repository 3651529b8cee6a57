"""A storage that does not answer is one sentence, soon, without its password."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from pso_attn.errors import StorageError
from pso_attn.store.connection import connect, redacted


@pytest.fixture
def dead_port() -> Iterator[int]:
    with socket.socket() as server:  # bound but not listening: every connection is refused
        server.bind(("127.0.0.1", 0))
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "is not a database URL; expected an Optuna URL such as"),
        ("", "is not a database URL"),
        ("redis://localhost:6379", "is not a database URL"),
        ("sqlite:////proc/no/such/folder/a.db", "does not answer: unable to open database file"),
        ("postgresql://ann:secret@256.256.256.256/db", "does not answer"),
        ("sqlite://host:99999999/x", "is not a database URL|does not answer"),
        ("mssql+pymssql:///", "needs a database driver that is not installed"),
        (
            "mysql+mysqlconnector:///a",
            r'not installed: .*; run pip install "pso-attn\[mysql\]" and begin the URL with '
            r"mysql\+pymysql://$",
        ),
        (
            "postgresql+pg8000:///a",
            r"pso-attn\[postgresql\]. and begin .* postgresql\+psycopg://$",
        ),
    ],
)
def test_a_url_that_leads_nowhere_is_one_sentence(url: str, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught:
        connect(url, None, create=True)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_silent_port_is_named(dead_port: int) -> None:
    with pytest.raises(StorageError, match=f"at 127.0.0.1:{dead_port}; check that the database"):
        connect(f"postgresql://127.0.0.1:{dead_port}/db", None, create=True)


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look at" * 20)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="file is not a database"):
        connect(f"sqlite:///{path}", None, create=True)
    assert path.read_bytes() == before


def test_reading_creates_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no such file"):
        connect(f"sqlite:///{tmp_path}/a.db", None, create=False)
    with pytest.raises(StorageError, match=r"journal\.log is missing"):
        connect(None, tmp_path / "journal.log", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be used: Not a directory"):
        connect(None, tmp_path / "file" / "journal.log", create=True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:se:cr@t@host/db", "postgresql://ann:***@host/db"),
        ("postgresql://ann@host/db", "postgresql://ann@host/db"),
        (
            "postgresql:///db?user=ann&password=se%cret&host=/tmp",
            "postgresql:///db?user=ann&password=***&host=/tmp",
        ),
        ("mysql+pymysql:///db?passwd=secret", "mysql+pymysql:///db?passwd=***"),
        ("sqlite:///a.db", "sqlite:///a.db"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_optuna_keeps_quiet_and_its_verbosity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.INFO):
            connection = connect(f"sqlite:///{tmp_path}/a.db", None, create=True)
            with connection.guard():
                connection.storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "a")
            connection.close()
    finally:
        optuna.logging.disable_propagation()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before
