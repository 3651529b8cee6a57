"""A MariaDB server as the store of runs: what MySQL speaks, and what its columns hold."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.testing import CliRunner

try:
    import pymysql
except ModuleNotFoundError:
    pymysql = None

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.errors import StorageError
from pso_attn.report import ink
from pso_attn.store.connection import connect
from pso_attn.testing.executors import fact

pytestmark = pytest.mark.mysql
PASSWORD = "swarm-secret"
OBJECTIVE = """
def losses(settings, trials):
    for one, trial in zip(settings, trials):
        trial.report(2, one["x"])
    return [one["x"] for one in settings]
"""
SPACE = f"""
objective = "MODULE:losses"
objective_batched = true
[model]
note = "{"of many settings" * 60}"
[search]
x = {{ low = 0.0, high = 1.0 }}
[budget]
particles = 70
generations = 1
steps = 4
[run]
sampler = "random"
"""
LONGEST = 65_535  # bytes of a text in a column that Optuna makes


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Start a server on a loopback port, as another user than root; yield that port."""
    programs = [shutil.which(name) for name in ("mariadb-install-db", "mariadbd")]
    if None in programs or pymysql is None:
        message = "needs MariaDB's mariadb-install-db and mariadbd, and the extra mysql"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    install, serve = programs
    user = "mysql" if os.geteuid() == 0 else getpass.getuser()
    data = Path("/tmp") / f"pso-attn-mariadb-{os.getpid()}"  # where that user may go
    data.mkdir(mode=0o700)
    how: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    if os.geteuid() == 0:
        shutil.chown(data, user)
        how |= {"user": user, "group": user, "extra_groups": []}
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    where = ["--no-defaults", f"--datadir={data}"]
    login = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run([install, *where, *login], check=True, **how)
    listening = ["--bind-address=127.0.0.1", f"--port={number}", f"--socket={data}/socket"]
    hasty = ["--innodb-flush-log-at-trx-commit=0", f"--pid-file={data}/pid"]
    server = subprocess.Popen([serve, *where, *listening, *hasty], **how)
    try:
        deadline_s = time.monotonic() + 30
        while not answers(number):
            assert server.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        yield number
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(data)


@pytest.fixture
def url(port: int, tmp_path: Path) -> str:
    """Return the URL of an empty database of the test's own, whose owner has a password."""
    name = f"team_{tmp_path.name}"
    ask(port, f"CREATE DATABASE {name}")
    ask(port, f"CREATE OR REPLACE USER ann@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
    ask(port, f"GRANT ALL ON {name}.* TO ann@'127.0.0.1'")
    return f"mysql+pymysql://ann:{PASSWORD}@127.0.0.1:{port}/{name}"


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a space file of many particles and a cheap objective, in the current folder."""
    module = f"cheap_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(OBJECTIVE)
    (tmp_path / "own.toml").write_text(SPACE.replace("MODULE", module))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "own.toml"


def test_a_large_swarm_is_that_of_a_journal_and_its_password_is_shown_nowhere(
    url: str, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ink, "DPI", 40)  # fewer pixels are drawn sooner
    optuna.create_study(storage=url, study_name="theirs")  # the tables are Optuna's own
    searched = cli("search", space, "--storage", url, "--run", "here")
    alone = cli("search", space, "--run", "alone")
    assert [one.exit_code for one in (searched, alone)] == [0, 0], searched.stderr
    assert facts("here") == facts("alone")
    with load_run("here").store as store:
        assert len(json.dumps(store.get_attribute("generation:0"))) > LONGEST
    shown, report = cli("show", "here", "--json"), cli("report", "here")
    compared = cli(
        *("compare", space, "--samplers", "random,qmc", "--seeds", "1", "--run", "c"),
        *("--particles", "2", "--set", f"run.storage={url}"),
    )
    assert [one.exit_code for one in (shown, report, compared)] == [0, 0, 0], compared.stderr
    where = url.replace(PASSWORD, "***")
    assert json.loads(shown.stdout)["configuration"]["run"]["storage"] == where
    for page in (Path("runs/here/report/index.html"), Path("runs/c/report/index.html")):
        assert where in page.read_text()
    told = [one.stdout + one.stderr for one in (searched, shown, report, compared)]
    told += [path.read_text() for path in Path("runs").glob("*/report/*.[hc]*")]
    assert not [text for text in told if PASSWORD in text]


def test_a_run_that_was_begun_in_narrow_columns_is_resumed(
    url: str, port: int, space: Path
) -> None:
    """Without the right to widen them a large swarm is refused with what it takes."""
    optuna.create_study(storage=url, study_name="theirs")
    name = url.rpartition("/")[2]
    ask(port, f"REVOKE ALTER ON {name}.* FROM ann@'127.0.0.1'")
    few = cli("search", space, "--storage", url, "--run", "few", "--particles", "4")
    assert few.exit_code == 0, few.stderr
    refused = cli("search", space, "--storage", url, "--run", "many")
    assert refused.exit_code == 1
    assert "Data too long" in refused.stderr
    assert "resume the run as a user of the database who may alter its tables" in refused.stderr
    ask(port, f"GRANT ALTER ON {name}.* TO ann@'127.0.0.1'")
    resumed = cli("resume", "many")
    assert resumed.exit_code == 0, resumed.stderr
    assert len(facts("many")) == 70


def test_whoever_only_reads_alters_nothing(url: str) -> None:
    connect(url, None, create=True).close()
    connect(url, None, create=False).close()
    assert set(columns(url).values()) == {"text"}
    connection = connect(url, None, create=False)
    connection.widen()
    connection.widen()
    connection.close()
    assert columns(url) == {
        "study_user_attributes": "longtext",
        "trial_user_attributes": "longtext",
        "trial_params": "longtext",
    }


def test_whoever_begins_at_once_on_an_empty_database_finds_its_tables(url: str) -> None:
    team = 4
    together = threading.Barrier(team)

    def begin(_: int) -> None:
        together.wait()
        connection = connect(url, None, create=True)
        connection.widen()
        connection.close()

    with ThreadPoolExecutor(team) as pool:
        list(pool.map(begin, range(team)))
    assert set(columns(url).values()) == {"longtext"}


def test_a_wrong_password_is_one_sentence_without_it(url: str) -> None:
    with pytest.raises(StorageError, match=r"does not answer: .*Access denied") as caught:
        connect(url.replace(PASSWORD, "wrong-secret"), None, create=True)
    assert "wrong-secret" not in str(caught.value)


def cli(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def facts(run: str) -> list[Any]:
    with load_run(run).store as store:
        known = store.history().trials
    return [(t.candidate.params, t.candidate.seeds, fact(t.outcome)) for t in known]


def ask(port: int, query: str) -> Any:
    """Return what the server answers its administrator."""
    with (
        pymysql.connect(host="127.0.0.1", port=port, user="root") as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query)
        return cursor.fetchall()


def answers(port: int) -> bool:
    try:
        ask(port, "SELECT 1")
    except pymysql.err.OperationalError:
        return False
    return True


def columns(url: str) -> dict[str, str]:
    """Return the types of the columns that hold texts of ours, by table."""
    port, name = url.rpartition(":")[2].split("/")
    rows = ask(
        int(port),
        "SELECT table_name, data_type FROM information_schema.columns "
        f"WHERE table_schema = '{name}' AND column_name IN ('value_json', 'distribution_json') "
        "AND table_name NOT LIKE '%system%'",
    )
    return dict(rows)
