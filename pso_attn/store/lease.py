"""One driver per run across hosts: who drives a run on a database stands in its study.

A database may be reached from hosts that share no folder, where `flock` says nothing. The lease
does not expire: only a person knows whether the other host is gone, and says so by
`--break-lock`. A holder on this host is asked directly, so its crash needs no such flag.
"""

import socket
from typing import Any

import psutil
from optuna.storages import BaseStorage

from pso_attn.errors import RunError
from pso_attn.store.lock import describe, this_process

LEASE = "pso_attn:driver"  # a system attribute: reading those does not load every plan
_CLOCK_SLACK_S = 5.0  # start times shift when the clock is set


def driver(storage: BaseStorage, study_id: int) -> dict[str, Any] | None:
    """Return the recorded driver: its host, pid and start, or None."""
    return storage.get_study_system_attrs(study_id).get(LEASE)


def take_lease(storage: BaseStorage, study_id: int, run: str, break_lock: bool = False) -> None:
    """Record this process as the run's driver.

    Raises RunError while another driver is recorded, unless it is a process of this host that
    has ended, or one of another host and `break_lock` says that it is gone.
    """
    holder = driver(storage, study_id)
    if holder is not None and holder != this_process():
        if _is_running_here(holder):
            raise RunError(
                f"run {run} is in use by {describe(holder)}; wait until it ends, "
                "or stop that process"
            )
        if holder["host"] != socket.gethostname() and not break_lock:
            raise RunError(
                f"run {run} is held by {describe(holder)}; if that process is gone, "
                "resume with --break-lock"
            )
    storage.set_study_system_attr(study_id, LEASE, this_process())


def check_lease(storage: BaseStorage, study_id: int, run: str) -> None:
    """Raise RunError unless this process is still the run's recorded driver."""
    holder = driver(storage, study_id)
    if holder != this_process():
        by = describe(holder) if holder else "nobody"
        raise RunError(f"run {run} was taken over and is now held by {by}; this search stops")


def return_lease(storage: BaseStorage, study_id: int) -> None:
    """Leave the run without a driver, unless somebody has taken it over."""
    if driver(storage, study_id) == this_process():
        storage.set_study_system_attr(study_id, LEASE, None)


def _is_running_here(holder: dict[str, Any]) -> bool:
    """Tell whether the holder is a process of this host that still runs."""
    if holder["host"] != socket.gethostname():
        return False
    try:
        # a pid is used again some day: the same process also started at the same time
        started = psutil.Process(holder["pid"]).create_time()
    except psutil.Error:
        return False
    return bool(abs(started - holder["started"]) < _CLOCK_SLACK_S)
