"""An open Optuna storage: the run's own journal, or the database that a URL names.

Whatever goes wrong on the way there becomes one StorageError; Optuna's own messages stay quiet.
"""

import itertools
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage

from pso_attn.errors import AddressError, StorageError
from pso_attn.store.adding import JournalTrials, add_to_database
from pso_attn.store.journal import BatchingJournal, first_bad_line
from pso_attn.store.records import RunningTrial

_CONNECT_TIMEOUT_S = 5.0
_CREATIONS, _CREATION_S = 10, 0.5  # tries to make tables that another makes, seconds between
# what a missing driver is installed by, and how a URL then names it
_DRIVERS = {
    "postgresql": ("postgresql", "postgresql+psycopg"),
    "mysql": ("mysql", "mysql+pymysql"),
    "mariadb": ("mysql", "mysql+pymysql"),
}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
_SQLITE = b"SQLite format 3\0"  # how such a file begins
_EXPECTED = "expected an Optuna URL such as sqlite:///runs.db or postgresql://user@host/name"
_NARROW = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = DATABASE() AND data_type = 'text'
AND table_name IN ('study_user_attributes', 'trial_user_attributes', 'trial_params')
"""  # what MySQL gives 65,535 bytes and a plan, many seeds or many choices take more of


@dataclass(frozen=True)
class Connection:
    """An open storage, and how to speak of it.

    where: the journal's path or the URL without its password. failures: what the storage raises
    when it does not answer. together: a block whose writes may be made durable at its end;
    reads inside it may not see them yet. others: a number that changes when anybody else may have
    written; a database's always does. add_trials: adds trials to a study, and returns their ids,
    or none where these must be asked for. widen: makes room for long texts, for whoever writes.
    close: lets go of connections.
    """

    storage: BaseStorage
    where: str
    failures: tuple[type[Exception], ...]
    together: Callable[[], AbstractContextManager[None]]
    others: Callable[[], int]
    add_trials: Callable[[int, Sequence[RunningTrial]], list[int]]
    widen: Callable[[], None]
    close: Callable[[], None]

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn a storage's failure inside the block into a StorageError of one sentence."""
        try:
            with _quiet():
                yield
        except self.failures as error:
            reason, remedy = _reason(error), "the run can be resumed once it answers"
            if "Data too long" in reason:
                remedy = "resume the run as a user of the database who may alter its tables"
            raise StorageError(f"the storage {self.where} failed: {reason}; {remedy}") from error


def connect(url: str | None, journal: Path | None, create: bool) -> Connection:
    """Return the storage that `url` names, or the journal file where there is no URL.

    create: make the file or the tables where they are missing, instead of refusing.
    Raises StorageError within seconds where nothing answers; AddressError where nothing could.
    """
    with _quiet():
        if url is not None:
            return _open_database(url, create)
        assert journal is not None, "a journal where there is no URL"
        return _open_journal(journal, create)


def _open_journal(path: Path, create: bool) -> Connection:
    if not create and not path.exists():
        raise StorageError(f"the journal {path} is missing; restore it from a copy")
    try:
        backend = BatchingJournal(path)
        storage = JournalStorage(backend)
    except OSError as error:
        raise StorageError(f"the journal {path} cannot be used: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise _damaged(path, error) from error
    failures = (OSError, json.JSONDecodeError)
    add_trials = JournalTrials(storage, backend).add
    return Connection(
        storage,
        str(path),
        failures,
        backend.together,
        backend.others,
        add_trials,
        widen=lambda: None,
        close=lambda: None,
    )


def _damaged(path: Path, error: Exception) -> StorageError:
    """Return the error of a journal that cannot be read: the line, or else what Optuna says."""
    with open(path, "rb") as file:
        if file.read(len(_SQLITE)) == _SQLITE:
            return AddressError(
                f"{path} is an SQLite database and not a journal; name it as sqlite:///{path}"
            )
    line = first_bad_line(path)
    where = f"before its last line ({_reason(error)})" if line is None else f"at line {line:,}"
    return StorageError(f"the journal {path} is damaged {where}; restore it from a copy")


def _open_database(url: str, create: bool) -> Connection:
    # sqlalchemy takes a tenth of a second to load and most runs never need it
    from sqlalchemy import orm
    from sqlalchemy.exc import SQLAlchemyError

    where = redacted(url)
    failures = (OSError, StorageInternalError, SQLAlchemyError)
    _check_reachable(url, where, create)
    try:
        backend = _created(url) if create else _opened(url)
    except ImportError as error:
        raise StorageError(
            f"the storage {where} needs a database driver that is not installed: "
            f"{_reason(error.__cause__ or error)}{_driver_hint(where)}"
        ) from error
    except (*failures, ValueError, RuntimeError) as error:
        raise StorageError(f"the storage {where} does not answer: {_reason(error)}") from error

    def close() -> None:
        backend.remove_session()
        backend.engine.dispose()

    @contextmanager
    def together() -> Iterator[None]:
        # Optuna commits each attribute; a session that joins an open transaction leaves that to
        # its owner, so that a whole outcome costs one commit
        before = backend.scoped_session
        with backend.engine.begin() as transaction:
            sessions = orm.sessionmaker(transaction, join_transaction_mode="rollback_only")
            backend.scoped_session = orm.scoped_session(sessions)
            try:
                yield
            finally:
                backend.scoped_session.remove()
                backend.scoped_session = before

    storage = optuna.storages.get_storage(backend)
    changes = itertools.count().__next__  # nobody says whether others have written
    add_trials = partial(add_to_database, storage, together)
    widen = partial(_widen, backend)
    return Connection(storage, where, failures, together, changes, add_trials, widen, close)


def _opened(url: str, create: bool = False) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(url, skip_table_creation=not create)


def _created(url: str) -> optuna.storages.RDBStorage:
    """Return the storage, its tables made; of several that begin at once, one makes them."""
    from sqlalchemy.exc import DBAPIError

    for _ in range(_CREATIONS - 1):
        try:
            return _opened(url, create=True)
        except DBAPIError as error:
            said = str(error).lower()
            if not any(sign in said for sign in ("already exists", "duplicate", "unique")):
                raise
            time.sleep(_CREATION_S)
    return _opened(url, create=True)


def _widen(storage: optuna.storages.RDBStorage) -> None:
    """Let a database hold texts of any length, where Optuna's columns do not."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    if storage.engine.dialect.name not in ("mysql", "mariadb"):
        return
    with suppress(DBAPIError), storage.engine.begin() as connection:
        # without the right to alter tables a small swarm does, and `guard` tells a large one
        for table, column in connection.execute(text(_NARROW)).all():
            connection.execute(text(f"ALTER TABLE {table} MODIFY {column} LONGTEXT"))


def _driver_hint(where: str) -> str:
    """Return how the driver of a URL is had, empty where that is not known."""
    backend = where.partition("://")[0].partition("+")[0]
    if backend not in _DRIVERS:
        return ""
    extra, scheme = _DRIVERS[backend]
    return f'; run pip install "pso-attn[{extra}]" and begin the URL with {scheme}://'


def redacted(url: str) -> str:
    """Return the URL as it may be shown: without its password."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&]passw(?:or)?d=)[^&#]*", r"\1***", url)


def database_of(url: str) -> tuple[Any, ...]:
    """Return what URLs of one database share: they may differ in driver, user and password.

    AddressError for what is no URL.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise AddressError(
            f"the storage {redacted(url)} is not a database URL; {_EXPECTED}"
        ) from error
    backend, database = parsed.get_backend_name(), parsed.database
    if backend == "sqlite":
        return backend, None if database is None else os.path.realpath(database)
    return backend, parsed.host, parsed.port or _PORTS.get(backend), database


def _check_reachable(url: str, where: str, create: bool) -> None:
    """Raise AddressError where the URL is none or its file missing, StorageError in silence.

    A database driver may wait minutes for a silent host; a bare socket tells within seconds.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise AddressError(f"the storage {where} is not a database URL; {_EXPECTED}") from error
    except ImportError:
        return  # the driver is missing, and opening says which
    is_file = backend == "sqlite" and parsed.database and not parsed.database.startswith("file:")
    if is_file and not create and not os.path.exists(parsed.database or ""):
        raise AddressError(f"the storage {where} is missing: there is no such file")
    port = parsed.port or _PORTS.get(backend)
    if parsed.host and port and not parsed.host.startswith("/"):
        try:
            socket.create_connection((parsed.host, port), timeout=_CONNECT_TIMEOUT_S).close()
        except (OSError, UnicodeError) as error:
            raise StorageError(
                f"the storage {where} does not answer: {_reason(error)} at "
                f"{parsed.host}:{port}; check that the database runs there"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's own messages from the person inside the block."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _reason(error: BaseException) -> str:
    """Return the first line of what went wrong, without a wrapper's preamble."""
    cause: Any = error
    while getattr(cause, "orig", None) is None and cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(getattr(cause, "orig", None) or cause).strip()
    return text.splitlines()[0] if text else type(error).__name__
