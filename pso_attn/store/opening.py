"""Opening a run's study: lock, repair, connect, find or begin, and take the lease, in that order.

Whatever fails on the way lets go of what was taken before it.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pso_attn.errors import NotBegunError, RunError
from pso_attn.store.connection import Connection, connect
from pso_attn.store.folder import RunFolder
from pso_attn.store.journal import repair_journal
from pso_attn.store.lease import return_lease, take_lease
from pso_attn.store.studies import (
    already_exists,
    begin_study,
    check_study,
    complete_study,
    find_study,
)
from pso_attn.types import Objective

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenStudy:
    """A study that is open, and what `close` lets go of.

    leased: this process stands in the database as the study's driver.
    """

    connection: Connection
    study_id: int
    folder: RunFolder
    read_only: bool
    leased: bool
    resources: ExitStack


def open_new(
    url: str | None,
    folder: RunFolder,
    objectives: Sequence[Objective],
    configuration: Mapping[str, Any],
) -> OpenStudy:
    """Begin a run's study and return it, locked; RunError where it exists already."""
    with ExitStack() as stack:
        connection = _lock_and_connect(stack, url, folder)
        with connection.guard():
            if find_study(connection, folder.name) is not None:
                raise already_exists(connection, folder.name)
            study_id = begin_study(connection, folder.name, objectives, configuration)
            if url is not None:
                folder.begun(folder.name)
                _lease(stack, connection, study_id, folder.name, break_lock=False)
        return OpenStudy(connection, study_id, folder, False, url is not None, stack.pop_all())


def open_existing(
    url: str | None, folder: RunFolder, objectives: Sequence[Objective], break_lock: bool
) -> OpenStudy:
    """Return a run's study, locked and repaired; one that was not complete is completed."""
    with ExitStack() as stack:
        connection = _lock_and_connect(stack, url, folder)
        with connection.guard():
            study_id = _found(connection, url, folder)
            if study_id is None:
                _log.info("run %s was stopped before its study was made; making it", folder.name)
                study_id = begin_study(connection, folder.name, objectives, folder.configuration())
            elif not check_study(connection, study_id, folder.name, objectives):
                complete_study(connection, study_id, folder.configuration())
            if url is not None:
                folder.begun(folder.study_name)
                _lease(stack, connection, study_id, folder.name, break_lock)
        return OpenStudy(connection, study_id, folder, False, url is not None, stack.pop_all())


def open_for_reading(
    url: str | None, folder: RunFolder, objectives: Sequence[Objective]
) -> OpenStudy:
    """Return a run's study as it is; NotBegunError where there is none."""
    not_begun = NotBegunError(
        f"run {folder.name} has not begun; start it with `{folder.again('resume')}`"
    )
    if url is None and not folder.journal.exists():
        raise not_begun
    with ExitStack() as stack:
        connection = connect(url, folder.journal, create=False)
        stack.callback(connection.close)
        with connection.guard():
            study_id = _found(connection, url, folder)
            if study_id is None or not check_study(connection, study_id, folder.name, objectives):
                raise not_begun
        return OpenStudy(connection, study_id, folder, True, False, stack.pop_all())


def _found(connection: Connection, url: str | None, folder: RunFolder) -> int | None:
    """Return a run's study, None where none was begun yet.

    Raises RunError where one was begun on a database that has it no more: it is not begun anew.
    """
    study_id = find_study(connection, folder.study_name)
    has_begun = folder.study is not None or folder.checkpoints.exists()
    if study_id is None and url is not None and has_begun:
        raise RunError(
            f"the study {folder.study_name} of run {folder.name} is not in {connection.where}; "
            "restore that database or the folder's name, or delete the run"
        )
    return study_id


def _lock_and_connect(stack: ExitStack, url: str | None, folder: RunFolder) -> Connection:
    """Return the storage's connection, held under the run's lock and safe to append to."""
    stack.enter_context(folder.lock())
    if url is None:
        backup = repair_journal(folder.journal)
        if backup is not None:
            _log.warning("%s had a torn last line; the file as it was is %s", folder.name, backup)
    connection = connect(url, folder.journal, create=folder.study is None)
    stack.callback(connection.close)
    connection.widen()
    return connection


def _lease(
    stack: ExitStack, connection: Connection, study_id: int, run: str, break_lock: bool
) -> None:
    """Take the run's lease, and return it when the stack closes."""
    take_lease(connection.storage, study_id, run, break_lock)

    def give_back() -> None:
        with connection.guard():
            return_lease(connection.storage, study_id)

    stack.callback(give_back)
