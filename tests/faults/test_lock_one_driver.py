"""One driver per run: whoever dies lets go, and whoever lives is never pushed aside."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.study import StudyDirection
from typer.testing import CliRunner

from pso_attn import load_run
from pso_attn.cli.app import app
from pso_attn.errors import RunError, StorageError
from pso_attn.store.connection import Connection, connect
from pso_attn.store.lease import LEASE, check_lease, return_lease, take_lease
from pso_attn.store.lock import RunLock, this_process

HOLD = """
import sys, time
from pathlib import Path
from pso_attn.store.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""
FORK = """
import os, sys, time
from pathlib import Path
from pso_attn.store.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def start(script: str, lock: Path) -> "tuple[subprocess.Popen[str], str]":
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def test_a_held_lock_names_its_holder_and_falls_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    process, _ = start(HOLD, lock)
    try:
        with pytest.raises(RunError) as caught:
            RunLock(lock)
        message = str(caught.value)
        assert f"process {process.pid} on {socket.gethostname()}, started 20" in message
        assert message.startswith(f"run {tmp_path.name} is in use by ")
    finally:
        kill(process)
    with RunLock(lock):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_a_forked_worker_does_not_keep_its_dead_drivers_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    process, child = start(FORK, lock)
    try:
        process.kill()
        process.wait()
        RunLock(lock).release()
    finally:
        os.kill(int(child), signal.SIGKILL)
        process.communicate()


def test_a_lock_is_exclusive_within_a_process_too(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "lock")
    with pytest.raises(RunError, match=f"process {os.getpid()}"):
        RunLock(tmp_path / "lock")
    lock.release()
    lock.release()
    RunLock(tmp_path / "lock").release()


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        RunLock(tmp_path / "missing" / "lock")


@pytest.fixture
def database(tmp_path: Path) -> "tuple[Connection, int]":
    connection = connect(f"sqlite:///{tmp_path}/a.db", None, create=True)
    with connection.guard():
        study = connection.storage.create_new_study([StudyDirection.MINIMIZE], "demo")
    return connection, study


def hold(database: "tuple[Connection, int]", **holder: object) -> None:
    connection, study = database
    connection.storage.set_study_system_attr(study, LEASE, {**this_process(), **holder})


def holder(database: "tuple[Connection, int]") -> object:
    connection, study = database
    return connection.storage.get_study_system_attrs(study)[LEASE]


def test_another_hosts_lease_is_told_and_broken_only_on_demand(
    database: "tuple[Connection, int]",
) -> None:
    connection, study = database
    hold(database, host="elsewhere", pid=12)
    with pytest.raises(RunError, match=r"process 12 on elsewhere.*resume with --break-lock"):
        take_lease(connection.storage, study, "demo")
    take_lease(connection.storage, study, "demo", break_lock=True)
    assert holder(database) == this_process()
    connection.close()


def test_a_resume_takes_over_what_another_host_held_where_it_is_told_to(tmp_path: Path) -> None:
    url, runs = f"sqlite:///{tmp_path}/runs.db", tmp_path / "runs"
    tiny = ("--particles", "2", "--generations", "1", "--set", "budget.steps=2")
    search = ["search", "digits", "--run", "r", *tiny, "--storage", url, "--runs-dir", str(runs)]
    begun = CliRunner().invoke(app, search)
    assert begun.exit_code == 0, begun.stderr
    connection = connect(url, None, create=False)
    database = connection, connection.storage.get_study_id_from_name("r")
    hold(database, host="elsewhere", pid=12)
    resume = ["resume", "r", "--generations", "2", "--runs-dir", str(runs)]
    refused = CliRunner().invoke(app, resume)
    assert refused.exit_code == RunError.exit_code
    assert "process 12 on elsewhere" in refused.stderr
    assert "resume with --break-lock" in refused.stderr
    assert len(load_run("r", runs).history) == 1
    resumed = CliRunner().invoke(app, [*resume, "--break-lock"])
    assert resumed.exit_code == 0, resumed.stderr
    assert len(load_run("r", runs).history) == 2
    assert holder(database) is None
    connection.close()


def test_a_living_process_of_this_host_is_never_pushed_aside(
    database: "tuple[Connection, int]",
) -> None:
    connection, study = database
    with subprocess.Popen(["sleep", "60"]) as process:
        hold(database, pid=process.pid, started=psutil.Process(process.pid).create_time())
        with pytest.raises(RunError, match=f"in use by process {process.pid}"):
            take_lease(connection.storage, study, "demo", break_lock=True)
        process.kill()
    take_lease(connection.storage, study, "demo")  # it is dead now, and known to be
    assert holder(database) == this_process()
    connection.close()


def test_a_pid_that_is_used_again_is_not_the_holder(database: "tuple[Connection, int]") -> None:
    connection, study = database
    hold(database, started=this_process()["started"] - 3600)
    take_lease(connection.storage, study, "demo")
    assert holder(database) == this_process()
    connection.close()


def test_a_driver_that_was_taken_over_stops_and_leaves_the_lease(
    database: "tuple[Connection, int]",
) -> None:
    connection, study = database
    take_lease(connection.storage, study, "demo")
    check_lease(connection.storage, study, "demo")
    hold(database, host="elsewhere", pid=12)
    with pytest.raises(RunError, match="taken over and is now held by process 12 on elsewhere"):
        check_lease(connection.storage, study, "demo")
    return_lease(connection.storage, study)
    assert holder(database) == {**this_process(), "host": "elsewhere", "pid": 12}
    connection.close()


def test_a_returned_lease_is_free(database: "tuple[Connection, int]") -> None:
    connection, study = database
    take_lease(connection.storage, study, "demo")
    return_lease(connection.storage, study)
    assert holder(database) is None
    connection.close()


def test_who_only_looks_whether_a_run_is_driven_refuses_no_driver(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "lock"
    path.touch()
    with path.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with RunLock(path), pytest.raises(RunError, match="is in use by process"):
            RunLock(path)


def test_a_full_disk_does_not_keep_a_run_from_being_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pso_attn.store.lock.os.write", full)
    with RunLock(tmp_path / "run" / "lock"), pytest.raises(RunError, match="another process"):
        RunLock(tmp_path / "run" / "lock")
