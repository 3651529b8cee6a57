"""What a run was made with: versions, machine, device, threads."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

_PACKAGES = ("pso-attn", "torch", "numpy", "optuna", "pyswarms", "scipy", "scikit-learn")


def describe_environment(device: str, threads: int) -> dict[str, Any]:
    """Return what must be the same for a resumed run to give the same floats."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=True),
        "memory_bytes": psutil.virtual_memory().total,
        "device": device,
        "threads": threads,
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    """Return an installed package's version, None where it runs from a checkout."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
