"""Files that are either whole or not there: temporary name, fsync, rename."""

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Leave `path` holding exactly `data`; a crash at any moment leaves the old file or none.

    Raises OSError where the folder cannot be written; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_folder_atomically(path: Path, files: Mapping[str, bytes]) -> None:
    """Leave the folder `path`, absent or empty before, holding exactly these files.

    An empty one is filled, since somebody may stand in it or have mounted it: there a kill may
    leave some of the files. Raises OSError where it cannot be made; nothing is left behind then.
    """
    path = path.resolve()
    if path.is_dir():
        _fill(path, files)
        return
    missing = [parent for parent in path.parents if not parent.exists()]
    building = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        building.mkdir(parents=True)
        _fill(building, files)
        os.replace(building, path)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        for parent in missing:
            parent.rmdir() if parent.is_dir() and not any(parent.iterdir()) else None
        raise
    sync_folder(path.parent)


def _fill(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        for name, data in files.items():
            write_atomically(folder / name, data)
    except BaseException:
        for name in files:
            (folder / name).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
