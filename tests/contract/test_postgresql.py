"""A PostgreSQL server as the store of several runs at once."""

import gc
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

try:
    import psycopg
except ModuleNotFoundError:
    psycopg = None

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.store.connection import connect
from pso_attn.testing.executors import fact

pytestmark = pytest.mark.postgres
SPACE = """
task = "digits"
[model]
layers = 1
d_model = 16
[search]
heads = [1, 2, 4]
lr = { low = 1e-3, high = 1e-1, log = true }
[budget]
particles = 4
generations = 2
steps = 20
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server on a loopback port, as another user than root; yield its database."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.environ["PATH"].split(":"))]
    programs = next((folder for folder in found if (folder / "initdb").exists()), None)
    if programs is None or psycopg is None:
        message = "needs PostgreSQL's initdb and the extra postgresql"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    data = Path("/tmp") / f"pso-attn-postgresql-{os.getpid()}"  # where that user may go
    data.mkdir(mode=0o700)
    how: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": "/"}
    if os.geteuid() == 0:
        shutil.chown(data, user)
        how |= {"user": user, "group": user, "extra_groups": []}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    initialise = ["--pgdata", str(data), "--auth", "trust", "--username", "team", "--no-sync"]
    subprocess.run([programs / "initdb", *initialise], check=True, **how)
    options = ["-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"]
    server = subprocess.Popen([programs / "postgres", *options], stderr=subprocess.DEVNULL, **how)
    try:
        deadline_s = time.monotonic() + 30
        while not answers(f"postgresql://team@127.0.0.1:{port}/postgres"):
            assert server.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        yield f"postgresql+psycopg://team@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # at SIGTERM it waits for pooled connections
        server.wait()
        shutil.rmtree(data)


def test_runs_that_share_a_server_are_those_of_a_journal_and_a_dashboard_shows_them(
    url: str, tmp_path: Path
) -> None:
    space = tmp_path / "space.toml"
    space.write_text(SPACE)
    names = ("one", "two")
    teams = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "pso_attn", "search", str(space), "--run", name),
                *("--seed", str(seed), "--storage", url, "--quiet"),
            ],
            cwd=tmp_path,
        )
        for seed, name in enumerate(names)
    ]
    assert [team.wait(timeout=120) for team in teams] == [0, 0]
    for seed, name in enumerate(names):
        alone = ["--run", f"{name}-alone", "--seed", str(seed), "--quiet"]
        found = CliRunner().invoke(
            app, ["search", str(space), "--runs-dir", str(tmp_path / "runs"), *alone]
        )
        assert found.exit_code == 0, found.stderr
        assert trials(tmp_path, name) == trials(tmp_path, f"{name}-alone")
    assert set(names) <= set(shown_studies(url))


# Optuna leaves open the connection of a try that failed, and nobody knows when it is collected
@pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
def test_whoever_begins_at_once_on_an_empty_database_finds_its_tables(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("CREATE DATABASE empty")
    empty, team = url.removesuffix("postgres") + "empty", 6
    together = threading.Barrier(team)

    def begin(_: int) -> None:
        together.wait()
        connect(empty, None, create=True).close()

    with ThreadPoolExecutor(team) as pool:
        list(pool.map(begin, range(team)))
    with psycopg.connect(empty.replace("+psycopg", "")) as made:
        (versions,) = made.execute("SELECT count(*) FROM alembic_version").fetchone()
    assert versions == 1
    gc.collect()


def test_a_run_that_was_begun_elsewhere_goes_on_from_its_url(url: str, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text(SPACE)
    for folder in ("here", "there"):
        (tmp_path / folder / "runs").mkdir(parents=True)
    where = ["--runs-dir", str(tmp_path / "here" / "runs"), "--storage", url, "--quiet"]
    begun = CliRunner().invoke(app, ["search", str(space), "--run", "moved", *where])
    assert begun.exit_code == 0, begun.stderr
    there = ["--runs-dir", str(tmp_path / "there" / "runs"), "--generations", "3", "--quiet"]
    moved = CliRunner().invoke(app, ["resume", f"{url}#moved", *there])
    assert moved.exit_code == 0, moved.stderr
    assert len(trials(tmp_path / "there", "moved")) == 12


def answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def trials(folder: Path, name: str) -> list[Any]:
    with load_run(name, folder / "runs").store as store:
        known = store.history().trials
    return [(t.candidate.params, t.candidate.seeds, fact(t.outcome)) for t in known]


def shown_studies(url: str) -> list[str]:
    """Return the names that optuna-dashboard shows of a storage."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = Path(sys.executable).parent / "optuna-dashboard"
    shown = subprocess.Popen(
        [program, url, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + 60
        while True:
            try:
                address = f"http://127.0.0.1:{port}/api/studies"
                with urllib.request.urlopen(address, timeout=10) as page:
                    return [study["study_name"] for study in json.load(page)["study_summaries"]]
            except OSError:
                assert time.monotonic() < deadline_s
                time.sleep(0.2)
    finally:
        shown.terminate()
        shown.wait()
