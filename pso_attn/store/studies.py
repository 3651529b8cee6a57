"""Studies as a whole: beginning, finding, reading and removing them."""

import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.study import StudyDirection

from pso_attn.errors import RunError
from pso_attn.store.connection import Connection, connect, database_of
from pso_attn.store.folder import RunFolder
from pso_attn.store.lease import take_lease
from pso_attn.store.records import SCHEMA
from pso_attn.types import Objective

CONFIGURATION = "configuration"
SCHEMA_KEY = "schema"


def find_study(connection: Connection, name: str) -> int | None:
    """Return the id of the study of that name, or None.

    A journal's only study is found whatever its name, since a run's folder may be renamed.
    """
    try:
        return connection.storage.get_study_id_from_name(name)
    except KeyError:
        if not isinstance(connection.storage, JournalStorage):
            return None
    studies = connection.storage.get_all_studies()
    return studies[0]._study_id if len(studies) == 1 else None


def begin_study(
    connection: Connection,
    name: str,
    objectives: Sequence[Objective],
    configuration: Mapping[str, Any],
) -> int:
    """Make a run's study, each objective under its own direction, and return its id."""
    directions = [_direction(objective) for objective in objectives]
    study_id = connection.storage.create_new_study(directions, name)
    complete_study(connection, study_id, configuration)
    return study_id


def complete_study(
    connection: Connection, study_id: int, configuration: Mapping[str, Any]
) -> None:
    """Write what says that the study is a run of ours, the schema last."""
    storage = connection.storage
    storage.set_study_user_attr(study_id, CONFIGURATION, dict(configuration))
    storage.set_study_user_attr(study_id, SCHEMA_KEY, SCHEMA)


def check_study(
    connection: Connection, study_id: int, name: str, objectives: Sequence[Objective]
) -> bool:
    """Tell whether a study is complete; False for one whose making was interrupted.

    Raises RunError for somebody else's study, for a later schema and for other objectives.
    """
    storage = connection.storage
    schema = storage.get_study_user_attrs(study_id).get(SCHEMA_KEY)
    if schema is None and storage.get_n_trials(study_id):
        raise _foreign(connection, name)
    if schema is not None and schema > SCHEMA:
        raise RunError(
            f"run {name} was written by a later version (schema {schema}, this one reads "
            f"{SCHEMA}); upgrade pso-attn"
        )
    stored = [direction.name.lower() for direction in storage.get_study_directions(study_id)]
    expected = [objective.direction for objective in objectives]
    if stored != expected:
        raise RunError(
            f"run {name} was begun with directions {', '.join(stored)}, not "
            f"{', '.join(expected)}; its objectives cannot change"
        )
    return schema is not None


def check_new_study(url: str, name: str) -> None:
    """Raise, before anything is written, where a new run could not keep its study at `url`.

    StorageError where nothing answers there, RunError where a study of that name exists.
    """
    connection = connect(url, None, create=True)
    try:
        with connection.guard():
            if find_study(connection, name) is not None:
                raise already_exists(connection, name)
    finally:
        connection.close()


def already_exists(connection: Connection, name: str) -> RunError:
    """Return the error for a new run whose study is there already."""
    return RunError(
        f"a study named {name} exists already in {connection.where}; resume it, "
        "or choose another --run"
    )


def _foreign(connection: Connection, name: str) -> RunError:
    """Return the error for a study that somebody else began."""
    return RunError(
        f"the study {name} in {connection.where} is not a run of pso-attn; "
        "`pso-attn report URL#NAME` reads any study"
    )


def read_configuration(url: str, name: str) -> dict[str, Any]:
    """Return the resolved configuration of a run on a database, from any machine.

    Raises StorageError where the database does not answer, RunError where it has no such run.
    """
    connection = connect(url, None, create=False)
    try:
        with connection.guard():
            study_id = _existing(connection, name)
            attributes = connection.storage.get_study_user_attrs(study_id)
    finally:
        connection.close()
    if CONFIGURATION not in attributes:
        raise _foreign(connection, name)
    configuration: dict[str, Any] = attributes[CONFIGURATION]
    return configuration


def load_study(folder: RunFolder, url: str | None = None) -> optuna.Study:
    """Return a run's study for reading; `url` where it is not in the run's own journal.

    Raises StorageError where the storage does not answer, RunError where nothing has begun.
    """
    connection = connect(url, folder.journal, create=False)
    try:
        with connection.guard():
            study_id = _existing(connection, folder.study_name)
            stored = connection.storage.get_study_name_from_id(study_id)
            study = optuna.load_study(study_name=stored, storage=connection.storage)
    except BaseException:
        connection.close()
        raise
    weakref.finalize(study, connection.close)  # the connection lives as long as the study
    return study


def delete_study(url: str, name: str) -> None:
    """Remove a run's study from a database; does nothing where there is none.

    Raises RunError while somebody drives the run.
    """
    kind, *place = database_of(url)
    if kind == "sqlite" and _is_gone(Path(place[0] or "")):
        return
    connection = connect(url, None, create=False)
    try:
        with connection.guard():
            study_id = find_study(connection, name)
            if study_id is not None:
                take_lease(connection.storage, study_id, name)
                connection.storage.delete_study(study_id)
    finally:
        connection.close()


def _is_gone(file: Path) -> bool:
    """Tell whether a database's file was removed, and not that its disk is not there."""
    return not os.path.exists(file) and os.path.isdir(file.parent)


def _existing(connection: Connection, name: str) -> int:
    """Return a study's id; RunError where there is none."""
    study_id = find_study(connection, name)
    if study_id is None:
        raise RunError(f"there is no study named {name} in {connection.where}")
    return study_id


def _direction(objective: Objective) -> StudyDirection:
    """Return an objective's direction in Optuna's words."""
    return StudyDirection[objective.direction.upper()]
