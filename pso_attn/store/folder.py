"""A run's folder: where everything about one search lies, and how runs are found.

A folder appears whole, with its configuration in it, or not at all; so whatever has a
`config.toml` is a run, and what has none is not.
"""

import json
import os
import shlex
import shutil
import tomllib
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from pso_attn.errors import ConfigurationError, RunError, StorageError, nearest
from pso_attn.store.atomic import sync_folder, write_atomically
from pso_attn.store.lock import RunLock

RUNS_DIR = "runs"  # where runs lie unless somebody says otherwise
CONFIGURATION = "config.toml"
ENVIRONMENT = "environment.json"
STUDY = "study"  # a text: which study on a database is the run's
_LONGEST_NAME = 100


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run that exists; its name is the run's and the study's."""

    path: Path

    @classmethod
    def create(
        cls,
        runs_dir: Path,
        name: str,
        configuration: Mapping[str, Any],
        environment: Mapping[str, Any],
    ) -> "RunFolder":
        """Make the folder of a new run, with config.toml and environment.json in it.

        Raises RunError for a name that leaves `runs_dir` or is taken, StorageError where nothing
        can be written; nothing is left behind then.
        """
        path = runs_dir / checked_name(name)
        refuse_taken(path)
        building = runs_dir / f".{name}.{uuid.uuid4().hex}"
        try:
            building.mkdir(parents=True)
            write_atomically(building / CONFIGURATION, _toml(configuration))
            write_atomically(building / ENVIRONMENT, _json(environment))
            os.rename(building, path)
            sync_folder(runs_dir)
        except (OSError, UnicodeEncodeError) as error:
            shutil.rmtree(building, ignore_errors=True)
            refuse_taken(path)  # somebody else was faster
            if isinstance(error, UnicodeEncodeError):
                raise ConfigurationError(
                    f"run {name}: {error.object!r} cannot be written as UTF-8; rename that file"
                ) from error
            raise StorageError(
                f"run {name}: {path} cannot be made ({error.strerror}); "
                "choose a folder that can be written with --runs-dir"
            ) from error
        return cls(path)

    @classmethod
    def open(cls, run: str | Path, runs_dir: Path) -> "RunFolder":
        """Return the run of that name in `runs_dir`, or the one at that path.

        Raises RunError where there is none.
        """
        named = runs_dir / run
        path = named if len(Path(run).parts) == 1 and os.path.exists(named) else Path(run)
        if is_run(path):
            return cls(path.resolve())
        within = cls.list(path) if str(run) not in ("", ".", "..") else ()
        if within:
            look = shlex.join(["pso-attn", "runs", "--runs-dir", str(path)])
            raise RunError(
                f"{path} is no run but a folder of runs, as a comparison is: {len(within)} of "
                f"them; list them with `{look}`, and name one with --runs-dir "
                f"{shlex.quote(str(path))}"
            )
        if os.path.exists(path) and str(run) not in ("", ".", ".."):
            raise RunError(
                f"{path} is not a run: it has no {CONFIGURATION}; name a run's folder, or a run "
                "and its --runs-dir"
            )
        file, mark, _ = str(run).partition("#")
        is_path = Path(file).suffix or len(Path(file).parts) > 1
        if mark and is_path and not os.path.exists(file):
            raise RunError(f"{file} does not exist; a study is named by URL#NAME or FILE#NAME")
        names = [folder.name for folder in cls.list(runs_dir)]
        hint = nearest(str(run), names) or "; --runs-dir names another folder"
        raise RunError(f'there is no run "{run}" in {runs_dir}{hint}')

    @classmethod
    def list(cls, runs_dir: Path) -> "tuple[RunFolder, ...]":
        """Return every run in `runs_dir`, ordered by name; none where the folder is missing."""
        if not os.path.isdir(runs_dir):
            return ()
        found = (path for path in runs_dir.iterdir() if not path.name.startswith("."))
        return tuple(cls(path) for path in sorted(found) if is_run(path))

    @property
    def name(self) -> str:
        """The run's name, and its study's."""
        return self.path.name

    @property
    def runs_dir(self) -> str:
        """The folder of runs that it lies in, as a command names it: short for the default one."""
        runs_dir = self.path.parent
        return RUNS_DIR if runs_dir.resolve() == Path(RUNS_DIR).resolve() else str(runs_dir)

    def again(self, command: str) -> str:
        """Return the shell command that does something with this run, from the current folder."""
        elsewhere = [] if self.runs_dir == RUNS_DIR else ["--runs-dir", self.runs_dir]
        return shlex.join(["pso-attn", command, self.name, *elsewhere])

    @property
    def journal(self) -> Path:
        """Optuna's journal file, where no other storage is named."""
        return self.path / "journal.log"

    @property
    def checkpoints(self) -> Path:
        """Where models lie."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """Where the report lies, unless it is sent elsewhere."""
        return self.path / "report"

    @property
    def study(self) -> str | None:
        """The name of its study on a database, where one was begun: a folder may be renamed."""
        try:
            return (self.path / STUDY).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None

    @property
    def study_name(self) -> str:
        """What its study on a database is called, or will be."""
        return self.study or self.name

    def begun(self, study: str) -> None:
        """Remember that the study of that name on a database is this run's."""
        if study == self.study:
            return
        try:
            write_atomically(self.path / STUDY, f"{study}\n".encode())
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written: {error.strerror}") from error

    def lock(self) -> RunLock:
        """Return the held lock of this run; RunError while somebody else drives it."""
        return RunLock(self.path / "lock")

    def configuration(self) -> dict[str, Any]:
        """Return the resolved configuration that the run was started with."""
        path = self.path / CONFIGURATION
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}") from error
        except ValueError as error:  # TOML and UTF-8 both
            raise RunError(f"{path} is damaged: {error}; restore it from a copy") from error

    def environment(self) -> dict[str, Any]:
        """Return versions, device and threads of the machine that started the run."""
        document: dict[str, Any] = self.read_json(ENVIRONMENT) or {}
        return document

    def write_json(self, name: str, document: Any) -> Path:
        """Write a document into the folder, atomically, and return its path."""
        path = self.path / name
        try:
            write_atomically(path, _json(document))
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from error
        return path

    def read_json(self, name: str) -> Any:
        """Return a document of the folder, or None where it was not written."""
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}") from error

    def delete(self) -> None:
        """Remove the run and all that is in it; RunError while somebody drives it."""
        doomed = self.path.with_name(f".{self.name}.{uuid.uuid4().hex}")
        with self.lock():
            try:
                os.rename(self.path, doomed)  # gone at once, however long the rest takes
            except OSError as error:
                raise StorageError(
                    f"run {self.name} cannot be deleted: {error.strerror}"
                ) from error
        try:  # the lock is let go before: NFS keeps a file that somebody has open
            shutil.rmtree(doomed)
        except OSError as error:
            raise StorageError(
                f"run {self.name} is deleted, and some of its files stay in {doomed}: "
                f"{error.strerror}; remove them by hand"
            ) from error


def is_run(path: Path) -> bool:
    """Tell whether a folder is a run's."""
    return os.path.isfile(path / CONFIGURATION)  # a Path raises where nobody may look into it


def checked_name(name: str) -> str:
    """Return `name` if it names a folder directly inside the runs folder, else raise RunError."""
    printable = not any(unicodedata.category(c).startswith("C") for c in name)
    plain = name == name.strip() and name == Path(name).name and "\\" not in name
    if not (name and plain and printable and name[0] not in ".-" and len(name) <= _LONGEST_NAME):
        raise RunError(
            f"{name!r} cannot be a run's name; choose one folder name of up to "
            f"{_LONGEST_NAME} characters, such as demo or digits-2, without / and leading . or -"
        )
    return name


def free_name(runs_dir: Path, stem: str) -> str:
    """Return `stem`, or the first of `stem-2`, `stem-3`, … that is not taken in `runs_dir`."""
    name, n = stem, 1
    while (runs_dir / name).exists():
        n += 1
        name = f"{stem}-{n}"
    return checked_name(name)


def refuse_taken(path: Path) -> None:
    """Raise RunError where something of that name exists."""
    if not os.path.lexists(path):
        return
    if is_run(path):
        resume = RunFolder(path).again("resume")
        raise RunError(
            f"run {path.name} exists already; continue it with `{resume}` or choose another --run"
        )
    raise RunError(f"{path} exists and is not a run; choose another --run")


def _toml(document: Mapping[str, Any]) -> bytes:
    """Return a document as TOML, which has no null: a key without value is left out."""
    return tomli_w.dumps(_without_none(document)).encode()


def _json(document: Any) -> bytes:
    """Return a document as JSON that people can read."""
    return (json.dumps(document, indent=2) + "\n").encode()


def _without_none(value: Any) -> Any:
    """Return mappings without their None values, all the way down."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_none(item) for item in value]
    return value
