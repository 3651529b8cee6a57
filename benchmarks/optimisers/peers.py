"""The samplers that are compared, by name: the product's own, and peers that need packages."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from pso_attn.assembly import SAMPLERS, load_name
from pso_attn.errors import ConfigurationError
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
    """A sampler that is no part of the product. package: what it needs; install: how to get it."""

    target: str
    package: str
    install: str = "pip install -e .[bench]"


PEERS: Mapping[str, Peer] = {}


def maker(name: str) -> Maker:
    """Return what makes a sampler of that name, or of "module:Class".

    Raises ConfigurationError where its package is not installed or the name is unknown.
    """
    if name in PEERS:
        peer = PEERS[name]
        if importlib.util.find_spec(peer.package) is None:
            raise ConfigurationError(f"{name} needs {peer.package}; {peer.install}")
        return load_name(peer.target, "sampler")  # type: ignore[no-any-return]  # by name
    return load_name(SAMPLERS.get(name, name), "sampler")  # type: ignore[no-any-return]  # by name


def version_of(name: str) -> str:
    """Return the package that a sampler's moves come from, and its version."""
    package = PEERS[name].package if name in PEERS else _PRODUCT_VERSIONS.get(name, "pso-attn")
    return f"{package} {version(package)}"
