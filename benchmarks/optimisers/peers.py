"""The samplers that are compared, by name: the product's own, and peers that need packages."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from pso_attn.errors import ConfigurationError, nearest
from pso_attn.imports import load_name
from pso_attn.samplers import SAMPLERS
from pso_attn.types import Sampler

Maker = Callable[..., Sampler]  # (seed, particles, batch, generations[, options])
_PRODUCT_VERSIONS = {
    "tpe": "optuna",
    "gp": "optuna",
    "qmc": "optuna",
    "nsga2": "optuna",
    "cmaes": "cmaes",
    "pyswarms": "pyswarms",
}


@dataclass(frozen=True)
class Peer:
    """A sampler that is no part of the product.

    package: whose version counts; version: where it is not installed here.
    """

    target: str
    package: str
    version: str = ""


PEERS: Mapping[str, Peer] = {
    "turbo": Peer("turbo:Turbo", "botorch"),
    "ngopt": Peer("outside_peers:NGOpt", "nevergrad", "1.0.12"),
    "nevergrad-pso": Peer("outside_peers:NevergradPSO", "nevergrad", "1.0.12"),
    "hebo": Peer("outside_peers:Hebo", "HEBO", "0.3.6"),
}


def maker(name: str) -> Maker:
    """Return what makes a sampler of that name, or of "module:Class".

    Raises ConfigurationError where its package is not installed or the name is unknown.
    """
    if name in SAMPLERS or (name not in PEERS and ":" in name):
        return load_name(SAMPLERS.get(name, name), "sampler")
    if name not in PEERS:
        names = [*SAMPLERS, *PEERS]
        raise ConfigurationError(f'there is no sampler "{name}"{nearest(name, names)}')
    module, _, made = PEERS[name].target.partition(":")
    try:
        return getattr(importlib.import_module(module), made)
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{name} needs {error.name}; pip install -e .[bench]") from error


def version_of(name: str) -> str:
    """Return the package that a sampler's moves come from, and its version."""
    if name in PEERS:
        peer = PEERS[name]
        return f"{peer.package} {peer.version or version(peer.package)}"
    package = _PRODUCT_VERSIONS.get(name, "pso-attn")
    return f"{package} {version(package)}"
