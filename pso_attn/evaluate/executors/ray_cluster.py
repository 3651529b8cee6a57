"""A Ray cluster: joined, looked at, and left. The one file that imports Ray."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster begun here: tell nobody

import ray
import torch
from ray import exceptions as failures
from ray._private import worker  # prints errors itself, and nothing public says not to
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pso_attn
from pso_attn.errors import ConfigurationError, DeviceError
from pso_attn.evaluate.device import memory_budget_bytes
from pso_attn.unanswered import in_time

logger = logging.getLogger(__name__)

JOINS_WITHIN_S, SENT_BYTES_PER_S = 9.0, 5 * 2**20  # of an empty folder of code; of a full one
NODE_ANSWERS_WITHIN_S = 60.0  # to unpack the code, and to load torch
PRINT = worker.print_to_stdstream
COMPARED = ("torch", "numpy")  # what floats depend on; Ray itself compares Python and Ray
LEFT_OUT = ["runs", ".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache"]

__all__ = [
    "checked_nodes",
    "connect",
    "device_there",
    "failures",
    "give_up",
    "is_given_up",
    "leave",
    "listens",
    "on_node",
    "ray",
    "refusal",
    "slots",
    "versions",
]


class _Joined:
    """Whether this file joined the cluster that this process is in, and whether it is there."""

    by_us, is_lost = False, False


def leave() -> None:
    """Leave the cluster, unless others than this file had joined it; twice does nothing more."""
    if _Joined.by_us and not _Joined.is_lost:
        _Joined.by_us = False
        ray.shutdown()
        worker.print_to_stdstream = PRINT


def is_given_up() -> bool:
    """Tell whether the head was given up: then nothing asks it any more."""
    return _Joined.is_lost


def give_up() -> None:
    """Take note that the head does not answer."""
    _Joined.is_lost = True


def connect(address: str | None, code: Path | None) -> None:
    """Join a cluster, unless this process has; its workers get this package and `code`.

    address: HOST:PORT, by default the cluster that Ray finds here, or one that it starts here.
    code: the folder of code of one's own. Raises ConfigurationError where it does not answer
    within 15 seconds, or refuses.
    """
    if ray.is_initialized():
        return
    if address is not None and not listens(address):
        raise ConfigurationError(
            f"no Ray cluster answers at {address}; give the HOST:PORT that `ray start --head` "
            "prints, with its port 6379"
        )
    environment: dict[str, Any] = {"py_modules": [str(Path(pso_attn.__file__).parent)]}
    if code is not None:
        environment |= {"working_dir": str(code), "excludes": LEFT_OUT}

    def join() -> str:
        worker.print_to_stdstream = _unprinted
        try:
            ray.init(
                address=address,
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                include_dashboard=False if address is None else None,
            )
        except Exception as error:  # it is not said which
            worker.print_to_stdstream = PRINT
            return " ".join(str(error).split())
        _Joined.by_us = True
        return ""

    before = signal.getsignal(signal.SIGTERM)  # which Ray makes its own
    limit_s = JOINS_WITHIN_S + (0 if code is None else _bytes_of(code) / SENT_BYTES_PER_S)
    said = join() if address is None else in_time(join, limit_s)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)
    if said is None:
        raise ConfigurationError(
            f"what listens at {address} does not answer as a Ray cluster within "
            f"{limit_s:.0f} s; give the HOST:PORT that `ray start --head` prints, {_token_hint()}"
        )
    if said:
        raise ConfigurationError(f"the Ray cluster at {address or 'hand'} refuses: {said}")


def _unprinted(said: Mapping[str, Any], **_: Any) -> None:
    """Log what Ray would print on stdout, among results; what matters of it has our own words."""
    logger.debug("Ray: %s", " ".join(map(str, said["lines"])))


def _token_hint() -> str:
    """Return what to do where a cluster wants a token: it leaves a call without one unanswered.

    Ray sends its token to an address only where it is told to, for another host could keep it.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return "and have its token: the same ~/.ray/auth_token or RAY_AUTH_TOKEN on all machines"
    return "and set RAY_AUTH_MODE=token where that says that token authentication is enabled"


def _bytes_of(folder: Path) -> int:
    """Return the size of what is sent of a folder."""
    total = 0
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        total += sum((Path(place) / name).lstat().st_size for name in files)
    return total


def device_there(name: str, address: str | None, code: Path | None) -> str:
    """Return the kind of device that a chunk gets there: "cpu", or "cuda" for one GPU.

    name: as `evaluate.resolve_device` has it, without a number. Raises DeviceError where there is
    no GPU and one is asked for.
    """
    connect(address, code)
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or number:
        raise DeviceError(f'device "{name}" is none that Ray hands out; choose auto, cpu or cuda')
    has = any(slots(torch.device("cuda")).values())
    if kind == "cuda" and not has:
        raise DeviceError(
            "device cuda was asked for, and no node of the Ray cluster has a GPU; use --device "
            "cpu, or add a node that has one"
        )
    return ("cuda" if has else "cpu") if kind == "auto" else kind


def slots(device: torch.device) -> dict[str, int]:
    """Return for each node how many chunks it has CPUs or GPUs for."""
    needed = "GPU" if device.type == "cuda" else "CPU"
    return {n["NodeID"]: int(n["Resources"].get(needed, 0)) for n in ray.nodes() if n["Alive"]}


def on_node(node: str, soft: bool) -> NodeAffinitySchedulingStrategy:
    """Return what places a task on a node; soft: or elsewhere, where that node has gone."""
    return NodeAffinitySchedulingStrategy(node, soft=soft)


def listens(address: str) -> bool:
    """Tell whether something takes connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            return True
    except (OSError, ValueError):
        return False


def versions() -> dict[str, str]:
    """Return the versions here of what has to be the same everywhere."""
    return {name: version(name) for name in COMPARED}


def checked_nodes(device: torch.device) -> int:
    """Return the least memory that a node has for a chunk; ConfigurationError by `_check`."""
    look = ray.remote(_look)
    needed = "GPU" if device.type == "cuda" else "CPU"
    asked = [
        look.options(
            scheduling_strategy=on_node(node, soft=False),
            max_retries=0,
            num_cpus=0,
            num_gpus=0.01 if needed == "GPU" else 0,
        ).remote(device.type, count, versions())
        for node, count in slots(device).items()
        if count >= 1
    ]
    if not asked:
        raise ConfigurationError(
            f"no node of the Ray cluster has a {needed} for a chunk; start one that has"
        )
    found, _ = ray.wait(asked, num_returns=len(asked), timeout=NODE_ANSWERS_WITHIN_S)
    limits = []
    for answer in found:  # a node that is slow, or has gone by now, is not waited for
        with suppress(failures.NodeDiedError, failures.WorkerCrashedError):
            said = ray.get(answer)
            if isinstance(said, str):
                raise ConfigurationError(said)
            limits.append(said)
    if not limits:
        raise ConfigurationError(
            f"no node of the Ray cluster answers within {NODE_ANSWERS_WITHIN_S:g} s; `ray status` "
            "says what it is doing"
        )
    return int(min(limits))


def _look(device: str, slots: int, driver: dict[str, str]) -> int | str:
    """Return, on a node, the memory of one of its slots, or why it cannot take part."""
    said = refusal(driver)
    if said is not None:
        return said
    if device == "cuda" and not torch.cuda.is_available():
        return (
            f"node {ray.util.get_node_ip_address()} has a GPU for Ray, and its PyTorch, "
            f"{torch.__version__}, sees no CUDA device; install a CUDA build there, or use "
            "--device cpu"
        )
    share = 1 if device == "cuda" else slots
    return memory_budget_bytes(torch.device(device)) // share


def refusal(driver: dict[str, str]) -> str | None:
    """Return, on a node, which package it has in another version than the driver, or None."""
    for name, theirs in driver.items():
        ours = version(name)
        if ours != theirs:
            return (
                f"node {ray.util.get_node_ip_address()} has {name} {ours}, and this process has "
                f"{theirs}; install the same on all, for losses depend on it"
            )
    return None
