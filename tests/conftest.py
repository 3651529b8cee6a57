"""What all tests share: one thread, and a cache of their own, so that none touches the user's."""

import os
from pathlib import Path

import pytest

# Before anything loads torch, and for the commands that tests start: threads round differently,
# and a search cuts its batches by the cores that happen to be idle.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
